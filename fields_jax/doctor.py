"""Says which parts of fields_jax work here, what is missing, and how to get it.

    python -m fields_jax.doctor
    python -m fields_jax.doctor --head=FLAME.npz --workdir=runs/teaser --data_root=data --json

Looks at versions, devices, heads (*.npz here and in assets/), workdirs and converted weights
(runs/*, runs/*/*), data sets (data, data/embedded, runs/*/data) and the environment of the face
detector. --head, --workdir and --data_root name others.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import sys
import textwrap
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

from absl import flags
from etils import epath

from fields_jax import __version__
from fields_jax.cli import run, told_lack
from fields_jax.data_sets import SETS, remedy
from fields_jax.errors import UserError, first_line, printable
from fields_jax.files import parse_json, read_bytes
from fields_jax.photos.detector import Detector, DetectorError, find_python

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets")
# Converted weights: source as named in checkpoints, arguments of fields_jax.convert, use.
_WEIGHTS = (
    ("TEASER", "teaser TEASER.pt runs/teaser", "to start from its encoders and synthesiser"),
    ("SMIRK", "smirk SMIRK_em1.pt runs/smirk", "to start from its encoders and synthesiser"),
    ("VGG16", "vgg16 vgg16.pth runs/vgg16", "for the perceptual loss"),
    ("ResNet-50", "emotion_resnet50 CHECKPOINT runs/emotion", "for the emotion-feature loss"),
)
_DESCRIPTION = ("dataset_info", "features")  # files that say what a prepared set holds
# NAME/VERSION and NAME/CONFIG/VERSION below a root
_PREPARED = ("*/*/dataset_info.json", "*/*/*/dataset_info.json")
_WIDTH = 100


class Check(NamedTuple):
    """One line of the table.

    Attributes:
      group: heading it stands under.
      name: what was looked at.
      ok: whether it is there and usable.
      found: version, hash, or what is wrong.
      remedy: what to do where it is not ok, or "".
    """

    group: str
    name: str
    ok: bool
    found: str
    remedy: str = ""


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_multi_string("head", [], "head .npz to look at")
    flags.DEFINE_multi_string("workdir", [], "training run or converted weights to look at")
    flags.DEFINE_multi_string("data_root", [], "folder of prepared data sets to look at")
    flags.DEFINE_bool("json", False, "print JSON instead of a table")


def main(argv: list[str]) -> None:
    """The command."""
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; see --help")
    chosen = flags.FLAGS
    here = epath.Path()
    checks = [*versions(), *devices(), landmark_environment()]
    if not any(check.group == "devices" and not check.ok for check in checks):  # the rest needs one
        checks += [
            *heads(chosen.head or _matching(here, "*.npz", "assets/*.npz")),
            *workdirs(chosen.workdir or _workdirs(here)),
            *data_sets(chosen.data_root or _matching(here, "data", "data/embedded", "runs/*/data")),
            packaged_finder(),
        ]
    if chosen.json:
        print(json.dumps([check._asdict() for check in checks], indent=1))
    else:
        print(table(checks))


def versions() -> Iterator[Check]:
    """The program, Python and packages."""
    from fields_jax.workdir.config import git_hash

    commit = git_hash()
    yield Check("program", "fields_jax", True, f"{__version__} {commit[:12]}".strip())
    yield Check("program", "python", True, f"{platform.python_version()}, {platform.platform()}")
    for name in _PACKAGES:
        yield Check("program", name, True, metadata.version(name))
    name = "tensorflow"
    if importlib.util.find_spec(name) is None:
        use = "needed to train and evaluate only: pip install -e '.[data]'"
        yield Check("program", name, False, "absent", use)
    else:
        yield Check("program", name, True, _first_version("tensorflow", "tensorflow-cpu"))


def devices() -> Iterator[Check]:
    """What JAX computes on."""
    import jax

    try:
        found = jax.devices()
    except Exception as error:
        lack = told_lack(error)
        if lack is None:
            raise
        yield Check("devices", "jax", False, "none", lack)
        return
    kinds = sorted({device.device_kind for device in found})
    text = f"{len(found)} x {', '.join(kinds)} ({found[0].platform}), {os.cpu_count()} CPU cores"
    use = ""
    if found[0].platform == "cpu":
        use = "for an accelerator: pip install -e '.[cuda]' or -e '.[tpu]'"
    yield Check("devices", "jax", True, text, use)


def heads(paths: list[str]) -> Iterator[Check]:
    """The procedural head and heads on disk."""
    from fields_jax.flame.io import load_flame
    from fields_jax.flame.procedural import procedural_head

    head = procedural_head()
    yield Check("heads", "procedural", True, f"version {head.version}, sha256 {head.sha256[:12]}")
    converted = False
    for path in paths:
        try:
            head = load_flame(path)
        except (UserError, OSError) as error:
            yield Check("heads", path, False, str(error), "convert it again")
            continue
        converted |= head.name != "procedural"
        text = f"{head.name} {head.version}, sha256 {head.sha256[:12]}"
        yield Check("heads", path, True, text)
    if not converted:
        use = (
            "fetch FLAME from its project's site, then `python -m fields_jax.convert flame "
            "generic_model.pkl FLAME.npz` and `... convert embeddings DIR FLAME.npz`; or, under "
            "MIT's licence, clone github.com/ICT-VGL/ICT-FaceKit, then "
            "`... convert ict ICT-FaceKit ICT.npz`"
        )
        yield Check("heads", "FLAME", False, "absent; the procedural head stands in", use)


def workdirs(paths: list[str]) -> Iterator[Check]:
    """The model in the package, training runs and converted weights."""
    from fields_jax.workdir import packed
    from fields_jax.workdir.inference import read_meta

    origins = set()
    brought = [packed.EMBEDDED] if (packed.PACKAGED / packed.MODEL).exists() else []
    for path in (*brought, *paths):
        try:
            meta, step = read_meta(path)
        except (UserError, OSError) as error:
            yield Check("weights", path, False, str(error))
            continue
        source = meta.get("source")
        if source:
            origins.add(source["name"])
            text = f"converted from {source['name']}, sha256 {source['sha256'][:12]}"
        else:
            text = f"step {step}, trained {', '.join(meta['trained'])}, git {meta['git'][:12]}"
        yield Check("weights", path, True, text)
    for name, arguments, use in _WEIGHTS:
        if name not in origins:
            command = f"python -m fields_jax.convert {arguments}"
            yield Check("weights", name, False, "absent", f"{use}: fetch them, then `{command}`")


def data_sets(roots: list[str]) -> Iterator[Check]:
    """Prepared sets below the roots, and the kinds of sets that are absent."""
    kinds = set()
    for root in roots:
        for file in _matching(epath.Path(root), *_PREPARED):
            folder = epath.Path(file).parent
            yield _data_set(folder)
            kinds.add(folder.relative_to(root).parts[0])
    for kind in SETS:
        if kind not in kinds:
            yield Check("data", kind, False, "absent", remedy(kind, "data"))


def landmark_environment() -> Check:
    """The face detector, started once."""
    name, python = "face detector", find_python()
    make = "`make landmarks` in the folder of fields_jax"
    if python is None:
        return Check("landmarks", name, False, "absent", make)
    try:
        with Detector(python) as detector:
            return Check("landmarks", name, True, detector.name)
    except (DetectorError, OSError) as error:
        again = f"remove .venv-landmarks, then {make}"
        return Check("landmarks", name, False, str(error), again)


def packaged_finder() -> Check:
    """The finder of faces in the package, which is asked where there is no detector."""
    from fields_jax.finder import PACKAGED, read_network

    name = "finder of faces"
    try:
        about = read_network(PACKAGED).about
    except UserError as error:
        return Check("landmarks", name, False, str(error), "install fields_jax again")
    return Check("landmarks", name, True, f"in the package, sha256 {about['sha256'][:12]}")


def table(checks: list[Check]) -> str:
    """The checks under their headings, what is missing with its remedy."""
    checks = [
        check._replace(**{n: printable(getattr(check, n)) for n in ("name", "found", "remedy")})
        for check in checks
    ]
    width = min(max(len(check.name) for check in checks), 32)
    lines, before = [], ""
    for check in checks:
        if check.group != before:
            lines += ["", check.group]
            before = check.group
        mark = "ok" if check.ok else "--"
        indent = " " * (width + 7)
        head = f"  {mark}  {check.name:{width}} "
        if len(check.name) > width:
            lines.append(head.rstrip())
            head = indent
        lines += _wrapped(head, indent, check.found)
        if check.remedy:
            lines += _wrapped(f"{indent}-> ", f"{indent}   ", check.remedy)
    missing = sum(not check.ok for check in checks)
    lines += ["", f"{len(checks) - missing} found, {missing} missing"]
    return "\n".join(lines).lstrip("\n")


def _wrapped(first: str, rest: str, text: str) -> list[str]:
    """Text in lines of at most _WIDTH characters, with prefixes."""
    width = _WIDTH - len(rest)
    lines = textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)
    return [first + lines[0], *(rest + line for line in lines[1:])]


def _first_version(*names: str) -> str:
    """Version of the first installed distribution, or "there" if none of them is."""
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "there"


def _matching(folder: epath.Path, *patterns: str) -> list[str]:
    """Paths below a folder, as the user would type them."""
    return [str(path) for pattern in patterns for path in sorted(folder.glob(pattern))]


def _workdirs(folder: epath.Path) -> list[str]:
    found = _matching(folder, "runs/*/checkpoints", "runs/*/*/checkpoints")
    return [str(epath.Path(path).parent) for path in found]


def _data_set(folder: epath.Path) -> Check:
    """A prepared set: sizes of its splits, and the hash that training writes down."""
    try:
        described = [read_bytes(folder / f"{part}.json") for part in _DESCRIPTION]
        splits = parse_json(described[0], f"{folder}/{_DESCRIPTION[0]}.json")["splits"]
        sizes = [f"{s['name']} {sum(map(int, s['shardLengths']))}" for s in splits]
    except (ValueError, KeyError, TypeError, OSError) as error:
        found = f"unreadable ({first_line(error)})"
        return Check("data", str(folder), False, found, "remove it, make it anew")
    digest = hashlib.sha256(b"".join(described)).hexdigest()[:12]
    return Check("data", str(folder), True, f"{', '.join(sizes)}; sha256 {digest}")


if __name__ == "__main__":
    define_flags()
    sys.exit(run(main))
