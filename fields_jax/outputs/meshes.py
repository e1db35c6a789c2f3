"""Meshes as files that other programs read: Wavefront OBJ with MTL, and Stanford PLY."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

_MATERIAL = "head"


def obj(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    uv: Float[np.ndarray, "U 2"],
    uv_faces: Int[np.ndarray, "F 3"],
    comment: str,
    library: str = "",
) -> str:
    """An OBJ with texture coordinates; indices count from 1, as the format wants.

    Args:
      vertices: [V, 3] metres.
      faces: [F, 3].
      uv: [U, 2] in [0, 1], v up.
      uv_faces: [F, 3] rows of `uv` for the corners of each face.
      comment: what the mesh is, one line.
      library: name of the file of `mtl` beside it; "" for a mesh without a material.
    """
    material = f"mtllib {library}\nusemtl {_MATERIAL}\n" if library else ""
    corners = np.stack([faces, uv_faces], axis=-1) + 1
    return "".join(
        [
            f"# {_one_line(comment)}\n",
            material,
            _rows("v %.7f %.7f %.7f\n", vertices),
            _rows("vt %.6f %.6f\n", uv),
            _rows("f %d/%d %d/%d %d/%d\n", corners),
        ]
    )


def mtl(texture: str, comment: str) -> str:
    """A material library for `obj`: a rough surface with the colours of a picture.

    Args:
      texture: file name of the picture, beside the library.
      comment: what the mesh is, one line.
    """
    return (
        f"# {_one_line(comment)}\n"
        f"newmtl {_MATERIAL}\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {texture}\n"
    )


def ply(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], comment: str) -> bytes:
    """A binary PLY.

    Args:
      vertices: [V, 3] metres.
      faces: [F, 3].
      comment: what the mesh is, one line.
    """
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment {_one_line(comment)}",
        f"element vertex {len(vertices)}",
        *(f"property float {axis}" for axis in "xyz"),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    rows = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    rows["count"], rows["corners"] = 3, faces
    points = np.asarray(vertices).astype("<f4")
    text = "\n".join(header).encode("ascii", "replace")
    return text + points.tobytes() + rows.tobytes()


def _rows(line: str, values: np.ndarray) -> str:
    """One line per row; a single flat list keeps Python's garbage collector out of it."""
    values = np.asarray(values)
    return line * len(values) % tuple(values.ravel().tolist())


def _one_line(text: str) -> str:
    return " ".join(text.split())
