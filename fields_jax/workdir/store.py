"""Checkpoints: Orbax items under WORKDIR/checkpoints/<step>/, the config beside them.

Items: `params`, `batch_stats`, `opt_state` (one vector per network and type, see codec.py),
`base` (only where a base model is kept), `ema` (only where a mean of the parameters is),
`counters` (step, bad steps), `data` (seed and step: the pipeline is a pure function of both),
`meta` (config, git hash, head, data, trained networks) and `checksums` of all others, which are
compared on every read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy

from fields_jax.disk import quiet_orbax, writing
from fields_jax.errors import UserError, first_line
from fields_jax.files import is_remote, read_json, write_whole
from fields_jax.models.fields import FieldsModel, build_model, variable_shapes
from fields_jax.types import FlameModel, TrainState
from fields_jax.workdir import codec, schema
from fields_jax.workdir.integrity import DamagedError, json_checksum, tree_checksum, verify

PyTree = Any
CONFIG_FILE = "config.json"
_OURS = {"stage", "phases", "optim", "data"}  # keys that tell a config.json of training from others
# What a start leaves in a workdir, besides checkpoints; the config is last.
_OF_A_START = (
    *("metrics.jsonl", "tensorboard", "images", "profile", "best.json", "bad_examples*.jsonl"),
    CONFIG_FILE,
)
# Keys that may change between two runs on one workdir: they do not change what is learnt. Of
# init_from the place may change, but not whether there is one.
FREE_KEYS = (
    "log",
    "checkpoint",
    "evaluation",
    "parallel",
    "remat",
    "compilation_cache",
    "init_from",
    "guard",
    "profile",
)
# Keys that configs of earlier versions lack, and what those versions did.
LATER_KEYS = {"model.backbone": "mobilenet_v3"}


@dataclasses.dataclass(frozen=True)
class Inference:
    """A trained model as the commands use it.

    Attributes:
      config: of the run.
      model: the networks.
      variables: {"params", "batch_stats"}.
      step: iterations trained.
      meta: the checkpoint's meta item.
    """

    config: ConfigDict
    model: FieldsModel
    variables: dict[str, PyTree]
    step: int
    meta: dict[str, Any]


def open_manager(workdir: str, *, policies: Sequence = ()) -> ocp.CheckpointManager:
    """The manager that writes a workdir's checkpoints; saving is asynchronous and atomic.

    Args:
      workdir: local or gs://.
      policies: Orbax preservation policies; a checkpoint that none of them wants is deleted. None:
        all are kept.
    """
    options = ocp.CheckpointManagerOptions(
        preservation_policy=AnyPreservationPolicy(list(policies)) if policies else None,
        cleanup_tmp_directories=True,
    )
    quiet_orbax()
    folder = _absolute(workdir) / "checkpoints"
    with _writing(folder):
        return ocp.CheckpointManager(folder, options=options)


def open_reader(workdir: str) -> ocp.CheckpointManager:
    """A manager that changes nothing: a training may be writing to the same workdir."""
    options = ocp.CheckpointManagerOptions(create=False, cleanup_tmp_directories=False)
    return ocp.CheckpointManager(_absolute(workdir) / "checkpoints", options=options)


def save(
    manager: ocp.CheckpointManager, state: TrainState, *, seed: int, meta: Mapping[str, Any]
) -> None:
    """Writes one checkpoint; returns before it is on disk (`manager.wait_until_finished`).

    Raises:
      RuntimeError: the manager declined to write.
      DiskError: this one, or the one before that was being written, could not be.
    """
    step = int(state.step)
    texts = {"data": {"seed": seed, "step": step}, "meta": {**meta, "step": step}}
    with _writing(manager.directory):
        if not manager.save(step, args=_arguments(_trees(state, codec.pack), texts)):
            raise RuntimeError(f"checkpoint {step} was not written: a later one is in the workdir")


def settle(manager: ocp.CheckpointManager, *, wait: bool = True) -> None:
    """Looks at what has become of the checkpoint that is being written, if there is one.

    Args:
      manager: of the workdir.
      wait: until it is written; else only what has gone wrong so far is told.

    Raises:
      DiskError: it could not be written; those before it are whole.
    """
    with _writing(manager.directory):
        if wait:
            manager.wait_until_finished()
        else:
            manager.check_for_errors()


def write_networks(target: str, variables: Mapping[str, PyTree], meta: Mapping[str, Any]) -> None:
    """Writes networks that were trained elsewhere, as step 0 of a workdir of their own."""
    with open_manager(target) as manager, _writing(manager.directory / "0"):
        manager.save(0, args=_arguments(variables, {"meta": {**meta, "step": 0}}))
        manager.wait_until_finished()


def restore(
    manager: ocp.CheckpointManager, target: TrainState
) -> tuple[TrainState, dict[str, Any], list[str]]:
    """The newest intact state; damaged checkpoints after it are moved to WORKDIR/damaged.

    Args:
      manager: of a workdir with at least one checkpoint.
      target: arrays or `jax.ShapeDtypeStruct`s that give types and shardings.

    Returns:
      (state, meta item, one line for each damaged checkpoint).

    Raises:
      UserError: every checkpoint is damaged or belongs to another model; none is moved.
    """
    step, found, damaged = _newest_intact(
        manager, _trees(target, codec.empty), texts=("data", "meta")
    )
    for broken, _ in damaged:
        _move_away(manager, broken)
    manager.reload()
    meta = found.pop("meta")
    found.pop("data")
    counters = found.pop("counters")
    found["opt_state"] = {
        name: codec.unpack(packed, target.opt_state[name])
        for name, packed in found["opt_state"].items()
    }
    state = target.replace(step=counters["step"], bad_steps=counters["bad_steps"], **found)
    folder = manager.directory
    lines = [
        f"checkpoint {folder / str(broken)} is damaged ({reason}): set aside, goes on from {step}"
        for broken, reason in damaged
    ]
    return state, meta, lines


def read_meta(workdir: str) -> tuple[dict[str, Any], int]:
    """The meta item of the newest intact checkpoint of a workdir, and its step.

    Raises:
      UserError: no checkpoint there, or only damaged ones.
    """
    with _reading(workdir, f"{workdir} holds no checkpoint") as manager:
        step, found, _ = _newest_intact(manager, {})
    return found["meta"], step


def read_frozen(source: str, name: str, kinds: Sequence[str] = ("params",)) -> dict[str, PyTree]:
    """A converted network that is no FIELDS model and is never trained.

    Args:
      source: the folder that `fields_jax.convert` made.
      name: which network it must be.
      kinds: its variables, of "params" and "batch_stats".

    Raises:
      UserError: no checkpoint there, a damaged one, or one of another network.
    """
    remedy = "see `python -m fields_jax.convert --help`"
    absent = f"{source} holds no checkpoint; it should hold {name}: {remedy}"
    with _reading(source, absent, f"{source} holds no converted network; {remedy}") as manager:
        meta = _newest_intact(manager, {})[1]["meta"]
        found = meta.get("source", {}).get("name", "networks of a training run")
        if found != name:
            raise UserError(f"{source} holds {found}, not {name}; {remedy}")
        trees = _newest_intact(manager, dict.fromkeys(kinds))[1]
    return {kind: trees[kind] for kind in kinds}


def read_networks(source: str) -> tuple[dict[str, dict[str, PyTree]], dict[str, Any]]:
    """Parameters and statistics of the networks a checkpoint has trained, and its meta item.

    Args:
      source: a workdir or a converted checkpoint.

    Returns:
      ({"params": {network: tree}, "batch_stats": {...}}, meta).

    Raises:
      UserError: no checkpoint there, or a damaged one.
    """
    inference = load_inference(source)
    names = inference.meta["trained"]
    return {
        kind: {name: tree[name] for name in names if name in tree}
        for kind, tree in inference.variables.items()
    }, inference.meta


def load_inference(workdir: str, *, ema: bool = False) -> Inference:
    """Reads the newest intact checkpoint of a workdir for use, without the optimiser's state.

    Args:
      workdir: of a training run or a converted checkpoint.
      ema: take the running mean of the parameters (`config.ema`) in their place.

    Raises:
      UserError: no such workdir, no checkpoint in it, only damaged ones, or no running mean.
    """
    config = require_config(workdir)
    if ema and not config.get("ema", 0):
        raise UserError(f"{workdir} keeps no mean of its parameters; train with --config.ema=0.999")
    with _reading(
        workdir, f"{workdir} holds no checkpoint yet; let the training reach one"
    ) as manager:
        model = build_model(config)
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
            dict(variable_shapes(model)),
        )
        if ema:
            target["ema"] = target.pop("params")
        step, found, damaged = _newest_intact(manager, target)
        for broken, reason in damaged:
            folder = manager.directory / str(broken)
            logging.warning("checkpoint %s is damaged (%s): takes %d", folder, reason, step)
    variables = {"params": found["ema" if ema else "params"], "batch_stats": found["batch_stats"]}
    return Inference(config, model, variables, step, found["meta"])


def check_head(meta: Mapping[str, Any], head: FlameModel) -> None:
    """Coefficients mean something only with the head they were learnt for.

    Args:
      meta: a checkpoint's item; converted networks' names no head.
      head: the one in use.

    Raises:
      UserError: the networks were trained with another head.
    """
    trained = meta.get("head")
    if trained and trained["sha256"] != head.sha256:
        raise UserError(
            f"the model was trained with head {trained['name']} {trained['version']}, this is "
            f"{head.name} {head.version} of other content; name the right one with --head=HEAD.npz"
        )


def read_config(workdir: str) -> ConfigDict | None:
    """The config a workdir was started with, or None where there is none yet.

    Raises:
      UserError: the file holds no config.
    """
    file = _absolute(workdir) / CONFIG_FILE
    try:
        return ConfigDict(read_json(file))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:  # or keys that no config has
        reason = f"{error}" if isinstance(error, UserError) else f"{file}: {first_line(error)}"
        raise UserError(f"{reason}; restore it or use another workdir") from error


def require_config(workdir: str) -> ConfigDict:
    """The config of a workdir that should hold a trained model.

    Raises:
      UserError: it has none, or one that no model can be made of.
    """
    config = read_config(workdir)
    if config is None:
        raise UserError(f"{workdir} is no workdir: it has no {CONFIG_FILE}; train one first")
    schema.check_trained(config.to_dict(), str(_absolute(workdir) / CONFIG_FILE))
    return config


def has_checkpoint(workdir: str) -> bool:
    """Whether a workdir holds a checkpoint, or a damaged one that was set aside."""
    root = _absolute(workdir)
    folders = [folder for folder in (root / "checkpoints", root / "damaged") if folder.exists()]
    names = (path.name for folder in folders for path in folder.iterdir())
    return any(name.split("-")[0].isdecimal() for name in names)


def check_workdir(workdir: str, config: ConfigDict) -> list[str]:
    """Checks that a workdir may be trained in with this config; writes nothing.

    Returns:
      What differs from the config of an earlier start that has come to no checkpoint: such a one
      gives way, see `claim_workdir`.

    Raises:
      UserError: the workdir belongs to another config, naming the first keys that differ.
    """
    before = read_config(workdir)
    if before is None:
        return []
    changed = sorted(_differences(before.to_dict(), json.loads(config.to_json())))
    starts = [settings.get("init_from", "") for settings in (before, config)]
    if bool(starts[0]) != bool(starts[1]):  # decides on losses and on who is trained
        changed.insert(0, f"init_from was {starts[0]!r}, now {starts[1]!r}")
    if changed and (has_checkpoint(workdir) or not set(before).issuperset(_OURS)):
        raise UserError(
            f"workdir {workdir} was started with another config: {_some(changed)}; use another "
            "--workdir"
        )
    return changed


def claim_workdir(workdir: str, config: ConfigDict) -> str:
    """Writes the config into a workdir; call it while nobody else can (`lock.only_run`).

    What a start with another config has left there without coming to a checkpoint, its config, log
    and pictures, is moved to WORKDIR/set_aside/N, so that no log is of two runs.

    Returns:
      A line about what was set aside, or "".

    Raises:
      UserError: as `check_workdir`.
      DiskError: the config cannot be written.
    """
    changed = check_workdir(workdir, config)
    if jax.process_index() > 0:
        return ""
    root, note = _absolute(workdir), ""
    with writing(root / CONFIG_FILE, instead="another --workdir"):
        if changed:
            note = (
                f"{workdir} holds a start with another config ({_some(changed)}) that came to no "
                f"checkpoint: it is set aside in {_set_aside(root)}"
            )
        write_whole(root / CONFIG_FILE, config.to_json(indent=2))
    return note


def _set_aside(root: epath.Path) -> epath.Path:
    """Moves what a start has written, its config last: until then it can be moved again."""
    base = root / "set_aside"
    taken = [int(p.name) for p in base.iterdir() if p.name.isdecimal()] if base.exists() else []
    target = base / str(max(taken, default=0) + 1)
    target.mkdir(parents=True)
    for pattern in _OF_A_START:
        for path in root.glob(pattern):
            path.rename(target / path.name)
    return target


def _some(changed: list[str]) -> str:
    return f"{'; '.join(changed[:3])}{' ...' if len(changed) > 3 else ''}"


def git_hash() -> str:
    """The commit of the source tree, or "" outside a checkout."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _writing(path: epath.Path) -> contextlib.AbstractContextManager[None]:
    then = "the same command then goes on from the last checkpoint"
    return writing(path, instead="another --workdir", then=then)


