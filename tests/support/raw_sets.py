"""Small folders of raw data, laid out like the real sets, with all their irregularities."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from fields_jax.landmark_schemes import N_MEDIAPIPE

WIDTH, HEIGHT = 120, 100
UNITS = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)


def mesh(width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> np.ndarray:
    """478 points on an ellipse a third of the picture wide, with a depth nobody reads."""
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, N_MEDIAPIPE)
    x, y = width / 2 + width / 6 * np.cos(angle), height / 2 + height / 5 * np.sin(angle)
    return np.stack([x, y, 0 * x], axis=1).astype(np.float32)


def face_68(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """[68, 2] contour, brows, nose, eyes and mouth of an upright face in the middle."""
    turn = np.linspace(np.pi, 0, 17)
    contour = np.stack([np.cos(turn), np.sin(turn)], 1)
    row = np.linspace(-1, 1, 5)[:, None]
    brows = np.concatenate(
        [[[-0.5, -0.4]] + 0.2 * row * [1, 0], [[0.5, -0.4]] + 0.2 * row * [1, 0]]
    )
    nose = np.concatenate(
        [np.linspace([0, -0.2], [0, 0.2], 4), np.linspace([-0.2, 0.3], [0.2, 0.3], 5)]
    )
    around = np.linspace(np.pi, -np.pi, 7)[:6]
    eye = 0.15 * np.stack([np.cos(around), -0.5 * np.sin(around)], 1)
    eyes = np.concatenate([eye - (0.4, 0.2), eye - (-0.4, 0.2)])
    outer, inner = (np.linspace(np.pi, -np.pi, n + 1)[:n] for n in (12, 8))
    mouth = [
        r * np.stack([np.cos(a), -0.5 * np.sin(a)], 1) for r, a in ((0.3, outer), (0.2, inner))
    ]
    points = np.concatenate([contour, brows, nose, eyes, *(m - (0, -0.6) for m in mouth)])
    return (points * 0.2 * width + [width / 2, height / 2]).astype(np.float32)


def picture(path: Path, width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> Path:
    """Writes a picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    kind = {"jpg": "jpeg", "jpeg": "jpeg"}.get(path.suffix[1:].lower(), "png")
    Image.fromarray(pixels).save(path, format=kind)
    return path


