"""Dictionaries of arrays as other programs store them: .npz, or one pickled into an .npy."""

from __future__ import annotations

import numpy as np
from etils import epath

from fields_jax.convert.descriptions import Damaged, entries
from fields_jax.convert.pickles import read_pickle
from fields_jax.convert.stored_arrays import ARRAYS, sole_object
from fields_jax.convert.torch_files import NAMES as TORCH
from fields_jax.convert.torch_files import array_with_tensors
from fields_jax.errors import UserError, quoted
from fields_jax.files import npy_header, read_bytes, read_npz


def read_dictionary(path: epath.PathLike) -> dict[str, np.ndarray]:
    """The arrays of numbers in an .npz, or in the dictionary that `numpy.save` put into an .npy.

    Entries that are no arrays, such as names, are left out. Nothing of the file is run.

    Raises:
      MissingFile: there is no such file.
      UserError: another format, or damage.
    """
    content = read_bytes(path)
    if content[:2] == b"PK":
        found = read_npz(path, what="an .npz of arrays")
        return {name: array for name, array in found.items() if array.dtype.kind in "iuf"}
    try:
        code, shape, _, start = npy_header(content)
    except ValueError as error:
        raise UserError(f"{path} is no .npz and no .npy ({error})") from error
    if shape or code.strip("|<>=") != "O":
        raise UserError(f"{path} holds one array and no dictionary of arrays: put it into an .npz")
    described, _ = read_pickle(content, str(path), ARRAYS | TORCH, start=start)
    arrays = {}
    try:
        for name, value in entries(sole_object(described)).items():
            try:
                stored = array_with_tensors(value)
            except Damaged:
                continue
            except UserError as error:  # of a storage inside it
                raise UserError(f"{path}: {quoted(name)}: {error}") from error
            if stored.dtype.kind in "iuf":
                arrays[name] = stored.read()
    except Damaged as error:
        raise UserError(f"{path} holds no dictionary: {error}") from error
    return arrays
