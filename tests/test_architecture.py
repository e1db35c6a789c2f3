"""Imports run one way, and the core needs neither tensorflow nor torch."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BARE = ("fields_jax", "fields_jax.__version__", "data_pipelines", "fields_jax.training")
# Modules of fields_jax that import only each other and that everything may import.
FOUNDATION = (
    *("errors", "types", "batch", "emotions", "landmark_schemes", "files", "disk", "cpu_tuning"),
    *("data_sets", "compile_cache", "progress", "pages", "arkit", "kept", "platforms"),
)
MODEL = ("geometry", "flame", "render", "models", "synthesis")
# What each module or package may import of fields_jax (and configs) besides the foundation and its
# own package; the longest matching name decides. Only data_pipelines and benchmarks import
# data_pipelines; the modules of READS_SHARDS may too, inside a function.
ALLOWED = {
    "fields_jax": ("reconstruction", "landmark_fit", "face3d"),  # inside functions
    **{f"fields_jax.{name}": () for name in FOUNDATION},
    "fields_jax.cli": (),
    "fields_jax.geometry": (),
    "fields_jax.flame": ("geometry",),
    "fields_jax.render": ("geometry",),
    "fields_jax.models": ("geometry",),
    "fields_jax.synthesis": ("flame", "render"),
    "fields_jax.losses": (),
    "fields_jax.photos": ("geometry",),
    "fields_jax.workdir": ("models",),
    "fields_jax.fitting": ("geometry", "flame", "render"),
    **dict.fromkeys(
        ("fields_jax.fitting.photographs", "fields_jax.fitting.refine", "fields_jax.fitting.gaze"),
        ("geometry", "flame", "fitting", "photos"),
    ),
    "fields_jax.registration": ("geometry", "flame", "render", "fitting"),
    "fields_jax.evaluation": (*MODEL, "workdir"),
    "fields_jax.evaluation.photographs": (*MODEL, "evaluation", "fitting", "photos", "outputs"),
    "fields_jax.evaluation.photograph_scoring": (
        *(*MODEL, "evaluation", "fitting", "photos", "workdir", "networks"),
    ),
    "fields_jax.evaluation.probe": (*MODEL, "evaluation", "losses"),
    "fields_jax.evaluation.reconstructions": (*MODEL, "evaluation", "losses", "workdir"),
    # A GLB says the expression in ARKit's weights.
    "fields_jax.outputs": (*MODEL, "photos", "workdir", "registration"),
    "fields_jax.report": (*MODEL, "fitting", "photos", "workdir", "evaluation", "outputs", "clips"),
    "fields_jax.report.__main__": ("flame", "evaluation", "report", "cli"),
    "fields_jax.training": (*MODEL, "losses", "workdir"),
    "fields_jax.convert": (*MODEL, "registration", "workdir", "configs"),
    "fields_jax.convert.__main__": ("flame", "convert", "cli"),
    "fields_jax.export": ("outputs", "report", "workdir", "cli"),
    "fields_jax.tools": (),
    "fields_jax.tools.aot_compile": (*MODEL, "losses", "workdir", "training", "tools", "cli"),
    "fields_jax.train": (*MODEL, "workdir", "training", "cli"),
    "fields_jax.face3d": ("photos", "outputs"),
    "fields_jax.landmark_fit": ("flame", "fitting", "photos", "outputs", "finder", "face3d"),
    "fields_jax.photo_commands": (
        *("photos", "report", "clip_commands", "export_commands", "expression_commands"),
    ),
    "fields_jax.painting": ("render", "photos", "outputs", "workdir"),
    "fields_jax.expression_commands": ("outputs", "face3d"),
    "fields_jax.export_commands": ("photos", "outputs", "report", "clips", "clip_commands"),
    # Clips are faces of photographs in a row: all that makes files of one makes those of a clip.
    "fields_jax.clips": (*MODEL, "photos", "registration", "outputs"),
    "fields_jax.clip_commands": ("photos", "clips", "report"),
    "fields_jax.clip_readers": (
        *("flame", "fitting", "photos", "outputs", "clips", "networks", "reconstruction"),
    ),
    "fields_jax.networks": ("flame", "models", "photos", "outputs", "workdir"),
    "fields_jax.evaluate": ("evaluation", "report", "cli"),
    "fields_jax.probe": ("evaluation", "report", "cli"),
    # A reconstruction becomes a submission, and its scores a figure.
    "fields_jax.now": ("flame", "evaluation", "outputs", "report", "cli"),
    "fields_jax.scan_to_mesh": ("geometry", "flame", "evaluation", "cli"),
    "fields_jax.emotion_network": (
        *("models", "workdir", "training", "evaluation", "train", "cli"),
    ),
    "fields_jax.ablation": ("workdir",),
    "fields_jax.ablate": (
        *("flame", "workdir", "ablation", "evaluation", "report", "train", "emotion_network"),
        "cli",
    ),
    "fields_jax.assets": (),
    "fields_jax.finder": ("geometry", "models", "photos"),
    "fields_jax.confirming": ("flame", "photos", "outputs", "workdir", "finder", "networks"),
    "fields_jax.train_finder": ("evaluation", "finder", "training", "cli"),
    "fields_jax.reconstruction": (
        *(*MODEL, "fitting", "workdir", "photos", "outputs"),
        *("finder", "confirming", "networks", "face3d"),
    ),
    "fields_jax.reconstruct": (
        *("reconstruction", "workdir", "photo_commands", "clip_commands", "clip_readers"),
        *("export_commands", "expression_commands", "painting", "clips", "finder", "cli"),
    ),
    "fields_jax.fit": (
        *("flame", "fitting", "photos", "photo_commands", "clip_commands", "export_commands"),
        *("expression_commands", "landmark_fit", "clip_readers", "clips", "finder", "cli"),
    ),
    "fields_jax.transfer": ("flame", "registration", "convert", "photos", "outputs", "cli"),
    "fields_jax.doctor": ("flame", "photos", "workdir", "finder", "cli"),
    "data_pipelines": ("geometry", "flame", "render", "fitting", "registration", "photos"),
    "data_pipelines.fit_bp4d": ("geometry", "flame", "render", "fitting", "photos", "cli"),
    "data_pipelines.landmarks": ("photos", "cli"),
    "data_pipelines.prepare": ("cli",),
    "data_pipelines.manifests": ("photos",),
    "data_pipelines.manifests.__main__": ("cli",),
    "configs": (),
    "benchmarks.confidence": (
        *("flame", "render", "photos", "outputs", "finder", "networks", "reconstruction", "cli"),
    ),
    "benchmarks.finding": (
        *("geometry", "photos", "outputs", "evaluation", "finder", "confirming", "cli"),
    ),
    "benchmarks.now": ("geometry", "flame", "evaluation", "outputs", "cli"),
    "benchmarks.refine": (*MODEL, "evaluation", "fitting", "photos", "workdir", "cli"),
    "benchmarks": (
        *(*MODEL, "fitting", "registration", "training", "workdir", "tools", "cli"),
        "configs",
    ),
}
READS_SHARDS = ("fields_jax.train", "fields_jax.train_finder", "fields_jax.evaluation.scoring")


def modules() -> list[tuple[str, Path]]:
    found = []
    for package in ("fields_jax", "data_pipelines", "configs", "benchmarks"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append((".".join(parts).removesuffix(".__init__"), path))
    return found


def imports(path: Path, *, at_import_time: bool = False) -> set[str]:
    """Dotted names that a file imports: anywhere, or only where it is imported itself."""
    tree = ast.parse(path.read_text())
    names = set()
    for node in tree.body if at_import_time else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def own_package(name: str) -> str:
    """The longest entry of ALLOWED that a module falls under: fields_jax.flame.lbs -> *.flame."""
    return max((key for key in ALLOWED if is_within(name, key)), key=len)


def full_name(entry: str) -> str:
    """The dotted name that a short entry of ALLOWED or FOUNDATION stands for."""
    return entry if entry == "configs" else f"fields_jax.{entry}"


def unit(name: str) -> str:
    """The package or single module that a dotted name is in: fields_jax.flame.lbs -> *.flame."""
    first, *rest = name.split(".")
    if first == "fields_jax" and rest:
        return f"fields_jax.{rest[0]}"
    return first if first in ("data_pipelines", "configs", "benchmarks") else "other"


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda x: x if isinstance(x, str) else "")
def test_imports_run_one_way(name, path):
    rule = own_package(name)
    assert rule != "fields_jax" or name == rule, f"{name} needs an entry in ALLOWED"
    known = (rule, *(full_name(entry) for entry in (*FOUNDATION, *ALLOWED[rule])))
    for target in imports(path):
        if is_within(target, "data_pipelines"):
            late = name in READS_SHARDS and target not in imports(path, at_import_time=True)
            assert late or name.startswith(("data_pipelines", "benchmarks")), f"imports {target}"
        # `from fields_jax import x` also lists the bare package, which imports nothing.
        elif (is_within(target, "fields_jax") and target not in BARE) or is_within(
            target, "configs"
        ):
            assert any(is_within(target, entry) for entry in known), f"{name} imports {target}"


def test_no_two_packages_import_each_other():
    """Packages and single modules of fields_jax form no circle, even where ALLOWED permits one."""
    graph: dict[str, set[str]] = {}
    for name, path in modules():
        importer = unit(name)
        found = {unit(target) for target in imports(path) if target not in BARE}
        graph.setdefault(importer, set()).update(found - {importer, "other"})
    order = graphlib.TopologicalSorter(graph)
    order.prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda x: x if isinstance(x, str) else "")
def test_only_the_pipelines_know_tensorflow_and_only_benchmarks_know_torch(name, path):
    third = {target.split(".")[0] for target in imports(path)}
    if not name.startswith("benchmarks"):
        assert "torch" not in third
    if not name.startswith("data_pipelines"):
        assert not third & {"tensorflow", "tensorflow_datasets", "clu"}


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "torch", "data_pipelines"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Block())
import fields_jax.reconstruct, fields_jax.fit, fields_jax.doctor, fields_jax.export
import fields_jax.outputs.program, fields_jax.outputs.bundle, fields_jax.fitting.landmarks
import fields_jax.convert.networks
from tests.support.tiny_training import tiny_run
state, metrics = tiny_run(steps=1, phase='A')
assert int(state.step) == 1, state.step
import fields_jax.flame.io, fields_jax.training.loop, fields_jax.evaluation.scoring
import fields_jax.report.gallery, fields_jax.report.html
loaded = {"tensorflow", "torch", "data_pipelines"} & set(sys.modules)
assert not loaded, "imported in spite of the block"
print("loss", float(metrics["loss"]))
"""


