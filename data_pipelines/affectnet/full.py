"""AffectNet as first released: tables of annotations beside folders of photographs."""

from __future__ import annotations

import numpy as np
from etils import epath

from data_pipelines.affectnet.labels import labels, marks
from data_pipelines.photo_builder import Catalogue
from data_pipelines.photographs import Rejected, Sample
from fields_jax.files import read_lines

FOLDER = "Manually_Annotated"
TABLES = {"train": "training.csv", "test": "validation.csv"}
_IMAGES = "Manually_Annotated_Images"
_COLUMNS = ("subDirectory_filePath", "facial_landmarks", "expression", "valence", "arousal")


def catalogue(folder: epath.Path) -> Catalogue:
    """The manually annotated images below a folder.

    Raises:
      FileNotFoundError: a table or the folder of images is missing.
      ValueError: a table without the columns of AffectNet.
    """
    base = next((b for b in (folder / FOLDER, folder) if (b / TABLES["train"]).exists()), folder)
    images = base / _IMAGES
    if not images.is_dir():
        raise FileNotFoundError(f"{images}: no such folder; it should hold AffectNet's images")
    found = Catalogue({})
    for split, name in TABLES.items():
        _read_table(base / name, images, split, found)
    return found


def _read_table(table: epath.Path, images: epath.Path, split: str, found: Catalogue) -> None:
    if not table.exists():
        raise FileNotFoundError(
            f"{table}: no such file; ask the authors of AffectNet for the tables of annotations"
        )
    found.splits[split] = []
    # No cell of these tables holds a comma or needs quotes: split by hand, a stray quote spoils its
    # own line only.
    rows = read_lines(table)
    header = _cells(next(rows, ""))
    if missing := [key for key in _COLUMNS if key not in header]:
        raise ValueError(f"{table}: no column {', '.join(missing)}; AffectNet's table has them")
    for number, line in enumerate(rows, start=2):
        where = f"{table}, line {number}"
        try:
            row = dict(zip(header, _cells(line), strict=True))
            found.splits[split].append(_sample(row, images, where))
        except Rejected as error:
            found.reject(split, error.reason, error.detail)
        except ValueError:  # too few cells, or some that are no numbers
            found.reject(split, "row unreadable", where)


def _cells(line: str) -> list[str]:
    return [cell.strip(' \t\r\n"') for cell in line.split(",")]


def _sample(row: dict[str, str], images: epath.Path, where: str) -> Sample:
    name = row["subDirectory_filePath"].replace("\\", "/")
    if not name or name.startswith("/") or ".." in name.split("/"):
        raise Rejected("row unreadable", where)
    known = labels(
        float(row["expression"]),
        float(row["valence"]),
        float(row["arousal"]),
        f"{where}: {name}",
    )
    numbers = np.array(row["facial_landmarks"].split(";"), np.float32)
    return Sample(name, str(images / name), marks(numbers, f"{where}: {name}"), labels=known)
