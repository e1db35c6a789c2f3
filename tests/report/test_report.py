"""The report of runs whose numbers are all made up."""

import base64
import dataclasses
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fields_jax.errors import UserError
from fields_jax.evaluation import registry
from fields_jax.flame.procedural import procedural_head
from fields_jax.report import __main__ as command
from fields_jax.report import examples, figures, numbers, remarks, runs, stored
from tests.support.pages import needs_browser, set_slider
from tests.support.scored_runs import NASTY, write_run


@pytest.fixture(scope="session")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory, head):
    folder = tmp_path_factory.mktemp("runs")
    return {
        "stage1": write_run(folder / "one", 1, head, skill=0.35),
        "stage2": write_run(folder / "two", 2, head, skill=0.8),
    }


@pytest.fixture(scope="module")
def loaded(workdirs):
    return [runs.load_run(f"Stage {name[-1]}", workdir) for name, workdir in workdirs.items()]


@pytest.fixture(scope="module")
def written(workdirs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    out, scores = folder / "deep" / "report.html", folder / "deep" / "evaluation.json"
    size = command.write_report(workdirs, str(out), str(scores))
    assert size == out.stat().st_size
    return out.read_text(), json.loads(scores.read_text())


class Page(HTMLParser):
    """Collects what a browser would fetch, the tags that stay open, and the text."""

    VOID = ("meta", "img", "br", "source", "link", "input")

    def __init__(self, text):
        super().__init__()
        self.fetched, self.open, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.fetched += [v for k, v in attributes if k in ("src", "srcset", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_whole_and_needs_nothing_else(written):
    html, _ = written
    page = Page(html)
    assert page.open == []
    assert len(page.fetched) > 20
    assert all(address.startswith("data:image/png;base64,") for address in page.fetched)
    assert "url(" not in html and "@import" not in html
    assert html.count("<script") == html.count("<script>") == 2  # of the head, in the page
    assert len(html) < 3 * 2**20
    for address in page.fetched:
        Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).verify()


def test_names_are_escaped(written):
    html, _ = written
    assert NASTY not in html and "&lt;script&gt;alert" in html


@needs_browser
def test_the_first_face_can_be_turned(written, tab, tmp_path):
    (tmp_path / "report.html").write_text(written[0])
    tab.open(tmp_path / "report.html", width=720, height=600)
    tab.wait("!document.querySelector('[data-part=controls]').disabled")
    before = tab.picture("[data-part=canvas]").astype(int)
    set_slider(tab, "[data-movement=jawOpen]", 1)
    moved = tab.picture("[data-part=canvas]").astype(int)
    assert before.std() > 5 and (np.abs(moved - before).max(axis=-1) > 20).sum() > 200
    assert tab.errors == [] and len(tab.requests) == 1


def test_both_stages_are_in_the_page_and_in_the_json(written, loaded):
    html, scores = written
    text = Page(html).text
    assert list(scores) == ["stage1", "stage2"]
    for key in (
        "expression_error_mm", "zero_expression_error_mm", "valence_ccc", "arousal_ccc", "accuracy"
    ):  # fmt: skip
        assert np.isfinite(scores["stage2"][key])
    for run in loaded:
        assert f"{run.scores['expression_error_mm']:.2f}" in text
    assert "Stage 1" in text and "1,200 steps of" in text
    assert "Nothing here is a statement about photographs" in text


def test_one_stage_is_enough(workdirs, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "_DPI", 40)
    out = tmp_path / "report.html"
    command.write_report({"stage2": workdirs["stage2"]}, str(out), str(tmp_path / "e.json"))
    text = Page(out.read_text()).text
    assert "lowers the error" not in text and "Stage 1" not in text


def test_a_metric_that_is_added_is_in_the_page(workdirs, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "_DPI", 40)
    added = registry.Metric("classes.recall_sd_across_classes", "Emotion", "spread of the recalls")
    monkeypatch.setattr(registry, "METRICS", (*registry.METRICS, added))
    out = tmp_path / "report.html"
    command.write_report({"stage2": workdirs["stage2"]}, str(out), str(tmp_path / "e.json"))
    assert "spread of the recalls" in Page(out.read_text()).text


def test_a_stage_without_emotion_head_shows_no_emotion_scores(loaded):
    rows = {row.name: row for row in numbers.number_rows(loaded)}
    assert rows["accuracy"].cells[0].text == numbers.MISSING
    assert rows["accuracy"].cells[1].text.endswith("%")
    assert not rows["accuracy"].cells[1].best  # nothing to be better than
    assert any("Stage 1 trains no emotion head" in line for line in remarks.limits(loaded))
    only = numbers.number_rows(loaded[:1])
    assert {row.group for row in only} == {"Expression", "Identity", "Landmarks"}


def test_a_stage_without_synthesiser_shows_no_scores_of_pictures(loaded):
    one, both = numbers.number_rows(loaded[:1]), numbers.number_rows(loaded)
    assert not {"Reconstruction", "Swapped geometry"} & {row.group for row in one}
    (row,) = (row for row in both if row.name == "paint that moves along")
    assert row.cells[0].text == registry.MISSING and row.cells[1].text.endswith("%")
    assert "moves its paint" in " ".join(remarks.findings(loaded))
    assert "moves its paint" not in " ".join(remarks.findings(loaded[:1]))


def test_an_evaluation_from_before_pictures_were_scored_is_read(workdirs, tmp_path):
    workdir = shutil.copytree(workdirs["stage2"], tmp_path / "old")
    file = workdir / "evaluation.json"
    scores = json.loads(file.read_text())
    for part in (scores, *scores["sources"].values()):
        for name in ("reconstruction", "swap"):
            del part[name]
        for name in [name for name in part["intervals"] if "_l1" in name or "swap" in name]:
            del part["intervals"][name]
    file.write_text(json.dumps(scores))
    run = runs.load_run("Stage 2", str(workdir))
    assert "Reconstruction" not in {row.group for row in numbers.number_rows([run])}
    assert all(tile.name != "Geometry followed" for tile in numbers.tiles([run]))


def test_a_score_that_one_example_does_not_give_is_not_available(loaded):
    run = loaded[1]
    undefined = dict(run.scores["valence"], ccc=None, pcc=None)
    one = dataclasses.replace(run, scores=run.scores | {"valence": undefined, "valence_ccc": None})
    rows = {row.name: row for row in numbers.number_rows([run, one])}
    assert [cell.text for cell in rows["valence CCC"].cells][1] == "n/a"
    assert figures.valence_arousal(one).width > 0


def test_the_better_number_is_marked(loaded):
    one, two = loaded
    rows = {row.name: row for row in numbers.number_rows(loaded)}
    assert [cell.best for cell in rows["error, mm"].cells] == [False, True]
    assert rows["error, mm"].reference == f"{two.scores['zero_expression_error_mm']:.2f}"
    assert rows["error, mm"].cells[1].interval.count(" to ") == 1

    def with_slope(run, slope):
        line = run.scores["expression"]["calibration"] | {"slope": slope}
        expression = run.scores["expression"] | {"calibration": line}
        return dataclasses.replace(run, scores=run.scores | {"expression": expression})

    def marked(*slopes):
        pair = [with_slope(run, slope) for run, slope in zip((one, two), slopes, strict=True)]
        row = next(r for r in numbers.number_rows(pair) if r.name == "intensity slope")
        return [cell.best for cell in row.cells]

    assert marked(0.8, 1.1) == [False, True]  # nearer to 1
    assert marked(0.95, 1.1) == [True, False]
    assert marked(None, 1.1) == [False, False]


def test_sentences_follow_the_numbers(loaded):
    assert any("lowers the error from" in line for line in remarks.findings(loaded))
    swapped = [
        dataclasses.replace(loaded[0], scores=loaded[1].scores),
        dataclasses.replace(loaded[1], scores=loaded[0].scores),
    ]
    lines = " ".join(remarks.findings(swapped))
    assert "raises the error from" in lines and "lowers" not in lines
    assert remarks.duration(59) == "1 min" and remarks.duration(3660) == "1 h 01 min"


def test_training_time_comes_from_the_logged_rates(loaded):
    # 600 steps at 64 images/s, but one row of 20 steps has no rate
    batch_size = loaded[0].config["batch_size"]
    assert loaded[0].seconds == pytest.approx((600 - 20) * batch_size / 64)


def test_a_resumed_log_counts_each_step_once(workdirs, tmp_path):
    text = "".join(
        json.dumps({"step": step, "phase": "A", "loss": loss}) + "\n"
        for step, loss in ((20, 1.0), (40, 2.0), (40, 5.0), (60, 3.0))
    )
    (tmp_path / "metrics.jsonl").write_text(text)
    log = stored.read_log(runs.epath.Path(tmp_path) / "metrics.jsonl")
    assert [(row["step"], row["loss"]) for row in log] == [(20, 1.0), (40, 5.0), (60, 3.0)]


def test_plots_come_in_both_themes(loaded):
    made = figures.confusion_matrix(loaded[1])
    light, dark = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))
        for uri in (made.light, made.dark)
    )
    assert light.shape == dark.shape
    assert light[2, 2].min() > 250 and dark[2, 2].max() < 60  # the page shows through


