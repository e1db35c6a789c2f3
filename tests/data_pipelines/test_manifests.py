"""Manifests of RAF-DB, AFEW-VA, Aff-Wild2 and MEAD from folders laid out as the real ones."""

import json

import pytest
from etils import epath
from PIL import Image

from data_pipelines import prepare
from data_pipelines.faces import manifest
from data_pipelines.manifests import afew_va, aff_wild2, mead, raf_db
from data_pipelines.manifests.__main__ import WRITERS, write
from data_pipelines.manifests.left_out import LeftOut
from fields_jax.errors import UserError
from tests.support.raw_sets import face_68, picture


def rows(writer, folder):
    left_out = LeftOut()
    return list(writer.rows(epath.Path(folder), left_out)), dict(left_out.counts)


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


@pytest.mark.parametrize(
    "line",
    [
        "train_00001.jpg 5 0.93",
        "train_00001.jpg\t5\t1",
        "train_00001.jpg,5\r",
        '"train_00001.jpg"; "5"',
        "  Train_00001.JPG   5.0  ",
    ],
)
@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16"])
def test_raf_dbs_list_in_other_hands(tmp_path, line, code):
    (tmp_path / "EmoLabel").mkdir()
    (tmp_path / "EmoLabel/list_patition_label.txt").write_bytes(f"{line}\n".encode(code))
    touch(tmp_path / "Image/original/train_00001.jpg")
    found, left_out = rows(raf_db, tmp_path)
    assert found == [dict(image="Image/original/train_00001.jpg", split="train", emotion=2)]
    assert not left_out


EMPTY = {
    "raf_db": (
        {"EmoLabel/list_patition_label.txt": "train_1.jpg five\n", "Image/aligned/x.jpg": ""},
        r"row unreadable: 1 \(first: .*label.txt, line 1\)\); expected lines such as",
    ),
    "afew_va": (
        {"001/001.json": '{"frames": {"0": {"valence": 11, "arousal": 0}}}', "001/0.png": ""},
        r"labels out of range: 1 \(first: .*001.json, frame 0: valence 11 .*\); expected clips",
    ),
    "aff_wild2": (
        {"VA_E_Challenge/Train_Set/a.txt": "v,a\n-5,-5\n", "cropped_aligned/a/00001.jpg": ""},
        r"no valence and arousal \(-5\): 1 \(first: .*a.txt, line 2\)\); expected tables such as",
    ),
    "mead": ({"M003/video/front/bored/level_1/1/1.jpg": ""}, "no frames; take each NNN.mp4 apart"),
}


@pytest.mark.parametrize("kind", EMPTY)
def test_a_set_without_one_label_is_an_error_that_says_why(kind, tmp_path):
    contents, message = EMPTY[kind]
    for name, text in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises((UserError, FileNotFoundError), match=message) as caught:
        write(kind, tmp_path, tmp_path / "out.jsonl")
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*.jsonl*"))


def test_afew_va_keeps_what_is_known_of_a_frame(tmp_path):
    marks = face_68().tolist()
    frames = {
        "00000": {"landmarks": marks, "valence": -2, "arousal": "3.0"},  # -2 is a value here
        "00001": {"landmarks": marks, "valence": None, "arousal": 3},
        "00002": {"valence": 5.0, "arousal": 0},
        "00003": {"landmarks": marks, "valence": -20, "arousal": 0},
        "00004": {"landmarks": marks[:5], "valence": 1, "arousal": 0},
        "00005": {"landmarks": None, "valence": float("nan"), "arousal": 0},
        "00006": [1],
    }
    for number in frames:
        picture(tmp_path / f"1/{number}.PNG")
    (tmp_path / "1/1.json").write_bytes(json.dumps({"frames": frames}).encode("utf-8-sig"))
    found, left_out = rows(afew_va, tmp_path)
    assert [(row.get("valence"), row.get("arousal"), "landmarks_68" in row) for row in found] == [
        (-0.2, 0.3, True),
        (None, None, True),
        (0.5, 0.0, False),
    ]
    assert left_out == {"labels out of range": 3, "no label": 1}


def test_aff_wild2_in_other_hands(tmp_path):
    tables = {
        "VA_Estimation_Challenge": "valence,arousal\r\n0.5, 0.25\r\nNaN,0.1\r\n-5.0,0.3\r\n",
        "EXPR_Recognition_Challenge": "Neutral,Anger\r\n4.0\r\n -1.0\r\nnan\r\n",
    }
    for name, text in tables.items():
        folder = tmp_path / name / "Train_Set"
        folder.mkdir(parents=True)
        (folder / "a.txt").write_bytes(text.encode("utf-8-sig"))
    for number in range(1, 4):
        touch(tmp_path / f"cropped_aligned/a/{number:05d}.jpg")
    found, left_out = rows(aff_wild2, tmp_path)
    known = dict(valence=0.5, arousal=0.25, emotion=1)
    place = dict(image="cropped_aligned/a/00001.jpg", split="train", subject="a")
    assert found == [place | known]
    assert left_out == {"no valence and arousal (-5)": 2, "no expression (-1)": 2}
    # A copy without its header: the first line is that of the first frame.
    table = tmp_path / "VA_Estimation_Challenge/Train_Set/a.txt"
    table.write_text(tables["VA_Estimation_Challenge"].split("\r\n", 1)[1])
    assert rows(aff_wild2, tmp_path)[0][0] == place | known


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
    count, left_out = write("afew_va", tmp_path / "raw", tmp_path / "all.jsonl", every=2)
    assert count == 2 and not left_out.counts
    options = dict(source=str(tmp_path / "raw"), manifest=str(tmp_path / "all.jsonl"))
    found = manifest.catalogue(
        epath.Path(options["manifest"]), epath.Path(options["source"]), test_share=0.0
    )
    assert [item.key for item in found.splits["train"]] == ["001/00000.png", "001/00002.png"]
    (folder,) = prepare.prepare("faces/afew_va", tmp_path / "data", **options)
    report = json.loads((folder / "prepare_report.json").read_text())
    marks = {"has_landmarks_68": 2, "has_annotated_68": 2}
    assert report["splits"]["train"]["labels"] == marks | {"has_va": 2}
