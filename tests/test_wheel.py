"""The wheel: all that the packages read is in it, and it works outside a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("fields_jax", "data_pipelines", "configs", "benchmarks")
pytestmark = pytest.mark.slow

USE = """
import sys
import numpy as np
import fields_jax
assert fields_jax.__file__.startswith(sys.prefix), fields_jax.__file__
(face,) = fields_jax.load().reconstruct(np.load("picture.npy"), boxes=(50, 30, 140, 145))
print(face.name, face.emotion["emotion"], *face.write("face"))
"""


def run(*command: str | Path, cwd: Path, status: int = 0) -> str:
    """What a command prints; it must end with this status."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=kept,
        check=False,
    )
    assert done.returncode == status, f"{command}: {done.stdout[-1000:]}{done.stderr[-3000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, for building leaves folders behind."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=_ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    build = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation")
    run(*build, "--no-index", "--wheel-dir", folder, folder / "source", cwd=folder)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """An environment with nothing but the wheel, which sees this one's packages behind it."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    made = folder / "bin/python"
    install = (sys.executable, "-m", "pip", "--python", made, "install", "--no-deps", "--no-index")
    run(*install, wheel, cwd=folder.parent)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A line of a .pth file is a path; .pth files in there, such as a checkout's, are not read.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return made


def _ignored(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name in ("__pycache__", "build") or name.startswith(".")]


def test_every_file_of_the_packages_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        there = set(archive.namelist())
    source = wheel.parent / "source"
    wanted = {
        path.relative_to(source).as_posix()
        for name in PACKAGES
        for path in (source / name).rglob("*")
        if path.is_file()
    }
    assert sorted(wanted - there) == []
    assert any(name.endswith("licenses/LICENSE") for name in there)
    # And nothing but the packages.
    others = {name.split("/")[0] for name in there - wanted}
    assert all(name.endswith(".dist-info") for name in others), others


def test_it_works_outside_a_checkout(python, tmp_path):
    """Configs by their names, help, and the model in the package on an array with a box."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "picture.npy", rng.integers(0, 256, (180, 200, 3), np.uint8))
    train = (python, "-m", "fields_jax.train", "--config=configs/stage2.py", "--dry_run")
    assert "phases  A: steps 0" in run(*train, cwd=tmp_path)
    helping = (python, "-m", "fields_jax.reconstruct", "--help")
    said = run(*helping, cwd=tmp_path, status=1)  # absl's, after help
    assert "python -m fields_jax.reconstruct --out=faces photographs" in said
    said = run(python, "-c", USE, cwd=tmp_path)
    assert said.startswith("picture_0 ") and "head.glb" in said and "emotion.json" in said
    assert (tmp_path / "face/params.npz").exists()
