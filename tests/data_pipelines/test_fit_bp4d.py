"""BP4D's scans fitted by the command, and read by the builder of the training set."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import random
import shutil

import numpy as np
import pytest
import scipy.io
from etils import epath
from ml_collections import ConfigDict
from PIL import Image

from data_pipelines import fit_bp4d
from data_pipelines.bp4d import annotations, fit_files, fit_run, layout, points_83, scans
from data_pipelines.bp4d import bp4d_dataset_builder as bp4d
from fields_jax.errors import UserError
from fields_jax.fitting.scan import ScanFitter
from fields_jax.fitting.scan_types import ScanSettings
from fields_jax.flame import flame
from fields_jax.flame.io import save_flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.landmark_schemes import MEDIAPIPE_105, N_MEDIAPIPE
from fields_jax.types import FlameCoefficients
from tests.support import raw_sets, scan_trees

SEQUENCES = (("F001", "T1"), ("F001", "T8"), ("M011", "T1"), ("M011", "T8"))


def command(monkeypatch, source, out, **options) -> int:
    """Runs it with fewer unknowns and points than it has of itself."""
    settings = ScanSettings(points=1500, neutral_frames=3, rounds=4)
    monkeypatch.setattr(fit_run, "ScanFitter", functools.partial(ScanFitter, settings=settings))
    monkeypatch.setattr(fit_run, "_N_SHAPE", 60)
    chosen = dict(source=str(source), out=str(out), head="", subjects=[], limit=0, sheets=2)
    monkeypatch.setattr(fit_bp4d.flags, "FLAGS", ConfigDict(chosen | dict(unit="mm") | options))
    return fit_bp4d.main(["fit_bp4d"])


@pytest.fixture(scope="module")
def known():
    head = procedural_head()
    subjects = {"F001": 1, "M011": 2}
    return {
        (subject, task): scan_trees.known_sequence(head, subjects[subject], int(task[1]))
        for subject, task in SEQUENCES
    }


@pytest.fixture(scope="module")
def tree(tmp_path_factory, known):
    """Two subjects, two sequences of three frames, one mesh damaged, one frame without points."""
    folder = tmp_path_factory.mktemp("bp4d")
    for (subject, task), truth in known.items():
        scan_trees.write_sequence(folder, procedural_head(), subject, task, truth)
    mesh = folder / "2D+3D/F001/T8/0001.obj"
    mesh.write_text(mesh.read_text()[:5000] + "\nv 1 2 oops\n")
    (folder / "2D+3D/M011/T1/0002.bndplus").unlink()
    return folder


@pytest.fixture(scope="module")
def fits(tree, tmp_path_factory):
    out = tmp_path_factory.mktemp("fits")
    with pytest.MonkeyPatch.context() as patch:
        assert command(patch, tree, out) == 0
    return out


def rejected(out):
    with (out / "failures.csv").open() as file:
        return {(row["sequence"], row["frame"]): row["reason"] for row in csv.DictReader(file)}


def test_every_sequence_has_a_fit_and_a_picture(fits):
    names = {f"{subject}_{task}" for subject, task in SEQUENCES}
    assert {path.stem for path in fits.glob("*.npz")} == names
    assert {path.stem for path in (fits / "pictures").iterdir()} == names
    with Image.open(fits / "pictures/F001_T1.png") as picture:
        assert picture.size == (2 * 224, 2 * 224)
    failures = rejected(fits)
    assert set(failures) == {("F001_T8", "1"), ("M011_T1", "2")}
    assert "0001.obj: not a readable mesh" in failures["F001_T8", "1"]
    assert "0002.obj: neither 0002.bndplus or .bnd" in failures["M011_T1", "2"]


def test_coefficients_are_those_of_the_scans(fits, known):
    """Half a millimetre on the face, with one shape for both sequences of a subject."""
    head = procedural_head()
    shapes = {}
    for (subject, task), truth in known.items():
        found = annotations.read_fit(epath.Path(fits / f"{subject}_{task}.npz"), head.sha256)
        shapes.setdefault(subject, next(iter(found.values()))["shape"])
        for number, row in found.items():
            np.testing.assert_array_equal(row["shape"], shapes[subject])
            own = FlameCoefficients(
                **{key: row[key][None] for key in ("shape", "expression", "jaw", "eyelid")},
                pose=np.zeros((1, 3), np.float32),
                camera=np.ones((1, 3), np.float32),
            )
            errors = face(head, own) - face(head, at(truth.coefficients, number))
            errors -= errors.mean(axis=0)  # the head's place is the scanner's matter
            assert np.median(np.linalg.norm(errors, axis=1)) < 0.8e-3
    assert np.abs(shapes["F001"] - shapes["M011"]).max() > 0.5


def at(coefficients, row):
    return FlameCoefficients(
        **{
            name: np.asarray(value)[row : row + 1]
            for name, value in vars(coefficients).items()
            if value is not None
        }
    )


def face(head, coefficients):
    return np.asarray(flame(head, coefficients).vertices)[0, np.asarray(head.face_vertices)]


def test_the_builder_reads_the_fits(tree, fits, tmp_path):
    options = dict(config="spontaneous", data_dir=tmp_path, fits=str(fits), test_fold=0)
    for subject, task in SEQUENCES:
        inner = np.delete(raw_sets.face_68(), [*range(17), 60, 64], axis=0)
        rows = np.zeros((1, 3), [("frame", object), ("pts_2d", object)])
        for frame in range(3):
            rows[0, frame] = (frame + 1, inner)
        (tree / "2DFeatures").mkdir(exist_ok=True)
        scipy.io.savemat(tree / "2DFeatures" / f"{subject}_{task}.mat", {"fit": rows})
    items = bp4d.Builder(**options).catalogue(epath.Path(tree)).splits["train"]
    fitted = {item.key for item in items if "expression" in item.labels}
    everything = {f"{s}/{t}/{n:04d}" for s, t in SEQUENCES for n in range(3)}
    assert {item.key for item in items} == everything
    assert fitted == everything - {"F001/T8/0001", "M011/T1/0002"}
    other = dataclasses.replace(procedural_head(), name="other", sha256="e" * 64)
    save_flame(str(tmp_path / "other.npz"), other)
    with pytest.raises(annotations.OtherHead, match=r"F001_T1.npz: fitted with the head proced"):
        bp4d.Builder(head=str(tmp_path / "other.npz"), **options).catalogue(epath.Path(tree))


def test_finished_sequences_are_skipped_and_damaged_ones_made_anew(tree, fits, monkeypatch, capsys):
    before = {path: path.stat().st_mtime_ns for path in fits.glob("*.npz")}
    damaged = fits / "M011_T8.npz"
    damaged.write_bytes(damaged.read_bytes()[:300])
    assert command(monkeypatch, tree, fits, sheets=0) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["sequences_skipped"] == 3 and summary["sequences_fitted"] == 1
    assert summary["frames"] == summary["frames_accepted"] == 3
    # Of all sequences there are, whatever the files.
    assert summary["frames_rejected"] == {"mesh unreadable": 1, "no landmarks": 1}
    after = {path: path.stat().st_mtime_ns for path in fits.glob("*.npz")}
    assert {path.stem for path in after if after[path] != before[path]} == {"M011_T8"}
    assert not list(fits.glob(".*"))


def test_a_subject_without_a_frame_that_passed_is_fitted_anew(tree, fits, tmp_path, monkeypatch):
    """With another identity too, since that one may be what was wrong."""
    shutil.copytree(fits, tmp_path / "fits")
    for task in ("T1", "T8"):
        replace(tmp_path / f"fits/F001_{task}.npz", ok=np.zeros(3, bool))
    replace(tmp_path / "fits/identity/F001.npz", shape=np.full(60, 3.0))
    assert command(monkeypatch, tree, tmp_path / "fits", subjects=["F001"], sheets=0) == 0
    shape, again = (
        fit_files.read_identity(epath.Path(out / "identity/F001.npz"), procedural_head(), 1e-3)
        for out in (fits, tmp_path / "fits")
    )
    np.testing.assert_array_equal(again, shape)
    for task, count in (("T1", 3), ("T8", 2)):
        with np.load(tmp_path / f"fits/F001_{task}.npz") as found:
            assert found["ok"].sum() == count


def replace(file, **arrays):
    """Other arrays in a file of fits."""
    with np.load(file) as found:
        np.savez(file, **dict(found) | arrays)


def test_fits_of_another_unit_are_not_mixed(tree, fits, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"in units of 0.001 m, not of 1 m; .* another --out"):
        command(monkeypatch, tree, fits, unit="m")
    head, file = procedural_head(), epath.Path(fits / "identity/F001.npz")
    assert fit_files.read_identity(file, head, 1e-3) is not None
    assert fit_files.read_identity(file, head, 1.0) is None


def test_an_interrupted_run_leaves_no_half_file(tree, fits, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    out = tmp_path / "fits"
    shutil.copytree(fits, out)
    (out / "M011_T1.npz").unlink()
    before = set(out.rglob("*"))
    monkeypatch.setattr(fit_files.np, "savez", stop)
    with pytest.raises(KeyboardInterrupt):
        command(monkeypatch, tree, out, subjects=["M011"], limit=1)
    assert set(out.rglob("*")) == before


def test_fits_of_another_head_are_not_mixed(tree, fits, tmp_path, monkeypatch):
    other = dataclasses.replace(procedural_head(), name="other", sha256="e" * 64)
    save_flame(str(tmp_path / "other.npz"), other)
    with pytest.raises(ValueError, match="fitted with the head procedural"):
        command(monkeypatch, tree, fits, head=str(tmp_path / "other.npz"))


def test_mistakes_end_with_one_line(tree, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="--source=DIR and --out=DIR are required"):
        command(monkeypatch, "", tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        command(monkeypatch, tmp_path / "nowhere", tmp_path)
    with pytest.raises(UserError, match="--subjects: no F009 in"):
        command(monkeypatch, tree, tmp_path, subjects=["F009"])


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("mesh unreadable: a/0001.obj: not a readable mesh (no; such > thing)", "mesh unreadable"),
        ("median_mm 1.20 > 1; kept 0.50 < 0.7", "median_mm"),
        ("coverage 0.50 < 0.6", "coverage"),
        ("landmarks of another size: 1e+03 times the size of a head's in metres",
         "landmarks of another size"),
        ("fewer than 6 landmarks", "fewer than 6 landmarks"),
    ],
)  # fmt: skip
def test_reasons_are_counted_without_what_differs_from_frame_to_frame(reason, kind):
    assert fit_files._kind(reason) == kind


def test_failures_of_other_subjects_stay_in_the_table(tmp_path, monkeypatch):
    out = tmp_path / "fits"
    for subject in ("F002", "F003"):
        raw_sets.picture(tmp_path / f"raw/2D+3D/{subject}/T3/0000.jpg")
        assert command(monkeypatch, tmp_path / "raw", out, subjects=[subject]) == 2
    assert set(rejected(out)) == {("F002_T3", ""), ("F003_T3", "")}
    raw_sets.scan_fits(out, procedural_head(), ["F002_T3"])
    replace(out / "F002_T3.npz", reason=np.array(["lost", "", ""]))
    assert command(monkeypatch, tmp_path / "raw", out, subjects=["F003"]) == 2
    assert set(rejected(out)) == {("F002_T3", "0"), ("F003_T3", "")}


def test_a_subject_without_any_mesh_fails_by_name(tmp_path, monkeypatch, capsys):
    raw_sets.picture(tmp_path / "raw/2D+3D/F002/T3/0000.jpg")
    assert command(monkeypatch, tmp_path / "raw", tmp_path / "fits") == 2
    assert json.loads(capsys.readouterr().out)["sequences_failed"] == 1
    assert "no meshes such as 0000.obj" in rejected(tmp_path / "fits")["F002_T3", ""]


@pytest.mark.parametrize(("start", "backwards"), [(0, False), (3, False), (2, True)])
def test_83_points_give_51_in_any_direction(known, start, backwards):
    head, truth = procedural_head(), known["F001", "T1"].landmarks[0, :51]
    points = scan_trees.points_83(truth, start, backwards)
    mean = fit_run._mean_51(head)
    found = points_83.inner_51(points, mean)
    lips = slice(31, 51)
    assert np.isnan(found[10:19]).all()  # the nose
    assert np.linalg.norm(found[:10] - truth[:10], axis=1).max() < 2.5e-3
    assert np.linalg.norm(found[19:31] - truth[19:31], axis=1).max() < 4e-3
    if not backwards and not start:  # groups of lips that start elsewhere have other ends
        assert np.linalg.norm(found[lips] - truth[lips], axis=1).max() < 6e-3
    corners = [19, 22, 25, 28, 31, 37]
    np.testing.assert_allclose(found[corners], truth[corners], atol=1e-3)
    older = np.concatenate([points[20:36], points[:20], points[36:]])  # eyes before brows
    np.testing.assert_allclose(points_83.inner_51(older, mean), found)
    other_side = np.concatenate([points[10:20], points[:10], points[28:36], points[20:28]])
    swapped = np.concatenate([other_side, points[36:]])
    np.testing.assert_allclose(points_83.inner_51(swapped, mean), found)
    with pytest.raises(ValueError, match="mm from a face's in any known order"):
        points_83.inner_51(points[np.random.default_rng(0).permutation(83)], mean)


def test_landmarks_are_lifted_by_the_texture(tmp_path, known):
    """Vertices stand for their own pixels, seen from the front; no 83 points."""
    head, truth = procedural_head(), known["F001", "T1"]
    folder, size = tmp_path / "2D+3D/F001/T1", (400, 500)
    folder.mkdir(parents=True)
    vertices = truth.vertices[0]
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    flat = (vertices - low)[:, :2] / (high - low)[:2]
    front = scan_trees.visible_faces(head)
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in (1e3 * vertices).tolist()]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in flat.tolist()]
    towards = np.cross(*(vertices[front[:, k]] - vertices[front[:, 0]] for k in (1, 2)))[:, 2] > 0
    lines += [f"f {a}/{a} {b}/{b} {c}/{c}" for a, b, c in (front[towards] + 1).tolist()]
    (folder / "0000.obj").write_text("\n".join(lines))
    Image.new("RGB", size).save(folder / "0000.jpg")

    def pixels(points):
        u, v = ((points - low)[:, :2] / (high - low)[:2]).T
        return np.stack([u * size[0], (1 - v) * size[1]], axis=1)

    dense = np.tile(pixels(truth.landmarks[0])[:1], (N_MEDIAPIPE, 1))
    dense[MEDIAPIPE_105] = pixels(truth.landmarks[0, 51:])
    np.save(folder / "0000.npy", dense.astype(np.float32))
    inner = np.delete(pixels(truth.landmarks[0, :51]), [43, 47], axis=0)
    sequence = layout.Sequence("F001", "T1", epath.Path(folder))
    stored = scans.Tracks(epath.Path(tmp_path), sequence, {}, {0: inner}, ())
    file = epath.Path(folder / "0000.obj")
    scan = scans.read_scan(stored, 0, file, np.zeros((51, 3)))
    off = np.linalg.norm(scan.landmarks_51 - truth.landmarks[0, :51], axis=1)
    assert np.isnan(off).sum() == 2 and np.nanmedian(off) < 2e-3
    off = np.linalg.norm(scan.landmarks_105 - truth.landmarks[0, 51:], axis=1)
    assert np.nanmedian(off) < 2e-3 and np.isfinite(off).mean() > 0.9
    assert len(scan.points) > 1000
    assert np.mean(scan.normals[:, 2] > 0) > 0.9

    def complaint():
        nothing = scans.Tracks(epath.Path(tmp_path), sequence, {}, {}, ())
        with pytest.raises(ValueError, match=r"0000\.obj: ") as caught:
            scans.read_scan(nothing, 0, file, np.zeros((51, 3)))
        return str(caught.value)

    np.save(folder / "0000.npy", dense.astype(np.float32) / 500)
    assert "0000.npy: its points span 0." in complaint() and "normalised?" in complaint()
    Image.new("RGB", size).save(folder / "0000.png")
    assert "0000.npy may be that of 0000.jpg or 0000.png" in complaint()


def corrupt(data: bytes, rng: random.Random) -> bytes:
    """One of the ways files break."""
    lines = data.splitlines(keepends=True)
    place = rng.randrange(len(lines))
    ways = (
        lambda: data[: rng.randrange(len(data))],
        lambda: b"",
        lambda: rng.randbytes(2000),
        lambda: b"".join([*lines[:place], *lines[place + 1 :]]),
        lambda: b"".join([*lines[:place], b"v nan inf 7\n", *lines[place:]]),
        lambda: b"".join([*lines[:place], b"\xff\xfe garbage 12 \x00\n", *lines[place + 1 :]]),
        lambda: b"".join(sorted(lines, key=lambda _: rng.random())),
        lambda: data.replace(b".", b",", 50),
        lambda: data.replace(b" ", b"  ").replace(b"\n", b"\r\n"),
        lambda: data + data[: len(data) // 3],
    )
    return rng.choice(ways)()


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_cost_their_frame_at_most(tree, tmp_path, seed):
    """A corrupted mesh or landmark file is read all the same or refused by its name."""
    rng = random.Random(seed)
    folder = tree / "2D+3D/F001/T1"
    sequence = layout.Sequence("F001", "T1", epath.Path(tmp_path))
    spoiled = rng.choice(["0000.obj", "0000.bndplus"])
    for name in ("0000.obj", "0000.bndplus"):
        data = (folder / name).read_bytes()
        (tmp_path / name).write_bytes(corrupt(data, rng) if name == spoiled else data)
    try:
        scan = scans.read_scan(
            scans.Tracks(epath.Path(tmp_path), sequence, {}, {}, ()),
            0,
            epath.Path(tmp_path / "0000.obj"),
            fit_run._mean_51(procedural_head()),
        )
    except ValueError as error:
        assert "0000" in str(error) and "\n" not in str(error)
    else:
        assert scan.points.shape == scan.normals.shape and np.isfinite(scan.normals).all()
        assert np.isfinite(scan.landmarks_51).all(axis=1).sum() == 42
