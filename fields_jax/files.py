"""Files that are whole or not there, on a disk or in a bucket."""

from __future__ import annotations

from etils import epath


def is_remote(path: epath.PathLike) -> bool:
    """Whether a path is in a bucket: files there are written whole, and nothing can be locked."""
    return "://" in str(path)


def write_whole(path: epath.PathLike, content: bytes) -> None:
    """Writes beside the file first: killed in between, the old one is whole and has its name."""
    file = epath.Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.new")
    beside.write_bytes(content)
    beside.replace(file)
