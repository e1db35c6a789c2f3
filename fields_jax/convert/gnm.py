"""Google's GNM head as a head of ours.

GNM (Generative aNthropometric Model, github.com/google/GNM, Apache-2.0) publishes its head as one
gnm_head.npz and its 68 landmarks as head_sparse_68.txt. Names, shapes and equations here are those
of its public description and code; the published file itself was not at hand.

It has no jaw's joint and no eyelid shapes: its expression components move both. The coefficients of
jaw and lids are therefore held at 0. Joints are neck and head, which become root and neck, and the
eyes.
"""

from __future__ import annotations

import hashlib

import numpy as np
from etils import epath
from jaxtyping import Bool, Float, Int

from fields_jax.convert.contour import Face, Points, contour
from fields_jax.convert.obj import PolygonMesh
from fields_jax.convert.registered_tables import (
    rim,
    storage_type,
    surface,
    tables_by_registration,
)
from fields_jax.convert.texture_atlas import atlas
from fields_jax.disk import writing
from fields_jax.errors import MissingFile, UserError, quoted
from fields_jax.files import read_npz, read_text
from fields_jax.flame.io import check_arrays, write_arrays
from fields_jax.flame.priors import between, normal
from fields_jax.flame.procedural import procedural_head
from fields_jax.geometry.closest_points import closest_points
from fields_jax.landmark_schemes import CONTOUR_68, INNER_68
from fields_jax.types import PARTS, LandmarkEmbedding

_MODEL, _LANDMARKS = "gnm_head.npz", "head_sparse_68.txt"
_IN_CLONE = "gnm/shape/data/versions/v3_0"
# Each array's shape, with letters for its sizes; texts are names.
_ARRAYS = {
    "template_vertex_positions": ("V", 3),
    "template_joint_positions": ("J", 3),
    "vertex_identity_basis": ("I", "V", 3),
    "joint_identity_basis": ("I", "J", 3),
    "expression_basis": ("E", "V", 3),
    "joint_parent_indices": ("J",),
    "skinning_weights": ("J", "V"),
    "triangles": ("T", 3),
    "triangle_uvs": ("T", 3, 2),
    "joint_regressor": ("J", "V"),
    "pose_correctives_regressor": ("9J", "3V"),
    "vertex_groups": ("G", "V"),
    "expression_names": ("E",),
    "joint_names": ("J",),
    "vertex_group_names": ("G",),
    "mesh_component_names": ("P",),
    "version": (),
}
_EYES = ("left_eye", "right_eye")
# Vertex groups of the parts, the later before the earlier; the rest is skin.
_GROUPS = (
    ("gums", ("mouth_sock", "tongue", "gums", "upper_teeth_and_gums", "lower_teeth_and_gums")),
    ("teeth", ("teeth",)),
    ("eyes", _EYES),
)
_FAR = 0.002  # metres from the skin at which a landmark is not on it
_SAME = 1e-5  # metres to which regressed joints must be the model's
_RANK = 1e-12  # eigenvalues below this share of the largest count as none


def convert_gnm(source: str, target: str) -> str:
    """Writes a head from GNM's files.

    Args:
      source: gnm_head.npz with head_sparse_68.txt beside it, or a clone of the repository.
      target: the .npz to write.

    Returns:
      The model's version.

    Raises:
      MissingFile: no such file, by name.
      UserError: another model, or damaged; `target` is then untouched.
    """
    model_path, landmarks_path = _files(epath.Path(source))
    model = _read(model_path)
    arrays, meta = head_arrays(model, _landmarks(landmarks_path, model), str(model_path))
    digest = hashlib.sha256(model_path.read_bytes() + landmarks_path.read_bytes())
    meta["sha256"] = digest.hexdigest()
    check_arrays(target, arrays, meta)
    with writing(target, instead="another target"):
        write_arrays(target, arrays, meta)
    return meta["version"]


