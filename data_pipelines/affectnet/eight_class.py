"""AffectNet's release of eight classes: crops of 224 pixels, each with four .npy files."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from etils import epath

from data_pipelines.affectnet.labels import labels, marks
from data_pipelines.building import table_cells
from data_pipelines.building.photo_builder import Catalogue
from data_pipelines.building.photographs import Rejected, Sample
from fields_jax.errors import MissingFile, UserError
from fields_jax.files import read_npy
from fields_jax.photos.kinds import IMAGE_SUFFIXES

FOLDERS = {"train": "train_set", "test": "val_set"}


@dataclasses.dataclass(frozen=True, slots=True)
class Annotated:
    """An image whose annotation lies in files of its own.

    Attributes:
      key: "train_set/17".
      folder: path of its train_set or val_set.
      file: name of the image.
    """

    key: str
    folder: str
    file: str

    @property
    def files(self) -> tuple[str, ...]:
        """The image, then N_exp, N_val, N_aro and N_lnd."""
        notes = f"{self.folder}/annotations/{self.file.rsplit('.', 1)[0]}"
        image = f"{self.folder}/images/{self.file}"
        return (image, *(f"{notes}_{kind}.npy" for kind in _KINDS))

    @property
    def face(self) -> None:
        """There is one in each image."""

    def sample(self) -> Sample:
        """Reads N_exp, N_val, N_aro and N_lnd.

        Raises:
          Rejected: one is missing, unreadable or says that there is no expression.
        """
        image, *files = map(epath.Path, self.files)
        *numbers, points = (_cell(file) for file in files)
        known = labels(*map(_number, numbers, files[:3]), self.key)
        found = marks(points, str(files[3]))
        return Sample(self.key, str(image), found, labels=known)


_KINDS = ("exp", "val", "aro", "lnd")


def catalogue(folder: epath.Path) -> Catalogue:
    """The images of train_set and val_set.

    Raises:
      MissingFile: a folder is missing.
      UserError: there is no image in either.
    """
    found = Catalogue({})
    for split, name in FOLDERS.items():
        images = folder / name / "images"
        if not images.is_dir():
            raise MissingFile(f"{images}: no such folder; AffectNet's release has it")
        found.splits[split] = [
            Annotated(f"{name}/{path.stem}", str(folder / name), path.name)
            for path in sorted(images.iterdir())
            if path.suffix.lower() in IMAGE_SUFFIXES
        ]
    if not any(found.splits.values()):
        raise UserError(f"{folder}: no images such as {FOLDERS['train']}/images/1.jpg in it")
    return found


def _cell(file: epath.Path) -> Any:
    """The content of an .npy: a number, a text, or a list of them."""
    try:
        found = read_npy(file)
    except FileNotFoundError as error:
        raise Rejected("annotation missing", str(file)) from error
    except UserError as error:
        raise Rejected("annotation unreadable", str(error)) from error
    if found.dtype.kind == "S":
        found = np.char.decode(found, "ascii", "replace")
    return found.item() if found.size == 1 else found.ravel().tolist()


def _number(cell: Any, file: epath.Path) -> float | None:
    try:
        return table_cells.number(cell)
    except UserError as error:
        raise Rejected("annotation unreadable", f"{file}: {error}") from error
