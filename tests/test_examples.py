"""The scripts of examples/ run as their docstrings say, in their small form."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import fields_jax
from fields_jax import face3d, reconstruction
from fields_jax.outputs.bundle import load_params
from tests.support.portraits import write_photograph
from tests.support.workdirs import write_workdir

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    write_photograph(folder / "two.png", places=((10, 20), (160, 60)))
    for index in range(5):
        write_photograph(folder / f"frames/frame_{index}.png", places=((5 + 2 * index, 10),))
    write_workdir(folder)
    return folder


@pytest.fixture
def start(place, monkeypatch, capsys):
    """Runs a script in this process, with a small model in the place of the package's."""
    model = reconstruction.load(place / "run")
    monkeypatch.setattr(fields_jax, "load", lambda: model)
    monkeypatch.setattr(face3d, "find_python", lambda: None)

    def call(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return call


def test_every_example_is_in_cells_and_says_how_it_is_run():
    names = sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert names == ["clip_to_csv.py", "own_training_set.py", "photograph_to_glb.py"]
    for name in names:
        text = (EXAMPLES / name).read_text()
        assert f"python examples/{name} " in ast.get_docstring(ast.parse(text))
        assert text.count("\n# %% ") >= 4


def test_a_photograph_becomes_glbs(place, start):
    said = start("photograph_to_glb.py", place / "two.png", place / "glbs")
    assert "two_0: landmark file two.npy" in said and "two_1" in said
    made = {path.name for path in (place / "glbs").glob("*.glb")}
    kinds = ("exact", "neutral", "as_two_0")
    assert made == {f"two_{number}_{kind}.glb" for number in (0, 1) for kind in kinds}
    assert (place / "glbs/two_1/head.glb").read_bytes()[:4] == b"glTF"
    _, meta = load_params(place / "glbs/two_0/params.npz")
    assert "expression_from" not in meta


def script(name: str, *arguments: Path) -> str:
    """What a script prints in a process of its own, with the model in the package."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=EXAMPLES.parent, check=False)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_clip_becomes_tables(place):
    said = script("clip_to_csv.py", place / "frames", place / "tables")
    assert "person_0: 5 frames" in said and "mouth widest at" in said
    assert (place / "tables/person_0/clip_livelink.csv").exists()


@pytest.mark.slow
def test_own_photographs_become_a_training_set_and_a_model(tmp_path):
    for number in range(12):
        place = (10 + 7 * number, 10 + number)
        write_photograph(tmp_path / f"photographs/p{number}.png", places=(place,))
    script("own_training_set.py", tmp_path / "photographs", tmp_path / "work")
    assert (tmp_path / "work/run/metrics.jsonl").exists()
    assert len(list((tmp_path / "work/faces").glob("p*/params.npz"))) == 12
