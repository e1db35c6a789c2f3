"""Fits the head to BP4D's scans, for `data_pipelines.prepare bp4d --fits=DIR`.

    python -m data_pipelines.fit_bp4d --source=BP4D --out=FITS
    python -m data_pipelines.fit_bp4d --source=BP4D --out=FITS --head=FLAME.npz --subjects=F001,M003

Takes a release laid out as `data_pipelines.prepare bp4d` takes it, with a mesh in mm beside each
picture (2D+3D/F001/T1/0000.obj) and landmarks: 83 points per frame (0000.bndplus or .bnd beside the
mesh or in 3DFeatures, or 3DFeatures/F001_T1.mat), or else 2DFeatures/F001_T1.mat, lifted to the
mesh by its texture. Mediapipe's points beside a picture (0000.npy) are taken too.

FITS/F001_T1.npz holds expression, jaw, eyelids, shape and place of every frame, which frames passed
the checks and what was measured; FITS/identity/F001.npz the shape of a subject, found once from
frames of all its sequences; FITS/pictures/F001_T1.png scans over fitted faces; FITS/failures.csv
every sequence and frame without a usable fit, with the reason. Sequences with a usable fit are
skipped, so that the same command goes on where it was. At the end a JSON summary is printed.
"""

from __future__ import annotations

import json
import sys

from absl import flags
from etils import epath

from data_pipelines.bp4d import layout
from fields_jax.cli import run
from fields_jax.errors import MissingFile, UserError

_TASKS = 10  # of BP4D+; BP4D has eight
_UNITS = {"mm": 1e-3, "m": 1.0}


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("source", "", "folder of the release")
    flags.DEFINE_string("out", "", "folder of the fits")
    flags.DEFINE_string("head", "", "head .npz (default: the procedural one)")
    flags.DEFINE_list("subjects", [], "only these, such as F001,M003")
    flags.DEFINE_integer("limit", 0, "sequences at most; 0: all", 0)
    flags.DEFINE_integer("sheets", 6, "frames on the picture of a sequence; 0: no pictures", 0)
    flags.DEFINE_enum("unit", "mm", list(_UNITS), "of the meshes")


def main(argv: list[str]) -> int:
    """The command; status 2 if there is no usable fit in the end."""
    chosen = flags.FLAGS
    if argv[1:]:
        raise UserError(f"unexpected argument {argv[1]!r}; see --help")
    if not (chosen.source and chosen.out):
        raise UserError("--source=DIR and --out=DIR are required; see --help")
    source, out = epath.Path(chosen.source), epath.Path(chosen.out)
    if not source.is_dir():
        raise MissingFile(f"--source={source}: no such folder")
    from data_pipelines.bp4d.fit_run import Run
    from fields_jax.flame.io import resolve_head

    found, _ = layout.sequences(source, _TASKS)
    known = {sequence.subject for sequence in found}
    if missing := set(chosen.subjects) - known:
        raise UserError(f"--subjects: no {', '.join(sorted(missing))} in {source}")
    wanted = [s for s in found if not chosen.subjects or s.subject in chosen.subjects]
    wanted = wanted[: chosen.limit or None]
    head = resolve_head(chosen.head)
    fitting = Run(source, out, head, _UNITS[chosen.unit], chosen.sheets, found)
    summary = fitting.fit(wanted)
    print(json.dumps(summary, indent=2))
    return 0 if summary["frames_accepted"] or summary["sequences_skipped"] else 2


if __name__ == "__main__":
    define_flags()
    sys.exit(run(main))
