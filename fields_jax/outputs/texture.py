"""The photograph as a texture of the head, and how much of it the photograph shows.

Every texel is a place on the head. Where the camera sees that place, it has the photograph's colour
there; elsewhere that of the opposite place, if that is seen; and what neither half shows is filled
in smoothly. The three pass into each other by how squarely a place faces the camera.

The light of the photograph is part of the colours.
"""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int, UInt8
from PIL import Image

from fields_jax.geometry.normals import summed_normals
from fields_jax.kept import kept_program
from fields_jax.outputs.atlas import Atlas, atlas_of
from fields_jax.outputs.overlays import to_photograph
from fields_jax.render import rasterize
from fields_jax.types import PARTS, FlameModel

# The face takes half of the texture's width: a texel is 0.37 mm of the procedural head, a pixel of
# a face that is 390 pixels wide.
SIZE = 1024
JPEG_QUALITY = 92
# Cosines of the angle between surface and view from which a place begins to count and counts fully.
_GRAZING, _FACING = 0.15, 0.65
_DEPTH_SIDE = 512  # pixels of the depth map over the whole head
_BEHIND = 0.003  # metres behind the nearest surface up to which a place is seen
_FEATHER = 9  # texels over which what is seen fades out towards what is hidden
_EDGE = 0.02  # of the photograph's larger side, over which it fades out towards its edge
# What each part has where nothing is known of it, RGB in [0, 1]; ours.
_PLAIN = {
    "skin": (0.78, 0.61, 0.53),
    "eyes": (0.86, 0.84, 0.82),
    "teeth": (0.86, 0.82, 0.74),
    "gums": (0.45, 0.22, 0.21),
    "lashes": (0.15, 0.12, 0.1),
    "other": (0.6, 0.5, 0.45),
}
_SEEN_THROUGH = ("lashes", "other")  # parts that hide nothing: shells about the eyes, ribbons
_FAINT = 1e-4  # weight of the plain colour beside a seen texel's 1


class View(NamedTuple):
    """A head in a photograph.

    Attributes:
      image: [H, W, 3] the photograph.
      vertices: [V, 3] posed, metres.
      camera: [3] (scale, tx, ty) of the crop.
      matrix: [3, 3] from pixels of the photograph to pixels of the crop.
      size: side of the crop in pixels.
    """

    image: UInt8[np.ndarray, "H W 3"]
    vertices: Float[np.ndarray, "V 3"]
    camera: Float[np.ndarray, "3"]
    matrix: Float[np.ndarray, "3 3"]
    size: int


@dataclasses.dataclass(frozen=True)
class Texture:
    """A baked texture; row 0 is at v = 1.

    Attributes:
      color: [S, S, 3].
      shares: [S, S, 3] what the colour is made of, in 255ths: seen in a photograph, taken from the
        opposite side of the head, filled in. They sum to 255.
    """

    color: UInt8[np.ndarray, "S S 3"]
    shares: UInt8[np.ndarray, "S S 3"]

    @functools.cached_property
    def jpeg(self) -> bytes:
        """The colours as a JPEG file: photographs are, and a PNG is five times as large."""
        buffer = io.BytesIO()
        Image.fromarray(self.color).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        return buffer.getvalue()


def bake(head: FlameModel, views: Iterable[View], size: int = SIZE) -> Texture | None:
    """The texture of a head from one or more photographs of it.

    Of several photographs, such as the frames of a clip, each texel has the mean, weighted by how
    squarely each shows it. One is held at a time.

    Args:
      head: of all views.
      views: in any order, which the result does not depend on but for rounding.
      size: S.

    Returns:
      None for a head whose texture coordinates fill no texel.
    """
    atlas = atlas_of(head, size)
    if (atlas.face < 0).all():
        return None
    total, color = np.zeros((size, size), np.float32), np.zeros((size, size, 3), np.float32)
    seen = np.zeros_like(total)
    for view in views:
        weight, sampled = _view(head, atlas, view)
        total += weight
        color += weight[..., None] * sampled
        np.maximum(seen, weight, out=seen)
    color /= np.maximum(total, 1e-9)[..., None]

    twin = np.maximum(atlas.mirror, 0)
    known = np.where(atlas.mirror >= 0, seen.ravel()[twin], 0)
    mirrored = (1 - seen) * known
    alpha = seen + mirrored
    mixed = seen[..., None] * color + mirrored[..., None] * color.reshape(-1, 3)[twin]
    filled = _filled(atlas, mixed, alpha)
    shares = np.stack([seen, mirrored], axis=-1)
    parts = np.floor(255 * shares + 0.5).astype(np.uint8)
    rest = 255 - parts.sum(axis=-1, keepdims=True, dtype=np.int32)
    parts = np.concatenate([parts, np.maximum(rest, 0).astype(np.uint8)], axis=-1)
    return Texture(np.clip(filled + 0.5, 0, 255).astype(np.uint8), parts)


