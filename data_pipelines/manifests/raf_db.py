"""RAF-DB: basic expressions, one per photograph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from etils import epath

from fields_jax.files import read_lines

# RAF-DB's numbers: surprise, fear, disgust, happy, sad, anger, neutral.
EMOTIONS = {1: 3, 2: 4, 3: 5, 4: 1, 5: 2, 6: 6, 7: 0}

_LISTS = ("list_patition_label.txt", "list_partition_label.txt")  # released with the first name
_IMAGES = (("aligned", "_aligned.jpg"), ("original", ".jpg"))


def rows(source: epath.Path, skipped: Counter) -> Iterator[dict[str, Any]]:
    """One row per photograph of the list of labels.

    Args:
      source: folder that holds `basic`, or that folder.
      skipped: counts what is left out, by reason.

    Raises:
      FileNotFoundError: the list or the folder of photographs is missing.
    """
    base = "basic/" if (source / "basic").is_dir() else ""
    lists = [source / f"{base}EmoLabel" / name for name in _LISTS]
    table = next((file for file in lists if file.exists()), None)
    if table is None:
        raise FileNotFoundError(f"{lists[0]}: no such file; name RAF-DB's folder by --source")
    folders = [(f"{base}Image/{folder}", ending) for folder, ending in _IMAGES]
    folder, ending = next(
        ((folder, ending) for folder, ending in folders if (source / folder).is_dir()),
        (None, None),
    )
    if folder is None:
        raise FileNotFoundError(f"{source / folders[0][0]}: no such folder; unpack RAF-DB's images")
    there = {path.name for path in (source / folder).iterdir()}
    for line in read_lines(table):
        name, _, label = line.strip().partition(" ")
        stem, part = name.rsplit(".", 1)[0], name.split("_")[0]
        if part not in ("train", "test") or not label.isdecimal():
            skipped["row unreadable"] += bool(line.strip())
        elif int(label) not in EMOTIONS:
            skipped[f"class {label}"] += 1
        elif stem + ending not in there:
            skipped["image missing"] += 1
        else:
            emotion = EMOTIONS[int(label)]
            yield dict(image=f"{folder}/{stem}{ending}", split=part, emotion=emotion)
