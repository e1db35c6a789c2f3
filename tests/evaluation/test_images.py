"""L1, PSNR and SSIM against written-out loops, and values that are known by hand."""

import itertools

import numpy as np
import pytest

from fields_jax.evaluation.images import compare_pictures, ssim_map


def pictures(n=2, height=17, width=21, seed=0):
    rng = np.random.default_rng(seed)
    wanted = np.cumsum(rng.random((n, height, width, 3)), axis=2) % 1
    return np.clip(wanted + rng.normal(0, 0.1, wanted.shape), 0, 1), wanted


def slow_ssim(x, y):
    """Wang et al. 2004, equations 13 to 16, window by window on one channel."""
    place = np.arange(-5, 6)
    weight = np.exp(-(place[:, None] ** 2 + place[None] ** 2) / (2 * 1.5**2))
    weight /= weight.sum()
    found = np.empty((x.shape[0] - 10, x.shape[1] - 10))
    for i, j in itertools.product(*map(range, found.shape)):
        a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
        mean_a, mean_b = (weight * a).sum(), (weight * b).sum()
        var_a, var_b = (weight * (a - mean_a) ** 2).sum(), (weight * (b - mean_b) ** 2).sum()
        covariance = (weight * (a - mean_a) * (b - mean_b)).sum()
        luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
        structure = (2 * covariance + 9e-4) / (var_a + var_b + 9e-4)
        found[i, j] = luminance * structure
    return found


def test_structural_similarity_is_that_of_a_loop_over_windows():
    found, wanted = pictures()
    slow = [
        np.stack([slow_ssim(x[..., c], y[..., c]) for c in range(3)], axis=-1)
        for x, y in zip(found, wanted, strict=True)
    ]
    np.testing.assert_allclose(ssim_map(found, wanted), slow, atol=1e-9)
    scores = compare_pictures(found, wanted)
    np.testing.assert_allclose(scores.ssim, np.mean(slow, axis=(1, 2, 3)), atol=1e-9)
    assert np.ptp(slow) > 0.05


def test_flat_pictures_by_hand():
    """Of constants a and b nothing but the luminance is left."""
    a, b = np.full((1, 11, 11, 3), 0.5), np.full((1, 11, 11, 3), 0.25)
    scores = compare_pictures(a, b)
    assert scores.l1 == pytest.approx(0.25)
    assert scores.psnr == pytest.approx(10 * np.log10(16))
    assert scores.ssim == pytest.approx((0.25 + 1e-4) / (0.3125 + 1e-4))
    same = compare_pictures(a, a)
    assert (same.l1, same.psnr, same.ssim) == (0, pytest.approx(100), pytest.approx(1))


def test_a_region_counts_its_pixels_and_the_windows_about_them():
    found, wanted = pictures()
    region = np.zeros(found.shape[:3])
    region[0, 2:9, 3:12] = 1  # the second picture has none
    part = found[0, 2:9, 3:12] - wanted[0, 2:9, 3:12]
    scores = compare_pictures(found, wanted, region)
    assert scores.l1[0] == pytest.approx(np.abs(part).mean())
    assert scores.psnr[0] == pytest.approx(-10 * np.log10((part**2).mean()))
    # Windows begin five pixels before their middle, and at the picture's edge.
    windows = ssim_map(found, wanted)[0, 0:4, 0:7]
    assert scores.ssim[0] == pytest.approx(windows.mean())
    assert all(np.isnan(score[1]) for score in scores)


def test_what_cannot_be_compared_is_refused():
    found, wanted = pictures()
    with pytest.raises(ValueError, match="of shapes"):
        compare_pictures(found[:, 1:], wanted)
    with pytest.raises(ValueError, match="SSIM's window is 11"):
        compare_pictures(found[:, :10], wanted[:, :10])
