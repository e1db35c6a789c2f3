"""From samples to records: batches through the renderer, then backdrop, occluders and camera."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from data_pipelines.records import record
from data_pipelines.synthetic import camera, canvas, scenes
from data_pipelines.synthetic.rendering import Lights, Picture, Skin
from data_pipelines.synthetic.samples import Sample
from fields_jax.batch import LANDMARK_SETS
from fields_jax.geometry.rotations import turned
from fields_jax.landmark_schemes import EYE_PAIR_68
from fields_jax.photos.crops import bounding_box, hull_mask
from fields_jax.types import FlameCoefficients

BATCH = 32  # images rendered at once; one shape, so that the renderer compiles once
_LAB_NOISE, _WILD_NOISE = 0.008, (0.005, 0.02)  # of the sensor, of a full scale of 1
_WILD_BLUR = 0.35  # at most
_DRESSED = 0.85  # share of the wide pictures that show clothes
_EXPOSURE = 0.22  # mean linear radiance of a head that the camera aims at


def records(
    samples: Iterable[Sample], render: Callable[..., Picture], image_size: int
) -> Iterator[dict[str, Any]]:
    """Renders samples.

    Args:
      samples: what to render.
      render: made by `rendering.make_renderer`.
      image_size: pixels of the stored crop.
    """
    stream = iter(samples)
    waiting: tuple[list[Sample], Picture] | None = None
    while batch := list(itertools.islice(stream, BATCH)):
        padded = batch + [batch[-1]] * (BATCH - len(batch))
        # Not awaited: painting the previous batch overlaps with rendering this one.
        rendering = render(*stack(padded))
        if waiting:
            yield from _finish(*waiting, image_size)
        waiting = batch, rendering
    if waiting:
        yield from _finish(*waiting, image_size)


def _finish(batch: list[Sample], pictures: Picture, size: int) -> Iterator[dict[str, Any]]:
    arrays = [np.asarray(part) for part in pictures]
    for index, sample in enumerate(batch):
        yield _record(sample, Picture(*(array[index] for array in arrays)), size)


def stack(batch: list[Sample]) -> tuple[FlameCoefficients, Any, Skin, Lights]:
    """What the renderer takes: coefficients, framings, skins and lights of some samples."""

    def column(get):
        return jnp.asarray(np.stack([get(sample) for sample in batch]), jnp.float32)

    coefficients = FlameCoefficients(
        shape=column(lambda s: s.shape),
        expression=column(lambda s: s.performance.expression),
        jaw=column(lambda s: s.performance.jaw),
        eyelid=column(lambda s: s.performance.eyelid),
        pose=column(lambda s: s.view.pose),
        camera=jnp.zeros((len(batch), 3)),
        eyes=column(lambda s: s.view.eyes),
    )
    skin = Skin(*(column(lambda s, name=name: getattr(s.look, name)) for name in Skin._fields))
    lights = Lights(
        direction=column(lambda s: s.view.light_direction),
        colour=column(lambda s: s.view.light_colour),
        sky=column(lambda s: s.view.sky),
        gloss=column(lambda s: s.view.gloss),
        nearness=column(lambda s: s.view.nearness),
    )
    return coefficients, column(lambda s: s.view.framing), skin, lights


def _record(sample: Sample, picture: Picture, size: int) -> dict[str, Any]:
    def pixels(points):
        return (points + 1) * (size / 2)

    outline = pixels(picture.outline)
    box = bounding_box(outline)
    landmarks = {name: pixels(getattr(picture, name)) for name in LANDMARK_SETS}
    make = {"laboratory": _laboratory_image, "wild": _wild_image, "wide": _wide_image}
    image = make[sample.scene](sample, picture, size)
    spread = sample.landmark_noise * (box[2] - box[0] + box[3] - box[1]) / 2
    told = {n: p + spread * sample.rng.standard_normal(p.shape) for n, p in landmarks.items()}
    mask = hull_mask(_rim(outline), size, size)
    return record(image, mask, box, id=sample.id, **told, **sample.labels)


def _rim(points: np.ndarray) -> np.ndarray:
    """First and last pixel of each row that has points; the corners of the hull are among them."""
    columns, rows = np.floor(points).astype(np.int64).T
    top = rows.min()
    height = rows.max() - top + 1
    first, last = np.full(height, columns.max()), np.full(height, columns.min())
    np.minimum.at(first, rows - top, columns)
    np.maximum.at(last, rows - top, columns)
    used = np.flatnonzero(first <= last)
    ends = np.concatenate([first[used], last[used]])
    return np.stack([ends, np.tile(used + top, 2)], axis=1)


def _laboratory_image(sample: Sample, picture: Picture, size: int) -> np.ndarray:
    wall = canvas.laboratory_wall(sample.rng, size)
    scene = canvas.clothes(over(picture, wall), share(picture.neck), sample.look.cloth)
    return canvas.develop(sample.rng, scene, _LAB_NOISE, 0.0)


def _wild_image(sample: Sample, picture: Picture, size: int) -> np.ndarray:
    rng, look = sample.rng, sample.look
    behind = canvas.wild_backdrop(rng, size)
    if look.hair is not None:
        behind = canvas.long_hair(rng, behind, look.hair)
    scene = canvas.clothes(over(picture, behind), share(picture.neck), look.cloth)
    eyes = share(np.stack([picture.landmarks_68[eye].mean(axis=0) for eye in EYE_PAIR_68]))
    scene = canvas.occlude(rng, scene, eyes)
    return canvas.develop(rng, scene, rng.uniform(*_WILD_NOISE), rng.uniform(0, _WILD_BLUR))


def _wide_image(sample: Sample, picture: Picture, size: int) -> np.ndarray:
    rng, look = sample.rng, sample.look
    frame = face_frame(sample, picture)
    behind = scenes.backdrop(rng, size)
    if look.hair is not None:
        behind = scenes.hair_behind(rng, behind, frame, look.hair)
    scene = over(picture, behind)
    if rng.random() < _DRESSED:
        scene = canvas.clothes(scene, share(picture.neck), look.cloth * rng.uniform(0.2, 1.2, 3))
    return camera.photographed(rng, scenes.before(rng, scene, frame, look))


def face_frame(sample: Sample, picture: Picture) -> scenes.Frame:
    """Where the face of a rendered sample is."""
    up = turned(sample.view.pose, np.array([0.0, 1.0, 0.0]))[:2] * (1, -1)
    up = 0.5 * sample.view.framing[0] * up / max(np.linalg.norm(up), 1e-3)
    outline = share(picture.outline)
    return scenes.Frame(
        middle=0.5 * (outline.min(axis=0) + outline.max(axis=0)),
        right=up[::-1] * (-1, 1),
        up=up,
        marks=share(picture.landmarks_68),
        coverage=picture.coverage,
    )


def over(picture: Picture, behind: Float[np.ndarray, "S S 3"]) -> Float[np.ndarray, "S S 3"]:
    """The head before a backdrop, exposed for the head as cameras do, half-way at least."""
    mean = picture.radiance.sum() / (3 * picture.coverage.sum())
    gain = (_EXPOSURE / mean) ** 0.6
    return gain * picture.radiance + (1 - picture.coverage[..., None]) * behind


def share(points: Float[np.ndarray, "*N 2"]) -> Float[np.ndarray, "*N 2"]:
    """Points in [-1, 1] as fractions of the picture."""
    return (points + 1) / 2
