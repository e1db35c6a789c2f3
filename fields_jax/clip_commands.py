"""What `reconstruct` and `fit` share about clips: flags, which arguments are clips, their files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from absl import flags
from etils import epath

from fields_jax.errors import UserError
from fields_jax.photos.detector import find_python, lasting
from fields_jax.photos.faces import Finder
from fields_jax.photos.files import Unusable
from fields_jax.photos.kinds import VIDEO_SUFFIXES
from fields_jax.photos.names import unique_name

if TYPE_CHECKING:
    from fields_jax.clips.decode import Source
    from fields_jax.clips.making import Maker, Settings
    from fields_jax.report.gallery import Gallery


class Clip(NamedTuple):
    """A clip that the user names.

    Attributes:
      path: of a video, or of a folder of frames.
      name: of its results.
    """

    path: epath.Path
    name: str


def define_flags() -> None:
    """Flags about clips."""
    flags.DEFINE_bool("clip", False, "folders named are clips: their pictures are its frames")
    flags.DEFINE_float("rate", 30.0, "frames per second of folders of frames")
    flags.DEFINE_float("smooth", 1.0, "strength of the smoothing of clips; 0 for none")
    flags.DEFINE_float("bridge", 0.5, "seconds that a face of a clip may be out of sight")
    flags.DEFINE_bool("film", True, "write clip.mp4 of each person of a clip")


def split(arguments: Sequence[str]) -> tuple[list[str], list[Clip]]:
    """The arguments that name photographs, and the clips: videos and, with --clip, folders."""
    taken: set[str] = set()
    others, clips = [], []
    for given in arguments:
        path = epath.Path(given)
        is_folder = flags.FLAGS.clip and path.is_dir()
        is_video = path.suffix.lower() in VIDEO_SUFFIXES and path.exists() and not path.is_dir()
        if is_folder or is_video:
            clips.append(Clip(path, unique_name(path.stem or path.name or "clip", taken)))
        else:
            others.append(given)
    return others, clips


def settings() -> Settings:
    """The flags as settings of the work."""
    from fields_jax.clips.making import Settings

    chosen = flags.FLAGS
    return Settings(chosen.bridge, chosen.smooth, chosen.film, chosen.morphs or "")


def make(
    clips: Sequence[Clip],
    maker: Maker,
    gallery: Gallery,
    packaged: Finder,
    *,
    box: tuple[float, ...] | None = None,
    marked: bool = False,
) -> None:
    """Makes the files of clips; one that cannot be used is told to the gallery.

    Args:
      clips: that the user named.
      maker: of their files.
      gallery: that lists them, and whose folder they go to.
      packaged: the network in the package, where no detector of landmarks is installed.
      box: of the one face in every frame, or None.
      marked: whether only faces with landmarks are of use, so that the network is not asked.
    """
    from fields_jax.clips.watching import Where

    for clip in clips:
        try:
            with _finder() as detector:
                finder = detector or (None if marked else packaged)
                where = Where(maker.scale, finder, box, near=detector is None)
                for person in maker.make(source_of(clip), where, gallery.out / clip.name):
                    gallery.add_clip(f"{clip.name}/{person.name}", str(clip.path), person)
        except UserError as error:
            reason = str(error).removeprefix(f"{clip.path}: ")
            gallery.refuse(Unusable(clip.path, reason))
        except OSError as error:
            reason = f"{gallery.out / clip.name} cannot be written: {error.strerror or error}"
            gallery.refuse(Unusable(clip.path, reason))


def source_of(clip: Clip) -> Source:
    """The frames of a clip."""
    from fields_jax.clips.decode import FrameFolder, Video

    if clip.path.is_dir():
        return FrameFolder(clip.path, clip.name, flags.FLAGS.rate)
    return Video(clip.path, clip.name)


@contextlib.contextmanager
def _finder() -> Iterator[Finder | None]:
    """The face detector where it is installed, else None."""
    python = find_python()
    if python is None:
        yield None
    else:
        with lasting(python) as finder:
            yield finder
