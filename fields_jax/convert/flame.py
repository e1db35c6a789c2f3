"""FLAME's own files to a head of ours: the model's pickle, then what is published around it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from etils import epath

from fields_jax.convert.pickles import FLAME, Chumpy, Sparse, read_pickle
from fields_jax.convert.torch_files import NAMES as TORCH
from fields_jax.errors import UserError
from fields_jax.flame.io import read_arrays, write_arrays

VERTICES, FACES, SHAPES, EXPRESSIONS = 5023, 9976, 300, 100
_PARENTS = (-1, 0, 1, 1, 1)
# What the pickle must hold; other entries (J, bs_style, bs_type) are not used.
_MODEL = {
    "v_template": (VERTICES, 3),
    "shapedirs": (VERTICES, 3, SHAPES + EXPRESSIONS),
    "posedirs": (VERTICES, 3, 36),
    "J_regressor": (5, VERTICES),
    "kintree_table": (2, 5),
    "weights": (VERTICES, 5),
    "f": (FACES, 3),
}
_STATIC_51, _CONTOUR, _STATIC_68 = (
    ("static_lmk_faces_idx", "static_lmk_bary_coords", (51,)),
    ("dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords", (79, 17)),
    ("full_lmk_faces_idx", "full_lmk_bary_coords", (1, 68)),
)
_VERSIONS = {"2023_open": "2023 Open", "2023": "2023", "2020": "2020", "generic_model": "2020"}


def convert_model(source: str, target: str, version: str = "") -> str:
    """Writes the model part of a head file from FLAME's pickle.

    Args:
      source: generic_model.pkl (FLAME 2020), flame2023.pkl or flame2023_Open.pkl.
      target: the .npz to write.
      version: of FLAME; empty: told by the name of the file.

    Returns:
      The version.

    Raises:
      FileNotFoundError: no such file.
      UserError: the file is not FLAME's, or is damaged; `target` is then untouched.
    """
    content = _read(source)
    found = read_pickle(io.BytesIO(content), source, FLAME)
    if not isinstance(found, dict):
        raise UserError(f"{source} holds no FLAME model: its pickle is no dict")
    model = {name: _array(found, name, shape, source) for name, shape in _MODEL.items()}
    parents = model["kintree_table"][0].astype(np.int64)
    parents = tuple(int(p) for p in np.where(parents == 2**32 - 1, -1, parents))
    if parents != _PARENTS:
        raise UserError(f"{source}: joint parents {parents} are not FLAME's {_PARENTS}")
    if not np.allclose(model["weights"].sum(1), 1, atol=1e-3) or model["weights"].min() < -1e-6:
        raise UserError(f"{source}: rows of 'weights' are no skinning weights, sums of 1")
    if model["f"].min() < 0 or model["f"].max() >= VERTICES:
        raise UserError(f"{source}: 'f' refers to vertices outside 0..{VERTICES - 1}")
    version = version or _version(source)
    arrays = {
        "template": model["v_template"],
        "shape_basis": model["shapedirs"][..., :SHAPES],
        "expression_basis": model["shapedirs"][..., SHAPES:],
        "pose_basis": model["posedirs"],
        "joint_regressor": model["J_regressor"],
        "skin_weights": model["weights"],
    }
    meta = dict(
        name="FLAME",
        version=version,
        sha256=hashlib.sha256(content).hexdigest(),
        parents=_PARENTS,
        expression_names=(),
    )
    arrays = {key: value.astype(np.float32) for key, value in arrays.items()}
    write_arrays(target, arrays | {"faces": model["f"].astype(np.int32)}, meta)
    return version


def convert_embeddings(folder: str, target: str) -> list[str]:
    """Adds landmark tables, eyelids, masks and texture coordinates to a converted head.

    Args:
      folder: with landmark_embedding.npy, mediapipe_landmark_embedding.npz,
        203_landmark_embedding.npz (or ..._embeding_new.npz), l_eyelid.npy, r_eyelid.npy,
        FLAME_masks.pkl and head_template.obj.
      target: the .npz `convert_model` wrote.

    Returns:
      The files that were read.

    Raises:
      FileNotFoundError: a file is absent, by name.
      UserError: a file is damaged or does not fit the head; `target` is then untouched.
    """
    arrays, meta = read_arrays(target)
    place, files = epath.Path(folder), []

    def take(read: Callable[[str], dict[str, np.ndarray]], *names: str) -> None:
        present = [place / name for name in names if (place / name).exists()]
        if not present:
            raise FileNotFoundError(f"{folder} has no {' or '.join(names)}")
        files.append(str(present[0]))
        arrays.update(read(files[-1]))

    take(_landmarks_68, "landmark_embedding.npy")
    take(_landmarks_105, "mediapipe_landmark_embedding.npz")
    spellings = [f"203_landmark_embed{d}ing{new}.npz" for d in ("d", "") for new in ("", "_new")]
    take(_landmarks_203, *spellings)
    left, right = (_npy(str(place / f"{side}_eyelid.npy"), (VERTICES, 3)) for side in "lr")
    files += [str(place / f"{side}_eyelid.npy") for side in "lr"]
    arrays["eyelid_basis"] = np.stack([left, right]).astype(np.float32)
    take(lambda path: _masks(path, arrays["faces"]), "FLAME_masks.pkl")
    take(lambda path: _texture(path, arrays["faces"]), "head_template.obj")
    write_arrays(target, arrays, meta)
    return files


def _read(path: str) -> bytes:
    file = epath.Path(path)
    if not file.exists():
        raise FileNotFoundError(f"{path} does not exist")
    return file.read_bytes()


def _version(source: str) -> str:
    name = epath.Path(source).name.lower()
    for part, version in _VERSIONS.items():
        if part in name:
            return version
    raise UserError(
        f"the name of {source} does not tell FLAME's version: name it by --flame_version=2020, "
        '2023 or "2023 Open"'
    )


def _array(found: dict, name: str, shape: tuple[int, ...], source: str) -> np.ndarray:
    """An entry as a plain array of the right shape, finite."""
    if name not in found:
        raise UserError(f"{source} lacks {name!r}")
    value = found[name]
    try:
        value = value.x if isinstance(value, Chumpy) else value
        value = value.dense() if isinstance(value, Sparse) else value
    except (AttributeError, ValueError, IndexError, TypeError) as error:
        raise UserError(f"{source}: {name!r} is damaged ({error})") from error
    numeric = isinstance(value, np.ndarray) and value.dtype.kind in "iuf"
    if not numeric or value.shape != shape:
        described = f"shape {value.shape}" if numeric else f"type {type(value).__name__}"
        raise UserError(f"{source}: {name!r} has {described}, expected an array of shape {shape}")
    if not np.isfinite(value).all():
        raise UserError(f"{source}: {name!r} holds values that are not finite")
    return value


def _npz(path: str) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(_read(path)), allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # zip, header and array can each be damaged in ways of their own
        raise UserError(f"{path} is damaged or no .npz ({error}); fetch it anew") from error


def _npy(path: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        value = np.load(io.BytesIO(_read(path)), allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # as above
        raise UserError(f"{path} is damaged or no .npy ({error}); fetch it anew") from error
    return _array({"array": value}, "array", shape, path)


def _embedding(
    name: str, found: dict, triangle: str, weight: str, shape: tuple[int, ...], source: str
) -> dict[str, np.ndarray]:
    index = _array(found, triangle, shape, source)
    barycentric = _array(found, weight, (*shape, 3), source)
    if index.min() < 0 or index.max() >= FACES:
        raise UserError(f"{source}: {triangle!r} refers to triangles outside 0..{FACES - 1}")
    if not np.allclose(barycentric.sum(-1), 1, atol=1e-4):
        raise UserError(f"{source}: the rows of {weight!r} do not sum to 1")
    return {
        f"{name}.face_index": index.astype(np.int32),
        f"{name}.barycentric": barycentric.astype(np.float32),
    }


def _landmarks_68(path: str) -> dict[str, np.ndarray]:
    """A pickled dict inside an .npy, two of its arrays torch tensors."""
    stream = io.BytesIO(_read(path))
    try:
        version = np.lib.format.read_magic(stream)
        header = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = header(stream)
    except (ValueError, SyntaxError, EOFError) as error:
        raise UserError(f"{path} is damaged or no .npy ({error}); fetch it anew") from error
    if shape or not dtype.hasobject:
        raise UserError(f"{path} is not FLAME's landmark_embedding.npy: it holds no pickled dict")
    found = read_pickle(stream, path, TORCH)
    found = found.item() if isinstance(found, np.ndarray) and found.size == 1 else found
    if not isinstance(found, dict):
        raise UserError(f"{path} is not FLAME's landmark_embedding.npy: it holds no pickled dict")
    arrays = _embedding("static_51", found, *_STATIC_51, path)
    arrays |= _embedding("contour", found, *_CONTOUR, path)
    full = _embedding("static_68", found, *_STATIC_68, path)
    return arrays | {key: value[0] for key, value in full.items()}


def _landmarks_105(path: str) -> dict[str, np.ndarray]:
    found = _npz(path)
    arrays = _embedding("landmarks_105", found, "lmk_face_idx", "lmk_b_coords", (105,), path)
    index = _array(found, "landmark_indices", (105,), path)
    return arrays | {"mediapipe_index": index.astype(np.int32)}


def _landmarks_203(path: str) -> dict[str, np.ndarray]:
    found = _npz(path)
    arrays = _embedding("landmarks_203", found, "lmk_face_idx", "lmk_b_coords", (203,), path)
    for side in ("front", "left", "right"):
        index = found.get(f"landmark_{side}_indices")
        if index is None or index.ndim != 1 or index.min() < 0 or index.max() >= 203:
            raise UserError(f"{path}: 'landmark_{side}_indices' must list points out of 0..202")
        arrays[f"{side}_203"] = np.isin(np.arange(203), index)
    return arrays


def _masks(path: str, faces: np.ndarray) -> dict[str, np.ndarray]:
    found: Any = read_pickle(io.BytesIO(_read(path)), path, FLAME)
    if not isinstance(found, dict) or "face" not in found:
        raise UserError(f"{path} is not FLAME_masks.pkl: it has no region 'face'")
    regions = {}
    for name, index in found.items():
        index = np.asarray(index)
        if index.dtype.kind not in "iu" or index.ndim != 1 or index.max(initial=0) >= VERTICES:
            raise UserError(f"{path}: region {name!r} is no list of vertices")
        regions[name] = np.unique(index).astype(np.int32)
    inside = np.isin(faces, regions["face"]).all(axis=1)
    return {f"regions.{name}": index for name, index in regions.items()} | {
        "face_vertices": regions["face"],
        "face_triangles": np.searchsorted(regions["face"], faces[inside]).astype(np.int32),
    }


def _texture(path: str, faces: np.ndarray) -> dict[str, np.ndarray]:
    """Texture coordinates of the template's .obj, whose triangles must be the model's."""
    uv, corners = [], []
    for number, line in enumerate(_read(path).decode("utf-8", "replace").splitlines(), start=1):
        kind, *words = line.split() or [""]
        try:
            if kind == "vt":
                uv.append([float(word) for word in words[:2]])
            elif kind == "f":
                corners.append([[int(n) for n in word.split("/")[:2]] for word in words])
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}") from error
    try:
        uv, corners = np.array(uv, np.float32), np.array(corners, np.int32) - 1
    except ValueError as error:
        raise UserError(f"{path}: faces that are no triangles with texture ({error})") from error
    if corners.shape != (FACES, 3, 2) or not np.array_equal(corners[..., 0], faces):
        raise UserError(f"{path}: its triangles are not those of the model")
    if uv.ndim != 2 or corners[..., 1].min() < 0 or corners[..., 1].max() >= len(uv):
        raise UserError(f"{path}: texture indices outside its {len(uv)} coordinates")
    return {"uv": uv, "uv_faces": corners[..., 1]}
