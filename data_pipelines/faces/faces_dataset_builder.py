"""Photographs of faces with mediapipe's 478 points: landmarks and hull mask, no other label."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from etils import epath

from data_pipelines import records
from fields_jax.photos import crops, points
from fields_jax.photos.files import IMAGE_SUFFIXES, photographs_below, read_photograph

_DESCRIPTION = """
Any photographs of faces, cropped to about twice the face, with 105 landmarks and the hull of the
face from mediapipe's 478 points. For the 2D losses; nothing is known of emotion or 3D shape.
The licence of the prepared set is that of the photographs.
"""

_INSTRUCTIONS = """
Put photographs (jpg, png, webp or bmp; folders may nest) into one folder, and beside each NAME.jpg
a NAME.npy with mediapipe's face mesh: numbers [478, 2] or [478, 3], x and y in pixels of the
upright photograph. One face per photograph.
"""

_CITATION = """
@article{kartynnik2019realtime,
  title = {Real-time Facial Surface Geometry from Monocular Video on Mobile {GPUs}},
  author = {Kartynnik, Yury and Ablavatski, Artsiom and Grishchenko, Ivan and Grundmann, Matthias},
  journal = {arXiv:1907.06724},
  year = {2019},
}
"""


class Builder(tfds.core.GeneratorBasedBuilder):
    """Crops photographs about their landmarks; files that are no use are named and kept out."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = _INSTRUCTIONS

    def __init__(
        self,
        *,
        stored_size: int = 256,
        stored_scale: float = 2.0,
        test_share: float = 0.0,
        **kwargs: Any,
    ):
        """Takes the arguments of `GeneratorBasedBuilder` and these.

        Args:
          stored_size: largest side of a stored crop; a small face is stored as it is.
          stored_scale: side of the stored crop relative to the face box. Training crops reach 1.8
            (SMIRK), so 2 leaves room to move.
          test_share: share of the photographs, chosen by their names, that goes to `test`.
        """
        super().__init__(**kwargs)
        self._stored_size = stored_size
        self._stored_scale = stored_scale
        self._test_share = test_share
        self.expected_examples: dict[str, int] = {}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=records.features(),
            description=_DESCRIPTION,
            citation=_CITATION,
            license="That of the photographs.",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        folder = epath.Path(dl_manager.manual_dir)
        photographs = find_photographs(folder)
        names: dict[str, list[str]] = {"train": [], "test": []}
        for name in photographs:
            names["test" if in_test(name, self._test_share) else "train"].append(name)
        names = {split: found for split, found in names.items() if found}  # tfds forbids empty ones
        self.expected_examples = {split: len(found) for split, found in names.items()}
        return {split: self._generate_examples(folder, found) for split, found in names.items()}

    def _generate_examples(
        self, folder: epath.Path, names: list[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        bad = 0
        for name in names:
            try:
                example = face_record(
                    folder / name, name, size=self._stored_size, scale=self._stored_scale
                )
            except (ValueError, OSError) as error:
                bad += 1
                logging.warning("Kept out: %s", error)
                continue
            yield name, example
        if bad:
            logging.warning("Kept out %d of %d photographs.", bad, len(names))
        if names and bad == len(names):
            raise ValueError(f"{folder}: none of its {bad} photographs can be used (reasons above)")


def find_photographs(folder: epath.Path) -> list[str]:
    """Paths relative to the folder, in order.

    Raises:
      FileNotFoundError: there are none.
    """
    found = [path.relative_to(folder).as_posix() for path in photographs_below(folder)]
    if not found:
        raise FileNotFoundError(
            f"{folder}: no photographs ({', '.join(IMAGE_SUFFIXES)}); "
            "put them there with their points, NAME.jpg and NAME.npy"
        )
    return found


def in_test(name: str, share: float) -> bool:
    """Whether a photograph belongs to the test split: by its name alone, the same for ever."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def face_record(path: epath.Path, name: str, *, size: int, scale: float) -> dict[str, Any]:
    """Reads one photograph and its points, and crops it.

    Raises:
      FileNotFoundError, ValueError: no points, unreadable files, or points that are no face in the
        picture; one line naming the file.
    """
    marks = points.load_points(path.with_suffix(".npy"))
    image = read_photograph(path)
    if fault := points.fault(marks, *image.shape[:2]):
        raise ValueError(f"{path}: {fault}")
    box = crops.bounding_box(marks)
    size = min(size, int(np.ceil(crops.crop_extent(box, scale))))
    matrix = crops.crop_matrix(box, scale, size)
    marks = crops.transform_points(matrix, marks)
    return records.record(
        crops.cut(image, matrix, size),
        crops.hull_mask(marks, size, size),
        crops.bounding_box(marks),
        id=name,
        landmarks_105=points.select_105(marks),
    )
