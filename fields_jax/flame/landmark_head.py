"""Heads cut down to what a step looks at."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from fields_jax.errors import UserError
from fields_jax.flame.priors import trimmed
from fields_jax.types import FlameModel, LandmarkEmbedding

_EMBEDDINGS = ("static_51", "contour", "static_68", "landmarks_105", "landmarks_203")


def with_components(head: FlameModel, n_shape: int, n_expression: int) -> FlameModel:
    """The head with only its leading components, and without the shapes that no network predicts.

    Raises:
      UserError: the head has fewer.
    """
    shapes, expressions = head.shape_basis.shape[-1], head.expression_basis.shape[-1]
    if shapes < n_shape or expressions < n_expression:
        raise UserError(
            f"head {head.name} has {shapes} shape and {expressions} expression components; lower "
            f"config.model.n_shape ({n_shape}) or n_expression ({n_expression})"
        )
    return head.replace(
        shape_basis=head.shape_basis[..., :n_shape],
        expression_basis=head.expression_basis[..., :n_expression],
        priors=trimmed(head.priors, n_shape, n_expression),
        arkit_basis=None,
    )


def landmark_head(head: FlameModel) -> FlameModel:
    """The head with only the vertices and triangles that its landmarks and joints depend on.

    `flame` gives the same joints and landmarks for it as for the whole head, in a fraction of the
    work: a full head costs as much as an encoder, and pretraining never looks at its surface. The
    fields that describe the surface (face mask, UV, regions) are empty.
    """
    faces = np.asarray(head.faces)
    tables = {name: getattr(head, name) for name in _EMBEDDINGS}
    triangles, rows = _renumber([np.asarray(table.face_index) for table in tables.values()])
    joints = np.flatnonzero(np.any(np.asarray(head.joint_regressor) != 0, axis=0))
    vertices, (corners, _) = _renumber([faces[triangles], joints])
    embeddings = {
        name: LandmarkEmbedding(face_index=row, barycentric=table.barycentric)
        for (name, table), row in zip(tables.items(), rows, strict=True)
    }
    none = np.zeros(0, np.int32)
    return head.replace(
        template=_rows(head.template, vertices),
        shape_basis=_rows(head.shape_basis, vertices),
        expression_basis=_rows(head.expression_basis, vertices),
        pose_basis=_rows(head.pose_basis, vertices),
        joint_regressor=_rows(head.joint_regressor, vertices, axis=1),
        skin_weights=_rows(head.skin_weights, vertices),
        eyelid_basis=_rows(head.eyelid_basis, vertices, axis=1),
        faces=corners,
        face_parts=_rows(head.face_parts, triangles),
        materials=None,
        arkit_basis=None,
        face_vertices=none,
        face_triangles=none.reshape(0, 3),
        uv=np.zeros((0, 2), np.float32),
        uv_faces=none.reshape(0, 3),
        regions={},
        **embeddings,
    )


def _rows(array: Any, rows: np.ndarray, axis: int = 0) -> jax.Array:
    """Some rows of an array, taken by numpy: JAX would compile a program for each shape."""
    return jax.device_put(np.take(np.asarray(array), rows, axis=axis))


def _renumber(indices: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The distinct values of some index arrays, and the arrays as positions among them."""
    distinct = np.unique(np.concatenate([index.ravel() for index in indices]))
    return distinct, [np.searchsorted(distinct, index).astype(np.int32) for index in indices]
