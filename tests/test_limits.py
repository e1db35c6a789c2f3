"""Limits on the lengths of files, functions and parameter lists; `pytest -s` prints the longest."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGES = ("fields_jax", "data_pipelines", "configs", "benchmarks", "tests")
# Most lines of a file; lines that a function must stay below; most parameters of a function.
FILE, FUNCTION, PARAMETERS = 400, 80, 6

# Functions with more parameters than that, and why they are not bundled into a class.
LONG_LISTS = {
    "rasterize": "the mesh, the image's size, and options by name",
    "_rasterize": "the compiled half of rasterize",
    "_blend": "a function with a derivative of its own: arrays one by one",
    "_blend_vjp_forward": "as _blend",
    "_blend_forward": "as _blend",
    "_blend_backward": "as _blend, and its residuals",
    "Backbone.__call__": "the fields of a flax module, given in their order",
    "cycle_step": "mapped over devices: some arguments are split, others replicated",
    "turn": "as cycle_step, which it stands for in tests",
    "synthesizer_input": "photograph, mask, mesh and camera of a batch; FLAME's head; options",
    "synthesize": "as synthesizer_input, and the networks",
    "_paint": "compiled: photographs, masks, meshes and cameras of a batch; two static arguments",
    "keep_skin": "photograph, mask, mesh and camera of a batch; FLAME's head; options",
    "paste_skin": "as keep_skin, between two poses",
    "solve_landmarks": "compiled with two static arguments",
    "_mirror": "columns of one mesh",
}


class Function(NamedTuple):
    """A function of ours: where it is, how many lines it has, and how many parameters."""

    file: str
    name: str
    lines: int
    parameters: int


def sources() -> dict[str, str]:
    files = (path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py")))
    return {str(path.relative_to(ROOT)): path.read_text() for path in files}


def functions(file: str, source: str) -> Iterator[Function]:
    """Functions and methods; `self` and `cls` are no parameters."""
    tree = ast.parse(source)
    methods = {
        id(node): owner.name
        for owner in ast.walk(tree)
        if isinstance(owner, ast.ClassDef)
        for node in owner.body
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        arguments = node.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        count = len(names) - (names[:1] in (["self"], ["cls"]))
        special = node.name.startswith("__") and id(node) in methods
        name = f"{methods[id(node)]}.{node.name}" if special else node.name
        yield Function(file, name, node.end_lineno - node.lineno + 1, count)


def test_files_and_functions_are_short():
    texts = sources()
    lengths = {file: len(text.splitlines()) for file, text in texts.items()}
    found = [each for file, text in texts.items() for each in functions(file, text)]
    longest, most = max(found, key=lambda f: f.lines), max(found, key=lambda f: f.parameters)
    middle = sorted(each.lines for each in found)[len(found) // 2]
    largest = max(lengths, key=lengths.get)
    print(
        f"\n{len(texts)} files, the longest {largest} with {lengths[largest]} lines; "
        f"{len(found)} functions, half of them up to {middle} lines, the longest {longest.name} in "
        f"{longest.file} with {longest.lines}; most parameters: {most.name} with {most.parameters}"
    )
    assert {file: count for file, count in lengths.items() if count > FILE} == {}
    assert [each for each in found if each.lines >= FUNCTION] == []


def test_parameter_lists_are_short_but_for_those_with_a_reason():
    long_lists = {
        each.name: f"{each.name} of {each.file} takes {each.parameters}"
        for file, text in sources().items()
        for each in functions(file, text)
        if each.parameters > PARAMETERS
    }
    assert [line for name, line in long_lists.items() if name not in LONG_LISTS] == []
    assert LONG_LISTS.keys() <= long_lists.keys(), "a reason is no longer needed"
