"""The files of one face: WRITERS lists them, each with the function that makes its content."""

from __future__ import annotations

import json
from typing import Protocol

import numpy as np
from etils import epath

from fields_jax.files import npz_bytes, write_whole
from fields_jax.outputs import meshes
from fields_jax.outputs.bundle import CONVENTIONS, PICTURE, Bundle
from fields_jax.outputs.confidence import in_words
from fields_jax.outputs.glb import glb
from fields_jax.outputs.overlays import paste_face
from fields_jax.photos.crops import to_photograph
from fields_jax.render.draw import grid, png_bytes, to_uint8


class OutputWriter(Protocol):
    """Makes the content of one file from what is known of a face.

    It reads the bundle, changes nothing and writes nothing itself. Text is stored as UTF-8; where
    it returns None, as for a face without a reading of emotion, the file is left out.
    """

    def __call__(self, bundle: Bundle) -> bytes | str | None: ...


def write_bundle(folder: epath.PathLike, bundle: Bundle) -> list[str]:
    """Writes the folder of one face; each file appears whole or not at all.

    A file that the face does not have is removed, for one of an earlier run would tell of another.

    Args:
      folder: made where it is absent.
      bundle: what is known of the face.

    Returns:
      Names of the files written, in the order of WRITERS.

    Raises:
      OSError: a file cannot be written; those before it are there.
    """
    written = []
    for name, write in WRITERS.items():
        content, file = write(bundle), epath.Path(folder) / name
        if content is None:
            file.unlink(missing_ok=True)
        else:
            write_whole(file, content)
            written.append(name)
    return written


def params(bundle: Bundle) -> bytes:
    """Every number about the face, and the CONVENTIONS it follows; see `load_params`."""
    face, result, matrix, size = bundle.face, bundle.result, bundle.matrix, bundle.size
    arrays = result.coefficients | {
        "crop_matrix": matrix,
        "crop_size": np.int32(size),
        "image_size": np.array(face.image.shape[:2], np.int32),
        "box": face.box,
        "vertices": result.vertices,
        "vertices_image": to_photograph(result.vertices_ndc, matrix, size),
        "landmarks_68": result.landmarks_68,
        "landmarks_68_image": to_photograph(result.landmarks_ndc, matrix, size),
    }
    if face.points is not None:
        arrays["points"] = face.points
    if result.residual is not None:
        arrays["residual"] = np.float32(result.residual)
    if result.refined is not None:
        arrays["refined"] = np.bool_(result.refined)
    if result.residual_before is not None:
        arrays["residual_before"] = np.float32(result.residual_before)
    said = {name: CONVENTIONS[name] for name in (*arrays, "meta")}
    texts = {"meta": json.dumps(bundle.about), "conventions": json.dumps(said)}
    return npz_bytes(arrays | texts)


def obj(bundle: Bundle) -> str:
    """The posed mesh with texture coordinates."""
    head = bundle.head
    faces, uv, uv_faces = (np.asarray(a) for a in (head.faces, head.uv, head.uv_faces))
    library = "" if bundle.texture is None else "mesh.mtl"
    return meshes.obj(bundle.result.vertices, faces, uv, uv_faces, bundle.comment, library)


def mtl(bundle: Bundle) -> str | None:
    """The material of mesh.obj: the texture beside it."""
    return None if bundle.texture is None else meshes.mtl("texture.jpg", bundle.comment)


def texture(bundle: Bundle) -> bytes | None:
    """The photograph as the head's texture; None for a head without texture coordinates."""
    return None if bundle.texture is None else bundle.texture.jpeg


def texture_confidence(bundle: Bundle) -> bytes | None:
    """Where the texture is from: red seen, green from the opposite side, blue filled in."""
    return None if bundle.texture is None else png_bytes(bundle.texture.shares)


def head_glb(bundle: Bundle) -> bytes:
    """The head of the person with texture, joints and morph targets."""
    return glb(bundle, bundle.morphs)


def ply(bundle: Bundle) -> bytes:
    """The posed mesh."""
    return meshes.ply(bundle.result.vertices, np.asarray(bundle.head.faces), bundle.comment)


def overlay(bundle: Bundle) -> bytes:
    """The photograph with the shaded face over it."""
    result = bundle.result
    camera = result.coefficients["camera"]
    pasted = paste_face(
        bundle.face.image, bundle.head, result.vertices, camera, bundle.matrix, bundle.size
    )
    return png_bytes(pasted)


def geometry(bundle: Bundle) -> bytes:
    """The crop and the geometry map of the whole head beside each other."""
    crop, shade = to_uint8(bundle.face.crop(PICTURE)), to_uint8(bundle.result.geometry)
    return png_bytes(grid([crop[None], shade[None]]))


def expression(bundle: Bundle) -> bytes | None:
    """The crop and the synthesiser's picture of another expression; None where it made none."""
    painted = bundle.result.painted
    if painted is None:
        return None
    return png_bytes(grid([bundle.face.crop(len(painted))[None], painted[None]]))


def emotion(bundle: Bundle) -> str | None:
    """The emotion as the network reads it; None without a network."""
    if bundle.result.emotion is None:
        return None
    return json.dumps(bundle.result.emotion, indent=1) + "\n"


def confidence(bundle: Bundle) -> str | None:
    """How far the reading is believed, and what speaks for and against it; None if not asked."""
    result = bundle.result
    if result.verdict is None:
        return None
    return json.dumps(in_words(result.verdict, result.evidence), indent=1) + "\n"


# By file name, in the order they are written; photos/names.py reserves the names.
WRITERS: dict[str, OutputWriter] = {
    "params.npz": params,
    "mesh.obj": obj,
    "mesh.mtl": mtl,
    "mesh.ply": ply,
    "texture.jpg": texture,
    "texture_confidence.png": texture_confidence,
    "head.glb": head_glb,
    "overlay.png": overlay,
    "geometry.png": geometry,
    "expression.png": expression,
    "emotion.json": emotion,
    "confidence.json": confidence,
}
