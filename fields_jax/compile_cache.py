"""Keeps compiled programs between runs, so that a command that ran before starts at once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import time
from pathlib import Path

_FOLDER, _LEAST = "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
_LEAST_SECONDS = 0.2  # a program that compiles faster is not kept
_DAYS = 30  # that a program is kept: each version of the code adds its own


def keep_programs() -> None:
    """Names JAX a folder below $XDG_CACHE_HOME or ~/.cache; call it before JAX is imported.

    JAX's own variables win: JAX_ENABLE_COMPILATION_CACHE=false keeps nothing, and
    JAX_COMPILATION_CACHE_DIR names another folder, which is left as it is. Nothing is kept where no
    folder can be made or written to.
    """
    if _FOLDER in os.environ:
        return
    folder = _default_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # what lies there will be run
        _forget(folder)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        os.environ[_FOLDER] = str(folder)
        os.environ.setdefault(_LEAST, str(_LEAST_SECONDS))


def keep_none_by_default() -> None:
    """Leaves the folder of `keep_programs`, and none that a user has named.

    For runs of several processes on GPUs. JAX lets the first process alone write: where homes are
    not shared it would find its programs the next time, and the others wait for its share of the
    kernels' timings, which it then does not take.
    """
    if os.environ.get(_FOLDER) == str(_default_folder()):
        del os.environ[_FOLDER]
        keep_programs_in(None)


def folder_in_use() -> Path | None:
    """The folder on this machine that compiled programs are kept in, or None."""
    named = os.environ.get(_FOLDER, "")
    allowed = os.environ.get("JAX_ENABLE_COMPILATION_CACHE", "true").lower() not in ("false", "0")
    folder = Path(named)
    return folder if named and allowed and "://" not in named and folder.is_dir() else None


def keep_programs_in(folder: str | None) -> None:
    """Names JAX another folder, or none, whatever has been compiled by now."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    jax.config.update("jax_compilation_cache_dir", folder)
    compilation_cache.reset_cache()  # it stays with the folder of its first program otherwise


def _default_folder() -> Path:
    return _user_cache() / "fields_jax" / f"programs-{_processor()}"


def _user_cache() -> Path:
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return named if named.is_absolute() else Path(os.path.expanduser("~/.cache"))


def _processor() -> str:
    """Tells kinds of processors apart, which JAX does not: hosts may share a home."""
    text = platform.machine() + platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        text += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _forget(folder: Path) -> None:
    """Removes programs compiled long ago."""
    oldest = time.time() - _DAYS * 24 * 3600
    for file in folder.iterdir():
        if file.is_file() and file.stat().st_mtime < oldest:
            file.unlink(missing_ok=True)