def _view(head: FlameModel, atlas: Atlas, view: View) -> tuple[np.ndarray, np.ndarray]:
    """How well the texels are seen, [S, S] in [0, 1], and their colours [S, S, 3] in 255ths."""
    faces = np.asarray(head.faces)
    vertices = np.asarray(view.vertices, np.float64)
    scale, shift = float(view.camera[0]), np.asarray(view.camera[1:], np.float64)
    ndc = scale * np.array([1, -1]) * (vertices[:, :2] + shift)
    pixels = to_photograph(ndc, view.matrix, view.size)
    normals = summed_normals(vertices, faces)
    facing = normals[:, 2] / np.maximum(np.linalg.norm(normals, axis=1), 1e-30)

    weight = np.zeros(atlas.face.shape, np.float32)
    color = np.zeros((*atlas.face.shape, 3), np.float32)
    towards = facing[faces].max(axis=1) > _GRAZING
    near = (atlas.face >= 0) & towards[atlas.face]  # row -1 is masked by the first
    if not near.any():
        return weight, color
    columns = np.concatenate([pixels, vertices[:, 2:], facing[:, None]], axis=1)
    window, depth = _depth_map(head, ndc, vertices[:, 2])
    columns = np.concatenate([columns, window], axis=1).astype(np.float32)
    texels = np.einsum("nk,nkc->nc", atlas.weights[near], columns[faces[atlas.face[near]]])
    x, y, z, cosine, column, row = texels.T
    last = _DEPTH_SIDE - 1
    nearest = depth[np.clip(row, 0, last).astype(int), np.clip(column, 0, last).astype(int)]
    height, width = view.image.shape[:2]
    edge = np.minimum.reduce([x, width - x, y, height - y]) / (_EDGE * max(height, width))
    visible = (z >= nearest - _BEHIND) & (edge > 0)
    square = np.clip((cosine - _GRAZING) / (_FACING - _GRAZING), 0, 1)
    weight[near] = visible * np.clip(edge, 0, 1) * square * square * (3 - 2 * square)
    weight *= _fading(atlas, near, visible)
    shown = weight[near] > 0
    chosen = np.flatnonzero(near)[shown]
    shrink = _pixels_per_texel(head, atlas, pixels, towards)
    color.reshape(-1, 3)[chosen] = _sampled(view.image, x[shown], y[shown], shrink)
    return weight, color


def _depth_map(
    head: FlameModel, ndc: Float[np.ndarray, "V 2"], z: Float[np.ndarray, " V"]
) -> tuple[Float[np.ndarray, "V 2"], Float[np.ndarray, "D D"]]:
    """Vertices in pixels of a depth map of the head, and the greatest z in each of these."""
    low, high = ndc.min(axis=0), ndc.max(axis=0)
    half = max(float((high - low).max()) / 2 * 1.02, 1e-9)
    inside = (ndc - (low + high) / 2) / half
    parts = [PARTS.index(name) for name in _SEEN_THROUGH]
    opaque = np.asarray(head.faces)[~np.isin(np.asarray(head.face_parts), parts)]
    points = np.concatenate([inside, -z[:, None]], axis=1)[None].astype(np.float32)
    face, depth = map(np.asarray, kept_program(_nearest, points, opaque, static=(_DEPTH_SIDE,)))
    farthest = np.where(face[0] >= 0, -depth[0], -np.inf)
    return (inside + 1) * _DEPTH_SIDE / 2, farthest


def _nearest(
    points: Float[Array, "1 V 3"], faces: Int[Array, "F 3"], side: int
) -> tuple[Int[Array, "1 D D"], Float[Array, "1 D D"]]:
    fragments = rasterize(points, faces, side)
    return fragments.face_index, fragments.depth


def _fading(atlas: Atlas, near: np.ndarray, visible: np.ndarray) -> Float[np.ndarray, "S S"]:
    """1 amid what is seen, 0 at its edge towards what is hidden; charts end without an edge."""
    shown = np.zeros(near.shape, np.float32)
    shown[near] = visible
    filled = (atlas.face >= 0).astype(np.float32)
    share, there = (_averaged(each, _FEATHER) for each in (shown, filled))
    return np.clip(2 * share / np.maximum(there, 1e-6) - 1, 0, 1)


