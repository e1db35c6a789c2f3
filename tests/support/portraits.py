"""Photographs of the embedded head with the landmark files a detector would leave beside them."""

from __future__ import annotations

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from fields_jax.flame import flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.landmark_schemes import MEDIAPIPE_105, N_MEDIAPIPE
from fields_jax.photos.faces import Face
from fields_jax.render import geometry_map, project
from fields_jax.types import FlameCoefficients

CAMERA = (6.0, 0.0, 0.02)
META = {"version": "0", "head": {"name": "procedural", "version": "1", "sha256": "ab" * 32}}
SIZE = 48  # of the crops


def coefficients(count: int = 1, yaw: float = 0.0) -> FlameCoefficients:
    """Coefficients of a neutral head, as the encoders would give them."""
    rest = jnp.zeros((count, 3))
    return FlameCoefficients(
        shape=jnp.zeros((count, 10)),
        expression=jnp.zeros((count, 10)),
        jaw=rest,
        eyelid=jnp.zeros((count, 2)),
        pose=rest.at[:, 1].set(yaw),
        camera=jnp.tile(jnp.array(CAMERA), (count, 1)),
    )


@functools.cache
def face_picture(size: int = 128, yaw: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A shaded face [size, size, 3] uint8 on grey and its 478 points in pixels.

    Points without a landmark on the head are vertices of its face mask.
    """
    head, known = procedural_head(), coefficients(yaw=yaw)

    @jax.jit
    def draw(head, known):
        output = flame(head, known)
        shade, mask = geometry_map(head, output.vertices, known.camera, size)
        marks = project(output.landmarks_105, known.camera)
        return shade, mask, marks, project(output.vertices[:, head.face_vertices], known.camera)

    shade, mask, marks, skin = (np.asarray(a)[0] for a in draw(head, known))
    color = np.clip(255 * shade * (1.2, 0.95, 0.8), 0, 255)
    picture = np.where(mask[..., None] > 0, color, 90).astype(np.uint8)
    order = np.argsort(np.abs(skin[:, 0]) + np.abs(skin[:, 1]))[::-1]  # the rim first
    points = skin[np.resize(order[:: max(1, len(order) // N_MEDIAPIPE)], N_MEDIAPIPE), :2].copy()
    points[MEDIAPIPE_105] = marks[:, :2]
    return picture, (points + 1) * size / 2


def write_photograph(
    path: Path, *, places: tuple[tuple[int, int], ...] = ((30, 20),), marked: bool = True
) -> np.ndarray:
    """A picture of 300 x 200 with a face at each (left, top); its points beside it.

    Returns:
      [F, 478, 2] the points in pixels.
    """
    picture, points = face_picture()
    canvas = np.full((200, 300, 3), 60, np.uint8)
    for left, top in places:
        canvas[top : top + 128, left : left + 128] = picture
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(canvas).save(path)
    moved = np.stack([points + place for place in places]).astype(np.float32)
    if marked:
        np.save(path.with_suffix(".npy"), moved[0] if len(moved) == 1 else moved)
    return moved


def photograph(height=150, width=210, box=(60, 40, 140, 130), scale=1.4):
    """A picture of noise with a face at a given box, and the scale of its crop."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    marks = rng.uniform(60, 120, (478, 2)).astype(np.float32)
    box = np.array(box, np.float32)
    return Face("photos/a b.png", "a b", image, marks, box, scale, "landmark file a b.npy")
