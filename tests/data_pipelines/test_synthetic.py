"""The embedded faces: label statistics, movements, samples, pictures and the TFDS builder."""

from __future__ import annotations

import collections
import itertools

import numpy as np
import pytest
import tensorflow_datasets as tfds
from scipy.spatial.transform import Rotation

from data_pipelines.synthetic import (
    canvas,
    labels,
    movements,
    pictures,
    population,
    rendering,
    samples,
    studio,
    surface,
    synthetic_dataset_builder,
    teeth,
    views,
)
from fields_jax import batch
from fields_jax.emotions import EMOTIONS
from fields_jax.flame.procedural import procedural_head
from fields_jax.photos import crops

NAMES = ("lip_corner_up_left", "lip_corner_up_right", "chin_raise")
SIZE = 112


def concordance(a, b):
    covariance = np.cov(a, b, bias=True)[0, 1]
    return 2 * covariance / (a.var() + b.var() + (a.mean() - b.mean()) ** 2)


@pytest.fixture(scope="module")
def stage():
    return studio.open_studio(SIZE)


def rendered(stage, drawn):
    """The pictures of samples, in a batch of the size that is compiled already."""
    padded = drawn + drawn[-1:] * (pictures.BATCH - len(drawn))
    return stage.render(*pictures.stack(padded))


def draw(stage, part, split="train", *, size=(2, 8), first=0, seed=0):
    """Samples of so many subjects and images of each."""
    size = samples.Size(*size)
    return samples.samples(part, split, size, first, seed, stage)


@pytest.fixture(scope="module")
def made(stage):
    """Eight samples and records of each part."""
    result = {}
    for part in samples.PARTS:
        drawn = list(itertools.islice(draw(stage, part, size=(2, 9)), 8))
        again = itertools.islice(draw(stage, part, size=(2, 9)), 8)
        result[part] = drawn, list(pictures.records(again, stage.render, SIZE))
    return result


# Labels.


def test_class_means_predict_valence_and_arousal_as_published():
    """On AffectNet's validation list the class-mean oracle has CCC .929 and .920."""
    emotion = np.repeat(np.arange(8), 500)
    va = labels.valence_arousal(np.random.default_rng(0), emotion)
    assert concordance(labels.VA_MEAN[emotion, 0], va[:, 0]) == pytest.approx(0.929, abs=0.01)
    assert concordance(labels.VA_MEAN[emotion, 1], va[:, 1]) == pytest.approx(0.920, abs=0.01)
    strength = labels.intensity(va)
    published = [0.12, 0.69, 0.71, 0.75, 0.78, 0.83, 0.72, 0.78]
    means = [strength[emotion == c].mean() for c in range(8)]
    np.testing.assert_allclose(means, published, atol=0.06)
    assert np.abs(va).max() <= 1


def test_intensity_by_hand():
    va = np.array([[0.3, 0.4], [-0.3, -0.4], [1, 1], [0, 0]])
    np.testing.assert_allclose(labels.intensity(va), [0.5, 0.5, 1, 0])


def test_valence_and_arousal_correlate_within_a_class():
    contempt = np.full(20_000, EMOTIONS.index("contempt"))
    va = labels.valence_arousal(np.random.default_rng(0), contempt)
    assert np.corrcoef(va.T)[0, 1] == pytest.approx(-0.61, abs=0.05)


def test_annotators_err_between_neighbours_without_swamping_rare_classes():
    rng = np.random.default_rng(0)
    true = rng.choice(8, 40_000, p=labels.CLASS_PRIOR)
    told = np.array([labels.annotate_class(rng, int(c)) for c in true])
    assert np.mean(true != told) == pytest.approx(labels.LABEL_NOISE, abs=0.01)
    counts = np.zeros((8, 8))
    np.add.at(counts, (true, told), 1)
    # As labels.py and docs/data_sets.md tell.
    shares = [0.330, 0.395, 0.100, 0.060, 0.015, 0.013, 0.072, 0.015]
    np.testing.assert_allclose(counts.sum(axis=0) / len(told), shares, atol=0.005)
    assert not counts[(labels.CONFUSION == 0) & ~np.eye(8, dtype=bool)].any()
    assert (counts.argmax(axis=0) == np.arange(8)).all()  # a label's likeliest meaning is itself


# Movements and performances.


def test_a_movement_without_side_moves_both_sides():
    both = movements.components(NAMES, {"lip_corner_up": 2, "chin_raise": 1}, 4)
    np.testing.assert_array_equal(both, [2, 2, 1, 0])
    left = movements.components(NAMES, {"lip_corner_up_left": 2}, 4)
    np.testing.assert_array_equal(left, [2, 0, 0, 0])
    np.testing.assert_array_equal(left[movements.mirror(NAMES, 4)], [0, 2, 0, 0])


