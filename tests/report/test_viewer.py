"""The 3D view of a page in a browser: what it draws, and what moves it."""

from __future__ import annotations

import json
from collections import Counter
from time import sleep

import numpy as np
import pytest

from fields_jax import arkit
from fields_jax.outputs.glb import Frames, glb
from fields_jax.report import cards
from fields_jax.types import JOINTS
from tests.report.conftest import NAMES
from tests.support import glb_files
from tests.support.bundles import bundle_of, random_coefficients
from tests.support.gltf_reader import Glb
from tests.support.pages import (
    SHOWN,
    STILL,
    canvas,
    changed,
    click,
    needs_browser,
    part,
    pick,
    set_slider,
    text,
)


@needs_browser
def test_a_head_is_drawn_and_nothing_is_asked_for_elsewhere(page, folder):
    picture = canvas(page)
    row, column = np.array(picture.shape[:2]) // 2
    centre = picture[row - 20 : row + 20, column - 20 : column + 20]
    assert (np.abs(centre - picture[4, 4]).max(axis=-1) > 60).all()
    red, yellow = np.array([200, 60, 40]), np.array([220, 180, 60])
    apart = np.minimum(*(np.abs(centre - colour).max(axis=-1) for colour in (red, yellow)))
    assert np.median(apart) <= 3  # colours of the picture, by their unlit material
    assert page.errors == []
    assert page.requests and all(each.startswith(folder.as_uri()) for each in page.requests)
    assert [each for each in page.requests if "head.js" in each] == [
        f"{folder.as_uri()}/clip/head.js"
    ]


@needs_browser
def test_a_slider_moves_the_head_and_its_buttons_bring_it_back(page):
    before = canvas(page)
    set_slider(page, "[data-movement=jawOpen]", 1)
    moved = canvas(page)
    assert (np.abs(moved - before).max(axis=-1) > 20).sum() > 500
    set_slider(page, "[data-movement=jawOpen]", glb_files.WEIGHTS[0])
    assert (canvas(page) == before).all()
    click(page, "neutral")
    neutral = canvas(page)
    assert (neutral != before).any()
    values = "[...document.querySelectorAll('[data-movement]')].map((s) => s.valueAsNumber)"
    assert page.evaluate(values) == [0] * 5
    click(page, "photograph")
    assert (canvas(page) == before).all()
    groups = page.evaluate(
        "[...document.querySelectorAll('.group summary')].map((s) => s.textContent)"
    )
    assert groups == ["Brows", "Eyes", "Jaw", "Mouth"]
    assert page.errors == []


@needs_browser
def test_both_sides_move_together_where_that_is_wanted(page):
    click(page, "linked")
    set_slider(page, "[data-movement=eyeBlinkLeft]", 0.75)
    weights = page.evaluate("[...Fields.stage.view.pose.weights]")
    assert weights == pytest.approx([0.25, 0.75, 0.75, 0, 0.5])


@needs_browser
def test_switches_and_keys_change_the_view_and_back(page):
    before = canvas(page)
    for switch in ("wireframe", "texture", "upright"):
        click(page, switch)
        assert (np.abs(canvas(page) - before).max(axis=-1) > 8).mean() > 0.02, switch
        click(page, switch)
        assert (canvas(page) == before).all(), switch
    page.evaluate("document.querySelector('[data-part=canvas]').focus()")
    page.press("ArrowLeft")
    assert page.evaluate("Fields.stage.view.camera.azimuth") < 0
    page.evaluate("document.activeElement.blur()")
    assert (np.abs(canvas(page) - before).max(axis=-1) > 20).mean() > 0.02
    page.evaluate("document.querySelector('[data-part=canvas]').focus()")
    page.press("Home")
    page.evaluate("document.activeElement.blur()")
    assert (canvas(page) == before).all()


@needs_browser
def test_a_drag_turns_the_head_with_the_pointer(page):
    place = (
        "(() => { const b = document.querySelector('[data-part=canvas]').getBoundingClientRect(); "
    )
    x, y = page.evaluate(place + "return [b.x + b.width / 2, b.y + b.height / 2]; })()")
    common = dict(button="left", buttons=1, clickCount=1)
    page.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **common)
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + 60, y=y, **common)
    page.call("Input.dispatchMouseEvent", type="mouseReleased", x=x + 60, y=y, **common)
    azimuth = page.evaluate("Fields.stage.view.camera.azimuth")
    assert -1.5 < azimuth < -0.1  # the eye goes left, so that the head turns right


@needs_browser
def test_a_pinch_on_a_trackpad_zooms_by_its_scale(page):
    canvas_box = f"{part('canvas')}.getBoundingClientRect()"
    x, y = page.evaluate(
        f"(({{ x, y, width, height }}) => [x + width / 2, y + height / 2])({canvas_box})"
    )
    page.call("Input.synthesizePinchGesture", x=x, y=y, scaleFactor=2, gestureSourceType="mouse")
    assert page.evaluate("Fields.stage.view.camera.nearness") == pytest.approx(0.5, abs=0.05)


