r"""Distances from the points of a 3D scan to the surface of a mesh, in millimetres.

    python -m fields_jax.scan_to_mesh --mesh=mesh.ply --scan=scan.obj --alignment=rigid \
        --landmarks=mesh.npy,scan.pp
    python -m fields_jax.scan_to_mesh --mesh=A.obj --scan=B.ply --scan_unit=m --json=distances.json

Takes .obj and .ply of any program. The mesh needs triangles, of the scan the points are enough.
--alignment=none compares the two as they lie; rigid turns and shifts the mesh until its surface
lies closest to the points, similarity scales it as well. Both start at --landmarks: a file of the
mesh's and one of the scan's, the same points in the same order (.pp of MeshLab, .npy or .txt with
three numbers a point, each in the unit of its mesh). With --crop only the scan's face counts, as in
the NoW challenge, whose seven landmarks this needs: the four corners of the eyes from the subject's
right to left, the bottom of the nose, the right and the left corner of the mouth.

    python -m fields_jax.scan_to_mesh --mesh=mesh.ply --scan=scan.obj --alignment=similarity \
        --landmarks=mesh.npy,scan.pp --crop --regions --head=HEAD.npz

--regions adds the distances of nose, mouth, forehead and cheek, each aligned again by itself: the
mesh must have the vertices of the head, whose masks tell the regions.
"""

from __future__ import annotations

import json
import sys

import numpy as np
from absl import flags

from fields_jax import __version__
from fields_jax.cli import run
from fields_jax.errors import UserError

_ALIGNMENTS = ("none", "rigid", "similarity")
_UNITS = ("mm", "cm", "m")


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("mesh", "", "mesh .obj or .ply, such as a reconstruction's")
    flags.DEFINE_string("scan", "", "scan .obj or .ply")
    flags.DEFINE_enum("alignment", "none", _ALIGNMENTS, "what of the mesh may change")
    flags.DEFINE_list("landmarks", [], "MESH_FILE,SCAN_FILE of the same points of the face")
    flags.DEFINE_bool("crop", False, "score the scan's face alone, by NoW's seven landmarks")
    flags.DEFINE_enum("mesh_unit", "m", _UNITS, "unit of the mesh; similarity takes any")
    flags.DEFINE_enum("scan_unit", "mm", _UNITS, "unit of the scan")
    flags.DEFINE_bool("regions", False, "score nose, mouth, forehead and cheek by themselves too")
    flags.DEFINE_string("head", "", "with --regions: head .npz of the mesh (default: procedural)")
    flags.DEFINE_string("json", "", "file for scores, alignment and settings")