def test_plots_have_the_colours_of_the_page():
    style = Path(figures.__file__).with_name("templates") / "style.css"
    light, dark = style.read_text().split("prefers-color-scheme: dark")
    for theme, declared in ((figures.LIGHT, light), (figures.DARK, dark)):
        for name in ("paper", "ink", "muted", "line"):
            assert f"--{name}:{getattr(theme, name)};" in declared
        assert f"--accent:{theme.stages[1]};" in declared


def test_phases_are_marked_where_they_begin(loaded):
    assert figures._phase_starts(loaded[0]) == []
    assert figures._phase_starts(loaded[1]) == [(0, "pretrain"), (600, "A")]


def test_pictures_of_an_example_without_truth_leave_the_mesh_out(loaded, head):
    columns, rows = examples.draw_examples(loaded, head)
    assert columns == [
        "input", "landmarks", "mesh, stage 1", "mesh, stage 2", "mesh, true expression",
        "reconstruction", "mesh, another's expression", "repainted",
    ]  # fmt: skip
    true = columns.index("mesh, true expression")
    assert rows[1].pictures[true] == rows[1].pictures[0]
    assert rows[0].pictures[true] != rows[0].pictures[0]
    assert rows[0].title.startswith("synthetic/wild2d: ")
    assert any(re.match("neutral, read as ", note) for note in rows[0].notes)


