"""Frames with their faces as trainers of avatars want them: posed heads, lenses, masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from etils import epath
from jaxtyping import Array, Float, UInt8

from fields_jax.flame.model import flame
from fields_jax.geometry.rotations import matrix_of
from fields_jax.kept import kept_program
from fields_jax.outputs.overlays import cover_head
from fields_jax.outputs.trainers.pinhole import Lens, Seen, lens_of, place_before
from fields_jax.photos.crops import to_photograph
from fields_jax.types import FlameCoefficients, FlameModel

FOCAL = 10.0  # focal length in larger sides of the picture, where none is given
BATCH = 8  # heads that are posed at once


class Shot(NamedTuple):
    """A frame with a face.

    Attributes:
      image: [H, W, 3] the picture.
      coefficients: of the face by the names of FlameCoefficients, without a batch dimension.
      matrix: [3, 3] from pixels of the picture to those of the crop that the camera belongs to.
      size: side of the crop in pixels.
    """

    image: UInt8[np.ndarray, "H W 3"]
    coefficients: Mapping[str, np.ndarray]
    matrix: Float[np.ndarray, "3 3"]
    size: int


class Placed(NamedTuple):
    """A head before the lens of its picture.

    Attributes:
      coefficients: as of the shot, those of `dropped` at rest.
      vertices: [V, 3] of these coefficients, metres.
      lens: of the picture.
      seen: turn and place of the vertices before the lens.
      shape: (height, width) of the picture.
    """

    coefficients: Mapping[str, np.ndarray]
    vertices: Float[np.ndarray, "V 3"]
    lens: Lens
    seen: Seen
    shape: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Job:
    """What an export is made with.

    Attributes:
      head: of all faces.
      focal: length of the lens in larger sides of the pictures.
      about: JSON: program, head and weights.
    """

    head: FlameModel
    focal: float
    about: Mapping[str, Any]


class Trainer(Protocol):
    """Writes the shots of one person in a layout.

    Args:
      folder: to write to.
      shots: in the order of time; read once.
      job: what to make it with.

    Returns:
      Distances in pixels [T, 2] of the face's vertices, by the files written, from where the
      weak-perspective camera sees them: mean and largest of each frame.
    """

    def __call__(
        self, folder: epath.Path, shots: Iterable[Shot], job: Job
    ) -> Float[np.ndarray, "T 2"]: ...


def placed(
    shots: Iterable[Shot], job: Job, dropped: Sequence[str]
) -> Iterator[tuple[Shot, Placed]]:
    """Every shot with its head before the lens.

    Args:
      shots: of one person.
      job: head and focal length.
      dropped: coefficients that the layout has no room for, or has elsewhere.
    """
    head, batch = job.head, []
    for shot in shots:
        batch.append(shot)
        if len(batch) == BATCH:
            yield from _placed(batch, head, job.focal, dropped)
            batch = []
    if batch:
        yield from _placed(batch, head, job.focal, dropped)


def _placed(
    shots: Sequence[Shot], head: FlameModel, focal: float, dropped: Sequence[str]
) -> Iterator[tuple[Shot, Placed]]:
    # Filled up, so that one program is compiled.
    rows = np.minimum(np.arange(BATCH), len(shots) - 1)
    columns = {
        name: np.stack([shots[row].coefficients[name] for row in rows])
        for name in shots[0].coefficients
    }
    own, camera = _vertices(head, columns), columns["camera"]
    kept = {n: np.zeros_like(v) if n in dropped else v for n, v in columns.items()}
    vertices = _vertices(head, kept)
    for row, shot in enumerate(shots):
        height, width = shot.image.shape[:2]
        lens = lens_of(focal, height, width)
        # As `render.project`: X = s (x + tx), Y = -s (y + ty).
        scale, move = camera[row, 0], camera[row, 1:]
        ndc = scale * np.float32([1, -1]) * (own[row, :, :2] + move)
        pixels = to_photograph(ndc, shot.matrix, shot.size)
        pose = columns["pose"][row] if "pose" in dropped else np.zeros(3)
        seen = place_before(lens, vertices[row], pixels, matrix_of(np.asarray(pose, np.float64)))
        coefficients = {name: value[row] for name, value in kept.items()}
        yield shot, Placed(coefficients, vertices[row], lens, seen, (height, width))


def off_by(head: FlameModel, one: Placed) -> tuple[float, float]:
    """Mean and largest distance in pixels over the face's vertices."""
    off = one.seen.off[np.asarray(head.face_vertices)]
    return float(off.mean()), float(off.max())


def mask_of(shot: Shot, head: FlameModel) -> UInt8[np.ndarray, "H W"]:
    """255 where the head covers the picture, by our rasteriser, its edge averaged over pixels."""
    columns = {name: np.asarray(value)[None] for name, value in shot.coefficients.items()}
    (vertices,) = _vertices(head, columns)
    cover = cover_head(
        shot.image.shape[:2], head, vertices, columns["camera"][0], shot.matrix, shot.size
    )
    return np.asarray(255 * cover + 0.5, np.uint8)


def filled(values: np.ndarray, size: int) -> Float[np.ndarray, " K"]:
    """Coefficients with zeros for those that were not read."""
    return np.pad(np.asarray(values, np.float32), (0, size - len(values)))


def _vertices(head: FlameModel, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.asarray(kept_program(_posed, head, FlameCoefficients(**columns)))


def _posed(head: FlameModel, coefficients: FlameCoefficients) -> Float[Array, "B V 3"]:
    return flame(head, coefficients).vertices
