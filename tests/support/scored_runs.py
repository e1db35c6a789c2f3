"""Workdirs as of runs that were trained and scored; all numbers are made up."""

from __future__ import annotations

import json

import numpy as np

from configs import stage1, stage2
from fields_jax.evaluation import closure, geometry, images, registry, summary, swap

EMOTIONS = ["neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt"]
SETS = {"synthetic/wild2d": 240, "synthetic/levels": 90}
NASTY = "<script>alert('x')</script>&\"face\""
KEPT = 2  # examples of each set


def make_columns(rng, n, *, skill, graded, painted=True):
    """Columns of one set; `skill` in 0..1 is the recovered fraction of the truth.

    `painted` adds those of a synthesiser.
    """
    intensity = rng.gamma(2.0, 0.8, n)
    emotion = np.arange(n) % 8
    valence, arousal = rng.uniform(-0.9, 0.9, (2, n))
    lost = rng.uniform(size=n) > skill
    landmark = {
        f"{name}.{unit}": rng.gamma(9, scale / 9, n) * (2 - skill)
        for name in geometry.LANDMARK_SETS
        for unit, scale in (("ndc", 0.02), ("interocular", 0.05))
    }
    return {
        "emotion": emotion,
        "valence": valence,
        "arousal": arousal,
        "has_emotion": np.ones(n, bool),
        "has_va": np.full(n, not graded),
        "subject": np.arange(n) // 12,
        "level": np.arange(n) // 8 % 3 if graded else np.full(n, -1),
        "predicted_emotion": np.where(lost, rng.integers(0, 8, n), emotion),
        "predicted_valence": skill * valence + rng.normal(0, 0.2, n),
        "predicted_arousal": skill * arousal + rng.normal(0, 0.2, n),
        "has_expression": np.ones(n, bool),
        "error": intensity * (1.1 - skill) + rng.gamma(2, 0.1, n),
        "intensity": intensity,
        "predicted_intensity": np.abs(skill * intensity + rng.normal(0.2, 0.25, n)),
        "group": np.arange(n) // 12,
        **{name: rng.gamma(2, 0.4, n) for name in closure.Closure._fields},
        **dict(shape_within=rng.gamma(2, 0.2, n), shape_between=rng.gamma(2, 1.0, n)),
        **dict(named=rng.uniform(size=n) < 0.3, named_by_truth=rng.uniform(size=n) < 0.2),
        "named_by_chance": np.full(n, 12 / n),
        **landmark,
        **(make_painted(n, skill) if painted else {}),
    }


def make_painted(n, skill):
    """What is measured of the pictures of a synthesiser."""
    rng = np.random.default_rng(n)  # the other columns shall not depend on these
    scales = dict(l1=0.05, psnr=20.0, ssim=0.8, perceptual=0.7)
    columns = {
        f"{region}.{name}": scale * rng.uniform(0.8, 1.2, n)
        for region in images.REGIONS
        for name, scale in scales.items()
    }
    for name in swap.SHARES:
        given = rng.gamma(3, 1, n)
        columns |= {f"swap.{name}": skill * given + rng.normal(0, 0.3, n)}
        columns |= {f"swap.{name}_given": given}
    return columns | {registry.RECONSTRUCTED: np.ones(n, bool)}


def make_examples(rng, count, *, size=32, reconstruct):
    face = np.linspace(40, 220, size)[:, None, None] * np.ones((1, size, 3))
    image = (face + rng.normal(0, 12, (count, size, size, 3))).clip(0, 255).astype(np.uint8)
    zeros = {"jaw": 3, "eyelid": 2, "pose": 3}
    arrays = {
        "id": np.array([NASTY, *(f"face {i}" for i in range(1, count))]),
        "row": np.array([0, 100, 250, 300])[:count],
        "source": np.arange(count) // KEPT,
        "image": image,
        "landmarks_105": rng.uniform(-0.5, 0.5, (count, 105, 2)),
        "has_landmarks_105": np.arange(count) > 0,
        "has_truth": np.arange(count) != 1,
        "predicted_camera": np.tile([7.0, 0, 0], (count, 1)),
        "predicted_shape": rng.normal(0, 0.5, (count, 300)),
        "predicted_expression": rng.normal(0, 1, (count, 50)),
        "true_expression": rng.normal(0, 1, (count, 50)),
        "true_jaw": np.tile([0.2, 0, 0], (count, 1)),
        "true_eyelid": np.zeros((count, 2)),
        **{f"predicted_{name}": np.zeros((count, width)) for name, width in zeros.items()},
    }
    if reconstruct:
        arrays |= {"reconstruction": 255 - image, "swapped": image[::-1]}
        arrays |= {f"swapped_{k}": arrays[f"true_{k}"][::-1] for k in swap.MOVEMENT}
    return {
        f"example_{key}": value.astype(np.float32) if value.dtype == float else value
        for key, value in arrays.items()
    }


def write_run(folder, stage, head, *, skill, sets=SETS):
    """A workdir as training and evaluation leave it."""
    rng = np.random.default_rng(5)
    parts = [
        make_columns(rng, n, skill=skill, graded="levels" in s, painted=stage == 2)
        for s, n in sets.items()
    ]
    pooled = summary.pool(parts)
    edges = summary.intensity_edges(parts)
    trained = ["shape_encoder", *(["emotion_head", "synthesizer"] if stage == 2 else [])]
    scores = {
        "format": 1,
        "workdir": str(folder),
        "stage": stage,
        "step": 600 * stage,
        "trained": trained,
        "split": "test",
        "emotions": EMOTIONS,
        "head": {key: getattr(head, key) for key in ("name", "version", "sha256")},
        **summary.summarize(pooled, edges, samples=50),
        "sources": {
            name: summary.summarize(part, edges, samples=50)
            for name, part in zip(sets, parts, strict=True)
        },
    }
    folder.mkdir()
    (folder / "evaluation.json").write_text(json.dumps(scores, allow_nan=False))
    source = np.repeat(np.arange(len(sets)), list(sets.values()))
    shown = make_examples(rng, KEPT * len(sets), reconstruct=stage == 2)
    np.savez(folder / "predictions.npz", **pooled, source=source, **shown)
    config = {1: stage1, 2: stage2}[stage].get_config()
    (folder / "config.json").write_text(config.to_json())
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(20, 601 * stage, 20):
            row = {"step": step, "phase": "A" if stage == 2 and step > 600 else "pretrain"}
            row["loss"] = 3 * np.exp(-step / 200) + rng.uniform(0.2, 0.3)
            for share, name in enumerate(("landmark_105", "landmark_203", "gt_expression"), 1):
                row[f"loss/{name}"] = row["loss"] / 100
                row[f"weighted/{name}"] = row["loss"] * share / 6
            row["images_per_second"] = 64.0 if step != 40 else None
            file.write(json.dumps(row) + "\n")
    return str(folder)