def test_an_older_evaluation_has_no_swapped_pictures(loaded, head):
    kept = {k: v for k, v in loaded[1].arrays.items() if "swapped" not in k}
    columns, _ = examples.draw_examples([dataclasses.replace(loaded[1], arrays=kept)], head)
    assert columns[-1] == "reconstruction"


def _spoil(workdir, tmp_path, name, change):
    folder = tmp_path / "spoilt"
    folder.mkdir()
    for file in ("evaluation.json", "predictions.npz", "config.json", "metrics.jsonl"):
        (folder / file).write_bytes((runs.epath.Path(workdir) / file).read_bytes())
    change(folder / name)
    return str(folder)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("evaluation.json", lambda f: f.unlink(), r"evaluation\.json is missing; run `python -m"),
        ("predictions.npz", lambda f: f.unlink(), r"predictions\.npz is missing; run `python -m"),
        ("metrics.jsonl", lambda f: f.write_text("{}x\n{}"), r"metrics\.jsonl, line 1 is not JSON"),
        (
            "evaluation.json",
            lambda f: f.write_text(f.read_text().replace('"n": 330', '"n": 331', 1)),
            "do not match",
        ),
    ],
)
def test_missing_and_damaged_files_are_named(workdirs, tmp_path, name, change, message):
    workdir = _spoil(workdirs["stage2"], tmp_path, name, change)
    with pytest.raises(UserError, match=message):
        runs.load_run("Stage 2", workdir)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("example_swapped", lambda column: column[..., :2]),
        ("example_swapped_expression", lambda column: column[:, :-1]),
        ("example_swapped_jaw", None),
        ("example_swapped_eyelid", lambda column: np.full_like(column, np.nan)),
    ],
)
def test_a_swapped_face_that_does_not_fit_is_named(workdirs, tmp_path, name, change):
    def respell(file):
        arrays = dict(np.load(file))
        column = arrays.pop(name)
        if change is not None:
            arrays[name] = change(column)
        np.savez(file, **arrays)

    workdir = _spoil(workdirs["stage2"], tmp_path, "predictions.npz", respell)
    with pytest.raises(UserError, match=rf"predictions\.npz: .*{name}"):
        runs.load_run("Stage 2", workdir)


def test_mistakes_are_named(workdirs, loaded, head, tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist"):
        runs.load_run("Stage 2", "nowhere")
    other = write_run(tmp_path / "other", 1, head, skill=0.4, sets={"synthetic/wild2d": 250})
    with pytest.raises(UserError, match="another sets"):
        runs.check_comparable([runs.load_run("Stage 1", other), loaded[1]])
    scores = loaded[0].scores | {"head": {"name": "x", "version": "1", "sha256": "0"}}
    with pytest.raises(UserError, match="another head"):
        runs.check_comparable([dataclasses.replace(loaded[0], scores=scores), loaded[1]])
