"""The emotion network that stands in for EMOCA's: it learns, and its features make a loss."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax.errors import UserError
from fields_jax.losses import terms
from fields_jax.models.emotion_network import EmotionNetwork
from fields_jax.training import emotion_network as training
from fields_jax.training import setup
from tests.support.heads import random_head
from tests.support.moods import COUNT, SIZE, moods
from tests.support.tiny_training import tiny_config

NETWORK = EmotionNetwork(width=0.25, depth=0.25)


@pytest.fixture(scope="module")
def trained():
    """Variables after sixty steps, and what was reported."""
    recipe = training.Recipe(
        steps=60,
        rate=5e-3,
        warmup=5,
        decay=0.01,
        losses={"class": 1.0, "va_mse": 1.0, "va_ccc": 1.0},
        seed=0,
    )
    reports: list[tuple[int, dict[str, float]]] = []
    batches = map(moods, itertools.count())
    variables = training.train(NETWORK, recipe, batches, lambda *said: reports.append(said))
    return variables, reports


def test_it_learns_what_pictures_show(trained):
    variables, reports = trained
    assert [step for step, _ in reports] == [15, 30, 45, 60]
    for name in ("class", "va_mse", "va_ccc"):
        assert reports[-1][1][name] < 0.5 * reports[0][1][name], name
    batch = moods(10**6)
    _, logits, valence, arousal = NETWORK.apply(variables, jnp.float32(batch["image"]) / 255)
    known = batch["has_emotion"]
    assert np.mean(np.argmax(logits, -1)[known] == batch["emotion"][known]) > 0.8
    for guess, name in ((valence, "valence"), (arousal, "arousal")):
        assert np.corrcoef(guess[known], batch[name][known])[0, 1] > 0.8


def test_losses_by_hand():
    answer = (
        jnp.zeros((9, 4)),
        jnp.zeros((9, 8)),
        jnp.full(9, 0.5),
        jnp.linspace(-1, 1, 9),
    )
    batch = {
        "emotion": jnp.array([1] * 8 + [-1]),
        "has_emotion": jnp.arange(9) < 8,
        "has_va": jnp.ones(9, bool),
        "valence": jnp.linspace(-1, 1, 9),
        "arousal": jnp.linspace(-1, 1, 9),
    }
    found = training.network_losses(answer, batch)
    assert found["class"] == pytest.approx(np.log(8), rel=1e-6)
    squares = np.mean((0.5 - np.linspace(-1, 1, 9)) ** 2)
    assert found["va_mse"] == pytest.approx(squares / 2, rel=1e-6)
    assert found["va_ccc"] == pytest.approx(0.5, abs=1e-5)  # 1 of a constant, 0 of the truth


def test_a_loss_that_is_not_finite_ends_in_one_line():
    def broken(seed):
        return moods(seed) | {"valence": np.full(COUNT, np.inf, np.float32)}

    losses = {"class": 1.0, "va_mse": 1.0, "va_ccc": 1.0}
    recipe = training.Recipe(steps=2, rate=1e-3, warmup=1, decay=0.0, losses=losses, seed=0)
    with pytest.raises(UserError, match="not finite at step 1"):
        training.train(NETWORK, recipe, map(broken, itertools.count()), lambda *said: None)


@pytest.fixture(scope="module")
def written(trained, tmp_path_factory):
    target = str(tmp_path_factory.mktemp("emotion") / "network")
    training.write_network(target, NETWORK, trained[0], {"image_size": SIZE, "measured": {}})
    return target


def test_its_features_are_compared_as_emocas_are(trained, written):
    """Equal pictures: no loss; others: a loss that the picture can lower."""
    config = tiny_config()
    config.losses.emotion_feature_weights = written
    plan = setup.plan(config, random_head())
    assert plan.phases[1].weights["emotion_feature"] == 1
    apply, variables = plan.recipe.emotion_features, plan.assets.emotion_features
    pictures = [jnp.float32(moods(seed)["image"]) / 255 for seed in (5, 6)]
    features = NETWORK.apply(trained[0], pictures[0])[0]
    np.testing.assert_allclose(apply(variables, pictures[0]), features, atol=1e-5)

    @jax.jit
    def loss(picture, other):
        return jnp.mean(terms.mean_squared(apply(variables, picture), apply(variables, other)))

    assert loss(pictures[0], pictures[0]) == 0
    before, gradient = jax.value_and_grad(loss)(*pictures)
    assert 0.05 < before < 20  # features are in standard deviations
    norms = jnp.linalg.norm(gradient.reshape(COUNT, -1), axis=1)
    assert (norms > 0).all() and jnp.isfinite(norms).all()
    step = 1e-2 * before / jnp.sum(gradient**2)
    assert loss(pictures[0] - step * gradient, pictures[1]) < before


def test_pictures_of_another_size_are_refused(written):
    config = tiny_config()
    config.losses.emotion_feature_weights, config.image_size = written, 64
    with pytest.raises(UserError, match="trained on pictures of 32 pixels"):
        training.read_features(config)
