"""A head made ready to be rendered; computed once for each head and image size."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

from etils import epath

from data_pipelines.synthetic.other_heads import carried, furnished
from data_pipelines.synthetic.rendering import Picture, make_renderer
from data_pipelines.synthetic.surface import Surface, describe
from data_pipelines.synthetic.teeth import SHORT, Bite, with_teeth
from fields_jax.flame.io import load_flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.registration.heads import Pair, correspond
from fields_jax.types import FlameModel

_FINENESS = 1.25  # pixels rendered per pixel stored, along each axis


class Studio(NamedTuple):
    """A head that is ready to be rendered.

    Attributes:
      names: of the procedural head's leading expression components, in which faces are drawn.
      surface: where lips, brows, hair and eyes are.
      render: see `rendering.make_renderer`.
    """

    names: tuple[str, ...]
    surface: Surface
    render: Callable[..., Picture]


@functools.lru_cache(maxsize=2)
def open_studio(image_size: int, head: str = "", bite: Bite = SHORT) -> Studio:
    """The head of a file, or the procedural one for "", and a renderer for images of that size.

    Args:
      image_size: pixels.
      head: .npz.
      bite: teeth of a head that has none.

    Raises:
      UserError: no such head, or one that cannot be registered to the procedural head.
    """
    procedural = procedural_head()
    model, teeth = with_teeth(procedural, bite)
    surface = describe(model, teeth)
    if head:
        other, pair = registered(head)
        model = furnished(other, bite)
        surface = carried(model, pair.forward, surface)
    render = make_renderer(model, surface, image_size, round(_FINENESS * image_size))
    return Studio(procedural.expression_names, surface, render)


@functools.lru_cache(maxsize=2)
def registered(head: str) -> tuple[FlameModel, Pair]:
    """A head of a file, and where it and the procedural head lie on each other.

    The registration is kept beside the file.

    Raises:
      UserError: no such head, or one that cannot be registered to the procedural head.
    """
    model = load_flame(head)
    return model, correspond(model, procedural_head(), epath.Path(head).parent)
