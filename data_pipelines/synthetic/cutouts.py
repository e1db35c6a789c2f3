"""Heads cut out of their pictures, for scenes of several: colour, coverage, where the face is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from data_pipelines.synthetic import pictures, samples, scenes
from data_pipelines.synthetic.canvas import coded
from data_pipelines.synthetic.rendering import Picture
from data_pipelines.synthetic.studio import open_studio
from fields_jax.geometry.rotations import rotation_vector

SIZE = 192  # pixels of a cut-out
_SHARE = 0.84  # of the size that a face has in the stored crops: hair and hats need room
_DIRECTIONS = 24  # along which the furthest points of a face are kept
# The box of a face ends where mediapipe's mesh does. On 21 photographs the box of the fitted face
# mask is 1.06 times as large, and its middle lies 3.5 % of its side further up.
_LARGER, _HIGHER = 1.06, 0.035
_TURNED_AWAY = (115, 165)  # degrees of yaw at which no face is seen


class Cutouts(NamedTuple):
    """Heads; places are fractions of the cut-out, x right, y down.

    Attributes:
      layers: [N, S, S, 4] colour, coded as `canvas.coded` does, times coverage; and coverage.
      outline: [N, K, 2] the furthest points of the face, whose bounding box is its box.
      marks: [N, 68, 2] landmarks.
      neck: [N, 2] the middle of the neck's lower end.
      up: [N, 2] from the middle of the face upwards, half its box long.
      cloth: [N, 3] linear colour of the clothes.
      shows: [N] whether the face is seen; else the head is turned away.
    """

    layers: UInt8[np.ndarray, "N S S 4"]
    outline: Float[np.ndarray, "N K 2"]
    marks: Float[np.ndarray, "N 68 2"]
    neck: Float[np.ndarray, "N 2"]
    up: Float[np.ndarray, "N 2"]
    cloth: Float[np.ndarray, "N 3"]
    shows: Bool[np.ndarray, " N"]


def cut_outs(first: int, count: int, seed: int, away: float = 0.12) -> Iterator[Cutouts]:
    """Renders heads of different people, a batch at a time.

    Args:
      first: number of the first person.
      count: how many heads; each is a function of its number and the seed.
      seed: of all.
      away: share of the heads that are turned away.
    """
    studio = open_studio(SIZE, bite=samples.BITES["wide"])
    drawn = samples.samples("wide", "train", samples.Size(count, 1), first, seed, studio)
    while batch := list(itertools.islice(drawn, pictures.BATCH)):
        posed = [_posed(sample, away) for sample in batch]
        heads, shows = zip(*posed, strict=True)
        filled = [*heads, *[heads[-1]] * (pictures.BATCH - len(heads))]
        rendered = [np.asarray(part) for part in studio.render(*pictures.stack(filled))]
        made = [
            _cut(head, Picture(*(part[row] for part in rendered)), seen)
            for row, (head, seen) in enumerate(zip(heads, shows, strict=True))
        ]
        yield Cutouts(*(np.stack(column) for column in zip(*made, strict=True)))


def _posed(sample: samples.Sample, away: float) -> tuple[samples.Sample, bool]:
    """The sample with room about it, turned away or not."""
    framing = sample.view.framing * (_SHARE, 1, 1)
    view = sample.view._replace(framing=framing)
    shows = sample.rng.random() >= away
    if not shows:
        yaw = sample.rng.choice([-1, 1]) * sample.rng.uniform(*_TURNED_AWAY)
        view = view._replace(pose=rotation_vector(yaw, sample.rng.normal(0, 8), 0))
    return sample._replace(view=view), shows


def _cut(sample: samples.Sample, picture: Picture, shows: bool) -> tuple[np.ndarray, ...]:
    """The fields of one head."""
    frame = pictures.face_frame(sample, picture)
    seed = int(sample.rng.integers(2**62))
    black, white = (_laid_over(seed, light, sample, picture, frame) for light in (0.0, 1.0))
    coverage = np.clip(1 - (white - black).mean(axis=-1, keepdims=True), 0, 1)
    layers = np.concatenate([coded(black / np.maximum(coverage, 1e-3)), 255 * coverage], axis=-1)
    layers[..., :3] *= coverage
    outline = pictures.share(picture.outline)
    middle = 0.5 * (outline.min(axis=0) + outline.max(axis=0))
    smaller = middle + (outline - middle) / _LARGER - 2 * _HIGHER * frame.up
    angle = np.linspace(0, 2 * np.pi, _DIRECTIONS, endpoint=False)
    furthest = (smaller @ np.stack([np.cos(angle), np.sin(angle)])).argmax(axis=0)
    fields = (smaller[furthest], frame.marks, pictures.share(picture.neck), frame.up)
    return (
        np.round(layers).astype(np.uint8),
        *fields,
        np.asarray(sample.look.cloth),
        np.asarray(shows),
    )


def _laid_over(
    seed: int, light: float, sample: samples.Sample, picture: Picture, frame: scenes.Frame
) -> Float[np.ndarray, "S S 3"]:
    """The head, its hair and what it wears before an even wall; the same for the same seed."""
    rng, look = np.random.default_rng(seed), sample.look
    scene = np.full((SIZE, SIZE, 3), light)
    if look.hair is not None:
        scene = scenes.hair_behind(rng, scene, frame, look.hair)
    return scenes.before(rng, pictures.over(picture, scene), frame, look, shadows=False)
