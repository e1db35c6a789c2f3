"""Every kind of file that is read, with 60 random corruptions and some twenty chosen ones.

Each is read rightly or refused in one line that names it, and never changed.
"""

from __future__ import annotations

import io
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io
from etils import epath

from configs import stage2
from data_pipelines.affectnet import eight_class, full
from data_pipelines.bp4d import annotations, fit_files, matlab, meshes, points_83
from data_pipelines.building import report, shards
from data_pipelines.faces import manifest
from data_pipelines.manifests import afew_va, aff_wild2, raf_db
from data_pipelines.manifests.left_out import LeftOut
from fields_jax.report import numbers, remarks, runs, stored
from fields_jax.training.writers import Writers
from fields_jax.workdir import retention
from fields_jax.workdir.config import check_workdir, require_config
from tests.support import raw_sets
from tests.support.broken import arrays, chosen, drawn, fields, outcomes
from tests.support.heads import random_head
from tests.support.scored_runs import write_run

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning", "error::UserWarning")


def every(content: bytes, value=None):
    """All that is done to a text; with its value also to each of its fields."""
    return itertools.chain(chosen(content), drawn(content), fields(value) if value else ())


def mixed(found, *, least: int = 10) -> None:
    """Some corruptions are harmless, many are not."""
    assert found["read"] >= 1 and found["refused"] >= least, found


def test_config_of_a_workdir(tmp_path):
    text = stage2.get_config().to_json(indent=2)
    wanted = stage2.get_config()

    def read():
        require_config(str(tmp_path))
        check_workdir(str(tmp_path), wanted)

    contents = every(text.encode(), json.loads(text))
    mixed(outcomes(tmp_path / "config.json", contents, read, named=str(tmp_path)))


def test_record_of_the_best_checkpoint(tmp_path):
    """It is no record then, and that is said."""
    record = {"metric": "loss", "mode": "min", "values": {"2": 1.0, "4": 0.5}}

    def read():
        best = retention.KeepBest(str(tmp_path), "loss", "min")
        steps = [SimpleNamespace(step=step) for step in (2, 4)]
        assert sum(best.should_preserve(steps, context=None)) <= 1

    content = json.dumps(record).encode()
    found = outcomes(tmp_path / "best.json", every(content, record), read)
    assert found["refused"] == 0


LOG = "".join(
    json.dumps({"step": step, "phase": "A", "loss": 1 / step, "images_per_second": None}) + "\n"
    for step in range(1, 9)
)


def test_log_in_a_report(tmp_path):
    file = epath.Path(tmp_path / "metrics.jsonl")

    def read():
        for row in stored.read_log(file):
            assert isinstance(row["step"], int) and not isinstance(row.get("loss"), (str, list))

    lines = LOG.encode().splitlines(keepends=True)
    rows = (b"".join([*lines[:4], row + b"\n", *lines[4:]]) for row in fields(json.loads(lines[0])))
    mixed(outcomes(tmp_path / "metrics.jsonl", itertools.chain(every(LOG.encode()), rows), read))
    (tmp_path / "metrics.jsonl").write_text(LOG + '{"step": 9, "pha')
    assert [row["step"] for row in stored.read_log(file)] == list(range(1, 9))


def test_log_of_a_run_that_goes_on(tmp_path):
    """Whole lines up to the step are kept, whatever the others are."""
    for content in (*chosen(LOG.encode()), *drawn(LOG.encode(), count=20)):
        (tmp_path / "metrics.jsonl").write_bytes(content)
        Writers(str(tmp_path), active=True, step=5).close()
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        kept = [json.loads(line) for line in lines]
        assert all(row["step"] <= 5 for row in kept)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    sets = {"synthetic/wild2d": 24, "synthetic/levels": 24}
    folder = tmp_path_factory.mktemp("scored") / "run"
    write_run(folder, 2, random_head(), skill=0.8, sets=sets)
    with np.load(folder / "predictions.npz") as held:
        rows = {"example_row": np.array([0, 10, 30, 47])}
        np.savez(folder / "predictions.npz", **dict(held) | rows)
    return folder


