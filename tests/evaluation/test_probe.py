"""The recognition probe: its network and loss by hand, its training, and that it repeats itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from fields_jax.evaluation import probe
from fields_jax.evaluation.probe import Labels, Probe, Recipe

SMALL = Recipe(width=32, depth=2, rate=3e-3, batch=32, epochs=12)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make_data(rng, n=480, *, strength=3.0):
    """Codes of ten numbers, eight of which tell the class, and valence by two of them."""
    emotion = (np.arange(n) % 8).astype(np.int32)
    codes = rng.normal(size=(n, 10)).astype(np.float32)
    codes[:, :8] += strength * np.eye(8, dtype=np.float32)[emotion]
    valence = np.tanh(0.5 * (codes[:, 8] + codes[:, 9]))
    affect = np.stack([valence, np.full(n, np.nan)], axis=1).astype(np.float32)
    return codes, Labels(emotion, affect), np.arange(n) < 360, (np.arange(n) >= 360)


def test_the_network_is_emocas(rng):
    variables = Probe(2048, 4).init(jax.random.key(0), jnp.zeros((1, 353)))
    shapes = jax.tree.map(np.shape, variables["params"])
    assert [shapes[f"hidden_{k}"]["kernel"] for k in range(4)] == [(353, 2048)] + 3 * [(2048, 2048)]
    assert shapes["output"] == {"kernel": (2048, 10), "bias": (10,)}
    bound = 1 / np.sqrt(353)  # torch's linear layer
    kernel = np.asarray(variables["params"]["hidden_0"]["kernel"])
    assert np.abs(kernel).max() <= bound and kernel.std() == pytest.approx(bound / np.sqrt(3), 0.01)


def test_a_pass_by_hand(rng):
    codes = rng.normal(size=(6, 3)).astype(np.float32)
    model = Probe(5, 1)
    variables = model.init(jax.random.key(1), codes)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    for train in (True, False):
        x = codes @ params["hidden_0"]["kernel"] + params["hidden_0"]["bias"]
        # Of the batch, or the running ones, which are 0 and 1 so far.
        mean, variance = (x.mean(0), x.var(0)) if train else (0, 1)
        x = (x - mean) / np.sqrt(variance + 1e-5)
        x = np.where(x > 0, x, 0.2 * x)
        expected = x @ params["output"]["kernel"] + params["output"]["bias"]
        found, _ = model.apply(variables, codes, train, mutable=["batch_stats"])
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_loss_is_that_of_scikit_learn_and_scipy(rng):
    output = rng.normal(size=(40, 10)).astype(np.float32)
    emotion = rng.integers(-1, 8, 40).astype(np.int32)
    emotion[:8] = np.arange(8)
    affect = rng.uniform(-1, 1, (40, 2)).astype(np.float32)
    affect[30:, 0] = np.nan
    weights = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    known = emotion >= 0
    shares = np.exp(output[:, :8].astype(np.float64))
    shares /= shares.sum(1, keepdims=True)
    expected = metrics.log_loss(emotion[known], shares[known], labels=range(8))
    correlations, concordances = [], []
    for axis, weight in enumerate(weights[:2]):
        rows = np.isfinite(affect[:, axis])
        y, x = affect[rows, axis].astype(np.float64), output[rows, 8 + axis].astype(np.float64)
        expected += weight * metrics.mean_squared_error(y, x)
        correlations.append(stats.pearsonr(y, x).statistic)
        spread = y.var() + x.var() + (y.mean() - x.mean()) ** 2
        concordances.append(1 - metrics.mean_squared_error(y, x) / spread)
    expected += weights[2] * (1 - np.mean(correlations)) + weights[3] * (1 - np.mean(concordances))
    found = probe.probe_loss(jnp.asarray(output), Labels(emotion, affect), jnp.asarray(weights))
    assert float(found) == pytest.approx(expected, abs=1e-4)


def test_labels_that_are_missing_cost_nothing():
    output = jnp.ones((4, 10))
    none = Labels(np.full(4, -1, np.int32), np.full((4, 2), np.nan, np.float32))
    value, gradient = jax.value_and_grad(probe.probe_loss)(output, none, jnp.ones(4))
    assert float(value) == 0 and not np.asarray(gradient).any()


def test_it_learns_what_is_in_the_codes_and_nothing_else(rng):
    for strength, lowest, highest in ((5.0, 0.9, 1.0), (0.0, 0.0, 0.3)):
        codes, labels, train, held_out = make_data(rng, strength=strength)
        trained = probe.train_probe(codes, labels, train, held_out, SMALL, seed=0)
        shares, affect = probe.predict_probe(trained, SMALL, codes)
        np.testing.assert_allclose(shares.sum(1), 1)
        rate = (shares.argmax(1) == labels.emotion)[held_out].mean()
        assert lowest <= rate <= highest
        valence = labels.affect[:, 0]
        assert stats.pearsonr(affect[held_out, 0], valence[held_out]).statistic > 0.8


def test_a_seed_gives_the_same_bits_and_another_seed_others(rng):
    codes, labels, train, held_out = make_data(rng)
    recipe = Recipe(width=64, depth=3, steps=40)
    first, again, other = (
        probe.train_probe(codes, labels, train, held_out, recipe, seed) for seed in (0, 0, 1)
    )
    pairs = zip(*map(jax.tree.leaves, (first.variables, again.variables)), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert first.losses == again.losses != other.losses


def test_it_ends_after_ten_checks_without_a_better_and_keeps_the_best(rng):
    codes, labels, train, held_out = make_data(rng, strength=0.0)
    recipe = Recipe(width=64, depth=2, rate=1e-2, epochs=50)
    trained = probe.train_probe(codes, labels, train, held_out, recipe, seed=0)
    between = trained.steps // len(trained.losses)
    assert between == -(-360 // 64) // 5
    assert len(trained.losses) - 1 - np.argmin(trained.losses) == 10
    assert trained.best_step == between * (np.argmin(trained.losses) + 1)
    shorter = probe.train_probe(
        codes, labels, train, held_out, Recipe(64, 2, 1e-2, steps=trained.best_step), seed=0
    )
    pairs = zip(*map(jax.tree.leaves, (trained.variables, shorter.variables)), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_classes_are_drawn_equally_often():
    emotion = np.repeat(np.arange(-1, 8), [10, 800, 100, 50, 20, 10, 5, 5, 2])
    drawn = probe._Draws(emotion, True, np.random.default_rng(0))(9000)
    counts = np.bincount(emotion[drawn] + 1, minlength=9)
    np.testing.assert_allclose(counts, 1000, atol=4 * np.sqrt(1000))
    plain = probe._Draws(emotion, False, np.random.default_rng(0))(9000)
    assert (emotion[plain] == 0).mean() == pytest.approx(0.8, abs=0.02)


def test_what_cannot_be_trained_is_an_error(rng):
    codes, labels, train, _ = make_data(rng)
    with pytest.raises(ValueError, match="0 to check"):
        probe.train_probe(codes, labels, train, np.zeros(480, bool), SMALL, seed=0)
    broken = np.where(np.arange(480)[:, None] == 0, np.float32(np.inf), codes)
    with pytest.raises(FloatingPointError, match="no check of the probe is finite"):
        probe.train_probe(broken, labels, train, ~train, Recipe(8, 1, steps=30), seed=0)
