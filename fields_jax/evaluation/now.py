"""The NoW challenge: how far neutral heads read off photographs are from scans of the people.

Sanyal et al. 2019, "Learning to regress 3D face shape and expression from an image without 3D
supervision". The data set's folder, as its evaluation expects it:

    imagepathsvalidation.txt                  one SUBJECT/CHALLENGE/IMAGE.jpg a line
    scans/SUBJECT/*.obj                       one scan with a neutral face, millimetres
    scans_lmks_onlypp/SUBJECT/*.pp            its seven landmarks, picked in MeshLab

and that of the predictions: SUBJECT/CHALLENGE/IMAGE.obj or .ply, any frame, and beside it IMAGE.npy
or .txt, the same seven points [7, 3] (`landmark_schemes.NOW_68`).

For each photograph the scan is cropped to the face, the predicted mesh aligned to it by landmarks
and then by the least squared distances of the scan's vertices from its surface, and those distances
are kept. The scores are taken over the vertices of all photographs together. The metrical variant
leaves the mesh its size.

Two things differ from the published program on purpose: a reflection is never taken for an
alignment, and the metrical start is the best rigid motion instead of the similarity's rotation and
shift. The minimisation that follows starts elsewhere, but looks for the same minimum.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Float

from fields_jax.errors import MissingFile, UserError, quoted
from fields_jax.evaluation import scan_distance
from fields_jax.evaluation.units import UNITS, in_metres
from fields_jax.files import read_text
from fields_jax.geometry.mesh_files import Surface, read_surface
from fields_jax.geometry.point_files import read_points
from fields_jax.progress import progress

CHALLENGES = ("multiview_neutral", "multiview_expressions", "multiview_occlusions", "selfie")
IMAGE_LISTS = ("imagepathsvalidation.txt", "imagepathstest.txt")  # the first that is there
_SCANS, _SCAN_LANDMARKS = "scans", "scans_lmks_onlypp"
_SCAN_UNIT = "mm"
_POINTS = 7
# Limits in mm at which the cumulative curve is told: NoW's plots end at 8.
CURVE_MM = np.arange(0, 8.0001, 0.05)


class Photograph(NamedTuple):
    """One line of the list of images.

    Attributes:
      subject: name of the person's folder.
      challenge: of `CHALLENGES`.
      image: name of the file, without its suffix.
    """

    subject: str
    challenge: str
    image: str

    def __str__(self) -> str:
        return "/".join(self)


class Scan(NamedTuple):
    """The part of a scan that is scored.

    Attributes:
      points: [Q, 3] metres.
      landmarks: [7, 3] metres.
    """

    points: Float[np.ndarray, "Q 3"]
    landmarks: Float[np.ndarray, "7 3"]


class Scored(NamedTuple):
    """Distances of the scan of one photograph.

    Attributes:
      photograph: which.
      distance_mm: [Q], float32.
      scale: of the alignment; 1 in the metrical variant.
    """

    photograph: Photograph
    distance_mm: Float[np.ndarray, " Q"]
    scale: float


def read_photographs(folder: str, images: str = "", challenge: str = "") -> list[Photograph]:
    """The photographs to score.

    Args:
      folder: of the data set.
      images: a list of them; "" for the data set's own, see `IMAGE_LISTS`.
      challenge: of `CHALLENGES`; "" for all.

    Raises:
      UserError: no list, or a line that names no image of a subject and a challenge.
    """
    if images:
        file = epath.Path(images)
    else:
        files = [epath.Path(folder) / name for name in IMAGE_LISTS]
        file = next((each for each in files if each.exists()), None)
        if file is None:
            raise UserError(f"{folder} has no {IMAGE_LISTS[0]}: name a list of images by --images")
    found = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        photograph = photograph_of(line.strip())
        if photograph is None:
            raise UserError(
                f"{file}, line {number}: {quoted(line)} is not SUBJECT/CHALLENGE/IMAGE.jpg"
            )
        if challenge in ("", photograph.challenge):
            found.append(photograph)
    if not found:
        raise UserError(f"{file} names no images" + (f" of {challenge}" if challenge else ""))
    return found


def photograph_of(path: str) -> Photograph | None:
    """The photograph of a path that ends in SUBJECT/CHALLENGE/IMAGE.jpg, or None."""
    parts = path.replace("\\", "/").split("/")[-3:]
    stem = parts[-1].rpartition(".")[0]
    if len(parts) < 3 or not stem or not all(parts) or ".." in parts:
        return None
    return Photograph(parts[0], parts[1], stem)


def read_scan(folder: str, subject: str) -> Scan:
    """The face of a subject's scan.

    Raises:
      UserError: no scan or landmarks, a file cannot be used, or the landmarks are of another scan.
    """
    scan = _one(epath.Path(folder) / _SCANS / subject, (".obj", ".ply"), "scan")
    picked = _one(epath.Path(folder) / _SCAN_LANDMARKS / subject, (".pp",), "landmarks")
    vertices = read_surface(scan, points_suffice=True).vertices
    points = in_metres(vertices, _SCAN_UNIT, str(scan), "")
    landmarks = UNITS[_SCAN_UNIT] * read_points(picked, _POINTS)
    points = points[scan_distance.face_region(points, landmarks)]
    if not len(points):
        raise UserError(f"no point of {scan} is near the landmarks of {picked}")
    return Scan(points, landmarks)


def read_prediction(
    folder: str, photograph: Photograph, unit: str, *, metrical: bool
) -> tuple[Surface, Float[np.ndarray, "7 3"]] | None:
    """The predicted mesh and its seven landmarks in metres; None where there is no mesh.

    Args:
      folder: of the predictions.
      photograph: which.
      unit: of the meshes; without `metrical` it does not matter.
      metrical: refuse a mesh that is no head in its unit.

    Raises:
      UserError: landmarks are missing, or a file cannot be used.
    """
    stem = epath.Path(folder) / photograph.subject / photograph.challenge
    mesh = _beside(stem, photograph.image, (".obj", ".ply"))
    if mesh is None:
        return None
    picked = _beside(stem, photograph.image, (".npy", ".txt"))
    if picked is None:
        raise MissingFile(f"{mesh} has no landmarks: {photograph.image}.npy or .txt beside it")
    surface = read_surface(mesh)
    landmarks = read_points(picked, _POINTS)
    if metrical:
        in_metres(surface.vertices, unit, str(mesh), "--mesh_unit")
    factor = UNITS[unit]
    return surface._replace(vertices=factor * surface.vertices), factor * landmarks


def score(
    scan: Scan, mesh: Surface, landmarks: Float[np.ndarray, "7 3"], *, metrical: bool
) -> tuple[Float[np.ndarray, " Q"], float]:
    """Distances in mm of the scan's points from the aligned mesh, and the scale.

    Args:
      scan: of the face.
      mesh: predicted, metres.
      landmarks: [7, 3] of the mesh, metres.
      metrical: leave the mesh its size.

    Raises:
      ValueError: landmarks that lie on one line.
    """
    name = "rigid" if metrical else "similarity"
    motion = scan_distance.align(scan.points, mesh, name, (landmarks, scan.landmarks))
    return 1e3 * scan_distance.surface_distances(scan.points, mesh, motion), motion.scale


def score_all(
    data: str,
    predictions: str,
    photographs: Sequence[Photograph],
    *,
    unit: str = "m",
    metrical: bool = False,
) -> tuple[list[Scored], list[Photograph]]:
    """Scores of the photographs that have a prediction, and those that have none.

    Args:
      data: folder of the data set.
      predictions: folder of the predictions.
      photographs: to score; those of one subject share its scan.
      unit: of the predicted meshes.
      metrical: leave the meshes their size.

    Raises:
      UserError: no prediction at all, or a file that cannot be used.
    """
    return _split(
        progress(
            _scores(data, predictions, photographs, (unit, metrical)),
            len(photographs),
            "photographs",
        ),
        predictions,
    )


def summary(scored: Sequence[Scored], missing: Sequence[Photograph], *, metrical: bool) -> dict:
    """Scores over all vertices, over those of each challenge, and the cumulative curve; for JSON.

    Means weigh every vertex of every scan alike, as the challenge does.
    """
    every = np.concatenate([each.distance_mm for each in scored])
    names = dict.fromkeys(each.photograph.challenge for each in scored)
    return {
        "protocol": "NoW, metrical" if metrical else "NoW",
        "photographs": len(scored),
        "missing": len(missing),
        "distance_mm": scan_distance.distance_scores(every),
        "challenges": {
            name: scan_distance.distance_scores(
                np.concatenate(
                    [each.distance_mm for each in scored if each.photograph.challenge == name]
                )
            )
            for name in names
        },
        "cumulative": {
            "mm": np.round(CURVE_MM, 2).tolist(),
            "share": scan_distance.cumulative_share(every, CURVE_MM).round(6).tolist(),
        },
    }


def image_table(scored: Sequence[Scored]) -> str:
    """CSV with a row for each photograph: distances in mm, and the scale of the alignment."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ("points", "median", "mean", "std", "p95")
    writer.writerow((*Photograph._fields, *columns, "scale"))
    for each in scored:
        scores = scan_distance.distance_scores(each.distance_mm)
        values = (f"{scores[name]:.6g}" for name in columns)
        writer.writerow((*each.photograph, *values, f"{each.scale:.6g}"))
    return text.getvalue()