@pytest.fixture
def workdir(scored, tmp_path):
    for file in epath.Path(scored).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def read_run(workdir):
    """The files of a run, and all the numbers and sentences of its report."""
    run = runs.load_run("Stage 2", str(workdir))
    for made in (numbers.number_rows, numbers.tiles, numbers.source_rows):
        made([run])
    remarks.findings([run]), remarks.limits([run]), remarks.lead([run]), run.predicted()


def test_evaluation_of_a_run(workdir):
    content = (workdir / "evaluation.json").read_bytes()
    contents = every(content, json.loads(content))
    found = outcomes(
        workdir / "evaluation.json", contents, lambda: read_run(workdir), named=str(workdir)
    )
    mixed(found)


def test_predictions_of_a_run(workdir):
    content = (workdir / "predictions.npz").read_bytes()
    with np.load(io.BytesIO(content)) as file:
        contents = itertools.chain(every(content), arrays(dict(file)))
    found = outcomes(
        workdir / "predictions.npz", contents, lambda: read_run(workdir), named="predictions.npz"
    )
    mixed(found)


HEAD = random_head()


@pytest.fixture
def fit(tmp_path):
    raw_sets.scan_fits(tmp_path, HEAD, ["F001_T1"])
    file = tmp_path / "F001_T1.npz"
    with np.load(file) as content:
        return file, dict(content) | {"reason": np.array(["lost", "", ""])}


def test_fit_of_a_sequence(fit):
    file, held = fit
    place = epath.Path(file)

    def read():
        for row in annotations.read_fit(place, HEAD.sha256).values():
            assert all(np.isfinite(value).all() for value in row.values())

    contents = itertools.chain(every(file.read_bytes()), arrays(held))
    mixed(outcomes(file, contents, read))


def test_reasons_and_identity_in_fits_never_end_a_run(fit):
    file, held = fit
    place = epath.Path(file)

    def read():
        found = fit_files._reasons(place)
        assert all(reason.isprintable() for _, reason in found)
        try:
            shape = fit_files.read_identity(place, HEAD, 1e-3)
        except annotations.OtherHead:
            return
        assert shape is None or (shape.ndim == 1 and np.isfinite(shape).all())

    assert outcomes(file, itertools.chain(every(file.read_bytes()), arrays(held)), read)["read"]


def test_table_of_action_units(tmp_path):
    lines = [",".join(map(str, (0, *raw_sets.UNITS)))]
    lines += [",".join(["7", *["1"] * 12]), ",".join(["8", *["9"] * 12])]
    file = epath.Path(tmp_path / "F001_T1.csv")
    read = lambda: annotations.read_coded_frames(file)  # noqa: E731
    mixed(outcomes(tmp_path / "F001_T1.csv", every("\n".join(lines).encode()), read))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("field", "shape", "read"),
    [
        ("pts_2d", (49, 2), annotations.read_tracked_points),
        ("pts_3d", (83, 3), points_83.read_sequence),
    ],
    ids=["2D", "3D"],
)
def test_features_of_a_sequence(tmp_path, field, shape, read, packed):
    rows = np.zeros((1, 3), [("frame", object), (field, object), ("headPose", object)])
    for frame in range(3):
        rows[0, frame] = (frame + 1, np.random.default_rng(frame).random(shape), np.zeros((1, 3)))
    file = tmp_path / "F001_T1.mat"
    scipy.io.savemat(file, {"before": "text", "fit": rows}, do_compression=packed)
    found = read(epath.Path(file))
    for frame in range(3):
        np.testing.assert_allclose(found[frame], rows[0, frame][field], rtol=1e-6)
    mixed(outcomes(file, every(file.read_bytes()), lambda: read(epath.Path(file))))


def element(kind: int, content: bytes) -> bytes:
    return np.array([kind, len(content)], "<u4").tobytes() + content + bytes(-len(content) % 8)


