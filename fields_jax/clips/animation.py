"""A person's clip as a GLB: the head with the texture of its best frame, moved by an animation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import jax
import numpy as np

from fields_jax.clips.decode import Frame
from fields_jax.clips.files import Clip
from fields_jax.clips.person import Person, camera_at
from fields_jax.outputs.bundle import Bundle, pose_heads
from fields_jax.outputs.glb import Frames, glb
from fields_jax.photos.faces import Face
from fields_jax.types import FlameCoefficients, FlameModel


def best_row(person: Person) -> int:
    """The frame whose reading is expected to be the best: the one that gives the texture."""
    errors = np.where(person.seen, person.readings["expected_error"], np.inf)
    return int(np.nanargmin(errors))


def best_frames(persons: Sequence[Person], frames: Iterable[Frame]) -> list[Frame]:
    """The best frame of each person, from the frames of the clip as far as they are needed."""
    wanted = [int(person.frames[best_row(person)]) for person in persons]
    found: dict[int, Frame] = {}
    for frame in frames:
        if frame.index in wanted:
            found[frame.index] = frame
        if len(found) == len(set(wanted)):
            break
    return [found[number] for number in wanted]


def in_one_crop(person: Person, row: int) -> FlameCoefficients:
    """All frames' coefficients, with cameras of the crop of one of them."""
    matrices = np.broadcast_to(person.matrices[row], (len(person.times), 3, 3))
    camera = camera_at(person.place, matrices, person.size)
    return dataclasses.replace(person.flame(), camera=camera)


def animated(clip: Clip, head: FlameModel, frame: Frame, morphs: str) -> bytes:
    """The content of clip.glb; see `outputs.glb`.

    Args:
      clip: of the person.
      head: of the coefficients.
      frame: of `best_frames`.
      morphs: as of `outputs.morphs.choose_morphs`.
    """
    person, row = clip.person, best_row(clip.person)
    moved = in_one_crop(person, row)
    still = jax.tree.map(lambda column: column[row : row + 1], moved)
    result = pose_heads(head, still, 1)[0]
    name = f"frame {frame.index}"
    face = Face(
        str(frame.path), name, frame.image, None, person.boxes[row], person.scale, "a clip's frame"
    )
    bundle = Bundle(face, head, result, person.size, clip.about)
    return glb(bundle, morphs, Frames(person.times - person.times[0], moved))