def curve_table(scores: dict) -> str:
    """CSV of the cumulative curve of a `summary`."""
    curve = scores["cumulative"]
    rows = zip(curve["mm"], curve["share"], strict=True)
    return "mm,share\n" + "".join(f"{limit:g},{share:.6f}\n" for limit, share in rows)


def _scores(
    data: str,
    predictions: str,
    photographs: Sequence[Photograph],
    how: tuple[str, bool],
) -> Iterator[Scored | Photograph]:
    """A score for each photograph, or the photograph itself where there is no prediction."""
    unit, metrical = how
    subject, scan = None, None
    for photograph in photographs:
        prediction = read_prediction(predictions, photograph, unit, metrical=metrical)
        if prediction is None:
            yield photograph
            continue
        if photograph.subject != subject or scan is None:
            subject, scan = photograph.subject, read_scan(data, photograph.subject)
        try:
            distance, scale = score(scan, *prediction, metrical=metrical)
        except ValueError as error:
            raise UserError(f"{photograph} of {predictions}: {error}") from error
        yield Scored(photograph, distance.astype(np.float32), scale)


def _split(
    results: Iterator[Scored | Photograph], predictions: str
) -> tuple[list[Scored], list[Photograph]]:
    scored, missing = [], []
    for each in results:
        (scored if isinstance(each, Scored) else missing).append(each)
    if not scored:
        raise UserError(
            f"{predictions} has no mesh for any of {len(missing)} photographs, such as "
            f"{missing[0]}.obj"
        )
    return scored, missing


def _one(folder: epath.Path, suffixes: tuple[str, ...], what: str) -> epath.Path:
    """The first file of a folder, by name, with one of the suffixes."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    for file in files:
        if file.suffix.lower() in suffixes and not file.name.startswith("."):
            return file
    raise MissingFile(f"{folder} has no {what}: no {' or '.join(suffixes)} in it")


def _beside(folder: epath.Path, stem: str, suffixes: tuple[str, ...]) -> epath.Path | None:
    files = (folder / f"{stem}{suffix}" for suffix in suffixes)
    return next((file for file in files if file.exists()), None)
