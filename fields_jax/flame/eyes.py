"""The eyeballs of a head."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from fields_jax.types import FlameModel

_OF_AN_EYE = 0.5  # skinning weight of the eye's joint from which a vertex is of its eyeball


def eyeballs(head: FlameModel) -> tuple[Int[np.ndarray, " L"], Int[np.ndarray, " R"]]:
    """Vertices of the left and of the right eyeball; none for a head without joints of them."""
    weights = np.asarray(head.skin_weights)
    joints = [head.joint(role) for role in ("left_eye", "right_eye")]
    none = np.zeros(0, np.int64)
    left, right = (
        none if joint is None else np.flatnonzero(weights[:, joint] > _OF_AN_EYE)
        for joint in joints
    )
    return left, right
