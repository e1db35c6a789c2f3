"""Bundles of faces with known coefficients, without a network or a fit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fields_jax.flame import flame
from fields_jax.outputs.bundle import Bundle, Result
from fields_jax.photos.faces import Face
from fields_jax.render import project
from fields_jax.types import FlameCoefficients, FlameModel
from tests.support.portraits import META, SIZE, photograph


def random_coefficients(head: FlameModel, count: int, seed: int = 0) -> FlameCoefficients:
    """Faces that move everything a head has, within a common range."""
    rng = np.random.default_rng(seed)

    def normal(columns: int, scale: float) -> np.ndarray:
        return (scale * rng.standard_normal((count, columns))).astype(np.float32)

    return FlameCoefficients(
        shape=np.tile(normal(5, 1.0)[:1], (count, 1)),
        expression=normal(min(6, head.expression_basis.shape[-1]), 0.7),
        jaw=np.abs(normal(3, 0.1)) * np.float32([1, 0.2, 0.2]),
        eyelid=rng.uniform(0, 1, (count, 2)).astype(np.float32),
        pose=normal(3, 0.3),
        camera=np.float32([6.0, 0.01, 0.02]) + normal(3, 0.01),
        neck=normal(3, 0.1),
        eyes=normal(6, 0.1),
    )


def bundle_of(
    head: FlameModel, coefficients: FlameCoefficients, face: Face | None = None, morphs: str = ""
) -> Bundle:
    """The bundle of the first of some faces.

    Args:
      head: of the faces.
      coefficients: of them.
      face: where it is; None: in a picture of noise.
      morphs: of the bundle.
    """
    one = jax.tree.map(lambda column: jnp.asarray(column)[:1], coefficients)

    @jax.jit
    def pose(head, one):
        output = flame(head, one)
        points = output.vertices, output.landmarks_68
        return *points, *(project(each, one.camera) for each in points)

    points = [np.asarray(each[0]) for each in pose(head, one)]
    arrays = {name: np.asarray(value[0]) for name, value in vars(one).items() if value is not None}
    result = Result(arrays, *points, geometry=np.zeros((320, 320, 1), np.float32))
    return Bundle(face or photograph(), head, result, SIZE, META, morphs)
