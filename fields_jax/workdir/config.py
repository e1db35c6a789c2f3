"""The config of a workdir, WORKDIR/config.json, and which runs may use the workdir.

The first start writes its config. A later start must have the same config, except for FREE_KEYS.
A start that reached no checkpoint gives way: its files are set aside for the next one's.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from fields_jax.disk import writing
from fields_jax.errors import UserError, first_line
from fields_jax.files import is_remote, read_json, write_whole
from fields_jax.workdir import schema

CONFIG_FILE = "config.json"
_OURS = {"stage", "phases", "optim", "data"}  # a training's config.json has these keys
# What a start leaves in a workdir besides checkpoints. The config is moved last: while it is there,
# an interrupted move is done again.
_OF_A_START = (
    *("metrics.jsonl", "tensorboard", "images", "profile", "best.json", "bad_examples*.jsonl"),
    CONFIG_FILE,
)
# Keys that may differ between two runs on one workdir, since they do not change what is learnt.
# Of init_from the path may differ, but not whether it is empty.
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
    # What training fills in from the head, which is compared by itself.
    "model.expression_bounds",
    "model.face_centre",
)
# Keys that configs of earlier versions lack, and what those versions did.
LATER_KEYS = {
    "model.backbone": "mobilenet_v3",
    "model.camera_aim": "origin",
    "losses.landmark_metric": "squared",
    "losses.emotion_targets": "intensity",
    "losses.fitted_weight": 0.0,
    "losses.fitted_scale": 0.02,
}


def absolute(workdir: str) -> epath.Path:
    """The absolute path of a workdir, since Orbax refuses relative ones; gs:// stays as it is."""
    path = epath.Path(workdir)
    return path if is_remote(workdir) else epath.Path(str(Path(path).absolute()))


def read_config(workdir: str) -> ConfigDict | None:
    """Reads the config that a workdir was started with; None where there is none yet.

    Raises:
      UserError: the file holds no config.
    """
    file = absolute(workdir) / CONFIG_FILE
    try:
        return ConfigDict(read_json(file))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:  # no JSON, or keys that a ConfigDict refuses
        reason = f"{error}" if isinstance(error, UserError) else f"{file}: {first_line(error)}"
        raise UserError(f"{reason}; restore it or use another workdir") from error


def require_config(workdir: str) -> ConfigDict:
    """Reads the config of a workdir that should hold a trained model.

    Raises:
      UserError: the workdir has no config, or no model can be made of it.
    """
    config = read_config(workdir)
    if config is None:
        raise UserError(f"{workdir} is no workdir: it has no {CONFIG_FILE}; train one first")
    schema.check_trained(config.to_dict(), str(absolute(workdir) / CONFIG_FILE))
    return config


def has_checkpoint(workdir: str) -> bool:
    """Whether a workdir holds a checkpoint, intact or moved to WORKDIR/damaged."""
    root = absolute(workdir)
    folders = [folder for folder in (root / "checkpoints", root / "damaged") if folder.exists()]
    names = (path.name for folder in folders for path in folder.iterdir())
    return any(name.split("-")[0].isdecimal() for name in names)


def check_workdir(workdir: str, config: ConfigDict) -> list[str]:
    """Checks that this config may be trained in a workdir; writes nothing.

    Returns:
      How the config differs from that of an earlier start without a checkpoint, one line for each
      key; that start gives way, see `claim_workdir`. [] where nothing differs.

    Raises:
      UserError: the workdir belongs to another config; the message names the first keys that
        differ.
    """
    before = read_config(workdir)
    if before is None:
        return []
    changed = sorted(_differences(before.to_dict(), json.loads(config.to_json())))
    starts = [settings.get("init_from", "") for settings in (before, config)]
    if bool(starts[0]) != bool(starts[1]):  # decides which losses and networks are in use
        changed.insert(0, f"init_from was {starts[0]!r}, now {starts[1]!r}")
    if changed and (has_checkpoint(workdir) or not set(before).issuperset(_OURS)):
        raise UserError(
            f"workdir {workdir} was started with another config: {_some(changed)}; use another "
            "--workdir"
        )
    return changed


def claim_workdir(workdir: str, config: ConfigDict) -> str:
    """Writes the config into a workdir; the caller holds the workdir (`lock.only_run`).

    If an earlier start with another config reached no checkpoint, its config, log and pictures are
    moved to WORKDIR/set_aside/N, so that one log never holds two runs.

    Returns:
      A line about what was set aside, or "".

    Raises:
      UserError: as `check_workdir`.
      DiskError: the config cannot be written.
    """
    changed = check_workdir(workdir, config)
    if jax.process_index() > 0:
        return ""
    root, note = absolute(workdir), ""
    with writing(root / CONFIG_FILE, instead="another --workdir"):
        if changed:
            note = (
                f"{workdir} holds a start with another config ({_some(changed)}) that came to no "
                f"checkpoint: it is set aside in {_set_aside(root)}"
            )
        write_whole(root / CONFIG_FILE, config.to_json(indent=2))
    return note


def git_hash() -> str:
    """The commit of the source tree, which goes into every checkpoint; "" outside a checkout."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _set_aside(root: epath.Path) -> epath.Path:
    """Moves what a start has written to a new folder, in the order of _OF_A_START."""
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
