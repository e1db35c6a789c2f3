"""evaluate --predictions and the probe as a user types them, without data sets or networks."""

from __future__ import annotations

import json

import numpy as np

from tests.support.answers import make_answers, write_csv

PARTS = ("json", "csv", "tex", "html")


def test_two_files_of_predictions_are_scored_and_compared(command, tmp_path, capsys):
    columns = make_answers(np.random.default_rng(0), 80, noise=1.0)
    worse = make_answers(np.random.default_rng(0), 80, noise=4.0)
    ours = write_csv(tmp_path / "ours.csv", columns)
    worse |= {name: columns[name] for name in columns if name.startswith("true_")}
    theirs = write_csv(tmp_path / "theirs.csv", worse)
    out = tmp_path / "out"
    given = [f"--predictions={ours}", f"--against={theirs}", f"--out={out}"]
    assert command("fields_jax.evaluate", given) == 0
    assert "ours - theirs: V CCC +" in capsys.readouterr().out
    assert {file.name for file in out.iterdir()} == {f"recognition.{part}" for part in PARTS}
    scores = json.loads((out / "recognition.json").read_text())
    low, high = scores["differences"]["ours - theirs"]["intervals"]["eight.accuracy"]
    assert 0 < low < high


def test_a_probe_of_codes_in_a_file(command, tmp_path, capsys):
    rng = np.random.default_rng(0)
    emotion = np.arange(160) % 8
    np.savez(
        tmp_path / "codes.npz",
        expression=rng.normal(size=(160, 5)) + emotion[:, None],
        jaw=rng.normal(size=(160, 3)),
        true_emotion=emotion,
        true_valence=np.where(emotion > 3, 0.5, -0.5),
        subject=np.arange(160) // 4,
    )
    out = tmp_path / "out"
    small = ["--width=16", "--depth=1", "--steps=20", "--seeds=2"]
    given = [f"--codes=mine={tmp_path}/codes.npz", f"--out={out}", *small]
    assert command("fields_jax.probe", given) == 0
    said = capsys.readouterr().out
    assert "mine: expression+jaw: 8 numbers of 160 examples" in said
    scores = json.loads((out / "recognition.json").read_text())
    assert list(scores["methods"]) == [
        "constant",
        "class mean (oracle)",
        "mine: expression+jaw",
    ]
    assert scores["methods"]["mine: expression+jaw"]["seeds"]["count"] == 2
    left = {file.name for file in out.iterdir()}
    assert left == {*(f"recognition.{part}" for part in PARTS), "predictions", "codes"}
    predicted = out / "predictions" / "mine-expression+jaw.csv"
    again = [f"--predictions={predicted}", f"--out={tmp_path}/again"]
    assert command("fields_jax.evaluate", again) == 0
