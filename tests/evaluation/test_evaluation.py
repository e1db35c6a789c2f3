"""Evaluation on a head of eight vertices, whose movements are known by hand."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy import stats

from fields_jax import evaluate
from fields_jax.errors import UserError
from fields_jax.evaluation import geometry, summary
from fields_jax.evaluation.predict import map_batches, predict_set, spread, synthesize_set
from fields_jax.flame.model import flame
from fields_jax.render import Masking
from fields_jax.render.skin import SkinSettings
from fields_jax.types import FieldsOutput, FlameCoefficients, FlameModel, LandmarkEmbedding
from tests.support.heads import random_head

V, S, E = 8, 4, 3


@pytest.fixture(scope="module")
def head():
    """A cube of 10 cm. One unit of expression 0 moves the whole face mask by 3 mm along x,
    expression 1 moves one of its four vertices by 8 mm, expression 2 moves no face vertex;
    an eyelid moves every vertex by 4 mm along z; the jaw turns the first vertex only.
    """
    corners = np.stack(np.meshgrid(*[[-0.05, 0.05]] * 3, indexing="ij"), -1).reshape(V, 3)
    face = np.array([0, 2, 4, 6])
    basis = np.zeros((V, 3, E))
    basis[face, 0, 0], basis[2, 1, 1], basis[1, 1, 2] = 0.003, 0.008, 1.0
    eyelid = np.zeros((2, V, 3))
    eyelid[0, :, 2] = 0.004
    weights = np.zeros((V, 5))
    weights[:, 0], weights[0] = 1, [0, 0, 1, 0, 0]
    shape_basis = np.zeros((V, 3, S))
    shape_basis[:, 0, 0] = 0.02 * np.sign(corners[:, 0])

    def points(*shape):
        """Landmark i at the cube's corner i modulo 8."""
        first = np.arange(np.prod(shape)) % 4  # of faces [0..3] below, the first corner
        weights = np.tile([1.0, 0.0, 0.0], (first.size, 1))
        return LandmarkEmbedding(first.reshape(shape), weights.reshape(*shape, 3))

    index = np.arange(1000, 1105)
    index[[7, 9]] = 33, 263
    subset = np.arange(203) < 80
    model = FlameModel(
        template=corners,
        shape_basis=shape_basis,
        expression_basis=basis,
        pose_basis=np.zeros((V, 3, 36)),
        joint_regressor=np.zeros((5, V)),
        skin_weights=weights,
        eyelid_basis=eyelid,
        faces=np.array([[0, 2, 1], [2, 4, 1], [4, 6, 1], [6, 0, 1]]),
        **dict(static_51=points(51), contour=points(79, 17), static_68=points(68)),
        **dict(landmarks_105=points(105), landmarks_203=points(203)),
        mediapipe_index=index,
        front_203=subset | (np.arange(203) == 100),
        left_203=subset | (np.arange(203) == 101),
        right_203=subset,
        **dict(face_vertices=face, face_triangles=np.array([[0, 2, 1]])),
        parents=(-1, 0, 1, 1, 1),
        **dict(uv=np.zeros((1, 2)), uv_faces=np.zeros((4, 3), int), regions={"face": face}),
        **dict(expression_templates=None, expression_names=()),
        **dict(name="cube", version="0", sha256="0"),
    )
    to_array = lambda x: jnp.asarray(x, jnp.float32 if x.dtype.kind == "f" else None)  # noqa: E731
    return jax.tree.map(to_array, model)


def make_coefficients(n, **given):
    widths = dict(shape=S, expression=E, jaw=3, eyelid=2, pose=3, camera=3)
    values = {k: np.zeros((n, w), np.float32) for k, w in widths.items()}
    values["camera"][:, 0] = 5
    return FlameCoefficients(**values | {k: np.asarray(v, np.float32) for k, v in given.items()})


