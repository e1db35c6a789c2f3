r"""Trains a small network that reads emotion from pictures, for a loss that compares its features.

    python -m fields_jax.emotion_network --config=configs/emotion_network.py --out=runs/emotion
    python -m fields_jax.train --config=configs/stage2.py --config.init_from=runs/stage1 \
        --config.losses.emotion_feature_weights=runs/emotion --workdir=runs/external

It stands in for EMOCA's ResNet-50, whose weights are licensed: trained on the same labels (class,
valence, arousal of the training splits of `config.data.mixture`), scored on the test splits, and
written as one checkpoint at the end. One device; embedded faces are made if they are absent.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from absl import flags, logging
from etils import epath
from ml_collections import ConfigDict, config_flags

from fields_jax.cli import run
from fields_jax.errors import UserError

_KEYS = ("image_size", "batch_size", "seed", "steps", "rate", "data", "losses", "width", "depth")
_SCORED = ("emotion", "valence", "arousal", "has_emotion", "has_va")


def define_flags() -> None:
    """The flags of the command; see the module's docstring."""
    config_flags.DEFINE_config_file("config", None, "e.g. configs/emotion_network.py")
    flags.DEFINE_string("out", "", "folder to make")


def main(argv: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; see --help")
    config = chosen.config
    if not isinstance(config, ConfigDict) or any(key not in config for key in _KEYS):
        raise UserError("name a config of such a network: --config=configs/emotion_network.py")
    if not chosen.out:
        raise UserError("--out is missing: name the folder to make")
    if epath.Path(chosen.out).exists():
        _check_same(chosen.out, config)
        print(f"{chosen.out} holds this network already")
        return
    from fields_jax import train
    from fields_jax.disk import writing
    from fields_jax.models.emotion_network import EmotionNetwork
    from fields_jax.training import emotion_network as training

    logging.set_verbosity(logging.WARNING)  # tensorflow_datasets reports every file it opens
    pipeline = train.import_pipeline()
    train.prepare_data(config)
    network = EmotionNetwork(config.width, config.depth)
    recipe = training.Recipe(
        steps=max(1, round(config.steps * config.steps_scale)),
        rate=config.rate,
        warmup=config.warmup,
        decay=config.decay,
        losses=dict(config.losses),
        seed=config.seed,
    )

    def report(step: int, losses: dict[str, float]) -> None:
        said = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
        print(f"{step}/{recipe.steps}  {said}", flush=True)

    variables = training.train(network, recipe, train.batches(pipeline, config, 0), report)
    measured = _measured(network, variables, config, pipeline)
    about = {
        "image_size": config.image_size,
        "measured": measured,
        "config": _plain(config),
        "data": pipeline.fingerprint(config.data),
    }
    with writing(chosen.out, instead="another --out"):
        training.write_network(chosen.out, network, variables, about)
    print(f"held out: {told(measured)}")
    print(f"written: {chosen.out}, for --config.losses.emotion_feature_weights")


def _plain(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON holds it."""
    return json.loads(config.to_json())


def _check_same(out: str, config: ConfigDict) -> None:
    """Refuses a folder that holds anything but the network of this config."""
    from fields_jax.workdir.inference import read_meta

    try:
        same = read_meta(out)[0].get("config") == _plain(config)
    except UserError:
        same = False
    if not same:
        raise UserError(f"{out} exists already and holds no network of this config: name another")


def told(measured: dict[str, Any]) -> str:
    """The scores on held-out examples in a line."""
    shown = ("accuracy", "valence_ccc", "arousal_ccc")
    values = ((name, measured[name]) for name in shown)
    parts = [f"{name} {'n/a' if value is None else f'{value:.3f}'}" for name, value in values]
    return ", ".join([*parts, f"{measured['n']} examples"])


def _measured(network: Any, variables: Any, config: ConfigDict, mixture: Any) -> dict[str, Any]:
    """Scores on the test splits: n, and accuracy and CCC where there are labels."""
    import jax

    from fields_jax.evaluation import affect
    from fields_jax.evaluation.predict import predict_set

    @jax.jit
    def read(image):
        return network.apply(variables, image.astype("float32") / 255)[1:]

    size, found = config.evaluation.batch_size, []
    for name, _ in mixture.parse_mixture(config.data.mixture):
        batches = mixture.evaluation_batches(
            config.data, name, image_size=config.image_size, batch_size=size
        )
        answer, labels = predict_set(read, batches, size)
        found.append((answer, {key: labels[key] for key in _SCORED}))
    (logits, *guesses), truth = jax.tree.map(lambda *parts: np.concatenate(parts), *found)
    scores: dict[str, Any] = {"n": len(logits), "accuracy": None}
    if (rows := truth["has_emotion"]).any():
        classes = logits[rows].argmax(-1)
        scores["accuracy"] = affect.class_scores(truth["emotion"][rows], classes)["accuracy"]
    rows = truth["has_va"]
    for name, guess in zip(("valence", "arousal"), guesses, strict=True):
        known = affect.affect_scores(truth[name][rows], guess[rows]) if rows.any() else {}
        scores[f"{name}_ccc"] = known.get("ccc")
    return scores


if __name__ == "__main__":
    define_flags()
    sys.exit(run(main))
