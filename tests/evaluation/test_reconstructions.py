"""The measurement of reconstructions with networks of the real kind, untrained."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax.evaluation import reconstructions, registry, swap
from fields_jax.evaluation.images import REGIONS
from fields_jax.losses.terms import perceptual_distance
from fields_jax.models.fields import build_model, init_variables, predict
from fields_jax.models.perceptual import VGG16Features
from tests.support.heads import random_head
from tests.support.networks import quick_jit
from tests.support.tiny_training import tiny_config

N = 5


@pytest.fixture(scope="module")
def weights():
    return quick_jit(VGG16Features().init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))


def test_the_perceptual_distance_of_the_face_is_that_of_the_filled_photograph(weights):
    rng = np.random.default_rng(0)
    image, made = (jnp.asarray(rng.random((2, 16, 16, 3)), jnp.float32) for _ in range(2))
    hole = jnp.zeros((2, 16, 16)).at[:, 4:9, 5:12].set(1)
    perceived = quick_jit(reconstructions._perceived)
    found = perceived(weights, image, made, hole)
    features = VGG16Features().apply
    filled = image.at[:, 4:9, 5:12].set(made[:, 4:9, 5:12])
    for region, picture in (("picture", made), ("face", filled)):
        by_hand = perceptual_distance(features(weights, picture), features(weights, image))
        np.testing.assert_allclose(found[f"{region}.perceptual"], by_hand, rtol=1e-4)
    assert (found["face.perceptual"] < found["picture.perceptual"]).all()
    outside = perceived(weights, image, jnp.where(hole[..., None] > 0, image, made), hole)
    assert not outside["face.perceptual"].any() and (outside["picture.perceptual"] > 0).all()


def test_smirks_synthesiser_has_no_tokens_and_is_measured_alike(weights, monkeypatch):
    config = tiny_config(synthesizer="smirk")
    config.evaluation.batch_size = 2
    config.losses.perceptual_weights = "vgg"
    monkeypatch.setattr(reconstructions, "read_frozen", lambda source, name: weights)
    head, model = random_head(), build_model(config)
    inference = SimpleNamespace(
        config=config, model=model, variables=init_variables(model, jax.random.key(1))
    )
    rng = np.random.default_rng(2)
    size = config.image_size
    image = rng.integers(0, 256, (N, size, size, 3), np.uint8)
    mask = (rng.random((N, size, size)) < 0.7).astype(np.uint8)
    prediction = jax.tree.map(np.asarray, predict(model, inference.variables, image))
    batches = [
        {"image": image[rows], "face_mask": mask[rows]}
        for rows in (slice(0, 2), slice(2, 4), slice(4, 5))
    ]
    measurer = reconstructions.Measurer(inference, head)
    found, paintings = measurer.measure(prediction, batches, [1, 4])
    assert all(len(column) == N for column in found.values())
    assert found[registry.RECONSTRUCTED].all()
    for region in REGIONS:
        assert (found[f"{region}.perceptual"] > 0).all()
        assert (found[f"{region}.l1"] > 0).all() and (found[f"{region}.l1"] < 1).all()
        assert (np.abs(found[f"{region}.ssim"]) < 1).all()
    assert np.isfinite(found["swap.paint"]).all() and (found["swap.reading_given"] >= 0).all()
    for pictures in (paintings.reconstruction, paintings.swapped):
        assert pictures.shape == (2, size, size, 3) and pictures.dtype == np.uint8
    partners = swap.partners(N)[[1, 4]]
    given = prediction.coefficients.expression[partners]
    np.testing.assert_array_equal(paintings.other.expression, given)
