"""What the commands of the pages name: photographs, heads, and stand-ins for licensed files.

Every function of `(path)` here writes what `path` is to be. Commands run in this process.
"""

from __future__ import annotations

import contextlib
import functools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fields_jax.flame.io import load_flame, save_flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.outputs.meshes import ply
from tests.support import now_tree, raw_sets, scan_trees
from tests.support.ablation_runs import made_up_jobs
from tests.support.answers import make_answers, write_csv
from tests.support.clips import numbered, write_video
from tests.support.gnm_files import gnm_arrays, write_gnm
from tests.support.ict_clones import SmallClone
from tests.support.photograph_sets import write_photographs
from tests.support.portraits import write_photograph
from tests.support.published_files import (
    embedding_folder,
    flame_parts,
    flame_pickle,
    torch_sequence,
    torch_zip,
)
from tests.support.published_networks import lightning_checkpoint, published, resnet50, vgg16
from tests.support.registered import elsewhere, small_head
from tests.support.strided_backbone import STRIDED
from tests.support.workdirs import write_workdir


def photographs(path: Path) -> None:
    """Two, with landmarks beside them."""
    for name in ("anna", "ben"):
        write_photograph(path / f"{name}.png")


def frames(path: Path) -> None:
    """A face that moves, in five frames."""
    for index in range(5):
        write_photograph(path / f"frame_{index}.png", places=((5 + 2 * index, 10),))


def film(path: Path) -> None:
    """A video without a face."""
    pytest.importorskip("av", reason="the extra `video` is not installed")
    write_video(path, numbered(4))


def run(path: Path) -> None:
    """A workdir of random networks and their head beside it."""
    made, _ = write_workdir(path.parent)
    made.rename(path)


def procedural_run(path: Path) -> None:
    """A workdir of random networks for the head in the package, under `procedural`."""
    made, _ = write_workdir(path.parent / "procedural", head=procedural_head())
    made.rename(path)


def start(path: Path) -> None:
    """A workdir of the sizes that the pages' trainings are shrunk to."""
    made, _ = write_workdir(path.parent / "start", head=procedural_head(), backbone=STRIDED)
    made.rename(path)


def flame_head(path: Path) -> None:
    """The procedural head under FLAME's name."""
    save_flame(str(path), procedural_head())


def other_head(path: Path) -> None:
    """The procedural head with other noise components."""
    save_flame(str(path), procedural_head(1))


def two_versions(path: Path) -> None:
    """Heads of the same triangles, FLAME2020.npz and FLAME2023.npz."""
    head = small_head()
    moved = elsewhere(head, 0.0, (0.0, 1.5, 0.0))
    save_flame(str(path), moved if path.stem.endswith("2023") else head)


def face_of_flame(path: Path) -> None:
    """A face as reconstruct writes it, of the FLAME.npz beside the folder."""
    head = load_flame(str(path.parent / "FLAME.npz"))
    meta = {"head": {name: getattr(head, name) for name in ("name", "version", "sha256")}}
    rng = np.random.default_rng(0)
    face = dict(shape=rng.normal(size=100), expression=rng.normal(size=50))
    face |= dict(jaw=np.zeros(3), eyelid=np.zeros(2), pose=np.zeros(3), box=np.zeros(4))
    face |= dict(camera=np.array([8.0, 0, 0]), crop_matrix=np.diag([0.5, 0.5, 1.0]), crop_size=224)
    (path / "one").mkdir(parents=True)
    np.savez(path / "one/params.npz", **face, meta=json.dumps(meta), conventions="{}")


def codes_of_smirk(path: Path) -> None:
    """Three frames for the heads of `two_versions`."""
    rng = np.random.default_rng(0)
    clip = dict(shape_params=rng.standard_normal((3, 12)), cam=np.tile([8.0, 0, 0], (3, 1)))
    np.savez(path, expression_params=rng.standard_normal((3, 16)), **clip)


@functools.cache
def _clone() -> SmallClone:
    return SmallClone()


def ict_clone(path: Path) -> None:
    """A small clone of ICT-FaceKit."""
    _clone().write(path)


