"""`export --weights`, and the commands that take its folder or the word for the package's."""

from __future__ import annotations

import json

import pytest

from fields_jax.outputs.program import export_workdir
from fields_jax.report.packing import pack_workdir
from fields_jax.workdir import packed
from fields_jax.workdir.inference import load_inference
from tests.support.workdirs import write_workdir


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    write_workdir(folder)
    return folder


def test_the_command_writes_the_folder_and_says_what_is_left_to_do(place, command, capsys):
    workdir, out = f"--workdir={place / 'run'}", place / "small"
    assert command("fields_jax.export", [workdir, f"--weights={out}"]) == 0
    said = capsys.readouterr().out
    assert f"done: {out}, 0.3 MB, step 0; complete its MODEL_CARD.md" in said
    assert "coefficients.expression" in said
    assert load_inference(str(out)).step == 0
    # And again from itself: the same numbers.
    assert command("fields_jax.export", [f"--workdir={out}", f"--weights={place / 'again'}"]) == 0
    files = (json.loads((place / name / "model.json").read_text()) for name in ("small", "again"))
    assert len({told["sha256"] for told in files}) == 1


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("export --workdir=x", "name one of --out and --weights"),
        ("export --workdir=x --out=a --weights=b", "name one of --out and --weights"),
        ("export --workdir=embedded --weights=b", "this fields_jax holds no model"),
        ("evaluate --workdir=embedded", "--out is missing: scores are not written into the"),
        ("evaluate --workdir=embedded --out=x", "this fields_jax holds no model"),
    ],
)
def test_mistakes_are_one_line(place, command, capsys, monkeypatch, typed, line):
    monkeypatch.setattr(packed, "PACKAGED", place / "none")
    name, *arguments = typed.split()
    assert command(f"fields_jax.{name}", arguments) == 2
    said = capsys.readouterr().err
    assert line in said and said.count("\n") == 1


@pytest.mark.slow
def test_packed_networks_are_exported_as_a_program_beside_themselves(place):
    pack_workdir(str(place / "run"), str(place / "packed"))
    head = str(place / "head.npz")
    report = export_workdir(str(place / "packed"), str(place / "out"), head=head, platforms=["cpu"])
    assert max(report["largest_difference"].values()) < 1e-4
    before, after = (load_inference(str(place / name)) for name in ("packed", "out"))
    assert before.meta["sha256"] == after.meta["sha256"]