def _averaged(picture: Float[np.ndarray, "H W"], side: int) -> Float[np.ndarray, "H W"]:
    """Means over squares of an odd number of texels; beyond the edge its texels go on."""
    # scipy.ndimage, which does the same, takes half a second to load.
    for _ in range(2):
        padded = np.pad(picture, ((side // 2 + 1, side // 2), (0, 0)), mode="edge")
        sums = np.cumsum(padded, axis=0, dtype=np.float64)
        picture = ((sums[side:] - sums[:-side]) / side).T
    return np.float32(picture)


def _pixels_per_texel(
    head: FlameModel, atlas: Atlas, pixels: Float[np.ndarray, "V 2"], towards: np.ndarray
) -> int:
    """How many pixels of the photograph, along a side, a texel of the face is wide; at least 1."""
    size = len(atlas.face)
    chosen = towards & np.isin(np.asarray(head.faces), np.asarray(head.face_vertices)).all(axis=1)
    if not chosen.any():
        return 1
    in_picture = _areas(pixels[np.asarray(head.faces)[chosen]]).sum()
    in_texture = _areas(size * np.asarray(head.uv)[np.asarray(head.uv_faces)[chosen]]).sum()
    return max(1, int(np.sqrt(in_picture / max(in_texture, 1e-9)) + 1e-6))


def _areas(corners: Float[np.ndarray, "T 3 2"]) -> Float[np.ndarray, " T"]:
    (a, b), (c, d) = (np.moveaxis(corners[:, k] - corners[:, 0], -1, 0) for k in (1, 2))
    return np.abs(a * d - b * c) / 2


def _sampled(
    image: UInt8[np.ndarray, "H W 3"], x: np.ndarray, y: np.ndarray, shrink: int
) -> Float[np.ndarray, "N 3"]:
    """Colours of a picture between its pixels, which are first averaged by blocks of `shrink`."""
    if not len(x):
        return np.zeros((0, 3), np.float32)
    left, top = (max(int(values.min()) // shrink * shrink - shrink, 0) for values in (x, y))
    right, bottom = (int(values.max()) + 2 * shrink + 1 for values in (x, y))
    part = image[top:bottom, left:right]
    if shrink > 1:
        part = np.asarray(Image.fromarray(part).reduce(shrink))
    height, width = part.shape[:2]
    u = np.clip((x - left) / shrink - 0.5, 0, width - 1)
    v = np.clip((y - top) / shrink - 0.5, 0, height - 1)
    column, row = (np.minimum(q.astype(np.int32), n) for q, n in ((u, width - 1), (v, height - 1)))
    beside, below = np.minimum(column + 1, width - 1), np.minimum(row + 1, height - 1)
    along, down = (u - column)[:, None], (v - row)[:, None]
    flat = part.reshape(-1, 3)
    upper = flat[row * width + column] * (1 - along) + flat[row * width + beside] * along
    lower = flat[below * width + column] * (1 - along) + flat[below * width + beside] * along
    return upper * (1 - down) + lower * down


def _filled(atlas: Atlas, mixed: np.ndarray, alpha: np.ndarray) -> Float[np.ndarray, "S S 3"]:
    """Colours everywhere, those of one part never from another."""
    result = np.zeros_like(mixed)
    for part in np.unique(atlas.owner):
        own = atlas.owner == part
        rows, columns = (np.flatnonzero(own.any(axis=axis)) for axis in (1, 0))
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        its = own[box]
        plain = 255 * np.array(_PLAIN[PARTS[part]], np.float32)
        known = alpha[box] * its
        pushed = _push_pull(mixed[box] * its[..., None], known, plain)
        result[box][its] = pushed[its]
    return result


def _push_pull(
    color: Float[np.ndarray, "H W 3"], weight: Float[np.ndarray, "H W"], plain: np.ndarray
) -> Float[np.ndarray, "H W 3"]:
    """Fills in where weights are below 1, by ever coarser means (Gortler et al. 1996).

    Args:
      color: times their weights.
      weight: in [0, 1].
      plain: colour of the coarsest level where nothing is known.
    """
    height, width = weight.shape
    if height == 1 and width == 1:
        known = weight[..., None] + _FAINT
        return (color + _FAINT * plain) / known
    even = ((0, height % 2), (0, width % 2))
    sums = np.pad(weight, even).reshape((height + 1) // 2, 2, (width + 1) // 2, 2).sum(axis=(1, 3))
    colors = np.pad(color, (*even, (0, 0)))
    colors = colors.reshape((height + 1) // 2, 2, (width + 1) // 2, 2, 3).sum(axis=(1, 3))
    # A block counts as fully known from one known texel on.
    down = 1 / np.maximum(sums, 1)
    coarse = _push_pull(colors * down[..., None], sums * down, plain)
    return color + (1 - weight)[..., None] * _doubled(coarse, height, width)


def _doubled(
    coarse: Float[np.ndarray, "h w 3"], height: int, width: int
) -> Float[np.ndarray, "H W 3"]:
    """Twice as fine, linear between the blocks' centres."""
    for axis, length in enumerate((height, width)):
        count = coarse.shape[axis]
        before = np.take(coarse, np.maximum(np.arange(count) - 1, 0), axis)
        after = np.take(coarse, np.minimum(np.arange(count) + 1, count - 1), axis)
        fine = np.stack([0.75 * coarse + 0.25 * before, 0.75 * coarse + 0.25 * after], axis + 1)
        shape = list(coarse.shape)
        shape[axis] *= 2
        coarse = np.take(fine.reshape(shape), np.arange(length), axis)
    return coarse
