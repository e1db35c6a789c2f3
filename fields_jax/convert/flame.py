"""FLAME's own files to a head of ours: the model's pickle, then the files published beside it."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from etils import epath

from fields_jax.convert.descriptions import Damaged, entries
from fields_jax.convert.pickles import read_pickle
from fields_jax.convert.stored_arrays import CHUMPY, FLAME, sole_object
from fields_jax.convert.torch_files import NAMES as TORCH
from fields_jax.convert.torch_files import array_with_tensors, other_format, zip_without
from fields_jax.disk import writing
from fields_jax.errors import MissingFile, UserError, quoted
from fields_jax.files import damage_named, npy_header, read_bytes, read_npy, read_npz, read_text
from fields_jax.flame.io import LARGEST, check_arrays, read_arrays, write_arrays
from fields_jax.landmark_schemes import N_203, N_MEDIAPIPE

VERTICES, FACES, SHAPES, EXPRESSIONS = 5023, 9976, 300, 100
_PARENTS = (-1, 0, 1, 1, 1)
_STATIC_51, _CONTOUR, _STATIC_68 = (
    ("static_lmk_faces_idx", "static_lmk_bary_coords", (51,)),
    ("dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords", (79, 17)),
    ("full_lmk_faces_idx", "full_lmk_bary_coords", (1, 68)),
)
_REGION = re.compile(r"[\w. -]{1,64}")
_VERSIONS = {"2023_open": "2023 Open", "2023": "2023", "2020": "2020", "generic_model": "2020"}


def convert_model(source: str, target: str, version: str = "") -> str:
    """Writes the model part of a head file from FLAME's pickle.

    Args:
      source: generic_model.pkl (FLAME 2020), flame2023.pkl or flame2023_Open.pkl.
      target: the .npz to write.
      version: of FLAME; empty: taken from the name of the file.

    Returns:
      The version.

    Raises:
      MissingFile: no such file.
      UserError: the file is not FLAME's, or is damaged; `target` is then untouched.
    """
    content = read_bytes(source)
    if other := other_format(content, source):
        raise UserError(other)
    if content[:2] == b"PK":
        with damage_named(f"{source} is a damaged zip file"):
            members = zipfile.ZipFile(io.BytesIO(content)).namelist()
        raise UserError(zip_without(source, members, "a FLAME model"))
    version = version or _version(source)
    meta = dict(
        name="FLAME",
        version=version,
        sha256=hashlib.sha256(content).hexdigest(),
        parents=_PARENTS,
        expression_names=(),
    )
    arrays = _model_arrays(content, source)
    del content  # as large as all the rest
    with writing(target, instead="another target"):
        write_arrays(target, arrays, meta)
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
      MissingFile: a file is absent, by name.
      UserError: a file is damaged or does not fit the head; `target` is then untouched.
    """
    arrays, meta = read_arrays(target)
    place, files = epath.Path(folder), []

    def take(read: Callable[[str], dict[str, np.ndarray]], *names: str) -> None:
        present = [place / name for name in names if (place / name).exists()]
        if not present:
            raise MissingFile(f"{folder} has no {' or '.join(names)}")
        files.append(str(present[0]))
        arrays.update(read(files[-1]))

    take(_landmarks_68, "landmark_embedding.npy")
    take(_landmarks_105, "mediapipe_landmark_embedding.npz")
    spellings = [f"203_landmark_embed{d}ing{new}.npz" for d in ("d", "") for new in ("", "_new")]
    take(_landmarks_203, *spellings)
    eyelids = [str(place / f"{side}_eyelid.npy") for side in "lr"]
    lids = [_reals({"array": read_npy(file)}, "array", (VERTICES, 3), file) for file in eyelids]
    arrays["eyelid_basis"] = np.stack(lids)
    files += eyelids
    take(lambda path: _masks(path, arrays["faces"]), "FLAME_masks.pkl")
    take(lambda path: _texture(path, arrays["faces"]), "head_template.obj")
    check_arrays(target, arrays, meta)
    with writing(target, instead="another target"):
        write_arrays(target, arrays, meta)
    return files