@needs_browser
def test_two_fingers_zoom(page):
    place = f"(() => {{ const b = {part('canvas')}.getBoundingClientRect(); "
    x, y = page.evaluate(place + "return [b.x + b.width / 2, b.y + b.height / 2]; })()")
    page.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
    for kind, apart in (("touchStart", 40), ("touchMove", 50), ("touchMove", 80)):
        fingers = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        page.call("Input.dispatchTouchEvent", type=kind, touchPoints=fingers)
    page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    page.call("Emulation.setTouchEmulationEnabled", enabled=False)
    assert page.evaluate("Fields.stage.view.camera.nearness") == pytest.approx(0.5, abs=0.02)
    assert page.evaluate("Fields.stage.view.camera.pointers.size") == 0


@needs_browser
def test_a_clip_plays_and_can_be_wound(page):
    still = page.evaluate("[...Fields.stage.view.pose.weights]")
    set_slider(page, "[data-part=time]", 1)
    assert page.evaluate("[...Fields.stage.view.pose.weights]") == pytest.approx([1, 0, 0, 0, 0])
    turned = page.evaluate("Fields.stage.view.pose.moved[1].rotation")
    assert turned == pytest.approx([0, np.sin(0.4), 0, np.cos(0.4)], abs=1e-6)
    set_slider(page, "[data-part=time]", 0.25)  # between two keys, half a second apart
    halves = np.sin(0.4 * np.sin(np.pi / 4) / 2), np.cos(0.4 * np.sin(np.pi / 4) / 2)
    turned = page.evaluate("Fields.stage.view.pose.moved[1].rotation")
    assert turned == pytest.approx([0, halves[0], 0, halves[1]], abs=1e-6)
    assert text(page, "shown") == "0:00.3 / 0:02.0"
    click(page, "play")
    page.wait("Fields.stage.view.player.time > 0.5")
    assert text(page, "play") == "Pause"
    click(page, "play")
    stopped = page.evaluate("Fields.stage.view.player.time")
    page.picture("[data-part=canvas]")
    assert page.evaluate("Fields.stage.view.player.time") == stopped
    click(page, "photograph")
    assert page.evaluate("[...Fields.stage.view.pose.weights]") == still
    pick(page, NAMES.index("still"))
    page.wait(SHOWN)
    assert page.evaluate(f"{part('bar')}.hidden")


VERTICES = """(() => {
  const { view } = Fields.stage;
  view.pose.weights.set(%s);
  view.pose.moved[3].rotation = %s;
  view.moved();
  const shape = [...view.renderer.moved.values()][0];
  const bones = view.pose.bones(view.model.draws[0].node, view.pose.matrices());
  return [shape.positions, shape.normals, ...bones].map((values) => [...values]);
})()"""


@needs_browser
def test_vertices_are_those_of_linear_blend_skinning(page):
    """Against numpy, which does not read the file: sparse, dense and short targets, two joints."""
    weights, angle = [0.3, 0.9, 0.1, 0.6, 1.0], 0.35
    jaw = [float(np.sin(angle / 2)), 0, 0, float(np.cos(angle / 2))]
    found = page.evaluate(VERTICES % (json.dumps(weights), json.dumps(jaw)))
    positions, _, root, chin = (np.array(values) for values in found)
    points, _, _ = glb_files.sphere()
    moved = points + np.tensordot(weights, glb_files.moves(), 1)
    assert np.abs(positions.reshape(-1, 3) - moved).max() < 2e-5  # half of a short is 1.5e-5 m

    cosine, sine = np.cos(glb_files.TURNED), np.sin(glb_files.TURNED)
    turn = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    opened = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    joint = np.array([0, -glb_files.JAW, 0])
    share = glb_files.jaw_share()[:, None]
    expected = (1 - share) * moved + share * ((moved - joint) @ opened.T + joint)
    full = np.concatenate([positions.reshape(-1, 3), np.ones((len(points), 1))], axis=1)
    by_root, by_jaw = (full @ bone.reshape(4, 4)[:, :3] for bone in (root, chin))
    skinned = (1 - share) * by_root + share * by_jaw
    assert np.abs(skinned - expected @ turn.T).max() < 3e-5


