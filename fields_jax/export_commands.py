"""What `reconstruct` and `fit` share about trainers of avatars: flags, and the sets they read."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags
from etils import epath

from fields_jax.disk import DiskError, make_way, writing
from fields_jax.errors import UserError, printable
from fields_jax.files import whole_folder, write_whole
from fields_jax.photos.files import Unusable
from fields_jax.photos.names import EXPORTS, OF_AN_EXPORT

if TYPE_CHECKING:
    from fields_jax.clip_commands import Clip
    from fields_jax.clips.decode import Source
    from fields_jax.outputs.bundle import Result
    from fields_jax.outputs.trainers.shots import Shot
    from fields_jax.photos.faces import Face
    from fields_jax.report.gallery import Gallery
    from fields_jax.types import FlameModel

# Ours: the share of a crop's side above which a camera's error is told of; the default leaves less.
_NEAR = 0.01


def define_flags() -> None:
    """Flags about trainers of avatars."""
    flags.DEFINE_multi_enum(
        "export",
        [],
        list(EXPORTS),
        "also write what a trainer of avatars reads, in a folder of this name; may be repeated",
    )
    flags.DEFINE_float("focal", 10.0, "focal length of --export, in larger sides of the picture")


class Exports:
    """Writes the layouts that the flags name; without them, nothing."""

    def __init__(self, head: FlameModel, size: int, about: Mapping[str, Any]) -> None:
        """Binds what all faces share.

        Args:
          head: of the faces.
          size: side in pixels of the crops of photographs.
          about: JSON: program, head and weights.

        Raises:
          UserError: the faces are to have another expression than their pictures.
        """
        self._head, self._size, self._about = head, size, dict(about)
        self._chosen = tuple(dict.fromkeys(flags.FLAGS.export))
        self._off: list[tuple[float, float]] = []
        self._shares: list[float] = []
        if self._chosen and (flags.FLAGS.expression_from or flags.FLAGS.neutral):
            raise UserError(
                f"--export={self._chosen[0]} is of the pictures' own expressions: leave out "
                "--expression_from and --neutral"
            )

    def add_face(self, gallery: Gallery, name: str, face: Face, result: Result) -> None:
        """Writes the face of a photograph.

        Args:
          gallery: whose folder it goes to.
          name: of the face's folder; "" where it was refused.
          face: in its photograph.
          result: of the face.
        """
        if self._chosen and name:
            from fields_jax.outputs.trainers.shots import Shot

            shot = Shot(face.image, result.coefficients, face.matrix(self._size), self._size)
            self._write(gallery, name, lambda: [shot])

    def add_clips(self, gallery: Gallery, clips: Sequence[Clip]) -> None:
        """Writes the persons of clips whose files are written.

        Frames in which a person was not found, which are interpolated, are left out.

        Args:
          gallery: that lists the persons.
          clips: that they are of.
        """
        if not self._chosen:
            return
        from fields_jax.clip_commands import source_of

        for clip in clips:
            for name in gallery.persons:
                if name.rpartition("/")[0] == clip.name:
                    folder = gallery.out / name
                    self._write(gallery, name, lambda c=clip, f=folder: _shots(source_of(c), f))

    def say(self) -> None:
        """Prints what was written, and what is to be known of it."""
        if not self._off:
            return
        mean, most = np.mean(self._off, axis=0)[0], np.max(self._off, axis=0)[1]
        print(
            f"exported: {', '.join(self._chosen)}; a perspective camera of {flags.FLAGS.focal:g} "
            f"sides sees the faces {mean:.2f} pixels off, {most:.2f} at most"
        )
        share = np.mean(self._shares)
        if share > _NEAR:
            longer = math.ceil(flags.FLAGS.focal * share / _NEAR)
            print(
                f"that is {100 * share:.0f} % of the square about a face, since the lens stands so "
                f"near: take a longer one, such as --focal={longer}"
            )
        if not _is_flame(self._head):
            print(
                f"head {printable(self._head.name)} is not FLAME, which those programs bring along:"
                " its codes mean other faces there; cameras, masks and meshes are right"
            )

    def _write(self, gallery: Gallery, name: str, shots: Any) -> None:
        """Writes every layout and links its folder; `shots()` gives the frames anew."""
        from fields_jax.outputs.trainers.metrical_tracker import write_metrical_tracker
        from fields_jax.outputs.trainers.shots import Job
        from fields_jax.outputs.trainers.vhap import write_vhap

        writers = dict(zip(EXPORTS, (write_vhap, write_metrical_tracker), strict=True))
        job = Job(self._head, flags.FLAGS.focal, self._about)
        for layout in self._chosen:
            place, sides = gallery.out / name / layout, []
            try:
                with writing(flags.FLAGS.out, instead="another --out"), _anew(place) as folder:
                    off = writers[layout](folder, _measured(shots(), sides), job)
                    _note(folder, layout, job, off)
            except DiskError:
                raise
            except UserError as error:
                gallery.refuse(Unusable(place, str(error)))
                continue
            self._off += [tuple(pair) for pair in off.tolist()]
            self._shares += (off[:, 0] / sides).tolist()
            gallery.link_folder(name, layout)


@contextlib.contextmanager
def _anew(place: epath.Path) -> Iterator[epath.Path]:
    """A folder to write an export to, which takes the place of an earlier one when it is whole.

    Frames of a longer one would stay in the set, and half an export would be read as photographs.

    Raises:
      UserError: the place holds something else.
    """
    if not (place / OF_AN_EXPORT).exists():
        make_way(place, "--out")
    with whole_folder(place) as folder:
        yield folder
        place.rmtree(missing_ok=True)


def _measured(shots: Iterable[Shot], sides: list[float]) -> Iterator[Shot]:
    """The shots; the sides of their crops in pixels of the pictures are appended to a list."""
    for shot in shots:
        sides.append(float(shot.size / shot.matrix[0, 0]))
        yield shot


def _note(place: epath.Path, layout: str, job: Any, off: np.ndarray) -> None:
    """Writes what an export is of, and how far its camera is off."""
    known = {
        "layout": layout,
        **job.about,
        "focal_in_larger_sides": job.focal,
        "frames": len(off),
        "off_pixels": "of the face's vertices, from where the weak-perspective camera sees them",
        "off_pixels_mean": off[:, 0].round(4).tolist(),
        "off_pixels_most": off[:, 1].round(4).tolist(),
    }
    write_whole(place / OF_AN_EXPORT, json.dumps(known, indent=1) + "\n")


def _shots(source: Source, folder: epath.Path) -> Iterator[Shot]:
    """The frames of a clip in which the person of a folder was seen."""
    from fields_jax.outputs.bundle import COEFFICIENTS, load_params
    from fields_jax.outputs.trainers.shots import Shot

    arrays, _ = load_params(folder / "clip.npz")
    rows = dict(zip(arrays["frame"].tolist(), range(len(arrays["frame"])), strict=True))
    frames: Iterable[Any] = source.frames()
    for frame in frames:
        row = rows.get(frame.index)
        if row is not None and arrays["seen"][row]:
            codes = {name: arrays[name][row] for name in COEFFICIENTS if name in arrays}
            size = int(arrays["crop_size"])
            yield Shot(frame.image, codes, arrays["crop_matrix"][row], size)


def _is_flame(head: FlameModel) -> bool:
    """Whether a head is FLAME, as `fields_jax.convert` calls it."""
    return head.name == "FLAME"
