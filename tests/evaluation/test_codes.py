"""Codes of faces: their two layouts, splits without a subject in two, and what is refused."""

import numpy as np
import pytest

from fields_jax.emotions import EMOTIONS
from fields_jax.errors import UserError
from fields_jax.evaluation import codes
from tests.support.answers import write_csv


def make_arrays(n=60):
    rng = np.random.default_rng(0)
    affect = rng.uniform(-1, 1, (2, n)).astype(np.float32)
    affect[:, ::7] = np.nan
    return {
        "expression": rng.normal(size=(n, 4)).astype(np.float32),
        "jaw": rng.normal(size=(n, 3)).astype(np.float32),
        "shape": rng.normal(size=(n, 5)).astype(np.float32),
        "id": np.array([f"face {index}" for index in range(n)]),
        "true_emotion": np.where(np.arange(n) % 5 == 0, -1, np.arange(n) % 8),
        "true_valence": affect[0],
        "true_arousal": affect[1],
        "subject": np.array([f"s{index // 3}" for index in range(n)]),
    }


def save(path, arrays):
    np.savez(path, **arrays)
    return str(path)


def as_csv(path, arrays):
    columns = {}
    for name, array in arrays.items():
        if array.ndim == 2:
            columns |= {f"{name}_{index}": array[:, index] for index in range(array.shape[1])}
        elif name == "true_emotion":
            columns[name] = ["" if index < 0 else EMOTIONS[index] for index in array]
        elif array.dtype.kind == "f":
            columns[name] = ["" if np.isnan(value) else str(value) for value in array]
        else:
            columns[name] = array
    return write_csv(path, columns)


def test_both_layouts_read_the_same_and_are_written_back(tmp_path):
    arrays = make_arrays()
    found = codes.read_codes(save(tmp_path / "a.npz", arrays))
    other = codes.read_codes(as_csv(tmp_path / "a.csv", arrays))
    again = codes.read_codes(save(tmp_path / "b.npz", found.to_arrays()))
    for each in (other, again):
        np.testing.assert_array_equal(each.split, found.split)
        np.testing.assert_array_equal(each.emotion, found.emotion)
        np.testing.assert_allclose(each.affect, found.affect, atol=1e-6)
        for name, values in found.inputs().items():
            np.testing.assert_allclose(each.inputs()[name], values, atol=1e-6)
    assert found.by == "subject" and list(found.ids) == list(arrays["id"])
    inputs = found.inputs()
    assert list(inputs) == ["expression+jaw", "shape", "shape+expression+jaw"]
    parts = [arrays[name] for name in ("shape", "expression", "jaw")]
    np.testing.assert_array_equal(inputs["shape+expression+jaw"], np.concatenate(parts, 1))


def test_codes_of_unknown_division_and_files_without_subjects(tmp_path):
    arrays = {"codes": np.ones((50, 7)), "true_emotion": np.arange(50) % 8}
    found = codes.read_codes(save(tmp_path / "a.npz", arrays))
    assert list(found.inputs()) == ["codes"] and found.by == "row"
    counts = [int(found.rows(name).sum()) for name in codes.SPLITS]
    assert counts == [34, 6, 10]  # a fifth for the test, 15 % of the rest for validation


def test_no_subject_is_in_two_splits():
    groups = np.repeat(np.arange(40), 5)
    for told in (None, np.where(groups < 30, "train", "test")):
        split = codes.assign_splits("x", groups, told)
        assert set(split) == {0, 1, 2}
        for name in range(40):
            assert len(set(split[groups == name])) == 1
        np.testing.assert_array_equal(split, codes.assign_splits("x", groups, told))
    whole = np.array(["train", "validation", "test"])[np.arange(40) % 3].repeat(5)
    split = codes.assign_splits("x", groups, whole)
    np.testing.assert_array_equal(np.array(codes.SPLITS)[split], whole)


def changed(**arrays):
    return make_arrays() | arrays


MISTAKES = {
    "unknown array 'psi': rename or remove it": changed(psi=np.ones(60)),
    r"jaw has the shape \[60\]; it must be \[N, components\]": changed(jaw=np.ones(60)),
    r"jaw has the shape \[9, 3\]; it must be .* N = 60": changed(jaw=np.ones((9, 3))),
    "jaw of example 4 is not finite: leave it out": changed(
        jaw=np.where(np.arange(60)[:, None] == 3, np.nan, np.ones((60, 3)))
    ),
    r"true_emotion of example 1 is 9: use AffectNet's ids": changed(true_emotion=np.full(60, 9)),
    r"true_valence of example 1 is -5: use \[-1, 1\]": changed(true_valence=np.full(60, -5)),
    "true_emotion holds no numbers": changed(true_emotion=np.full(60, "sad")),
    "example 1: split 'training'; known are train": changed(split=np.full(60, "training")),
    "subject 's0' is in more than one split": changed(
        split=np.where(np.arange(60) == 0, "test", "train")
    ),
    "60 examples of 20 subjects|0 examples of 20 subjects are left for test": changed(
        split=np.full(60, "train")
    ),
    "holds no codes": {name: array for name, array in make_arrays().items() if array.ndim == 1},
    "holds no label": {name: array for name, array in make_arrays().items() if "true" not in name},
}


@pytest.mark.parametrize(("said", "arrays"), MISTAKES.items(), ids=list(MISTAKES))
def test_mistakes_name_the_file_and_the_remedy(tmp_path, said, arrays):
    with pytest.raises(UserError, match=said) as raised:
        codes.read_codes(save(tmp_path / "mine.npz", arrays))
    assert "mine.npz" in str(raised.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id,shape_1,true_valence\na,1,0\n", "the columns of shape must be shape_0, shape_1"),
        ("id,shape_0,shape_x,true_valence\na,1,1,0\n", "'shape_x' ends in no number"),
        ("id,beta_0,true_valence\na,1,0\n", "row 1: unknown column 'beta_0'"),
        ("id,shape_0,true_valence\na,,0\n", "row 2: shape_0 is missing"),
    ],
)
def test_mistakes_in_a_csv(tmp_path, content, said):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(UserError, match=said):
        codes.read_codes(str(tmp_path / "a.csv"))


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"are read from \.npz and \.csv"):
        codes.read_codes(str(tmp_path / "a.pkl"))
