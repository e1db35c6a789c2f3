"""The benchmark of refinement gives faces the landmarks that it says."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import refine
from fields_jax.fitting.photographs import known_landmarks
from fields_jax.landmark_schemes import AVERAGED_5, EYE_CORNERS_68

SIZE = 40


@pytest.mark.parametrize("name", refine.CASES)
def test_faces_carry_the_landmarks_of_their_case(name):
    count, noise = refine.CASES[name]
    rng = np.random.default_rng(0)
    labels = {f"landmarks_{k}": rng.uniform(-0.9, 0.9, (60, k, 2)) for k in (68, 105)}
    expected = labels.get(f"landmarks_{count}")
    if count == 5:
        rows = [labels["landmarks_68"][:, list(rows)].mean(axis=1) for rows in AVERAGED_5]
        expected = np.stack(rows, axis=1)
    corners = labels["landmarks_68"][:, list(EYE_CORNERS_68)]
    unit = np.linalg.norm(corners[:, 0] - corners[:, 1], axis=-1)[:, None, None]
    images = np.zeros((60, SIZE, SIZE, 3), np.uint8)
    found = [known_landmarks(face) for face in refine.faces_of(images, labels, count, noise)]
    assert all(visible.all() for _, visible in found)
    apart = np.stack([points for points, _ in found]) * 2 / SIZE - 1 - expected
    if noise:
        assert np.std(apart / unit) == pytest.approx(0.01, rel=0.15)
    else:
        np.testing.assert_allclose(apart, 0, atol=1e-5)


def test_the_table_names_every_case_and_method():
    scores = {"expression_error_mm": 1.25, "landmarks_105": 0.0123}
    found = {"faces": 3, "networks": scores, "no expression": scores}
    text = refine.table({"set": found | {"cases": {"5": {"refined": scores}}}})
    assert "set, 3 faces" in text and "5: refined" in text and text.count("1.250") == 3