def head_arrays(
    model: dict[str, np.ndarray], landmarks: Float[np.ndarray, "68 3"], source: str
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """The arrays of a head file and its static fields, all but the hash.

    Raises:
      UserError: joints, groups or axes are not those of GNM's head; `source` is named.
    """
    template, faces = model["template_vertex_positions"], model["triangles"]
    roles, parents = _tree(model, source)
    parts = _face_parts(model, source)
    # A prefix of the components is used: the ones that move most come first.
    strength = np.square(model["expression_basis"]).sum(axis=(1, 2))
    order = np.argsort(-strength, kind="stable")
    expression = np.moveaxis(model["expression_basis"][order], 0, -1)
    correctives = model["pose_correctives_regressor"].reshape(len(parents), 9, len(template), 3)
    if np.abs(correctives[0]).max() > _SAME:
        raise UserError(f"{source}: turning the root deforms the head, which no head of ours does")
    joints, static_68 = model["template_joint_positions"], _on_skin(landmarks, model, parts, source)
    components = sorted(map(str, model["mesh_component_names"]), key=lambda name: name != "skin")
    materials = np.stack([_group(model, name) for name in components]).argmax(0)[faces[:, 0]]
    uv, uv_faces = _texture(model["triangle_uvs"], materials, tuple(components))
    arrays = {
        "template": template,
        "shape_basis": np.moveaxis(model["vertex_identity_basis"], 0, -1),
        "expression_basis": expression,
        "pose_basis": np.moveaxis(correctives[1:].reshape(-1, len(template), 3), 0, -1),
        "joint_regressor": _regressor(model, source),
        "skin_weights": model["skinning_weights"].T,
        "eyelid_basis": np.zeros((2, *template.shape)),
        "faces": faces,
        "face_parts": parts,
        "materials": materials,
        "uv": uv,
        "uv_faces": uv_faces,
    }
    points = LandmarkEmbedding(face_index=static_68.face, barycentric=static_68.weight)
    face = Face(
        vertices=template,
        faces=faces,
        skin=np.flatnonzero(parts == PARTS.index("skin")),
        frontal=Points(static_68.face[CONTOUR_68], static_68.weight[CONTOUR_68]),
        jaw=landmarks[CONTOUR_68],
        axis=float(joints[roles.index("neck"), 2]),
    )
    inner = Points(static_68.face[INNER_68], static_68.weight[INNER_68])
    for name, table in (("static_68", static_68), ("static_51", inner), ("contour", contour(face))):
        arrays |= {f"{name}.face_index": table.face, f"{name}.barycentric": table.weight}
    arrays |= _priors(len(model["vertex_identity_basis"]), len(order))
    arrays |= tables_by_registration(procedural_head(), surface(template, faces, parts, points))
    below = np.flatnonzero(template[:, 1] < joints[roles.index("neck"), 1])
    regions = {
        "left_eyeball": np.flatnonzero(_group(model, "left_eye")),
        "right_eyeball": np.flatnonzero(_group(model, "right_eye")),
        "mouth_interior": np.flatnonzero(_group(model, "mouth_sock")),
        "boundary": rim(faces, below),
    }
    arrays |= {f"regions.{name}": rows for name, rows in regions.items() if len(rows)}
    meta = {
        "parents": parents,
        "joint_names": roles,
        "expression_names": tuple(str(model["expression_names"][row]) for row in order),
        "material_names": tuple(components),
        "name": "GNM",
        "version": str(model["version"]),
    }
    return {name: storage_type(array) for name, array in arrays.items()}, meta


def _files(source: epath.Path) -> tuple[epath.Path, epath.Path]:
    """The model and its landmarks."""
    places = [source] if source.suffix == ".npz" else [source / _IN_CLONE, source]
    models = [place if place.suffix == ".npz" else place / _MODEL for place in places]
    model = next((path for path in models if path.exists()), None)
    if model is None:
        raise MissingFile(f"{models[-1]} does not exist: fetch it from github.com/google/GNM")
    data = model.parent.parent.parent  # of a clone; a short relative path has no third parent
    beside = [model.parent / _LANDMARKS, data / "landmarks" / _LANDMARKS]
    landmarks = next((path for path in beside if path.exists()), None)
    if landmarks is None:
        raise MissingFile(f"{beside[0]} does not exist: fetch it from github.com/google/GNM")
    return model, landmarks


def _read(path: epath.Path) -> dict[str, np.ndarray]:
    """The arrays that a head needs, in float64, int64 or as texts."""
    found, model = read_npz(path, what="GNM's head"), {}
    sizes: dict[str, int] = {}
    for name, shape in _ARRAYS.items():
        if name not in found:
            raise UserError(f"{path} lacks {name!r}, which GNM's head has")
        array = found[name]
        text = name.endswith("names") or name == "version"
        wanted = "U" if text else "iuf"
        expected = tuple(
            {"9J": 9 * sizes.get("J", 0), "3V": 3 * sizes.get("V", 0)}.get(side)
            or (side if isinstance(side, int) else sizes.setdefault(side, length))
            for side, length in zip(shape, array.shape, strict=False)
        )
        fits = len(shape) == array.ndim and array.shape == expected and array.size
        if not fits or array.dtype.kind not in wanted:
            raise UserError(
                f"{path}: {name!r} has shape {array.shape} of {array.dtype}, expected {shape}"
            )
        if not text and not np.isfinite(array).all():
            raise UserError(f"{path}: {name!r} holds values that are not finite")
        model[name] = array if text else array.astype(np.float64)
    for name, count in (("triangles", sizes["V"]), ("joint_parent_indices", sizes["J"])):
        whole = model[name].astype(np.int64)
        least = 0 if name == "triangles" else -1
        if (whole != model[name]).any() or whole.min() < least or whole.max() >= count:
            raise UserError(f"{path}: {name!r} refers to numbers outside 0..{count - 1}")
        model[name] = whole
    return model


def _landmarks(path: epath.Path, model: dict[str, np.ndarray]) -> Float[np.ndarray, "68 3"]:
    """The 68 landmarks: rows of three vertices, each followed by its weight.

    The published file has some points of the jaw in another order; they come back along the jaw.
    """
    try:
        rows = np.array([[float(word) for word in line.split()] for line in _filled(path)])
        vertices, weights = rows[:, ::2].astype(np.int64), rows[:, 1::2]
    except (ValueError, IndexError, OverflowError):
        raise UserError(f"{path} is no table of numbers") from None
    template = model["template_vertex_positions"]
    sums = rows.shape == (68, 6) and np.allclose(weights.sum(axis=1), 1, atol=1e-3)
    if not sums or vertices.min() < 0 or vertices.max() >= len(template):
        raise UserError(f"{path} is not {_LANDMARKS}: 68 rows of three vertices and their weights")
    points = (template[vertices] * weights[..., None]).sum(axis=1)
    nasion, tip, chin = points[27], points[30], points[8]
    left, right = points[42:48].mean(0), points[36:42].mean(0)
    if not (left[0] > right[0] and nasion[1] > chin[1] and tip[2] > left[2]):
        raise UserError(f"{path}: these points are no face that looks along z with y up")
    jaw = points[CONTOUR_68]
    around = np.arctan2(jaw[:, 0] - nasion[0], nasion[1] - jaw[:, 1])
    points[CONTOUR_68] = jaw[np.argsort(around)]
    return points


def _filled(path: epath.Path) -> list[str]:
    return [line for line in read_text(path).splitlines() if line.strip()]


def _tree(model: dict[str, np.ndarray], source: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Roles and parents of the joints: root, neck and the eyes on it."""
    names = tuple(map(str, model["joint_names"]))
    parents = (-1, *model["joint_parent_indices"][1:].tolist())
    if names[2:] != _EYES or parents != (-1, 0, 1, 1):
        raise UserError(
            f"{source}: joints {quoted(names)} with parents {quoted(parents)}: expected neck, "
            "head and the eyes of GNM's head"
        )
    return ("root", "neck", *_EYES), parents


def _group(model: dict[str, np.ndarray], name: str) -> Bool[np.ndarray, " V"]:
    """Membership of a vertex group; of one that the model lacks nobody is a member."""
    names = list(map(str, model["vertex_group_names"]))
    if name not in names:
        return np.zeros(model["vertex_groups"].shape[1], bool)
    return model["vertex_groups"][names.index(name)] > 0.5


def _face_parts(model: dict[str, np.ndarray], source: str) -> Int[np.ndarray, " T"]:
    for name in ("skin", *_EYES):
        if not _group(model, name).any():
            raise UserError(f"{source} has no vertex group {name!r}, which GNM's head has")
    parts = np.full(len(model["triangles"]), PARTS.index("skin"))
    for part, names in _GROUPS:
        for name in names:
            inside = _group(model, name)[model["triangles"]].all(axis=1)
            parts[inside] = PARTS.index(part)
    return parts


def _on_skin(
    landmarks: Float[np.ndarray, "68 3"],
    model: dict[str, np.ndarray],
    parts: Int[np.ndarray, " T"],
    source: str,
) -> Points:
    """Landmarks as points of the skin's triangles."""
    skin = np.flatnonzero(parts == PARTS.index("skin"))
    faces = model["triangles"][skin]
    found = closest_points(model["template_vertex_positions"], faces, landmarks)
    if found.distance.max() > _FAR:
        row = int(found.distance.argmax())
        raise UserError(
            f"{source}: landmark {row} lies {1000 * found.distance[row]:.1f} mm off the skin"
        )
    return Points(skin[found.face], found.barycentric)


def _texture(
    corners: Float[np.ndarray, "T 3 2"],
    materials: Int[np.ndarray, " T"],
    names: tuple[str, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates in one square; in the model each component has the whole of one."""
    uv, rows = np.unique(corners.reshape(-1, 2), axis=0, return_inverse=True)
    none = np.zeros((0, 4), np.int64)
    mesh = PolygonMesh(np.zeros((0, 3)), none, uv, none, none[:, 0], names, b"")
    return atlas(mesh, materials, rows.reshape(-1, 3))


def _regressor(model: dict[str, np.ndarray], source: str) -> Float[np.ndarray, "J V"]:
    """Rows that give the joints of every identity, whatever the expression.

    GNM moves joints by a basis of their own. The rows closest to the file's regressor that agree
    with it for each identity component, and that no expression component moves.
    """
    values = [model[n] for n in ("template_vertex_positions", "vertex_identity_basis")]
    values = np.concatenate([values[0][None], values[1], model["expression_basis"]])
    values = np.moveaxis(values, -1, 1).reshape(-1, values.shape[1])  # [(1 + I + E) 3, V]
    conditions = np.concatenate([np.ones((1, values.shape[1])), values])
    wanted = np.concatenate(
        [model["template_joint_positions"][None], model["joint_identity_basis"]]
    )
    wanted = np.moveaxis(wanted, -1, 1).reshape(-1, wanted.shape[1])
    still = np.zeros((3 * len(model["expression_basis"]), wanted.shape[1]))
    wanted = np.concatenate([np.ones((1, wanted.shape[1])), wanted, still])
    # Components differ in size by orders of magnitude; each condition counts as much as any other.
    length = np.maximum(np.linalg.norm(conditions, axis=1, keepdims=True), 1e-12)
    unit, goal = conditions / length, wanted / length
    rows = model["joint_regressor"].T
    size, basis = np.linalg.eigh(unit @ unit.T)
    known = size > _RANK * size[-1]
    size, basis = size[known], basis[:, known]
    for _ in range(3):  # refined: the conditions' product has half of their digits
        rows = rows + unit.T @ (basis @ ((basis.T @ (goal - unit @ rows)) / size[:, None]))
    if np.abs(wanted - conditions @ rows).max() > _SAME:
        raise UserError(f"{source}: its joints cannot be regressed from its vertices")
    return rows.T


def _priors(n_shape: int, n_expression: int) -> dict[str, np.ndarray]:
    """Standard normal components; jaw and lids, which have no joint and no shape, held at 0."""
    still = {"jaw": np.zeros(3), "eyelid": np.zeros(2)}
    told = {"shape": normal(n_shape), "expression": normal(n_expression)}
    told |= {name: between(zero, zero, np.ones(len(zero))) for name, zero in still.items()}
    return {
        f"priors.{name}.{key}": value
        for name, prior in told.items()
        for key, value in vars(prior).items()
    }
