"""Manifests of RAF-DB, AFEW-VA, Aff-Wild2 and MEAD from folders laid out as the real ones."""

import json
from collections import Counter

import pytest
from etils import epath
from PIL import Image

from data_pipelines import prepare
from data_pipelines.faces import manifest
from data_pipelines.manifests import afew_va, aff_wild2, mead, raf_db
from data_pipelines.manifests.__main__ import WRITERS, write
from tests.trees import face_68, picture


def rows(writer, folder):
    skipped = Counter()
    return list(writer.rows(epath.Path(folder), skipped)), dict(skipped)


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def test_raf_db(tmp_path):
    labels = tmp_path / "basic/EmoLabel"
    labels.mkdir(parents=True)
    lines = [f"train_0000{n}.jpg {n}" for n in range(1, 8)]
    lines += ["test_0001.jpg 4", "test_0002.jpg 8", "test_0003.jpg 1", "nonsense", ""]
    (labels / "list_patition_label.txt").write_text("\n".join(lines))
    for name in (*(f"train_0000{n}" for n in range(1, 8)), "test_0001", "test_0002"):
        touch(tmp_path / f"basic/Image/aligned/{name}_aligned.jpg")
    found, skipped = rows(raf_db, tmp_path)
    assert [row["emotion"] for row in found] == [3, 4, 5, 1, 2, 6, 0, 1]
    assert found[-1] == dict(
        image="basic/Image/aligned/test_0001_aligned.jpg", split="test", emotion=1
    )
    assert skipped == {"class 8": 1, "image missing": 1, "row unreadable": 1}


def test_afew_va_frames_are_squeezed_and_scaled(tmp_path):
    clip = tmp_path / "01/001"
    clip.mkdir(parents=True)
    Image.new("RGB", (720, 576)).save(clip / "00000.png")
    picture(clip / "00001.png")
    marks = face_68().tolist()
    frames = {
        "00000": {"landmarks": marks, "valence": -10, "arousal": 3},
        "00001": {"landmarks": marks, "valence": 11, "arousal": 3},
        "00002": {"landmarks": marks, "valence": 1, "arousal": 3},
    }
    (clip / "001.json").write_text(json.dumps({"frames": frames}))
    (tmp_path / "01/002").mkdir()
    (tmp_path / "01/002/002.json").write_text("{")
    found, skipped = rows(afew_va, tmp_path)
    assert [(row["image"], row["subject"]) for row in found] == [("01/001/00000.png", "001")]
    assert (found[0]["valence"], found[0]["arousal"]) == (-1.0, 0.3)
    assert found[0]["pixel_aspect"] == 4 / 3
    assert found[0]["landmarks_68"] == marks
    assert skipped == {
        "labels out of range": 1,
        "image missing": 1,
        "annotation unreadable": 1,
    }


def test_aff_wild2_joins_challenges_and_keeps_a_video_in_one_split(tmp_path):
    base = tmp_path / "6th ABAW Annotations"
    tables = {
        "VA_Estimation_Challenge/Train_Set/a.txt": "valence,arousal\n0.5,0.1\n-5,-5\n0.2,-0.3\n",
        "EXPR_Recognition_Challenge/Train_Set/a.txt": "Neutral,...\n4\n-1\n7\n1\n",
        "VA_Estimation_Challenge/Train_Set/b_left.txt": "valence,arousal\n0,0\nx,0\n-1.5,0\n",
        "EXPR_Recognition_Challenge/Validation_Set/b.txt": "Neutral,...\n2\n",
        "VA_Estimation_Challenge/Train_Set/gone.txt": "valence,arousal\n0,0\n",
    }
    for name, text in tables.items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(text)
    for name in ("a/00001", "a/00003", "b_left/00001", "b/00001"):
        touch(tmp_path / f"cropped_aligned/{name}.jpg")
    found, skipped = rows(aff_wild2, tmp_path)
    assert found == [
        {
            **dict(image="cropped_aligned/a/00001.jpg", split="train", subject="a"),
            **dict(valence=0.5, arousal=0.1, emotion=1),
        },
        {
            **dict(image="cropped_aligned/a/00003.jpg", split="train", subject="a"),
            **dict(valence=0.2, arousal=-0.3),
        },
        dict(image="cropped_aligned/b/00001.jpg", split="test", subject="b", emotion=5),
        {
            **dict(image="cropped_aligned/b_left/00001.jpg", split="test", subject="b"),
            **dict(valence=0.0, arousal=0.0),
        },
    ]
    assert skipped == {
        "no valence and arousal (-5)": 1,
        "no expression (-1)": 1,
        "other expression": 1,
        "image missing": 1,
        "row unreadable": 1,
        "valence or arousal out of range": 1,
        "video without frames": 1,
    }


def test_mead_levels_and_actors(tmp_path):
    for name in (
        *("M003/video/front/angry/level_3/001", "M003/video/down/neutral/level_1/002"),
        *("W033/video/front/surprised/level_1/001", "M013/video/front/sad/level_2/001"),
        "M003/video/front/bored/level_2/001",
    ):
        touch(tmp_path / name / "00001.jpg")
    touch(tmp_path / "M003/video/front/angry/level_3/009.mp4")
    found, skipped = rows(mead, tmp_path)
    assert [(r["subject"], r["split"], r["emotion"], r.get("level")) for r in found] == [
        ("M003", "train", 0, None),
        ("M003", "train", 6, 2),
        ("W033", "test", 3, 0),
    ]
    assert skipped == {
        "actor of SMIRK's validation": 1,
        "folder of no known emotion and level": 1,
        "video not taken apart": 1,
    }


@pytest.mark.parametrize("kind", WRITERS)
def test_another_folder_is_refused(kind, tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        write(kind, tmp_path, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_written_manifest_becomes_a_set(tmp_path):
    clip = tmp_path / "raw/001"
    for number in range(4):
        picture(clip / f"{number:05d}.png", seed=number)
    frame = {"landmarks": face_68().tolist(), "valence": 5, "arousal": -5}
    frames = {f"{number:05d}": frame for number in range(4)}
    (clip / "001.json").write_text(json.dumps({"frames": frames}))
    counts = write("afew_va", tmp_path / "raw", tmp_path / "all.jsonl", every=2)
    assert counts == {"rows": 2}
    options = dict(source=str(tmp_path / "raw"), manifest=str(tmp_path / "all.jsonl"))
    found = manifest.catalogue(
        epath.Path(options["manifest"]), epath.Path(options["source"]), test_share=0.0
    )
    assert [item.key for item in found.splits["train"]] == ["001/00000.png", "001/00002.png"]
    (folder,) = prepare.prepare("faces/afew_va", tmp_path / "data", **options)
    report = json.loads((folder / "prepare_report.json").read_text())
    marks = {"has_landmarks_68": 2, "has_annotated_68": 2}
    assert report["splits"]["train"]["labels"] == marks | {"has_va": 2}
