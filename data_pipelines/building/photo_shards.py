"""Shards of photographs: read by threads, cropped, and labelled by a landmark fit if asked."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import itertools
import sys
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from etils import epath

from data_pipelines import records
from data_pipelines.building import photographs
from data_pipelines.building.shards import Shard
from data_pipelines.building.summary import Summary
from fields_jax.progress import Progress

if TYPE_CHECKING:
    from data_pipelines.building.fitted import Teacher

_IN_FLIGHT = 4  # photographs per thread that are read ahead


class Item(Protocol):
    """One photograph in a catalogue; small, since a set may have a million."""

    key: str

    @property
    def files(self) -> tuple[str, ...]:
        """The path of the photograph, then those of the files that are named for it alone."""

    @property
    def face(self) -> Hashable:
        """What tells the face from others of the same photograph."""

    def sample(self) -> photographs.Sample:
        """Reads its annotation; raises `photographs.Rejected`."""


@dataclasses.dataclass
class PhotographShard(Shard):
    """Some photographs of a split.

    Attributes:
      items: the photographs.
      size: side of the stored crop, pixels.
      scale: side of the stored crop relative to the face box.
      threads: photographs read at once.
      path: where the finished shard is kept until the whole set is done.
      progress: told of every photograph, or None.
      teacher: adds labels of the landmark fit, or None.
    """

    items: Sequence[Item]
    size: int
    scale: float
    threads: int
    path: epath.Path
    progress: Progress | None = None
    teacher: Teacher | None = None

    def __len__(self) -> int:
        return len(self.items)

    def records(self, summary: Summary) -> Iterator[tuple[str, dict[str, Any]]]:
        """Reads the photographs, and counts records and rejects in `summary`."""
        made = self._made(summary)
        for key, record in self.teacher.taught(made, summary) if self.teacher else made:
            summary.add(record)
            yield key, record

    def _made(self, summary: Summary) -> Iterator[tuple[str, dict[str, Any]]]:
        items = iter(self.items)
        with concurrent.futures.ThreadPoolExecutor(self.threads) as pool:
            waiting = [
                pool.submit(self._read, item)
                for item in itertools.islice(items, _IN_FLIGHT * self.threads)
            ]
            while waiting:
                key, record, labels = waiting.pop(0).result()
                waiting += [pool.submit(self._read, item) for item in itertools.islice(items, 1)]
                if record is None:
                    summary.reject(*labels)
                else:
                    yield key, record
                if self.progress:
                    self.progress.step()

    def _read(self, item: Item) -> tuple[str, dict[str, Any] | None, tuple[str, str]]:
        try:
            made = photographs.make_record(item.sample(), size=self.size, scale=self.scale)
        except photographs.Rejected as error:
            return item.key, None, (error.reason, error.detail)
        return item.key, records.with_encoded_pictures(made), ("", "")

    def digest(self) -> str:
        """A hash of the items, their files, how they are cropped and labelled, what records hold.

        Of files it takes the names, and on a disk the sizes and times, so that points which were
        found after an interruption count. Making again only the shards with rejects would miss
        those of photographs that are annotated besides, and repeat most of a set in which here and
        there a photograph is bad.
        """
        taught = self.teacher.words if self.teacher else ""
        items = [(_described(item), photographs.state(item.files)) for item in self.items]
        described = repr((self.size, self.scale, items, taught, sorted(records.LABELS)))
        return hashlib.sha256(described.encode()).hexdigest()


def _described(item: Item) -> str:
    """An item's fields as text, with whole arrays, which numpy's own text abbreviates."""
    with np.printoptions(threshold=sys.maxsize):
        return repr(item)
