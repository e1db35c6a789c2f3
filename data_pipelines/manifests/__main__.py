"""Writes the manifest of a public set, one JSON line per photograph.

    python -m data_pipelines.manifests raf_db --source=RAF-DB --out=raf_db.jsonl
    python -m data_pipelines.landmarks RAF-DB/basic/Image/aligned
    python -m data_pipelines.prepare faces --source=RAF-DB --manifest=raf_db.jsonl --name=raf_db
        --out=data

Sets: raf_db, afew_va (brings its own landmarks; choose a split by prepare's --test_share),
aff_wild2, mead (frames of its videos).
"""

from __future__ import annotations

import io
import json
from collections import Counter

from absl import flags
from etils import epath

from data_pipelines.manifests import afew_va, aff_wild2, mead, raf_db
from data_pipelines.manifests.left_out import LeftOut
from fields_jax.cli import run
from fields_jax.disk import writing
from fields_jax.errors import UserError, printable
from fields_jax.files import write_whole

WRITERS = dict(raf_db=raf_db, afew_va=afew_va, aff_wild2=aff_wild2, mead=mead)


def write(
    kind: str, source: epath.PathLike, out: epath.PathLike, *, every: int = 1
) -> tuple[int, LeftOut]:
    """Writes a manifest, at once or not at all.

    Args:
      kind: a key of WRITERS.
      source: folder of the set.
      out: the .jsonl to write; the paths in it are relative to `source`.
      every: of the frames of each folder take the first and each n-th after it.

    Returns:
      How many rows were written, and what was left out.

    Raises:
      FileNotFoundError: the folder does not hold such a set.
      UserError: not one photograph of it has a label.
    """
    left_out = LeftOut()
    count, in_folder, table = 0, Counter(), io.StringIO()
    for row in WRITERS[kind].rows(epath.Path(source), left_out):
        folder = row["image"].rpartition("/")[0]
        if in_folder[folder] % every == 0:
            table.write(json.dumps(row) + "\n")
            count += 1
        in_folder[folder] += 1
    if not count:
        reasons = "; ".join(left_out.lines())
        raise UserError(
            f"{source}: not one photograph with a label{f' ({reasons})' if reasons else ''}; "
            f"expected {WRITERS[kind].EXPECTED}"
        )
    with writing(out, instead="another --out"):
        write_whole(out, table.getvalue())
    return count, left_out


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("source", "", "Folder of the set.")
    flags.DEFINE_string("out", "", "The .jsonl to write.")
    flags.DEFINE_integer("every", 1, "Take each n-th frame of a folder of frames.", 1)


def main(argv: list[str]) -> None:
    """Entry point; see the module's docstring."""
    values = flags.FLAGS
    if len(argv) != 2 or argv[1] not in WRITERS:
        raise UserError(f"name one of {', '.join(WRITERS)} (see --help)")
    if not epath.Path(values.source or "").is_dir() or not values.source:
        raise UserError(f"--source={values.source}: no such folder; name that of the set")
    if not values.out.endswith(".jsonl"):
        raise UserError(f"--out={values.out}: name a .jsonl file")
    count, left_out = write(argv[1], values.source, values.out, every=values.every)
    print(f"{values.out}: {count} photographs")
    for line in left_out.lines():
        print(f"left out: {printable(line)}")


if __name__ == "__main__":
    define_flags()
    run(main)
