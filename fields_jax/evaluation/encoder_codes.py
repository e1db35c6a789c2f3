"""Codes that trained encoders read from prepared sets, and the true ones where they are known."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from fields_jax.errors import UserError
from fields_jax.evaluation import geometry, scoring
from fields_jax.evaluation.codes import Codes, answers_of, assign_splits
from fields_jax.evaluation.predict import predict_set
from fields_jax.evaluation.recognition import Answers
from fields_jax.evaluation.tables import NO_CLASS
from fields_jax.flame.io import resolve_head
from fields_jax.models.fields import predict
from fields_jax.progress import progress
from fields_jax.types import FieldsOutput
from fields_jax.workdir.inference import check_encoders, check_head, load_inference


@dataclasses.dataclass(frozen=True)
class Encoded:
    """What a model made of prepared sets.

    Attributes:
      network: the codes of its encoders.
      true: the true ones of the same examples; None where not all are known.
      head: what its emotion head reads from the test split; None where it was not trained.
      facts: what was read by which model.
    """

    network: Codes
    true: Codes | None
    head: Answers | None
    facts: dict[str, str]


def encode_sets(
    workdir: str, *, sources: str = "", data_root: str = "", head: str = "", ema: bool = False
) -> Encoded:
    """Codes of the splits train and test of prepared sets, not augmented.

    Args:
      workdir: of a training run or a converted checkpoint, or "embedded".
      sources: "NAME,NAME"; empty: those of the run's config.
      data_root: folder of the sets; empty: that of the run's config.
      head: path of a head; empty: that of the run's config.
      ema: take the mean of the parameters (config.ema).

    Raises:
      UserError: no such model, set or split, another head, or a set without labels of emotion.
    """
    inference = load_inference(workdir, ema=ema)
    check_encoders(inference, workdir)
    config = inference.config
    if sources:
        config.evaluation.sources = sources
    if data_root:
        config.data.root = data_root
    chosen = resolve_head(head or config.head)
    check_head(inference.meta, chosen)
    mixture = scoring.import_mixture()
    names = scoring.source_names(config, mixture, "test")
    for warning in mixture.compare_heads(config.data, names, chosen):
        print(f"warning: {warning}")
    networks = partial(predict, inference.model, inference.variables)
    read = [
        _read(networks, mixture, config, name, split)
        for name in names
        for split in ("train", "test")
    ]
    outputs = [output for output, _ in read]
    labels = {key: np.concatenate([own[key] for _, own in read]) for key in read[0][1]}
    groups, by = _groups(labels)
    true, known = geometry.true_coefficients(labels)
    network = Codes(
        _parts([output.coefficients for output in outputs]),
        np.array([f"{name}/{row}" for name, row in zip(labels["set"], labels["id"], strict=True)]),
        np.where(labels["has_emotion"], labels["emotion"], NO_CLASS).astype(np.int32),
        np.where(
            labels["has_va"][:, None],
            np.stack([labels["valence"], labels["arousal"]], axis=1),
            np.float32(np.nan),
        ),
        groups,
        by,
        assign_splits(", ".join(names), groups, labels["split"]),
    )
    if not (network.emotion >= 0).any() and not np.isfinite(network.affect).any():
        raise UserError(
            f"{', '.join(names)}: no example has a label of emotion; name other --sources"
        )
    truth = _parts([true])
    if not labels["has_shape"].all():
        del truth["shape"]
    facts = {
        "Networks": f"{workdir}, step {inference.step}, {config.image_size} px",
        "Head": f"{chosen.name} {chosen.version}, {chosen.sha256[:12]}",
        "Set": ", ".join(names),
        "Crop": f"{config.data.eval_crop_scale:g} times the face box",
    }
    return Encoded(
        network,
        dataclasses.replace(network, parts=truth) if known.all() else None,
        _head_answers(network, outputs) if "emotion_head" in inference.meta["trained"] else None,
        facts,
    )


def _read(
    networks: Any, mixture: Any, config: ConfigDict, name: str, split: str
) -> tuple[FieldsOutput, dict[str, np.ndarray]]:
    """Outputs and labels of one split; "set" and "split" tell which."""
    if split not in mixture.split_names(config.data, name):
        raise UserError(f"{name} has no split {split!r}, which a probe needs; name other --sources")
    size = config.evaluation.batch_size
    batches = mixture.evaluation_batches(
        config.data, name, split, image_size=config.image_size, batch_size=size
    )
    total = -(-mixture.count_examples(config.data, name, split) // size)
    batches = progress(batches, total, "batches", of=f"{name}, {split}")
    output, labels = predict_set(networks, batches, size)
    count = len(labels["emotion"])
    return output, labels | {"set": np.full(count, name), "split": np.full(count, split)}


def _parts(coefficients: list[Any]) -> dict[str, np.ndarray]:
    return {
        name: np.concatenate([np.asarray(getattr(own, name), np.float32) for own in coefficients])
        for name in ("shape", "expression", "jaw")
    }


def _groups(labels: dict[str, np.ndarray]) -> tuple[np.ndarray, str]:
    """A name for the subject of every example; an example without is its own."""
    subject = labels["subject"]
    rows = np.arange(len(subject))
    names = [
        f"{name}/{one}" if one >= 0 else f"{name}/row {row}"
        for name, one, row in zip(labels["set"], subject, rows, strict=True)
    ]
    return np.array(names), "subject" if (subject >= 0).any() else "row"


def _head_answers(codes: Codes, outputs: list[FieldsOutput]) -> Answers:
    """What the model's own head says of the test split."""
    logits, valence, arousal = (
        np.concatenate([np.asarray(getattr(own, name), np.float64) for own in outputs])
        for name in ("logits", "valence", "arousal")
    )
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = shares / shares.sum(axis=1, keepdims=True)
    return answers_of(codes, probabilities, np.stack([valence, arousal], axis=1))
