r"""Scores neutral heads on the NoW challenge, and writes reconstructions in the layout it takes.

    python -m fields_jax.now --data=NOW --predictions=DIR --out=OUT
    python -m fields_jax.now --data=NOW --predictions=DIR --out=OUT --metrical --mesh_unit=m
    python -m fields_jax.now --reconstructions=FACES --predictions=DIR

NOW holds imagepathsvalidation.txt, scans/ and scans_lmks_onlypp/ as they come; predictions lie at
SUBJECT/CHALLENGE/IMAGE.obj (or .ply) with seven landmarks in IMAGE.npy (or .txt) beside it. OUT
gets now.json (median, mean and standard deviation in mm over all scans' vertices, those of each
challenge, the cumulative curve), images.csv, cumulative.csv and cumulative.png. With --metrical the
meshes keep their size.

With --reconstructions the predictions are first made from a folder that `reconstruct` or `fit` made
of the challenge's photographs: the neutral head of each face, by its shape alone, in metres.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from absl import flags

from fields_jax import __version__
from fields_jax.cli import run
from fields_jax.errors import UserError

if TYPE_CHECKING:
    from fields_jax.evaluation.now import Photograph

_CHALLENGES = ("multiview_neutral", "multiview_expressions", "multiview_occlusions", "selfie")
_NAMED = 5  # photographs without a prediction that a message names


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("data", "", "folder of the NoW data set")
    flags.DEFINE_string("predictions", "", "folder of the predicted meshes and landmarks")
    flags.DEFINE_string("out", "", "folder for the scores")
    flags.DEFINE_string("images", "", "list of images (default: the data set's)")
    flags.DEFINE_enum("challenge", "", ("", *_CHALLENGES), "score this one alone")
    flags.DEFINE_bool("metrical", False, "meshes keep their size")
    flags.DEFINE_enum("mesh_unit", "m", ("mm", "cm", "m"), "unit of the meshes, for --metrical")
    flags.DEFINE_string("reconstructions", "", "folder of faces to make the predictions from")
    flags.DEFINE_string("head", "", "head .npz of these faces (default: the procedural head)")


def main(_: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    if not chosen.predictions:
        raise UserError("--predictions is missing: name the folder of the predicted meshes")
    if not (chosen.data or chosen.reconstructions):
        raise UserError("name the NoW data set by --data, or faces to hand in by --reconstructions")
    if chosen.data and not chosen.out:
        raise UserError("--out is missing: name the folder for the scores")
    if chosen.reconstructions:
        _submit(chosen.reconstructions, chosen.predictions, chosen.head)
    if chosen.data:
        _score()


def _submit(faces: str, out: str, head: str) -> None:
    """Makes the predictions from a folder of faces."""
    from fields_jax.disk import writing
    from fields_jax.evaluation.now import CHALLENGES, photograph_of
    from fields_jax.flame.io import resolve_head
    from fields_jax.outputs.submission import write_submission

    def place(path: str) -> str | None:
        photograph = photograph_of(path)
        known = photograph is not None and photograph.challenge in CHALLENGES
        return str(photograph) if known else None

    with writing(out, instead="another --predictions"):
        written = write_submission(faces, out, resolve_head(head), place)
    print(f"{len(written.faces)} neutral heads with seven landmarks in {out}")
    if written.smaller:
        print(f"{len(written.smaller)} smaller faces of the same photographs were left out")
    if written.others:
        print(f"{len(written.others)} faces are of no photograph in SUBJECT/CHALLENGE/: left out")


def _score() -> None:
    """Scores the predictions and writes the results."""
    from etils import epath

    from fields_jax.disk import writing
    from fields_jax.evaluation import now
    from fields_jax.files import write_whole
    from fields_jax.report.distances import cumulative_curve, png_of

    chosen = flags.FLAGS
    photographs = now.read_photographs(chosen.data, chosen.images, chosen.challenge)
    how = dict(unit=chosen.mesh_unit, metrical=chosen.metrical)
    scored, missing = now.score_all(chosen.data, chosen.predictions, photographs, **how)
    scores = {"version": __version__, "data": chosen.data, "predictions": chosen.predictions}
    scores |= now.summary(scored, missing, metrical=chosen.metrical)
    curve = scores["cumulative"]["mm"], scores["cumulative"]["share"]
    files = {
        "now.json": json.dumps(scores, indent=1, allow_nan=False) + "\n",
        "images.csv": now.image_table(scored),
        "cumulative.csv": now.curve_table(scores),
        "cumulative.png": png_of(cumulative_curve({scores["protocol"]: curve})),
    }
    with writing(chosen.out, instead="another --out"):
        for name, content in files.items():
            write_whole(epath.Path(chosen.out) / name, content)
    if missing:
        print(_missed(missing, len(photographs)))
    each = scores["distance_mm"]
    print(
        f"{scores['protocol']}, {len(scored)} photographs: median {each['median']:.3f} mm, mean "
        f"{each['mean']:.3f}, std {each['std']:.3f}; all in {chosen.out}"
    )


def _missed(missing: list[Photograph], total: int) -> str:
    names = ", ".join(map(str, missing[:_NAMED]))
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return (
        f"warning: {len(missing)} of {total} photographs have no mesh, so that the scores cannot "
        f"be compared with others: {names}{more}"
    )


if __name__ == "__main__":
    define_flags()
    sys.exit(run(main))
