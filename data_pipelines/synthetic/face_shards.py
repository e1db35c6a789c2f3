"""Shards of generated faces, each a function of the seed and of its place in the split.

Faces are rendered, and given to other heads, in batches of one size that begin at the same faces
however the split is divided, so that not even the last bit of a record depends on it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

from etils import epath
from tensorflow_datasets.core import hashing

from data_pipelines import records
from data_pipelines.building.shards import Shard
from data_pipelines.building.summary import Summary
from data_pipelines.synthetic import pictures, samples
from data_pipelines.synthetic.casting import Casting
from data_pipelines.synthetic.studio import open_studio, registered
from fields_jax.progress import Progress


class Faces(NamedTuple):
    """The faces of a split.

    Attributes:
      part: one of `samples.PARTS`.
      split: "train" or "test".
      size: how many subjects, and images of each.
      seed: of the set.
      image_size: pixels of stored crops.
      head: .npz of the head; "" for the procedural one.
      head_sha256: what tells its content from others.
      procedural_labels: coefficients are those of the procedural head.
    """

    part: str
    split: str
    size: samples.Size
    seed: int
    image_size: int
    head: str
    head_sha256: str
    procedural_labels: bool

    @property
    def total(self) -> int:
        """How many faces."""
        return self.size.subjects * self.size.images

    def records(self, start: int, stop: int, summary: Summary) -> Iterator[dict[str, Any]]:
        """Makes the records of the faces from `start` to `stop`, counted through the split.

        Args:
          start: first face, a multiple of `pictures.BATCH`.
          stop: of the range.
          summary: gets the errors of a head's faces.
        """
        studio = open_studio(self.image_size, self.head, samples.BITES[self.part])
        images = self.size.images
        before = start // images  # subjects
        runs = samples.numbers(self.part, self.split, before, -(-stop // images))
        sizes = [samples.Size(len(run), images) for run in runs]
        drawn = itertools.chain.from_iterable(
            samples.samples(self.part, self.split, size, run.start, self.seed, studio)
            for run, size in zip(runs, sizes, strict=True)
        )
        drawn = itertools.islice(drawn, start - before * images, stop - before * images)
        if self.head:
            drawn = _casting(self.head, self.procedural_labels)(drawn, summary.errors)
        yield from pictures.records(drawn, studio.render, self.image_size)


@functools.lru_cache(maxsize=2)
def _casting(head: str, procedural_labels: bool) -> Casting:
    return Casting(*registered(head), procedural_labels=procedural_labels)


@dataclasses.dataclass
class FaceShard(Shard):
    """Some consecutive faces of a split, in the order of the hashes of their keys.

    Attributes:
      faces: of the split.
      start, stop: the first one and the one after the last.
      path: where the finished shard is kept until the whole set is done.
      progress: told of every face, or None.
    """

    faces: Faces
    start: int
    stop: int
    path: epath.Path
    progress: Progress | None = None

    def __len__(self) -> int:
        return self.stop - self.start

    def records(self, summary: Summary) -> Iterator[tuple[str, dict[str, Any]]]:
        """Makes the faces, with the pictures of one subject apart from each other."""
        # As tfds shuffles, so that sets of one shard have the order that it would give them.
        hasher = hashing.Hasher(self.faces.split)
        made = []
        for record in self.faces.records(self.start, self.stop, summary):
            summary.add(record)
            made.append((hasher.hash_key(record["id"]), record))
            if self.progress:
                self.progress.step()
        made.sort(key=lambda pair: pair[0])
        yield from ((record["id"], record) for _, record in made)

    def digest(self) -> str:
        """A hash of all that the records depend on; the place of the head's file is not."""
        described = self.faces._replace(head=""), self.start, self.stop, sorted(records.LABELS)
        return hashlib.sha256(repr(described).encode()).hexdigest()


def face_shards(faces: Faces, size: int, names: list[epath.Path]) -> list[FaceShard]:
    """The shards of a split.

    Args:
      faces: of the split.
      size: faces to a shard, a multiple of `pictures.BATCH`.
      names: where each is kept, as many as there are shards.
    """
    starts = range(0, faces.total, size)
    return [
        FaceShard(faces, start, min(start + size, faces.total), path)
        for start, path in zip(starts, names, strict=True)
    ]
