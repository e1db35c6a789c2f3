"""The shaded face in its photograph, at the photograph's own resolution."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

from fields_jax.kept import kept_program
from fields_jax.photos.crops import to_photograph
from fields_jax.render import geometry_map, project, rasterize
from fields_jax.render.camera import reframe
from fields_jax.types import FlameModel

_OPACITY = 0.85
# Sides at which a face is drawn: few, so that few programs are compiled. It is drawn at the
# smallest one of at least twice its side in the photograph, and reduced.
_SIDES = (512, 1024, 2048)


class Window(NamedTuple):
    """A square of whole pixels of a photograph; it may reach beyond the edges."""

    left: int
    top: int
    side: int


def paste_face(
    image: UInt8[np.ndarray, "H W 3"],
    head: FlameModel,
    vertices: Float[np.ndarray, "V 3"],
    camera: Float[np.ndarray, "3"],
    matrix: Float[np.ndarray, "3 3"],
    size: int,
) -> UInt8[np.ndarray, "H W 3"]:
    """The photograph with the shaded face over it, its edges averaged over pixels.

    Args:
      image: [H, W, 3] the photograph.
      head: the head; its face mask is drawn.
      vertices: [V, 3] metres.
      camera: [3] (scale, tx, ty) of the crop.
      matrix: from pixels of the photograph to pixels of the crop.
      size: side of the crop in pixels.
    """
    skin = np.asarray(vertices)[np.asarray(head.face_vertices)]
    window = _window(_pixels(skin, camera, matrix, size), *image.shape[:2])
    if window is None:
        return image
    frame = np.asarray(vertices), np.asarray(camera), *_frame_of(window, matrix, size)
    drawn = _drawn_at(window)
    geometry, cover = jax.device_get(kept_program(_draw, head, *frame, static=(drawn,)))
    # The geometry map is 0 beside the face: reduced, it is the shade times the cover.
    layers = (_resized(layer, window.side) for layer in (geometry, cover))
    return _blend(image, window, *layers)


def cover_head(
    shape: tuple[int, int],
    head: FlameModel,
    vertices: Float[np.ndarray, "V 3"],
    camera: Float[np.ndarray, "3"],
    matrix: Float[np.ndarray, "3 3"],
    size: int,
) -> Float[np.ndarray, "H W"]:
    """The share of each pixel of a photograph that the whole head covers, ears and neck included.

    Args:
      shape: (height, width) of the photograph.
      head, vertices, camera, matrix, size: as of `paste_face`.
    """
    cover = np.zeros(shape, np.float32)
    window = _window(_pixels(np.asarray(vertices), camera, matrix, size), *shape)
    if window is None:
        return cover
    frame = np.asarray(vertices), np.asarray(camera), *_frame_of(window, matrix, size)
    drawn = np.asarray(kept_program(_cover, head, *frame, static=(_drawn_at(window),)))
    inside, part = _parts(window, *shape)
    cover[inside] = _resized(drawn, window.side)[part]
    return cover


def _pixels(
    vertices: np.ndarray, camera: np.ndarray, matrix: np.ndarray, size: int
) -> Float[np.ndarray, "N 2"]:
    """Where vertices are in the photograph."""
    # As `render.project`, whose operations would be compiled one by one.
    scale, move = camera[0], np.asarray(camera[1:])
    projected = scale * np.float32([1, -1]) * (vertices[:, :2] + move)
    return to_photograph(projected, matrix, size)


def _drawn_at(window: Window) -> int:
    return next((side for side in _SIDES if side >= 2 * window.side), _SIDES[-1])


def _window(pixels: np.ndarray, height: int, width: int) -> Window | None:
    """The smallest square around the points inside the photograph, or None."""
    low = np.floor(np.maximum(pixels.min(axis=0), 0)).astype(int) - 1
    high = np.ceil(np.minimum(pixels.max(axis=0), (width, height))).astype(int) + 1
    if (high - low <= 2).any():
        return None
    return Window(int(low[0]), int(low[1]), int((high - low).max()))


def _frame_of(window: Window, matrix: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Zoom and shift, see `reframe`, that show in the window what the crop shows there."""
    zoom = matrix[0, 0]
    centre = (size / 2 - matrix[:2, 2]) / zoom  # of the crop, in pixels of the photograph
    shift = 2 * (centre - (window.left, window.top)) / window.side - 1
    return np.float32(size / (zoom * window.side)), np.asarray(shift, np.float32)


def _draw(
    head: FlameModel,
    vertices: Float[Array, "V 3"],
    camera: Float[Array, "3"],
    zoom: Float[Array, ""],
    shift: Float[Array, "2"],
    side: int,
) -> tuple[Float[Array, "S S"], Float[Array, "S S"]]:
    """Shade and cover of the face in another frame than its camera's."""
    inside = reframe(camera, zoom, shift)
    geometry, cover = geometry_map(head, vertices[None], inside[None], side)
    return geometry[0, ..., 0], cover[0]


def _cover(
    head: FlameModel,
    vertices: Float[Array, "V 3"],
    camera: Float[Array, "3"],
    zoom: Float[Array, ""],
    shift: Float[Array, "2"],
    side: int,
) -> Float[Array, "S S"]:
    """Cover of the whole head in another frame than its camera's."""
    inside = reframe(camera, zoom, shift)
    found = rasterize(project(vertices[None], inside[None]), head.faces, side)
    return (found.face_index[0] >= 0).astype(vertices.dtype)


def _parts(window: Window, height: int, width: int) -> tuple[tuple, tuple]:
    """The part of the photograph that the window has, and the part of the window that it is."""
    left, top, side = window
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    inside = slice(y0, y1), slice(x0, x1)
    return inside, (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))


def _resized(layer: np.ndarray, side: int) -> np.ndarray:
    """A float layer at another size; reduced, each pixel is a mean over what it covers."""
    picture = Image.fromarray(layer.astype(np.float32))
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))


def _blend(
    image: np.ndarray, window: Window, shade: np.ndarray, cover: np.ndarray
) -> UInt8[np.ndarray, "H W 3"]:
    """Lays premultiplied grey over the part of the window that the photograph has."""
    inside, part = _parts(window, *image.shape[:2])
    shade, cover = (_OPACITY * layer[part][..., None] for layer in (shade, cover))
    below = image[inside].astype(np.float32)
    pasted = image.copy()
    pasted[inside] = np.clip(below * (1 - cover) + 255 * shade + 0.5, 0, 255)
    return pasted