def test_a_train_step_runs_with_tensorflow_and_torch_blocked():
    result = subprocess.run(
        [sys.executable, "-c", BLOCKED], capture_output=True, text=True, cwd=ROOT, timeout=900
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "loss" in result.stdout


HELP = """
import runpy, sys
command = sys.argv[1]
sys.argv = [command, "--help"]
try:
    runpy.run_module(command, run_name="__main__", alter_sys=True)
except SystemExit:
    pass
slow = {"jax", "jaxlib", "flax", "orbax", "tensorflow", "tensorflow_datasets", "matplotlib"}
print("loaded", sorted(slow & set(sys.modules)))
"""


def commands() -> list[str]:
    """What a user runs by `python -m`: the modules that end in a call of `cli.run`."""
    found = (name for name, path in modules() if "run(main)" in path.read_text()[-60:])
    return [name for name in found if not name.startswith("benchmarks")]  # which are all of jax


@pytest.mark.parametrize("name", commands())
def test_help_does_not_wait_for_what_the_work_needs(name):
    shown = subprocess.run(
        [sys.executable, "-c", HELP, name.removesuffix(".__main__")],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert f"python -m {name.removesuffix('.__main__')}" in shown.stdout, shown.stderr[-2000:]
    assert shown.stdout.splitlines()[-1] == "loaded []"
