"""The wide faces: any face before any camera."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.synthetic import (
    appearance,
    camera,
    movements,
    pictures,
    population,
    rendering,
    samples,
    scenes,
    studio,
    synthetic_dataset_builder,
    teeth,
    views,
)
from fields_jax.flame import flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.render import project, rasterize
from fields_jax.types import PARTS
from tests.support.portraits import coefficients

SIZE = 112


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def stage():
    return studio.open_studio(SIZE)


def draw(stage, count, *, seed=0):
    size = samples.Size(1 + count // 4, 4)
    return list(itertools.islice(samples.samples("wide", "train", size, 0, seed, stage), count))


def test_pictures_differ_and_are_a_function_of_the_seed(stage):
    first, again = (
        [each["image"] for each in pictures.records(draw(stage, 6), stage.render, SIZE)]
        for _ in range(2)
    )
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len({image.tobytes() for image in first}) == 6


def test_labels_say_what_is_shown_and_an_emotion_only_where_one_is(stage):
    drawn = draw(stage, 64)
    emotional = [sample for sample in drawn if "emotion" in sample.labels]
    assert 15 < len(emotional) < 50
    for sample in drawn:
        np.testing.assert_array_equal(sample.labels["jaw"], sample.performance.jaw)
        assert sample.labels["eyelid"].min() >= 0 and sample.labels["eyelid"].max() <= 1
        assert ("valence" in sample.labels) == ("emotion" in sample.labels)
    assert len({sample.labels["emotion"] for sample in emotional}) > 4


def test_any_face_opens_jaw_and_lids_by_any_amount_and_winks():
    names = procedural_head().expression_names
    rng = generator()
    who = population.person(rng)
    shown = [population.varied(rng, names, who) for _ in range(400)]
    jaw = np.array([each.jaw[0] for each in shown])
    lids = np.array([each.eyelid for each in shown])
    assert (jaw > 0.35).mean() > 0.05 and (jaw < 0.03).mean() > 0.2
    assert (lids.min(axis=1) > 0.5).mean() > 0.08
    assert (abs(lids[:, 0] - lids[:, 1]) > 0.7).any()
    moved = abs(
        np.array([each.expression[: len(names)] for each in shown]) - who.rest[: len(names)]
    )
    assert (moved.max(axis=0) > 1.0).all()  # every named movement is seen


def test_heads_turn_to_profile_and_lights_come_from_anywhere():
    rng = generator()
    drawn = [views.wide_view(rng) for _ in range(400)]
    turned = np.linalg.norm([view.pose for view in drawn], axis=1)
    assert np.rad2deg(turned).max() > 70 and np.median(np.rad2deg(turned)) < 50
    assert {view.nearness > 0 for view in drawn} == {True, False}
    assert min(view.light_direction[0, 2] for view in drawn) < 0  # from behind too


def test_a_near_camera_moves_landmarks_as_perspective_does(stage):
    """Against a pinhole camera before the face, written out."""
    sample = draw(stage, 1)[0]
    near = sample._replace(view=sample.view._replace(nearness=2.0))
    far = sample._replace(view=sample.view._replace(nearness=0.0))
    batch = [near, far] + [far] * (pictures.BATCH - 2)
    coefficients, framing, skin, lights = pictures.stack(batch)
    picture = stage.render(coefficients, framing, skin, lights)
    head = procedural_head()
    one = jax.tree.map(lambda leaf: leaf[:1], coefficients)
    output = flame(head, one)
    middle = np.asarray(output.vertices)[0, np.asarray(head.face_vertices)].mean(axis=0)
    points = np.asarray(output.landmarks_68)[0] - middle
    pinhole = points[:, :2] * (0.5 / (0.5 - points[:, 2:]))

    def shape(marks):  # free of place and scale
        marks = marks - marks.mean(axis=0)
        return marks / np.linalg.norm(marks)

    seen = np.asarray(picture.landmarks_68)
    np.testing.assert_allclose(shape(seen[0] * (1, -1)), shape(pinhole), atol=2e-3)
    np.testing.assert_allclose(shape(seen[1] * (1, -1)), shape(points[:, :2]), atol=2e-3)
    assert abs(shape(seen[0]) - shape(seen[1])).max() > 5e-3
    camera_ = rendering._frame(output.vertices[:, head.face_vertices], framing[1:2])
    exact = np.asarray(project(output.landmarks_68, camera_))[0, :, :2]
    np.testing.assert_allclose(seen[1], exact, atol=2e-3)


def test_skin_that_is_squeezed_shows_wrinkles_and_hollows_are_dark():
    head = procedural_head()
    around = rendering.rings(np.asarray(head.faces), np.asarray(head.template))
    points = np.asarray(head.template)[None]
    skin = rendering.Skin(*[np.zeros(1, np.float32)] * 4, np.zeros(1), np.ones(1))
    shape = np.zeros((1, 1), np.float32)
    normals = np.zeros_like(points)

    def dark(vertices):
        found = rendering._creases(around, head, shape, vertices, normals, skin)
        return np.asarray(found)[0]

    assert not dark(points).any()
    squeezed = dark((points * (1, 0.9, 1)).astype(np.float32))
    forehead = np.asarray(head.regions["forehead"])
    assert squeezed[forehead].max() > 0.5 and squeezed[forehead].min() < 0.2  # in lines
    assert not dark((points * 1.05).astype(np.float32)).any()  # stretched


def test_rings_hold_every_edge_once_in_either_direction():
    head = procedural_head()
    faces, points = np.asarray(head.faces), np.asarray(head.template)
    around = rendering.rings(faces, points)
    found = [
        (row, near)
        for ring in around
        for row, neighbours in zip(ring.rows, np.asarray(ring.neighbours), strict=True)
        for near in neighbours
        if near != row
    ]
    expected = {(a, b) for face in faces.tolist() for a in face for b in face if a != b}
    assert len(found) == len(set(found)) and set(found) == expected
    np.testing.assert_array_equal(
        np.sort(np.concatenate([ring.rows for ring in around])), np.arange(len(points))
    )
    few, many = (np.asarray(ring.neighbours).shape for ring in around)
    assert few[1] <= 8 and many[0] < 0.01 * len(points)
    for ring in around:
        np.testing.assert_allclose(np.asarray(ring.share).sum(axis=1), 1, rtol=1e-5)


def test_looks_keep_the_eyes_and_light_the_mouth_anew(stage):
    weight = stage.surface.weight
    tongues, white = [], []
    for seed in range(24):
        plain = appearance.appearance(generator(seed), stage.surface)
        wide = appearance.wide_appearance(generator(seed), stage.surface)
        eyes, mouth = weight["eyeballs"] >= 1, weight["mouth"] >= 1
        np.testing.assert_allclose(wide.albedo[eyes], plain.albedo[eyes], atol=2e-3)
        outside = weight["mouth"] + weight["teeth"] <= 0
        assert wide.albedo.min() > 0 and wide.albedo[outside].max() <= 1
        lit = wide.albedo * stage.surface.openness[:, None]
        tongues.append(lit[mouth].max(axis=0))
        white.append(lit[weight["teeth"] >= 1].mean())
    tongues = np.array(tongues)
    assert (tongues[:, 0] > tongues[:, 2]).all()  # red
    # From a black hole to a tongue in full light, from teeth in shadow to white ones.
    assert tongues[:, 0].min() < 0.1 and 0.25 < tongues[:, 0].max() < 1
    assert min(white) < 0.3 and 0.5 < max(white) < 1


def test_people_who_laugh_show_more_teeth_than_short_ones_are():
    model = procedural_head()
    smile = movements.components(
        model.expression_names,
        {"lip_corner_up": 3.0, "upper_lip_raise": 1.5, "lower_lip_down": 0.8},
        model.expression_basis.shape[-1],
    )
    shown = {}
    for bite in (teeth.SHORT, teeth.FULL):
        head, _ = teeth.with_teeth(model, bite)
        known = coefficients(2).replace(
            expression=jnp.stack([jnp.zeros(len(smile)), jnp.asarray(smile, jnp.float32)]),
            jaw=jnp.array([[0.0, 0, 0], [0.2, 0, 0]]),
        )
        output = flame(head, known)
        points = project(output.vertices, known.camera)
        seen = np.asarray(rasterize(points, head.faces, 256, cull=True).face_index)
        part = np.asarray(head.face_parts)[seen] == PARTS.index("teeth")
        shown[bite] = ((seen >= 0) & part).sum(axis=(1, 2))
    assert shown[teeth.SHORT][0] == shown[teeth.FULL][0] == 0  # a mouth that is shut
    assert shown[teeth.FULL][1] > 1.3 * shown[teeth.SHORT][1] > 0


def test_backdrops_and_what_is_before_the_face(stage):
    look = appearance.wide_appearance(generator(), stage.surface)._replace(hair=np.full(3, 0.1))
    marks = np.tile(np.linspace(0.3, 0.7, 68)[:, None], (1, 2))
    frame = scenes.Frame(
        np.full(2, 0.5), np.array([0.25, 0.0]), np.array([0.0, -0.25]), marks, np.ones((48, 48))
    )
    changed = 0
    for seed in range(40):
        behind = scenes.backdrop(generator(seed), 48)
        assert behind.shape == (48, 48, 3) and np.isfinite(behind).all()
        assert behind.min() >= 0 and behind.max() <= 1.5
        scene = scenes.hair_behind(generator(seed), behind, frame, look.hair)
        done = scenes.before(generator(seed), scene, frame, look)
        assert done.shape == (48, 48, 3) and np.isfinite(done).all()
        changed += not np.array_equal(done, scene)
    assert 25 < changed < 40  # some faces have nothing before them


def test_cameras_make_grey_dark_bordered_and_packed_pictures():
    scene = np.clip(generator().uniform(0, 1, (64, 64, 3)), 0, 1)
    taken = [camera.photographed(generator(seed), scene) for seed in range(60)]
    assert {(each.shape, each.dtype.name) for each in taken} == {((64, 64, 3), "uint8")}
    grey = [np.ptp(each.astype(int), axis=-1).max() <= 1 for each in taken]
    assert 1 <= sum(grey) < 20
    bordered = [(each[0] < 8).all() or (each[:, 0] < 8).all() for each in taken]
    assert 5 < sum(bordered) < 35
    means = [each.mean() for each in taken]
    assert max(means) > 200 and min(means) < 90


def test_blur_spreads_a_point_as_a_gaussian_does():
    point = np.zeros((21, 21, 1), np.float32)
    point[10, 10] = 1
    soft = camera.blurred(point, 2.0, 0.0)[..., 0]
    row = soft[10]
    assert soft.sum() == pytest.approx(1, abs=1e-5) and not soft[9].any()
    spread = np.sqrt((row * (np.arange(21) - 10) ** 2).sum())
    assert spread == pytest.approx(2, rel=0.06)  # its tails are cut at 2.5


def test_sizes_name_their_parts_and_sets_of_other_heads_a_name_of_their_own():
    assert synthetic_dataset_builder.size_configs("wide") == ["wide"]
    for name in ("ict", "wide_ict"):
        (named,) = synthetic_dataset_builder.size_configs("wide", name)
        assert named.name == "wide_ict"