@functools.cache
def _ict_head() -> bytes:
    from fields_jax.convert.ict import convert_ict

    with tempfile.TemporaryDirectory() as folder:
        convert_ict(str(_clone().write(Path(folder) / "clone")), f"{folder}/ict.npz")
        return Path(folder, "ict.npz").read_bytes()


def ict_head(path: Path) -> None:
    """What is made of such a clone; within `small_clones`."""
    path.write_bytes(_ict_head())


@contextlib.contextmanager
def small_clones() -> Iterator[None]:
    """Converters take the vertices of the small clone for those of ICT-FaceKit."""
    from fields_jax.convert.arkit import convert_arkit
    from fields_jax.convert.ict import convert_ict

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert_ict, "__defaults__", ("", _clone().layout))
        patch.setattr(convert_arkit, "__defaults__", (_clone().layout,))
        yield


def gnm_folder(path: Path) -> None:
    """GNM's two files."""
    path.mkdir()
    write_gnm(path, gnm_arrays())


def flame_model(path: Path) -> None:
    """generic_model.pkl, mostly zeros."""
    path.write_bytes(flame_pickle())


def tables(path: Path) -> None:
    """What is published around FLAME."""
    embedding_folder(path, flame_parts()["f"].astype(np.int64))


def teaser(path: Path) -> None:
    """TEASER's checkpoint, of other numbers."""
    path.write_bytes(torch_zip(published("teaser")[0]))


def smirk(path: Path) -> None:
    """SMIRK's."""
    path.write_bytes(torch_zip(published("smirk")[0]))


def vgg(path: Path) -> None:
    """VGG16's."""
    path.write_bytes(torch_sequence(vgg16()))


def emoca(path: Path) -> None:
    """EMOCA's network of emotion features."""
    path.write_bytes(lightning_checkpoint(resnet50()[0]))


def affectnet(path: Path) -> None:
    """The manually annotated part."""
    raw_sets.affectnet_full(path)


def bp4d(path: Path) -> None:
    """Two subjects, one of the fold for the test; scans of the procedural head."""
    for subject, task in (("F001", "T1"), ("F007", "T2")):
        raw_sets.bp4d_sequence(path, subject, task)
        known = scan_trees.known_sequence(procedural_head(), int(subject[-1]), int(task[1]))
        scan_trees.write_sequence(path, procedural_head(), subject, task, known)


def fits_of_bp4d(path: Path) -> None:
    """Fits of `bp4d` with the FLAME.npz beside the folder."""
    raw_sets.scan_fits(path, load_flame(str(path.parent / "FLAME.npz")))


@contextlib.contextmanager
def small_fits() -> Iterator[None]:
    """Scans are fitted with fewer unknowns and points."""
    from data_pipelines.bp4d import fit_run
    from fields_jax.fitting.scan import ScanFitter
    from fields_jax.fitting.scan_types import ScanSettings

    settings = ScanSettings(points=600, neutral_frames=2, rounds=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_run, "ScanFitter", functools.partial(ScanFitter, settings=settings))
        patch.setattr(fit_run, "_N_SHAPE", 8)
        yield


def set_of_photographs(path: Path) -> None:
    """Photographs for `prepare faces`."""
    path.mkdir()
    write_photographs(path)


def raf_db(path: Path) -> None:
    """Photographs of two splits with their list, and landmarks beside them."""
    names = [f"train_0000{number}" for number in range(1, 5)] + ["test_0001", "test_0002"]
    rows = [f"{name}.jpg {index + 1}" for index, name in enumerate(names)]
    for name in names:
        file = path / f"basic/Image/aligned/{name}_aligned.jpg"
        raw_sets.picture(file)
        np.save(file.with_suffix(".npy"), raw_sets.mesh())
    (path / "basic/EmoLabel").mkdir()
    (path / "basic/EmoLabel/list_patition_label.txt").write_text("\n".join(rows) + "\n")


@functools.cache
def _embedded() -> tempfile.TemporaryDirectory:
    from data_pipelines.prepare import prepare_synthetic

    folder = tempfile.TemporaryDirectory(prefix="fields_jax_tests_")
    prepare_synthetic(folder.name, size="tiny")
    return folder


def embedded_sets(path: Path) -> None:
    """The generated sets, tiny; made once and never written to."""
    path.mkdir(parents=True, exist_ok=True)
    for part in Path(_embedded().name).iterdir():
        (path / part.name).symlink_to(part)


