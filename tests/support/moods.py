"""Pictures whose colour says the class, for networks that read emotion from pictures."""

from __future__ import annotations

import numpy as np

SIZE, COUNT = 32, 16


def moods(seed: int) -> dict[str, np.ndarray]:
    """A batch: the channel is the class, its brightness valence; arousal is the opposite.

    The last three have no labels.
    """
    rng = np.random.default_rng(seed)
    emotion = rng.integers(0, 3, COUNT)
    valence = rng.uniform(-1, 1, COUNT).astype(np.float32)
    image = rng.integers(0, 40, (COUNT, SIZE, SIZE, 3))
    image[np.arange(COUNT), ..., emotion] += (80 + 60 * valence[:, None, None]).astype(int)
    known = np.arange(COUNT) < COUNT - 3
    return {
        "image": image.astype(np.uint8),
        "emotion": np.where(known, emotion, -1).astype(np.int32),
        "valence": np.where(known, valence, np.nan).astype(np.float32),
        "arousal": np.where(known, -valence, np.nan).astype(np.float32),
        "has_emotion": known,
        "has_va": known,
        "id": np.array([str(row) for row in range(COUNT)]),
    }
