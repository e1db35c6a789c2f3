"""Names of the folders of results, one for each face, valid on any disk."""

from __future__ import annotations

import unicodedata

# What commands write for each face (outputs/writers.py), for each person of a clip
# (clips/making.py) and for all of them: no folder may be
# called so, and no such picture is taken for a photograph.
OF_A_FACE = (
    *("params.npz", "mesh.obj", "mesh.mtl", "mesh.ply"),
    *("texture.jpg", "texture_confidence.png", "head.glb"),
    *("overlay.png", "geometry.png", "expression.png", "emotion.json", "confidence.json"),
)
OF_A_CLIP = (
    *("clip.npz", "clip.csv", "clip_livelink.csv", "clip.json"),
    *("clip.mp4", "clip.glb"),
)
OF_A_PAGE = ("photograph.jpg", "head.js")  # of a face too: what only the page reads
OF_AN_EXPORT = "export.json"  # in each folder for a trainer of avatars
EXPORTS = ("vhap", "metrical-tracker")  # their names, below the folders of faces
OF_A_RUN = ("index.html", "summary.csv")

_FORBIDDEN = frozenset('<>:"\\|?*')  # by one file system or another
_LONGEST = 200  # bytes of a folder's name; file systems take 255, numbers are added to it


def unique_name(name: str, taken: set[str]) -> str:
    """The name made valid on any disk, with -2, -3 ... if it is taken; adds it to `taken`.

    Parts between slashes become folders: never hidden, `..`, empty, longer than disks allow or
    equal to a file that is written beside them. Unprintable characters, bytes that are not UTF-8
    and characters that some disk forbids become `_`. Names that differ only by case or by the
    encoding of an accent count as the same, as they are on many disks.

    Args:
      name: such as "day/one", from a path without its suffix.
      taken: the names given so far, as this function has added them.
    """
    harmless = "/".join(_harmless(part) for part in name.split("/"))
    chosen, count = harmless, 1
    while (key := _key(chosen)) in taken:
        count += 1
        chosen = f"{harmless}-{count}"
    taken.add(key)
    return chosen


def _harmless(part: str) -> str:
    signs = (sign if sign.isprintable() and sign not in _FORBIDDEN else "_" for sign in part)
    kept = "".join(signs).strip(" .").encode()[:_LONGEST].decode(errors="ignore").strip(" .")
    taken = (*OF_A_FACE, *OF_A_CLIP, *OF_A_PAGE, *OF_A_RUN, "")
    return f"{kept}_" if _key(kept) in taken else kept


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
