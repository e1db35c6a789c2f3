"""The page of an ablation: what it says of arms, and its plots and pictures."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fields_jax.evaluation import ablation_files
from fields_jax.flame.procedural import procedural_head
from fields_jax.report import ablation, figures
from fields_jax.report.runs import load_run
from tests.support.ablation_runs import SKILLS, write_ablation_run
from tests.support.scored_runs import NASTY


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def page(tmp_path_factory, head):
    folder = tmp_path_factory.mktemp("page")
    tables, runs = {}, []
    for arm in SKILLS:
        here = write_ablation_run(folder / arm, arm, 0, head)
        tables[arm] = {0: ablation_files.read_run(str(here / "train"), str(here / "probe"))}
        runs.append(load_run(arm, str(here / "train")))
    scores = dict(
        title="An ablation",
        says=dict.fromkeys(SKILLS, NASTY),
        facts={"Seeds": "0"},
        notes=["one seed"],
        failed={"no_base-1": "train: error: no such set"},
        edges_mm=runs[0].scores["expression"]["edges_mm"],
        **ablation_files.score_runs(tables, "full", samples=40),
    )
    return scores, runs, ablation.render(scores, runs, head)


def test_the_page_holds_every_number_and_nothing_from_elsewhere(page):
    scores, _, html = page
    for measure in ablation_files.shown_measures(scores):
        for name in scores["differences"]:
            shown = ablation_files.told_difference(scores, name, measure)
            assert all(text in html for text in shown[:2])
    assert "no_base-1</b> is missing: train: error: no such set" in html and "one seed" in html
    assert NASTY not in html and "&lt;script&gt;" in html
    assert not re.findall(r'(?:src|href)="(?!data:|ablation\.)', html)
    verdicts = [
        ablation_files.told_difference(scores, name, measure)[2]
        for measure in ablation_files.shown_measures(scores)
        for name in scores["differences"]
    ]
    assert html.count('class="n worse"') == verdicts.count("worse") > 0


def test_each_arm_has_a_picture_of_each_face(page, head):
    _, runs, html = page
    columns, faces = ablation.faces_by_arm(runs, head)
    assert columns == ["input", *SKILLS, "true expression"]
    assert len(faces) == len(runs[0].example("id"))
    assert html.count("<td><img") == len(faces) * len(columns)
    notes = faces[0].notes
    row = int(runs[0].example("row")[0])
    assert notes[0].startswith(f"intensity {runs[0].arrays['intensity'][row]:.2f} mm")
    assert notes[1] == f"full {runs[0].arrays['error'][row]:.2f}"


def test_without_a_true_expression_no_calibration_is_drawn(page, head):
    scores, runs, html = page
    none = {**scores, "curves": {name: [] for name in scores["curves"]}}
    assert "Calibration of intensity" in html
    assert "Calibration of intensity" not in ablation.render(none, runs, head)


def test_a_panel_of_calibration_for_every_other_arm(page, monkeypatch):
    scores, _, _ = page
    seen = []

    def plot(draw, size, alt):
        from matplotlib.figure import Figure

        figure = Figure(figsize=size)
        draw(figure, figures.LIGHT)
        seen.append(figure)
        return alt

    monkeypatch.setattr(figures, "plot", plot)
    ablation.calibration_plot(scores["curves"], "full")
    panels = [axes for axes in seen[0].axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == [name for name in SKILLS if name != "full"]
    for axes in panels:
        lines = {line.get_label(): line for line in axes.get_lines()}
        points = scores["curves"][axes.get_title()]
        drawn = lines[axes.get_title()].get_xydata()
        np.testing.assert_allclose(drawn, [[p["true_mm"], p["predicted_mm"]] for p in points])
        assert "full" in lines