@contextlib.contextmanager
def _reading(workdir: str, absent: str, empty: str = "") -> Iterator[ocp.CheckpointManager]:
    """`open_reader` of a workdir with a checkpoint.

    Raises:
      UserError: `absent` where there is no folder of them, `empty` (or else `absent`) where there
        is none in it.
    """
    if not (_absolute(workdir) / "checkpoints").exists():
        raise UserError(absent)
    with open_reader(workdir) as manager:
        if manager.latest_step() is None:
            raise UserError(empty or absent)
        yield manager


def _trees(state: TrainState, pack: Callable[[PyTree], PyTree]) -> dict[str, PyTree]:
    """The items of a checkpoint that hold arrays; `pack` is put to each optimiser state."""
    trees = {
        "params": state.params,
        "batch_stats": state.batch_stats,
        "opt_state": {name: pack(tree) for name, tree in state.opt_state.items()},
        "counters": {"step": state.step, "bad_steps": state.bad_steps},
        "base": state.base,
        "ema": state.ema,
    }
    return {name: tree for name, tree in trees.items() if tree is not None}


def _arguments(trees: Mapping[str, PyTree], texts: Mapping[str, Any]) -> ocp.args.Composite:
    checksums = {name: tree_checksum(tree) for name, tree in trees.items()}
    checksums |= {name: json_checksum(text) for name, text in texts.items()}
    items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
    items |= {name: ocp.args.JsonSave(text) for name, text in texts.items()}
    return ocp.args.Composite(**items, checksums=ocp.args.JsonSave(checksums))


