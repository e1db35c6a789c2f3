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
OUT/photographs.json, photographs.csv and pictures/; without --workdir the fit is scored alone, with
--nophotograph_fit the networks.

    python -m fields_jax.evaluate --predictions=OURS.csv --against=THEIRS.csv --out=scores

With --predictions it scores anyone's predictions of valence, arousal and emotion class, and with
--against the difference of two files. docs/evaluation.md lists the columns. Writes
OUT/recognition.json, .csv, .tex (rows of a LaTeX table) and .html.

    python -m fields_jax.evaluate --config=configs/evaluate.py --workdir=DIR --out=scores

With --config it scores the model by every protocol of that file whose set is prepared, and writes
OUT/protocols.json, .csv and .html.
"""

from __future__ import annotations

from absl import flags, logging
from etils import epath
from ml_collections import config_flags

from fields_jax.cli import run
from fields_jax.errors import UserError
from fields_jax.evaluation import PREDICTIONS, SCORES

# What each way of scoring reads, by the flag that asks for it; "" is the plain one.
_READ = {
    "predictions": ("against", "out"),
    "photographs": ("workdir", "out", "head", "ema", "photograph_fit"),
    "config": ("workdir", "out", "head", "ema", "data_root"),
    "": ("workdir", "out", "head", "ema", "data_root", "sources", "split"),
}


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
    flags.DEFINE_bool("photograph_fit", True, "with --photographs: score the landmark fits too")
    config_flags.DEFINE_config_file("config", None, "protocols, e.g. configs/evaluate.py")
    flags.DEFINE_string("predictions", "", "CSV of predictions and labels to score")
    flags.DEFINE_string("against", "", "CSV of other predictions of the same examples")


def main(argv: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; see --help")
    _check_flags(chosen)
    if chosen.predictions:
        _score_predictions(chosen)
        return
    if chosen.photographs:
        _score_photographs(chosen)
        return
    if not chosen.workdir:
        raise UserError("--workdir is missing: name the folder of a training run")
    if chosen.config is not None:
        _score_protocols(chosen)
        return
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


def _check_flags(chosen: flags.FlagValues) -> None:
    """Refuses flags that the way of scoring would not read."""

    def given(name: str) -> bool:
        return chosen[name].value != chosen[name].default

    way = next(way for way in _READ if not way or given(way))
    if not way and chosen.against:
        raise UserError("--against needs --predictions, the file that it is compared with")
    if not way and given("photograph_fit"):
        raise UserError("--nophotograph_fit needs --photographs, the folder to score")
    for name in sorted({*_READ, *sum(_READ.values(), ())} - {"", way, *_READ[way]}):
        if given(name):
            raise UserError(f"--{way} takes no --{name}: leave one of them out")


def _score_photographs(chosen: flags.FlagValues) -> None:
    if not chosen.out:
        raise UserError("--out is missing: name the folder to write to")
    if not (chosen.workdir or chosen.photograph_fit):
        raise UserError("--nophotograph_fit leaves nothing to score: name a --workdir")
    from fields_jax.evaluation import photograph_scoring

    scores = photograph_scoring.score_folder(
        chosen.photographs,
        chosen.out,
        workdir=chosen.workdir or "",
        head=chosen.head,
        ema=chosen.ema,
        fit=chosen.photograph_fit,
    )
    print(photograph_scoring.table(scores), flush=True)
    print(f"written: {chosen.out}/{photograph_scoring.SCORES}, .csv and pictures beside it")


def _score_predictions(chosen: flags.FlagValues) -> None:
    if not chosen.out:
        raise UserError("--out is missing: name the folder to write to")
    from fields_jax.evaluation import prediction_scoring, recognition_files
    from fields_jax.report import recognition

    scores, answers = prediction_scoring.score_files(chosen.predictions, chosen.against)
    page = recognition.render(scores, answers, "python -m fields_jax.evaluate")
    print(recognition_files.table(scores), flush=True)
    recognition_files.write(chosen.out, scores, page)
    print(f"written: {chosen.out}/{recognition_files.PAGE}, .json, .csv and .tex")


def _score_protocols(chosen: flags.FlagValues) -> None:
    if not chosen.out:
        raise UserError("--out is missing: name the folder to write to")
    from fields_jax.evaluation import protocols
    from fields_jax.report import protocols as page

    logging.set_verbosity(logging.WARNING)  # tensorflow_datasets reports every file it opens
    scores = protocols.score_protocols(
        chosen.workdir,
        chosen.config,
        data_root=chosen.data_root,
        head=chosen.head,
        ema=chosen.ema,
    )
    print(protocols.table(scores), flush=True)
    protocols.write(chosen.out, scores, page.render(scores))
    print(f"written: {chosen.out}/{protocols.PAGE}, .json and .csv")


if __name__ == "__main__":
    define_flags()
    run(main)
