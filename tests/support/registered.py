"""A head and copies of it whose correspondence is known, for tests of registration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from fields_jax.flame.landmark_head import with_components
from fields_jax.flame.procedural import procedural_head
from fields_jax.registration.heads import head_surface
from fields_jax.registration.surfaces import Surface
from fields_jax.types import FlameModel


@cache
def small_head() -> FlameModel:
    """The procedural head with few components."""
    return with_components(procedural_head(), 12, 16).replace(expression_templates=None)


def warped(points: np.ndarray) -> np.ndarray:
    """A bijection of space near the identity: other proportions, and waves of 2 mm; metres."""
    x, y, z = points.T
    stretched = np.stack([1.06 * x, 0.95 * y, 1.04 * z + 0.05 * y], axis=1)
    waves = np.stack([np.sin(30 * y), np.sin(25 * z + 1), np.cos(30 * y + 10 * z)], axis=1)
    return stretched + 0.002 * waves


class Copy(NamedTuple):
    """A head's copy.

    Attributes:
      surface: the copy.
      places: [V, 3] where on it the head's own vertices went, metres.
      spread: values of the head's vertices to those of the copy's.
    """

    surface: Surface
    places: np.ndarray
    spread: Callable[[np.ndarray], np.ndarray]


def other_mesh(head: FlameModel, seed: int = 0) -> Copy:
    """The warped head with other vertices and triangles, elsewhere in space.

    Every triangle is split at a random inner point and the order of all is shuffled, which leaves
    the surface as it is.
    """
    rng = np.random.default_rng(seed)
    own = head_surface(head)
    turn = np.linalg.qr(rng.standard_normal((3, 3)) * 0.1 + np.eye(3))[0]
    turn *= np.sign(np.diag(turn))[None]

    def moved(points):
        return 1.1 * warped(points) @ turn.T + [0.1, 1.5, -0.2]

    places = moved(own.vertices)
    weights = rng.dirichlet([6, 6, 6], len(own.faces))
    middle = len(places) + np.arange(len(own.faces))
    a, b, c = own.faces.T
    split = np.stack([np.stack(x, 1) for x in ((a, b, middle), (b, c, middle), (c, a, middle))])
    faces, parts = split.reshape(-1, 3), np.tile(own.parts, 3)
    count = len(places) + len(own.faces)
    rows, order = rng.permutation(count), rng.permutation(len(faces))

    def spread(values):
        inner = np.einsum("fc,fc...->f...", weights, values[own.faces])
        shuffled = np.empty((count, *values.shape[1:]))
        shuffled[rows] = np.concatenate([values, inner])
        return shuffled

    landmarks = np.einsum("lc,lcd->ld", own.weights, places[own.corners])
    surface = Surface(
        spread(places), rows[faces][order], landmarks, parts[order], rows[own.corners], own.weights
    )
    return Copy(surface, places, spread)


def elsewhere(head: FlameModel, pitch: float, shift: tuple[float, float, float]) -> FlameModel:
    """The same head in another frame: turned about x, which the jaw's axis is, and shifted.

    Without correctives, which are of the old frame's rotations, and without lids, which open and
    shut in the head's own frame whatever its pose.
    """
    cos, sin = np.cos(pitch), np.sin(pitch)
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]], np.float32)
    bases = {
        name: np.einsum("ij,vjk->vik", turn, np.asarray(getattr(head, name)))
        for name in ("shape_basis", "expression_basis")
    }
    template = np.asarray(head.template) @ turn.T + np.float32(shift)
    return dataclasses.replace(head, template=template, sha256="1" * 64, **bases)