def affectnet_full(folder: Path) -> Path:
    """Four usable images in train, two in validation, and one of each kind that is not."""
    base = folder / "Manually_Annotated"
    images = base / "Manually_Annotated_Images"
    marks = ";".join(f"{value:.2f}" for value in face_68().ravel())
    header = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks"
    header += ",expression,valence,arousal"

    def row(name: str, expression: object, valence: object, arousal: object, points=marks) -> str:
        return f"{name},30,20,60,60,{points},{expression},{valence},{arousal}"

    train = [
        row("1/neutral.jpg", 0, 0.05, -0.05),
        row("1/happy.jpg", 1, 0.7, 0.1),
        row("2/contempt.jpg", 7, -0.5, 0.6),
        row("2/no_affect.png", 6, -2, -2),
        row("2/none.jpg", 8, -2, -2),
        row("2/uncertain.jpg", 9, -2, -2),
        row("2/no_face.jpg", 10, -2, -2),
        row("2/unknown.jpg", 11, 0, 0),
        row("2/too_much.jpg", 3, 1.2, 0.5),
        row("2/absent.jpg", 3, 0.2, 0.5),
        row("2/broken.jpg", 3, 0.2, 0.5),
        row("2/pointless.jpg", 3, 0.2, 0.5, "1;2;3"),
        row("2/text.jpg", "three", 0.2, 0.5),
        'a "row with, too few',
        row("../outside.jpg", 3, 0.2, 0.5),
        row("1/happy.jpg", 1, 0.7, 0.1),
    ]
    for index, name in enumerate(("1/neutral.jpg", "1/happy.JPG", "2/contempt.jpeg")):
        picture(images / name, seed=index)
    picture(images / "2/no_affect.png")
    (images / "2/broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    validation = [row("3/fear.jpg", 4, -0.1, 0.8), row("3/disgust.jpg", 5, -0.6, 0.5)]
    for name in ("3/fear.jpg", "3/disgust.jpg"):
        picture(images / name)
    np.save(images / "3/fear.npy", np.stack([mesh(40, 40), mesh()]))  # the annotated one is second
    (base / "training.csv").write_text("\n".join([header, *train]) + "\n")
    (base / "validation.csv").write_text("\n".join([header, *validation]) + "\n")
    return folder


def affectnet_eight(folder: Path) -> Path:
    """Three usable crops in train_set, one in val_set; annotations as text and as numbers."""
    cases = {
        ("train_set", "1"): ("0", "0.1", "-0.1"),
        ("train_set", "2"): (3, 0.2, 0.7),
        ("train_set", "3"): ("5", "-2", "-2"),
        ("train_set", "4"): ("8", "-2", "-2"),
        ("train_set", "5"): ("7", "-0.5", "0.6"),
        ("val_set", "10"): ("6", "-0.5", "0.6"),
    }
    for (part, number), values in cases.items():
        picture(folder / part / "images" / f"{number}.jpg", 112, 112)
        notes = folder / part / "annotations"
        notes.mkdir(exist_ok=True)
        for kind, value in zip(("exp", "val", "aro"), values, strict=True):
            np.save(notes / f"{number}_{kind}.npy", np.array(value))
        np.save(notes / f"{number}_lnd.npy", face_68(112, 112).ravel())
    (folder / "train_set/annotations/5_lnd.npy").unlink()
    picture(folder / "train_set/images/6.jpg")
    np.save(folder / "train_set/annotations/6_exp.npy", np.array([{}], object))
    return folder


def bp4d_sequence(
    folder: Path, subject: str, task: str, *, frames: int = 3, digits: int = 4, suffix: str = "jpg"
) -> None:
    """A sequence whose second frame the tracker has lost and whose third is not coded."""
    for frame in range(frames):
        path = folder / "2D+3D" / subject / task / f"{frame:0{digits}d}.{suffix}"
        picture(path, seed=frame)
        path.with_suffix(".obj").write_text("v 0 0 0\n")
    inner = np.delete(face_68(), [*range(17), 60, 64], axis=0)
    fit = np.zeros((1, frames), [("frame", object), ("pts_2d", object), ("headPose", object)])
    for frame in range(frames):
        lost = frame == 1
        fit[0, frame] = (frame + 1, np.zeros((0, 0)) if lost else inner, np.zeros((1, 3)))
    (folder / "2DFeatures").mkdir(exist_ok=True)
    scipy.io.savemat(folder / "2DFeatures" / f"{subject}_{task}.mat", {"fit": fit})
    rows = [",".join(map(str, (0, *UNITS)))]
    rows += [
        ",".join(str(cell) for cell in (frame, *([9 if frame == 2 else 1] * len(UNITS))))
        for frame in range(frames)
    ]
    codes = folder / "AUCoding/AU_OCC"
    codes.mkdir(parents=True, exist_ok=True)
    (codes / f"{subject}_{task}.csv").write_text("\n".join(rows) + "\n")


def bp4d(folder: Path) -> Path:
    """Two subjects of the first folds and one of the third; digits and suffixes vary."""
    bp4d_sequence(folder, "F001", "T1")
    bp4d_sequence(folder, "M011", "T8", digits=3, suffix="JPG")
    bp4d_sequence(folder, "F007", "T2")
    (folder / "2D+3D/F001/T11").mkdir()
    (folder / "2D+3D/M018.zip").write_bytes(b"PK")
    return folder


def scan_fits(folder: Path, head, sequences=("F001_T1", "F007_T2"), frames: int = 3) -> Path:
    """FLAME fits of sequences; the first frame of each is not ok."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    meta = {"head": {"name": head.name, "version": head.version, "sha256": head.sha256}}
    for name in sequences:
        np.savez(
            folder / f"{name}.npz",
            expression=rng.normal(size=(frames, 50)),
            jaw=rng.normal(size=(frames, 3)) / 10,
            eyelid=rng.uniform(size=(frames, 2)),
            shape=rng.normal(size=300),
            frame=np.arange(frames),
            ok=np.arange(frames) > 0,
            meta=json.dumps(meta),
        )
    return folder
