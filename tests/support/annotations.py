"""Checks the annotations of fields_jax during the tests, with jaxtyping's import hook.

The shapes and types of arguments and results are checked in every annotated function of the
packages that compute. Left out are:
- commands, files and the training loop, which handle few arrays and get stand-ins from tests;
- fields of dataclasses that are pytrees: JAX rebuilds them with leaves of any kind, such as
  placeholders, axes of a map, one row of a batch;
- the container: numpy arrays are accepted for Array, as everywhere in JAX.
"""

from __future__ import annotations

import jax
import jaxtyping
import numpy as np
from beartype import BeartypeConf, beartype
from flax import struct

CHECKED = ("geometry", "flame", "render", "fitting", "models", "losses", "evaluation.affect")


def check_annotations() -> None:
    """Installs the hook; fields_jax must not have been imported yet."""
    jaxtyping.Array = jax.Array | np.ndarray
    plain = struct.dataclass

    def unchecked(cls=None, **options):
        if cls is None:
            return lambda cls: unchecked(cls, **options)
        made = plain(cls, **options)
        made.__no_type_check__ = True
        return made

    struct.dataclass = unchecked
    jaxtyping.install_import_hook(
        [f"fields_jax.{name}" for name in CHECKED], "tests.support.annotations.checked"
    )


# As in PEP 484, an int is accepted for a float.
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