def test_a_head_without_the_movement_is_refused():
    with pytest.raises(ValueError, match=r"no expression component 'brow_down_left'.*procedural"):
        movements.components(NAMES, {"brow_down": 1}, 4)
    with pytest.raises(ValueError, match="chin_raise"):  # beyond the components that are stored
        movements.components(NAMES, {"chin_raise": 1}, 2)


def test_every_prototype_is_made_of_the_head_s_movements(stage):
    prototypes = [*itertools.chain(*movements.PROTOTYPES.values()), *movements.TASKS]
    for prototype in prototypes:
        movements.components(stage.names, prototype.movements, batch.N_EXPRESSION)
    assert tuple(movements.PROTOTYPES) == EMOTIONS


def test_movements_grow_differently():
    assert movements.growth("brow_down", 0.3) > 0.3 > movements.growth("lip_press", 0.3) > 0
    assert movements.jaw_growth(movements.JAW_ONSET) == 0
    for grow in (movements.jaw_growth, lambda s: movements.growth("lip_press", s)):
        assert grow(0.0) == 0 and grow(1.0) == 1
        assert (np.diff([grow(s) for s in np.linspace(0, 1, 11)]) >= 0).all()


def quiet():
    return population.Noise(np.zeros(50), np.zeros(3), np.zeros(2))


def plain_person():
    return population.Person(np.zeros(300), np.ones(50), np.zeros(50))


def test_performance_by_hand(stage):
    prototype = movements.Prototype({"brow_down_left": 2.0}, jaw=0.4, lids=0.5)
    acting = population.Acting(prototype, 1.0, swapped=True, blink=0.5)
    shown = population.perform(stage.names, plain_person(), acting, quiet())
    expected = np.zeros(50)
    expected[stage.names.index("brow_down_right")] = 2
    np.testing.assert_allclose(shown.expression, expected)
    np.testing.assert_allclose(shown.jaw, [0.4, 0, 0])
    np.testing.assert_allclose(shown.eyelid, [0.75, 0.75])  # half of what was still open


@pytest.mark.parametrize(
    ("dv", "da", "rises"),
    [(1, 0, "lip_corner_up_left"), (-1, 0, "lip_corner_down_left"), (0, 1, "lid_raise_right")],
)
def test_valence_and_arousal_show_within_a_class(stage, dv, da, rises):
    va = labels.VA_MEAN[2] + np.array([dv, da]) * labels.VA_SD[2]
    shown, jaw, lids = population.nuance(2, va)
    vector = movements.components(stage.names, shown, 50)
    assert vector[stage.names.index(rises)] > 0.5
    assert (jaw > 0) == (da > 0) and lids == 0
    assert not any(population.nuance(2, labels.VA_MEAN[2]).movements.values())
    assert population.nuance(2, labels.VA_MEAN[2] - labels.VA_SD[2]).lids > 0.1  # tired lids


def test_spontaneous_sequences_are_weak_and_smooth(stage):
    seeds = [np.random.default_rng(seed) for seed in range(300)]
    strengths = np.stack([population.sequence_strengths(rng, 14) for rng in seeds])
    assert strengths.mean() == pytest.approx(0.3, abs=0.04)
    assert 0 < np.mean(strengths > 0.6) < 0.2
    rng = np.random.default_rng(0)
    faces = population.spontaneous(rng, stage.names, plain_person(), 0, 200)
    motion = np.stack([face.expression for face in faces])[:, 40:]  # unnamed: nothing but noise
    lagged = np.corrcoef(motion[1:].ravel(), motion[:-1].ravel())[0, 1]
    assert lagged == pytest.approx(population.FRAME_CORRELATION, abs=0.06)
    assert motion.std() == pytest.approx(population.TAIL_NOISE, rel=0.15)


def test_levels_grow_with_the_same_face(stage):
    rng = np.random.default_rng(3)
    faces = population.graded(rng, stage.names, plain_person(), 6, (0.33, 0.66, 1.0))
    frown = [face.expression[stage.names.index("brow_down_left")] for face in faces]
    assert frown[0] < frown[1] < frown[2]


# Views and paint.


def test_views_stay_within_their_ranges():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        view = views.wild_view(rng)
        yaw, pitch, roll = Rotation.from_rotvec(view.pose).as_euler("xyz", degrees=True)[[1, 0, 2]]
        assert abs(yaw) <= 45 and abs(pitch) <= 20 and abs(roll) <= 15
        np.testing.assert_allclose(np.linalg.norm(view.light_direction, axis=1), 1)
        assert (view.light_colour >= 0).all() and view.framing[0] == pytest.approx(0.5, rel=0.031)


