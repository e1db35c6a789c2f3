"""The TFDS builder of sets that are made shard by shard, by one process or by many."""

from __future__ import annotations

import abc
import dataclasses
import json
import uuid
from collections.abc import Mapping
from typing import Any

import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from data_pipelines.building.shards import (
    GO_ON,
    PARTIAL,
    KeepingWriter,
    Shard,
    move_shard,
    read_note,
)
from data_pipelines.building.summary import Summary, total
from fields_jax.disk import writing
from fields_jax.files import read_json, write_whole
from fields_jax.progress import Progress

Job = tuple[str, int]  # split and number of a shard

_ATTEMPT = "attempt-"  # folders of shards that workers are making


class ShardedBuilder(tfds.core.ShardBasedBuilder, abc.ABC):
    """Makes a set of `Shard`s; finished ones survive an interruption.

    The shards of a set and their content do not depend on how many processes make them.

    Attributes:
      noun: what the examples are called in lines of progress.
      shard_size: examples to a shard: what an interruption costs each process at most.
      summaries: per split counts of records and rejects; filled while preparing.
    """

    noun = "examples"
    shard_size = 2048

    def __init__(self, *, shard_size: int | None = None, **kwargs: Any):
        """Takes the arguments of `tfds.core.DatasetBuilder`, and another size of shards."""
        super().__init__(**kwargs)
        self.shard_size = shard_size or self.shard_size
        self.summaries: dict[str, Summary] = {}

    @property
    @abc.abstractmethod
    def options(self) -> dict[str, Any]:
        """The settings that, with the raw data, determine the content of the set."""

    @abc.abstractmethod
    def splits(self, folder: epath.Path) -> dict[str, list[Shard]]:
        """The shards of each split, in order, without progress.

        Args:
          folder: of the raw data; not used by sets without any.

        Raises:
          UserError: the folder does not hold such a set.
        """

    @property
    def unfinished(self) -> epath.Path:
        """Folder of the finished shards while the set is not complete yet."""
        return self.data_path.parent / f"unfinished_{self.version}"

    def plan(self, folder: epath.Path, *, resume: bool = False) -> dict[str, list[Shard]]:
        """The shards of each split, in order.

        Args:
          folder: of the raw data.
          resume: remove the files of unfinished shards; by one process only.
        """
        splits = self.splits(folder)
        if resume:
            self._resume(splits)
        return splits

    def write_shard(self, shard: Shard) -> None:
        """Makes one shard by itself; two processes may make the same one at once."""
        own = self.unfinished / f"{_ATTEMPT}{uuid.uuid4().hex}"
        made = dataclasses.replace(shard, path=own / shard.path.name)
        writer = tfds.core.writer.ShardWriter(
            self.info.features,
            ExampleSerializer(self.info.features.get_serialized_info()),
            KeepingWriter(own, self.info.file_format, place=False),
        )
        try:
            with writing(self.unfinished, instead="another --out", then=GO_ON):
                own.mkdir(parents=True)
                writer.write(path=made.path, examples=made())
                if not shard.whole():  # else another process was first
                    move_shard(made.path, shard.path)
        finally:
            own.rmtree(missing_ok=True)

    def recall(self) -> dict[str, Any] | None:
        """What a complete set without its report was made with; its counts go to `summaries`.

        Its "options", and its "source", the folder of the raw data. None if the report is written,
        or the set was made before this was kept.
        """
        if not self._told.exists():
            return None
        told = read_json(self._told)
        self.summaries = {split: total([Summary(**kept)]) for split, kept in told["splits"].items()}
        return told

    @property
    def _told(self) -> epath.Path:
        """Where that lies, from just before the set is complete until its report is written."""
        return self.unfinished / "set.json"

    def remove_leftovers(self) -> None:
        """Removes files of interrupted runs, once the set is complete."""
        for folder in (
            self.unfinished,
            *self.data_path.parent.glob(f"incomplete.*_{self.version}"),
        ):
            if folder.exists():
                folder.rmtree()

    def progress(self, splits: Mapping[str, list[Shard]]) -> Progress:
        """A line about all the examples of some shards."""
        count = sum(len(shard) for shards in splits.values() for shard in shards)
        return Progress(count, self.noun, of=self.info.full_name)

    def _resume(self, splits: Mapping[str, list[Shard]]) -> None:
        """Removes what runs that were ended from outside have left; before this one has workers."""
        for attempt in self.unfinished.glob(f"{_ATTEMPT}*"):
            attempt.rmtree()
        for partial in self.unfinished.glob(f"*{PARTIAL}"):
            partial.unlink()
        for shard in (shard for shards in splits.values() for shard in shards):
            shard.resume()

    def _checked(self, summaries: dict[str, Summary], folder: epath.Path) -> dict[str, Summary]:
        """What is known of the splits when all shards are made; refuses a set that is of no use."""
        del folder
        return summaries

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> Mapping[str, list[Shard]]:
        has_raw_data = self.MANUAL_DOWNLOAD_INSTRUCTIONS is not None
        folder = epath.Path(dl_manager.manual_dir if has_raw_data else "")
        splits = self.splits(folder)
        self.unfinished.mkdir(parents=True, exist_ok=True)
        told = self.progress(splits)
        for shard in (shard for shards in splits.values() for shard in shards):
            shard.progress = told
        self._resume(splits)
        self._planned = folder, splits
        return splits

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        super()._download_and_prepare(*args, **kwargs)
        folder, splits = self._planned
        made = {
            split: total(Summary(**read_note(shard.path)["summary"]) for shard in shards)
            for split, shards in splits.items()
        }
        self.summaries = self._checked(made, folder)
        told = {split: summary.to_json() for split, summary in self.summaries.items()}
        with writing(self.unfinished, instead="another --out", then=GO_ON):
            known = {"options": self.options, "source": str(folder), "splits": told}
            write_whole(self._told, json.dumps(known))

    def _example_writer(self) -> KeepingWriter:
        return KeepingWriter(self.unfinished, self.info.file_format)


def unfinished_jobs(splits: Mapping[str, list[Shard]]) -> list[Job]:
    """The shards that are still to be made."""
    return [
        (split, index)
        for split, shards in splits.items()
        for index, shard in enumerate(shards)
        if not shard.whole()
    ]
