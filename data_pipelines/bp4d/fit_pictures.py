"""A picture of a fitted sequence: the scans over the fitted faces, coloured by their distance."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from scipy.spatial.transform import Rotation

from fields_jax.fitting.scan_types import Scan, SequenceFit
from fields_jax.flame import flame
from fields_jax.geometry.closest_points import closest_points
from fields_jax.render import draw, geometry_map, project
from fields_jax.types import FlameModel

_SIZE = 224
_POINTS = 1500  # drawn of each scan
_FACE = 0.85  # half the frame that the face spans, at most
# Colours of points nearer than so many mm.
_COLORS = ((0.5, (70, 200, 90)), (1.0, (235, 220, 60)), (2.0, (245, 150, 40)), (8.0, (220, 40, 40)))
_REJECTED = (150, 0, 0)  # edge of frames that the gate has turned down


def picture(
    head: FlameModel, scans: Sequence[Scan], fit: SequenceFit, count: int
) -> UInt8[np.ndarray, "R C 3"]:
    """`count` frames spread over the sequence: the fitted head above, the same with the scan below.

    Points within 0.5 mm are green, 1 mm yellow, 2 mm orange, 8 mm red; others are left out. A dark
    red edge marks a frame that was turned down.
    """
    rows = np.linspace(0, len(scans) - 1, count).round().astype(int)
    chosen = jax.tree.map(lambda leaf: jnp.asarray(leaf[rows]), fit.coefficients)
    vertices, camera, shade = _shaded(head, chosen)
    drawn = plain = np.repeat(draw.to_uint8(shade), 3, axis=-1)
    face, faces = np.asarray(head.face_vertices), np.asarray(head.face_triangles)
    for place, row in enumerate(rows):
        turn = Rotation.from_rotvec(fit.rotation[row]).as_matrix()
        points = np.asarray(scans[row].points, np.float64)
        points = (points - fit.translation[row]) @ turn
        points = points[:: max(1, len(points) // _POINTS)]
        distance = 1e3 * closest_points(np.asarray(vertices[place, face]), faces, points).distance
        flat = np.asarray(project(jnp.asarray(points, jnp.float32)[None], camera[place, None]))
        drawn = _dotted(drawn, place, flat[0, :, :2], distance)
    for place, row in enumerate(rows):
        if not fit.accepted[row]:
            drawn[place, :4] = drawn[place, -4:] = drawn[place, :, :4] = _REJECTED
            drawn[place, :, -4:] = _REJECTED
    return np.concatenate([np.concatenate(list(row), axis=1) for row in (plain, drawn)])


@jax.jit
def _shaded(head: FlameModel, coefficients):
    """Vertices, cameras that frame the face, and the geometry map."""
    vertices = flame(head, coefficients).vertices
    face = vertices[:, head.face_vertices, :2]
    low, high = face.min(axis=1), face.max(axis=1)
    scale = 2 * _FACE / jnp.max(high - low, axis=1, keepdims=True)
    camera = jnp.concatenate([scale, -(low + high) / 2], axis=1)
    image, _ = geometry_map(head, vertices, camera, _SIZE)
    return vertices, camera, image


def _dotted(images: np.ndarray, place: int, points: np.ndarray, distance: np.ndarray) -> np.ndarray:
    images, nearer = images.copy(), 0.0
    for limit, color in _COLORS:
        own = points[(distance >= nearer) & (distance < limit)]
        images[place] = draw.draw_points(images[place, None], own[None], color, radius=0.8)[0]
        nearer = limit
    return images
