"""What the texels of a head show: made once for each head and kept."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from fields_jax.geometry.normals import summed_normals
from fields_jax.kept import digest, kept_arrays, kept_program
from fields_jax.render import rasterize
from fields_jax.types import FlameModel, Fragments

_DRAWN_BY = ("render", "geometry", "types.py")  # what the table depends on besides this file
_NORMAL = 0.01  # metres that opposite normals are apart, where mirrored triangles are looked for
_PART = 1.0  # metres that other parts are away


class Atlas(NamedTuple):
    """The texture of a head as S x S texels; row 0 is at v = 1.

    Attributes:
      face: [S, S] the triangle of each texel, -1 where none is.
      weights: [S, S, 3] of its corners.
      owner: [S, S] row of `types.PARTS` of the texel or, where it is empty, of the nearest one.
      mirror: [S, S] flat index of the texel that shows the opposite place of the head, -1 for none.
    """

    face: Int[np.ndarray, "S S"]
    weights: Float[np.ndarray, "S S 3"]
    owner: UInt8[np.ndarray, "S S"]
    mirror: Int[np.ndarray, "S S"]


class _Layout:
    """What the atlas of a head depends on, as a key: arrays cannot be hashed."""

    def __init__(self, head: FlameModel, size: int) -> None:
        names = ("template", "faces", "face_parts", "uv", "uv_faces")
        self.template, self.faces, self.parts, self.uv, self.uv_faces = (
            np.asarray(getattr(head, name)) for name in names
        )
        self.size = size
        arrays = self.template, self.faces, self.parts, self.uv, self.uv_faces
        facts = [str(size), *(array.tobytes().hex() for array in arrays)]
        root = Path(__file__).parents[1]
        self.key = digest([Path(__file__), *(root / name for name in _DRAWN_BY)], facts)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Layout) and other.key == self.key


def atlas_of(head: FlameModel, size: int) -> Atlas:
    """The atlas of a head.

    Args:
      head: any; where texels are claimed by several triangles the first one has them.
      size: S.
    """
    return _kept(_Layout(head, size))


@functools.lru_cache(maxsize=2)
def _kept(layout: _Layout) -> Atlas:
    return Atlas(**kept_arrays(f"atlas{layout.size}", layout.key, lambda: _make(layout)._asdict()))


def _make(layout: _Layout) -> Atlas:
    from scipy.ndimage import distance_transform_edt

    flat = np.concatenate([layout.uv * (2, -2) + (-1, 1), 0 * layout.uv[:, :1]], axis=1)
    points = flat[None].astype(np.float32)
    drawn = kept_program(_drawn, points, layout.uv_faces, static=(layout.size,))
    face, weights = (np.asarray(array)[0] for array in drawn)  # first: rows of JAX's are programs
    owner = np.zeros_like(face, np.uint8)
    if (face >= 0).any():
        nearest = distance_transform_edt(face < 0, return_distances=False, return_indices=True)
        owner = layout.parts[face[tuple(nearest)]].astype(np.uint8)
    mirror = np.full(face.shape, -1, np.int32)
    mirror[face >= 0] = _mirror(layout, face, weights)
    return Atlas(face, weights, owner, mirror)


def _drawn(
    points: Float[Array, "1 U 3"], faces: Int[Array, "F 3"], size: int
) -> tuple[Int[Array, "1 S S"], Float[Array, "1 S S 3"]]:
    fragments: Fragments = rasterize(points, faces, size)
    return fragments.face_index, fragments.barycentric


def _mirror(layout: _Layout, face: np.ndarray, weights: np.ndarray) -> Int[np.ndarray, " N"]:
    """Flat indices of the texels opposite to the filled ones.

    A texel's place on the template, with x turned round, lies on or beside the triangle opposite to
    its own. What that triangle's plane has there tells the place in the texture. On a symmetric
    mesh this is exact.
    """
    from scipy.spatial import KDTree

    opposite = (-1, 1, 1)
    corners = layout.template[layout.faces].astype(np.float64)
    normals = summed_normals(corners.reshape(-1, 3), np.arange(corners.size // 3).reshape(-1, 3))
    normals = normals[::3] / np.maximum(np.linalg.norm(normals[::3], axis=1, keepdims=True), 1e-30)
    parts = _PART * layout.parts[:, None]
    known = np.concatenate([corners.mean(axis=1), _NORMAL * normals, parts], axis=1)
    turned = known * (*opposite, *opposite, 1)
    twin = KDTree(known).query(turned)[1]

    filled = face >= 0
    own, size = face[filled], layout.size
    place = np.einsum("nk,nkd->nd", weights[filled], corners[own]) * opposite
    origin, one, two = np.moveaxis(corners[twin], 1, 0)
    one, two = one - origin, two - origin
    aa, ab, bb = ((a * b).sum(axis=1) for a, b in ((one, one), (one, two), (two, two)))
    area = np.maximum(aa * bb - ab * ab, 1e-30)
    # Rows that give the weights of the second and the third corner.
    to_second = (bb[:, None] * one - ab[:, None] * two) / area[:, None]
    to_third = (aa[:, None] * two - ab[:, None] * one) / area[:, None]
    offset = place - origin[own]
    v, w = ((rows[own] * offset).sum(axis=1) for rows in (to_second, to_third))
    uv = layout.uv[layout.uv_faces[twin]].astype(np.float64)[own]
    there = np.einsum("nk,nkd->nd", np.stack([1 - v - w, v, w], axis=1), uv)
    column, row = np.floor(there * (size, -size) + (0, size)).astype(np.int64).T
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    flat = np.where(inside, row * size + column, 0)
    same = inside & (face.ravel()[flat] >= 0)
    same &= layout.parts[np.maximum(face.ravel()[flat], 0)] == layout.parts[own]
    return np.where(same, flat, -1).astype(np.int32)
