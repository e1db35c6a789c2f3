"""Finds the faces of photographs and writes mediapipe's 478 points beside each.

    make landmarks                                   # once: an environment with mediapipe
    python -m data_pipelines.landmarks photographs
    python -m data_pipelines.landmarks --task=face_landmarker.task photographs

Takes pictures, folders and patterns. NAME.npy holds [478, 3], x, y and depth in pixels of the
upright photograph, or [F, 478, 3] for several faces, the largest first; NAME.landmarks.json says
which detector found them, with a score per face. Where a folder has NAME.jpg and NAME.png, the
points of the first are NAME.jpg.npy. Files that exist are kept unless --overwrite is given.
Pictures without a face, and those in folders that cannot be written to, are listed and get no file.
"""

from __future__ import annotations

import errno
import importlib.util
import io
import json
import os
import sys
from collections.abc import Sequence

import numpy as np
from absl import flags
from etils import epath

from fields_jax.cli import run
from fields_jax.errors import UserError, first_line, printable
from fields_jax.files import is_remote, write_whole
from fields_jax.photos import points
from fields_jax.photos.beside import points_file
from fields_jax.photos.detector import MAX_FACES, MIN_SCORE, REMEDY, Detector, find_python
from fields_jax.photos.faces import Detection, NotLookedAt
from fields_jax.photos.files import Unusable, read_photograph
from fields_jax.photos.finding import find_photographs
from fields_jax.photos.listing import ABOUT
from fields_jax.progress import progress


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_bool("overwrite", False, "replace landmark files that exist")
    flags.DEFINE_string("task", "", "face_landmarker.task for a mediapipe without models")
    flags.DEFINE_string("python", "", "interpreter with mediapipe (default: .venv-landmarks)")
    flags.DEFINE_integer("max_faces", MAX_FACES, "faces per photograph at most, the largest", 1)
    flags.DEFINE_float("min_score", MIN_SCORE, "leave out faces with a lower score", 0, 1)


def main(argv: list[str]) -> int:
    """The command; status 2 if no photograph has a landmark file in the end."""
    chosen = flags.FLAGS
    if len(argv) < 2:
        raise UserError("name photographs, folders or patterns; see --help")
    if chosen.task and not epath.Path(chosen.task).exists():
        raise UserError(f"--task={chosen.task}: no such file")
    photographs, unusable = find_photographs(argv[1:])
    files = {photograph.path: points_file(photograph.path) for photograph in photographs}
    wanted = [path for path, (_, there) in files.items() if chosen.overwrite or not there]
    kept = len(files) - len(wanted)
    wanted, closed = _writable(wanted)
    unusable += closed
    faces = 0
    if wanted:
        python = chosen.python or detector_python()
        options = dict(task=chosen.task, max_faces=chosen.max_faces, min_score=chosen.min_score)
        with Detector(python, **options) as detector:
            for path in progress(wanted, len(wanted), "photographs"):
                found, faults = detect(detector, path)
                unusable += [Unusable(path, fault) for fault in faults]
                if not found:
                    continue
                try:
                    write_points(files[path][0], found, detector.name)
                except OSError as error:
                    unusable.append(Unusable(path, _closed(error)))
                    continue
                faces += len(found)
    for path, reason in unusable:
        print(f"without landmarks: {printable(path)}: {printable(reason)}")
    done = f"{faces} faces in {len(wanted)} photographs"
    print(f"{done}, {kept} landmark files kept" if kept else done)
    return 0 if faces or kept else 2


def detector_python() -> str:
    """An interpreter with mediapipe: that of the landmark environment, or else this one.

    Raises:
      UserError: there is none.
    """
    python = find_python()
    if python is None and importlib.util.find_spec("mediapipe") is not None:
        return sys.executable
    if python is None:
        raise UserError(
            f"no mediapipe here: {REMEDY}, or install mediapipe 1.0 or later and name its model "
            "with --task=face_landmarker.task"
        )
    return str(python)


def detect(detector: Detector, path: epath.Path) -> tuple[list[Detection], list[str]]:
    """The faces of a photograph, and what is wrong with it or with others in it."""
    try:
        image = read_photograph(path)
    except UserError as error:
        return [], [str(error).removeprefix(f"{path}: ")]
    try:
        detected = detector.detect(image)
    except NotLookedAt as error:
        return [], [str(error)]
    found, faults = [], []
    for index, face in enumerate(detected):
        if fault := points.fault(face.points[:, :2], *image.shape[:2]):
            faults.append(f"face {index}: {fault}")
        else:
            found.append(face)
    return found, faults or ([] if found else ["no face found"])


def write_points(file: epath.Path, faces: Sequence[Detection], detector: str) -> None:
    """Writes NAME.npy, and NAME.landmarks.json beside it."""
    marks = np.stack([face.points for face in faces]).astype(np.float32)
    stored = io.BytesIO()
    np.save(stored, marks[0] if len(faces) == 1 else marks)
    about = {
        "detector": detector,
        "points": "x, y and depth in pixels of the upright photograph; x right, y down",
        "scores": [face.score for face in faces],
    }
    write_whole(file, stored.getvalue())
    beside_it = file.with_name(file.name.removesuffix(".npy") + ABOUT)
    write_whole(beside_it, json.dumps(about, indent=1) + "\n")


def _writable(paths: Sequence[epath.Path]) -> tuple[list[epath.Path], list[Unusable]]:
    """The photographs whose folders can be written to, and the others, before any detection.

    Whether a bucket can be written to shows only when it is.
    """
    folders = {path.parent for path in paths}
    closed = {folder for folder in folders if not is_remote(folder) and not _is_open(folder)}
    kept = [path for path in paths if path.parent not in closed]
    reason = _closed(PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    return kept, [Unusable(path, reason) for path in paths if path.parent in closed]


def _is_open(folder: epath.Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def _closed(error: OSError) -> str:
    return (
        f"its folder cannot be written to ({error.strerror or first_line(error)}); copy the "
        "pictures to a folder of your own, points belong beside them"
    )


if __name__ == "__main__":
    define_flags()
    sys.exit(run(main))