def _model_arrays(content: bytes, source: str) -> dict[str, np.ndarray]:
    """The arrays of a head that FLAME's pickle holds."""
    found = _dictionary(content, source, "a FLAME model")
    shapes = {
        "v_template": (VERTICES, 3),
        "shapedirs": (VERTICES, 3, SHAPES + EXPRESSIONS),
        "posedirs": (VERTICES, 3, 36),
        "J_regressor": (5, VERTICES),
        "weights": (VERTICES, 5),
    }
    tree = _indices(found, "kintree_table", (2, 5), source, 2**32)
    parents = tuple(int(p) for p in np.where(tree[0] == 2**32 - 1, -1, tree[0]))
    if parents != _PARENTS:
        raise UserError(f"{source}: joint parents {parents} are not FLAME's {_PARENTS}")
    faces = _indices(found, "f", (FACES, 3), source, VERTICES)
    model = {name: _reals(found, name, shape, source) for name, shape in shapes.items()}
    if not np.allclose(model["weights"].sum(1), 1, atol=1e-3) or model["weights"].min() < -1e-6:
        raise UserError(f"{source}: rows of 'weights' are no skinning weights, sums of 1")
    return {
        "template": model["v_template"],
        "shape_basis": model["shapedirs"][..., :SHAPES],
        "expression_basis": model["shapedirs"][..., SHAPES:],
        "pose_basis": model["posedirs"],
        "joint_regressor": model["J_regressor"],
        "skin_weights": model["weights"],
        "faces": faces.astype(np.int32),
    }


def _dictionary(content: bytes, source: str, what: str, start: int = 0) -> dict[str, Any]:
    """Entries of a pickled dictionary, as descriptions."""
    names = FLAME | TORCH
    found, _ = read_pickle(content, source, names, ignored=CHUMPY, start=start)
    try:
        return entries(sole_object(found))
    except Damaged as error:
        raise UserError(f"{source} holds no {what}: {error}") from error


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
    """An entry as a plain array of numbers of the right shape."""
    if name not in found:
        raise UserError(f"{source} lacks {name!r}")
    value = found[name]
    try:
        stored = value if isinstance(value, np.ndarray) else array_with_tensors(value)
        if stored.dtype.kind not in "iuf" or stored.shape != shape:
            described = f"shape {stored.shape} of {stored.dtype}"
            raise Damaged(f"{described}, expected numbers of shape {shape}")
        return stored if isinstance(stored, np.ndarray) else stored.read()
    except Damaged as error:
        raise UserError(f"{source}: {name!r} has {error}") from error
    except UserError as error:  # of a storage inside it
        raise UserError(f"{source}: {name!r}: {error}") from error


def _reals(found: dict, name: str, shape: tuple[int, ...], source: str) -> np.ndarray:
    """An entry in float32, of a size that a head may have."""
    with np.errstate(over="ignore"):
        array = _array(found, name, shape, source).astype(np.float32)
    if not np.isfinite(array).all():
        raise UserError(f"{source}: {name!r} holds values that are not finite in float32")
    if (largest := np.abs(array).max(initial=0)) > LARGEST:
        raise UserError(f"{source}: {name!r} holds {largest:.3g}, out of range")
    return array


def _indices(found: dict, name: str, shape: tuple[int, ...], source: str, count: int) -> np.ndarray:
    """An entry as whole numbers from 0 to count - 1."""
    array = _array(found, name, shape, source)
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise UserError(f"{source}: {name!r} holds fractions, expected whole numbers")
    if array.size and not 0 <= array.min() <= array.max() < count:
        raise UserError(f"{source}: {name!r} refers to numbers outside 0..{count - 1}")
    return array.astype(np.int64)


def _embedding(
    name: str, found: dict, triangle: str, weight: str, shape: tuple[int, ...], source: str
) -> dict[str, np.ndarray]:
    index = _indices(found, triangle, shape, source, FACES)
    barycentric = _reals(found, weight, (*shape, 3), source)
    if not np.allclose(barycentric.sum(-1), 1, atol=1e-4):
        raise UserError(f"{source}: the rows of {weight!r} do not sum to 1")
    return {
        f"{name}.face_index": index.astype(np.int32),
        f"{name}.barycentric": barycentric,
    }


