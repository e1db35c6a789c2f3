"""Packs a trained model into three small files with its card: what `export --weights` does."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from fields_jax import __version__, pages
from fields_jax.disk import make_way, writing
from fields_jax.errors import UserError
from fields_jax.evaluation import SCORES, scoring
from fields_jax.files import read_json, whole_folder, write_whole
from fields_jax.fitting.refine import SPREAD
from fields_jax.models.fields import predict
from fields_jax.workdir import packed
from fields_jax.workdir.inference import Inference, check_encoders, load_inference

# Largest difference that float16 may make, as a share of the largest value of an output.
TOLERANCE = 0.05
_NOISE = 4  # images that it is measured on


def pack_workdir(workdir: str, out: str, *, ema: bool = False, spread: str = "") -> dict[str, Any]:
    """Writes a folder beside OUT, reads it back, compares, and gives it its name.

    Args:
      workdir: of a training run or a converted checkpoint, or packed networks.
      out: a folder that is not there or empty; it appears when all is well, local or gs://.
      ema: take the mean of the parameters (config.ema).
      spread: JSON file of the networks' errors, for `fitting.refine`; "": none.

    Returns:
      "bytes" of the networks' files, "step", and "largest_difference" by output: what float16
      changes, as a share of the output's largest value.

    Raises:
      UserError: OUT is taken, an encoder is not trained, or float16 changes the outputs too much.
    """
    target = epath.Path(out)
    make_way(target, "--weights")
    inference = load_inference(workdir, ema=ema)
    check_encoders(inference, workdir)
    today = datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d")
    meta = inference.meta | dict(step=inference.step, ema=ema, made=today, version=__version__)
    if spread:
        meta[SPREAD] = read_json(spread)
    with writing(target, instead="another --weights"), whole_folder(target) as beside:
        size = packed.write_packed(beside, inference.config, inference.variables, meta)
        again = load_inference(str(beside))
        moved = _differences(inference, again)
        wrong = [f"{name} by {share:.1%}" for name, share in moved.items() if not share < TOLERANCE]
        if wrong:
            raise UserError(
                f"as float16 the networks of {workdir} say something else ({', '.join(wrong)}): "
                "not written; hand on the workdir itself"
            )
        report = {"bytes": size, "step": inference.step, "largest_difference": moved}
        write_whole(beside / packed.CARD, model_card(again, report, workdir))
    return report


def model_card(inference: Inference, report: Mapping[str, Any], workdir: str) -> str:
    """The skeleton of MODEL_CARD.md: the facts, and what holds of every such model.

    Args:
      inference: of the packed networks.
      report: what `pack_workdir` returns.
      workdir: they are from; its evaluation.json gives the figures if it is of the same step.
    """
    config, meta = inference.config, inference.meta
    head, data, source = meta.get("head"), meta.get("data"), meta.get("source")
    sets = sorted(data.items()) if isinstance(data, Mapping) else []
    scores = _scores(workdir, inference.step)
    leaves = jax.tree.leaves(inference.variables["params"])
    return pages.render(
        "fields_jax.report",
        packed.CARD,
        name="A small model of fields_jax",
        about="(What this model is for, in two sentences.)",
        size=config.image_size,
        scale=config.data.eval_crop_scale,
        trained_emotion="emotion_head" in meta["trained"],
        networks=packed.NETWORKS,
        count=f"{sum(leaf.size for leaf in leaves):,}",
        megabytes=f"{report['bytes'] / 1e6:.1f}",
        trained=meta["trained"],
        head=f"{head['name']} {head['version']}, sha256 {head['sha256']}" if head else "any",
        made=meta["made"],
        version=meta["version"],
        git=meta.get("git", ""),
        source=f"converted from {source['name']}" if source else "a training run",
        data=[(name, str(digest)) for name, digest in sets],
        generated=bool(sets) and all(name.startswith("synthetic/") for name, _ in sets),
        stage=config.stage,
        step=inference.step,
        seed=config.get("seed", "unknown"),
        batch_size=config.get("batch_size", "unknown"),
        ema=meta.get("ema", False),
        init_from=config.get("init_from", ""),
        split=scores.get("split"),
        figures=_figures(scores),
        workdir=packed.EMBEDDED,
        rounding=f"{max(report['largest_difference'].values()):.1%}",
    )


def _differences(before: Inference, after: Inference) -> dict[str, float]:
    """By output: largest difference on images of noise / largest value."""
    side = before.config.image_size
    image = np.random.default_rng(0).integers(0, 256, (_NOISE, side, side, 3), np.uint8)
    taken = {
        kind: {name: trees[name] for name in packed.NETWORKS if name in trees}
        for kind, trees in before.variables.items()
    }
    expected = jax.device_get(predict(after.model, taken, image))
    found = jax.device_get(predict(after.model, after.variables, image))
    paths = jax.tree_util.tree_leaves_with_path(expected)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): float(
            np.abs(right - wrong).max() / max(np.abs(right).max(), 1e-6)
        )
        for (path, right), wrong in zip(paths, jax.tree.leaves(found), strict=True)
    }


def _scores(workdir: str, step: int) -> dict[str, Any]:
    """The scores of a workdir at that step; {} without."""
    try:
        scores = read_json(packed.place(workdir) / SCORES)
    except UserError:
        return {}
    return scores if scores.get("step") == step else {}


def _figures(scores: Mapping[str, Any]) -> str:
    try:
        return scoring.table(dict(scores)) if scores else ""
    except (KeyError, TypeError):  # of another version
        return ""
