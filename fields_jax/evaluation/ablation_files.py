"""An ablation as files: what its runs left is read, and its scores are written.

Scores are a dict: format, title, full (the arm that others are compared with), says (a sentence by
arm), facts (name: text), notes, failed (reason by run), edges_mm, measures (key, group, title,
style, best), arms and differences (`ablation.score_arms`), and curves (points by arm).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from etils import epath

from fields_jax.errors import UserError
from fields_jax.evaluation import PREDICTIONS, SCORES, ablation, predictions
from fields_jax.evaluation.ablation import MEASURED, Measure, Tables
from fields_jax.evaluation.recognition_files import escape_latex
from fields_jax.evaluation.tables import aligned, csv_text, write_files
from fields_jax.files import read_json, read_npz, read_text

FORMAT = 1
JSON, TABLE, LATEX, PAGE = (f"ablation.{end}" for end in ("json", "csv", "tex", "html"))
PROBED = "predictions/network-expression+jaw.csv"  # of `fields_jax.probe`
PHOTOGRAPHS = "photographs.csv"  # of `fields_jax.evaluate --photographs`
MISSING = "-"
_MARKS = {"": " ", "worse": "*", "better": "^"}


def read_run(workdir: str, probe: str = "", photographs: str = "") -> Tables:
    """The tables of a run that was evaluated.

    Args:
      workdir: of the training, with what `fields_jax.evaluate` wrote.
      probe: folder that `fields_jax.probe` wrote; empty: none.
      photographs: folder that `fields_jax.evaluate --photographs` wrote; empty: none.

    Raises:
      UserError: a file is missing or damaged.
    """
    folder = epath.Path(workdir)
    scores = read_json(folder / SCORES)
    arrays = read_npz(folder / PREDICTIONS, what=f"the {PREDICTIONS} of an evaluation")
    edges, reads = scores["expression"]["edges_mm"], "emotion_head" in scores["trained"]
    tables = {"faces": ablation.faces_table(arrays, edges, reads)}
    if probe:
        own = predictions.read_predictions(str(epath.Path(probe) / PROBED))
        tables["probe"] = ablation.probe_table(predictions.answers(own, own))
    if photographs:
        text = read_text(epath.Path(photographs) / PHOTOGRAPHS)
        tables["photographs"] = ablation.photographs_table(list(csv.DictReader(io.StringIO(text))))
    return tables


def score_runs(
    runs: Mapping[str, Mapping[int, Tables]], full: str, *, samples: int = ablation.SAMPLES
) -> dict[str, Any]:
    """The part of the scores that is computed: edges_mm is that of the caller.

    Args:
      runs: tables by arm and seed.
      full: the arm that others are compared with.
      samples: draws of the bootstrap.

    Raises:
      UserError: there are no runs, or two were scored on different examples.
    """
    if not any(runs.values()):
        raise UserError("no run of the ablation is finished: there is nothing to score")
    named = {f"{arm}-{seed}": tables for arm, own in runs.items() for seed, tables in own.items()}
    ablation.check_alike(named)
    scored = ablation.score_arms(runs, full, samples=samples)
    shown = [each for each in MEASURED if any(_scores(scored, name, each) for name in runs)]
    return {
        "full": full,
        "measures": [
            {key: getattr(each, key) for key in ("key", "group", "title", "style", "best")}
            for each in shown
        ],
        **scored,
        "curves": {
            name: ablation.calibration_curve([tables["faces"] for tables in own.values()])
            for name, own in runs.items()
            if own
        },
    }


def shown_measures(scores: Mapping[str, Any]) -> list[Measure]:
    """Those that any arm has, in order."""
    keys = {each["key"] for each in scores["measures"]}
    return [each for each in MEASURED if each.key in keys]


def show(value: float | None, measure: Measure, *, signed: bool = False) -> str:
    """A score as text, in percent or with three places."""
    if value is None:
        return MISSING
    digits, value = (1, 100 * value) if measure.style == "share" else (3, value)
    value = round(value, digits) + 0.0  # never "-0.0"
    return f"{value:{'+' if signed and value else ''}.{digits}f}"


def told(score: Mapping[str, Any] | None, measure: Measure) -> tuple[str, str]:
    """A score and its deviation over the seeds, as text."""
    if score is None:
        return MISSING, ""
    deviation = score["deviation"]
    spread = "" if deviation is None else f"± {show(deviation, measure)}"
    return show(score["value"], measure), spread


def told_difference(
    scores: Mapping[str, Any], name: str, measure: Measure
) -> tuple[str, str, Literal["", "worse", "better"]]:
    """A difference from the full recipe and its interval as text, and what they say of the arm.

    The arm is worse or better where the interval, as it is shown, leaves zero out.
    """
    score = scores["differences"][name][measure.key]
    if score is None:
        return MISSING, "", ""
    ends = [show(end, measure, signed=True) for end in score["interval"] or ()]
    value, signs = score["value"], {end[0] for end in ends}
    told = show(value, measure, signed=True), " to ".join(ends)
    if signs not in ({"+"}, {"-"}):
        return *told, ""
    if measure.best == "one":
        full = _scores(scores, scores["full"], measure)["value"]
        worse = abs(full + value - 1) > abs(full - 1)
    else:
        worse = (value > 0) == (measure.best == "low")
    return *told, "worse" if worse else "better"


def table(scores: Mapping[str, Any]) -> str:
    """The scores of the whole recipe and the differences from it, for a terminal."""
    full = scores["full"]
    names = [full, *scores["differences"]]
    rows = [["", *names]]
    for measure in shown_measures(scores):
        cells = [told(_scores(scores, full, measure), measure)[0]]
        for name in names[1:]:
            value, _, verdict = told_difference(scores, name, measure)
            cells.append(f"{value}{_MARKS[verdict]}")
        unit = ", %" if measure.style == "share" else ""
        rows.append([f"{measure.group}: {measure.title}{unit}", *cells])
    lines = aligned(rows)
    legend = f"* worse than {full}, ^ better: the 95 % interval of the difference leaves zero out"
    return "\n".join(
        [scores["title"], *(line.rstrip() for line in lines), legend, *scores["notes"]]
    )


def write(out: str, scores: Mapping[str, Any], page: str) -> None:
    """Writes ablation.json, .csv, .tex and .html into the folder `out`, which is made.

    Raises:
      DiskError: one of them cannot be written.
    """
    files = {TABLE: csv_text(list(_rows(scores))), LATEX: latex(scores), PAGE: page}
    write_files(out, files | {JSON: json.dumps(scores, indent=1, allow_nan=False)})


def latex(scores: Mapping[str, Any]) -> str:
    r"""A row of a LaTeX table for each arm: the scores of the whole recipe, and differences.

    A difference whose interval leaves zero out is \mathbf; comments name the columns.
    """
    measures, full = shown_measures(scores), scores["full"]
    titles = (f"{each.title}{' (%)' if each.style == 'share' else ''}" for each in measures)
    lines = [
        f"% {' & '.join(['arm', *titles])}",
        f"% {full}: mean and deviation over the seeds; others: difference from it, 95 % interval",
    ]
    cells = []
    for measure in measures:
        value, spread = told(_scores(scores, full, measure), measure)
        cells.append(
            "--" if value == MISSING else f"${value} {spread.replace('±', chr(92) + 'pm')}$"
        )
    lines.append(" & ".join([escape_latex(full), *cells]) + r" \\")
    for name in scores["differences"]:
        cells = [_latex_difference(*told_difference(scores, name, each)) for each in measures]
        lines.append(" & ".join([escape_latex(name), *cells]) + r" \\")
    return "\n".join(lines) + "\n"


def _latex_difference(value: str, interval: str, verdict: str) -> str:
    if value == MISSING:
        return "--"
    shown = rf"\mathbf{{{value}}}" if verdict else value
    ends = interval.replace(" to ", ", ")
    return f"${shown}$" + (f" [${ends}$]" if ends else "")


def _rows(scores: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One row per arm and score; the last columns are the difference from the full recipe."""
    for name, arm in scores["arms"].items():
        for measure in shown_measures(scores):
            own = arm["scores"][measure.key] or {}
            apart = scores["differences"].get(name, {}).get(measure.key) or {}
            row = {"arm": name, "score": measure.key, "seeds": len(own.get("by_seed", ()))}
            row |= {"value": own.get("value"), "deviation_over_seeds": own.get("deviation")}
            row["low"], row["high"] = own.get("interval") or (None, None)
            row["difference"] = apart.get("value")
            ends = apart.get("interval") or (None, None)
            row["difference_low"], row["difference_high"] = ends
            yield row


def _scores(scores: Mapping[str, Any], name: str, measure: Measure) -> Mapping[str, Any] | None:
    return scores["arms"].get(name, {"scores": {}})["scores"].get(measure.key)
