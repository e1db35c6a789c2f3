"""Checkpoints: Orbax items under WORKDIR/checkpoints/<step>/, the config beside them.

Items: `params`, `batch_stats`, `opt_state`, `base` (only where a base model is kept), `counters`
(step, bad steps), `data` (seed and step: the pipeline is a pure function of both) and `meta`
(config, git hash, head, data, trained networks).
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from ml_collections import ConfigDict

from fields_jax.cli import UserError
from fields_jax.models.fields import FieldsModel, build_model, variable_shapes
from fields_jax.training.state import TrainState
from fields_jax.types import FlameModel

PyTree = Any
CONFIG_FILE = "config.json"
# Keys that may change between two runs on one workdir: they do not change what is learnt.
FREE_KEYS = (
    "log",
    "checkpoint",
    "evaluation",
    "parallel",
    "compilation_cache",
    "init_from",
    "guard",
)


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


def open_manager(workdir: str, *, keep: int = 3) -> ocp.CheckpointManager:
    """The manager of a workdir's checkpoints; saving is asynchronous."""
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
    return ocp.CheckpointManager(_absolute(workdir) / "checkpoints", options=options)


def save(
    manager: ocp.CheckpointManager, state: TrainState, *, seed: int, meta: Mapping[str, Any]
) -> None:
    """Writes one checkpoint; returns before it is on disk (`manager.wait_until_finished`).

    Raises:
      RuntimeError: the manager declined to write.
    """
    step = int(state.step)
    items = {
        "params": ocp.args.StandardSave(state.params),
        "batch_stats": ocp.args.StandardSave(state.batch_stats),
        "opt_state": ocp.args.StandardSave(state.opt_state),
        "counters": ocp.args.StandardSave({"step": state.step, "bad_steps": state.bad_steps}),
        "data": ocp.args.JsonSave({"seed": seed, "step": step}),
        "meta": ocp.args.JsonSave(dict(meta)),
    }
    if state.base is not None:
        items["base"] = ocp.args.StandardSave(state.base)
    if not manager.save(step, args=ocp.args.Composite(**items)):
        raise RuntimeError(f"checkpoint {step} was not written: a later one exists in the workdir")


def write_networks(target: str, variables: Mapping[str, PyTree], meta: Mapping[str, Any]) -> None:
    """Writes networks that were trained elsewhere, as step 0 of a workdir of their own."""
    items = {kind: ocp.args.StandardSave(tree) for kind, tree in variables.items()}
    items["meta"] = ocp.args.JsonSave(dict(meta))
    with open_manager(target) as manager:
        manager.save(0, args=ocp.args.Composite(**items))


def restore(manager: ocp.CheckpointManager, target: TrainState) -> TrainState:
    """The latest state, with the types and shardings of `target`.

    Raises:
      UserError: the checkpoint is damaged or belongs to another model, naming it.
    """
    step = manager.latest_step()
    trees = {
        "params": target.params,
        "batch_stats": target.batch_stats,
        "opt_state": target.opt_state,
        "counters": {"step": target.step, "bad_steps": target.bad_steps},
    }
    if target.base is not None:
        trees["base"] = target.base
    restored = _read(manager, step, trees)
    counters = restored.pop("counters")
    return target.replace(step=counters["step"], bad_steps=counters["bad_steps"], **restored)


def read_meta(manager: ocp.CheckpointManager) -> dict[str, Any]:
    """The meta item of the latest checkpoint."""
    arguments = ocp.args.Composite(meta=ocp.args.JsonRestore())
    return manager.restore(manager.latest_step(), args=arguments)["meta"]


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
    if not _absolute(source).exists():
        raise UserError(f"{source} does not exist; it should hold {name}: {remedy}")
    with open_manager(source) as manager:
        step = manager.latest_step()
        if step is None:
            raise UserError(f"{source} holds no converted network; {remedy}")
        found = read_meta(manager).get("source", {}).get("name", "networks of a training run")
        if found != name:
            raise UserError(f"{source} holds {found}, not {name}; {remedy}")
        return _read(manager, step, dict.fromkeys(kinds))


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


def load_inference(workdir: str) -> Inference:
    """Reads the latest checkpoint of a workdir for use, without the optimiser's state.

    Raises:
      UserError: no such workdir, no checkpoint in it, or a damaged one.
    """
    config = read_config(workdir)
    if config is None:
        raise UserError(f"{workdir} is no workdir: it has no {CONFIG_FILE}; train one first")
    with open_manager(workdir) as manager:
        step = manager.latest_step()
        if step is None:
            raise UserError(f"{workdir} holds no checkpoint yet; let the training reach one")
        model = build_model(config)
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
            variable_shapes(model),
        )
        variables = _read(manager, step, dict(target))
        meta = read_meta(manager)
    return Inference(config, model, variables, step, meta)


def check_head(inference: Inference, head: FlameModel) -> None:
    """Coefficients mean something only with the head they were learnt for.

    Raises:
      UserError: the model was trained with another head; converted checkpoints name none.
    """
    trained = inference.meta.get("head")
    if trained and trained["sha256"] != head.sha256:
        raise UserError(
            f"the model was trained with head {trained['name']} {trained['version']}, this is "
            f"{head.name} {head.version} of other content; name the right one with --head=HEAD.npz"
        )


def read_config(workdir: str) -> ConfigDict | None:
    """The config a workdir was started with, or None where there is none yet.

    Raises:
      UserError: the file is not JSON.
    """
    file = _absolute(workdir) / CONFIG_FILE
    if not file.exists():
        return None
    try:
        return ConfigDict(json.loads(file.read_text()))
    except ValueError as error:
        raise UserError(
            f"{file} is not valid JSON ({error}); restore it or use another workdir"
        ) from error


def claim_workdir(workdir: str, config: ConfigDict) -> None:
    """Writes the config into a new workdir, or checks that an old one was started with it.

    Raises:
      UserError: the workdir belongs to another config, naming the first keys that differ.
    """
    file = _absolute(workdir) / CONFIG_FILE
    before = read_config(workdir)
    if before is not None:
        now = json.loads(config.to_json())
        changed = sorted(_differences(before.to_dict(), now))
        if changed:
            raise UserError(
                f"workdir {workdir} was started with another config: {'; '.join(changed[:3])}"
                f"{' ...' if len(changed) > 3 else ''}; use another --workdir"
            )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(config.to_json(indent=2))


def git_hash() -> str:
    """The commit of the source tree, or "" outside a checkout."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _read(manager: ocp.CheckpointManager, step: int, trees: dict[str, PyTree]) -> dict:
    arguments = {name: ocp.args.StandardRestore(tree) for name, tree in trees.items()}
    try:
        restored = manager.restore(step, args=ocp.args.Composite(**arguments))
    except Exception as error:  # Orbax raises many types for damage, bare Exception among them.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"checkpoint {manager.directory / str(step)} cannot be read ({reason[0][:200]}); "
            "remove that folder to go on from the one before"
        ) from error
    return {name: restored[name] for name in trees}


def _differences(before: Mapping, now: Mapping, prefix: str = "") -> list[str]:
    rows = []
    for key in before.keys() | now.keys():
        path = f"{prefix}{key}"
        if path in FREE_KEYS:
            continue
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            rows += _differences(old, new, f"{path}.")
        elif old != new:
            rows.append(f"{path} was {old!r}, now {new!r}")
    return rows


def _absolute(workdir: str) -> epath.Path:
    """Orbax refuses relative paths; gs:// paths are absolute as they are."""
    path = epath.Path(workdir)
    return path if "://" in str(workdir) else epath.Path(str(Path(path).absolute()))
