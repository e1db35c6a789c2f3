"""What `reconstruct` and `fit` share: their flags, and the faces of what the user named."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from absl import flags

from data_pipelines.detector import REMEDY, Detector, find_python
from fields_jax import __version__
from fields_jax.cli import UserError, progress
from fields_jax.photos.faces import Face, Finder, find_faces, parse_box
from fields_jax.photos.files import Photograph, Unusable, find_photographs
from fields_jax.photos.points import find_file
from fields_jax.report.gallery import Gallery
from fields_jax.types import FlameModel


def define_flags() -> None:
    """Flags of both commands."""
    flags.DEFINE_string("out", "", "folder to write to")
    flags.DEFINE_string("head", "", "head .npz (default: the procedural head)")
    flags.DEFINE_string("box", "", "x0,y0,x1,y1 of the face in pixels, in every picture named")
    flags.DEFINE_integer("batch_size", 8, "faces that are worked on at once", 1)


def named_photographs(argv: list[str]) -> tuple[list[Photograph], list[Unusable]]:
    """The photographs of a command line, and what cannot be used.

    Raises:
      UserError: nothing was named, or --out is missing.
    """
    if not flags.FLAGS.out:
        raise UserError("--out is missing: name the folder to write to")
    if len(argv) < 2:
        raise UserError("name photographs, folders or patterns; see --help")
    return find_photographs(argv[1:])


def batches(photographs: list[Photograph], gallery: Gallery, scale: float) -> Iterator[list[Face]]:
    """The faces of the photographs, --batch_size at a time; those of no use go to the gallery."""
    box = parse_box(flags.FLAGS.box)
    faces: list[Face] = []
    with open_finder(photographs) as finder:
        for photograph in progress(photographs, len(photographs), "photographs"):
            for found in find_faces(photograph, scale=scale, box=box, finder=finder):
                if isinstance(found, Unusable):
                    gallery.refuse(found)
                    continue
                faces.append(found)
                if len(faces) == flags.FLAGS.batch_size:
                    yield faces
                    faces = []
        if faces:
            yield faces


@contextlib.contextmanager
def open_finder(photographs: list[Photograph]) -> Iterator[Finder | None]:
    """The face detector where it is installed and some photograph needs it, else None."""
    blind = [photograph for photograph in photographs if not find_file(photograph.path)]
    python = find_python()
    if flags.FLAGS.box or not blind:
        yield None
    elif python is None:
        print(
            f"{len(blind)} pictures have no landmark file and there is no face detector: each is "
            f"taken for a crop of one face; {REMEDY} to have faces found",
            flush=True,
        )
        yield None
    else:
        with Detector(python) as detector:
            yield detector.finder


def describe(model: FlameModel) -> dict[str, Any]:
    """What every output says of the program and the head that made it."""
    head = {key: getattr(model, key) for key in ("name", "version", "sha256")}
    return {"version": __version__, "head": head}


def conclude(gallery: Gallery, out: str) -> int:
    """Says what was made and what was not; returns the exit status."""
    for path, reason in gallery.unusable:
        print(f"not used: {path}: {reason}")
    kept_out = f", {len(gallery.unusable)} not used" if gallery.unusable else ""
    print(f"written: {out}/index.html, {len(gallery.faces)} faces{kept_out}")
    return 0 if gallery.faces else 2
