"""Labels of the landmark fit in sets of photographs: which faces get them, and who reads them."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath
from ml_collections import ConfigDict

from data_pipelines import heads, prepare, records
from data_pipelines.building import fitted, photographs, report
from data_pipelines.building.summary import Summary
from data_pipelines.reading import augmentation, mixture, sources
from fields_jax import batch
from fields_jax.errors import UserError
from fields_jax.evaluation.geometry import true_coefficients
from fields_jax.fitting.landmarks import Fit
from fields_jax.fitting.photographs import fit_faces
from fields_jax.photos.faces import find_faces
from fields_jax.photos.finding import find_photographs
from fields_jax.types import FlameCoefficients
from tests.support.heads import random_head
from tests.support.photograph_sets import write_photographs
from tests.support.portraits import write_photograph

HEAD = random_head().replace(name="one", version="1", sha256="1" * 64)
OTHER = HEAD.replace(name="other", version="2", sha256="2" * 64)


def fake_fit(residuals, valid=None):
    """What the fit would give: coefficients that name the row."""
    count = len(residuals)
    rows = jnp.arange(1.0, count + 1)[:, None]
    none = jnp.full(count, jnp.nan)
    coefficients = FlameCoefficients(
        shape=rows * jnp.ones((1, 100)),
        expression=-rows * jnp.ones((1, 30)),
        jaw=0.1 * rows * jnp.ones((1, 3)),
        eyelid=0.2 * rows * jnp.ones((1, 2)),
        pose=jnp.zeros((count, 3)),
        camera=jnp.zeros((count, 3)),
    )
    known = jnp.ones(count, bool) if valid is None else jnp.asarray(valid)
    shares = [none] * (len(Fit.__dataclass_fields__) - 4)
    return Fit(coefficients, jnp.asarray(residuals), *shares, converged=known, valid=known)


def some_record(name, **labels):
    return records.record(
        np.zeros((40, 40, 3), np.uint8), np.ones((40, 40)), [5, 5, 35, 35], id=name, **labels
    )


@pytest.fixture
def known_heads(monkeypatch):
    found = {"": HEAD, "other.npz": OTHER}
    monkeypatch.setattr(fitted, "resolve_head", found.__getitem__)


def taught(monkeypatch, fit, made):
    seen = []
    monkeypatch.setattr(fitted, "fit_observed", lambda head, marks: seen.append(marks) or fit)
    summary = Summary()
    return list(fitted.Teacher().taught(iter(made), summary)), summary, seen


def test_labels_are_the_fit_and_its_residual(known_heads, monkeypatch):
    made = [(name, some_record(name)) for name in "abcde"]
    fit = fake_fit([0.01, 0.3, np.nan, 0.0, 0.02], [True, True, True, True, False])
    found, summary, _ = taught(monkeypatch, fit, made)
    assert [key for key, _ in found] == list("abcde")
    first, *left, exact, last = (record for _, record in found)
    np.testing.assert_array_equal(first["expression"], [-1] * 30 + [0] * 20)
    np.testing.assert_array_equal(first["shape"], [1] * 100 + [0] * 200)
    np.testing.assert_allclose(first["jaw"], 0.1)
    np.testing.assert_allclose(first["eyelid"], 0.2)
    assert first["has_flame"] and first["has_shape"] and first["fit_residual"] == np.float32(0.01)
    assert 0 < exact["fit_residual"] < 1e-5  # 0 would call it exact
    for record in (*left, last):
        assert not record["has_flame"] and not record["has_shape"] and not record["fit_residual"]
    assert summary.unlabelled == [(fitted.FAR, "b"), (fitted.FAILED, "c"), (fitted.FAILED, "e")]
    assert summary.residuals == [0.01, 0.0] and summary.median_residual == 0.005


def test_the_fit_sees_annotated_points_where_they_are(known_heads, monkeypatch):
    marks = np.full((105, 2), 20.0)
    made = [
        ("a", some_record("a", landmarks_105=marks, landmarks_68=marks[:68], annotated_68=False)),
        ("b", some_record("b", landmarks_68=marks[:68])),
    ]
    _, _, (seen,) = taught(monkeypatch, fake_fit([0.01, 0.01]), made)
    for count, there in ((105, [True, False]), (68, [False, True])):
        assert (getattr(seen, f"weights_{count}") == np.array(there)[:, None]).all()
        points = getattr(seen, f"landmarks_{count}")[np.array(there)]
        np.testing.assert_allclose(points, 0, atol=1e-6)  # the middle of the box


def test_a_negative_residual_is_refused():
    with pytest.raises(UserError, match="record 'a': fit_residual must not be negative"):
        records.with_labels(some_record("a"), fit_residual=-0.1)
    with pytest.raises(UserError, match="expression, jaw, eyelid come together"):
        records.with_labels(some_record("a"), jaw=np.zeros(3))


def test_a_head_without_fit_is_a_mistake(tmp_path):
    write_photographs(epath.Path(tmp_path / "photographs"), 1)
    with pytest.raises(UserError, match=r"--head=x.npz is for labels of a landmark fit: add --fit"):
        prepare.prepare("faces", tmp_path, source=str(tmp_path / "photographs"), head="x.npz")


def fit_of_any(head, marks):
    count = len(marks.landmarks_105)
    return fake_fit([0.02] * (count - 1) + [0.5])


def test_a_set_with_fits_from_photographs_to_batches(tmp_path, known_heads, monkeypatch):
    monkeypatch.setattr(fitted, "fit_observed", fit_of_any)
    write_photographs(epath.Path(tmp_path / "photographs"), 5)
    options = dict(source=str(tmp_path / "photographs"), threads=1, fitted=True)
    (folder,) = prepare.prepare("faces", tmp_path, **options)
    told = json.loads((folder / report.JSON).read_text())
    assert told["splits"]["train"]["landmark_fit"] == {
        "labelled": 4, "median_residual": 0.02, "unlabelled": {fitted.FAR: 1}
    }  # fmt: skip
    assert told["options"]["fitted"] == f"one 1 ({'1' * 12})"
    assert f"kept without labels: {fitted.FAR}" in (folder / report.REJECTS).read_text()
    page = (folder / report.HTML).read_text()
    assert "median residual of the landmark fit" in page and "0.02" in page and fitted.FAR in page

    licence = f"That of the photographs. Coefficients: that of one 1 ({'1' * 12})."
    assert (folder / "LICENSE").read_text().strip() == licence and licence in page
    assert heads.labels_of(folder) == (HEAD.identity, True, True)
    assert heads.compare([folder], HEAD, learnt=True, fits_learnt=True) == []
    with pytest.raises(UserError, match=r"of the head one 1 .*prepare faces --fitted --head=HEAD"):
        heads.compare([folder], OTHER, learnt=True, fits_learnt=True)
    with pytest.raises(UserError, match=r"was made with --fitted=one 1 .*, not other 2"):
        prepare.prepare("faces", tmp_path, **options, head="other.npz")

    config = ConfigDict({"root": str(tmp_path), "eval_crop_scale": 1.4, "threads": 1})
    (found,) = mixture.evaluation_batches(config, "faces", "train", image_size=32, batch_size=5)
    batch.validate_batch(found, 32)
    assert found["has_flame"].sum() == 4
    np.testing.assert_allclose(found["fit_residual"], 0.02 * found["has_flame"], rtol=1e-6)
    assert mixture.fitted_sets(config, ["faces", "none"]) == [str(folder)]
    assert not true_coefficients(found)[1].any()  # a fit is no truth to be scored by


def test_shards_that_were_made_without_labels_are_made_again(tmp_path, known_heads):
    from data_pipelines.faces.faces_dataset_builder import Builder

    write_photographs(epath.Path(tmp_path / "photographs"), 2)

    def digest(**options):
        builder = Builder(data_dir=str(tmp_path), **options)
        return builder.plan(epath.Path(tmp_path / "photographs"))["train"][0].digest()

    plain, one, other = digest(), digest(fitted=True), digest(fitted=True, head="other.npz")
    assert len({plain, one, other}) == 3 and plain == digest()


def test_sets_from_before_there_were_fits_are_read(tmp_path):
    known = records.features()
    old = tfds.features.FeaturesDict({k: known[k] for k in known if k not in batch.OPTIONAL})
    examples = [
        (name, {k: v for k, v in some_record(name).items() if k not in batch.OPTIONAL})
        for name in "ab"
    ]
    tfds.dataset_builders.store_as_tfds_dataset(
        "old", "1.0.0", old, {"train": examples}, data_dir=tmp_path
    )
    config = ConfigDict({"root": str(tmp_path), "eval_crop_scale": 1.4, "threads": 1})
    (found,) = mixture.evaluation_batches(config, "old", "train", image_size=32, batch_size=2)
    assert not found["fit_residual"].any() and found["fit_residual"].dtype == np.float32
    assert batch.is_exact(found).all()
    # Nor does the search for damage take the old records for damaged ones.
    source = sources.open_source(tmp_path, "old", "train")
    for serialized in sources.in_order(source):
        assert sources._fault(serialized) is None


def test_a_mirrored_face_has_no_fit():
    example = {
        key: tf.zeros((2, *(s if isinstance(s, int) else 4 for s in field.shape)))
        for key, field in batch.EXAMPLE_SPEC.items()
        if key not in ("id", "source")
    }
    flags = {key: tf.ones(2, tf.bool) for key in batch.FLAGS}
    made = augmentation.mirrored({**example, **flags, "fit_residual": tf.ones(2)})
    assert not made["fit_residual"].numpy().any() and not made["has_flame"].numpy().any()


@pytest.mark.slow
def test_the_labels_are_those_of_the_fit_command(tmp_path):
    (points,) = write_photograph(tmp_path / "photographs" / "a.png", places=((30, 20),))
    points += np.random.default_rng(0).normal(0, 0.7, points.shape)  # as a detector errs, pixels
    np.save(tmp_path / "photographs" / "a.npy", points)
    found, _ = find_photographs([str(tmp_path / "photographs")])
    (face,) = find_faces(found[0], scale=1.4)
    expected = fit_faces(fitted.Teacher()._model, [face])
    sample = photographs.Sample("a", str(tmp_path / "photographs/a.png"))
    record = photographs.make_record(sample, size=256, scale=2.0)
    ((_, taught_record),) = fitted.Teacher().taught([("a", record)], Summary())
    assert 0.005 < taught_record["fit_residual"] < 0.1
    assert taught_record["fit_residual"] == pytest.approx(float(expected.residual[0]), rel=0.02)
    for name in ("expression", "shape", "jaw", "eyelid"):
        here = np.asarray(getattr(expected.coefficients, name))[0]
        np.testing.assert_allclose(taught_record[name][: len(here)], here, atol=0.02)
