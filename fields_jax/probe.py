"""Measures how much emotion frozen codes hold, by EMOCA's recognition protocol.

    python -m fields_jax.probe --workdir=runs/stage2 --out=probe
    python -m fields_jax.probe --workdir=embedded --sources=synthetic/wild2d --out=probe
    python -m fields_jax.probe --codes=smirk=SMIRK.npz --codes=fit=FIT.csv --out=probe --quick

A network of four layers is trained on the codes of the training split, once for each kind of input
(expression and jaw; shape; both) and seed, and scored on the test split: valence, arousal and
emotion class. Beside it stand a constant, the class mean, the true codes where a set knows them,
and the model's own emotion head. --codes takes anyone's codes; docs/evaluation.md says how they
are written. Writes OUT/recognition.json, .csv, .tex and .html, OUT/predictions/ for
`fields_jax.evaluate --predictions`, and OUT/codes/ for --codes.
"""

from __future__ import annotations

import dataclasses

from absl import flags, logging

from fields_jax.cli import run
from fields_jax.errors import UserError

_QUICK = dict(width=256, steps=1000, seeds=2)  # instead of the defaults


def define_flags() -> None:
    """The command's flags; called by the command only, so that commands can import one another."""
    flags.DEFINE_string("workdir", "", "folder of a run or converted checkpoint, or embedded")
    flags.DEFINE_multi_string("codes", [], "NAME=FILE.npz or .csv of codes; may be repeated")
    flags.DEFINE_string("out", "", "folder to write to")
    flags.DEFINE_string("sources", "", "NAME,NAME sets to read (default: those trained on)")
    flags.DEFINE_string("data_root", "", "folder of the sets (default: that of the training)")
    flags.DEFINE_string("head", "", "head .npz (default: the one the model was trained with)")
    flags.DEFINE_bool("ema", False, "take the mean of the parameters (config.ema)")
    flags.DEFINE_string("inputs", "", "NAME,NAME of expression+jaw, shape, shape+expression+jaw")
    flags.DEFINE_integer("width", 2048, "of the hidden layers", lower_bound=1)
    flags.DEFINE_integer("depth", 4, "hidden layers", lower_bound=1)
    flags.DEFINE_integer("steps", 0, "at most; 0: 50 epochs", lower_bound=0)
    flags.DEFINE_integer(
        "patience", 10, "checks without a better one, five per epoch, to the end", lower_bound=1
    )
    flags.DEFINE_integer("seeds", 3, "trainings of every probe", lower_bound=1)
    flags.DEFINE_bool("balanced", True, "draw every class equally often")
    told = ", ".join(f"{name} {value}" for name, value in _QUICK.items())
    flags.DEFINE_bool("quick", False, f"a small probe for a first look: {told}")


def main(argv: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; see --help")
    if not chosen.out:
        raise UserError("--out is missing: name the folder to write to")
    if not chosen.workdir and not chosen.codes:
        raise UserError("nothing to probe: name --workdir=DIR, --codes=NAME=FILE or both")
    logging.set_verbosity(logging.WARNING)  # tensorflow_datasets reports every file it opens
    from fields_jax.evaluation import probe_scoring, recognition_files
    from fields_jax.report import recognition

    plan = _plan(chosen)
    scores, answers = probe_scoring.probe(plan)
    page = recognition.render(scores, probe_scoring.drawn(answers), "python -m fields_jax.probe")
    print(recognition_files.table(scores), flush=True)
    recognition_files.write(chosen.out, scores, page)
    probe_scoring.write_details(chosen.out, plan, answers)
    print(
        f"written: {chosen.out}/{recognition_files.PAGE}, .json, .csv, .tex, predictions and codes"
    )


def _plan(chosen: flags.FlagValues):
    from fields_jax.evaluation import codes, encoder_codes, probe_scoring
    from fields_jax.evaluation.probe import Recipe

    files = _named_files(chosen.codes)
    inputs = [name.strip() for name in chosen.inputs.split(",") if name.strip()]
    if unknown := [name for name in inputs if name not in codes.INPUTS]:
        raise UserError(f"--inputs: {unknown[0]!r}; known are {', '.join(codes.INPUTS)}")
    options = {
        name: _QUICK[name] if chosen.quick and not chosen[name].present else chosen[name].value
        for name in _QUICK
    }
    seeds = options.pop("seeds")
    recipe = dataclasses.replace(
        Recipe(**options),
        depth=chosen.depth,
        patience=chosen.patience,
        balanced=chosen.balanced,
    )
    own = {name: codes.read_codes(file) for name, file in files.items()}
    head, facts = None, {}
    if chosen.workdir:
        encoded = encoder_codes.encode_sets(
            chosen.workdir,
            sources=chosen.sources,
            data_root=chosen.data_root,
            head=chosen.head,
            ema=chosen.ema,
        )
        true = {} if encoded.true is None else {"true": encoded.true}
        own = {"network": encoded.network} | true | own
        head, facts = encoded.head, encoded.facts
    facts |= {f"Codes: {name}": file for name, file in files.items()}
    return probe_scoring.Plan(own, head, inputs, recipe, seeds, facts)


def _named_files(given: list[str]) -> dict[str, str]:
    files: dict[str, str] = {}
    for each in given:
        name, equals, file = each.partition("=")
        if not (name and equals and file):
            raise UserError(f"--codes={each}: write NAME=FILE, such as smirk=codes.npz")
        if name in files or name in ("network", "true") or not name.replace("-", "").isalnum():
            raise UserError(f"--codes={each}: choose another name, of letters and digits")
        files[name] = file
    return files


if __name__ == "__main__":
    define_flags()
    run(main)
