"""How near a picture is to another, in float64: L1, PSNR and SSIM, of all of it or of a region.

Pictures are RGB in [0, 1], so the range of the data is 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity":
# an 11 x 11 circular Gaussian of deviation 1.5 pixels, K1 and K2.
WINDOW, DEVIATION = 11, 1.5
K1, K2 = 0.01, 0.03
# Of all pixels, and of those that a synthesiser has to fill.
REGIONS = ("picture", "face")
_LEAST_SQUARED = 1e-10  # so that equal pictures have a PSNR, 100 dB; an 8-bit step is 1.5e-5


class Likeness(NamedTuple):
    """Scores [N] of N pictures; NaN where there is nothing to compare.

    Attributes:
      l1: mean absolute difference.
      psnr: peak signal-to-noise ratio in dB, -10 log10 of the mean squared difference.
      ssim: mean structural similarity.
    """

    l1: Floats
    psnr: Floats
    ssim: Floats


def compare_pictures(
    found: Float[np.ndarray, "N H W 3"],
    wanted: Float[np.ndarray, "N H W 3"],
    region: Float[np.ndarray, "N H W"] | None = None,
) -> Likeness:
    """Scores of pictures beside those that they should be.

    Args:
      found, wanted: [N, H, W, 3] in [0, 1].
      region: [N, H, W], 1 where pixels count; None: everywhere. SSIM counts the windows whose
        middle pixel does, and that lie wholly in the picture.

    Raises:
      ValueError: pictures of different shapes, or smaller than the window.
    """
    if found.shape != wanted.shape:
        raise ValueError(f"pictures of shapes {found.shape} and {wanted.shape}")
    counts = np.ones(found.shape[:3]) if region is None else np.asarray(region, np.float64)
    difference = np.asarray(found, np.float64) - np.asarray(wanted, np.float64)
    squared = _mean_over(difference**2, counts)
    edge = WINDOW // 2
    inner = counts[:, edge : counts.shape[1] - edge, edge : counts.shape[2] - edge]
    return Likeness(
        l1=_mean_over(np.abs(difference), counts),
        psnr=-10 * np.log10(np.maximum(squared, _LEAST_SQUARED)),
        ssim=_mean_over(ssim_map(found, wanted), inner),
    )


def ssim_map(
    found: Float[np.ndarray, "N H W C"], wanted: Float[np.ndarray, "N H W C"]
) -> Float[np.ndarray, "N h w C"]:
    """Structural similarity of each channel in every window that lies wholly in the picture.

    Population moments under the Gaussian, as published; h = H - 10, w = W - 10.

    Raises:
      ValueError: pictures smaller than the window.
    """
    if min(found.shape[1:3]) < WINDOW:
        raise ValueError(f"pictures of {found.shape[1:3]} pixels; SSIM's window is {WINDOW} wide")
    x, y = (np.asarray(picture, np.float64) for picture in (found, wanted))
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x, var_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    c1, c2 = K1**2, K2**2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return above / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))


def _blurred(pictures: Floats) -> Floats:
    """[N, H, W, C] under the Gaussian, one axis after the other, without padding."""
    place = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(place**2) / (2 * DEVIATION**2))
    weights /= weights.sum()
    for axis in (1, 2):
        count = pictures.shape[axis] - WINDOW + 1
        pictures = sum(
            weight * np.take(pictures, range(first, first + count), axis)
            for first, weight in enumerate(weights)
        )
    return pictures


def _mean_over(values: Float[np.ndarray, "N H W C"], counts: Float[np.ndarray, "N H W"]) -> Floats:
    """[N] mean over pixels that count and over channels; NaN where none counts."""
    total = np.einsum("nhwc,nhw->n", values, counts)
    pixels = values.shape[-1] * counts.sum((1, 2))
    return np.divide(total, pixels, out=np.full(len(pixels), np.nan), where=pixels > 0)
