"""Distances from a scan to a mesh by region of the face, each region aligned by itself.

After REALY (Chai et al. 2022, "REALY: Rethinking the evaluation of 3D face reconstruction"): one
alignment of the whole face lets a wrong forehead spoil the score of the nose, so nose, mouth,
forehead and cheek are each aligned again before they are measured. Which point of a scan belongs to
a region is REALY's by masks drawn on its scans; here it is told by the head's masks, through the
nearest point of the mesh after the common alignment. What else differs, docs/evaluation.md says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from fields_jax.errors import UserError
from fields_jax.evaluation.scan_distance import (
    Alignment,
    distance_scores,
    refined_alignment,
    surface_distances,
)
from fields_jax.geometry.closest_points import closest_points
from fields_jax.geometry.mesh_files import Surface
from fields_jax.types import FlameModel

REGIONS = ("nose", "mouth", "forehead", "cheek")
NONE = -1  # of a vertex outside the face
_NEEDED = ("nose", "lips", "eye_region")  # masks of a head
_MOUTH = 0.015  # metres around the lips that belong to the mouth
_FEWEST = 20  # points of a region that can be aligned


def vertex_regions(head: FlameModel) -> Int[np.ndarray, " V"]:
    """For each vertex the row of `REGIONS` that it belongs to, or `NONE`.

    The nose is the head's mask of that name. The mouth is what lies within 15 mm of the lips, the
    forehead the region of the eyes and all above its middle, both without the nose; the cheek is
    the rest of the face.

    Raises:
      UserError: the head lacks a mask.
    """
    missing = [name for name in _NEEDED if not len(head.regions.get(name, ()))]
    if missing:
        raise UserError(
            f"the head {head.name} {head.version} has no mask {missing[0]!r}, which tells the "
            "regions of a face: complete it (`python -m fields_jax.convert --help`)"
        )
    template = np.asarray(head.template, np.float64)
    found = np.full(len(template), NONE)
    face = np.asarray(head.face_vertices)
    found[face] = REGIONS.index("cheek")
    nose, lips, eyes = (np.asarray(head.regions[name]) for name in _NEEDED)
    from_lips = np.linalg.norm(template[face, None] - template[None, lips], axis=-1).min(axis=1)
    found[face[from_lips <= _MOUTH]] = REGIONS.index("mouth")
    above = face[template[face, 1] > template[eyes, 1].mean()]
    found[np.union1d(above, np.intersect1d(eyes, face))] = REGIONS.index("forehead")
    found[np.intersect1d(nose, face)] = REGIONS.index("nose")
    return found


def region_scores(
    points: Float[np.ndarray, "Q 3"],
    mesh: Surface,
    start: Alignment,
    regions: Int[np.ndarray, " V"],
    *,
    scaled: bool,
) -> dict[str, Any]:
    """Distances of each region of a scan, ready for JSON.

    Args:
      points: [Q, 3] of the scan, metres.
      mesh: in its own frame.
      start: the alignment of the whole face.
      regions: of the mesh's vertices, as `vertex_regions` gives them.
      scaled: whether the size of a region may change.

    Returns:
      By name `distance_scores` in mm, with `common_mean` before the region was aligned by itself;
      None of a region with too few points. `mean` is that of the four, None if one is missing.
    """
    found = closest_points(mesh.vertices, mesh.faces, start.undo(points))
    corner = np.argmax(found.barycentric, axis=1)
    nearest = mesh.faces[found.face][np.arange(len(points)), corner]
    scores: dict[str, Any] = {}
    for row, name in enumerate(REGIONS):
        own = points[regions[nearest] == row]
        if len(own) < _FEWEST:
            scores[name] = None
            continue
        before = 1e3 * surface_distances(own, mesh, start)
        motion = refined_alignment(own, mesh, start, scaled=scaled)
        after = 1e3 * surface_distances(own, mesh, motion)
        scores[name] = distance_scores(after) | {"common_mean": float(before.mean())}
    known = [each["mean"] for each in scores.values() if each]
    return scores | {"mean": float(np.mean(known)) if len(known) == len(REGIONS) else None}
