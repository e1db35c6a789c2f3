"""Reads BP4D's scans, each with its landmarks from the release or from a detector."""

from __future__ import annotations

import dataclasses

import numpy as np
from etils import epath
from jaxtyping import Float
from PIL import Image

from data_pipelines.bp4d import annotations, layout, points_83
from data_pipelines.bp4d.meshes import Mesh, read_mesh
from fields_jax.errors import UserError
from fields_jax.fitting.scan_types import Scan
from fields_jax.landmark_schemes import INNER_49_OF_51
from fields_jax.photos import beside, points

_KEPT = 12000  # points of a scan, within `_ABOUT` of its landmarks
_ABOUT = 0.15  # metres
_POINT_SUFFIXES = (".bndplus", ".bnd")


@dataclasses.dataclass(frozen=True)
class Tracks:
    """Landmarks that a release stores for a whole sequence, by the number of the frame.

    Attributes:
      folder: of the release.
      sequence: whose landmarks they are.
      points_83: metres or mm, as the meshes.
      tracked: [49, 2] pixels of the texture, None where lost.
      problems: files that could not be read, each with the reason.
    """

    folder: epath.Path
    sequence: layout.Sequence
    points_83: dict[int, np.ndarray]
    tracked: dict[int, np.ndarray | None]
    problems: tuple[str, ...]


def meshes(sequence: layout.Sequence) -> list[tuple[int, epath.Path]]:
    """(number, .obj) of every frame, in order."""
    found = (p for p in sequence.folder.iterdir() if p.suffix.lower() == ".obj")
    return sorted((int(p.stem), p) for p in found if p.stem.isdecimal())


def tracks(folder: epath.Path, sequence: layout.Sequence) -> Tracks:
    """Reads the landmarks that the release's files of features hold for a sequence."""
    found, problems = [], []
    for name, read in (
        ("3DFeatures", points_83.read_sequence),
        ("2DFeatures", annotations.read_tracked_points),
    ):
        file = layout.find_beside(folder, f"{name}/{sequence.name}.mat")
        try:
            found.append(read(file) if file else {})
        except UserError as error:
            found.append({})
            problems.append(str(error))
    return Tracks(folder, sequence, *found, tuple(problems))


def read_scan(
    known: Tracks,
    number: int,
    file: epath.Path,
    mean: Float[np.ndarray, "51 3"],
    unit: float = 1e-3,
) -> Scan:
    """Reads a frame's points and normals, thinned, and its landmarks, in metres.

    The 51 landmarks are the release's 83 points (beside the mesh or below 3DFeatures) or else the
    tracked 49, lifted by the texture; the 105 are mediapipe's points beside the picture, lifted.

    Args:
      known: the sequence and the landmarks stored for all of it.
      number: of the frame.
      file: its mesh.
      mean: the 51 points of the mean head, metres.
      unit: of the meshes, metres.

    Raises:
      UserError: an unreadable mesh, or no landmarks that can be used; the message begins with that,
        by which failures are counted, and names the files.
    """
    try:
        mesh = read_mesh(file)
    except UserError as error:
        raise UserError(f"mesh unreadable: {error}") from error
    mesh = dataclasses.replace(mesh, vertices=unit * mesh.vertices)
    inner, complaint = _inner(known, number, file, mesh, mean, unit)
    detected, fault = _detected(file, mesh)
    if inner is None and detected is None:
        raise UserError(f"no landmarks: {file}: {fault or complaint}")
    marks = np.concatenate([given for given in (inner, detected) if given is not None])
    centre = np.nanmean(marks, axis=0)
    normals = mesh.normals()
    near = np.linalg.norm(mesh.vertices - centre, axis=1) < _ABOUT
    near = np.flatnonzero(near & (normals != 0).any(axis=1))  # the others are in no triangle
    rows = np.random.default_rng(number).permutation(near)[:_KEPT]
    return Scan(
        points=mesh.vertices[rows].astype(np.float32),
        normals=normals[rows].astype(np.float32),
        landmarks_51=inner,
        landmarks_105=detected,
        name=str(file),
    )


def _inner(
    known: Tracks,
    number: int,
    file: epath.Path,
    mesh: Mesh,
    mean: Float[np.ndarray, "51 3"],
    unit: float,
) -> tuple[Float[np.ndarray, "51 3"] | None, str]:
    """The 51 landmarks, or the reasons why there are none."""
    complaint = ""
    found = known.points_83.get(number)
    place = _point_file(known.folder, known.sequence, file)
    try:
        if place is not None:
            found = points_83.read_points(place)
        if found is not None:
            return points_83.inner_51(unit * found, mean), ""
    except UserError as error:
        complaint = str(error)
    if known.tracked.get(number) is not None:
        size = _texture_size(file)
        if size is not None:
            inner = np.full((51, 3), np.nan)
            inner[INNER_49_OF_51] = mesh.lift(known.tracked[number], *size)
            return inner, ""
    if found is None and not complaint:
        complaint = (
            f"neither {file.stem}.bndplus or .bnd beside it or in 3DFeatures, nor "
            f"{known.sequence.name}.mat in 3DFeatures or 2DFeatures, nor {file.stem}.npy beside it"
        )
    return None, complaint


def _point_file(
    folder: epath.Path, sequence: layout.Sequence, file: epath.Path
) -> epath.Path | None:
    """The 83 points of a frame."""
    beside = (file.with_suffix(suffix) for suffix in _POINT_SUFFIXES)
    found = next((path for path in beside if path.exists()), None)
    names = (
        f"3DFeatures/{place}{suffix}"
        for place in (
            f"BND/{sequence.name}_{file.stem}",
            f"{sequence.name}_{file.stem}",
            f"{sequence.subject}/{sequence.task}/{file.stem}",
            f"{sequence.name}/{file.stem}",
        )
        for suffix in _POINT_SUFFIXES
    )
    return found or layout.find_beside(folder, *names)


def _detected(file: epath.Path, mesh: Mesh) -> tuple[Float[np.ndarray, "105 3"] | None, str]:
    """Mediapipe's points beside the frame, lifted; or None, without points of one face, and why.

    Unseen points are NaN.
    """
    try:
        picture = beside.find_picture(file.with_suffix(".jpg"))
        stored = picture and beside.own_file(picture, ".npy")
        size = picture and _size(picture)
        if not stored or not size:
            return None, ""
        found = points.load_points(stored)
        if fault := points.fault(found, *size[::-1]):
            return None, f"{stored.name}: {fault}"
        found[~points.seen(found)] = np.nan
        return mesh.lift(points.select_105(found), *size), ""
    except UserError as error:  # the other landmarks may do
        return None, str(error)


def _texture_size(file: epath.Path) -> tuple[int, int] | None:
    """Width and height of the picture beside a mesh."""
    try:
        picture = beside.find_picture(file.with_suffix(".jpg"))
    except UserError:  # there are several
        return None
    return picture and _size(picture)


def _size(picture: epath.Path) -> tuple[int, int] | None:
    try:
        with picture.open("rb") as stored:
            return Image.open(stored).size
    except Exception:  # formats are read by parsers of their own, with errors of their own
        return None
