"""The embedded faces as a TFDS data set: spont4d, wild2d and levels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from data_pipelines.heads import identity, in_words
from data_pipelines.records import features
from data_pipelines.synthetic import pictures, samples
from data_pipelines.synthetic.casting import Casting
from data_pipelines.synthetic.studio import open_studio, registered
from fields_jax.errors import UserError
from fields_jax.flame.io import resolve_head
from fields_jax.flame.procedural import procedural_head
from fields_jax.progress import progress

_DESCRIPTION = """
Faces rendered from a head, the procedural one or another. `spont4d` stands for 4D scans of
spontaneous expressions: subtle, with exact FLAME coefficients and no emotion labels. `wild2d`
stands for emotion photographs: class, valence and arousal with AffectNet's statistics and label
noise, and no coefficients but for evaluation. `levels` shows a subject's emotion at three
intensities. `wide` shows any face before any camera, with exact coefficients. The test splits
have other subjects; wild2d's has clean labels and balanced classes.
"""
LABELS = ("head", "procedural")
IMAGE_SIZES = {"demo": 112, "wide": 144}  # pixels of stored crops
_NAMED = "_"  # between the part and a name of its own
_PURPOSE = {
    "spont4d": "weak spontaneous expressions in the laboratory, exact coefficients",
    "wild2d": "emotions in the wild, class, valence and arousal",
    "levels": "one emotion of a subject at three intensities",
    "wide": "any face before any camera, exact coefficients",
}


def size_configs(size: str, name: str = "") -> list[str | tfds.core.BuilderConfig]:
    """The parts of a size; `name` tells those of another head from those of the procedural one.

    Raises:
      UserError: an unknown size.
    """
    if size not in samples.SIZES:
        raise UserError(f"unknown size {size!r}; known: {', '.join(samples.SIZES)}")
    parts = list(samples.SIZES[size])
    if not name:
        return parts
    return [
        tfds.core.BuilderConfig(name=f"{part}{_NAMED}{name}", description=_PURPOSE[part])
        for part in parts
    ]


class Builder(tfds.core.GeneratorBasedBuilder):
    """Renders the embedded faces.

    Args:
      size: a key of `samples.SIZES`.
      seed: every image is a function of it.
      image_size: pixels of the stored crop, about twice the face box; 0: `IMAGE_SIZES`.
      people: in `train`, and a twentieth of them in `test`; 0: as many as the size has.
      head: .npz of the head; "": the procedural one, whose set is free of any licence.
      labels: whose coefficients the records tell, a row of `LABELS`: those of the head, or those
        of the procedural head with nearly the same faces.
      **kwargs: see `tfds.core.DatasetBuilder`.

    Raises:
      UserError: no such head, or one without ARKit's shapes.
      ValueError: an unknown size.
    """

    VERSION = tfds.core.Version("1.2.0")
    RELEASE_NOTES: ClassVar = {
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
        people: int = 0,
        head: str = "",
        labels: str = LABELS[0],
        **kwargs: Any,
    ) -> None:
        if size not in samples.SIZES:
            raise ValueError(
                f"unknown size {size!r} of the embedded faces; known: {', '.join(samples.SIZES)}"
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

    @property
    def sizes(self) -> dict[str, samples.Size]:
        """Subjects and images of each split."""
        sizes = samples.SIZES[self._size][self.part]
        if not self._people:
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
    def options(self) -> dict[str, str]:
        """The settings that a set of the same name and version may differ in."""
        return {"head": in_words(identity(self._head)), "labels": self._labels}

    def _info(self) -> tfds.core.DatasetInfo:
        head = identity(self._head)
        told = head if self._labels == LABELS[0] else identity(procedural_head())
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

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        del dl_manager  # nothing is downloaded
        return {
            split: progress(
                self._generate_examples(split), total, "faces", of=f"{self.info.full_name} {split}"
            )
            for split, total in self.expected_examples.items()
        }

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        studio = open_studio(self._image_size, self._file)
        first = self.sizes["train"].subjects if split == "test" else 0
        drawn = samples.samples(
            self.part,
            split,
            self.sizes[split],
            first,
            self._seed,
            studio,
        )
        if self._file:
            cast = self._casting()
            drawn = cast(drawn)
        for example in pictures.records(drawn, studio.render, self._image_size):
            yield example["id"], example
        if self._file:
            self.info.metadata["error_mm"][split] = cast.summary()

    def _casting(self) -> Casting:
        return Casting(*registered(self._file), procedural_labels=self._labels != LABELS[0])
