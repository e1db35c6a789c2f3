"""Meshes as files that other programs read: Wavefront OBJ and Stanford PLY."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def obj(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    uv: Float[np.ndarray, "U 2"],
    uv_faces: Int[np.ndarray, "F 3"],
    comment: str,
) -> str:
    """An OBJ with texture coordinates; indices count from 1, as the format wants.

    Args:
      vertices: [V, 3] metres.
      faces: [F, 3].
      uv: [U, 2] in [0, 1], v up.
      uv_faces: [F, 3] rows of `uv` for the corners of each face.
      comment: what the mesh is, one line.
    """
    lines = [f"# {_one_line(comment)}"]
    lines += [f"v {x:.7f} {y:.7f} {z:.7f}" for x, y, z in np.asarray(vertices).tolist()]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in np.asarray(uv).tolist()]
    corners = np.stack([np.asarray(faces), np.asarray(uv_faces)], axis=-1) + 1
    lines += [f"f {a}/{ta} {b}/{tb} {c}/{tc}" for (a, ta), (b, tb), (c, tc) in corners.tolist()]
    return "\n".join(lines) + "\n"


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


def _one_line(text: str) -> str:
    return " ".join(text.split())