def _landmarks_68(path: str) -> dict[str, np.ndarray]:
    """A pickled dict inside an .npy, two of its arrays torch tensors."""
    content = read_bytes(path)
    try:
        code, shape, _, start = npy_header(content)
    except ValueError as error:
        raise UserError(f"{path} is damaged or no .npy ({error}); fetch it anew") from error
    if shape or code.strip("|<>=") != "O":
        raise UserError(f"{path} is not FLAME's landmark_embedding.npy: it holds no pickled dict")
    found = _dictionary(content, path, "pickled dict of landmarks", start)
    arrays = _embedding("static_51", found, *_STATIC_51, path)
    arrays |= _embedding("contour", found, *_CONTOUR, path)
    full = _embedding("static_68", found, *_STATIC_68, path)
    return arrays | {key: value[0] for key, value in full.items()}


def _landmarks_105(path: str) -> dict[str, np.ndarray]:
    found = read_npz(path)
    arrays = _embedding("landmarks_105", found, "lmk_face_idx", "lmk_b_coords", (105,), path)
    index = _indices(found, "landmark_indices", (105,), path, N_MEDIAPIPE)
    return arrays | {"mediapipe_index": index.astype(np.int32)}


def _landmarks_203(path: str) -> dict[str, np.ndarray]:
    found = read_npz(path)
    arrays = _embedding("landmarks_203", found, "lmk_face_idx", "lmk_b_coords", (203,), path)
    for side in ("front", "left", "right"):
        index = _list(found, f"landmark_{side}_indices", path, N_203)
        arrays[f"{side}_203"] = np.isin(np.arange(N_203), index)
    return arrays


def _list(found: dict, name: str, source: str, count: int) -> np.ndarray:
    """An entry that lists some of the numbers from 0 to count - 1."""
    value = found.get(name)
    size = np.shape(value) if isinstance(value, np.ndarray) else _shape(value)
    if len(size) != 1 or not 0 < size[0] <= count:
        raise UserError(f"{source}: {quoted(name)} is no list of numbers out of 0..{count - 1}")
    return _indices(found, name, size, source, count)


def _shape(value: Any) -> tuple[int, ...]:
    try:
        return array_with_tensors(value).shape
    except Damaged:
        return ()


def _masks(path: str, faces: np.ndarray) -> dict[str, np.ndarray]:
    found = _dictionary(read_bytes(path), path, "masks of FLAME")
    if "face" not in found:
        raise UserError(f"{path} is not FLAME_masks.pkl: it has no region 'face'")
    if odd := [name for name in found if not _REGION.fullmatch(name)]:
        raise UserError(f"{path}: a region is called {quoted(odd[0])}")
    regions = {
        name: np.unique(_list(found, name, path, VERTICES)).astype(np.int32) for name in found
    }
    inside = np.isin(faces, regions["face"]).all(axis=1)
    if not inside.any():
        raise UserError(f"{path}: region 'face' holds no whole triangle of the model")
    return {f"regions.{name}": index for name, index in regions.items()} | {
        "face_vertices": regions["face"],
        "face_triangles": np.searchsorted(regions["face"], faces[inside]).astype(np.int32),
    }


def _texture(path: str, faces: np.ndarray) -> dict[str, np.ndarray]:
    """Texture coordinates of the template's .obj, whose triangles must be the model's."""
    uv, corners = [], []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        kind, *words = line.split() or [""]
        try:
            if kind == "vt":
                uv.append([float(word) for word in words[:2]])
            elif kind == "f":
                corners.append([[int(n) for n in word.split("/")[:2]] for word in words])
        except ValueError:
            raise UserError(f"{path}, line {number}: {quoted(line)} holds no numbers") from None
    try:
        points = np.array(uv, np.float64).reshape(len(uv), 2)
        whole = np.array(corners, np.int64).reshape(-1, 3, 2) - 1
    except (ValueError, OverflowError):
        raise UserError(f"{path}: faces that are no triangles with texture") from None
    if whole.shape != (FACES, 3, 2) or not np.array_equal(whole[..., 0], faces):
        raise UserError(f"{path}: its triangles are not those of the model")
    points = _reals({"vt": points}, "vt", (len(uv), 2), path)
    corner = _indices({"f": whole[..., 1]}, "f", (FACES, 3), path, len(points))
    return {"uv": points, "uv_faces": corner.astype(np.int32)}
