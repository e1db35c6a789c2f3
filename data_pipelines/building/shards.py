"""Shards of an unfinished set; finished shards are kept if the run that made them is interrupted.

Beside each shard lies a note of its items, its size and its rejects. The note is written last: a
shard without a matching note is incomplete and is made again.
"""

from __future__ import annotations

import abc
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow_datasets as tfds
from etils import epath

from data_pipelines.building.summary import Summary, total
from fields_jax.disk import writing
from fields_jax.files import read_json, write_whole
from fields_jax.progress import Progress

GO_ON = "the same command then goes on where it was"
PARTIAL = ".partial"  # suffix of a shard that is being written


class Shard(abc.ABC):
    """Some examples of a split; calling it yields (key, record), as tfds wants it.

    A kind of set derives a dataclass from this that says how its examples are made.

    Attributes:
      path: where the finished shard is kept until the whole set is done.
      progress: told of every example, or None.
    """

    path: epath.Path
    progress: Progress | None

    @abc.abstractmethod
    def __len__(self) -> int:
        """How many examples it has at most, as progress counts them."""

    @abc.abstractmethod
    def records(self, summary: Summary) -> Iterator[tuple[str, dict[str, Any]]]:
        """Makes keys and records, and counts records and rejects in `summary`."""

    @abc.abstractmethod
    def digest(self) -> str:
        """A hash of all that the records depend on."""

    def __call__(self) -> Iterator[tuple[str, Any]]:
        """Yields the records, or as many Nones, to be counted, for a shard that is finished."""
        if note := read_note(self.path):
            if self.progress:
                self.progress.skip(len(self))
            yield from (("", None) for _ in range(note["summary"]["examples"]))
            return
        items = self.digest()  # before anything is read: what changes meanwhile is made again
        summary = Summary()
        yield from self.records(summary)
        note = {"items": items, "summary": summary.to_json()}
        write_whole(_draft(self.path), json.dumps(note))

    def whole(self) -> bool:
        """Whether the shard is finished and made of these items."""
        note = read_note(self.path)
        return (
            note is not None
            and note["items"] == self.digest()
            and self.path.exists()
            and self.path.stat().length == note["bytes"]
        )

    def resume(self) -> None:
        """Removes the files of an unfinished shard."""
        if not self.whole():
            for leftover in (_note(self.path), self.path):
                leftover.unlink(missing_ok=True)


class KeepingWriter(tfds.core.ExampleWriter):
    """Writes each shard into the folder of unfinished ones, and from there into the set."""

    def __init__(self, unfinished: epath.Path, file_format: Any, *, place: bool = True):
        """Takes that folder, tfds's file format, and whether shards go on into the set."""
        super().__init__(file_format)
        self._unfinished, self._place = unfinished, place

    def write(self, path: epath.PathLike, examples: Iterable[tuple[str, bytes]]) -> None:
        """Writes a shard and its note, unless the shard is finished."""
        path = epath.Path(path)
        kept = self._unfinished / path.name
        with writing(self._unfinished, instead="another --out", then=GO_ON):
            if not _note(kept).exists():
                self._make(kept, examples)
            if self._place:
                _place(kept, path)

    def _make(self, kept: epath.Path, examples: Iterable[tuple[str, bytes]]) -> None:
        """Writes a shard, then its note."""
        partial = kept.with_name(f"{kept.name}.{uuid.uuid4().hex}{PARTIAL}")
        super().write(partial, examples)
        partial.replace(kept)
        note = read_json(_draft(kept)) | {"bytes": kept.stat().length}
        write_whole(_note(kept), json.dumps(note))
        _draft(kept).unlink(missing_ok=True)


def move_shard(source: epath.Path, target: epath.Path) -> None:
    """Moves a finished shard and its note, the note last; one that is there gives way."""
    source.replace(target)
    _note(source).replace(_note(target))


def read_note(shard: epath.Path) -> dict[str, Any] | None:
    """The note beside a finished shard, or None if it is absent or damaged."""
    try:
        note = read_json(_note(shard))
        total([Summary(**note["summary"])])
        known = isinstance(note["items"], str) and isinstance(note["bytes"], int)
        return note if known and isinstance(note["summary"]["examples"], int) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # none, or a damaged one
        return None


def _note(shard: epath.Path) -> epath.Path:
    return shard.with_name(f"{shard.name}.json")


def _draft(shard: epath.Path) -> epath.Path:
    return shard.with_name(f"{shard.name}.draft")


def _place(kept: epath.Path, path: epath.Path) -> None:
    """Puts a finished shard into the set, as a second name of the same file where possible."""
    try:
        os.link(kept, path)
    except OSError:  # a bucket, or another file system
        kept.copy(path, overwrite=True)
