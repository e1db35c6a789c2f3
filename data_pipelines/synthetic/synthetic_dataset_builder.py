"""The embedded faces as a TFDS data set: spont4d, wild2d and levels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from data_pipelines.records import features
from data_pipelines.synthetic import pictures, samples
from data_pipelines.synthetic.studio import open_studio
from fields_jax.progress import progress

_DESCRIPTION = """
Faces rendered from the procedural head, free of any licence. `spont4d` stands for 4D scans of
spontaneous expressions: subtle, with exact FLAME coefficients and no emotion labels. `wild2d`
stands for emotion photographs: class, valence and arousal with AffectNet's statistics and label
noise, and no coefficients but for evaluation. `levels` shows a subject's emotion at three
intensities. The test splits have other subjects; wild2d's has clean labels and balanced classes.
"""
_PURPOSE = {
    "spont4d": "weak spontaneous expressions in the laboratory, exact coefficients",
    "wild2d": "emotions in the wild, class, valence and arousal",
    "levels": "one emotion of a subject at three intensities",
}


class Builder(tfds.core.GeneratorBasedBuilder):
    """Renders the embedded faces.

    Args:
      size: "demo" or "tiny", a key of `samples.SIZES`.
      seed: every image is a function of it.
      image_size: pixels of the stored crop, about twice the face box.
      **kwargs: see `tfds.core.DatasetBuilder`.

    Raises:
      ValueError: an unknown size.
    """

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES: ClassVar = {
        "1.1.0": "Says whether the 68 landmarks are annotated.",
        "1.0.0": "First release.",
    }
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=part, description=_PURPOSE[part]) for part in samples.PARTS
    ]

    def __init__(
        self, *, size: str = "demo", seed: int = 0, image_size: int = 112, **kwargs: Any
    ) -> None:
        if size not in samples.SIZES:
            raise ValueError(
                f"unknown size {size!r} of the embedded faces; known: {', '.join(samples.SIZES)}"
            )
        self._size, self._seed, self._image_size = size, seed, image_size
        super().__init__(**kwargs)

    @property
    def sizes(self) -> dict[str, samples.Size]:
        """Subjects and images of each split."""
        return samples.SIZES[self._size][self.builder_config.name]

    @property
    def expected_examples(self) -> dict[str, int]:
        """Number of examples of each split."""
        return {split: size.subjects * size.images for split, size in self.sizes.items()}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=_DESCRIPTION, features=features(), license="Apache-2.0"
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
        studio = open_studio(self._image_size)
        first = self.sizes["train"].subjects if split == "test" else 0
        drawn = samples.samples(
            self.builder_config.name,
            split,
            self.sizes[split],
            first,
            self._seed,
            studio,
        )
        for example in pictures.records(drawn, studio.render, self._image_size):
            yield example["id"], example
