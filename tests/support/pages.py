"""A run's page for tests, and how they use it in a browser."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fields_jax.outputs import writers
from fields_jax.outputs.bundle import Result
from fields_jax.render.draw import png_bytes
from fields_jax.report.gallery import Gallery
from fields_jax.types import FlameModel
from tests.support import glb_files
from tests.support.browser import Browser, find_browser
from tests.support.portraits import META, SIZE, photograph

PROGRAM = find_browser()
needs_browser = pytest.mark.skipif(PROGRAM is None, reason="no chromium on this machine")
EMOTION = {
    "emotion": "sad",
    "probabilities": {"happy": 0.25, "sad": 0.75},
    "valence": -0.6,
    "arousal": 0.3,
    "note": "a reading <of> the network",
}
# Of faces with special heads: with a clip, with none, with one that ends early.
CLIP, FLAT, TORN = "clip", "flat", "torn"
LIVELY = "document.documentElement.classList.contains('lively')"  # scripts have run
SHOWN = f"{LIVELY} && !document.querySelector('[data-part=controls]').disabled"  # a head
STILL = "!document.querySelector('[data-part=still]').hidden"  # the picture in its place


def result(**known) -> Result:
    """A result of which only the page's own part is real."""
    points, empty = np.zeros((68, 3), np.float32), np.zeros((3, 3), np.float32)
    shade = np.zeros((320, 320, 1), np.float32)
    return Result({"camera": np.zeros(3)}, empty, points, empty, points, shade, **known)


def write_page(folder: Path, head: FlameModel, names: Sequence[str]) -> Gallery:
    """Writes a page of faces with balls for heads.

    Args:
      folder: of the page.
      head: any; nothing of it is shown.
      names: of the faces; CLIP, FLAT and TORN are special.
    """

    def head_glb(bundle):
        whole = glb_files.ball(clip=bundle.face.name == CLIP)
        return {FLAT: None, TORN: whole[:5000]}.get(bundle.face.name, whole)

    white = np.full((30, 40, 3), 250, np.uint8)
    pictures = {"overlay.png": png_bytes(white), "geometry.png": png_bytes(white // 2)}
    made = {name: (lambda _, content=content: content) for name, content in pictures.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writers, "WRITERS", made | {"head.glb": head_glb})
        gallery = Gallery(folder, head, SIZE, META)
        for name in names:
            face = dataclasses.replace(photograph(), name=name, origin=f"found <in> {name}")
            gallery.add(face, result(emotion=None if name == FLAT else EMOTION))
        gallery.close("Faces <of> people", "A lead.")
    return gallery


def part(name: str) -> str:
    """The JavaScript expression of a part of the page."""
    return f"document.querySelector('[data-part={name}]')"


def canvas(page: Browser) -> np.ndarray:
    """[H, W, 3] int of the 3D view."""
    return page.picture("[data-part=canvas]").astype(int)


def changed(page: Browser, before: np.ndarray) -> np.ndarray:
    """The 3D view once it is another one and at rest; a busy machine shows frames late."""
    for _ in range(100):
        found = canvas(page)
        if (found != before).any() and (found == canvas(page)).all():
            return found
        time.sleep(0.1)
    raise TimeoutError("the 3D view does not change, or not come to rest")


def set_slider(page: Browser, selector: str, value: float) -> None:
    """Moves a slider as a user would."""
    page.evaluate(
        f"(() => {{ const s = document.querySelector({json.dumps(selector)}); s.value = {value}; "
        "s.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def click(page: Browser, name: str) -> None:
    """Clicks a part of the page."""
    page.evaluate(f"{part(name)}.click()")


def pick(page: Browser, row: int) -> None:
    """Picks a face from the list."""
    page.evaluate(f"document.querySelectorAll('[data-face]')[{row}].click()")


def text(page: Browser, name: str) -> str:
    """What a part of the page says."""
    return page.evaluate(f"{part(name)}.textContent")
