"""The command that carries codes from one head to another."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from fields_jax.files import read_npz
from fields_jax.flame.io import save_flame
from fields_jax.outputs.bundle import load_params
from tests.support.registered import elsewhere, small_head

COUNT = 3


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two heads of the same triangles, one of our faces, and a clip as SMIRK writes it."""
    folder = tmp_path_factory.mktemp("transfer")
    head = small_head()
    other = elsewhere(head, 0.0, (0.0, 1.5, 0.0))
    save_flame(str(folder / "a.npz"), head)
    save_flame(str(folder / "b.npz"), other)
    rng = np.random.default_rng(0)
    expression = rng.standard_normal((COUNT, 16)).astype(np.float32)
    shape = rng.standard_normal((COUNT, 12)).astype(np.float32)
    clip = dict(shape_params=shape, expression_params=expression)
    clip["cam"] = np.tile(np.float32([[8, 0, 0]]), (COUNT, 1))
    np.save(folder / "clip.npy", clip)
    meta = {"head": {"name": head.name, "version": head.version, "sha256": head.sha256}}
    face = dict(shape=shape[0], expression=expression[0], jaw=np.zeros(3), eyelid=np.zeros(2))
    face |= dict(pose=np.zeros(3), camera=np.array([8.0, 0, 0]))
    face |= dict(crop_matrix=np.diag([0.5, 0.5, 1.0]), crop_size=224, box=np.zeros(4))
    texts = dict(meta=json.dumps(meta), conventions="{}")
    (folder / "faces" / "one").mkdir(parents=True)
    np.savez(folder / "faces" / "one" / "params.npz", **face, **texts)
    return folder


def test_our_faces_and_clips_of_others_are_carried(place, command, capsys):
    out = place / "out"
    heads = [f"--from={place}/a.npz", f"--to={place}/b.npz", f"--out={out}"]
    assert command("fields_jax.transfer", [*heads, f"{place}/faces", f"{place}/clip.npy"]) == 0
    assert "done: 4 faces" in capsys.readouterr().out
    assert sorted(x.name for x in out.iterdir()) == ["clip", "one", "summary.csv"]
    rows = list(csv.DictReader((out / "summary.csv").read_text().splitlines()))
    assert [(row["name"], row["row"]) for row in rows] == [
        ("one", "0"), ("clip", "0"), ("clip", "1"), ("clip", "2"),
    ]  # fmt: skip
    assert max(float(row["error_mm_95"]) for row in rows) < 0.1

    arrays, meta = load_params(out / "one" / "params.npz")
    before = read_npz(place / "faces" / "one" / "params.npz")
    assert meta["head"]["sha256"] == "1" * 64
    assert meta["transferred"]["from"]["sha256"] == small_head().sha256
    np.testing.assert_array_equal(arrays["crop_matrix"], before["crop_matrix"])
    assert arrays["vertices"].shape == (len(small_head().template), 3)
    np.testing.assert_allclose(arrays["camera"], [8, 0, -1.5], atol=1e-3)
    # The crop is half as large as its photograph: its middle is at 224 of 448.
    x, y = (arrays["camera"][1:] + arrays["vertices"][:, :2]).T * [[8], [-8]]
    np.testing.assert_allclose(arrays["vertices_image"], 224 * (np.stack([x, y], 1) + 1), atol=0.01)
    assert (out / "one" / "mesh.obj").read_text().count("\nv ") == len(small_head().template)

    clip, _ = load_params(out / "clip" / "params.npz")
    assert clip["expression"].shape == (COUNT, 16) and clip["vertices"].ndim == 3
    assert np.ptp(clip["shape"], axis=0).max() > 0.1
    assert not (out / "clip" / "mesh.obj").exists()


def test_a_clip_gets_one_shape(place, command):
    out = place / "one_shape"
    heads = [f"--from={place}/a.npz", f"--to={place}/b.npz", f"--out={out}", "--clip"]
    assert command("fields_jax.transfer", [*heads, f"{place}/clip.npy"]) == 0
    clip, _ = load_params(out / "clip" / "params.npz")
    assert np.ptp(clip["shape"], axis=0).max() == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("--out={out}", "name files of codes"),
        ("{clip}", "--out is missing"),
        ("--from={none} --out={out} {clip}", "does not exist"),
        ("--from={b} --out={out} {faces}", "params.npz is of head 'procedural'"),
        ("--from={b} --out={out} {renamed}", "renamed.npz is of head 'procedural'"),
        ("--from={a} --out={out} {none}", "no such file"),
        ("--from={a} --out={out} {empty}", "there is no params.npz in"),
        ("--from={a} --out={out} {long}", "long.npz: the expression has 17 numbers"),
        ("--from={a} --out={out} {nan}", "nan.npz: 'exp' holds numbers that are not finite"),
        ("--from={a} --out={out} {a}", "has no shape"),
        ("--from={a} --out={out} {flat}", "flat.npz: crop_matrix is no photograph's"),
        ("--from={a} --out={out} {sizes}", "sizes.npz: crop_size is no photograph's"),
    ],
)
def test_mistakes_end_in_one_line(place, command, capsys, arguments, complaint):
    (place / "empty").mkdir(exist_ok=True)
    np.savez(place / "long.npz", shape=np.zeros(12), exp=np.zeros(17))
    np.savez(place / "nan.npz", shape=np.zeros(12), exp=np.full(16, np.nan))
    code = dict(shape=np.zeros(12), exp=np.zeros(16), crop_size=224)
    np.savez(place / "flat.npz", **code, crop_matrix=np.zeros((3, 3)))
    np.savez(place / "sizes.npz", **code | {"crop_size": np.full(2, 224)})
    (place / "renamed.npz").write_bytes((place / "faces" / "one" / "params.npz").read_bytes())
    names = dict(flat="flat.npz", sizes="sizes.npz", renamed="renamed.npz")
    names |= dict(a="a.npz", b="b.npz", clip="clip.npy", faces="faces", none="none.npz")
    names |= dict(empty="empty", long="long.npz", nan="nan.npz", out="refused")
    named = {name: str(place / file) for name, file in names.items()}
    assert command("fields_jax.transfer", arguments.format(**named).split()) == 2
    said = capsys.readouterr().err.strip()
    assert complaint in said and said.count("\n") == 0
    assert not (place / "refused").exists()