def test_developing_keeps_order_and_blur_keeps_the_mean():
    ramp = np.tile(np.linspace(0, 1, 16)[:, None, None], (1, 16, 3))
    image = canvas.develop(np.random.default_rng(0), ramp, noise=0.0, blur=0.0)
    assert (np.diff(image[:, 0, 0].astype(int)) > 0).all() and image[0, 0, 0] == 0
    flat = np.full((8, 8, 3), 0.2)
    sharp, soft = (canvas.develop(np.random.default_rng(0), flat, 0.0, b) for b in (0.0, 0.3))
    np.testing.assert_array_equal(sharp, soft)


def test_rim_leaves_the_hull_unchanged():
    rng = np.random.default_rng(0)
    for count in (3, 10, 500, 2000):
        points = rng.normal(50, 15, (count, 2)).clip(1, 110)
        rim = pictures._rim(points)
        expected = crops.hull_mask(points, SIZE, SIZE)
        np.testing.assert_array_equal(crops.hull_mask(rim, SIZE, SIZE), expected)
    assert len(rim) <= 2 * SIZE


# The head made ready.


def test_teeth_follow_skull_and_jaw_and_hide_behind_the_lips():
    model = procedural_head()
    grown, index = teeth.with_teeth(model)
    assert len(grown.template) == len(model.template) + len(index)
    assert grown.faces.max() == len(grown.template) - 1
    jaw = np.asarray(grown.skin_weights)[index, 2]
    half = len(index) // 2
    assert (jaw[:half] < 0.5).all() and (jaw[half:] > 0.5).all()
    assert not np.asarray(grown.expression_basis)[index].any()
    lips = np.asarray(model.template)[np.asarray(model.regions["lips"])]
    strip = np.asarray(grown.template)[index]
    middle = np.abs(lips[:, 0]) < 0.003
    assert strip[:, 2].max() < lips[middle, 2].min()
    a, b, c = np.asarray(grown.template)[np.asarray(grown.faces)[-4 * (half // 2 - 1) :]].swapaxes(
        0, 1
    )
    assert (np.cross(b - a, c - a)[:, 2] > 0).all()  # they face the viewer


def test_surface_knows_open_from_hidden(stage):
    openness, weight = stage.surface.openness, stage.surface.weight
    regions = procedural_head().regions
    assert np.median(openness[np.asarray(regions["forehead"])]) > 0.8
    assert np.median(openness[np.asarray(regions["mouth_interior"])]) < 0.3
    for name in ("lips", "brows", "lashes", "eyeballs", "teeth", "mouth"):
        assert weight[name].max() > 0.75 and weight[name].min() >= 0
        assert np.mean(weight[name] > 0.5) < 0.2
    hidden = weight["eyeballs"] + weight["teeth"] + weight["mouth"] > 0
    assert not stage.surface.hair(0.01)[hidden].max() > 0.01


def test_signed_distance_by_hand():
    line = np.stack([np.arange(6.0), np.zeros(6), np.zeros(6)], axis=1)
    distance = surface.signed_distance(line, np.array([0, 1, 2]))
    np.testing.assert_allclose(distance, [-3, -2, -1, 1, 2, 3])


# Samples and records.


def test_what_each_part_tells(made):
    told = {
        "spont4d": {"has_flame", "has_shape"},
        "wild2d": {"has_va", "has_emotion", "has_eval"},
        "levels": {"has_emotion", "has_eval"},
        "wide": {"has_flame", "has_shape"},
    }
    marks = {f"has_{name}" for name in (*batch.LANDMARK_SETS, "annotated_68")}
    told = {part: flags | marks for part, flags in told.items()}
    for part, (drawn, records) in made.items():
        for sample, record in zip(drawn, records, strict=True):
            emotional = part == "wide" and "emotion" in sample.labels
            shown = {"has_va", "has_emotion"} if emotional else set()
            assert {flag for flag in batch.FLAGS if record[flag]} == told[part] | shown
            assert record["subject"] >= 0
            assert (record["level"] >= 0) == (part == "levels")
            key = "expression" if part in samples.LEARNT else "eval_expression"
            np.testing.assert_array_equal(record[key], sample.performance.expression)


def test_records_depend_on_the_seed_alone(stage, made):
    for part, (_, records) in made.items():
        images = 8 if part == "spont4d" else 3  # another amount of data
        first = [next(draw(stage, part, size=(2, images), seed=seed)) for seed in (0, 1)]
        same, other = pictures.records(first, stage.render, SIZE)
        for key, value in records[0].items():
            np.testing.assert_array_equal(same[key], value, err_msg=key)
        assert (other["image"] != same["image"]).mean() > 0.5


def test_landmarks_and_hull_lie_on_the_rendered_face(stage, made):
    for part, (drawn, records) in made.items():
        picture = rendered(stage, drawn)
        for index, record in enumerate(records):
            exact = (np.asarray(picture.landmarks_105[index]) + 1) * SIZE / 2
            row, column = np.floor(exact).astype(int).T[::-1]
            covered = np.asarray(picture.coverage[index])[row, column] > 0
            # Of a profile the landmarks of the rim may fall into the pixel beyond it.
            assert covered.mean() > 0.95 if part == "wide" else covered.all()
            inside = (record["face_mask"][row, column, 0] == 0).mean()
            assert inside > (0.9 if part == "wide" else 0.97)
            low, high = record["face_box"][:2], record["face_box"][2:]
            spread = 0.08 if part == "wide" else 0.04
            assert np.mean(high - low) == pytest.approx(SIZE / 2, rel=spread)
            off = np.abs(record["landmarks_105"] - exact)
            if part == "wild2d":
                assert 0.2 < off.mean() < 1.0  # about 1 % of 56 pixels
            else:
                assert off.max() < 1e-3


def test_faces_are_lit_and_eyes_are_where_they_should_be(stage, made):
    drawn, _ = made["spont4d"]
    picture = rendered(stage, drawn)
    radiance = np.asarray(picture.radiance).mean(axis=-1)
    coverage = np.asarray(picture.coverage)
    assert coverage.mean() > 0.25 and (coverage <= 1 + 1e-6).all()
    assert 0.01 < radiance[coverage > 0.9].mean() < 1
    assert not radiance[coverage == 0].any()


def test_shrink_averages_over_pixels():
    image = np.arange(9.0).reshape(1, 1, 3, 3).astype(np.float32)
    np.testing.assert_allclose(rendering._shrink(image, 1)[0, 0, 0, 0], 4)
    rows = np.asarray(rendering._shrink(image, 2))[0, :, :, 0].mean(axis=1)
    np.testing.assert_allclose(rows, [2, 6], rtol=1e-6)  # (0+1/2)/1.5 rows above, likewise below


def test_splits_share_no_subject_and_test_classes_are_balanced(stage):
    for part, size in samples.SIZES["tiny"].items():
        train, test = (
            list(
                draw(stage, part, split, size=size[split],
                     first=samples.numbers(part, split, 0, 1)[0].start)
            )
            for split in samples.SPLITS
        )  # fmt: skip
        assert len(train) == np.prod(size["train"]) and len(test) == np.prod(size["test"])
        subjects = [{sample.labels["subject"] for sample in half} for half in (train, test)]
        assert not subjects[0] & subjects[1]
        assert len({sample.id for sample in train + test}) == len(train) + len(test)
        if part == "wild2d":
            told = [sample.labels["emotion"] for sample in test]
            np.testing.assert_array_equal(np.bincount(told, minlength=8), [2] * 8)


@pytest.mark.parametrize(("part", "classes"), [("wild2d", range(8)), ("levels", range(1, 8))])
def test_demo_sizes_balance_the_test_classes(stage, part, classes, monkeypatch):
    monkeypatch.setattr(samples, "appearance", lambda rng, surface: None)  # counting needs no looks
    size = samples.SIZES["demo"][part]["test"]
    first = samples.numbers(part, "test", 0, 1)[0].start
    drawn = draw(stage, part, "test", size=size, first=first)
    counts = collections.Counter(sample.labels["emotion"] for sample in drawn)
    assert sum(counts.values()) == size.subjects * size.images
    assert set(counts) == set(classes)
    rows = 3 if part == "levels" else 1  # strengths of each emotion
    assert max(counts.values()) - min(counts.values()) <= rows


# The builder.


def test_unknown_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"unknown size 'huge'.*known: demo, tiny"):
        synthetic_dataset_builder.Builder(size="huge", data_dir=tmp_path, config="levels")


class TinyFaces(synthetic_dataset_builder.Builder):
    """The builder at a size for tests."""

    name = "tiny_faces"

    def __init__(self, **kwargs):
        super().__init__(size="tiny", **kwargs)


class SyntheticBuilderTest(tfds.testing.DatasetBuilderTestCase):
    """tfds's own checks: features, splits, reading back."""

    DATASET_CLASS = TinyFaces
    BUILDER_CONFIG_NAMES_TO_TEST = ("levels",)
    SPLITS = {"train": 24, "test": 12}  # noqa: RUF012
    SKIP_CHECKSUMS = True

    @classmethod
    def setUpClass(cls):
        cls.EXAMPLE_DIR = tfds.testing.make_tmp_dir()  # nothing is downloaded
        super().setUpClass()
