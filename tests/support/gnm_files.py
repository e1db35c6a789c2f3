"""Files laid out as those of Google's GNM head, of the procedural head's mesh."""

from __future__ import annotations

import numpy as np

from fields_jax.flame.procedural import procedural_head

IDENTITIES, EXPRESSIONS = 4, 5
JOINTS = np.array([[0, -0.14, -0.048], [0, -0.098, -0.044]])


def gnm_arrays() -> dict[str, np.ndarray]:
    """A file's arrays, of the procedural head's mesh."""
    head, rng = procedural_head(), np.random.default_rng(0)
    template, faces = np.asarray(head.template, np.float64), np.asarray(head.faces)
    count = len(template)
    groups = {
        name: np.isin(np.arange(count), np.asarray(head.regions[region]))
        for name, region in (
            ("left_eye", "left_eyeball"),
            ("right_eye", "right_eyeball"),
            ("mouth_sock", "mouth_interior"),
        )
    }
    eyes = groups["left_eye"] | groups["right_eye"]
    groups["skin"] = ~eyes
    joints = [*JOINTS, *(template[groups[f"{side}_eye"]].mean(0) for side in ("left", "right"))]

    def waves(number):
        turn, phase = rng.normal(0, 30, (number, 3, 3)), rng.uniform(0, 6, (number, 1, 3))
        size = rng.normal(0, 0.002, (number, 1, 3))
        return np.sin(np.einsum("vk,nkd->nvd", template, turn) + phase) * size

    weight = np.clip((template[:, 1] + 0.146) / 0.046, 0, 1)
    skinning = np.stack([1 - weight, weight, 0 * weight, 0 * weight])
    for joint, side in ((2, "left"), (3, "right")):
        skinning[:, groups[f"{side}_eye"]] = np.eye(4)[joint][:, None]
    correctives = rng.normal(0, 1e-3, (36, 3 * count))
    correctives[:9] = 0
    expression = waves(EXPRESSIONS) * np.array([1, 5, 2, 4, 3])[:, None, None]
    return {
        "version": np.array("3.0"),
        "variant": np.array("head"),
        "template_vertex_positions": template.astype(np.float32),
        "template_joint_positions": np.array(joints, np.float32),
        "vertex_identity_basis": waves(IDENTITIES),
        "joint_identity_basis": rng.normal(0, 1e-3, (IDENTITIES, 4, 3)),
        "expression_basis": expression * ~eyes[:, None],
        "identity_names": np.array([f"head_{i:03d}" for i in range(IDENTITIES)]),
        "expression_names": np.array([f"mouth_{i:03d}" for i in range(EXPRESSIONS)]),
        "joint_names": np.array(["neck", "head", "left_eye", "right_eye"]),
        "joint_parent_indices": np.array([0, 0, 1, 1]),
        "skinning_weights": skinning,
        "triangles": faces,
        "triangle_uvs": np.asarray(head.uv)[np.asarray(head.uv_faces)],
        "mesh_component_names": np.array(["left_eye", "skin", "right_eye"]),
        "joint_regressor": np.full((4, count), 1 / count),
        "pose_correctives_regressor": correctives,
        "vertex_groups": np.stack(list(groups.values())).astype(np.float32),
        "vertex_group_names": np.array(list(groups)),
    }


def write_gnm(folder, arrays, rows=None):
    """The two files; the landmarks with some points of the jaw in another order, as published."""
    np.savez(folder / "gnm_head.npz", **arrays)
    if rows is None:
        head = procedural_head()
        corners = np.asarray(head.faces)[np.asarray(head.static_68.face_index)]
        weights = np.asarray(head.static_68.barycentric, np.float64)
        rows = np.stack([corners, weights], axis=-1).reshape(68, 6)
        rows[2:7] = rows[2:7][::-1]
    np.savetxt(folder / "head_sparse_68.txt", rows)
    return folder / "gnm_head.npz"