def test_mat_files_that_would_end_or_fill_the_process(tmp_path):
    """Cells within cells without end, and a variable that unpacks to far more than it is."""
    import zlib

    file = tmp_path / "F001_T1.mat"
    head = b"MATLAB 5.0".ljust(124) + b"\x00\x01IM"

    def matrix(kind: int, name: bytes, *rest: bytes) -> bytes:
        flags, sides = np.array([kind, 0], "<u4").tobytes(), np.array([1, 1], "<i4").tobytes()
        return element(
            14, b"".join((element(6, flags), element(5, sides), element(1, name), *rest))
        )

    nested = matrix(6, b"", element(9, bytes(8)))
    for _ in range(2000):
        nested = matrix(1, b"", nested)
    packed = zlib.compress(bytes(80 * 2**20))
    bomb = np.array([15, len(packed)], "<u4").tobytes() + packed
    names = element(5, np.array([6], "<i4").tobytes()) + element(1, b"frame\0")
    deep = matrix(2, b"fit", names, nested)
    for content, reason in (
        (head + matrix(1, b"fit", nested), "no struct array 'fit' in it"),
        (head + bomb, "a variable of over 64 MiB"),
        (b"MATLAB 7.3 MAT-file".ljust(512), "save it with -v7"),
    ):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=f"F001_T1.mat: not a readable file of X .*{reason}"):
            matlab.read_struct_array(epath.Path(file), "fit", "X")
    file.write_bytes(head + deep)  # a field that is no number is not looked into
    assert matlab.read_struct_array(epath.Path(file), "fit", "X") == [{"frame": None}]


MESH = """mtllib face.mtl
v 0 0 0 1 1 1
v 2 0 0
v 2 2 0 # a comment
v 0 2 0
vt 0 0
vt 1 0
vt 1 1
f 1/1 2/2 3/3
f -4/1 -2/3 -1/3
"""


def test_mesh_of_a_scan(tmp_path):
    file = epath.Path(tmp_path / "0000.obj")

    def read():
        mesh = meshes.read_mesh(file)
        assert np.isfinite(mesh.normals()).all() and mesh.triangles.min() >= 0
        assert mesh.triangles.max() < len(mesh.vertices)
        mesh.lift(np.array([[1.0, 2.0]]), 10, 10)

    for code in ("utf-8", "utf-8-sig", "utf-16"):
        file.write_bytes(MESH.encode(code))
        assert meshes.read_mesh(file).triangles.tolist() == [[0, 1, 2], [0, 2, 3]]
    faces = ("99999999999999999999", "1.5", "1e30", "0", "nan", "-5", "x", "", "1/", "inf", "0x1")
    bad = [MESH.replace("f 1/1", f"f {cell}/1").encode() for cell in faces]
    bad += [
        MESH.replace("2 2 0", cell).encode() for cell in ("nan 2 0", "1e30 2 0", "2 2", "2,2,0")
    ]
    assert outcomes(tmp_path / "0000.obj", bad, read) == {"refused": len(bad)}
    mixed(outcomes(tmp_path / "0000.obj", every(MESH.encode()), read))


def test_points_beside_a_scan(tmp_path):
    points = np.random.default_rng(0).normal(0, 50, (83, 3))
    text = "".join(f"{i}\t{x:.5f}\t{y:.5f}\t{z:.5f}\n" for i, (x, y, z) in enumerate(points))
    file = epath.Path(tmp_path / "0000.bndplus")
    for code in ("utf-8", "utf-8-sig", "utf-16"):
        file.write_bytes(text.encode(code))
        np.testing.assert_allclose(points_83.read_points(file), points, atol=1e-5)

    def read():
        try:
            points_83.inner_51(points_83.read_points(file), points[:51])
        except ValueError as error:  # which the caller names the file for
            assert "no face" in str(error) or "83 points" in str(error) or "0000" in str(error)
            raise points_83.UserError(f"{file}: {error}") from error

    outcomes(tmp_path / "0000.bndplus", every(text.encode()), read)


