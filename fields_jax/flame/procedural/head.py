"""A licence-free head in FLAME's own schema, computed from analytic shapes.

It stands in for FLAME wherever the real model is not at hand: same joints, bases, landmark tables,
masks and units, but a mesh of its own. The other modules of this package build the geometry in
millimetres; this one turns it into a `FlameModel` in metres.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fields_jax import landmark_schemes as schemes
from fields_jax.flame.priors import standard_priors
from fields_jax.flame.procedural import arkit, components, identity, landmarks, regions, rig
from fields_jax.flame.procedural.mesh import head_mesh
from fields_jax.kept import digest, kept_arrays
from fields_jax.types import JOINTS, FlameModel, LandmarkEmbedding

VERSION = "2"  # of the content: another mesh or basis is another version
_METRES = 1e-3
_HERE = Path(__file__).parent
_EMBEDDINGS = ("static_51", "contour", "static_68", "landmarks_105", "landmarks_203")


@functools.lru_cache(maxsize=4)
def procedural_head(seed: int = 0) -> FlameModel:
    """A neutral human head with 300 shape and 100 expression components.

    The mesh, the landmarks and the leading, named components are always the same; `seed` draws the
    trailing components, which are smooth noise.

    Args:
      seed: seed of the noise components.

    Returns:
      The head, in metres; the same object for the same seed.
    """
    sources = [_HERE, _HERE.parents[1] / "landmark_schemes.py", _HERE.parents[1] / "geometry"]
    depends_on = digest(sources, (str(seed), np.__version__))
    stored = kept_arrays(f"head{seed}", depends_on, lambda: _make(seed))
    names = tuple(stored.pop("expression_names").tolist())
    arrays: dict[str, Any] = {name: array for name, array in stored.items() if "." not in name}
    for name in _EMBEDDINGS:
        parts = (stored[f"{name}.{part}"] for part in ("face_index", "barycentric"))
        arrays[name] = LandmarkEmbedding(*parts)
    regions = [name for name in stored if name.startswith("regions.")]
    arrays["regions"] = {name.removeprefix("regions."): stored[name] for name in regions}
    arrays["priors"] = standard_priors(identity.SHAPE_COUNT, components.EXPRESSION_COUNT)
    with jax.ensure_compile_time_eval():  # the cache must not keep a tracer
        arrays = jax.device_put(arrays)
    return FlameModel(
        **arrays,
        parents=rig.PARENTS,
        joint_names=JOINTS,
        expression_names=names,
        name="procedural",
        version=VERSION,
        sha256=_identity(seed),
    )


def _make(seed: int) -> dict[str, np.ndarray]:
    """All arrays of the head by name, those of one group as "group.name"; metres."""
    mesh = head_mesh()
    places = landmarks.Places(mesh)
    contour_face, contour_weight = landmarks.contour(places)
    inner = landmarks.static_51(places)
    static_68 = landmarks.join(landmarks.Points(contour_face[0], contour_weight[0]), inner)
    expression, names = components.expression_basis(mesh, seed)
    upper, lower = rig.lid_travel(mesh)
    lids = np.stack([upper + lower, rig.mirrored(mesh, upper + lower)])
    named = regions.regions(mesh)
    uv, uv_faces = regions.texture(mesh)
    front, left, right = (
        np.isin(np.arange(schemes.N_203), rows)
        for rows in (schemes.FRONT_203, schemes.LEFT_203, schemes.RIGHT_203)
    )
    arrays = {
        "template": mesh.points * _METRES,
        "shape_basis": identity.shape_basis(mesh, seed) * _METRES,
        "expression_basis": expression * _METRES,
        "pose_basis": rig.pose_basis(mesh) * _METRES,
        "joint_regressor": rig.joint_regressor(mesh),
        "skin_weights": rig.skin_weights(mesh),
        "eyelid_basis": lids * _METRES,
        "arkit_basis": arkit.arkit_basis(mesh, expression, names, lids) * _METRES,
        "faces": mesh.faces,
        "static_51": _embedding(inner),
        "contour": LandmarkEmbedding(contour_face, contour_weight),
        "static_68": _embedding(static_68),
        "landmarks_105": _embedding(landmarks.landmarks_105(places)),
        "landmarks_203": _embedding(landmarks.landmarks_203(places)),
        "mediapipe_index": schemes.MEDIAPIPE_105,
        "front_203": front,
        "left_203": left,
        "right_203": right,
        "face_vertices": named["face"],
        "face_triangles": regions.face_triangles(mesh, named["face"]),
        "uv": uv,
        "uv_faces": uv_faces,
        "regions": named,
        "expression_templates": components.expression_templates(names),
    }
    arrays = jax.tree.map(_storage_type, arrays)
    flat = {
        jax.tree_util.keystr(path, simple=True, separator="."): array
        for path, array in jax.tree_util.tree_leaves_with_path(arrays)
    }
    return flat | {
        "face_parts": regions.face_parts(mesh, named),
        "expression_names": np.array(names),
    }


def _embedding(points: landmarks.Points) -> LandmarkEmbedding:
    return LandmarkEmbedding(face_index=points.face, barycentric=points.weight)


def _storage_type(array: np.ndarray) -> np.ndarray:
    """Integers as int32, floats as float32."""
    if array.dtype == bool:
        return array
    kind = np.int32 if np.issubdtype(array.dtype, np.integer) else np.float32
    return np.ascontiguousarray(array, kind)


def _identity(seed: int) -> str:
    """SHA-256 of what the head is made from.

    Not of its arrays: their last bits differ from one processor to another, and networks trained on
    one machine must know their head on the next. tests/flame/test_procedural_content.py has the
    content that belongs to `VERSION`.
    """
    return hashlib.sha256(f"procedural head, version {VERSION}, seed {seed}".encode()).hexdigest()
