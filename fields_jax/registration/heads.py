"""Dense correspondence of two heads: registered, checked, and kept beside the heads."""

from __future__ import annotations

import contextlib
import hashlib
from typing import NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Float, Int

from fields_jax.errors import UserError
from fields_jax.files import read_npz, write_npz
from fields_jax.landmark_schemes import INNER_68
from fields_jax.registration.matching import at, unit_normals
from fields_jax.registration.surfaces import (
    Correspondence,
    Settings,
    Surface,
    carry,
    register_both,
)
from fields_jax.types import FlameModel

_REVISION = 1  # raised when registration changes, so that stored ones are made anew
_FIELDS = ("face_index", "barycentric", "confidence")
# What a registration must reach on the face: landmarks of anatomy, which is to say all of the 68
# but the contour, and orientation of the triangles. Ours.
_LANDMARK_MM, _FLIPPED = 5.0, 0.02
SURE = 0.5  # confidence of vertices that the check and transfers go by


class Pair(NamedTuple):
    """The correspondence of two heads.

    Attributes:
      forward: where each vertex of the first lies on the second.
      backward: where each vertex of the second lies on the first.
    """

    forward: Correspondence
    backward: Correspondence


def correspond(
    first: FlameModel,
    second: FlameModel,
    folder: epath.PathLike | None = None,
    settings: Settings | None = None,
) -> Pair:
    """The correspondence of two heads, read from a folder or registered and written there.

    Heads of the same triangles correspond vertex by vertex.

    Args:
      first, second: the heads; they are compared at rest.
      folder: where registrations are kept, usually that of the heads; None for none. Where it
        cannot be written, the next call registers anew.
      settings: of the registration; None for those that the kept ones have.

    Raises:
      UserError: the heads do not come to lie on each other; or a kept registration is damaged.
    """
    if np.array_equal(first.faces, second.faces) and len(first.template) == len(second.template):
        same = same_vertices(np.asarray(first.faces), len(first.template))
        return Pair(same, same)
    if folder is None or settings is not None:
        return _registered(first, second, settings)
    # One file serves both directions.
    ordered = first.sha256 <= second.sha256
    low, high = (first, second) if ordered else (second, first)
    path = epath.Path(folder) / f"same_points_{low.sha256[:12]}_{high.sha256[:12]}.npz"
    pair = _stored(path, low, high)
    if pair is None:
        pair = _registered(low, high, None)
        with contextlib.suppress(OSError):
            _store(path, low, high, pair)
    return pair if ordered else Pair(pair.backward, pair.forward)


def head_surface(head: FlameModel) -> Surface:
    """A head at rest with its 68 landmarks."""
    faces, points = np.asarray(head.faces), head.static_68
    corners = faces[np.asarray(points.face_index)]
    weights = np.asarray(points.barycentric, np.float64)
    vertices = np.asarray(head.template, np.float64)
    landmarks = np.einsum("lc,lcd->ld", weights, vertices[corners])
    return Surface(vertices, faces, landmarks, np.asarray(head.face_parts), corners, weights)


def same_vertices(faces: Int[np.ndarray, "F 3"], count: int) -> Correspondence:
    """Each vertex is itself; those of no triangle are nowhere, with confidence 0."""
    corners = np.asarray(faces).ravel()
    used, first = np.unique(corners, return_index=True)
    face, barycentric = np.zeros(count, np.int32), np.tile([1.0, 0, 0], (count, 1))
    face[used], barycentric[used] = first // 3, np.eye(3)[first % 3]
    return Correspondence(face, barycentric, np.isin(np.arange(count), used).astype(float))


