"""What `reconstruct` and `fit` share: flags, and the faces of the photographs the user named."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags

from fields_jax import clip_commands, export_commands, expression_commands
from fields_jax.disk import writing
from fields_jax.errors import UserError, printable
from fields_jax.photos.detector import DetectorError, find_python, lasting
from fields_jax.photos.faces import Face, Finder, find_faces, parse_box
from fields_jax.photos.files import Photograph, Unusable
from fields_jax.photos.finding import find_photographs
from fields_jax.photos.points import find_file
from fields_jax.progress import progress

if TYPE_CHECKING:
    from fields_jax.report.gallery import Gallery
    from fields_jax.types import FlameModel


def define_flags() -> None:
    """Flags of both commands."""
    flags.DEFINE_string("out", "", "folder to write to")
    flags.DEFINE_string("head", "", "head .npz (default: the model's own, or the procedural one)")
    flags.DEFINE_enum(
        "morphs",
        None,
        ["arkit", "expression"],
        "morph targets of head.glb: ARKit's 52 shapes (default where the head has them) or the "
        "head's own expression components",
    )
    flags.DEFINE_integer("batch_size", 8, "faces that are worked on at once", 1)
    expression_commands.define_flags()
    export_commands.define_flags()
    clip_commands.define_flags()


# Least and most of the numbers that flags give; absl's own bounds let NaN and infinity pass.
_RANGES = {"rate": (1e-3, 1e3), "smooth": (0, 1e3), "bridge": (0, 1e6), "focal": (0.5, 1e3)}


class Named(NamedTuple):
    """The arguments of a command line.

    Attributes:
      clips: videos and folders of frames.
      photographs: to find faces in.
      unusable: files that were named and cannot be used.
      box: of the face, or None.
    """

    clips: list[clip_commands.Clip]
    photographs: list[Photograph]
    unusable: list[Unusable]
    box: tuple[float, ...] | None


def read_arguments(argv: list[str], box: str = "") -> Named:
    """The photographs of a command line; `box` is the value of --box.

    Raises:
      UserError: nothing was named, --out is missing, --box is no box, or a number is out of range.
    """
    chosen = flags.FLAGS
    for name, (least, most) in _RANGES.items():
        value = getattr(chosen, name)
        if not least <= value <= most:
            raise UserError(f"--{name}={value:g}: expected {least:g} to {most:g}")
    if not chosen.out:
        raise UserError("--out is missing: name the folder to write to")
    if len(argv) < 2:
        raise UserError("name photographs, videos, folders or patterns; see --help")
    others, clips = clip_commands.split(argv[1:])
    return Named(clips, *find_photographs(others), parse_box(box))


def batches(
    named: Named, gallery: Gallery, scale: float, other: Finder | None = None
) -> Iterator[list[Face]]:
    """The faces of the photographs, --batch_size at a time; unusable ones go to the gallery.

    Args:
      named: what to look through.
      gallery: told of what cannot be used.
      scale: side of the crops relative to the mean of a face box's sides.
      other: finder of boxes of faces, asked where no detector of landmarks is installed; None:
        faces without landmarks are of no use.
    """
    for thing in named.unusable:
        gallery.refuse(thing)
    size, total = flags.FLAGS.batch_size, len(named.photographs)
    faces: list[Face] = []
    with open_finder(named) as detector:
        finder = detector or (other if _is_blind(named) else None)
        for number, photograph in enumerate(progress(named.photographs, total, "photographs"), 1):
            try:
                for found in find_faces(photograph, scale=scale, box=named.box, finder=finder):
                    if isinstance(found, Unusable):
                        gallery.refuse(found)
                    else:
                        faces.append(found)
            except DetectorError:
                if faces:  # what was found is read before the command ends
                    yield faces
                raise
            while len(faces) >= size or (faces and number == total):
                yield faces[:size]
                faces = faces[size:]


@contextlib.contextmanager
def open_finder(named: Named) -> Iterator[Finder | None]:
    """The face detector where it is installed and some photograph needs it, else None."""
    python = find_python()
    if python is None or not _is_blind(named):
        yield None
    else:
        with lasting(python) as finder:
            yield finder


def open_gallery(head: FlameModel, size: int, meta: Mapping[str, Any]) -> Gallery:
    """The folder --out, for faces of a head.

    Args:
      head: of all faces.
      size: side in pixels of the crops that the cameras belong to.
      meta: facts about the program for every output; see `outputs.bundle.Bundle`.

    Raises:
      UserError: the head has no such morph targets as --morphs wants.
      DiskError: it cannot be made.
    """
    from fields_jax.report.gallery import Gallery

    with _writing():
        return Gallery(flags.FLAGS.out, head, size, meta, flags.FLAGS.morphs or "")


@contextlib.contextmanager
def kept(gallery: Gallery, title: str, lead: str) -> Iterator[None]:
    """Where the work in the block ends early, by Ctrl-C too, the page shows what is finished."""
    try:
        yield
    except BaseException:
        if gallery.faces or gallery.persons:
            with contextlib.suppress(UserError, OSError):  # the disk may be what ended it
                conclude(gallery, title, lead)
        raise


def conclude(gallery: Gallery, title: str, lead: str) -> int:
    """Writes the page and reports successes and failures; returns the exit status.

    Raises:
      DiskError: the page cannot be written.
    """
    with _writing():
        gallery.close(title, lead)
    for path, reason in gallery.unusable:
        print(f"not used: {printable(path)}: {printable(reason)}")
    kept_out = f", {len(gallery.unusable)} not used" if gallery.unusable else ""
    print(f"written: {printable(flags.FLAGS.out)}/index.html, {_counted(gallery)}{kept_out}")
    return 0 if gallery.faces or gallery.persons else 2


def _counted(gallery: Gallery) -> str:
    """How many faces of photographs and persons of clips there are."""
    persons = f"{len(gallery.persons)} persons of clips"
    if gallery.persons and not gallery.faces:
        return persons
    return f"{len(gallery.faces)} faces" + (f", {persons}" if gallery.persons else "")


def _is_blind(named: Named) -> bool:
    """Whether nothing says where the faces of some photograph are."""
    return not named.box and any(not find_file(one.path) for one in named.photographs)


def _writing() -> contextlib.AbstractContextManager[None]:
    return writing(flags.FLAGS.out, instead="another --out")