def make_labels(n, **given):
    labels = {
        "id": np.array([f"face{i}" for i in range(n)]),
        "image": np.zeros((n, 8, 8, 3), np.uint8),
        "face_mask": np.zeros((n, 8, 8), np.uint8),
        "source": np.zeros(n, np.int32),
        "valence": np.zeros(n, np.float32),
        "arousal": np.zeros(n, np.float32),
    }
    labels |= {k: np.full(n, -1, np.int32) for k in ("emotion", "subject", "level")}
    flags = ("flame", "shape", "eval", "va", "emotion", "annotated_68", *geometry.LANDMARK_SETS)
    labels |= {f"has_{k}": np.zeros(n, bool) for k in flags}
    widths = dict(shape=S, expression=E, jaw=3, eyelid=2)
    labels |= {k: np.zeros((n, w), np.float32) for k, w in widths.items()}
    labels |= {f"eval_{k}": v for k, v in labels.items() if k in ("expression", "jaw", "eyelid")}
    labels |= {k: np.zeros((n, int(k.split("_")[1]), 2)) for k in geometry.LANDMARK_SETS}
    return labels | given


def test_expression_error_by_hand(head):
    psi = [[2, 0, 0], [0, 1, 0], [0, 0, 9], [0, 0, 0], [1, 0, 0]]
    truth = make_coefficients(5, expression=psi, eyelid=[[0, 0]] * 3 + [[1, 0], [0, 0]])
    # Neither the predicted pose nor the predicted identity counts.
    psi = [[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [-1, 0, 0]]
    pose, beta = np.full((5, 3), 0.7), np.full((5, S), 3.0)
    prediction = make_coefficients(5, expression=psi, pose=pose, shape=beta)
    found = geometry.measure_expression(head, truth, prediction, batch_size=8)
    np.testing.assert_allclose(found.error, [3, 2, 0, 4, 6], atol=1e-4)
    np.testing.assert_allclose(found.intensity, [6, 2, 0, 4, 3], atol=1e-4)
    np.testing.assert_allclose(found.predicted_intensity, [3, 0, 0, 0, 3], atol=1e-4)


def test_jaw_is_compared_on_the_true_identity(head):
    """The jaw turns vertex 0, at distance r from the joint, by an angle: a chord of 2 r sin(a/2).

    Its axis is y, so r is that of x and z; the true shape moves the vertex from x = -5 to -7 cm.
    """
    truth = make_coefficients(1, jaw=[[0, 0.4, 0]], shape=[[1, 0, 0, 0]])
    found = geometry.measure_expression(head, truth, make_coefficients(1), batch_size=8)
    chord = 2 * np.hypot(70, 50) * np.sin(0.2)
    np.testing.assert_allclose(found.intensity, [chord / 4], rtol=1e-5)
    np.testing.assert_allclose(found.error, found.intensity, rtol=1e-6)


def test_zero_prediction_has_the_intensity_as_its_error(head):
    rng = np.random.default_rng(0)
    jaw, eyelid = rng.normal(0, 0.2, (7, 3)), rng.uniform(size=(7, 2))
    psi, beta = rng.normal(size=(7, E)), rng.normal(size=(7, S))
    truth = make_coefficients(7, expression=psi, jaw=jaw, eyelid=eyelid, shape=beta)
    found = geometry.measure_expression(head, truth, make_coefficients(7), batch_size=8)
    np.testing.assert_allclose(found.error, found.intensity, rtol=1e-6)
    assert (found.predicted_intensity < 1e-4).all()


def test_truth_comes_from_training_or_evaluation_labels():
    labels = make_labels(3, has_flame=np.array([True, False, False]))
    labels["has_eval"] = np.array([True, True, False])
    labels["has_shape"] = np.array([True, False, False])
    for key in ("expression", "jaw", "eyelid", "shape"):
        labels[key] = np.full_like(labels[key], 1)
    for key in ("eval_expression", "eval_jaw", "eval_eyelid"):
        labels[key] = np.full_like(labels[key], 2)
    truth, known = geometry.true_coefficients(labels)
    np.testing.assert_array_equal(known, [True, True, False])
    for name in ("expression", "jaw", "eyelid"):
        np.testing.assert_array_equal(getattr(truth, name)[:2, 0], [1, 2])
    np.testing.assert_array_equal(truth.shape[:, 0], [1, 0, 0])


def test_calibration_recovers_a_line_and_agrees_with_scipy():
    rng = np.random.default_rng(1)
    true = rng.uniform(0, 4, 200)
    exact = geometry.calibration(true, 0.5 * true + 0.25)
    assert exact == pytest.approx(dict(slope=0.5, intercept_mm=0.25, pearson=1, spearman=1))
    noisy = np.round(0.7 * true + rng.normal(0, 1, 200), 1)  # with ties
    found = geometry.calibration(true, noisy)
    line = stats.linregress(true, noisy)
    assert found["slope"] == pytest.approx(line.slope)
    assert found["intercept_mm"] == pytest.approx(line.intercept)
    assert found["pearson"] == pytest.approx(line.rvalue)
    assert found["spearman"] == pytest.approx(stats.spearmanr(true, noisy).statistic)
    assert set(geometry.calibration(np.ones(9), noisy[:9]).values()) == {None}


def test_bins_split_at_the_edges():
    intensity = np.array([0.5, 1.0, 1.5, 2.0, 7.0])
    expression = geometry.Expression(intensity / 10, intensity, intensity / 2)
    bins = geometry.bin_scores(expression, (1.0, 2.0))
    assert [bins[name]["n"] for name in geometry.BINS] == [1, 2, 2]
    assert bins["middle"]["expression_error_mm"] == pytest.approx(0.125)
    assert bins["strong"]["zero_expression_error_mm"] == pytest.approx(4.5)
    assert bins["strong"]["predicted_intensity_mm"] == pytest.approx(2.25)
    empty = geometry.bin_scores(expression, (8.0, 9.0))["strong"]
    assert empty["n"] == 0 and empty["expression_error_mm"] is None
    assert geometry.tertiles(np.arange(1.0, 8.0)) == pytest.approx((3, 5))


def test_ordered_pairs_by_hand():
    identity = np.array([0, 0, 0, 1, 1, 0, 1])
    emotion = np.array([2, 2, 2, 2, 2, 3, -1])
    level = np.array([0, 1, 2, 0, 2, 1, 1])
    predicted = np.array([1.0, 3.0, 2.0, 5.0, 5.0, 0.0, 9.0])
    # identity 0: 0<1 right, 0<2 right, 1<2 wrong; identity 1: a tie; the others have no partner
    found = geometry.ordered_pairs(predicted, identity, emotion, level)
    assert found == {"ordered_share": 2.5 / 4, "pairs": 4}
    alone = [column[:1] for column in (predicted, identity, emotion, level)]
    assert geometry.ordered_pairs(*alone) == {"ordered_share": None, "pairs": 0}


def test_landmark_error_in_image_units_and_eye_distances(head):
    prediction = make_coefficients(3)
    output = jax.jit(flame)(head, prediction)
    labels = make_labels(3)
    for name in geometry.LANDMARK_SETS:
        flip = np.array([5, -5])
        labels[name] = np.asarray(getattr(output, name))[..., :2] * flip + np.array([0.03, 0.04])
        labels[f"has_{name}"] = np.array([True, name == "landmarks_105", False])
    labels["has_annotated_68"] = np.array([True, False, False])
    labels["landmarks_203"][:, 80:] += 1  # outside the points shared by all views
    # Landmark i is corner i % 4 of (0, 2, 4, 6), at ndc (-.25, .25), (-.25, -.25), (.25, ...)
    labels["landmarks_68"][0, 45] = labels["landmarks_68"][0, 36] + [0.3, 0.4]
    errors = geometry.landmark_errors(head, prediction, labels, batch_size=8)
    assert np.isfinite(errors["landmarks_68"]["ndc"]).tolist() == [True, False, False]
    np.testing.assert_allclose(errors["landmarks_105"]["ndc"], [0.05, 0.05, np.nan], rtol=1e-4)
    np.testing.assert_allclose(errors["landmarks_203"]["ndc"], [0.05, np.nan, np.nan], rtol=1e-4)
    # Row 0: eye corners of the 68, moved to 0.5 apart. Row 1: of the 105, points 7 and 9.
    seven, nine = labels["landmarks_105"][1, [7, 9]]
    expected = [0.1, 0.05 / np.linalg.norm(nine - seven), np.nan]
    np.testing.assert_allclose(errors["landmarks_105"]["interocular"], expected, rtol=1e-4)


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


class PerfectModel:
    """Reads the number of the example out of its first pixel and looks the answer up."""

    def __init__(self, labels, scale=1.0):
        self.labels, self.scale = labels, scale

    def apply(self, variables, image, *rest, method=None):
        if method == "synthesize":
            masked, _ = rest  # image is the geometry map
            return jnp.where(image > 0, 1.0, masked)
        row = jnp.round(image[:, 0, 0, 0] * 255).astype(jnp.int32)
        known = {k: jnp.asarray(v)[row] for k, v in self.labels.items() if v.dtype.kind == "f"}
        n = len(image)
        coefficients = FlameCoefficients(
            **{k: known[k] * self.scale for k in ("expression", "jaw", "eyelid")},
            shape=jnp.zeros((n, S)),
            pose=jnp.zeros((n, 3)),
            camera=jnp.tile(variables["camera"], (n, 1)),
        )
        logits = jax.nn.one_hot(jnp.asarray(self.labels["emotion"])[row], 8)
        return FieldsOutput(
            coefficients, jnp.zeros((n, 4, 2)), logits, known["valence"], known["arousal"]
        )


@pytest.fixture
def bench(monkeypatch):
    """Two sets: "wild" with classes and V/A, "levels" graded; served by a stand-in pipeline."""
    rng = np.random.default_rng(0)
    n = 30
    truth = rng.normal(size=(n, E)).astype(np.float32)
    labels = make_labels(
        n,
        expression=truth,
        eval_expression=truth,
        has_eval=np.ones(n, bool),
        emotion=np.arange(n, dtype=np.int32) % 8,
        has_emotion=np.ones(n, bool),
        valence=rng.uniform(-0.9, 0.9, n).astype(np.float32),
        arousal=rng.uniform(-0.9, 0.9, n).astype(np.float32),
        has_va=np.arange(n) < 20,
        subject=np.arange(n, dtype=np.int32) // 4,
        level=np.where(np.arange(n) < 20, -1, np.arange(n) % 3).astype(np.int32),
    )
    labels["image"][:, 0, 0, 0] = np.arange(n)
    rows = {"wild": slice(0, 20), "levels": slice(20, 30)}

    def evaluation_batches(config, name, split, *, image_size, batch_size):
        part = {k: v[rows[name]] for k, v in labels.items()}
        for start in range(0, len(part["id"]), batch_size):
            yield {k: v[start : start + batch_size] for k, v in part.items()}

    pipeline = SimpleNamespace(
        parse_mixture=lambda text: dict.fromkeys(text.split("+"), 1.0),
        count_examples=lambda config, name, split: rows[name].stop - rows[name].start,
        split_names=lambda config, name: ["train", "test"],
        evaluation_batches=evaluation_batches,
    )
    monkeypatch.setattr(evaluate, "_import_mixture", lambda: pipeline)
    config = ConfigDict(dict(stage=2, image_size=8, head="", data=dict(mixture="wild+levels")))
    config.losses = ConfigDict(dict(dilation=0.0))
    config.model = ConfigDict(dict(synthesizer="teaser"))
    config.evaluation = ConfigDict(dict(sources="", batch_size=8))

    def inference(trained=(), **choices):
        return SimpleNamespace(
            config=config,
            model=PerfectModel(labels, **choices),
            variables={"camera": jnp.array([5.0, 0, 0])},
            step=7,
            meta={"trained": list(trained)},
        )

    return inference


def test_smirks_pictures_depend_on_the_place_of_an_example_alone():
    """Of a synthesiser that returns the masked image it is given."""
    model = SimpleNamespace(apply=lambda variables, geometry, masked, tokens, method: masked)
    zero = dict(shape=7, expression=6, jaw=3, eyelid=2, pose=3)
    coefficients = FlameCoefficients(
        **{name: np.zeros((2, n), np.float32) for name, n in zero.items()},
        camera=np.tile(np.float32([6, 0, 0]), (2, 1)),
    )
    output = FieldsOutput(coefficients, None, *np.zeros((3, 2)))
    image = np.random.default_rng(0).integers(50, 255, (2, 16, 16, 3), np.uint8)
    settings = SkinSettings(share=0.3, noise=0.1, drop=0.0, cycle_drop=0.0)

    def painted(rows, skin):
        mask, masking = np.ones((2, 16, 16), np.uint8), Masking(0.0, skin)
        return synthesize_set(
            model, {}, random_head(), output, image, mask, np.array(rows), masking=masking
        )

    kept, bare = painted([3, 5], settings), painted([3, 5], None)
    hidden = bare == 0
    assert (kept[hidden] > 0).any() and (kept[~hidden] > 0).all()
    np.testing.assert_array_equal(painted([3, 6], settings)[0], kept[0])
    assert (painted([3, 6], settings)[1] != kept[1]).any()


def test_a_perfect_model_scores_perfectly(bench, head, capsys):
    scores, arrays = evaluate.evaluate(bench(trained=["synthesizer"]), head)
    json.dumps(scores, allow_nan=False)
    assert scores["expression_error_mm"] == pytest.approx(0, abs=1e-3)
    assert scores["zero_expression_error_mm"] > 1
    assert scores["valence_ccc"] == pytest.approx(1) == scores["arousal_ccc"]
    assert scores["accuracy"] == 1 and np.trace(scores["classes"]["confusion"]) == 20
    assert scores["intervals"]["accuracy"] == [1, 1]
    assert scores["expression"]["calibration"]["slope"] == pytest.approx(1, abs=1e-4)
    assert [b["n"] for b in scores["expression"]["bins"].values()] == [10, 10, 10]
    wild, levels = scores["sources"]["wild"], scores["sources"]["levels"]
    assert (wild["n"], levels["n"]) == (20, 10)
    assert levels["valence_ccc"] is None and levels["accuracy"] == 1
    assert wild["levels"]["pairs"] == 0 == wild["landmarks"]["landmarks_68"]["n"]
    assert scores["groups"] == 5 + 3  # subjects of one set are not those of another
    assert "levels: 10/10 images" in capsys.readouterr().err

    lines = evaluate.table(scores).splitlines()
    assert lines[0] == "stage 2, step 7, test split"
    assert [line.split()[0] for line in lines[2:5]] == ["wild", "levels", "all"]

    assert arrays["source"].tolist() == [0] * 20 + [1] * 10
    np.testing.assert_array_equal(arrays["example_row"], [0, 6, 13, 19, 20, 23, 26, 29])
    np.testing.assert_array_equal(arrays["example_image"][:, 0, 0, 0], arrays["example_row"])
    # The stand-in synthesiser paints the face white, and nothing of the image is hidden but that.
    white = (arrays["example_reconstruction"] == 255).all(-1)
    assert white.any((1, 2)).all() and not white[:, 0].any()
    predicted, true = (arrays[f"example_{k}_expression"] for k in ("predicted", "true"))
    np.testing.assert_allclose(predicted, true, atol=1e-6)


def test_a_workdir_gets_its_scores_and_predictions(bench, head, monkeypatch, tmp_path):
    monkeypatch.setattr(evaluate, "load_inference", lambda workdir, **_: bench())
    monkeypatch.setattr(evaluate, "resolve_head", {"": head}.get)
    out = tmp_path / "new" / "evaluation.json"
    scores, predicted = evaluate.score_workdir("runs/x")
    evaluate.write_scores(str(out), scores, predicted)
    stored = json.loads(out.read_text())
    assert stored["workdir"] == "runs/x" and stored["accuracy"] == scores["accuracy"] == 1
    with np.load(out.parent / evaluate.PREDICTIONS) as arrays:
        assert arrays["intensity"].shape == (30,)
        assert arrays["example_id"][0] == "face0"


def test_another_head_than_in_training_is_refused(bench, head, monkeypatch):
    inference = bench()
    inference.meta["head"] = {"name": "flame", "version": "2020", "sha256": "1"}
    monkeypatch.setattr(evaluate, "load_inference", lambda workdir, **_: inference)
    monkeypatch.setattr(evaluate, "resolve_head", lambda path: head)
    with pytest.raises(UserError, match="trained with head flame 2020, this is cube 0"):
        evaluate.score_workdir("runs/x")


def test_a_timid_model_has_a_small_slope(bench, head):
    scores, _ = evaluate.evaluate(bench(scale=0.5), head)
    line = scores["expression"]["calibration"]
    assert line["slope"] == pytest.approx(0.5, abs=1e-3)
    assert line["spearman"] == pytest.approx(1)
    half = 0.5 * scores["zero_expression_error_mm"]
    assert scores["expression_error_mm"] == pytest.approx(half, rel=1e-3)


def test_a_diverged_model_is_named(bench, head):
    with pytest.raises(ValueError, match=r"predicts expression that is not finite for 20 of 20"):
        evaluate.evaluate(bench(scale=np.nan), head)


def test_sources_may_be_chosen(bench, head):
    inference = bench()
    inference.config.evaluation.sources = "levels"
    scores, _ = evaluate.evaluate(inference, head)
    assert list(scores["sources"]) == ["levels"] and scores["accuracy"] is None


def test_unlabelled_examples_give_none(head):
    labels = make_labels(3)
    output = FieldsOutput(
        make_coefficients(3), np.zeros((3, 4, 2)), np.zeros((3, 8)), np.zeros(3), np.zeros(3)
    )
    columns = summary.columns(head, output, labels, batch_size=8)
    scores = summary.summarize(columns, summary.intensity_edges([columns]))
    for key in ("expression_error_mm", "zero_expression_error_mm", "valence_ccc", "accuracy"):
        assert scores[key] is None
    assert scores["groups"] == 3  # unknown subjects stand alone
    json.dumps(scores, allow_nan=False)


def test_scores_that_one_example_does_not_give_are_none_and_not_zero(head):
    labels = make_labels(1, has_va=np.ones(1, bool), has_emotion=np.ones(1, bool))
    labels["emotion"][:] = 0
    output = FieldsOutput(
        make_coefficients(1), np.zeros((1, 4, 2)), np.zeros((1, 8)), np.zeros(1), np.zeros(1)
    )
    columns = summary.columns(head, output, labels, batch_size=8)
    scores = summary.summarize(columns, None)
    assert scores["valence"] == {"n": 1, "rmse": 0.0, "pcc": None, "ccc": None, "sagr": 1.0}
    assert scores["valence_ccc"] is None and scores["intervals"]["valence_ccc"] is None
    assert scores["accuracy"] == 1 and scores["intervals"]["accuracy"] == [1, 1]
    json.dumps(scores, allow_nan=False)
    shown = dict(scores, stage=2, step=7, split="test", sources={"wild": scores})
    assert evaluate.table(shown).splitlines()[2].split()[7:10] == ["n/a", "n/a", "1.000"]


def test_missing_tensorflow_is_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "data_pipelines", None)
    with pytest.raises(UserError, match=r"pip install -e \.\[data\]"):
        evaluate._import_mixture()