def test_annotations_of_an_image(tmp_path):
    raw_sets.affectnet_eight(tmp_path)
    item = eight_class.Annotated("train_set/1", str(tmp_path / "train_set"), "1.jpg")
    for kind in ("exp", "val", "lnd"):
        file = tmp_path / f"train_set/annotations/1_{kind}.npy"
        content = file.read_bytes()
        found = outcomes(file, every(content), item.sample, named="1")
        mixed(found)
        file.write_bytes(content)
    for kind, array in (("exp", np.array(b"1.0")), ("val", np.array(["-2.0"])), ("aro", 0.5)):
        np.save(tmp_path / f"train_set/annotations/1_{kind}.npy", array)
    assert item.sample().labels == {"emotion": 1}


def catalogued(make, contents, file, where):
    """Tables in which a damaged row is left out by name; only a whole one is refused."""

    def read():
        found = make()
        assert any(found.splits.values())
        rejects = [detail for each in found.rejects.values() for _, detail in each]
        assert all(where in detail for detail in rejects), rejects

    mixed(outcomes(file, contents, read, named=where), least=5)


MANIFEST = "image,emotion,valence,arousal,subject\n" + "".join(
    f'"{i}.png",{i % 8},{i / 10 - 0.5},0.25,s{i % 3}\n' for i in range(8)
)


def test_manifests(tmp_path):
    for name, content in (
        ("a.csv", MANIFEST.encode()),
        ("a.jsonl", b"".join(b'{"image": "%d.png", "emotion": %d}\n' % (i, i) for i in range(8))),
    ):
        place = epath.Path(tmp_path / name)
        make = lambda place=place: manifest.catalogue(place, epath.Path("/p"), 0.2)  # noqa: E731
        catalogued(make, every(content), tmp_path / name, name)


def test_table_of_affectnet(tmp_path):
    raw_sets.affectnet_full(tmp_path)
    file = tmp_path / "Manually_Annotated/training.csv"
    make = lambda: full.catalogue(epath.Path(tmp_path))  # noqa: E731
    catalogued(make, every(file.read_bytes()), file, "training.csv")


def test_lists_of_public_sets(tmp_path):
    """Their writers leave out by name what they cannot read."""
    frames = {"0": {"valence": 3, "arousal": 1, "landmarks": raw_sets.face_68().tolist()}}
    cases = {
        raf_db: ("EmoLabel/list_patition_label.txt", b"train_1.jpg 5\ntest_2.jpg 1\n"),
        afew_va: ("001/001.json", json.dumps({"frames": frames}).encode()),
        aff_wild2: ("VA_E_Challenge/Train_Set/a.txt", b"valence,arousal\n0.5,0.25\n-5,-5\n"),
    }
    for name in ("Image/aligned/train_1_aligned.jpg", "001/0.png", "cropped_aligned/a/00001.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    for writer, (name, content) in cases.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)

        def read(writer=writer, file=file):
            left_out = LeftOut()
            rows = list(writer.rows(epath.Path(tmp_path), left_out))
            json.dumps(rows, allow_nan=False)
            lines = left_out.lines()
            assert rows or not lines or any(file.name in line or "0.png" in line for line in lines)

        contents = every(content, json.loads(content) if writer is afew_va else None)
        assert outcomes(file, contents, read)["refused"] == 0


def test_note_of_a_finished_part(tmp_path):
    """A damaged note is none: its part is made again."""
    note = {"items": "0" * 64, "bytes": 5, "summary": {"examples": 3, "rejects": [["a", "b"]]}}
    shard = epath.Path(tmp_path / "train-0-of-1")

    def read():
        found = shards.read_note(shard)
        assert found is None or isinstance(found["summary"]["examples"], int)

    content = json.dumps(note).encode()
    found = outcomes(tmp_path / "train-0-of-1.json", every(content, note), read)
    assert found["refused"] == 0


def test_report_of_a_prepared_set(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "ShardedBuilder", SimpleNamespace)
    builder = SimpleNamespace(data_path=epath.Path(tmp_path), options={"limit": 0, "fits": ""})
    made = {"set": "x", "options": {"limit": 0, "fits": ""}, "splits": {}}
    content = json.dumps(made).encode()
    read = lambda: report.check_options(builder)  # noqa: E731
    file = tmp_path / report.JSON
    mixed(outcomes(file, every(content, made), read, named=str(tmp_path)))