def _newest_intact(
    manager: ocp.CheckpointManager, trees: dict[str, PyTree], texts: Sequence[str] = ("meta",)
) -> tuple[int, dict[str, Any], list[tuple[int, str]]]:
    """Reads items of the newest checkpoint whose checksums hold.

    Returns:
      (step, {item: value}, [(step, reason)] of the damaged ones after it).

    Raises:
      UserError: there is none, naming the newest and what is wrong with it.
    """
    damaged: list[tuple[int, str]] = []
    for step in sorted(manager.all_steps(), reverse=True):
        for _ in range(2):  # a store may fail once; damage stays
            try:
                found, reason = _read(manager, step, trees, texts), ""
            except DamagedError as error:
                found, reason = {}, str(error)
            if _on_every_process(not reason):
                return step, found, damaged
        damaged.append((step, reason or "as another process reads it"))
    step, reason = damaged[0]
    raise UserError(
        f"checkpoint {manager.directory / str(step)} is damaged or of another model ({reason})"
        f"{', and so are all before it' if len(damaged) > 1 else ''}; bring back a whole one or "
        "begin anew in another workdir"
    )


def _read(
    manager: ocp.CheckpointManager, step: int, trees: Mapping[str, PyTree], texts: Sequence[str]
) -> dict[str, Any]:
    """Items of one checkpoint.

    Raises:
      DamagedError: they cannot be read, or are not what was written.
      UserError: they do not fit into the device's memory.
    """
    arguments = {name: ocp.args.StandardRestore(tree) for name, tree in trees.items()}
    arguments |= {name: ocp.args.JsonRestore() for name in (*texts, "checksums")}
    try:
        restored = manager.restore(step, args=ocp.args.Composite(**arguments))
        found = {name: restored[name] for name in (*trees, *texts)}
        checksums = dict(restored["checksums"])
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # Orbax raises many types for damage, bare Exception among them.
        if "RESOURCE_EXHAUSTED" in str(error):
            raise UserError(
                f"checkpoint {manager.directory / str(step)} does not fit into the memory of "
                f"{jax.devices()[0].device_kind}; end what else runs there"
            ) from error
        raise DamagedError(first_line(error)) from error
    verify(checksums, {name: tree_checksum(found[name]) for name in trees})
    verify(checksums, {name: json_checksum(found[name]) for name in texts})
    written = found["meta"].get("step")
    if written != step:
        raise DamagedError(f"it was written at step {written}")
    return found


