"""Predictions of emotion that are known to be so good, as arrays and as CSV files."""

from __future__ import annotations

import csv

import numpy as np

from fields_jax.emotions import EMOTIONS

# Mean valence and arousal of AffectNet's classes.
VALENCE = np.array([-0.02, 0.67, -0.63, 0.18, -0.12, -0.68, -0.43, -0.51])
AROUSAL = np.array([-0.02, 0.08, -0.27, 0.70, 0.76, 0.45, 0.55, 0.58])


def make_answers(rng, n, *, noise):
    """Labels and probabilities of n examples, twenty of each subject, as columns of a CSV."""
    label = rng.permutation(np.arange(n) % 8)
    logits = 3 * np.eye(8)[label] + rng.normal(0, noise, (n, 8))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return {
        "id": [f"image {index}" for index in range(n)],
        "valence": probabilities @ VALENCE,
        "arousal": probabilities @ AROUSAL,
        **{f"p_{name}": probabilities[:, index] for index, name in enumerate(EMOTIONS)},
        "true_valence": np.clip(VALENCE[label] + rng.normal(0, 0.15, n), -1, 1),
        "true_arousal": np.clip(AROUSAL[label] + rng.normal(0, 0.15, n), -1, 1),
        "true_emotion": [EMOTIONS[index] for index in label],
        "subject": [f"s{index // 20}" for index in range(n)],
    }


def write_csv(path, columns):
    """Writes columns as a CSV and returns its path as text."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return str(path)