def main(_: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    for name in ("mesh", "scan"):
        if not chosen[name].value:
            raise UserError(f"--{name} is missing: name an .obj or a .ply")
    report = measure(
        (chosen.mesh, chosen.mesh_unit),
        (chosen.scan, chosen.scan_unit),
        chosen.alignment,
        tuple(chosen.landmarks),
        crop=chosen.crop,
        regions=_regions(chosen) if chosen.regions else None,
    )
    from fields_jax.disk import writing
    from fields_jax.files import write_whole

    if chosen.json:
        with writing(chosen.json, instead="another --json"):
            write_whole(chosen.json, json.dumps(report, indent=1, allow_nan=False) + "\n")
    scores = report["distance_mm"]
    print(
        f"{scores['points']} points of {chosen.scan} to {chosen.mesh}, alignment "
        f"{chosen.alignment}: median {scores['median']:.3f} mm, mean {scores['mean']:.3f}, "
        f"std {scores['std']:.3f}, 95 % below {scores['p95']:.3f}"
    )
    for name, own in report.get("regions_mm", {}).items():
        if isinstance(own, dict):
            print(
                f"{name}: mean {own['mean']:.3f} mm aligned by itself, {own['common_mean']:.3f} "
                f"with the face, {own['points']} points"
            )
        else:
            told = "too few points" if own is None else f"{own:.3f} mm"
            print(f"{'mean of the regions' if name == 'mean' else name}: {told}")


def _regions(chosen: flags.FlagValues) -> np.ndarray:
    """Regions of the head's vertices."""
    from fields_jax.evaluation.scan_regions import vertex_regions
    from fields_jax.flame.io import resolve_head

    if chosen.alignment == "none":
        raise UserError("--regions aligns each by itself: name --alignment=rigid or similarity")
    return vertex_regions(resolve_head(chosen.head))


def measure(
    mesh_file: tuple[str, str],
    scan_file: tuple[str, str],
    alignment: str,
    landmark_files: tuple[str, ...] = (),
    *,
    crop: bool = False,
    regions: np.ndarray | None = None,
) -> dict:
    """Scores of one scan, ready for JSON.

    Args:
      mesh_file: path and unit.
      scan_file: path and unit.
      alignment: of `scan_distance.ALIGNMENTS`.
      landmark_files: of the mesh and of the scan, or none.
      crop: score the face alone.
      regions: of the mesh's vertices (`scan_regions.vertex_regions`); None: no scores of regions.

    Raises:
      UserError: a file cannot be used, a unit is wrong, landmarks are needed and not given, or the
        mesh is not of the regions' head.
    """
    from fields_jax.evaluation import scan_distance, scan_regions
    from fields_jax.evaluation.units import UNITS, in_metres
    from fields_jax.geometry.mesh_files import read_surface

    mesh = read_surface(mesh_file[0])
    scan = read_surface(scan_file[0], points_suffice=True)
    points = in_metres(scan.vertices, scan_file[1], scan_file[0], "--scan_unit")
    factor = UNITS[mesh_file[1]]
    vertices = mesh.vertices * factor
    if alignment != "similarity":
        vertices = in_metres(mesh.vertices, mesh_file[1], mesh_file[0], "--mesh_unit")
    landmarks = _landmarks(landmark_files, alignment, crop, (factor, UNITS[scan_file[1]]))
    if crop:
        points = points[scan_distance.face_region(points, landmarks[1])]
        if not len(points):
            raise UserError(
                f"no point of {scan_file[0]} is near the landmarks of {landmark_files[1]}: they "
                "are of another scan, or in another unit"
            )
    mesh = mesh._replace(vertices=vertices)
    if regions is not None and len(regions) != len(vertices):
        raise UserError(
            f"{mesh_file[0]} has {len(vertices)} vertices and the head {len(regions)}: name the "
            "head of the mesh with --head=HEAD.npz"
        )
    try:
        motion = scan_distance.align(points, mesh, alignment, landmarks)
    except ValueError as error:
        raise UserError(f"{' and '.join(landmark_files)}: {error}") from error
    distance = 1e3 * scan_distance.surface_distances(points, mesh, motion)
    own = {}
    if regions is not None:
        scaled = alignment == "similarity"
        scores = scan_regions.region_scores(points, mesh, motion, regions, scaled=scaled)
        own = {"regions_mm": scores}
    return {
        "version": __version__,
        "mesh": {"file": mesh_file[0], "unit": mesh_file[1]},
        "scan": {"file": scan_file[0], "unit": scan_file[1], "cropped": crop},
        "alignment": {
            "name": alignment,
            "scale": motion.scale,
            "rotation": motion.rotation.tolist(),
            "shift_m": motion.shift.tolist(),
        },
        "distance_mm": scan_distance.distance_scores(distance),
        **own,
    }


def _landmarks(
    files: tuple[str, ...], alignment: str, crop: bool, factors: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray] | None:
    """The landmarks of mesh and scan in metres, None where none are needed."""
    from fields_jax.geometry.point_files import read_points

    if alignment == "none" and not crop:
        return None
    if not files:
        wanted = "--crop" if crop else f"--alignment={alignment}"
        raise UserError(f"{wanted} needs landmarks: name them by --landmarks=MESH_FILE,SCAN_FILE")
    if len(files) != 2:
        raise UserError("--landmarks takes two files: one of the mesh's, one of the scan's points")
    count = 7 if crop else 0
    mesh, scan = (
        factor * read_points(file, count) for file, factor in zip(files, factors, strict=True)
    )
    if len(mesh) != len(scan):
        raise UserError(
            f"{files[0]} holds {len(mesh)} landmarks and {files[1]} {len(scan)}: they must be the "
            "same points"
        )
    return mesh, scan


if __name__ == "__main__":
    define_flags()
    sys.exit(run(main))
