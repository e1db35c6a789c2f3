"""Teeth for a head that has none: a strip of the skull and one of the jaw behind the lips."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from fields_jax.landmark_schemes import LOWER_RIM_68, UPPER_RIM_68
from fields_jax.types import PARTS, FlameModel, LandmarkEmbedding

_COLUMNS = 13  # vertices along a strip
# Metres behind the rim: far enough that no movement of the lips uncovers a strip from outside.
_UPPER_DEPTH, _LOWER_DEPTH = 0.006, 0.011


class Bite(NamedTuple):
    """What of the teeth an open mouth shows.

    Attributes:
      width: of a strip, as a fraction of the inner mouth.
      upper, lower: heights in metres of a strip's two edges above the line where the lips meet:
        the hidden one, the visible one.
    """

    width: float
    upper: tuple[float, float]
    lower: tuple[float, float]


# Teeth that leave a dark gap between them, and such as meet and fill a smile.
SHORT = Bite(0.62, (0.005, -0.0014), (-0.0065, -0.0042))
FULL = Bite(0.76, (0.0075, -0.0032), (-0.0085, -0.0036))


def with_teeth(head: FlameModel, bite: Bite = SHORT) -> tuple[FlameModel, Int[np.ndarray, " T"]]:
    """The head with two strips of teeth appended, and the indices of their vertices.

    A strip follows identity, head and jaw as the nearest vertex of the mouth does, but no
    expression moves it. Landmarks and regions keep their meaning.
    """
    template = np.asarray(head.template)
    rims = [_embedded(head, template, rim) for rim in (UPPER_RIM_68, LOWER_RIM_68)]
    meeting = 0.5 * (rims[0][2, 1] + rims[1][2, 1])
    strips = [
        _strip(rims[0], meeting, bite.upper, _UPPER_DEPTH, bite.width),
        _strip(rims[1], meeting, bite.lower, _LOWER_DEPTH, bite.width),
    ]
    mouth = np.asarray(head.regions["mouth_interior"])
    jaw = np.asarray(head.skin_weights)[mouth, head.joint("jaw")]
    anchors = [mouth[jaw < 0.5], mouth[jaw > 0.5]]  # of the skull, of the jaw
    follow = np.concatenate(
        [_nearest(strip, template, anchor) for strip, anchor in zip(strips, anchors, strict=True)]
    )
    teeth = len(template) + np.arange(len(follow))
    squares = [_squares(len(template) + k * 2 * _COLUMNS) for k in range(2)]

    def stay(basis):
        return jnp.concatenate([basis, jnp.zeros_like(basis[follow])])

    grown = head.replace(
        template=jnp.concatenate([head.template, jnp.asarray(np.concatenate(strips))]),
        shape_basis=jnp.concatenate([head.shape_basis, head.shape_basis[follow]]),
        skin_weights=jnp.concatenate([head.skin_weights, head.skin_weights[follow]]),
        expression_basis=stay(head.expression_basis),
        pose_basis=stay(head.pose_basis),
        eyelid_basis=jnp.pad(head.eyelid_basis, ((0, 0), (0, len(follow)), (0, 0))),
        joint_regressor=jnp.pad(head.joint_regressor, ((0, 0), (0, len(follow)))),
        faces=jnp.concatenate([head.faces, jnp.asarray(np.concatenate(squares))]),
        face_parts=jnp.pad(
            head.face_parts, (0, sum(map(len, squares))), constant_values=PARTS.index("teeth")
        ),
        materials=None,
        arkit_basis=None,
        uv_faces=jnp.pad(head.uv_faces, ((0, sum(map(len, squares))), (0, 0))),
    )
    return grown, teeth


def _strip(
    rim: Float[np.ndarray, "5 3"],
    meeting: float,
    edges: tuple[float, float],
    depth: float,
    width: float,
) -> Float[np.ndarray, "S 3"]:
    """[2 * columns, 3]: a curved band parallel to the rim; the upper row of vertices first."""
    half = width * 0.5 * (rim[-1, 0] - rim[0, 0])
    x = np.linspace(-half, half, _COLUMNS)
    # An even parabola: dental arches are symmetric.
    z = np.polynomial.Polynomial.fit(rim[:, 0] ** 2, rim[:, 2], 1)(x**2) - depth
    rows = [np.stack([x, np.full_like(x, meeting + y), z], axis=1) for y in sorted(edges)[::-1]]
    return np.concatenate(rows).astype(np.float32)


def _squares(first: int) -> Int[np.ndarray, "F 3"]:
    """Triangles of a strip whose vertices begin at `first`, facing +z."""
    top = first + np.arange(_COLUMNS - 1)
    bottom = top + _COLUMNS
    pairs = [(bottom, bottom + 1, top + 1), (bottom, top + 1, top)]
    return np.concatenate([np.stack(pair, axis=1) for pair in pairs]).astype(np.int32)


def _nearest(points: np.ndarray, template: np.ndarray, index: np.ndarray) -> np.ndarray:
    apart = np.linalg.norm(points[:, None] - template[index], axis=-1)
    return index[np.argmin(apart, axis=1)]


def _embedded(head: FlameModel, template: np.ndarray, rows: tuple[int, ...]) -> np.ndarray:
    embedding: LandmarkEmbedding = head.static_68
    corners = template[np.asarray(head.faces)[np.asarray(embedding.face_index)[list(rows)]]]
    return (corners * np.asarray(embedding.barycentric)[list(rows), :, None]).sum(axis=1)
