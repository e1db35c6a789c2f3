"""The commands of docs/photographs.md, docs/outputs.md and docs/clips.md are what they say."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.portraits import write_photograph
from tests.support.workdirs import write_workdir

ROOT = Path(__file__).parents[1]
PAGES = ("photographs", "outputs", "clips")
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
# In place of what takes a trained run or half an hour: the smallest of its kind.
SMALL = {
    "--out=runs/finder": ["--out=runs/finder", "--heads=2", "--walls=2", "--steps=1", "--tests=2"],
    "--ema": [],  # of a run that keeps the mean of its parameters
    # Packed networks leave out where their head lies, and this one is not the default.
    "--workdir=FOLDER": ["--workdir=FOLDER", "--head=head.npz"],
}


def commands() -> list[list[str]]:
    """Every `python -m` of the pages' blocks, without comments, in their order."""
    found = []
    for page in PAGES:
        for block in BLOCK.findall((ROOT / f"docs/{page}.md").read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:2] == ["python", "-m"] and words not in found:
                    found.append(words)
    return found


def run(words: list[str], cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=cwd, check=False
    )


@pytest.mark.parametrize("module", sorted({words[2] for words in commands()}))
def test_every_flag_that_the_pages_name_is_one_of_the_command(module):
    known = run(["-m", module, "--helpfull"], ROOT).stdout
    named = {
        word.partition("=")[0]
        for words in commands()
        if words[2] == module
        for word in words[3:]
        if word.startswith("-")
    }
    assert named
    for flag in named:
        assert re.search(rf"^ +--(\[no\])?{flag[2:]}\b", known, re.MULTILINE), flag


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with all that the pages' commands name."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("anna", "ben"):
        write_photograph(folder / f"photographs/{name}.png")
    for index in range(5):
        write_photograph(folder / f"frames/frame_{index}.png", places=((5 + 2 * index, 10),))
    workdir, _ = write_workdir(folder)
    (folder / "runs").mkdir()
    workdir.rename(folder / "runs/stage2")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_of_the_pages_runs(place, words):
    """One after the other, for later ones read what earlier ones write."""
    if words[-1] == "talk.mp4":
        av = pytest.importorskip("av", reason="the extra `video` is not installed")
        from tests.support.clips import numbered, write_video

        assert av and write_video(place / "talk.mp4", numbered(4))
    small = [part for word in words[1:] for part in SMALL.get(word, [word])]
    done = run(small, place)
    # A film without a face is told, with status 2.
    status = 2 if words[-1] == "talk.mp4" else 0
    assert done.returncode == status, f"{done.stdout[-1000:]}{done.stderr[-3000:]}"
