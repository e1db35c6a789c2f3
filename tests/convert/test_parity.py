"""Parity with torch: networks of the reference with random weights, saved by torch, converted.

Skipped where torch is not installed: `pip install -e '.[parity]'`.
"""

from __future__ import annotations

import jax
import numpy as np
import pytest

from fields_jax.convert import networks
from fields_jax.models.perceptual import VGG16Features
from fields_jax.models.resnet import ResNet50Features
from fields_jax.workdir.inference import load_inference, read_frozen

torch = pytest.importorskip("torch", reason="needs torch: pip install -e '.[parity]'")

from benchmarks.reference import encoders, features, generator  # noqa: E402

TOLERANCE = 1e-4  # absolute, float32; of outputs whose own size is about 1


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def random_images(size: int, channels: int = 3, count: int = 2) -> np.ndarray:
    rng = np.random.default_rng(channels)
    return rng.random((count, size, size, channels), np.float32)


def to_torch(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(array, -1, 1).copy())


def close(found, expected: torch.Tensor, name: str = "", tolerance: float = TOLERANCE) -> None:
    """Equal within the tolerance, and of a size at which this says something."""
    expected = expected.numpy()
    assert found.shape == expected.shape and np.ptp(expected) > 0.1, (name, np.ptp(expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=name)


def saved(state: dict, path) -> str:
    torch.save(state, path)
    return str(path)


@pytest.mark.parametrize("variant", ["small", "large"])
def test_backbones_are_timms(variant):
    timm = pytest.importorskip("timm", reason="needs timm: pip install -e '.[parity]'")
    name = f"tf_mobilenetv3_{variant}_minimal_100"
    theirs = timm.create_model(name, pretrained=False, features_only=True)
    image = to_torch(random_images(64))
    ours = features.randomize(encoders.Backbone(variant), image)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    for found, expected in zip(ours(image), theirs.eval()(image), strict=True):
        close(found.numpy(), expected, tolerance=1e-5)


@pytest.mark.parametrize("system", ["smirk", pytest.param("teaser", marks=pytest.mark.slow)])
def test_published_networks_at_reference_size(system, tmp_path):
    """Whole checkpoints: file, converter, workdir and every network at 224 pixels."""
    reference = generator.Published(system)
    image, masked, geometry = (random_images(224, c) for c in (3, 3, 1))
    masked = masked[::-1]
    features.randomize(reference.encoders, to_torch(image))
    expected = reference.encoders(to_torch(image))
    inputs = to_torch(geometry), to_torch(masked), expected.get("tokens")
    features.randomize(reference.generator, *inputs)
    source = saved(reference.published_state(), tmp_path / "published.pt")
    target = str(tmp_path / "converted")
    getattr(networks, f"convert_{system}")(source, target)
    inference = load_inference(target)

    @jax.jit
    def run(variables, image, geometry, masked):
        output = inference.model.apply(variables, image)
        inputs = geometry, masked, output.tokens
        return output, inference.model.apply(variables, *inputs, method="synthesize")

    output, painted = run(inference.variables, image, geometry, masked)
    for name, value in expected.items():
        found = output.tokens if name == "tokens" else getattr(output.coefficients, name)
        close(found, value, name)
    assert (output.tokens is None) == (system == "smirk")
    close(painted, reference.generator(*inputs).permute(0, 2, 3, 1), "synthesizer")


@pytest.mark.parametrize("size", [64, pytest.param(224, marks=pytest.mark.slow)])
def test_perceptual_features(size, tmp_path):
    image = random_images(size)
    reference = features.randomize(features.VGG16(), to_torch(image))
    state = reference.state_dict() | {"classifier.6.bias": torch.zeros(1000)}
    networks.convert_vgg16(saved(state, tmp_path / "vgg16.pth"), str(tmp_path / "vgg16"))
    variables = read_frozen(str(tmp_path / "vgg16"), "VGG16")
    found = jax.jit(VGG16Features().apply)(variables, image)
    for k, (ours, theirs) in enumerate(zip(found, reference(to_torch(image)), strict=True)):
        close(ours, theirs.permute(0, 2, 3, 1), f"tap {k}")


@pytest.mark.parametrize("size", [64, pytest.param(224, marks=pytest.mark.slow)])
def test_emotion_features(size, tmp_path):
    # Its deepest maps have 2 x 2 pixels at 64: enough images for statistics of more than chance.
    image = random_images(size, count=16 if size == 64 else 4)
    reference = features.randomize(features.ResNet50(), to_torch(image))
    state = {f"backbone.{key}": value for key, value in reference.state_dict().items()}
    state["linear.weight"] = torch.zeros(10, 2048)
    lightning = {"epoch": 1, "state_dict": state}
    target = str(tmp_path / "emotion")
    networks.convert_emotion_resnet50(saved(lightning, tmp_path / "emotion.ckpt"), target)
    variables = read_frozen(target, "ResNet-50", ("params", "batch_stats"))
    found = jax.jit(ResNet50Features().apply)(variables, image)
    # Random weights magnify rounding: torch in float32 is as far from torch in float64, 3e-4.
    expected = reference.double()(to_torch(image).double())
    close(found, expected, tolerance=1e-3 if size == 64 else 2e-4)
