"""The TFDS builder that all sets of real photographs share; each set only adds its catalogue."""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import os
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from data_pipelines import records
from data_pipelines.building.shards import (
    SHARD_SIZE,
    Item,
    KeepingWriter,
    Shard,
    move_shard,
    read_note,
)
from data_pipelines.building.summary import Summary, total
from fields_jax.errors import UserError
from fields_jax.progress import Progress

if TYPE_CHECKING:
    from data_pipelines.building.fitted import Teacher


@dataclasses.dataclass
class Catalogue:
    """The photographs of a folder of raw data, found without opening one.

    Attributes:
      splits: the photographs of each split.
      rejects: per split (reason, detail) of photographs left out because of their annotation.
    """

    splits: dict[str, list[Item]]
    rejects: dict[str, list[tuple[str, str]]] = dataclasses.field(default_factory=dict)

    def reject(self, split: str, reason: str, detail: str) -> None:
        """Notes a photograph, or a row of a table, as left out."""
        self.rejects.setdefault(split, []).append((reason, detail))


class PhotographBuilder(tfds.core.ShardBasedBuilder, abc.ABC):
    """Crops photographs about their faces; finished shards survive an interruption.

    A set derives from this and writes `_info` and `catalogue`; see docs/extending.md.

    Attributes:
      summaries: per split counts of records and rejects; filled while preparing.
      teacher: gives the photographs labels of the landmark fit; None: they have their own alone.
    """

    teacher: Teacher | None = None

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Name the folder of the raw data by --source."

    def __init__(
        self,
        *,
        stored_size: int = 256,
        stored_scale: float = 2.0,
        limit: int = 0,
        threads: int = 0,
        shard_size: int = SHARD_SIZE,
        **kwargs: Any,
    ):
        """Takes the arguments of `tfds.core.DatasetBuilder` and these.

        Args:
          stored_size: largest side of a stored crop; a small face is stored as it is.
          stored_scale: side of the stored crop relative to the face box. Training crops reach 1.8
            (SMIRK), so 2 leaves room to move.
          limit: at most so many photographs of each split, chosen by hash; 0: all.
          threads: photographs read at once; 0: one per core.
          shard_size: photographs to a shard.
          **kwargs: see `tfds.core.DatasetBuilder`.
        """
        super().__init__(**kwargs)
        self._stored_size, self._stored_scale = stored_size, stored_scale
        self._limit, self._shard_size = limit, shard_size
        self._threads = threads or os.cpu_count() or 1
        self.summaries: dict[str, Summary] = {}

    @property
    def options(self) -> dict[str, Any]:
        """The settings that, with the raw data, determine the content of the set."""
        return dict(
            stored_size=self._stored_size, stored_scale=self._stored_scale, limit=self._limit
        )

    @abc.abstractmethod
    def catalogue(self, folder: epath.Path) -> Catalogue:
        """Finds the photographs below a folder.

        Raises:
          UserError: the folder does not hold such a set.
        """

    @property
    def unfinished(self) -> epath.Path:
        """Folder of the finished shards while the set is not complete yet."""
        return self.data_path.parent / f"unfinished_{self.version}"

    def examine(self, folder: epath.Path) -> dict[str, Summary]:
        """Does everything that preparing does, but writes nothing."""
        found, summaries = self._found(folder), {}
        for split, shards in self._shards(found, self._progress(found)).items():
            summary = summaries[split] = Summary(rejects=list(found.rejects.get(split, ())))
            for shard in shards:
                for _ in shard.records(summary):
                    pass
        _check(summaries, folder)
        return summaries

    def plan(self, folder: epath.Path, *, resume: bool = False) -> dict[str, list[Shard]]:
        """The shards of each split, in order.

        Args:
          folder: of the raw data.
          resume: remove the files of unfinished shards; by one process only.
        """
        splits = self._shards(self._found(folder))
        if resume:
            _resume(splits)
        return splits

    def write_shard(self, shard: Shard) -> None:
        """Makes one shard by itself; two processes may make the same one at once."""
        own = self.unfinished / f"attempt-{uuid.uuid4().hex}"
        own.mkdir(parents=True)
        made = dataclasses.replace(shard, path=own / shard.path.name)
        writer = tfds.core.writer.ShardWriter(
            self.info.features,
            ExampleSerializer(self.info.features.get_serialized_info()),
            KeepingWriter(own, self.info.file_format, place=False),
        )
        writer.write(path=made.path, examples=made())
        move_shard(made.path, shard.path)
        own.rmtree()

    def remove_leftovers(self) -> None:
        """Removes files of interrupted runs, once the set is complete."""
        for folder in (
            self.unfinished,
            *self.data_path.parent.glob(f"incomplete.*_{self.version}"),
        ):
            if folder.exists():
                folder.rmtree()

    def _make_info(self, **known: Any) -> tfds.core.DatasetInfo:
        if self.teacher:
            known["metadata"] = tfds.core.MetadataDict(
                labels_of=self.teacher.head, learnt=True, fitted=True
            )
        return self.dataset_info_from_configs(features=records.features(), **known)

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> Mapping[str, list[Shard]]:
        folder = epath.Path(dl_manager.manual_dir)
        found = self._found(folder)
        self.unfinished.mkdir(parents=True, exist_ok=True)
        splits = self._shards(found, self._progress(found))
        _resume(splits)
        self._planned = folder, found, splits
        return splits

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        super()._download_and_prepare(*args, **kwargs)
        folder, found, splits = self._planned
        for split, shards in splits.items():
            made = [Summary(**read_note(shard.path)["summary"]) for shard in shards]
            self.summaries[split] = total([Summary(rejects=found.rejects.get(split, [])), *made])
        _check(self.summaries, folder)

    def _example_writer(self) -> KeepingWriter:
        return KeepingWriter(self.unfinished, self.info.file_format)

    def _found(self, folder: epath.Path) -> Catalogue:
        """The catalogue in the order of the shards: shuffled by the hash of each key."""
        found = self.catalogue(folder)
        for split, items in found.splits.items():
            items.sort(key=lambda item: hashlib.sha256(item.key.encode()).digest())
            unique = {}
            for item in items:
                if unique.setdefault(item.key, item) is not item:
                    found.reject(split, "named twice", item.key)
            found.splits[split] = list(unique.values())[: self._limit or None]
        found.splits = {split: items for split, items in found.splits.items() if items}
        if not found.splits:
            reasons = Summary(rejects=[r for split in found.rejects.values() for r in split])
            raise UserError(f"{folder}: nothing to prepare{_because(reasons)}")
        first = next(iter(found.splits))  # gets the rejects of splits without photographs
        for split in sorted(set(found.rejects) - set(found.splits)):
            found.rejects.setdefault(first, []).extend(found.rejects.pop(split))
        return found

    def _progress(self, found: Catalogue) -> Progress:
        total = sum(map(len, found.splits.values()))
        return Progress(total, "photographs", of=self.info.full_name)

    def _shards(self, found: Catalogue, progress: Progress | None = None) -> dict[str, list[Shard]]:
        return {
            split: list(self._shards_of(split, items, progress))
            for split, items in found.splits.items()
        }

    def _shards_of(
        self, split: str, items: list[Item], progress: Progress | None
    ) -> Iterator[Shard]:
        template = self._get_filename_template(split_name=split)
        count = -(-len(items) // self._shard_size)
        for index in range(count):
            name = template.sharded_filepath(shard_index=index, num_shards=count).name
            yield Shard(
                items[index * self._shard_size : (index + 1) * self._shard_size],
                self._stored_size,
                self._stored_scale,
                self._threads,
                self.unfinished / name,
                progress,
                self.teacher,
            )


def _resume(splits: Mapping[str, list[Shard]]) -> None:
    for shard in (shard for shards in splits.values() for shard in shards):
        shard.resume()


def _check(summaries: dict[str, Summary], folder: epath.Path) -> None:
    """Refuses a set in which nothing is left."""
    whole = total(summaries.values())
    if not whole.examples:
        raise UserError(
            f"{folder}: none of its {len(whole.rejects)} photographs can be used{_because(whole)}"
        )


def _because(summary: Summary) -> str:
    reasons = ", ".join(f"{reason}: {count}" for reason, count in summary.reasons().items())
    first = f"; first: {summary.rejects[0][1]}" if summary.rejects else ""
    return f" ({reasons}{first})" if reasons else ""
