"""Imports run one way, and the core needs neither tensorflow nor torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = (  # may import data_pipelines, lazily or not
    *("train", "evaluate", "report"),
    *("reconstruct", "fit", "doctor", "photo_commands", "tools"),
)

# Modules of data_pipelines that commands of the core import.
WITHOUT_TENSORFLOW = tuple(
    f"data_pipelines.{name}"
    for name in ("spec", "landmarks", "detector", "mediapipe_child", "fit_bp4d")
)

# What all but themselves and `host` may import.
EVERYWHERE = ("fields_jax.errors", "fields_jax.files", "fields_jax.disk")
# What each module or package of ours may import of ours. The longest matching name decides.
ALLOWED = {
    "fields_jax": (),
    "fields_jax.types": (),
    "fields_jax.host": (),
    "fields_jax.errors": (),
    "fields_jax.files": (),
    "fields_jax.disk": (),
    "fields_jax.cli": ("host",),
    "fields_jax.flame": ("types",),
    "fields_jax.render": ("types",),
    "fields_jax.photos": (),
    "fields_jax.models": ("types",),
    "fields_jax.losses": ("types",),
    "fields_jax.training.state": ("types",),
    "fields_jax.training.optim": ("types",),
    "fields_jax.training.parallel": ("types",),
    "fields_jax.training.metrics": ("types",),
    "fields_jax.training.writers": ("types", "cli", "training.events"),
    "fields_jax.training.events": (),
    "fields_jax.training.schema": ("types", "models", "training.parallel"),
    "fields_jax.training.integrity": ("training.packing",),
    "fields_jax.training.packing": (),
    "fields_jax.training.lock": (),
    "fields_jax.training.stop": (),
    "fields_jax.training.checkpoint": (
        *("types", "models"),
        *("training.integrity", "training.packing", "training.schema", "training.state"),
    ),
    "fields_jax.training.recipe": ("types", "render", "models", "losses"),
    "fields_jax.training.accumulate": ("losses",),
    "fields_jax.training.forward": (
        *("types", "flame", "render", "models", "losses", "training.recipe"),
    ),
    "fields_jax.training.retention": (),
    "fields_jax.training.step": (
        *("types", "losses"),
        *(
            "training.accumulate",
            "training.forward",
            "training.optim",
            "training.recipe",
            "training.state",
        ),
    ),
    "fields_jax.training": ("types", "cli", "flame", "render", "models", "losses"),
    "fields_jax.evaluation": ("types", "cli", "flame", "render", "models", "training.checkpoint"),
    "fields_jax.report": (
        *("types", "cli", "flame", "render", "models", "evaluation", "evaluate"),
        *("photos", "training.checkpoint", "training.schema"),
    ),
    "fields_jax.fitting": ("types", "flame", "render"),
    "fields_jax.convert": ("types", "cli", "flame"),
    "fields_jax.convert.networks": ("cli", "convert", "models", "training.checkpoint", "configs"),
    "fields_jax.export": ("types", "cli", "flame", "models", "training.checkpoint"),
    "fields_jax.tools": ("types", "cli", "flame", "models", "training"),
    "fields_jax.train": ("cli", "flame", "training"),
    "fields_jax.evaluate": (
        *("types", "cli", "flame", "render", "evaluation"),
        "training.checkpoint",
    ),
    "fields_jax.photo_commands": ("types", "cli", "photos", "report"),
    "fields_jax.reconstruct": (
        *("types", "cli", "flame", "photos", "report", "photo_commands"),
        "training.checkpoint",
    ),
    "fields_jax.fit": (
        *("types", "cli", "flame", "fitting", "photos", "report", "photo_commands"),
    ),
    "fields_jax.doctor": ("cli", "flame", "training.checkpoint"),
    "data_pipelines": ("flame", "render", "photos", "types"),
    "data_pipelines.bp4d": ("flame", "render", "fitting", "photos", "types"),
    "data_pipelines.fit_bp4d": ("cli", "flame", "render", "fitting", "types"),
    "data_pipelines.landmarks": ("cli", "photos"),
    "data_pipelines.prepare": ("cli",),
    "data_pipelines.manifests": ("cli", "photos"),
    "configs": (),
    "benchmarks.pipeline": ("cli", "configs"),
    "benchmarks.scans": ("types", "flame", "fitting"),
    "benchmarks.scan_fit": ("types", "cli", "flame", "fitting"),
    "benchmarks.overhead": ("types", "cli", "flame", "models", "training"),
    "benchmarks.scaling": ("cli",),
    "benchmarks.step": ("types", "cli", "flame", "models", "tools", "training"),
    "benchmarks": ("types", "cli", "flame", "render", "models", "configs"),
}


def modules() -> list[tuple[str, Path]]:
    found = []
    for package in ("fields_jax", "data_pipelines", "configs", "benchmarks"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append((".".join(parts).removesuffix(".__init__"), path))
    return found


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def own_package(name: str) -> str:
    """fields_jax.flame.lbs -> fields_jax.flame; modules of one package may import each other."""
    return max((key for key in ALLOWED if is_within(name, key)), key=len)


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda x: x if isinstance(x, str) else "")
def test_imports_run_one_way(name, path):
    rule = own_package(name)
    allowed = [
        entry if entry.startswith("configs") else f"fields_jax.{entry}" for entry in ALLOWED[rule]
    ]
    allowed += [rule]
    if rule in ("fields_jax.files", "fields_jax.disk"):
        allowed += ["fields_jax.errors"]
    elif rule not in ("fields_jax.host", "fields_jax.errors", "configs"):
        allowed += EVERYWHERE
    measured = rule == "benchmarks.pipeline" or name == "benchmarks.batches"
    if (
        measured
        or rule.startswith("data_pipelines")
        or rule.removeprefix("fields_jax.") in COMMANDS
    ):
        allowed += ["data_pipelines"]
    for target in imports(path):
        ours = any(is_within(target, p) for p in ("fields_jax", "data_pipelines", "configs"))
        # `from fields_jax import x` also lists the bare package, which imports nothing.
        bare = ("fields_jax", "fields_jax.__version__", "data_pipelines", "fields_jax.training")
        if ours and target not in bare:
            assert any(is_within(target, entry) for entry in allowed), f"{name} imports {target}"


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda x: x if isinstance(x, str) else "")
def test_only_the_pipelines_know_tensorflow_and_only_benchmarks_know_torch(name, path):
    third = {target.split(".")[0] for target in imports(path)}
    if not name.startswith("benchmarks"):
        assert "torch" not in third
    if not name.startswith("data_pipelines"):
        assert not third & {"tensorflow", "tensorflow_datasets", "clu"}
    if name in WITHOUT_TENSORFLOW:
        assert not third & {"tensorflow", "tensorflow_datasets"}


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "torch"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Block())
import fields_jax.reconstruct, fields_jax.fit, fields_jax.doctor, data_pipelines.landmarks
from tests.training import tiny_run
state, metrics = tiny_run(steps=1, phase='A')
assert int(state.step) == 1, state.step
import fields_jax.flame.io, fields_jax.training.loop, fields_jax.evaluation, fields_jax.report
assert not {"tensorflow", "torch"} & set(sys.modules), "imported in spite of the block"
print("loss", float(metrics["loss"]))
"""


def test_a_train_step_runs_with_tensorflow_and_torch_blocked():
    result = subprocess.run(
        [sys.executable, "-c", BLOCKED], capture_output=True, text=True, cwd=ROOT, timeout=900
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "loss" in result.stdout