def check(source: FlameModel, target: FlameModel, found: Correspondence) -> None:
    """Refuses a correspondence that turns the face inside out or misses its landmarks.

    Raises:
      UserError: it names both heads and what is wrong.
    """
    names = f"heads {source.name} and {target.name} cannot be registered"
    off = landmark_distances(source, target, found)[INNER_68]
    if off.max() > _LANDMARK_MM:
        worst = INNER_68.start + int(off.argmax())
        raise UserError(
            f"{names}: landmark {worst} of the 68 is off by {off.max():.1f} mm; look whether both "
            "have it in the same place, and x to the subject's left, y up, z out of the face"
        )
    flipped = flipped_share(source, target, found)
    if flipped > _FLIPPED:
        raise UserError(f"{names}: {flipped:.0%} of the face's triangles are turned over")


def landmark_distances(
    source: FlameModel, target: FlameModel, found: Correspondence
) -> Float[np.ndarray, "68"]:
    """Millimetres between the source's landmarks, carried to the target, and the target's."""
    own, other = head_surface(source), head_surface(target)
    places = carry(found, other.faces, other.vertices)
    carried = np.einsum("lc,lcd->ld", own.weights, places[own.corners])
    return 1e3 * np.linalg.norm(carried - other.landmarks, axis=1)


def flipped_share(source: FlameModel, target: FlameModel, found: Correspondence) -> float:
    """Share of the face's area, where confidence is high, that faces backward on the target."""
    faces = np.asarray(source.face_vertices)[np.asarray(source.face_triangles)]
    faces = faces[(found.confidence[faces] > SURE).all(1)]
    if not len(faces):
        return 1.0
    surface = head_surface(target)
    normals = unit_normals(surface.vertices, surface.faces)
    place = found.face_index, found.barycentric
    corners = at(surface.vertices, surface.faces, *place)[faces]
    outward = at(normals, surface.faces, *place)[faces].sum(1)
    doubled = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(doubled, axis=1)
    return float(area[(doubled * outward).sum(1) < 0].sum() / max(area.sum(), 1e-30))


def _registered(first: FlameModel, second: FlameModel, settings: Settings | None) -> Pair:
    pair = Pair(*register_both(head_surface(first), head_surface(second), settings))
    check(first, second, pair.forward)
    check(second, first, pair.backward)
    return pair


def _store(path: epath.Path, first: FlameModel, second: FlameModel, pair: Pair) -> None:
    arrays = {
        f"{direction}.{name}": getattr(found, name)
        for direction, found in pair._asdict().items()
        for name in _FIELDS
    }
    write_npz(path, arrays | {"key": np.array(_key(first, second))})


def _key(first: FlameModel, second: FlameModel) -> list[str]:
    """What a registration depends on: tables may be added to a head that keeps its SHA-256."""
    digest = hashlib.sha256()
    for head in (first, second):
        points = head.static_68
        for array in (
            *(head.template, head.faces, head.face_parts),
            *(points.face_index, points.barycentric),
        ):
            digest.update(np.ascontiguousarray(array).tobytes())
    return [first.sha256, second.sha256, str(_REVISION), digest.hexdigest()]


def _stored(path: epath.Path, first: FlameModel, second: FlameModel) -> Pair | None:
    """The registration kept in a file; None without one, or where it is of other heads."""
    if not path.exists():
        return None
    arrays = read_npz(path, what="a registration of two heads")
    if arrays.get("key", np.zeros(0)).tolist() != _key(first, second):
        return None
    found = []
    for direction, source, target in (("forward", first, second), ("backward", second, first)):
        face, barycentric, confidence = (arrays.get(f"{direction}.{name}") for name in _FIELDS)
        count = len(source.template)
        shapes = [np.shape(array) for array in (face, barycentric, confidence)]
        if (
            shapes != [(count,), (count, 3), (count,)]
            or face.dtype.kind != "i"
            or not (0 <= face.min() <= face.max() < len(target.faces))
            or not all(np.isfinite(array).all() for array in (barycentric, confidence))
        ):
            raise UserError(f"{path} is damaged: delete it, and it is made anew")
        found.append(Correspondence(face, barycentric, confidence))
    return Pair(*found)
