"""The embedded faces as a TFDS data set: spont4d, wild2d, levels and wide."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from etils import epath

from data_pipelines.building.sharded_builder import ShardedBuilder
from data_pipelines.building.shards import Shard
from data_pipelines.building.summary import Summary
from data_pipelines.heads import in_words
from data_pipelines.records import features
from data_pipelines.synthetic import samples
from data_pipelines.synthetic.face_shards import Faces, FaceShard, face_shards
from data_pipelines.synthetic.pictures import BATCH
from fields_jax.disk import writing
from fields_jax.errors import UserError
from fields_jax.files import read_json, write_whole
from fields_jax.flame.io import resolve_head
from fields_jax.flame.procedural import procedural_head

_DESCRIPTION = """
Faces rendered from a head, the procedural one or another. `spont4d` stands for 4D scans of
spontaneous expressions: subtle, with exact FLAME coefficients and no emotion labels. `wild2d`
stands for emotion photographs: class, valence and arousal with AffectNet's statistics and label
noise, landmarks with a detector's, and no coefficients but for evaluation. `levels` shows a
subject's emotion at three intensities. `wide` shows any face before any camera, with exact
coefficients. The test splits have other subjects; wild2d's has balanced classes and clean emotion
labels, but its landmarks err as in training, by about 2.5 % of the inter-ocular distance.
"""
LABELS = ("head", "procedural")
IMAGE_SIZES = {"demo": 112, "wide": 144}  # pixels of stored crops
_NAMED = "_"  # between the part and a name of its own
_OPTIONS = "options.json"  # beside shards of an unfinished set
_PURPOSE = {
    "spont4d": "weak spontaneous expressions in the laboratory, exact coefficients",
    "wild2d": "emotions in the wild, class, valence and arousal",
    "levels": "one emotion of a subject at three intensities",
    "wide": "any face before any camera, exact coefficients",
}


def size_configs(size: str, name: str = "") -> list[str | tfds.core.BuilderConfig]:
    """The parts of a size; `name` tells those of another head from those of the procedural one.

    They are called PART_NAME, also where `name` is that already.

    Raises:
      UserError: an unknown size.
    """
    if size not in samples.SIZES:
        raise UserError(f"unknown size {size!r}; known: {', '.join(samples.SIZES)}")
    parts = list(samples.SIZES[size])
    if not name:
        return parts
    return [
        tfds.core.BuilderConfig(
            name=f"{part}{_NAMED}{name.removeprefix(part + _NAMED)}", description=_PURPOSE[part]
        )
        for part in parts
    ]


class Builder(ShardedBuilder):
    """Renders the embedded faces.

    Args:
      size: a key of `samples.SIZES`.
      seed: every image is a function of it.
      image_size: pixels of the stored crop, about twice the face box; 0: `IMAGE_SIZES`.
      people: in `train`, and a twentieth of them in `test`; None: as many as the size has.
      head: .npz of the head; "": the procedural one, whose set is free of any licence.
      labels: whose coefficients the records tell, a row of `LABELS`: those of the head, or those
        of the procedural head with nearly the same faces.
      **kwargs: see `ShardedBuilder`; shards are of multiples of `pictures.BATCH` faces.

    Raises:
      UserError: no people, no such head, or one without ARKit's shapes.
      ValueError: an unknown size, or shards that batches do not fill.
    """

    noun = "faces"
    shard_size = 1024

    VERSION = tfds.core.Version("1.3.0")
    RELEASE_NOTES: ClassVar = {
        "1.3.0": "Wide faces laugh, and light and teeth fill their mouths.",
        "1.2.0": "Any head; says which one, and whose coefficients the records tell.",
        "1.1.0": "Says whether the 68 landmarks are annotated.",
        "1.0.0": "First release.",
    }
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=part, description=_PURPOSE[part]) for part in samples.PARTS
    ]

    def __init__(
        self,
        *,
        size: str = "demo",
        seed: int = 0,
        image_size: int = 0,
        people: int | None = None,
        head: str = "",
        labels: str = LABELS[0],
        **kwargs: Any,
    ) -> None:
        if size not in samples.SIZES:
            raise ValueError(
                f"unknown size {size!r} of the embedded faces; known: {', '.join(samples.SIZES)}"
            )
        if people is not None and people < 1:
            raise UserError(f"--people={people}: a set has at least one person")
        if people is not None and people > samples.MOST_PEOPLE:
            raise UserError(
                f"--people={people}: a seed has {samples.MOST_PEOPLE:,}; make several sets, each "
                "with a --seed and a --name of its own"
            )
        self._size, self._seed, self._people = size, seed, people
        self._image_size = image_size or IMAGE_SIZES.get(size, IMAGE_SIZES["demo"])
        self._file, self._labels, self._head = head, labels, resolve_head(head)
        if head and self._head.arkit_basis is None:
            raise UserError(
                f"head {self._head.name} has no ARKit shapes, by which expressions go from head to "
                f"head: add them with `python -m fields_jax.convert arkit ICT-FaceKit {head}`"
            )
        super().__init__(**kwargs)
        if self.shard_size % BATCH:
            raise ValueError(f"shard_size {self.shard_size} is no multiple of {BATCH}")

    @property
    def sizes(self) -> dict[str, samples.Size]:
        """Subjects and images of each split."""
        sizes = samples.SIZES[self._size][self.part]
        if self._people is None:
            return sizes
        counts = {"train": self._people, "test": max(1, self._people // 20)}
        return {split: sizes[split]._replace(subjects=count) for split, count in counts.items()}

    @property
    def part(self) -> str:
        """The row of `samples.PARTS` that is made."""
        return self.builder_config.name.partition(_NAMED)[0]

    @property
    def expected_examples(self) -> dict[str, int]:
        """Number of examples of each split."""
        return {split: size.subjects * size.images for split, size in self.sizes.items()}

    @property
    def options(self) -> dict[str, Any]:
        """The settings that determine the content, in which sets of the same name may differ."""
        return {
            "head": in_words(self._head.identity),
            "labels": self._labels,
            "seed": self._seed,
            "size": self._size,
            "people": self.sizes["train"].subjects,
            "image_size": self._image_size,
        }

    def splits(self, folder: epath.Path) -> dict[str, list[Shard]]:
        """See `ShardedBuilder`; there are no raw data."""
        del folder
        shards = {}
        for split, size in self.sizes.items():
            faces = Faces(
                part=self.part,
                split=split,
                size=size,
                seed=self._seed,
                image_size=self._image_size,
                head=self._file,
                head_sha256=self._head.sha256,
                procedural_labels=self._labels != LABELS[0],
            )
            shards[split] = self._shards_of(faces)
        return shards

    def _info(self) -> tfds.core.DatasetInfo:
        head = self._head.identity
        told = head if self._labels == LABELS[0] else procedural_head().identity
        heads = f"Head: {in_words(head)}. Coefficients: of {in_words(told)}.\n"
        return self.dataset_info_from_configs(
            description=_DESCRIPTION + heads,
            features=features(),
            license=f"that of {head['name']}" if self._file else "Apache-2.0",
            # Errors of casting and of labels join it as the faces are made.
            metadata=tfds.core.MetadataDict(
                head=head,
                labels_of=told,
                learnt=self.part in samples.LEARNT,
                options=self.options,
                error_mm={},
            ),
        )

    def _shards_of(self, faces: Faces) -> list[FaceShard]:
        template = self._get_filename_template(split_name=faces.split)
        count = -(-faces.total // self.shard_size)
        names = (
            template.sharded_filepath(shard_index=index, num_shards=count).name
            for index in range(count)
        )
        return face_shards(faces, self.shard_size, [self.unfinished / name for name in names])

    def _resume(self, splits: Mapping[str, list[Shard]]) -> None:
        """Refuses to mix in shards that were made with other options, which may have taken hours.

        Raises:
          UserError: there are such shards.
        """
        noted = self.unfinished / _OPTIONS
        if noted.exists():
            made = read_json(noted)
            for key, value in self.options.items():
                if made.get(key) != value:
                    raise UserError(
                        f"{self.unfinished} holds shards of a set that was begun with "
                        f"--{key}={made.get(key)}, not {value}; go on with that, name another "
                        "--out, or remove the folder"
                    )
        with writing(self.unfinished, instead="another --out"):
            self.unfinished.mkdir(parents=True, exist_ok=True)
            write_whole(noted, json.dumps(self.options))
        super()._resume(splits)

    def _checked(self, summaries: dict[str, Summary], folder: epath.Path) -> dict[str, Summary]:
        for split, summary in summaries.items():
            if summary.errors:
                self.info.metadata["error_mm"][split] = summary.errors_mm()
        return summaries
