"""The shaded face in its photograph, at the photograph's own resolution."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from fields_jax.photos.crops import transform_points
from fields_jax.render import geometry_map, project
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


def to_photograph(
    points: Float[np.ndarray, "N D"], matrix: Float[np.ndarray, "3 3"], size: int
) -> Float[np.ndarray, "N 2"]:
    """Image coordinates of a crop as pixels of its photograph.

    Args:
      points: [N, >=2] as `render.project` returns them, x and y in [-1, 1] over the crop.
      matrix: from pixels of the photograph to pixels of the crop.
      size: side of the crop in pixels.
    """
    inverse = np.linalg.inv(np.asarray(matrix, np.float64))
    return transform_points(inverse, (np.asarray(points, np.float64)[:, :2] + 1) * size / 2)


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
    projected = np.asarray(project(jnp.asarray(skin)[None], jnp.asarray(camera)[None])[0])
    window = _window(to_photograph(projected, matrix, size), *image.shape[:2])
    if window is None:
        return image
    drawn = next((side for side in _SIDES if side >= 2 * window.side), _SIDES[-1])
    inside = _camera_of(window, np.asarray(camera), matrix, size)
    geometry, cover = (
        np.asarray(layer)[0]
        for layer in _draw(head, jnp.asarray(vertices)[None], inside[None], drawn)
    )
    # The geometry map is 0 beside the face: reduced, it is the shade times the cover.
    layers = (_resized(layer, window.side) for layer in (geometry[..., 0], cover))
    return _blend(image, window, *layers)


_draw = jax.jit(geometry_map, static_argnums=3)


def _window(pixels: np.ndarray, height: int, width: int) -> Window | None:
    """The smallest square around the points inside the photograph, or None."""
    low = np.floor(np.maximum(pixels.min(axis=0), 0)).astype(int) - 1
    high = np.ceil(np.minimum(pixels.max(axis=0), (width, height))).astype(int) + 1
    if (high - low <= 2).any():
        return None
    return Window(int(low[0]), int(low[1]), int((high - low).max()))


def _camera_of(window: Window, camera: np.ndarray, matrix: np.ndarray, size: int) -> jax.Array:
    """The camera that shows in the window what the crop's camera shows there."""
    zoom = matrix[0, 0]
    centre = (size / 2 - matrix[:2, 2]) / zoom  # of the crop, in pixels of the photograph
    shift = 2 * (centre - (window.left, window.top)) / window.side - 1
    return reframe(jnp.asarray(camera), size / (zoom * window.side), jnp.asarray(shift))


def _resized(layer: np.ndarray, side: int) -> np.ndarray:
    """A float layer at another size; reduced, each pixel is a mean over what it covers."""
    picture = Image.fromarray(layer.astype(np.float32))
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))


def _blend(
    image: np.ndarray, window: Window, shade: np.ndarray, cover: np.ndarray
) -> UInt8[np.ndarray, "H W 3"]:
    """Lays premultiplied grey over the part of the window that the photograph has."""
    left, top, side = window
    height, width = image.shape[:2]
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    part = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
    shade, cover = (_OPACITY * layer[part][..., None] for layer in (shade, cover))
    below = image[y0:y1, x0:x1].astype(np.float32)
    pasted = image.copy()
    pasted[y0:y1, x0:x1] = np.clip(below * (1 - cover) + 255 * shade + 0.5, 0, 255)
    return pasted
