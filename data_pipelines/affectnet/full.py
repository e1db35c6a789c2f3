"""AffectNet as first released: tables of annotations beside folders of photographs."""

from __future__ import annotations

from collections.abc import Iterator

from etils import epath

from data_pipelines.affectnet.labels import labels, marks
from data_pipelines.building import table_cells
from data_pipelines.building.photo_builder import Catalogue
from data_pipelines.building.photographs import Rejected, Sample
from fields_jax.errors import MissingFile, UserError, quoted
from fields_jax.files import read_lines

FOLDER = "Manually_Annotated"
TABLES = {"train": "training.csv", "test": "validation.csv"}
_IMAGES = "Manually_Annotated_Images"
_COLUMNS = ("subDirectory_filePath", "facial_landmarks", "expression", "valence", "arousal")


def catalogue(folder: epath.Path) -> Catalogue:
    """The manually annotated images below a folder.

    Raises:
      MissingFile: a table or the folder of images is missing.
      UserError: a table without the columns of AffectNet, or without one row that can be used.
    """
    base = next((b for b in (folder / FOLDER, folder) if (b / TABLES["train"]).exists()), folder)
    images = base / _IMAGES
    if not images.is_dir():
        raise MissingFile(f"{images}: no such folder; it should hold AffectNet's images")
    found = Catalogue({})
    for split, name in TABLES.items():
        _read_table(base / name, images, split, found)
    if not any(found.splits.values()):
        raise UserError(f"{base / TABLES['train']}: neither it nor {TABLES['test']} has a row")
    return found


def _read_table(table: epath.Path, images: epath.Path, split: str, found: Catalogue) -> None:
    found.splits[split] = []
    for where, row in _rows(table):
        try:
            if row is None:
                raise UserError("another number of cells than the first line has")
            found.splits[split].append(_sample(row, images, where))
        except Rejected as error:
            found.reject(split, error.reason, error.detail)
        except UserError as error:  # cells that are no numbers
            found.reject(split, "row unreadable", f"{where}: {error}")
    if not found.splits[split] and (rejects := found.rejects.get(split)):
        raise UserError(
            f"{table}: not one of its {len(rejects)} rows can be used (first: {rejects[0][0]}, "
            f"{rejects[0][1]}); each should name an image, its expression, valence and arousal"
        )


def _rows(table: epath.Path) -> Iterator[tuple[str, dict[str, str] | None]]:
    """(where, the cells that we read) of each row; None for one of another width.

    No cell of these tables holds a comma or needs quotes: lines are split at commas, so that a
    stray quote spoils only its own line.
    """
    if not table.exists():
        raise MissingFile(
            f"{table}: no such file; ask the authors of AffectNet for the tables of annotations"
        )
    lines = enumerate(read_lines(table), start=1)
    header = [cell.casefold() for cell in _cells(next(lines, (1, ""))[1])]
    if missing := [key for key in _COLUMNS if key.casefold() not in header]:
        raise UserError(f"{table}: no column {', '.join(missing)}; AffectNet's table has them")
    places = {key: header.index(key.casefold()) for key in _COLUMNS}
    for number, line in lines:
        if line.strip():
            row = _cells(line)
            whole = len(row) == len(header)
            yield (
                f"{table}, line {number}",
                {key: row[place] for key, place in places.items()} if whole else None,
            )


def _cells(line: str) -> list[str]:
    return [cell.strip(' \t\r\n"') for cell in line.split(",")]


def _sample(row: dict[str, str], images: epath.Path, where: str) -> Sample:
    name = table_cells.path(row["subDirectory_filePath"])
    if not name or name.startswith("/") or ".." in name.split("/"):
        raise UserError(f"{quoted(name or '')} is no path below {_IMAGES}")
    known = labels(
        *(table_cells.number(row[key]) for key in ("expression", "valence", "arousal")),
        f"{where}: {name}",
    )
    points = marks(row["facial_landmarks"], f"{where}: {name}")
    return Sample(name, str(images / name), points, labels=known)
