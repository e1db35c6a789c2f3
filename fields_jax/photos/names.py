"""Names that results go by: a folder each, harmless on any disk."""

from __future__ import annotations

import unicodedata

# What commands write for each face (outputs/writers.py) and for all of them: no folder may be
# called so, and no such picture is taken for a photograph.
OF_A_FACE = (
    *("params.npz", "mesh.obj", "mesh.ply"),
    *("overlay.png", "geometry.png", "emotion.json"),
)
OF_A_RUN = ("index.html", "summary.csv")

_FORBIDDEN = frozenset('<>:"\\|?*')  # by one file system or another
_LONGEST = 200  # bytes of a folder's name; file systems take 255, numbers are added to it


def unique_name(name: str, taken: set[str]) -> str:
    """The name made harmless, or that with -2, -3 ... where it is taken; adds it to `taken`.

    Parts between slashes become folders: never hidden, `..`, empty, longer than disks allow or
    called as the files that are written beside them. Signs that are none, bytes that are no UTF-8
    and what some disk forbids become `_`. Names that differ by case or by how an accent is written
    count as one, for on many disks they are.

    Args:
      name: such as "day/one", from a path without its suffix.
      taken: what this function has added to it for other names.
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
    return f"{kept}_" if _key(kept) in (*OF_A_FACE, *OF_A_RUN, "") else kept


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
