"""The TFDS builder that all sets of real photographs share; each set only adds its catalogue."""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import os
from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import tensorflow_datasets as tfds
from etils import epath

from data_pipelines import heads, records
from data_pipelines.building.photo_shards import Item, PhotographShard
from data_pipelines.building.sharded_builder import ShardedBuilder
from data_pipelines.building.summary import Summary, total
from fields_jax.errors import UserError

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


class PhotographBuilder(ShardedBuilder):
    """Crops photographs about their faces; finished shards survive an interruption.

    A set derives from this and writes `_info` and `catalogue`; see docs/extending.md.

    Attributes:
      exact_head: identity of the head of exact coefficients; None: the photographs have none.
      teacher: gives the photographs labels of the landmark fit; None: they have their own alone.
    """

    noun = "photographs"
    teacher: Teacher | None = None
    exact_head: Mapping[str, str] | None = None

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Name the folder of the raw data by --source."

    def __init__(
        self,
        *,
        stored_size: int = 256,
        stored_scale: float = 2.0,
        limit: int = 0,
        threads: int = 0,
        **kwargs: Any,
    ):
        """Takes the arguments of `ShardedBuilder` and these.

        Args:
          stored_size: largest side of a stored crop; a small face is stored as it is.
          stored_scale: side of the stored crop relative to the face box. Training crops reach 1.8
            (SMIRK), so 2 leaves room to move; of those that are zoomed out, turned and moved 13 %
            have a corner beyond it, which is black.
          limit: at most so many photographs of each split, chosen by hash; 0: all.
          threads: photographs read at once; 0: one per core.
          **kwargs: see `ShardedBuilder`.
        """
        super().__init__(**kwargs)
        self._stored_size, self._stored_scale = stored_size, stored_scale
        self._limit = limit
        self._threads = threads or os.cpu_count() or 1

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

    def splits(self, folder: epath.Path) -> dict[str, list[PhotographShard]]:
        """See `ShardedBuilder`."""
        found = self._found(folder)
        self._rejects = found.rejects
        return {split: list(self._shards_of(split, items)) for split, items in found.splits.items()}

    def examine(self, folder: epath.Path) -> dict[str, Summary]:
        """Does everything that preparing does, but writes nothing."""
        splits, summaries = self.splits(folder), {}
        told = self.progress(splits)
        for split, shards in splits.items():
            summary = summaries[split] = Summary(rejects=list(self._rejects.get(split, ())))
            for shard in shards:
                shard.progress = told
                for _ in shard.records(summary):
                    pass
        _check(summaries, folder)
        return summaries

    def _make_info(self, **known: Any) -> tfds.core.DatasetInfo:
        """What tfds keeps of a set; coefficients stand under the licence of their head."""
        if head := self.teacher.head if self.teacher else self.exact_head:
            words = f"{known.get('license', '')} Coefficients: that of {heads.in_words(head)}."
            known["license"] = words.strip()
        if self.exact_head:
            known["metadata"] = tfds.core.MetadataDict(labels_of=self.exact_head, learnt=True)
        if self.teacher:
            known["metadata"] = tfds.core.MetadataDict(
                labels_of=self.teacher.head, learnt=True, fitted=True
            )
        return self.dataset_info_from_configs(features=records.features(), **known)

    def _checked(self, summaries: dict[str, Summary], folder: epath.Path) -> dict[str, Summary]:
        """With what the catalogue left out.

        Raises:
          UserError: nothing is left.
        """
        rejects = self._rejects
        checked = {
            split: total([Summary(rejects=rejects.get(split, [])), made])
            for split, made in summaries.items()
        }
        try:
            _check(checked, folder)
        except UserError:
            self.unfinished.rmtree()  # its shards hold nothing
            raise
        return checked

    def _found(self, folder: epath.Path) -> Catalogue:
        """The catalogue in the order of the shards: shuffled by the hash of each key."""
        found = self.catalogue(folder)
        for items in found.splits.values():
            items.sort(key=lambda item: hashlib.sha256(item.key.encode()).digest())
        _keep_apart(found)
        most = self._limit or None
        found.splits = {split: items[:most] for split, items in found.splits.items() if items}
        if not found.splits:
            reasons = Summary(rejects=[r for split in found.rejects.values() for r in split])
            raise UserError(f"{folder}: nothing to prepare{_because(reasons)}")
        first = next(iter(found.splits))  # gets the rejects of splits without photographs
        for split in sorted(set(found.rejects) - set(found.splits)):
            found.rejects.setdefault(first, []).extend(found.rejects.pop(split))
        return found

    def _shards_of(self, split: str, items: list[Item]) -> Iterator[PhotographShard]:
        template = self._get_filename_template(split_name=split)
        count = -(-len(items) // self.shard_size)
        for index in range(count):
            name = template.sharded_filepath(shard_index=index, num_shards=count).name
            yield PhotographShard(
                items[index * self.shard_size : (index + 1) * self.shard_size],
                self._stored_size,
                self._stored_scale,
                self._threads,
                self.unfinished / name,
                teacher=self.teacher,
            )


def _keep_apart(found: Catalogue) -> None:
    """Leaves each id and each face to one item, and each photograph to one split, `test` first.

    A photograph may have several faces; in two splits they would share light, place and company.
    """
    tested: set[Hashable] = set()  # ids and photographs of `test`, few beside those of `train`
    for split in sorted(found.splits, key=lambda split: split != "test"):
        kept: list[Item] = []
        own: dict[Hashable, str] = {}  # the id of each id and face
        for item in found.splits[split]:
            place = _photograph(item)
            if item.key in tested or place in tested:
                found.reject(
                    split, "in another split", f"{item.key}: this id or photograph is in test"
                )
            elif first := own.get(item.key) or own.get((place, item.face)):
                again = "" if first == item.key else f": the face of {first}"
                found.reject(split, "named twice", item.key + again)
            else:
                kept.append(item)
                own[item.key] = own[place, item.face] = item.key
        found.splits[split] = kept
        if split == "test":
            tested = {name for item in kept for name in (item.key, _photograph(item))}


def _photograph(item: Item) -> tuple[str]:
    """The photograph of an item, which no id equals."""
    return (os.path.normpath(item.files[0]),)


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
