"""A page of faces, and a browser that shows it."""

from __future__ import annotations

import pytest

from tests.support.browser import browser
from tests.support.pages import CLIP, FLAT, PROGRAM, SHOWN, TORN, write_page

NAMES = (CLIP, "still", FLAT, TORN, 'O\'Neill & "Søn" <b>ß</b> 100%#?', "lost")


@pytest.fixture(scope="session")
def folder(tmp_path_factory, tiny_head):
    """The folder of a run of NAMES; the script of the last head is lost."""
    out = tmp_path_factory.mktemp("run with spaces & é")
    gallery = write_page(out, tiny_head, NAMES)
    assert len(gallery.faces) == len(NAMES)
    (out / "lost" / "head.js").unlink()
    return out


@pytest.fixture(scope="session")
def tab(tmp_path_factory):
    """A browser."""
    with browser(PROGRAM, tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def page(tab, folder):
    """The page in a small window with its first face, the one with a clip, shown."""
    tab.open(folder / "index.html", width=720, height=600)
    tab.wait(SHOWN)
    return tab
