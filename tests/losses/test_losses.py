"""Losses by hand: values, masks, gradients, names."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax.flame.priors import between, normal
from fields_jax.losses import emotion, evidence, registry, terms
from fields_jax.losses.cycle import CycleSettings, Pool, perturb
from fields_jax.types import FieldsOutput, FlameCoefficients, FlameOutput

SETTINGS = evidence.LossSettings(
    gt_metric="coefficient",
    intensity_weighting=0.0,
    class_weights=(),
    va_min_count=4,
    region_growth=(0.5, 0.2),
)
CYCLE = CycleSettings(
    noise=0.2, limit=4.0, jaw_noise=(0.2, 0.02, 0.02), jaw_limit=0.5, eyelid_noise=0.25
)


def total(values):
    return jnp.sum(values)


def value_of(name, e):
    return registry.reduce(registry.TERMS[name], e, total)


def gradient_of(name, e):
    """A term and its gradient with respect to everything that networks make."""
    made = ("output", "landmarks", "reconstruction", "tokens_again", "features")
    made += ("emotion_features", "cycle", "cycle_tokens")

    def value(made):
        return value_of(name, dataclasses.replace(e, **made))

    return jax.value_and_grad(value)({key: getattr(e, key) for key in made})


def rng_array(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def make_evidence(head, count=6, size=8, settings=SETTINGS) -> evidence.Evidence:
    """Random predictions and targets with every label present."""
    landmarks = {"landmarks_68": 68, "landmarks_105": 105, "landmarks_203": 203}
    on = jnp.ones(count, bool)
    batch = {name: rng_array(i, count, n, 2) for i, (name, n) in enumerate(landmarks.items())}
    batch |= {f"has_{name}": on for name in (*landmarks, "annotated_68")}
    batch |= dict(
        image=jax.random.uniform(jax.random.key(0), (count, size, size, 3)),
        expression=rng_array(4, count, 6),
        jaw=rng_array(5, count, 3),
        eyelid=rng_array(6, count, 2),
        shape=rng_array(17, count, 9),  # records hold more than a model may read
        has_shape=on,
        has_flame=on,
        valence=jnp.linspace(-0.8, 0.6, count),
        arousal=jnp.linspace(0.7, -0.2, count),
        has_va=on,
        emotion=jnp.arange(count),
        has_emotion=on,
    )
    coefficients = FlameCoefficients(
        shape=rng_array(7, count, 7),
        expression=rng_array(8, count, 6),
        jaw=rng_array(9, count, 3),
        eyelid=rng_array(10, count, 2),
        pose=rng_array(11, count, 3),
        camera=rng_array(12, count, 3),
    )
    points = {name: rng_array(20 + i, count, n, 3) for i, (name, n) in enumerate(landmarks.items())}
    face = FlameOutput(
        vertices=None, joints=None, landmarks_68_static=points["landmarks_68"], **points
    )
    output = FieldsOutput(
        coefficients=coefficients,
        tokens=rng_array(13, count, 4, 5),
        logits=rng_array(14, count, 8),
        valence=rng_array(15, count),
        arousal=rng_array(16, count),
    )
    changed = coefficients.replace(expression=coefficients.expression + 1)
    return evidence.Evidence(
        batch=batch,
        settings=settings,
        head=head,
        gram=evidence.basis_gram(head, "expression", 6),
        shape_gram=evidence.basis_gram(head, "shape", 7),
        output=output,
        landmarks=face,
        reconstruction=jnp.zeros((count, size, size, 3)),
        tokens_again=output.tokens + 2,
        features=([jnp.ones((count, 2, 2, 3))] * 2, [jnp.zeros((count, 2, 2, 3))] * 2),
        emotion_features=(jnp.full((count, 5), 3.0), jnp.ones((count, 5))),
        base=changed,
        cycle=changed,
        perturbed=coefficients,
        cycle_tokens=output.tokens + jnp.arange(4.0)[None, :, None] + 1,
        cycle_tokens_target=output.tokens,
    )


def test_every_term_is_a_finite_differentiable_scalar(tiny_head):
    e = make_evidence(tiny_head)
    zero = {"base_jaw", "base_shape", "cycle_jaw", "cycle_eyelid", "cycle_shape"}
    for name, term in registry.TERMS.items():
        value = registry.reduce(term, e, total)
        assert value.shape == () and np.isfinite(value), name
        assert (value == 0) == (name in zero), name
        _, gradient = gradient_of(name, e)
        leaves = jax.tree.leaves(gradient)
        assert all(np.isfinite(leaf).all() for leaf in leaves), name
        # A squared error has no gradient where it is 0.
        assert name in zero or any(np.any(leaf != 0) for leaf in leaves), name


def test_values_by_hand(tiny_head):
    e = make_evidence(tiny_head)
    batch, output = e.batch, e.output
    value = {k: float(registry.reduce(term, e, total)) for k, term in registry.TERMS.items()}
    difference = np.asarray(e.landmarks.landmarks_68[..., :2] - batch["landmarks_68"])
    assert value["landmark_contour"] == pytest.approx((difference[:, :17] ** 2).mean(), rel=1e-5)
    assert value["landmark_68"] == pytest.approx((difference**2).mean(), rel=1e-5)
    assert value["l1"] == pytest.approx(float(batch["image"].mean()), rel=1e-5)
    assert value["token"] == pytest.approx(4 * 2.0**2, rel=1e-5)
    assert value["perceptual"] == pytest.approx(2.0)
    assert value["emotion_feature"] == pytest.approx(4.0)
    assert value["base_expression"] == pytest.approx(1.0, rel=1e-5)
    assert value["base_jaw"] == 0 == value["cycle_shape"]
    assert value["cycle_expression"] == pytest.approx(1.0, rel=1e-5)
    assert value["cycle_token"] == pytest.approx(1.0, rel=1e-5)  # the coarsest token only
    assert value["reg_jaw"] == pytest.approx(float((output.coefficients.jaw**2).mean()), rel=1e-5)
    gap = np.asarray(output.coefficients.expression - batch["expression"])
    assert value["gt_expression"] == pytest.approx((gap**2).mean(), rel=1e-5)


def test_points_that_nobody_annotated_place_a_region_and_teach_nothing(tiny_head):
    e = make_evidence(tiny_head)
    unsure = jnp.zeros_like(e.batch["has_annotated_68"])
    e = dataclasses.replace(e, batch=e.batch | {"has_annotated_68": unsure})
    assert value_of("landmark_contour", e) == 0 == value_of("landmark_68", e)
    assert value_of("region_l1", e) > 0


def test_vertex_metric_is_the_mean_squared_vertex_distance_in_mm(tiny_head):
    e = make_evidence(tiny_head)
    e = dataclasses.replace(e, settings=dataclasses.replace(SETTINGS, gt_metric="vertex"))
    basis = 1000 * tiny_head.expression_basis[tiny_head.face_vertices]
    gap = np.asarray(e.output.coefficients.expression - e.batch["expression"])
    moved = np.einsum("vke,be->bvk", basis, gap)
    expected = (moved**2).sum(-1).mean()
    assert float(value_of("gt_expression", e)) == pytest.approx(expected, rel=1e-4)


def test_identity_is_compared_in_the_same_metric(tiny_head):
    e = make_evidence(tiny_head)
    gap = np.asarray(e.output.coefficients.shape - e.batch["shape"][:, :7])
    assert float(value_of("gt_shape", e)) == pytest.approx((gap**2).mean(), rel=1e-5)
    e = dataclasses.replace(e, settings=dataclasses.replace(SETTINGS, gt_metric="vertex"))
    basis = 1000 * tiny_head.shape_basis[tiny_head.face_vertices][..., :7]
    expected = (np.einsum("vke,be->bvk", basis, gap) ** 2).sum(-1).mean()
    assert float(value_of("gt_shape", e)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["landmark_contour", "landmark_68", "landmark_105"])
def test_landmarks_by_their_distance(tiny_head, name):
    """Against the formula; an outlier counts by its distance, not by its square."""
    e = make_evidence(tiny_head)
    settings = dataclasses.replace(SETTINGS, landmark_metric="distance")
    e = dataclasses.replace(e, settings=settings)
    points = "landmarks_105" if name == "landmark_105" else "landmarks_68"
    gap = np.asarray(getattr(e.landmarks, points)[..., :2] - e.batch[points])
    chosen = gap[:, :17] if name == "landmark_contour" else gap
    expected = np.linalg.norm(chosen, axis=-1).mean()
    assert float(value_of(name, e)) == pytest.approx(expected, rel=0.01)
    far = e.batch[points] + 100.0 * (jnp.arange(6) == 0)[:, None, None]
    moved = dataclasses.replace(e, batch=e.batch | {points: far})
    grown = float(value_of(name, moved)) - expected
    assert grown == pytest.approx(100 * np.sqrt(2) / 6, rel=0.05)


def test_distances_have_a_gradient_at_nothing():
    zero = jnp.zeros((1, 3, 2))
    gradient = jax.grad(lambda x: terms.point_error(x, zero, "distance").sum())(zero)
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("name", sorted(registry.TERMS))
def test_an_unlabelled_example_changes_nothing_even_when_nan(tiny_head, name):
    """Flags decide: a masked example may hold anything, in the value and in the gradient."""
    e = make_evidence(tiny_head)
    flags = [key for key in e.batch if key.startswith("has_")]
    batch = dict(e.batch, **{key: e.batch[key].at[2].set(False) for key in flags})
    labels = [
        key for key in batch if not key.startswith("has_") and key not in ("image", "emotion")
    ]
    spoilt = dict(batch, **{key: batch[key].at[2].set(jnp.nan) for key in labels})

    clean, dirty = (
        gradient_of(name, dataclasses.replace(e, batch=evidence.clear_absent(each)))
        for each in (batch, spoilt)
    )
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(dirty))


def test_a_batch_without_labels_is_a_finite_zero(tiny_head):
    e = make_evidence(tiny_head)
    off = {k: jnp.zeros_like(v) for k, v in e.batch.items() if k.startswith("has_")}
    e = dataclasses.replace(e, batch=e.batch | off)
    labelled = ["emotion", "va_mse", "va_pcc", "va_ccc", "gt_expression", "gt_jaw", "gt_eyelid"]
    labelled += [name for name in registry.TERMS if name.startswith("landmark")] + ["region_l1"]
    for name in labelled:
        assert float(value_of(name, e)) == 0, name


def test_soft_targets_and_intensity_by_hand():
    strength = emotion.intensity(jnp.asarray([0.3, 1.0]), jnp.asarray([0.4, 1.0]))
    np.testing.assert_allclose(strength, [0.5, 1.0], rtol=1e-6)
    targets = emotion.soft_targets(jnp.asarray([1, 0]), jnp.asarray([0.25, 0.5]))
    np.testing.assert_allclose(targets[0, :2], [0.75, 0.25])
    np.testing.assert_allclose(targets[1], np.eye(8)[0])
    uniform = emotion.class_error(jnp.zeros((2, 8)), targets, jnp.ones(8))
    np.testing.assert_allclose(uniform, np.log(8), rtol=1e-6)


def test_hard_targets_do_not_read_the_intensity(tiny_head):
    """Soft cross entropy is linear in the target, so the hard one is that of intensity 1."""
    e = make_evidence(tiny_head)
    weak = e.batch | {"valence": e.batch["valence"] * 0 + 0.1, "arousal": e.batch["arousal"] * 0}
    strong = weak | {"valence": weak["valence"] * 0 + 1.0}
    hard = dataclasses.replace(e.settings, emotion_targets="hard")
    weak_soft, weak_hard, strong_soft = (
        float(value_of("emotion", dataclasses.replace(e, batch=batch, settings=settings)))
        for batch, settings in ((weak, e.settings), (weak, hard), (strong, e.settings))
    )
    assert weak_hard == pytest.approx(strong_soft, rel=1e-6)
    assert abs(weak_soft - weak_hard) > 0.01


def test_agreement_equals_numpy_and_needs_enough_samples():
    x, y = rng_array(0, 50), rng_array(1, 50) + 0.3
    x = x + y
    valid = jnp.arange(50) < 40
    pcc, ccc = emotion.agreement_losses(x, y, valid, total, 16)
    a, b = np.float64(x[:40]), np.float64(y[:40])
    covariance = ((a - a.mean()) * (b - b.mean())).mean()
    expected_ccc = 2 * covariance / (a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    np.testing.assert_allclose(1 - pcc, np.corrcoef(a, b)[0, 1], rtol=1e-4)
    np.testing.assert_allclose(1 - ccc, expected_ccc, rtol=1e-4)
    few = emotion.agreement_losses(x, y, valid, total, 41)
    assert float(few[0]) == float(few[1]) == 0
    constant = emotion.agreement_losses(jnp.ones(50), y, valid, total, 16)
    np.testing.assert_allclose(constant, [1, 1], atol=1e-5)
    gradient = jax.grad(lambda x: sum(emotion.agreement_losses(x, y, valid, total, 16)))(
        jnp.ones(50)
    )
    assert np.isfinite(gradient).all()


def test_pose_dependent_subset_follows_the_yaw():
    target = jnp.zeros((3, 4, 2))
    prediction = jnp.asarray([1.0, 2.0, 3.0, 4.0])[None, :, None] * jnp.ones((3, 4, 2))
    front, left, right = (jnp.asarray(m, bool) for m in ([1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]))
    yaw = jnp.asarray([0.0, -0.1, 0.1])
    value = terms.pose_dependent_error(prediction, target, yaw, (front, left, right))
    np.testing.assert_allclose(value, [1, (4 + 9) / 2, 16], rtol=1e-6)


def test_region_weight_counts_the_boxes():
    landmarks = np.zeros((1, 68, 2), np.float32)
    landmarks[0, 48:61] = np.linspace([-0.25, 0.25], [0.25, 0.5], 13)
    landmarks[0, 36:48] = np.linspace([-0.5, -0.5], [0.5, -0.25], 12)
    weight = np.asarray(terms.region_weight(jnp.asarray(landmarks), 16, (0.5, 0.2)))[0, ..., 0]
    centre = (2 * np.arange(16) + 1) / 16 - 1
    y, x = np.meshgrid(centre, centre, indexing="ij")
    mouth = (abs(x) <= 0.5) & (y >= 0.125) & (y <= 0.625)
    eyes = (abs(x) <= 0.7) & (y >= -0.55) & (y <= -0.2)
    np.testing.assert_array_equal(weight, mouth.astype(float) + eyes)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown loss 'landmark_204'"):
        registry.check_names(["l1", "landmark_204"])


def test_what_is_no_term_is_refused(tiny_head):
    with pytest.raises(ValueError, match="unknown need 'mesh' of a loss; known: landmarks, "):
        registry.Term(lambda e: e.output.valence, needs={"mesh"})
    e = make_evidence(tiny_head)
    reduced = registry.Term(lambda e: jnp.mean(e.output.valence))  # over all, whatever the flags
    with pytest.raises(AssertionError, match="shape"):
        registry.reduce(reduced, e, total)


def test_the_registry_says_what_terms_need():
    assert registry.needing("base") == {"base_expression", "base_jaw", "base_shape"}
    assert registry.needing("tokens") == {"token", "cycle_token"}
    assert registry.needs(["va_mse", "gt_jaw"]) == set()
    assert registry.needs(["va_ccc", "token"]) == {"moments", "reconstruction", "tokens"}
    assert registry.needs(registry.TERMS) == registry.NEEDS.keys()
    shaken = [k for k, term in registry.TERMS.items() if term.over == registry.AFFECT]
    assert shaken == ["va_mse", "va_pcc", "va_ccc"]


def test_a_label_stays_while_any_flag_speaks_for_it():
    flags = {"has_landmarks_68": [True, False, False], "has_annotated_68": [False, True, False]}
    batch = {name: jnp.asarray(flag) for name, flag in flags.items()}
    batch |= {"landmarks_68": jnp.ones((3, 68, 2)), "emotion": jnp.full(3, 5)}
    cleared = evidence.clear_absent(batch | {"has_emotion": batch["has_annotated_68"]})
    np.testing.assert_array_equal(cleared["landmarks_68"][:, 0, 0], [1, 1, 0])
    np.testing.assert_array_equal(cleared["emotion"], [-1, 5, -1])  # batch.ABSENT


def perturbed(key, count=16, templates=None, prior=None):
    coefficients = FlameCoefficients(
        shape=rng_array(0, count, 3),
        expression=rng_array(1, count, 6),
        jaw=0.1 * jnp.abs(rng_array(2, count, 3)),
        eyelid=jnp.full((count, 2), 0.5),
        pose=rng_array(4, count, 3),
        camera=rng_array(5, count, 3),
    )
    templates = rng_array(6, 3, 6) if templates is None else templates
    index = jnp.arange(count)
    pool = Pool(coefficients.expression, templates, prior)
    result = perturb(key, index, coefficients, pool, CYCLE)
    return coefficients, result


def test_cycle_groups_do_what_they_say():
    big = jnp.full((1, 6), 1000.0)
    before, after = perturbed(jax.random.key(3), templates=big)
    for name in ("shape", "pose", "camera"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    template = np.abs(after.expression).max(1) > 200
    zero = (np.asarray(after.jaw) == 0).all(1)
    assert template.sum() == zero.sum() == 4
    assert len(set(np.flatnonzero(template) % 4)) == len(set(np.flatnonzero(zero) % 4)) == 1
    assert np.abs(after.expression[zero]).max() < 1.0  # 0.2 u' N around neutral
    assert ((after.eyelid >= 0) & (after.eyelid <= 1)).all()
    assert (after.jaw[:, 0] >= 0).all() and (after.jaw[:, 0] <= 0.5).all()
    ratio = after.expression[template] / 1000
    assert ((ratio > 0.2) & (ratio < 1.55)).all()


def test_cycle_keeps_the_bounds_of_the_head_and_takes_its_unit():
    zero, one = np.zeros(6), np.ones(6)
    _, after = perturbed(jax.random.key(3), prior=between(zero, one, 0.3 * one))
    assert after.expression.min() == 0 and after.expression.max() <= 1
    # Without templates far outside, smaller units mean smaller changes.
    free = normal(6).replace(deviation=np.full(6, 1e-3, np.float32))
    _, after = perturbed(jax.random.key(3), templates=jnp.zeros((1, 6)), prior=free)
    still = (np.asarray(after.jaw) == 0).all(1)
    assert np.abs(after.expression[still]).max() < 1e-3


def test_cycle_never_pairs_a_sample_with_itself_and_does_not_depend_on_the_split():
    quiet = CycleSettings(**{**vars(CYCLE), "noise": 0.0})
    count = 16
    psi = jnp.eye(count)
    zero = jnp.zeros((count, 3))
    coefficients = FlameCoefficients(psi, psi, zero, zero[:, :2], zero, zero)
    templates = jnp.full((1, count), 50.0)

    def run(key, index, part):
        return perturb(key, index, part, Pool(psi, templates, None), quiet).expression

    key = jax.random.key(11)
    whole = run(key, jnp.arange(count), coefficients)
    halves = [
        run(key, jnp.arange(i, i + 8), jax.tree.map(lambda x, i=i: x[i : i + 8], coefficients))
        for i in (0, 8)
    ]
    np.testing.assert_array_equal(whole, np.concatenate(halves))
    pairs = [
        (i, int(np.argmax(row)))
        for i, row in enumerate(np.asarray(whole))
        if np.count_nonzero(row) == 1 and 0.25 <= row.max() <= 1.5 and row[i] == 0
    ]
    assert len(pairs) == 4 and all(i % 4 == j % 4 for i, j in pairs)
