"""From a sweep (configs/ablation.py) to the runs of every arm and seed, each with its config."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from fields_jax.errors import UserError, first_line, quoted
from fields_jax.workdir import schema

FULL, START = "full", "start"  # the arm that all are compared with; stage 1 of a seed
NETWORK = "emotion_network"  # whose features an arm compares, trained once per seed
_KEYS = ("seeds", "init_from", "external", "start", "base", "tests", "probe", "arms", "quick")


@dataclasses.dataclass(frozen=True)
class Run:
    """One training and what is measured of it.

    Attributes:
      arm: its name, `START` or `NETWORK`.
      seed: of the training.
      config: of `fields_jax.train`, or of `fields_jax.emotion_network`.
    """

    arm: str
    seed: int
    config: ConfigDict

    @property
    def name(self) -> str:
        """Also that of its folder."""
        return f"{self.arm}-{self.seed}"

    @property
    def steps(self) -> int:
        """Of the training."""
        scale, parts = self.config.steps_scale, [self.config]
        if self.arm != NETWORK:
            parts = self.config.phases.values()
        return sum(schema.phase_steps(each.steps, scale) for each in parts)

    def plain(self) -> dict[str, Any]:
        """The config as JSON holds it, to compare it with one that was written."""
        return json.loads(self.config.to_json())


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What an ablation consists of.

    Attributes:
      arms: a sentence about each, by name; `FULL` is the first.
      seeds: of the trainings.
      runs: those of `START` first.
      tests: "NAME,NAME" of the sets that all are scored on.
      probe: flags of `fields_jax.probe`.
      quick: whether this is the small form.
      networks: those that an arm compares features of, one for each seed; () for none of our own.
    """

    arms: Mapping[str, str]
    seeds: tuple[int, ...]
    runs: tuple[Run, ...]
    tests: str
    probe: Mapping[str, Any]
    quick: bool
    networks: tuple[Run, ...] = ()


def read_sweep(
    config: ConfigDict,
    out: str,
    *,
    arms: str = "",
    data_root: str = "",
    head: str = "",
    quick: bool = False,
) -> Sweep:
    """The runs of a sweep.

    Args:
      config: of configs/ablation.py.
      out: folder of the ablation; each run has its own in OUT/runs.
      arms: "NAME,NAME", those to run beside `FULL`; empty: all, or those of config.quick.
      data_root: folder of the sets; empty: those of the configs.
      head: path of a head; empty: those of the configs.
      quick: take seeds, arms and lengths of config.quick.

    Raises:
      UserError: naming the key or the arm at fault.
    """
    if not isinstance(config, ConfigDict):
        raise UserError("the sweep's get_config() must return an ml_collections.ConfigDict")
    for key in _KEYS:
        if key not in config:
            raise UserError(f"sweep.{key} is missing; take configs/ablation.py as the pattern")
    small = config.quick if quick else None
    seeds = tuple((small or config).seeds)
    if (
        not seeds
        or len(set(seeds)) < len(seeds)
        or any(not isinstance(each, int) for each in seeds)
    ):
        raise UserError(f"sweep.seeds is {seeds}: name different whole numbers, such as (0,1,2)")
    features = config.external or config.get(NETWORK)
    known = [name for name, arm in config.arms.items() if features or not arm.external]
    names = _chosen(known, arms or (small.arms if small else ""))
    runs = [Run(START, seed, _seeded(config.start, seed)) for seed in seeds if not config.init_from]
    for name in names:
        for seed in seeds:
            own = _arm(config, name)
            own.seed = seed
            own.init_from = config.init_from or str(workdir(out, f"{START}-{seed}"))
            if config.arms[name].external and not config.external:
                own.losses.emotion_feature_weights = str(network(out, seed))
            runs.append(Run(name, seed, own))
    asked = any(config.arms[name].external for name in names) and not config.external
    networks = [Run(NETWORK, seed, _seeded(config[NETWORK], seed)) for seed in seeds if asked]
    for run in (*networks, *runs):
        if data_root:
            run.config.data.root = data_root
        if head:
            run.config.head = head
        if small:
            run.config.steps_scale *= small.steps_scale
    for run in runs:
        try:
            schema.check(run.config.to_dict())
        except UserError as error:
            raise UserError(f"arm {run.arm}: {error}") from error
    probe = config.probe.to_dict() | (dict(steps=small.probe_steps) if small else {})
    says = {name: config.arms[name].says for name in names}
    return Sweep(says, seeds, tuple(runs), config.tests, probe, quick, tuple(networks))


def folder(out: str, name: str) -> epath.Path:
    """Where everything of a run lies."""
    return epath.Path(out) / "runs" / name


def workdir(out: str, name: str) -> epath.Path:
    """The workdir of a run's training."""
    return folder(out, name) / "train"


def network(out: str, seed: int) -> epath.Path:
    """Where the emotion network of a seed is written."""
    return folder(out, f"{NETWORK}-{seed}") / "network"


def _chosen(known: Collection[str], wanted: str) -> list[str]:
    names = [name.strip() for name in wanted.split(",") if name.strip()] or list(known)
    for name in names:
        if name not in known:
            raise UserError(f"unknown arm {quoted(name)}; known: {', '.join(known)}")
        if name in (START, NETWORK) or not name.replace("_", "").isalnum():
            raise UserError(f"arm {quoted(name)}: choose another name, of letters and digits")
    if FULL not in known:
        raise UserError(f"sweep.arms has no {FULL}, the arm that the others are compared with")
    return [FULL, *(name for name in dict.fromkeys(names) if name != FULL)]


def _seeded(config: ConfigDict, seed: int) -> ConfigDict:
    own = config.copy_and_resolve_references()
    own.seed = seed
    return own


def _arm(config: ConfigDict, name: str) -> ConfigDict:
    """The config of an arm, not yet that of a seed."""
    arm, own = config.arms[name], config.base.copy_and_resolve_references()
    if arm.external:
        own.losses.emotion_feature_weights = config.external
    own.unlock()  # flags lock what they read; keys that no training has are refused later
    try:
        own.update(arm.changes.to_dict())
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"arm {name}: {first_line(error)}") from error
    kept = tuple(arm.phases) or tuple(own.phases)
    if unknown := [phase for phase in kept if phase not in own.phases]:
        raise UserError(f"arm {name} keeps phase {quoted(unknown[0])}, which base does not have")
    for phase in [phase for phase in own.phases if phase not in kept]:
        del own.phases[phase]
    return own
