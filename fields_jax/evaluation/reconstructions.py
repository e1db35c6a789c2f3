"""The synthesiser's pictures of a whole set: how like the photographs, and the swap test."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from fields_jax.evaluation import registry, swap
from fields_jax.evaluation.images import REGIONS, compare_pictures
from fields_jax.evaluation.predict import call_padded
from fields_jax.flame.model import flame
from fields_jax.losses.terms import perceptual_distance
from fields_jax.models.perceptual import VGG16Features
from fields_jax.render import Masking, around_face, geometry_map, make_masking, project, shaded_face
from fields_jax.render.draw import to_uint8
from fields_jax.synthesis import synthesize
from fields_jax.types import FieldsOutput, FlameCoefficients, FlameModel
from fields_jax.workdir.inference import Inference, read_frozen

PyTree = Any
Columns = dict[str, np.ndarray]


class Bound(NamedTuple):
    """What the program is bound to: constant arrays.

    Attributes:
      variables: of the networks.
      head: that they were trained with.
      weights: of VGG16, or None for no perceptual distance.
    """

    variables: PyTree
    head: FlameModel
    weights: PyTree | None


class Shown(NamedTuple):
    """A batch of examples.

    Attributes:
      own: what the networks predict for them.
      other: coefficients of the examples whose expressions they get in the swap test.
      image, face_mask: as in fields_jax/batch.py.
      row: [B] their places in the set.
    """

    own: FieldsOutput
    other: FlameCoefficients
    image: UInt8[Array, "B H W 3"]
    face_mask: UInt8[Array, "B H W"]
    row: Int[Array, " B"]


class Paintings(NamedTuple):
    """Pictures of some examples of a set.

    Attributes:
      reconstruction: of the faces as they were read.
      swapped: the same with the expressions of others, see `swap`.
      other: coefficients of these others.
    """

    reconstruction: UInt8[np.ndarray, "K H W 3"]
    swapped: UInt8[np.ndarray, "K H W 3"]
    other: FlameCoefficients


class Measurer:
    """Measures the reconstructions of sets by one compiled program."""

    def __init__(self, inference: Inference, head: FlameModel) -> None:
        """Binds the networks; says so if the perceptual distance is left out.

        Args:
          inference: with a trained synthesiser.
          head: the head that it was trained with.

        Raises:
          UserError: the config names perceptual weights that cannot be read.
        """
        config = inference.config
        source = config.losses.get("perceptual_weights", "")
        if not source:
            print("no config.losses.perceptual_weights: reconstructions get no perceptual distance")
        weights = read_frozen(source, "VGG16") if source else None
        self._size = config.evaluation.batch_size
        bound = Bound(inference.variables, head, weights)
        look = jax.jit(partial(_look, inference.model, make_masking(config)))
        self._look = partial(look, bound)

    def measure(
        self,
        prediction: FieldsOutput,
        batches: Iterable[Mapping[str, np.ndarray]],
        kept: Collection[int] = (),
    ) -> tuple[Columns, Paintings]:
        """Scores of every example of a set as [N] arrays, and pictures of some.

        Args:
          prediction: of all examples.
          batches: the examples in the same order, at most `evaluation.batch_size` at once.
          kept: places of the examples whose pictures are kept, in order.

        Returns:
          `REGION.l1`, `.psnr`, `.ssim` and `.perceptual` (NaN without weights) of each region, the
          products of `swap`, `swap.NAME` and `swap.NAME_given`, and the flag that there are such;
          and the pictures.
        """
        other = _rows(prediction.coefficients, swap.partners(len(prediction.valence)))
        parts, pictures, start = [], [], 0
        for batch in batches:
            image = batch["image"]
            rows = np.arange(start, start + len(image))
            shown = Shown(
                _rows(prediction, rows), _rows(other, rows), image, batch["face_mask"], rows
            )
            seen = call_padded(self._look, shown, self._size)
            parts.append(_scored(image, seen))
            wanted = np.isin(rows, kept)
            pictures.append([to_uint8(seen[name][wanted]) for name in ("made", "changed")])
            start += len(image)
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        painted = (np.concatenate(each) for each in zip(*pictures, strict=True))
        paintings = Paintings(*painted, _rows(other, np.array(kept, int)))
        return found | {registry.RECONSTRUCTED: np.ones(start, bool)}, paintings


def _scored(image: UInt8[np.ndarray, "B H W 3"], seen: dict[str, np.ndarray]) -> Columns:
    """The compiled program's numbers, and those computed in float64 from its pictures."""
    wanted, columns = np.asarray(image, np.float64) / 255, {}
    for region, counts in zip(REGIONS, (None, seen["hole"]), strict=True):
        likeness = compare_pictures(seen["made"], wanted, counts)
        columns |= {f"{region}.{name}": value for name, value in likeness._asdict().items()}
    numbers = {name: value for name, value in seen.items() if value.ndim == 1}
    return columns | {name: np.asarray(value, np.float64) for name, value in numbers.items()}


def _look(model: Any, masking: Masking, bound: Bound, shown: Shown) -> dict[str, Array]:
    """Reconstructions of a batch, and what becomes of them when the expression is another's."""
    (variables, head, weights), (own, other, *_) = bound, shown
    image = shown.image.astype(jnp.float32) / 255
    face_mask = shown.face_mask.astype(jnp.float32)
    given = variables, head, own, image, face_mask, shown.row
    made = synthesize(model, *given, masking=masking)
    size, before = image.shape[1], own.coefficients
    _, covered = geometry_map(head, made.face.vertices, before.camera, size)
    hole = 1 - around_face(face_mask, covered, round(masking.dilation * size))
    found = {"made": made.image, "hole": hole, **_perceived(weights, image, made.image, hole)}

    after = swap.with_movement(before, other)
    vertices = flame(head, after).vertices
    geometry, fragments = shaded_face(head, vertices, after.camera, size)
    changed = model.apply(variables, geometry, made.masked, own.tokens, method="synthesize")
    projected = (project(each, before.camera) for each in (made.face.vertices, vertices))
    carried, seen = swap.carried_paint(head, made.image, *projected, fragments)
    paint = swap.paint_followed(made.image, changed, carried, hole * seen)
    read = tuple(model.apply(variables, each).coefficients for each in (made.image, changed))
    reading = swap.reading_followed(head, (before, after), read)
    found["changed"] = changed
    for name, (product, square) in zip(swap.SHARES, (paint, reading), strict=True):
        found |= {f"swap.{name}": product, f"swap.{name}_given": square}
    return found


def _perceived(
    weights: PyTree | None,
    image: Float[Array, "B H W 3"],
    made: Float[Array, "B H W 3"],
    hole: Float[Array, "B H W"],
) -> dict[str, Float[Array, " B"]]:
    """The perceptual distance of all of the picture, and of the photograph with the hole filled."""
    if weights is None:
        return {f"{region}.perceptual": jnp.full(len(image), jnp.nan) for region in REGIONS}
    filled = jnp.where(hole[..., None] > 0, made, image)
    features = partial(VGG16Features().apply, weights)
    wanted = features(image)
    return {
        f"{region}.perceptual": perceptual_distance(features(picture), wanted)
        for region, picture in zip(REGIONS, (made, filled), strict=True)
    }


def _rows(tree: PyTree, rows: np.ndarray) -> PyTree:
    return jax.tree.map(lambda column: column[rows], tree)
