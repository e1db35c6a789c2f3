"""The page of a run: its files, its weight, and its pictures where there is no head to turn."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fields_jax.outputs.bundle import Bundle
from fields_jax.photos.names import OF_A_PAGE
from fields_jax.report import cards
from tests.report.conftest import NAMES
from tests.support import glb_files
from tests.support.browser import browser
from tests.support.pages import (
    LIVELY,
    PROGRAM,
    SHOWN,
    STILL,
    click,
    needs_browser,
    part,
    pick,
    result,
    set_slider,
    text,
    write_page,
)
from tests.support.portraits import META, SIZE, photograph

VIEWER = Path(cards.__file__).parent / "templates/viewer"


def test_the_script_of_a_head_holds_its_file():
    content = glb_files.ball()
    script = cards.head_script(content)
    packed = re.fullmatch(r'Fields\.data\.receive\("([\w+/=]+)"\);\n', script)[1]
    assert gzip.decompress(base64.b64decode(packed)) == content
    assert script == cards.head_script(content)  # nothing of the time it was made


def test_the_head_that_was_written_is_shown(tiny_head, tmp_path):
    bundle = Bundle(photograph(), tiny_head, result(), SIZE, META)
    assert not cards.write_page_files(tmp_path, bundle, ["params.npz"])
    assert [path.name for path in tmp_path.iterdir()] == ["photograph.jpg"]
    (tmp_path / "head.glb").write_bytes(glb_files.ball())
    assert cards.write_page_files(tmp_path, bundle, ["params.npz", "head.glb"])
    assert (tmp_path / "head.js").read_text() == cards.head_script(glb_files.ball())


def test_the_widest_photographs_fit_a_page(tiny_head, tmp_path):
    wide = dataclasses.replace(photograph(), image=np.full((16, 70_000, 3), 90, np.uint8))
    cards.write_page_files(tmp_path, Bundle(wide, tiny_head, result(), SIZE, META), [])
    with Image.open(tmp_path / "photograph.jpg") as picture:
        assert picture.size == (4096, 1)


def test_the_window_about_a_face_lies_in_the_photograph():
    for box in ((60, 40, 140, 130), (0, 0, 60, 60), (-10, 100, 40, 160), (0, 0, 210, 150)):
        face = photograph(box=box)
        left, top, side = cards._window(face)
        assert 0 <= left <= 210 - side + 0.1 and 0 <= top <= 150 - side + 0.1
        assert side == pytest.approx(
            min(1.1 * 1.4 * (np.subtract(box[2:], box[:2])).mean(), 150), abs=0.1
        )
    left, top, side = cards._window(photograph(box=(60, 40, 120, 100)))
    assert (left + side / 2, top + side / 2) == pytest.approx((90, 70), abs=0.2)


def test_scripts_are_plain_text_to_the_template_and_name_no_address():
    for path in sorted(VIEWER.glob("*.js")):
        text = path.read_text()
        assert not re.search(r"\{\{|\{%|\{#|</script|https?:|\bfetch\(|XMLHttp|\bimport\b", text), (
            path.name
        )
        assert len(text.splitlines()) <= 400


def test_a_page_of_many_faces_is_light(tiny_head, tmp_path):
    sizes = {}
    for count in (1, 41):
        names = [f"face {k}" for k in range(count)]
        write_page(tmp_path / str(count), tiny_head, names)
        sizes[count] = (tmp_path / str(count) / "index.html").stat().st_size
    assert sizes[1] < 150_000
    assert (sizes[41] - sizes[1]) / 40 < 2500  # a thousand faces are 2.5 MB
    assert {path.name for path in (tmp_path / "41/face 7").iterdir()} >= set(OF_A_PAGE)


@needs_browser
def test_faces_without_a_head_show_their_pictures(page):
    for name, said in (("flat", "No 3D head was written"), ("torn", "the file ends early")):
        pick(page, NAMES.index(name))
        page.wait(STILL)
        assert said in text(page, "message")
        assert page.evaluate(f"{part('still')}.naturalWidth") == 40
        assert page.evaluate(f"{part('moves')}.disabled")
    assert page.evaluate(f"{part('affect')}.hidden") is False
    pick(page, NAMES.index("flat"))
    assert page.evaluate(f"{part('affect')}.hidden")
    assert page.errors == []
    pick(page, NAMES.index("lost"))
    page.wait(f"{STILL} && {part('message')}.textContent.includes('missing')")
    pick(page, NAMES.index("still"))
    page.wait(SHOWN)
    assert text(page, "message") == ""


@needs_browser
def test_names_are_text_whatever_they_hold(page, folder):
    pick(page, 4)
    page.wait(SHOWN)
    shown = text(page, "name")
    assert (folder / shown).is_dir() and "O'Neill &" in shown and "100%#" in shown
    assert page.evaluate("document.querySelectorAll('main b').length") == page.evaluate(
        "document.querySelectorAll('.classes b, figcaption b').length"
    )
    assert text(page, "notes").startswith("found <in> ")
    assert page.evaluate("document.title") == "Faces <of> people"
    page.evaluate("new Promise((r) => setTimeout(r, 100))")
    loaded = "[...document.images].filter((i) => i.complete && i.src && i.checkVisibility())"
    assert page.evaluate(f"{loaded}.filter((i) => !i.naturalWidth).length") == 0
    assert page.errors == []
    address = page.evaluate("location.href")
    page.open(folder / "index.html")
    page.evaluate(f"location.href = {json.dumps(address)}")
    page.wait(f"{part('name')}.textContent === {json.dumps(shown)}")


@needs_browser
def test_the_reading_is_a_point_in_the_circle(page):
    place = [page.evaluate(f"{part('point')}.getAttribute('{axis}')") for axis in ("cx", "cy")]
    assert [float(each) for each in place] == [-0.6, -0.3]
    said = page.evaluate(f"{part('classes')}.innerText")
    assert said.split() == ["sad", "75", "%", "happy", "25", "%"]


@needs_browser
def test_the_border_divides_the_photograph_and_the_overlay(page):
    """The overlay is nearly white; the photograph is noise."""
    selector = "[data-part=compare]"
    for whole in (False, True):
        if whole:
            click(page, "whole")
        for share in (0, 30, 100):
            set_slider(page, "[data-part=border]", share)
            picture = page.picture(selector).astype(int)[8:-8]
            white = (np.abs(picture - 250).max(axis=-1) < 8).mean(axis=0)
            edge = round(share / 100 * picture.shape[1])
            assert (white[: max(edge - 4, 0)] < 0.5).all() and (white[edge + 4 : -4] > 0.95).all()


@needs_browser
def test_everything_can_be_reached_by_keys_and_has_a_name(page):
    fields = "[...document.querySelectorAll('button, input, select, canvas, a[href], summary')]"
    seen = f"{fields}.filter((e) => e.checkVisibility())"
    named = "e.ariaLabel || e.textContent.trim() || e.labels?.[0]?.textContent.trim()"
    assert page.evaluate(f"{seen}.filter((e) => !({named})).map((e) => e.outerHTML)") == []
    reachable = page.evaluate(f"{seen}.filter((e) => !e.disabled).length")
    visited, previous = [], None
    for _ in range(reachable):
        page.press("Tab")
        here = page.evaluate(f"{fields}.indexOf(document.activeElement)")
        assert here >= 0 and (previous is None or here > previous), "in the order of the page"
        visited.append(here)
        previous = here
    assert len(visited) == reachable


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_a_telephone_and_the_dark(tab, folder, dark):
    tab.open(folder / "index.html", width=390, height=844, dark=dark)
    tab.wait(SHOWN)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    clipped = "[...document.querySelectorAll('main *:not(.compare *, .unseen, svg *)')]"
    beyond = f"{clipped}.filter((e) => e.getBoundingClientRect().right > 390.5).length"
    assert tab.evaluate(beyond) == 0
    background = tab.picture()[2, 2]
    assert background.mean() < 60 if dark else background.mean() > 200
    assert tab.errors == []


@needs_browser
def test_without_webgl_or_scripts_the_page_shows_the_pictures(folder, tmp_path):
    with browser(PROGRAM, tmp_path, "--disable-3d-apis") as plain:
        plain.open(folder / "index.html")
        plain.wait(f"{LIVELY} && {STILL}")
        assert "lacks WebGL2" in text(plain, "message")
        assert plain.errors == []
        plain.call("Emulation.setScriptExecutionDisabled", value=True)
        plain.call("Page.reload")
        plain.wait("document.readyState == 'complete'")
        pictures = "[...document.images].filter((i) => i.checkVisibility())"
        overlays = f"{pictures}.filter((i) => i.src.endsWith('overlay.png')).length"
        assert plain.evaluate(overlays) == len(NAMES)
        assert not plain.evaluate(f"{LIVELY} || document.querySelector('.stage').checkVisibility()")


@needs_browser
def test_faces_that_are_passed_on_the_way_are_not_loaded(page):
    before = len(page.requests)
    steps = 2 * len(NAMES) + 1
    page.evaluate(f"for (let k = 0; k < {steps}; k++) {part('next')}.click()")
    page.wait(f"{part('name')}.textContent === 'still' && {SHOWN}")
    heads = [each for each in page.requests[before:] if each.endswith("head.js")]
    assert [each.split("/")[-2] for each in heads] == ["still"]


@needs_browser
def test_a_short_window_scrolls_to_its_sliders(tab, folder):
    for height, kept in ((664, "sticky"), (320, "static")):
        tab.open(folder / "index.html", width=390, height=height)
        tab.wait(SHOWN)
        position = "getComputedStyle(document.querySelector('.shown')).position"
        assert tab.evaluate(position) == kept


@needs_browser
def test_print_shows_the_head_without_its_controls(page):
    page.call("Emulation.setEmulatedMedia", media="print")
    box = page.evaluate(
        "(({ left, width, height }) => [left, width, height])"
        "(document.querySelector('.view').getBoundingClientRect())"
    )
    hidden = page.evaluate(
        f"!{part('reset')}.checkVisibility() && !{part('bar')}.checkVisibility()"
    )
    page.call("Emulation.setEmulatedMedia", media="")
    assert box[0] >= 0 and min(box[1:]) > 100 and hidden


@needs_browser
def test_a_page_that_was_moved_works_where_it_is(tab, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "moved")
    tab.open(tmp_path / "moved/index.html")
    tab.wait(SHOWN)
    assert all(each.startswith((tmp_path / "moved").as_uri()) for each in tab.requests)