@needs_browser
def test_normals_are_the_files_at_rest_and_the_moved_surfaces_otherwise(page):
    rest = page.evaluate(VERTICES % ("[0, 0, 0, 0, 0]", "[0, 0, 0, 1]"))
    points, _, triangles = glb_files.sphere()
    assert np.abs(np.array(rest[1]).reshape(-1, 3) - points / 0.1).max() < 1e-5
    found = page.evaluate(VERTICES % ("[1, 0, 0, 0, 0]", "[0, 0, 0, 1]"))
    normals = np.array(found[1]).reshape(-1, 3)
    corners = np.array(found[0]).reshape(-1, 3)[triangles]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    size = np.linalg.norm(flat, axis=1)
    faces = flat[size > 1e-7] / size[size > 1e-7, None]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    agreement = np.einsum("fd,fcd->fc", faces, normals[triangles[size > 1e-7]])
    assert agreement.min() > 0.9
    left, right = (normals.reshape(25, 49, 3)[1:-1, column] for column in (0, -1))
    assert np.abs(left - right).max() < 1e-5  # the seam does not show


STATE = """(() => {
  const { view } = Fields.stage;
  const [{ node, shape }] = view.model.draws;
  const bones = view.pose.bones(node, view.pose.matrices());
  const arrays = [view.renderer.moved.get(shape).positions, shape.joints, shape.weights];
  return [...arrays, ...bones].map((values) => [...values]);
})()"""


def skinned(page) -> np.ndarray:
    """[N, 3] in the scene, of the viewer's arrays and matrices."""
    positions, joints, shares, *bones = (np.array(each) for each in page.evaluate(STATE))
    full = np.pad(positions.reshape(-1, 3), ((0, 0), (0, 1)), constant_values=1)
    moved = np.stack([full @ bone.reshape(4, 4)[:, :3] for bone in bones])
    rows = np.arange(len(full))[:, None]
    return (shares.reshape(-1, 4, 1) * moved[joints.reshape(-1, 4).astype(int), rows]).sum(axis=1)


@pytest.fixture(scope="module")
def written(tiny_head):
    """A file of a head without ARKit's names, with a clip of three frames."""
    frames = random_coefficients(tiny_head, 3)
    bundle = bundle_of(tiny_head, frames)
    vars(bundle)["texture"] = None  # nothing to bake
    return glb(bundle, "expression", Frames(np.array([0.0, 0.5, 1.5]), frames))


@pytest.fixture
def opened(page, written):
    """The page with that file in its view."""
    packed = cards.head_script(written).split('"')[1]
    page.evaluate(f"Fields.data.unpack('{packed}').then((bytes) => Fields.stage.view.open(bytes))")
    return page


@needs_browser
def test_files_of_our_own_are_read_as_another_reader_does(opened, written):
    reader = Glb(written)
    assert np.abs(skinned(opened) - reader.vertices()).max() < 1e-5
    for row, time in enumerate((0.0, 0.5, 1.5)):
        set_slider(opened, "[data-part=time]", time)
        weights, nodes = reader.moment(row)
        assert np.abs(skinned(opened) - reader.vertices(weights, nodes=nodes)).max() < 1e-5
    click(opened, "neutral")
    still = {name: np.array([0, 0, 0, 1]) for name in JOINTS}
    rest = reader.vertices(
        np.zeros(len(weights)),
        still,
        nodes={reader.node("head_pose"): nodes[reader.node("head_pose")]},
    )
    assert np.abs(skinned(opened) - rest).max() < 1e-5
    sliders = "[...document.querySelectorAll('[data-movement]')]"
    ranges = opened.evaluate(f"{sliders}.map((s) => [s.dataset.movement, +s.min, +s.max])")
    assert ["first", -3, 3] in ranges and ["eyelid_left", 0, 1] in ranges
    assert opened.errors == []


@needs_browser
def test_in_the_photograph_the_head_is_where_the_photographs_camera_sees_it(opened, written):
    reader = Glb(written)
    assert not opened.evaluate(f"{part('inside')}.closest('label').hidden")
    click(opened, "inside")
    opened.picture("[data-part=canvas]")
    seen = opened.evaluate(
        "(() => { const { view } = Fields.stage; const { canvas, backdrop } = view.parts; "
        "const { view: v, projection: p } = view.backdrop.place("
        "view.model.camera, canvas.width / canvas.height); "
        "const [a, b] = [canvas, backdrop].map((e) => e.getBoundingClientRect()); "
        "return [[...Fields.maths.multiply(p, v)], [a.x, a.y, a.width, a.height], "
        "[b.x, b.y, b.width, b.height], backdrop.naturalWidth]; })()"
    )
    matrix, frame, behind, natural = seen
    points = np.pad(reader.vertices(), ((0, 0), (0, 1)), constant_values=1)
    clip = (points @ np.array(matrix).reshape(4, 4))[:, :2]
    on_page = np.array(frame[:2]) + (clip * (1, -1) + 1) / 2 * frame[2:]
    in_picture = (on_page - behind[:2]) / behind[2:]  # shares of the photograph
    camera = reader.json["cameras"][0]["orthographic"]
    middle = reader.place("photograph_camera")[:2, 3]
    expected = ((points[:, :2] - middle) / (camera["xmag"], -camera["ymag"]) + 1) / 2
    assert natural == 210
    assert np.abs((in_picture - expected) * (210, 150)).max() < 0.05  # pixels of the photograph
    opened.evaluate(f"{part('canvas')}.focus()")
    opened.press("ArrowRight")  # a head that turns leaves the photograph
    opened.picture("[data-part=canvas]")
    assert opened.evaluate(f"{part('backdrop')}.hidden && !{part('inside')}.checked")