def sets_to_score(path: Path) -> None:
    """The generated sets and AffectNet's eight classes."""
    from data_pipelines.prepare import prepare

    embedded_sets(path)
    source = raw_sets.affectnet_eight(path.with_name("AFFECTNET-8"))
    prepare("affectnet/eight_class", path, source=str(source))


def answers(path: Path) -> None:
    """Predictions of emotion; all files have the same labels."""
    noise = 1.0 if path.stem == "OURS" else 4.0
    columns = make_answers(np.random.default_rng(0), 80, noise=noise)
    told = make_answers(np.random.default_rng(0), 80, noise=1.0)
    write_csv(path, columns | {name: told[name] for name in told if name.startswith("true_")})


def codes(path: Path) -> None:
    """Codes with labels, as .npz or .csv."""
    rng, emotion = np.random.default_rng(0), np.arange(160) % 8
    expression = rng.normal(size=(160, 5)) + emotion[:, None]
    jaw, subject = rng.normal(size=(160, 3)), np.arange(160) // 4
    if path.suffix == ".npz":
        parts = dict(expression=expression, jaw=jaw)
        np.savez(path, **parts, true_emotion=emotion, subject=subject)
        return
    columns = {f"expression_{index}": expression[:, index] for index in range(5)}
    columns |= {f"jaw_{index}": jaw[:, index] for index in range(3)}
    write_csv(path, {"id": np.arange(160), **columns, "true_emotion": emotion, "subject": subject})


def surface(path: Path) -> None:
    """A face as a mesh, in metres."""
    mesh, _ = now_tree.face()
    if path.suffix == ".ply":
        path.write_bytes(ply(mesh.vertices, mesh.faces, "a face"))
        return
    lines = ["v {:.6f} {:.6f} {:.6f}".format(*vertex) for vertex in mesh.vertices.tolist()]
    lines += ["f {} {} {}".format(*face) for face in (mesh.faces + 1).tolist()]
    path.write_text("\n".join(lines) + "\n")


def scan(path: Path) -> None:
    """A scan of the face in mm (.obj) or the points picked on it (.pp)."""
    with tempfile.TemporaryDirectory() as folder:
        now_tree.write_scan(Path(folder))
        (found,) = Path(folder).glob(f"*/*/*{path.suffix}")
        path.write_bytes(found.read_bytes())


def seven_points(path: Path) -> None:
    """NoW's landmarks of the face, metres."""
    np.save(path, now_tree.face()[1])


def head_and_scan(path: Path) -> None:
    """The procedural head as mesh.ply in metres, its face as FACE.obj in mm, 7 points of each."""
    head = procedural_head()
    vertices, face = np.asarray(head.template, np.float64), np.asarray(head.face_vertices)
    scanned = 1e3 * now_tree.moved(vertices)
    spots = face[:: len(face) // 7][:7]
    if path.suffix == ".npy":
        np.save(path, (scanned if path.stem == "FACE" else vertices)[spots])
    elif path.suffix == ".ply":
        path.write_bytes(ply(vertices, np.asarray(head.faces), "a head"))
    else:
        lines = ["v {:.6f} {:.6f} {:.6f}".format(*vertex) for vertex in scanned[face].tolist()]
        path.write_text("\n".join([*lines, "f 1 2 3"]) + "\n")


def now_set(path: Path) -> None:
    """NoW: two photographs of one person, and a scan."""
    subject = f"{now_tree.SUBJECT}/{now_tree.CHALLENGE}"
    pictures = path / "NoW_Dataset/final_release_version/iphone_pictures" / subject
    for name in ("IMG_1", "IMG_2"):
        write_photograph(pictures / f"{name}.png")
    now_tree.write_images(path, *(f"{subject}/{name}.jpg" for name in ("IMG_1", "IMG_2")))
    now_tree.write_scan(path)


def performance(path: Path) -> None:
    """A folder for pages and figures."""
    path.mkdir()


def children_made_up() -> contextlib.AbstractContextManager[dict[str, str]]:
    """An ablation's trainings leave what they would; tests/commands/test_ablate.py trains."""
    return made_up_jobs()
