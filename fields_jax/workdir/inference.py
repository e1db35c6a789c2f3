"""Trained models as the commands use them: read from a workdir, never written.

A workdir is the folder of a run, with checkpoints, or one of packed networks (`packed.py`), or the
word "embedded" for those in the package. Orbax is imported for checkpoints only: it takes a second.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from fields_jax.errors import UserError
from fields_jax.models.fields import FieldsModel, build_model, variable_shapes
from fields_jax.types import FlameModel
from fields_jax.workdir import packed
from fields_jax.workdir.config import require_config

PyTree = Any

ENCODERS = ("pose_encoder", "shape_encoder", "expression_encoder")  # that a face cannot do without


@dataclasses.dataclass(frozen=True)
class Inference:
    """A trained model as the commands use it.

    Attributes:
      config: the config of the run.
      model: the networks; `model.apply(variables, image)`.
      variables: {"params", "batch_stats"}; of packed networks without synthesiser and tokens.
      step: iterations trained.
      meta: the checkpoint's meta item.
    """

    config: ConfigDict
    model: FieldsModel
    variables: dict[str, PyTree]
    step: int
    meta: dict[str, Any]


def load_inference(workdir: str, *, ema: bool = False) -> Inference:
    """Reads the networks of the newest intact checkpoint, without the optimiser's state.

    Args:
      workdir: of a training run, a converted checkpoint or packed networks, or "embedded".
      ema: takes the running mean of the parameters (`config.ema`) in place of the last ones.

    Raises:
      UserError: no such workdir, no checkpoint in it, only damaged ones, or no running mean.
    """
    config = require_trained(workdir)
    if ema and not config.get("ema", 0):
        raise UserError(f"{workdir} keeps no mean of its parameters; train with --config.ema=0.999")
    if packed.is_packed(workdir):
        return _load_packed(workdir)
    from fields_jax.workdir.store import newest_intact, reading

    with reading(
        workdir, f"{workdir} holds no checkpoint yet; let the training reach one"
    ) as manager:
        model = build_model(config)
        # Of several processes each reads it whole, to a device of its own.
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
            dict(variable_shapes(model)),
        )
        if ema:
            target["ema"] = target.pop("params")
        step, found, damaged = newest_intact(manager, target)
        for broken, reason in damaged:
            folder = manager.directory / str(broken)
            logging.warning("checkpoint %s is damaged (%s): takes %d", folder, reason, step)
    variables = {"params": found["ema" if ema else "params"], "batch_stats": found["batch_stats"]}
    return Inference(config, model, variables, step, found["meta"])


def require_trained(workdir: str) -> ConfigDict:
    """The config of a workdir that should hold a trained model, packed or not.

    Raises:
      UserError: it has none, or no model can be made of it.
    """
    if packed.is_packed(workdir):
        return ConfigDict(packed.read_model(workdir)["config"])
    return require_config(workdir)


def _load_packed(workdir: str) -> Inference:
    found = packed.read_packed(workdir)
    model = build_model(found.config)
    if workdir != packed.EMBEDDED:  # whose shapes tests know, and tracing takes a second
        packed.check_shapes(workdir, found, variable_shapes(model))
    # Without the token encoder, and so without tokens; the synthesiser runs where it is called.
    model = model.clone(token_guided=False)
    return Inference(found.config, model, found.variables, found.meta["step"], found.meta)


def read_networks(source: str) -> tuple[dict[str, dict[str, PyTree]], dict[str, Any]]:
    """Reads those networks that a checkpoint lists as trained, and its meta item.

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


def read_frozen(
    source: str, name: str | Sequence[str], kinds: Sequence[str] = ("params",)
) -> dict[str, PyTree]:
    """Reads a converted network for a loss: it is no part of the model and is never trained.

    Args:
      source: the folder that `fields_jax.convert` made.
      name: which network it must be, or those that it may be.
      kinds: which of its variables to read: "params", "batch_stats".

    Returns:
      {kind: tree}.

    Raises:
      UserError: no checkpoint there, a damaged one, or one of another network.
    """
    from fields_jax.workdir.store import newest_intact, reading

    remedy = "see `python -m fields_jax.convert --help`"
    names = (name,) if isinstance(name, str) else tuple(name)
    wanted = " or ".join(names)
    absent = f"{source} holds no checkpoint; it should hold {wanted}: {remedy}"
    with reading(source, absent, f"{source} holds no converted network; {remedy}") as manager:
        meta = newest_intact(manager, {})[1]["meta"]
        found = meta.get("source", {}).get("name", "networks of a training run")
        if found not in names:
            raise UserError(f"{source} holds {found}, not {wanted}; {remedy}")
        trees = newest_intact(manager, dict.fromkeys(kinds))[1]
    return {kind: trees[kind] for kind in kinds}


def read_meta(workdir: str) -> tuple[dict[str, Any], int]:
    """Reads the meta item and the step of a workdir's newest intact checkpoint.

    Raises:
      UserError: no checkpoint there, or only damaged ones.
    """
    if packed.is_packed(workdir):
        meta = packed.read_model(workdir)["meta"]
        return meta, meta["step"]
    from fields_jax.workdir.store import newest_intact, reading

    with reading(workdir, f"{workdir} holds no checkpoint") as manager:
        step, found, _ = newest_intact(manager, {})
    return found["meta"], step


def check_head(meta: Mapping[str, Any], head: FlameModel) -> None:
    """Refuses another head than the networks learnt: their coefficients mean nothing with it.

    Args:
      meta: a checkpoint's meta item; that of converted networks names no head and fits any.
      head: the head in use.

    Raises:
      UserError: the networks were trained with another head.
    """
    trained = meta.get("head")
    if trained and trained["sha256"] != head.sha256:
        raise UserError(
            f"the model was trained with head {trained['name']} {trained['version']}, this is "
            f"{head.name} {head.version} of other content; name the right one with --head=HEAD.npz"
        )


def check_encoders(inference: Inference, workdir: str) -> None:
    """Refuses networks that can reconstruct no face.

    Raises:
      UserError: one of the `ENCODERS` is not trained.
    """
    missing = [name for name in ENCODERS if name not in inference.meta["trained"]]
    if missing:
        raise UserError(
            f"{workdir} holds no trained {missing[0]}: reconstruction needs {', '.join(ENCODERS)}"
        )
