"""The evaluation of whole models, on a head whose movements are known by hand."""

import json
import sys
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from fields_jax.errors import UserError
from fields_jax.evaluation import PREDICTIONS, scoring
from fields_jax.render import Masking
from fields_jax.render.draw import to_uint8
from fields_jax.render.skin import SkinSettings
from fields_jax.synthesis import synthesize
from fields_jax.types import FieldsOutput, FlameCoefficients
from tests.support.cube import E, make_labels
from tests.support.heads import random_head
from tests.support.perfect_model import PerfectModel

SIZE = 16

pytestmark = pytest.mark.usefixtures("unchecked")  # models here are doubles


@pytest.fixture
def bench(monkeypatch):
    """Two sets: "wild" with classes and V/A, "levels" graded; served by a stand-in pipeline."""
    rng = np.random.default_rng(0)
    n = 30
    truth = rng.normal(size=(n, E)).astype(np.float32)
    labels = make_labels(
        n,
        image=np.zeros((n, SIZE, SIZE, 3), np.uint8),
        face_mask=np.ones((n, SIZE, SIZE), np.uint8),
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
        compare_heads=lambda config, names, head: [f"{name} is of another head" for name in names],
    )
    monkeypatch.setattr(scoring, "import_mixture", lambda: pipeline)
    config = ConfigDict(dict(stage=2, image_size=SIZE, head="", data=dict(mixture="wild+levels")))
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
        given = output, image.astype(np.float32) / 255, np.ones((2, 16, 16), np.float32)
        return to_uint8(
            synthesize(
                model, {}, random_head(), *given, np.array(rows), masking=Masking(0.0, skin)
            ).image
        )

    kept, bare = painted([3, 5], settings), painted([3, 5], None)
    hidden = bare == 0
    assert (kept[hidden] > 0).any() and (kept[~hidden] > 0).all()
    np.testing.assert_array_equal(painted([3, 6], settings)[0], kept[0])
    assert (painted([3, 6], settings)[1] != kept[1]).any()


def test_a_perfect_model_scores_perfectly(bench, head, capsys):
    scores, arrays = scoring.evaluate(bench(trained=["synthesizer"]), head)
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

    lines = scoring.table(scores).splitlines()
    assert lines[0] == "stage 2, step 7, test split"
    assert [line.split()[0] for line in lines[2:5]] == ["wild", "levels", "all"]
    titles = next(row for row, line in enumerate(lines) if "PSNR face" in line)
    assert [line.split()[0] for line in lines[titles + 1 : titles + 4]] == ["wild", "levels", "all"]

    assert arrays["source"].tolist() == [0] * 20 + [1] * 10
    np.testing.assert_array_equal(arrays["example_row"], [0, 6, 13, 19, 20, 23, 26, 29])
    np.testing.assert_array_equal(arrays["example_image"][:, 0, 0, 0], arrays["example_row"])
    # The stand-in synthesiser paints the face white, and nothing of the image is hidden but that.
    white = (arrays["example_reconstruction"] == 255).all(-1)
    assert white.any((1, 2)).all() and not white[:, 0].any()
    swapped = (arrays["example_swapped"] == 255).all(-1)
    assert swapped.any((1, 2)).all() and (swapped != white).any()
    # Photographs are black but for a pixel that is seen: all the difference is the white face.
    found = scores["reconstruction"]["picture"]
    assert found["l1"] == pytest.approx(arrays["picture.l1"].mean())
    np.testing.assert_allclose(arrays["picture.l1"][arrays["example_row"]], white.mean((1, 2)))
    np.testing.assert_allclose(arrays["face.l1"], 1)
    assert found["perceptual"] is None and scores["sources"]["wild"]["swap"].keys() == {
        "paint",
        "reading",
    }
    low, high = scores["intervals"]["picture_l1"]
    assert low <= found["l1"] <= high
    predicted, true = (arrays[f"example_{k}_expression"] for k in ("predicted", "true"))
    np.testing.assert_allclose(predicted, true, atol=1e-6)
    given = arrays["example_swapped_expression"]
    assert given.shape == predicted.shape and (np.abs(given - predicted).max(1) > 0).all()


def test_a_workdir_gets_its_scores_and_predictions(bench, head, monkeypatch, tmp_path):
    monkeypatch.setattr(scoring, "load_inference", lambda workdir, **_: bench())
    monkeypatch.setattr(scoring, "resolve_head", {"": head}.get)
    out = tmp_path / "new" / "evaluation.json"
    scores, predicted = scoring.score_workdir("runs/x")
    scoring.write_scores(str(out), scores, predicted)
    stored = json.loads(out.read_text())
    assert stored["workdir"] == "runs/x" and stored["accuracy"] == scores["accuracy"] == 1
    with np.load(out.parent / PREDICTIONS) as arrays:
        assert arrays["intensity"].shape == (30,)
        assert arrays["example_id"][0] == "face0"


def test_another_head_than_in_training_is_refused(bench, head, monkeypatch):
    inference = bench()
    inference.meta["head"] = {"name": "flame", "version": "2020", "sha256": "1"}
    monkeypatch.setattr(scoring, "load_inference", lambda workdir, **_: inference)
    monkeypatch.setattr(scoring, "resolve_head", lambda path: head)
    with pytest.raises(UserError, match="trained with head flame 2020, this is cube 0"):
        scoring.score_workdir("runs/x")


def test_without_a_trained_synthesiser_nothing_is_said_of_pictures(bench, head, capsys):
    scores, arrays = scoring.evaluate(bench(), head)
    assert scores["reconstruction"] is None is scores["swap"] is scores["intervals"]["picture_l1"]
    assert not {name for name in arrays if name.startswith(("picture.", "face.", "swap."))}
    assert capsys.readouterr().out.count("no trained synthesizer") == 1
    assert "PSNR" not in scoring.table(scores)


def test_a_timid_model_has_a_small_slope(bench, head):
    scores, _ = scoring.evaluate(bench(scale=0.5), head)
    line = scores["expression"]["calibration"]
    assert line["slope"] == pytest.approx(0.5, abs=1e-3)
    assert line["spearman"] == pytest.approx(1)
    half = 0.5 * scores["zero_expression_error_mm"]
    assert scores["expression_error_mm"] == pytest.approx(half, rel=1e-3)


def test_a_diverged_model_is_named(bench, head):
    with pytest.raises(ValueError, match=r"predicts expression that is not finite for 20 of 20"):
        scoring.evaluate(bench(scale=np.nan), head)


def test_sources_may_be_chosen(bench, head):
    inference = bench()
    inference.config.evaluation.sources = "levels"
    scores, _ = scoring.evaluate(inference, head)
    assert list(scores["sources"]) == ["levels"] and scores["accuracy"] is None


def test_missing_tensorflow_is_one_line(monkeypatch):
    for name in ("data_pipelines", "data_pipelines.reading"):  # a test before may have imported it
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[data\]'"):
        scoring.import_mixture()
