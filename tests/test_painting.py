"""The synthesiser's pictures of faces that wear another expression."""

from __future__ import annotations

import numpy as np

from fields_jax import painting
from fields_jax.flame.procedural import procedural_head
from fields_jax.render import Masking
from fields_jax.render.skin import SkinSettings
from tests.support.bundles import bundle_of, random_coefficients
from tests.support.tiny_training import tiny_config

SIZE, ROWS = 64, 3


class Mirror:
    """Stands for a model whose picture is what it is given."""

    def apply(self, variables, *given, method):
        return given[1] if method == "synthesize" else None


def test_a_picture_is_the_same_beside_any_others():
    """One face three times: the skin that SMIRK's masking keeps of it is drawn alike."""
    head = procedural_head()
    result = bundle_of(head, random_coefficients(head, 1)).result
    crop = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    vertices, camera = result.vertices, result.coefficients["camera"]
    given = (crop, np.zeros((SIZE, SIZE), np.uint8), vertices, vertices, camera)
    batch = (np.stack([np.asarray(each)] * ROWS) for each in given)
    masking = Masking(0.1, SkinSettings(**tiny_config().skin))
    made = np.asarray(painting._paint({}, head, *batch, Mirror(), masking))
    assert made.shape == (ROWS, SIZE, SIZE, 3) and made.std() > 0
    for other in made[1:]:
        np.testing.assert_array_equal(other, made[0])
