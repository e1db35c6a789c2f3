"""A generated person who turns, talks and smiles: frames with known landmarks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data_pipelines.synthetic import pictures, population, samples, views
from data_pipelines.synthetic.appearance import appearance
from data_pipelines.synthetic.studio import open_studio
from fields_jax.geometry.rotations import rotation_vector

RATE = 30.0
NOISE = 4.0  # of each pixel, of 255


def acted(count: int, size: int = 144, seed: int = 7) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures [S, S, 3] of a clip at RATE, and [68, 2] landmarks in pixels.

    The camera's noise is new in each frame, all else moves smoothly.
    """
    studio = open_studio(size)
    rng = np.random.default_rng(seed)
    who, look = population.person(rng), appearance(rng, studio.surface)
    seen = views.laboratory_view(rng, 0.0)
    still = np.zeros(50, np.float32)
    smile = [name.startswith(("lip_corner_up", "cheek_raise")) for name in studio.names]
    smile = np.pad(np.array(smile, np.float32), (0, 50 - len(smile)))

    def frame(index: int) -> samples.Sample:
        time = index / RATE
        turned = 22 * np.sin(1.9 * time), 6 * np.sin(1.3 * time + 1), 4 * np.sin(0.8 * time)
        blink = np.exp(-(((time % 2.0 - 1.0) / 0.06) ** 2))
        shown = population.Performance(
            expression=still + np.float32(1.2 * (1 + np.sin(2.2 * time))) * smile,
            jaw=np.float32([0.12 * (1 - np.cos(5 * time)), 0, 0]),
            eyelid=np.float32([blink, blink]),
        )
        place = 0.06 * np.array([np.sin(1.1 * time), np.cos(0.9 * time)])
        return samples.Sample(
            id=f"acted-{index:04d}",
            shape=who.shape,
            look=look,
            performance=shown,
            view=seen._replace(
                pose=rotation_vector(*turned), framing=np.array([views.FACE_SHARE, *place])
            ),
            scene="laboratory",
            landmark_noise=0.0,
            labels={},
            rng=np.random.default_rng(seed),  # the same wall behind every frame
        )

    made = pictures.records((frame(index) for index in range(count)), studio.render, size)
    for record in made:
        noisy = record["image"] + rng.normal(0, NOISE, record["image"].shape)
        yield np.uint8(np.clip(noisy + 0.5, 0, 255)), record["landmarks_68"]
