"""One training per workdir, by a lock that the system drops when its process ends in any way."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from absl import logging

from fields_jax.disk import writing
from fields_jax.errors import UserError
from fields_jax.files import is_remote

LOCK_FILE = ".lock"
# Lustre without -o flock and file systems by FUSE answer so.
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
# A killed process holds its lock until its memory is freed; a restart may come sooner.
_PATIENCE = 3.0  # seconds


@contextlib.contextmanager
def only_run(workdir: str, *, patience: float = _PATIENCE) -> Iterator[None]:
    """Holds a workdir for this process, where there are locks.

    Buckets have none, so a gs:// workdir is not held; nor is one of a disk without, with a warning.

    Args:
      workdir: is made if it does not exist.
      patience: seconds to wait for another process to let go.

    Raises:
      UserError: another training holds the workdir; the message names its process.
      DiskError: the workdir cannot be made.
    """
    if is_remote(workdir):
        yield
        return
    folder = Path(workdir)
    with writing(workdir, instead="another --workdir"):
        folder.mkdir(parents=True, exist_ok=True)
        stream = open(folder / LOCK_FILE, "a+b", buffering=0)  # noqa: SIM115
    with stream:
        deadline = time.monotonic() + patience
        while not _try(stream):
            if time.monotonic() > deadline:
                stream.seek(0)
                holder = stream.read(200).decode(errors="replace").strip() or "another process"
                raise UserError(
                    f"workdir {workdir} is in use by {holder}; stop it or use another --workdir"
                )
            time.sleep(0.1)
        with contextlib.suppress(OSError):  # a full disk: the lock holds, without a name
            stream.truncate(0)
            stream.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


def _try(stream) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logging.warning(
            "%s: this disk has no locks (%s): see that no other training writes there",
            os.path.dirname(stream.name),
            error.strerror,
        )
    return True