def _on_every_process(fine: bool) -> bool:
    """Whether all processes of the run agree that something is fine."""
    if jax.process_count() == 1:
        return fine
    return bool(multihost_utils.process_allgather(np.asarray(fine)).all())


def _move_away(manager: ocp.CheckpointManager, step: int) -> None:
    if jax.process_index() == 0:
        folder = manager.directory.parent / "damaged"
        folder.mkdir(parents=True, exist_ok=True)
        taken = len(list(folder.iterdir()))
        (manager.directory / str(step)).rename(folder / f"{step}-{taken}")
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"moved checkpoint {step}")


def _differences(before: Mapping, now: Mapping, prefix: str = "") -> list[str]:
    rows = []
    for key in before.keys() | now.keys():
        path = f"{prefix}{key}"
        if path in FREE_KEYS:
            continue
        old, new = before.get(key, LATER_KEYS.get(path)), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            rows += _differences(old, new, f"{path}.")
        elif old != new:
            rows.append(f"{path} was {_short(old)}, now {_short(new)}")
    return rows


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _absolute(workdir: str) -> epath.Path:
    """Orbax refuses relative paths; gs:// paths are absolute as they are."""
    path = epath.Path(workdir)
    return path if is_remote(workdir) else epath.Path(str(Path(path).absolute()))
