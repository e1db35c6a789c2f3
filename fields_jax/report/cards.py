"""What the page of a run needs of each face beyond its files: a card, the picture, the head."""

from __future__ import annotations

import base64
import gzip
import io
import urllib.parse
from collections.abc import Sequence
from typing import Any

from etils import epath
from PIL import Image

from fields_jax.files import read_bytes, write_whole
from fields_jax.outputs.bundle import Bundle
from fields_jax.photos.faces import Face

HEAD = "head.glb"  # what the page shows
SCRIPT, PHOTOGRAPH = "head.js", "photograph.jpg"  # photos/names.py reserves them
_SHOWN = ("overlay.png", "geometry.png")  # the other files are linked
_AROUND = 1.1  # side of what the page shows about a face, in sides of its crop
_LONGEST = 4096  # pixels of the photograph's longer side: no page shows more, and JPEG has a limit
_QUALITY = 90  # of a JPEG: no difference to the overlay's pixels shows at the border between them


def write_page_files(folder: epath.PathLike, bundle: Bundle, written: Sequence[str]) -> bool:
    """Writes what only the page reads, beside the files of a face.

    `photograph.jpg` is the photograph, upright, the frame of overlay.png. `head.js` is the
    head as a script, because a page that was opened from a disk may read no other kind of file.

    Args:
      folder: of the face.
      bundle: what is known of it.
      written: the files that are there.

    Returns:
      Whether there is a head to show.

    Raises:
      OSError: a file cannot be written.
    """
    folder = epath.Path(folder)
    write_whole(folder / PHOTOGRAPH, _jpeg(bundle.face))
    if HEAD in written:
        write_whole(folder / SCRIPT, head_script(read_bytes(folder / HEAD)))
    return HEAD in written


def head_script(glb: bytes) -> str:
    """A GLB as a script that hands it to the viewer of the page."""
    return f'Fields.data.receive("{pack(glb)}");\n'


def pack(glb: bytes) -> str:
    """A GLB as text that the viewer of a page unpacks: gzip, then base64."""
    # Level 1: the next ones save a few per cent and take twice as long.
    return base64.b64encode(gzip.compress(glb, compresslevel=1, mtime=0)).decode()


def card(
    bundle: Bundle, said: tuple[Sequence[str], str], written: Sequence[str], solid: bool
) -> dict[str, Any]:
    """What the page says of a face, ready for JSON.

    Args:
      bundle: what is known of it; its face's name is that of its folder.
      said: lines about it, and one on its emotion or "", which the page draws where it can.
      written: its files.
      solid: whether there is a head to show.

    Returns:
      "name", "link" (the folder as a part of an address), "notes" and "reading" (what is said),
      "links" (names of files that the page does not show), "solid", "width" and "height" of the
      photograph in pixels, "window" ([left, top, side] of the face in it) and "emotion" (as of
      emotion.json, or None).
    """
    (notes, reading), face, emotion = said, bundle.face, bundle.result.emotion
    shown: dict[str, Any] | None = None
    if emotion is not None:
        shown = {key: emotion[key] for key in ("probabilities", "valence", "arousal")}
        shown["note"] = emotion.get("note", "")
    height, width = face.image.shape[:2]
    return {
        "name": face.name,
        "link": urllib.parse.quote(face.name),
        "notes": list(notes),
        "reading": reading,
        "links": [file for file in written if file not in _SHOWN],
        "solid": solid,
        "width": width,
        "height": height,
        "window": _window(face),
        "emotion": shown,
    }


def _window(face: Face) -> list[float]:
    """The square about the face, moved into the photograph and no larger than it."""
    height, width = face.image.shape[:2]
    zoom, left, top = face.matrix(1)[[0, 0, 1], [0, 2, 2]]  # of a crop of one pixel
    side = min(_AROUND / zoom, height, width)
    centre = (0.5 - left) / zoom, (0.5 - top) / zoom
    corner = (
        min(max(at - side / 2, 0.0), size - side)
        for at, size in zip(centre, (width, height), strict=True)
    )
    return [round(float(value), 1) for value in (*corner, side)]


def _jpeg(face: Face) -> bytes:
    stream, picture = io.BytesIO(), Image.fromarray(face.image)
    picture.thumbnail((_LONGEST, _LONGEST))
    picture.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()
