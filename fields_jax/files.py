"""Files that are whole or not there."""

from __future__ import annotations

from etils import epath


def write_whole(path: epath.PathLike, content: bytes) -> None:
    """Writes beside the file first: killed in between, the old one is whole and has its name."""
    file = epath.Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.new")
    beside.write_bytes(content)
    beside.replace(file)
