"""The commands that README.md and the pages of docs/ name, as words."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = {path.stem: path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_MENTION = re.compile(r"`(python -m [^`]+)`")
_OURS = ("fields_jax", "data_pipelines", "benchmarks")


class Command(NamedTuple):
    """`python -m MODULE ARGUMENTS`."""

    module: str
    arguments: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((self.module, *self.arguments))


def commands(page: str) -> list[Command]:
    """A page's commands of this project, those of its blocks before those within its lines.

    A mere name within a line does not count where the page has the command in full.
    """
    text = PAGES[page].read_text()
    blocks = [block for language, block in _BLOCK.findall(text) if language == "sh"]
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    lines += _MENTION.findall(_BLOCK.sub("", text))
    found = dict.fromkeys(each for line in lines for each in _of_line(line))
    full = {each.module for each in found if each.arguments}
    return [each for each in found if each.arguments or each.module not in full]


def _of_line(line: str) -> Iterator[Command]:
    """Also behind `srun` and within the quotes of another command's flag."""
    words = shlex.split(line, comments=True)
    for word in words:
        flag, _, quoted = word.partition("=")
        if flag.startswith("--") and quoted.startswith("python -m "):
            yield from _of_line(quoted)
    for place, word in enumerate(words[1:-1], start=1):
        named = words[place + 1]
        if word == "-m" and Path(words[place - 1]).name == "python" and named.startswith(_OURS):
            # Square brackets stand around what may be left out.
            given = (rest.strip("[]") for rest in words[place + 2 :] if rest != "...")
            yield Command(named, tuple(given))
            return
