"""A head of eight vertices, whose movements are known by hand, and labels for its faces."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fields_jax.evaluation import geometry
from fields_jax.flame.priors import standard_priors
from fields_jax.types import FlameCoefficients, FlameModel, LandmarkEmbedding

V, S, E = 8, 4, 3


def cube_head() -> FlameModel:
    """A cube of 10 cm. One unit of expression 0 moves the whole face mask by 3 mm along x,
    expression 1 moves one of its four vertices by 8 mm, expression 2 moves no face vertex;
    an eyelid moves every vertex by 4 mm along z; the jaw turns the first vertex only.
    """
    corners = np.stack(np.meshgrid(*[[-0.05, 0.05]] * 3, indexing="ij"), -1).reshape(V, 3)
    face = np.array([0, 2, 4, 6])
    basis = np.zeros((V, 3, E))
    basis[face, 0, 0], basis[2, 1, 1], basis[1, 1, 2] = 0.003, 0.008, 1.0
    eyelid = np.zeros((2, V, 3))
    eyelid[0, :, 2] = 0.004
    weights = np.zeros((V, 5))
    weights[:, 0], weights[0] = 1, [0, 0, 1, 0, 0]
    shape_basis = np.zeros((V, 3, S))
    shape_basis[:, 0, 0] = 0.02 * np.sign(corners[:, 0])

    def points(*shape):
        """Landmark i at the cube's corner i modulo 8."""
        first = np.arange(np.prod(shape)) % 4  # of faces [0..3] below, the first corner
        weights = np.tile([1.0, 0.0, 0.0], (first.size, 1))
        return LandmarkEmbedding(first.reshape(shape), weights.reshape(*shape, 3))

    index = np.arange(1000, 1105)
    index[[7, 9]] = 33, 263
    subset = np.arange(203) < 80
    model = FlameModel(
        template=corners,
        shape_basis=shape_basis,
        expression_basis=basis,
        pose_basis=np.zeros((V, 3, 36)),
        joint_regressor=np.zeros((5, V)),
        skin_weights=weights,
        eyelid_basis=eyelid,
        faces=np.array([[0, 2, 1], [2, 4, 1], [4, 6, 1], [6, 0, 1]]),
        **dict(static_51=points(51), contour=points(79, 17), static_68=points(68)),
        **dict(landmarks_105=points(105), landmarks_203=points(203)),
        mediapipe_index=index,
        front_203=subset | (np.arange(203) == 100),
        left_203=subset | (np.arange(203) == 101),
        right_203=subset,
        **dict(face_vertices=face, face_triangles=np.array([[0, 2, 1]])),
        parents=(-1, 0, 1, 1, 1),
        **dict(face_parts=np.zeros(4, int), priors=standard_priors(S, E)),
        **dict(uv=np.zeros((1, 2)), uv_faces=np.zeros((4, 3), int), regions={"face": face}),
        **dict(expression_templates=None, expression_names=()),
        **dict(name="cube", version="0", sha256="0"),
    )
    to_array = lambda x: jnp.asarray(x, jnp.float32 if x.dtype.kind == "f" else None)  # noqa: E731
    return jax.tree.map(to_array, model)


def make_coefficients(n, **given):
    widths = dict(shape=S, expression=E, jaw=3, eyelid=2, pose=3, camera=3)
    values = {k: np.zeros((n, w), np.float32) for k, w in widths.items()}
    values["camera"][:, 0] = 5
    return FlameCoefficients(**values | {k: np.asarray(v, np.float32) for k, v in given.items()})


def make_labels(n, **given):
    labels = {
        "id": np.array([f"face{i}" for i in range(n)]),
        "image": np.zeros((n, 8, 8, 3), np.uint8),
        "face_mask": np.zeros((n, 8, 8), np.uint8),
        "source": np.zeros(n, np.int32),
        "valence": np.zeros(n, np.float32),
        "arousal": np.zeros(n, np.float32),
    }
    labels |= {k: np.full(n, -1, np.int32) for k in ("emotion", "subject", "level")}
    flags = ("flame", "shape", "eval", "va", "emotion", "annotated_68", *geometry.LANDMARK_SETS)
    labels |= {f"has_{k}": np.zeros(n, bool) for k in flags}
    widths = dict(shape=S, expression=E, jaw=3, eyelid=2)
    labels |= {k: np.zeros((n, w), np.float32) for k, w in widths.items()}
    labels |= {f"eval_{k}": v for k, v in labels.items() if k in ("expression", "jaw", "eyelid")}
    labels |= {k: np.zeros((n, int(k.split("_")[1]), 2)) for k in geometry.LANDMARK_SETS}
    return labels | given
