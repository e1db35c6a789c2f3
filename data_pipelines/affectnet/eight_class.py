"""AffectNet's release of eight classes: crops of 224 pixels, each with four .npy files."""

from __future__ import annotations

import dataclasses

import numpy as np
from etils import epath

from data_pipelines.affectnet.labels import labels, marks
from data_pipelines.photo_builder import Catalogue
from data_pipelines.photographs import Rejected, Sample
from fields_jax.photos.files import IMAGE_SUFFIXES, read_array

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

    def sample(self) -> Sample:
        """Reads N_exp, N_val, N_aro and N_lnd.

        Raises:
          Rejected: one is missing, unreadable or says that there is no expression.
        """
        base = epath.Path(self.folder)
        number = self.file.rsplit(".", 1)[0]
        files = {kind: base / "annotations" / f"{number}_{kind}.npy" for kind in _KINDS}
        values = {kind: _numbers(file) for kind, file in files.items()}
        for kind in ("exp", "val", "aro"):
            if values[kind].size != 1:
                raise Rejected("annotation unreadable", f"{files[kind]}: not one number")
        known = labels(*(float(values[kind][0]) for kind in ("exp", "val", "aro")), self.key)
        return Sample(
            self.key,
            str(base / "images" / self.file),
            marks(values["lnd"], str(files["lnd"])),
            labels=known,
        )


_KINDS = ("exp", "val", "aro", "lnd")


def catalogue(folder: epath.Path) -> Catalogue:
    """The images of train_set and val_set.

    Raises:
      FileNotFoundError: a folder is missing.
    """
    found = Catalogue({})
    for split, name in FOLDERS.items():
        images = folder / name / "images"
        if not images.is_dir():
            raise FileNotFoundError(f"{images}: no such folder; AffectNet's release has it")
        found.splits[split] = [
            Annotated(f"{name}/{path.stem}", str(folder / name), path.name)
            for path in sorted(images.iterdir())
            if path.suffix.lower() in IMAGE_SUFFIXES
        ]
    return found


def _numbers(file: epath.Path) -> np.ndarray:
    """[N] numbers of an .npy that may hold them as text."""
    try:
        return read_array(file).ravel().astype(np.float64)
    except FileNotFoundError as error:
        raise Rejected("annotation missing", str(file)) from error
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise Rejected("annotation unreadable", f"{file}: {reason}") from error
