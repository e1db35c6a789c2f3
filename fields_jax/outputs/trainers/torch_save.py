"""Dictionaries of arrays as `torch.save` writes them, without torch.

A zip of plain members: the version of the format and a pickle. Without tensors, whose bytes would
be members of their own, that is all there is. numpy 2 calls the module of its arrays
`numpy._core`, which older ones lack; they are stored under the name that both know.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import Any

_FOLDER, _VERSION = "archive", b"3\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # so that the same content gives the same bytes
# In protocol 2 names are text between line ends, so that they can be exchanged.
_PROTOCOL = 2
_NEW, _OLD = b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"


def torch_bytes(value: Any) -> bytes:
    """The content of a file that `torch.load(path, weights_only=False)` reads.

    Args:
      value: dictionaries, lists, texts, numbers and numpy arrays.
    """
    pickled = pickle.dumps(value, protocol=_PROTOCOL).replace(_NEW, _OLD)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        members = {"data.pkl": pickled, "byteorder": b"little", "version": _VERSION}
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(f"{_FOLDER}/{name}", _EPOCH), content)
    return buffer.getvalue()
