"""A small clone of ICT-FaceKit and the head made of it, once for all tests here."""

from __future__ import annotations

import pytest

from fields_jax.convert.ict import convert_ict
from fields_jax.convert.ict_clone import read_clone
from fields_jax.convert.ict_rig import make_rig
from fields_jax.flame.io import load_flame
from tests.support.ict_clones import SmallClone


@pytest.fixture(scope="session")
def small():
    """What the folder holds."""
    return SmallClone()


@pytest.fixture(scope="session")
def ict_folder(small, tmp_path_factory):
    return small.write(tmp_path_factory.mktemp("ict") / "ICT-FaceKit")


@pytest.fixture(scope="session")
def clone(small, ict_folder):
    return read_clone(ict_folder, small.layout)


@pytest.fixture(scope="session")
def rig(clone):
    return make_rig(clone)


@pytest.fixture(scope="session")
def ict_head(small, ict_folder, tmp_path_factory):
    target = str(tmp_path_factory.mktemp("head") / "ict.npz")
    convert_ict(str(ict_folder), target, "", small.layout)
    return load_flame(target)
