"""Emotion labels with the statistics of AffectNet: class, valence, arousal and label noise.

Class ids are those of `fields_jax.emotions.EMOTIONS`. All draws come from a numpy generator.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from fields_jax.emotions import EMOTIONS, N_EMOTIONS

# Share of each class in AffectNet's 8-class training set, from the inverse-frequency weights
# published with CAGE (Wagner et al. 2024). Those are labels as annotators told them; here they are
# the shares of true classes, and with `LABEL_NOISE` and `CONFUSION` the labels told in training
# come to 0.330, 0.395, 0.100, 0.060, 0.015, 0.013, 0.072 and 0.015. Published figures rest on this.
CLASS_PRIOR = np.array([0.261, 0.467, 0.088, 0.049, 0.022, 0.013, 0.087, 0.013])
CLASS_PRIOR /= CLASS_PRIOR.sum()

# Aggregates of AffectNet's 8-class validation list (n = 3,999), one row per class:
# mean and standard deviation of valence, the same of arousal, their correlation.
_VALENCE_AROUSAL = np.array(
    [
        [-0.02, 0.14, -0.02, 0.12, -0.24],
        [0.67, 0.17, 0.08, 0.15, 0.19],
        [-0.63, 0.23, -0.27, 0.13, -0.14],
        [0.18, 0.18, 0.70, 0.15, 0.03],
        [-0.12, 0.07, 0.76, 0.16, 0.08],
        [-0.68, 0.16, 0.45, 0.10, 0.19],
        [-0.43, 0.17, 0.55, 0.21, 0.05],
        [-0.51, 0.19, 0.58, 0.12, -0.61],
    ]
)
VA_MEAN = _VALENCE_AROUSAL[:, [0, 2]]
VA_SD = _VALENCE_AROUSAL[:, [1, 3]]
VA_CORRELATION = _VALENCE_AROUSAL[:, 4]

# Which classes annotators confuse (our choice): a mistaken label falls on one of these, in
# proportion to its prior, so that rare classes are not swamped by mistakes from frequent ones.
_NEIGHBOURS = {
    "neutral": ("happy", "sad", "contempt"),
    "happy": ("neutral", "surprise"),
    "sad": ("neutral", "anger"),
    "surprise": ("fear", "happy"),
    "fear": ("surprise", "sad"),
    "disgust": ("anger", "contempt"),
    "anger": ("disgust", "contempt", "sad"),
    "contempt": ("disgust", "anger"),
}
LABEL_NOISE = 0.35  # fraction of training labels that are mistaken
VA_NOISE = 0.05  # standard deviation of an annotator's valence and arousal


def _confusion() -> Float[np.ndarray, "8 8"]:
    matrix = np.zeros((N_EMOTIONS, N_EMOTIONS))
    for name, others in _NEIGHBOURS.items():
        row, columns = EMOTIONS.index(name), [EMOTIONS.index(other) for other in others]
        matrix[row, columns] = CLASS_PRIOR[columns] / CLASS_PRIOR[columns].sum()
    return matrix


CONFUSION = _confusion()  # row: true class; distribution of the mistaken label


def valence_arousal(
    rng: np.random.Generator, emotion: Int[np.ndarray, " N"]
) -> Float[np.ndarray, "N 2"]:
    """Draws (valence, arousal) from the Gaussian of each class, clipped to [-1, 1]."""
    first, second = rng.standard_normal((2, len(emotion)))
    rho = VA_CORRELATION[emotion]
    unit = np.stack([first, rho * first + np.sqrt(1 - rho**2) * second], axis=-1)
    return np.clip(VA_MEAN[emotion] + VA_SD[emotion] * unit, -1, 1)


def intensity(va: Float[np.ndarray, "*N 2"]) -> Float[np.ndarray, "*N"]:
    """How strong an emotion is: min(1, sqrt(v^2 + a^2))."""
    return np.minimum(1, np.linalg.norm(va, axis=-1))


def annotate_class(rng: np.random.Generator, emotion: int) -> int:
    """The class an annotator writes down: mistaken with probability `LABEL_NOISE`."""
    if rng.random() >= LABEL_NOISE:
        return emotion
    return int(rng.choice(N_EMOTIONS, p=CONFUSION[emotion]))


def annotate_va(rng: np.random.Generator, va: Float[np.ndarray, "2"]) -> Float[np.ndarray, "2"]:
    """Valence and arousal as an annotator reads them off, clipped to [-1, 1]."""
    return np.clip(va + rng.normal(0, VA_NOISE, 2), -1, 1)
