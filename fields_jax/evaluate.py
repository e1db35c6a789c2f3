"""Scores a trained model on held-out examples.

    python -m fields_jax.evaluate --workdir=runs/stage2
    python -m fields_jax.evaluate --workdir=DIR --split=test --head=HEAD.npz --out=scores.json
    python -m fields_jax.evaluate --workdir=DIR --photographs=FOLDER --out=scores
    python -m fields_jax.evaluate --workdir=embedded --data_root=DIR --out=scores.json

Prints a table and writes WORKDIR/evaluation.json, with the scores pooled and per source, and
predictions.npz beside it, with one row per example for figures and for scores of your own.
`--workdir=embedded` is the model in the package.
The sets are those the model was trained on, or `config.evaluation.sources` ("NAME,NAME").

With --photographs it scores the networks, the landmark fit, and the fit that starts at the
networks' reading, on photographs with landmark files beside them (see `fields_jax.fit`): landmark
error, and how well the opening and the width of the mouth, smile, brows and lids of the head go
with those of the picture. Writes
OUT/photographs.json, photographs.csv and pictures/; without --workdir the fit is scored alone.
"""

from __future__ import annotations

from absl import flags, logging
from etils import epath

from fields_jax.cli import run
from fields_jax.errors import UserError
from fields_jax.evaluation import PREDICTIONS, SCORES


def define_flags() -> None:
    """The command's flags; called by the command only, so that commands can import one another."""
    flags.DEFINE_string("workdir", None, "folder of a run or converted checkpoint, or embedded")
    flags.DEFINE_string("split", "test", "part of the sets to score")
    flags.DEFINE_string("out", "", "JSON file to write (default: WORKDIR/evaluation.json)")
    flags.DEFINE_string("head", "", "head .npz (default: the one the model was trained with)")
    flags.DEFINE_string("sources", "", "NAME,NAME sets to score (default: those trained on)")
    flags.DEFINE_string("data_root", "", "folder of the sets (default: that of the training)")
    flags.DEFINE_bool("ema", False, "score the mean of the parameters (config.ema)")
    flags.DEFINE_string("photographs", "", "folder of photographs with landmarks beside them")


def main(argv: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; see --help")
    if chosen.photographs:
        _score_photographs(chosen)
        return
    if not chosen.workdir:
        raise UserError("--workdir is missing: name the folder of a training run")
    if chosen.workdir == "embedded" and not chosen.out:
        raise UserError("--out is missing: scores are not written into the package")
    from fields_jax.evaluation import scoring

    logging.set_verbosity(logging.WARNING)  # tensorflow_datasets reports every file it opens
    out = chosen.out or str(epath.Path(chosen.workdir) / SCORES)
    scores, arrays = scoring.score_workdir(
        chosen.workdir,
        split=chosen.split,
        head=chosen.head,
        sources=chosen.sources,
        data_root=chosen.data_root,
        ema=chosen.ema,
    )
    print(scoring.table(scores), flush=True)  # first: the folder may take no files
    scoring.write_scores(out, scores, arrays)
    print(f"written: {out} and {PREDICTIONS} beside it")


def _score_photographs(chosen: flags.FlagValues) -> None:
    if not chosen.out:
        raise UserError("--out is missing: name the folder to write to")
    from fields_jax.evaluation import photograph_scoring

    scores = photograph_scoring.score_folder(
        chosen.photographs,
        chosen.out,
        workdir=chosen.workdir or "",
        head=chosen.head,
        ema=chosen.ema,
    )
    print(photograph_scoring.table(scores), flush=True)
    print(f"written: {chosen.out}/{photograph_scoring.SCORES}, .csv and pictures beside it")


if __name__ == "__main__":
    define_flags()
    run(main)
