"""Reads costs from the text of a compiled program, in XLA's notation."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

# Bytes of an element, by XLA's names of types.
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "f64": 8}
_COLLECTIVE = re.compile(
    r"= (?P<shape>[^=]*?) (all-reduce|all-gather|reduce-scatter|all-to-all)(-start)?\("
)
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](\{[^}]*\})?")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\(([^)]*)\)(.*)$")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{\s*$")
_OPERATION = re.compile(r'op_name="([^"]*)"')
_MODULE = re.compile(r"(?!branch_\d)[a-z]\w*")
_CONTROL = frozenset(
    ["cond", "while", "body", "closed_call", "scan", "checkpoint", "remat", "shard_map"]
)
_DIM_LABELS = re.compile(r"dim_labels=\w+_(\w+)->")
_CONTRACTED = re.compile(r"lhs_contracting_dim(?:s=\{|ensions\":\[)([\d,\"]*)")
_MULTIPLIES = re.compile(r'custom_call_target="__(cudnn\$conv|cublas\$)')  # in a library's function
_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
_SLICING = frozenset(["slice", "dynamic-slice", "gather"])
# Instructions that move no bytes: they name or rename memory, or wait for another instruction.
# fmt: off
_FREE = frozenset([
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota",
    "copy-done", "slice-done", "all-reduce-done", "all-gather-done", "async-done",
    "partition-id", "replica-id",
])
# fmt: on


def collectives(text: str) -> tuple[int, int]:
    """How many collectives a program has, and the bytes of their results."""
    shapes = [match["shape"] for match in _COLLECTIVE.finditer(_without_comments(text))]
    return len(shapes), sum(size for shape in shapes for size, _ in _arrays(shape))


def memory_traffic(text: str) -> Counter[str]:
    """Bytes that a program's instructions read from and write to a device's main memory.

    An instruction reads its operands, or the slices that it takes of them, and writes its results,
    once each; data on the chip (memory space 1 of a TPU's layouts) and inside a fusion costs
    nothing. Loops count as often as the compiler knows they run, else once; conditionals count
    their costliest branch.

    Arrays count by their shapes. A TPU fills whole tiles: an array whose innermost axis is a batch
    of 64 images takes, and moves, twice as much as is counted here.

    `cost_analysis()["bytes accessed"]` counts on-chip memory too, several times as much on a TPU.

    Returns:
      By place in the model, "synthesizer/decoder1, backward" or "" where no module is named, such
      as losses and optimiser. A fusion is where its last operation is.
    """
    computations, entry = _computations(_without_comments(text))

    def cost(name: str) -> Counter[str]:
        places = {label: shape for label, shape, *_ in computations[name]}
        total: Counter[str] = Counter()
        for _, shape, kind, operands, attributes in computations[name]:
            if called := _called(kind, attributes):
                trips = _trips(kind, attributes)
                dearest = max(map(cost, called), key=Counter.total)
                for place, moved in dearest.items():
                    total[place] += moved * trips
            elif kind in ("copy-start", "slice-start"):
                source, target = list(_arrays(shape))[:2]
                total[_place(attributes)] += target[0] * (source[1] + target[1])
            elif kind not in _FREE:
                body = computations.get(_called_by_fusion(attributes), [])
                if _MULTIPLIES.search(attributes):
                    shape, _, _ = shape.partition(", ")  # without the memory it works in
                moved = _off_chip(shape)
                for index, operand in enumerate(map(_name, operands)):
                    whole = _off_chip(places.get(operand, ""))
                    taken = _slices(body, index) if body else [shape] * (kind in _SLICING)
                    parts = sum(size for part in taken for size, _ in _arrays(part))
                    moved += min(whole, parts or whole)
                total[_place(attributes)] += moved
        return total

    return cost(entry)


def _slices(body: list[tuple], index: int) -> list[str]:
    """The types of what a fusion slices off its parameter of that index; none if it reads more."""
    wanted = ("parameter", [str(index)])
    name = next((label for label, _, kind, given, _ in body if (kind, given) == wanted), "")
    users = [(shape, kind) for _, shape, kind, operands, _ in body if name in map(_name, operands)]
    return [shape for shape, _ in users] if all(kind in _SLICING for _, kind in users) else []


def _off_chip(shape: str) -> int:
    """Bytes of a type's arrays that lie in main memory."""
    return sum(size * off for size, off in _arrays(shape))


def matrix_flops(text: str) -> int:
    """FLOPs of a program's matrix products and convolutions, those of cuBLAS and cuDNN too.

    Loops and conditionals count as in `memory_traffic`, and the padding of a convolution as image.
    """
    computations, entry = _computations(_without_comments(text))

    def cost(name: str) -> int:
        places = {label: shape for label, shape, *_ in computations[name]}
        total = 0
        for _, shape, kind, operands, attributes in computations[name]:
            called = _called(kind, attributes)
            if fused := _called_by_fusion(attributes):
                called = [fused]
            if called:
                total += _trips(kind, attributes) * max(map(cost, called))
            elif kind in ("dot", "convolution") or _MULTIPLIES.search(attributes):
                read = [places.get(_name(operand), "") for operand in operands]
                total += _products(shape, read, attributes)
        return total

    return cost(entry)


def _products(shape: str, read: Sequence[str], attributes: str) -> int:
    """FLOPs of one matrix product or convolution."""
    result, left, right = (_sizes(each) for each in (shape, *read[:2]))
    labels = _DIM_LABELS.search(attributes)
    if labels is None:
        contracted = _CONTRACTED.search(attributes)
        axes = re.findall(r"\d+", contracted[1]) if contracted else []
        return 2 * math.prod(result) * math.prod(left[int(axis)] for axis in axes)
    # A convolution's gradients multiply as often as it does itself.
    image, kernel = result, right
    if "convBackwardInput" in attributes:
        image = left
    elif "convBackwardFilter" in attributes:
        image, kernel = right, result
    return 2 * math.prod(image) * math.prod(kernel) // kernel[labels[1].index("o")]


def _sizes(shape: str) -> list[int]:
    """The axes of a type, or of its first member."""
    _, sizes, _ = _ARRAY.search(shape).groups()
    return [int(n) for n in sizes.split(",") if n]


def _name(operand: str) -> str:
    return operand.strip().split(" ")[-1].lstrip("%")


def _trips(kind: str, attributes: str) -> int:
    """How often an instruction runs what it calls."""
    known = _TRIPS.search(attributes) if kind == "while" else None
    return int(known[1]) if known else 1


def _place(attributes: str) -> str:
    """The module that an instruction is of, two levels deep, and whether of its gradient."""
    name = _OPERATION.search(attributes)
    if name is None:
        return ""
    *path, _ = name[1].split("/")  # without the operation itself
    modules = [part for part in path if _MODULE.fullmatch(part) and part not in _CONTROL]
    backward = ", backward" if "transpose(" in name[1] else ""
    return "/".join(modules[:2]) + backward if modules else ""


def _computations(text: str) -> tuple[dict[str, list[tuple]], str]:
    """{name: [(instruction, shape, kind, operands, attributes)]} and the entry's name."""
    found: dict[str, list[tuple]] = {}
    entry = current = ""
    for line in text.splitlines():
        if (match := _COMPUTATION.match(line)) and not line.startswith(" "):
            current = match[2]
            found[current] = []
            entry = current if match[1] else entry
        elif current and (match := _INSTRUCTION.match(line)):
            name, shape, kind, operands, attributes = match.groups()
            found[current].append((name, shape, kind, operands.split(","), attributes))
    return found, entry


def _called(kind: str, attributes: str) -> list[str]:
    """The computations that an instruction runs instead of doing something itself."""
    if kind == "while":
        return re.findall(r"body=%?([\w.\-]+)", attributes)
    if kind == "conditional":
        if several := re.search(r"branch_computations=\{([^}]*)\}", attributes):
            return re.findall(r"[\w.\-]+", several[1])
        return re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", attributes)
    return []


def _called_by_fusion(attributes: str) -> str:
    """The computation that a fusion runs; "" for other instructions."""
    match = re.search(r" calls=%?([\w.\-]+)", attributes)
    return match[1] if match else ""


def _arrays(shape: str) -> Iterator[tuple[int, bool]]:
    """(bytes, whether in main memory) of each array of a type."""
    for kind, sizes, layout in _ARRAY.findall(shape):
        count = math.prod(int(n) for n in sizes.split(",") if n)
        yield _BYTES.get(kind, 4) * count, "S(" not in layout


def _without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", "", text)  # tuples count their members in comments