@needs_browser
def test_every_movement_of_arkit_has_a_group_a_label_of_its_own_and_its_twin(page):
    said = page.evaluate(f"{json.dumps(arkit.NAMES)}.map((n) => Fields.movements.describe(n))")
    assert len({(each["group"], each["label"]) for each in said}) == len(arkit.NAMES)
    counts = Counter(each["group"] for each in said)
    assert counts == dict(Brows=5, Eyes=14, Nose=2, Cheeks=3, Jaw=4, Mouth=23, Tongue=1)
    twins = {name: each["twin"] for name, each in zip(arkit.NAMES, said, strict=True)}
    paired = {name: twin for name, twin in twins.items() if twin is not None}
    assert len(paired) == 36 and all(paired[twin] == name for name, twin in paired.items())
    whole = {"jawLeft", "jawRight", "mouthLeft", "mouthRight"}  # ways, not sides
    assert {name for name in arkit.NAMES if name.endswith(("Left", "Right"))} - {*paired} == whole
    lids = page.evaluate("['eyelid_left', 'browDown_L'].map((n) => Fields.movements.describe(n))")
    assert [each["label"] for each in lids] == ["Lid, left", "Down, left"]
    assert [each["twin"] for each in lids] == ["eyelid_right", "browDown_R"]


@needs_browser
def test_splines_and_steps_are_sampled_as_the_format_says(page):
    """A cubic through three keys with its own slopes is that cubic."""
    times = np.array([0.0, 1.0, 3.0])
    cubic = np.polynomial.Polynomial([0.5, -2, 0, 0.25])
    keys = np.stack([cubic.deriv()(times), cubic(times), cubic.deriv()(times)], axis=1)
    channels = [
        dict(node=1, path="translation", interpolation="CUBICSPLINE", values=np.repeat(keys, 3)),
        dict(node=2, path="translation", interpolation="STEP", values=np.repeat(times, 3)),
    ]
    listed = json.dumps([each | {"values": each["values"].tolist()} for each in channels])
    clip = f"{{ channels: {listed}.map((c) => ({{ ...c, times: new Float32Array({times.tolist()}), "
    clip += "values: new Float32Array(c.values) })) }"
    for time in (-1.0, 0.0, 0.4, 1.0, 2.2, 3.0, 9.0):
        moved = f"Fields.stage.view.pose.toTime({clip}, {time}), Fields.stage.view.pose.moved"
        smooth, steps = (page.evaluate(f"({moved}[{node}].translation)") for node in (1, 2))
        held = min(max(time, 0), 3)
        assert smooth == pytest.approx([cubic(held)] * 3, abs=1e-5)
        assert steps == [times[times <= held].max()] * 3


@needs_browser
def test_a_lost_context_comes_back_with_the_head_as_it_was(page):
    rest = canvas(page)
    set_slider(page, "[data-movement=jawOpen]", 1)
    before = changed(page, rest)
    page.evaluate("Fields.lost = Fields.stage.view.renderer.gl.getExtension('WEBGL_lose_context')")
    page.evaluate("Fields.lost.loseContext()")
    page.wait(f"{part('message')}.textContent.includes('busy')")
    page.evaluate("Fields.lost.restoreContext()")
    page.wait(f"{part('message')}.hidden")
    for _ in range(100):  # the texture is decoded anew, beside the page
        if same := (canvas(page) == before).all():
            break
        sleep(0.1)
    assert same


@needs_browser
def test_faces_without_a_head_say_so_whatever_becomes_of_the_context(page):
    pick(page, NAMES.index("flat"))
    page.wait(STILL)
    page.evaluate("Fields.lost = Fields.stage.view.renderer.gl.getExtension('WEBGL_lose_context')")
    page.evaluate("Fields.lost.loseContext()")
    page.wait("Fields.stage.view.renderer.gl.isContextLost()")
    pick(page, NAMES.index("still"))
    page.wait(f"{part('message')}.textContent.includes('busy')")
    pick(page, NAMES.index("flat"))
    page.wait(STILL)
    page.evaluate("Fields.lost.restoreContext()")
    page.wait("!Fields.stage.view.renderer.gl.isContextLost()")
    assert "No 3D head was written" in text(page, "message")
