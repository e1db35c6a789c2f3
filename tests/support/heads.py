"""Heads of FLAME's structure for tests: few vertices, random numbers everywhere."""

from __future__ import annotations

import numpy as np

from fields_jax.flame.priors import standard_priors
from fields_jax.types import JOINTS, FlameModel, LandmarkEmbedding


def with_joints(head: FlameModel, names: tuple[str, ...]) -> FlameModel:
    """The same head with only these joints, in this order; weights of the others go to the root.

    The root must come first and a kept joint's parent must be kept.
    """
    rows = [JOINTS.index(name) for name in names]
    weights = np.array(head.skin_weights)[:, rows]
    weights[:, 0] += 1 - weights.sum(1)
    basis = np.asarray(head.pose_basis)
    features = [basis[..., :0], *(basis[..., 9 * (row - 1) : 9 * row] for row in rows[1:])]
    return head.replace(
        joint_names=names,
        parents=tuple(-1 if row == 0 else rows.index(head.parents[row]) for row in rows),
        joint_regressor=np.asarray(head.joint_regressor)[rows],
        skin_weights=weights,
        pose_basis=np.concatenate(features, axis=-1),
    )


def random_head(
    seed: int = 0, vertices: int = 60, faces: int = 90, shapes: int = 7, expressions: int = 6
) -> FlameModel:
    """A head whose parts are random, so that no term of FLAME vanishes by symmetry."""
    rng = np.random.default_rng(seed)

    def normal(*shape, scale=1.0):
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    def simplex(*shape):
        raw = rng.random(shape) + 0.05
        return (raw / raw.sum(-1, keepdims=True)).astype(np.float32)

    def embedding(*shape):
        index = rng.integers(0, faces, shape).astype(np.int32)
        return LandmarkEmbedding(face_index=index, barycentric=simplex(*shape, 3))

    corners = np.stack([rng.permutation(vertices)[:3] for _ in range(faces)]).astype(np.int32)
    mask = np.arange(vertices // 2, dtype=np.int32)
    inside = corners[(corners < vertices // 2).all(1)]
    return FlameModel(
        template=normal(vertices, 3, scale=0.1),
        shape_basis=normal(vertices, 3, shapes, scale=0.003),
        expression_basis=normal(vertices, 3, expressions, scale=0.002),
        pose_basis=normal(vertices, 3, 36, scale=0.002),
        joint_regressor=simplex(5, vertices),
        skin_weights=simplex(vertices, 5),
        eyelid_basis=normal(2, vertices, 3, scale=0.002),
        faces=corners,
        face_parts=np.zeros(faces, np.int32),
        static_51=embedding(51),
        contour=embedding(79, 17),
        static_68=embedding(68),
        landmarks_105=embedding(105),
        landmarks_203=embedding(203),
        mediapipe_index=np.arange(105, dtype=np.int32),
        front_203=rng.random(203) < 0.4,
        left_203=rng.random(203) < 0.4,
        right_203=rng.random(203) < 0.4,
        face_vertices=mask,
        face_triangles=inside.astype(np.int32),
        uv=rng.random((vertices, 2)).astype(np.float32),
        uv_faces=corners,
        regions={"face": mask},
        expression_templates=normal(5, expressions),
        priors=standard_priors(shapes, expressions),
        parents=(-1, 0, 1, 1, 1),
        expression_names=("first", "second"),
        name="random",
        version="0",
        sha256="0" * 64,
    )
