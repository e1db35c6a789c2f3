"""Every figure that this project states about speed, beside its limit on this machine.

    python -m benchmarks.ledger --json OUT                          # a quarter of an hour
    python -m benchmarks.ledger --only=encoders,demo --json OUT
    python -m benchmarks.ledger --only=starting --into docs/performance.json    # these parts again
    python -m benchmarks.ledger --page docs/performance.md --from docs/performance.json

Each part is timed in turns with what it is compared with: torch where it is installed, a C++ loop,
plain decoding. A limit is the arithmetic at the measured speed of a matrix product with all
threads, or the bytes at the measured speed of a copy, whichever takes longer. Results are written
after each part; one that fails, or lacks a package, is listed with the reason. Parts that are put
into another report keep the date and the speeds of their own measurement. The last form measures
nothing and writes the page of a report.
"""

from __future__ import annotations

import json
from typing import Any

from absl import flags

from benchmarks import ledger_page, machine
from benchmarks.ledger_parts import PARTS
from benchmarks.results import save
from fields_jax.cli import run
from fields_jax.disk import writing
from fields_jax.errors import UserError, first_line
from fields_jax.files import read_json, write_whole


def define_flags() -> None:
    """The flags of the command."""
    flags.DEFINE_string("json", "", "file for the results")
    flags.DEFINE_string("into", "", "results whose parts give way to those measured now")
    flags.DEFINE_list("only", [], f"of {', '.join(PARTS)} (default: all)")
    flags.DEFINE_bool("quick", False, "small sizes, to see whether it runs")
    flags.DEFINE_string("page", "", "page to write")
    flags.DEFINE_string("from", "", "results to write the page from, instead of measuring")
    flags.DEFINE_string("remark", "", "what a reader of the page has to know of this measurement")


def main(_: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    if chosen["from"].value:
        report = read_json(chosen["from"].value)
    else:
        report = measure(chosen.only or list(PARTS), quick=chosen.quick, path=chosen.json)
    if chosen.into:
        report = joined(read_json(chosen.into), report)
        save(chosen.into, report)
    if chosen.remark:
        report["remark"] = chosen.remark
        save(chosen.into or chosen.json, report)
    if chosen.page:
        with writing(chosen.page, instead="another --page"):
            write_whole(chosen.page, ledger_page.page(report))


def measure(names: list[str], *, quick: bool, path: str = "") -> dict[str, Any]:
    """Runs parts one after the other; ready for JSON.

    Args:
      names: of `PARTS`.
      quick: small sizes.
      path: file that is written after each part, or "".

    Raises:
      UserError: an unknown name.
    """
    if unknown := sorted(set(names) - PARTS.keys()):
        raise UserError(f"unknown part {unknown[0]!r}; known: {', '.join(PARTS)}")
    sizes = (256, 4) if quick else (2048, 256)
    speeds = machine.speeds(*sizes)
    report: dict[str, Any] = {"machine": machine.describe(), "quick": quick}
    report |= {"load_before": machine.load(), "parts": {}, "skipped": {}}
    found: dict[str, list] = {}
    for name in (name for name in PARTS if name in names):
        print(f"{name} ...", flush=True)
        try:
            found[name] = PARTS[name](quick)
        except Exception as error:  # a part that fails must not cost the others
            report["skipped"][name] = first_line(error)
            print(f"  skipped: {first_line(error)}", flush=True)
        speeds = speeds.faster(machine.speeds(*sizes))
        report["limits"] = {
            "matmul_gflops": speeds.flops / 1e9,
            "copy_gbytes_per_second": speeds.bytes / 1e9,
        }
        # With the best speeds so far: all limits are of one machine.
        report["parts"] = {
            part: [figure.report(speeds) for figure in figures] for part, figures in found.items()
        }
        report["load_after"] = machine.load()
        print(json.dumps(report["parts"].get(name, []), indent=1), flush=True)
        save(path, report)
    return report


def joined(whole: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """A report with parts of a later one, which tell when they were measured and how fast."""
    when = {key: later["machine"][key] for key in ("date", "git")} | later["limits"]
    return whole | {
        "parts": whole["parts"] | later["parts"],
        "skipped": {k: why for k, why in whole["skipped"].items() if k not in later["parts"]},
        "later": whole.get("later", {}) | dict.fromkeys(later["parts"], when),
    }


if __name__ == "__main__":
    define_flags()
    run(main)
