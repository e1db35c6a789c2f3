"""The procedural head made ready to be rendered; computed once for each image size."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

from data_pipelines.synthetic.rendering import Picture, make_renderer
from data_pipelines.synthetic.surface import Surface, describe
from data_pipelines.synthetic.teeth import with_teeth
from fields_jax.flame.procedural import procedural_head

_FINENESS = 1.25  # pixels rendered per pixel stored, along each axis


class Studio(NamedTuple):
    """A head that is ready to be rendered.

    Attributes:
      names: of the head's leading expression components.
      surface: where lips, brows, hair and eyes are.
      render: see `rendering.make_renderer`.
    """

    names: tuple[str, ...]
    surface: Surface
    render: Callable[..., Picture]


@functools.lru_cache(maxsize=2)
def open_studio(image_size: int) -> Studio:
    """The head, its surface and a renderer for images of that size."""
    model, teeth = with_teeth(procedural_head())
    surface = describe(model, teeth)
    render = make_renderer(model, surface, image_size, round(_FINENESS * image_size))
    return Studio(model.expression_names, surface, render)
