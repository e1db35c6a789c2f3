"""The contract of one example and of what shards hold."""

import numpy as np
import pytest

from data_pipelines import records
from fields_jax import batch
from fields_jax.emotions import EMOTIONS


def make_batch(batch_size=2, image_size=8, **sizes):
    return {
        key: np.zeros(field.shape, np.str_ if field.dtype == "str" else field.dtype)
        for key, field in batch.batch_spec(batch_size, image_size, **sizes).items()
    }


def make_record(**changes):
    given = {
        "image": np.zeros((6, 5, 3), np.uint8),
        "face_mask": np.ones((6, 5)),
        "face_box": [1, 1, 4, 5],
        "id": "a",
    }
    return records.record(**(given | changes))


def test_batch_that_follows_the_spec_passes():
    batch.validate_batch(make_batch(), 8)
    batch.validate_batch(make_batch(n_expression=10, n_shape=20), 8, n_expression=10, n_shape=20)


def test_names_are_as_long_as_they_should_be():
    assert len(EMOTIONS) == 8
    assert EMOTIONS[0] == "neutral"
    assert EMOTIONS[7] == "contempt"
    assert {key for group in batch.FLAGS.values() for key in group} <= set(batch.EXAMPLE_SPEC)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"jaw": np.zeros((2, 4), np.float32)}, r"'jaw'.*float32 \[2, 3\], found float32 \[2, 4\]"),
        ({"image": np.zeros((2, 8, 8, 3), np.float32)}, r"'image'.*uint8 .*found float32"),
        ({"emotion": np.zeros(2, np.int64)}, r"'emotion'.*int32 \[2\], found int64 \[2\]"),
        ({"id": np.array([b"x", b"y"])}, r"'id'.*expected str"),
        ({"has_va": np.zeros(3, bool)}, r"'has_va'.*bool \[2\], found bool \[3\]"),
        ({"colour": np.zeros(2)}, "unknown keys: 'colour'"),
    ],
)
def test_validation_names_key_expected_and_found(change, line):
    with pytest.raises(ValueError, match=line) as caught:
        batch.validate_batch(make_batch() | change, 8)
    assert "\n" not in str(caught.value)


def test_validation_names_missing_keys_and_wrong_image_size():
    lacking = make_batch()
    del lacking["jaw"]
    with pytest.raises(ValueError, match="lacks 'jaw'"):
        batch.validate_batch(lacking, 8)
    with pytest.raises(ValueError, match=r"'image'\]: expected uint8 \[2, 16, 16, 3\]"):
        batch.validate_batch(make_batch(), 16)


def test_training_arrays_hold_no_string_and_no_evaluation_label():
    arrays = batch.training_arrays(make_batch())
    assert not [key for key in arrays if key.startswith("eval_")]
    assert all(value.dtype.kind in "biuf" for value in arrays.values())
    assert "valence" in arrays
    assert "has_eval" not in arrays


def test_features_hold_every_field_of_an_example():
    assert set(records.features()) == set(batch.EXAMPLE_SPEC) - {"source"} | {"face_box"}


def test_record_without_labels_says_so():
    made = make_record()
    assert set(made) == set(records.features())
    assert not any(made[flag] for flag in batch.FLAGS)
    assert made["emotion"] == made["level"] == made["subject"] == -1
    assert made["expression"].shape == (50,)
    assert not made["landmarks_203"].any()
    assert (made["face_mask"] == 255).all()
    assert made["face_mask"].shape == (6, 5, 1)


def test_record_flags_what_is_given_and_nothing_else():
    made = make_record(valence=0.5, arousal=-1, emotion=np.int64(7), shape=np.ones(300), level=None)
    flags = {flag for flag in batch.FLAGS if made[flag]}
    assert flags == {"has_va", "has_emotion", "has_shape"}
    assert made["valence"] == np.float32(0.5)
    assert made["emotion"] == 7
    assert made["level"] == -1


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"smile": 1}, "record 'a': unknown labels smile; known: .*valence"),
        ({"has_va": True}, "unknown labels has_va"),
        ({"valence": 0.1}, "valence, arousal come together"),
        ({"expression": np.zeros(50), "jaw": np.zeros(3)}, "expression, jaw, eyelid come together"),
        ({"landmarks_68": np.zeros((67, 2))}, r"landmarks_68 must have shape \(68, 2\)"),
        ({"landmarks_68": np.full((68, 2), np.nan)}, "landmarks_68 is not finite"),
        ({"emotion": 8}, r"emotion must be 0\.\.7"),
        ({"valence": 1.5, "arousal": 0}, r"valence must be in \[-1, 1\]"),
        ({"face_mask": np.full((6, 5), 255)}, "face_mask must be 0 and 1"),
        ({"face_mask": np.ones((5, 6))}, "face_mask must be 0 and 1 of shape"),
        ({"image": np.zeros((6, 5, 3))}, r"image must be uint8 \[H, W, 3\], found float64"),
        ({"face_box": [4, 1, 1, 5]}, "face_box must be x0 < x1"),
    ],
)
def test_record_refuses_in_one_line(change, line):
    with pytest.raises(ValueError, match=line) as caught:
        make_record(**change)
    assert "\n" not in str(caught.value)
