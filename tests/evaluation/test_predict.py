"""Any number of examples, through a function of batches of one size."""

import numpy as np
import pytest

from fields_jax.evaluation.predict import map_batches, predict_set, spread


def test_batches_are_padded_and_put_together():
    sizes = []

    def double(x):
        sizes.append(x["a"].shape[0])
        return {"b": 2 * x["a"]}

    found = map_batches(double, {"a": np.arange(7.0)}, 3)
    np.testing.assert_array_equal(found["b"], 2 * np.arange(7.0))
    assert sizes == [3, 3, 3]
    batches = [{"image": np.full((n, 2), n), "id": np.full(n, str(n))} for n in (3, 2)]
    prediction, labels = predict_set(lambda image: image[:, 0], iter(batches), 3)
    np.testing.assert_array_equal(prediction, [3, 3, 3, 2, 2])
    assert list(labels) == ["id"] and list(labels["id"]) == ["3", "3", "3", "2", "2"]
    with pytest.raises(ValueError, match="no examples"):
        predict_set(lambda image: image, iter([]), 3)
    with pytest.raises(ValueError, match="larger than 2"):
        predict_set(lambda image: image, iter(batches), 2)


def test_examples_are_kept_by_place_alone():
    batches = [{"image": np.arange(i, i + 5)} for i in range(0, 20, 5)]
    passing, kept = spread(iter(batches), 20, 3)
    assert len(list(passing)) == 4
    assert [(e["row"], int(e["image"])) for e in kept] == [(0, 0), (10, 10), (19, 19)]
