"""Writes a self-contained HTML report about training runs that have been evaluated.

    python -m fields_jax.evaluate --workdir=runs/stage1
    python -m fields_jax.evaluate --workdir=runs/stage2
    python -m fields_jax.report --stage1=runs/stage1 --stage2=runs/stage2 --out=report.html

One of the two stages is enough. evaluation.json beside the report holds the scores of both.
"""

from __future__ import annotations

import json
import sys

from absl import flags, logging
from etils import epath

from fields_jax.cli import run
from fields_jax.disk import writing
from fields_jax.errors import UserError
from fields_jax.evaluation import SCORES
from fields_jax.files import write_whole


def define_flags() -> None:
    """The command's flags; called by the command only, so that commands can import one another."""
    flags.DEFINE_string("stage1", "", "workdir of stage 1")
    flags.DEFINE_string("stage2", "", "workdir of stage 2")
    flags.DEFINE_string("out", "runs/demo/report.html", "HTML file to write")
    flags.DEFINE_string("evaluation_out", "", "JSON file (default: evaluation.json beside --out)")
    flags.DEFINE_string("head", "", "head .npz (default: the one the runs were trained with)")


def main(argv: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; see --help")
    logging.set_verbosity(logging.WARNING)  # jax notes which accelerators are absent
    workdirs = {name: chosen[name].value for name in ("stage1", "stage2") if chosen[name].value}
    if not workdirs:
        raise UserError("name a workdir: --stage1=DIR, --stage2=DIR or both")
    scores = chosen.evaluation_out or str(epath.Path(chosen.out).parent / SCORES)
    size = write_report(workdirs, chosen.out, scores, head=chosen.head)
    print(f"written: {chosen.out} ({size / 2**20:.1f} MiB) and {scores}")


def write_report(workdirs: dict[str, str], out: str, scores_out: str, *, head: str = "") -> int:
    """Writes the HTML page and the scores of all runs as one JSON file.

    Args:
      workdirs: by name, "stage1" before "stage2"; evaluated runs.
      out: the page.
      scores_out: the JSON file, {"stage1": {...}, "stage2": {...}}.
      head: path of a head; empty: that of the runs' config.

    Returns:
      Size of the page in bytes.

    Raises:
      UserError: a run is not evaluated, or the two cannot be compared.
    """
    from fields_jax.flame.io import resolve_head
    from fields_jax.report.html import render
    from fields_jax.report.runs import check_comparable, load_run

    runs = [load_run(f"Stage {name[-1]}", workdir) for name, workdir in workdirs.items()]
    check_comparable(runs)
    model = resolve_head(head or runs[-1].config["head"])
    scored = runs[-1].scores["head"]
    if model.sha256 != scored["sha256"]:
        raise UserError(
            f"{runs[-1].workdir} was scored with head {scored['name']} {scored['version']}, this "
            f"is {model.name} {model.version} of other content; name the right one with "
            "--head=HEAD.npz or evaluate again"
        )
    page = render(runs, model).encode(errors="replace")
    scores = {name: run.scores for name, run in zip(workdirs, runs, strict=True)}
    with writing(out, instead="another by --out=FILE.html"):
        write_whole(out, page)
    with writing(scores_out, instead="another by --evaluation_out=FILE.json"):
        write_whole(scores_out, json.dumps(scores, indent=1))
    return len(page)


if __name__ == "__main__":
    define_flags()
    sys.exit(run(main))
