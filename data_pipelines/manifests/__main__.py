"""Writes the manifest of a public set, one JSON line per photograph.

    python -m data_pipelines.manifests raf_db --source=RAF-DB --out=raf_db.jsonl
    python -m data_pipelines.landmarks RAF-DB/basic/Image/aligned
    python -m data_pipelines.prepare faces --source=RAF-DB --manifest=raf_db.jsonl --name=raf_db
        --out=data

Sets: raf_db, afew_va (brings its own landmarks; choose a split by prepare's --test_share),
aff_wild2, mead (frames of its videos).
"""

from __future__ import annotations

import json
from collections import Counter

from absl import flags
from etils import epath

from data_pipelines.manifests import afew_va, aff_wild2, mead, raf_db
from fields_jax.cli import run
from fields_jax.errors import UserError

WRITERS = dict(raf_db=raf_db.rows, afew_va=afew_va.rows, aff_wild2=aff_wild2.rows, mead=mead.rows)


def write(kind: str, source: epath.PathLike, out: epath.PathLike, *, every: int = 1) -> Counter:
    """Writes a manifest.

    Args:
      kind: a key of WRITERS.
      source: folder of the set.
      out: the .jsonl to write; the paths in it are relative to `source`.
      every: of the frames of each folder take the first and each n-th after it.

    Returns:
      How many rows were written ("rows") and how many were left out, by reason.

    Raises:
      FileNotFoundError: the folder does not hold such a set.
    """
    counts: Counter = Counter()
    in_folder: Counter = Counter()
    file = epath.Path(out)
    partial = file.with_name(f"{file.name}.partial")
    with partial.open("w") as stored:
        for row in WRITERS[kind](epath.Path(source), counts):
            folder = row["image"].rpartition("/")[0]
            if in_folder[folder] % every == 0:
                stored.write(json.dumps(row) + "\n")
                counts["rows"] += 1
            in_folder[folder] += 1
    partial.rename(file)
    return counts


def main(argv: list[str]) -> None:
    """Entry point; see the module's docstring."""
    values = flags.FLAGS
    if len(argv) != 2 or argv[1] not in WRITERS:
        raise UserError(f"name one of {', '.join(WRITERS)} (see --help)")
    if not epath.Path(values.source or "").is_dir() or not values.source:
        raise UserError(f"--source={values.source}: no such folder; name that of the set")
    if not values.out.endswith(".jsonl"):
        raise UserError(f"--out={values.out}: name a .jsonl file")
    counts = write(argv[1], values.source, values.out, every=values.every)
    print(f"{values.out}: {counts.pop('rows', 0)} photographs")
    for reason, count in counts.most_common():
        print(f"left out: {reason}: {count}")


if __name__ == "__main__":
    flags.DEFINE_string("source", "", "Folder of the set.")
    flags.DEFINE_string("out", "", "The .jsonl to write.")
    flags.DEFINE_integer("every", 1, "Take each n-th frame of a folder of frames.", 1)
    run(main)
