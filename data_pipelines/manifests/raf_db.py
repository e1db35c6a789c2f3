"""RAF-DB: basic expressions, one per photograph."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from etils import epath

from data_pipelines.building import table_cells
from data_pipelines.manifests.left_out import LeftOut
from fields_jax.errors import MissingFile, UserError
from fields_jax.files import read_lines

# RAF-DB's numbers: surprise, fear, disgust, happy, sad, anger, neutral.
EMOTIONS = {1: 3, 2: 4, 3: 5, 4: 1, 5: 2, 6: 6, 7: 0}
EXPECTED = (
    "lines such as `train_00001.jpg 5` in basic/EmoLabel/list_patition_label.txt and pictures such "
    "as basic/Image/aligned/train_00001_aligned.jpg"
)

_LISTS = ("list_patition_label.txt", "list_partition_label.txt")  # released with the first name
_IMAGES = (("aligned", "_aligned.jpg"), ("original", ".jpg"))
_BETWEEN_CELLS = re.compile(r"[\s,;]+")


def rows(source: epath.Path, left_out: LeftOut) -> Iterator[dict[str, Any]]:
    """One row per photograph of the list of labels.

    Args:
      source: folder that holds `basic`, or that folder.
      left_out: counts what is left out.

    Raises:
      MissingFile: the list or the folder of photographs is missing.
    """
    table, folder, ending = _places(source)
    there = {path.name.casefold(): path.name for path in (source / folder).iterdir()}
    for number, line in enumerate(read_lines(table), start=1):
        where = f"{table}, line {number}"
        if not line.strip():
            continue
        name, label = _name_and_label(line)
        stem, part = name.rsplit(".", 1)[0], name.split("_")[0].casefold()
        if part not in ("train", "test") or label is None:
            left_out.add("row unreadable", where)
        elif label not in EMOTIONS:
            left_out.add(f"class {label}", where)
        elif not (image := there.get(f"{stem}{ending}".casefold())):
            left_out.add("image missing", f"{where}: {folder}/{stem}{ending}")
        else:
            yield dict(image=f"{folder}/{image}", split=part, emotion=EMOTIONS[label])


def _places(source: epath.Path) -> tuple[epath.Path, str, str]:
    """The list of labels, the folder of photographs below `source`, and how their names end."""
    base = "basic/" if (source / "basic").is_dir() else ""
    lists = [source / f"{base}EmoLabel" / name for name in _LISTS]
    table = next((file for file in lists if file.exists()), None)
    if table is None:
        raise MissingFile(f"{lists[0]}: no such file; name RAF-DB's folder by --source")
    folders = [(f"{base}Image/{folder}", ending) for folder, ending in _IMAGES]
    for folder, ending in folders:
        if (source / folder).is_dir():
            return table, folder, ending
    raise MissingFile(f"{source / folders[0][0]}: no such folder; unpack RAF-DB's images")


def _name_and_label(line: str) -> tuple[str, int | None]:
    """The first two cells of a line; some copies of the list have more, which are ignored."""
    name, label, *_ = (*_BETWEEN_CELLS.split(line.strip().replace('"', "")), "")
    try:
        return name, table_cells.whole(label)
    except UserError:
        return name, None
