"""The head that evaluation is tested on."""

import pytest

from tests.support.cube import cube_head


@pytest.fixture(scope="package")
def head():
    return cube_head()
