"""Lines of tables that may hold anything."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from etils import epath


def lines(file: epath.Path) -> Iterator[str]:
    """Lines of a text, one at a time; bytes that are no UTF-8 become marks that no cell accepts."""
    with file.open("rb") as stored:
        for number, line in enumerate(stored):
            content = line.removeprefix(codecs.BOM_UTF8) if number == 0 else line
            yield content.decode("utf-8", errors="replace").rstrip("\r\n")
