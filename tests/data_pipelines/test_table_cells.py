"""Cells of tables: one meaning for the many ways in which pandas and others write a value."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from etils import epath

from data_pipelines.affectnet import full
from data_pipelines.bp4d import annotations
from data_pipelines.building import table_cells
from data_pipelines.faces import manifest
from fields_jax.errors import UserError
from tests.support.raw_sets import UNITS, face_68, picture

NOTHING = (None, "", "  ", "nan", "NaN", "NA", "n/a", "None", "null", "<NA>", math.nan)
MARKS = face_68()


@pytest.mark.parametrize("cell", NOTHING, ids=repr)
def test_what_says_nothing_is_unknown_everywhere(cell):
    for read in (
        table_cells.text,
        table_cells.path,
        table_cells.number,
        table_cells.whole,
        table_cells.emotion,
        table_cells.level,
    ):
        assert read(cell) is None
    assert table_cells.points_68(cell) is None
    assert table_cells.affect(cell, 0.5) == table_cells.affect(0.5, cell) == {}


@pytest.mark.parametrize(
    ("read", "cell", "expected"),
    [
        *(
            (table_cells.emotion, cell, 1)
            for cell in (1, 1.0, "1", "1.0", " 1. ", "happy", " HAPPY ")
        ),
        *((table_cells.emotion, cell, None) for cell in (-1, "-1.0")),
        *((table_cells.level, cell, 2) for cell in (2, 2.0, "2.0")),
        *((table_cells.level, cell, None) for cell in (-1, "-1")),
        *((table_cells.text, cell, "7") for cell in (7, 7.0, "7", "7.0", " 7 ")),
        *((table_cells.text, cell, cell) for cell in ("007", "1.5", "anna")),
        *((table_cells.path, cell, "a/b.png") for cell in ("a/b.png", "a\\b.png", " a/b.png")),
        *((table_cells.number, cell, 0.5) for cell in (0.5, "0.5", " 5e-1 ")),
    ],
)
def test_one_value_written_in_many_ways(read, cell, expected):
    assert read(cell) == expected


@pytest.mark.parametrize(
    ("read", "cell"),
    [
        *(
            (table_cells.emotion, cell)
            for cell in (8, -2, 1.5, "joy", True, [1], "1_0", 1e300, 10**400)
        ),
        *((table_cells.level, cell) for cell in (3, 1.5, "high", {})),
        *((table_cells.text, cell) for cell in (True, [1], {}, "a\0b", "\ud800")),
        *((table_cells.path, cell) for cell in (1, ["a"], "a\0b", "\udcff")),
        *(
            (table_cells.number, cell)
            for cell in ("x", "0,5", "inf", "1e999", math.inf, False, "9" * 999)
        ),
        *((table_cells.points_68, cell) for cell in ("1;2", [1] * 135, [[1, 2]] * 67, {}, 5, True)),
        *(
            (table_cells.points_68, [cell] * 136)
            for cell in ("x", math.nan, 1e300, 10**400, None, [1])
        ),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_neither_is_refused_in_one_line(read, cell):
    with pytest.raises(ValueError, match=r"^[^\n]{1,150}$"):
        read(cell)


@pytest.mark.parametrize("valence", [-2, "-2", "-2.0", -5, "-5.0"])
def test_an_unknown_one_of_valence_and_arousal_leaves_both_out(valence):
    assert table_cells.affect(valence, 0.3) == table_cells.affect("0.3", valence) == {}
    assert table_cells.affect("0.25", -1) == {"valence": 0.25, "arousal": -1.0}
    for wrong in (1.01, -3, "x"):
        with pytest.raises(ValueError):
            table_cells.affect(valence, wrong)


@pytest.mark.parametrize(
    "cell",
    [
        MARKS.ravel().tolist(),
        MARKS.tolist(),
        ";".join(map(str, MARKS.ravel())),
        str(MARKS.tolist()),
        str(MARKS),  # as numpy prints it, over 68 lines
    ],
    ids=["flat", "pairs", "text", "list", "printed"],
)
def test_landmarks_in_all_their_forms(cell):
    np.testing.assert_allclose(table_cells.points_68(cell), MARKS, atol=1e-4)


def labels_of(folder, name, content):
    (folder / name).write_bytes(content)
    found = manifest.catalogue(epath.Path(folder / name), epath.Path("/p"), 0.0)
    assert not found.rejects, found.rejects
    return {item.image: dict(item.labels) for item in found.splits["train"]}


# As pandas 2 writes a frame whose columns of integers have gaps, with its index.
PANDAS_CSV = """\
,image,emotion,valence,arousal,subject,level
0,a\\1.png,3.0,0.5,-0.25,7.0,2.0
1,a\\2.png,,,,7.0,
2,a\\3.png,6.0,-2.0,-2.0,8.0,0.0
3,a\\4.png,6.0,0.1,,,
"""
PANDAS_JSONL = "\n".join(
    [
        r'{"Unnamed: 0":0,"image":"a\\1.png","emotion":3.0,"valence":0.5,"arousal":-0.25,'
        r'"subject":7,"level":2.0}',
        r'{"Unnamed: 0":1,"image":"a\\2.png","emotion":null,"valence":null,"arousal":NaN,'
        r'"subject":7.0,"level":null}',
        r'{"image":"a\\3.png","emotion":6,"valence":-2,"arousal":-2.0,"subject":"8","level":0}',
        r'{"image":"a\\4.png","emotion":"6","valence":0.1,"subject":"-1"}',
    ]
)
PANDAS_LABELS = {
    "/p/a/1.png": dict(emotion=3, valence=0.5, arousal=-0.25, subject=0, level=2),
    "/p/a/2.png": dict(subject=0),
    "/p/a/3.png": dict(emotion=6, subject=1, level=0),
    "/p/a/4.png": dict(emotion=6),
}


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_manifests_of_pandas(tmp_path, code, ends):
    csv_text, jsonl = (text.replace("\n", ends).encode(code) for text in (PANDAS_CSV, PANDAS_JSONL))
    assert labels_of(tmp_path, "a.csv", csv_text) == PANDAS_LABELS
    assert labels_of(tmp_path, "a.jsonl", jsonl) == PANDAS_LABELS


def test_quoted_cells_may_hold_commas_quotes_and_lines(tmp_path):
    table = "Image , EMOTION,landmarks_68,subject\n"
    table += f'"a,1.png","happy","{MARKS}","o""hara"\n'
    table += '"stray,1,,\nb.png,"2",,\n'
    (tmp_path / "a.csv").write_text(table)
    found = manifest.catalogue(epath.Path(tmp_path / "a.csv"), epath.Path("/p"), 0.0)
    first, second = found.splits["train"]
    assert (first.image, first.labels["emotion"]) == ("/p/a,1.png", 1)
    np.testing.assert_allclose(first.marks, MARKS, atol=1e-4)
    assert (second.key, second.labels) == ("b.png", {"emotion": 2})
    assert [detail.split(", ")[-1] for _, detail in found.rejects["train"]] == ["line 70"]


def test_a_stray_quote_in_every_line_spoils_each_line_only(tmp_path):
    rows = [f'"{i}.png,1' if i % 2 else f"{i}.png,1" for i in range(1000)]
    (tmp_path / "a.csv").write_text("\n".join(["image,emotion", *rows]))
    found = manifest.catalogue(epath.Path(tmp_path / "a.csv"), epath.Path("/p"), 0.0)
    assert len(found.splits["train"]) == len(found.rejects["train"]) == 500


def test_two_stray_quotes_take_nothing_that_lies_between(tmp_path):
    (tmp_path / "a.csv").write_text('image,emotion\n"a.png,1\nb.png,2\nc.png,3"\nd.png,4\n')
    found = manifest.catalogue(epath.Path(tmp_path / "a.csv"), epath.Path("/p"), 0.0)
    assert [item.key for item in found.splits["train"]] == ["b.png", "d.png"]
    assert len(found.rejects["train"]) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "image,emotion\n", "not one row that can be used, it has none; each should name"),
        (
            "a.csv",
            "image,emotion\na.png,9\n",
            r"\(labels unreadable: 1; first: .*line 2: emo",
        ),
        ("a.jsonl", "[]\n", r"not one row that can be used \(row unreadable: 1"),
        ("a.csv", "image,emotion,emotion\na,1,2\n", "column emotion is there twice"),
        ("a.csv", "image,valence\na,1\n", "valence and arousal come together or not at all"),
    ],
)
def test_a_manifest_that_comes_out_empty_is_an_error(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=f"^{tmp_path}/{name}: .*{message}"):
        manifest.catalogue(epath.Path(tmp_path / name), epath.Path("/p"), 0.0)


def affectnet(folder, text, code="utf-8"):
    images = folder / "Manually_Annotated/Manually_Annotated_Images"
    picture(images / "1/a.jpg")
    for name in ("training.csv", "validation.csv"):
        (images.parent / name).write_bytes(text.encode(code))
    return full.catalogue(epath.Path(folder))


HEADER = "subDirectory_filePath,facial_landmarks,expression,valence,arousal"


@pytest.mark.parametrize("code", ["utf-8-sig", "utf-16"])
def test_affectnets_lists_in_other_hands(tmp_path, code):
    marks = ";".join(map(str, MARKS.ravel()))
    rows = [f",{HEADER.upper()}"]
    rows += [
        f"{i},1\\a.jpg,{marks},{cells}" for i, cells in enumerate(("1.0,0.5,0.25", "6,-2.0,.1"))
    ]
    rows += [
        '2,"1/a.jpg","",NaN,0.5,0.25',
        f"3,1/a.jpg,{marks},,,",
        "",
        f"4,1/a.jpg,{marks},x,0,0",
    ]
    found = affectnet(tmp_path, "\r\n".join(rows), code)
    happy, anger, unknown = found.splits["train"]
    assert happy.labels == dict(emotion=1, valence=0.5, arousal=0.25)
    assert anger.labels == dict(emotion=6) and anger.key == "1/a.jpg"
    assert unknown.labels == dict(valence=0.5, arousal=0.25) and unknown.marks is None
    assert [reason for reason, _ in found.rejects["train"]] == ["no label", "row unreadable"]


def test_an_affectnet_list_without_one_usable_row_is_named(tmp_path):
    with pytest.raises(UserError, match=r"training.csv: not one of its 1 rows can be used"):
        affectnet(tmp_path, f"{HEADER}\n1/a.jpg,,8,-2,-2\n")


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16"])
def test_action_units_in_other_hands(tmp_path, code):
    rows = [",".join(["Frame" if code == "utf-16" else "0", *(f"AU{unit:02d}" for unit in UNITS)])]
    for frame, cell in ((1, "1.0"), (2, ""), (3, "9.0"), (4, "NaN"), (5, " 0 "), (6, "2")):
        rows.append(",".join([f"{frame}.0", cell, *["1"] * (len(UNITS) - 1)]))
    file = epath.Path(tmp_path / "F001_T1.csv")
    file.write_bytes(("\r\n".join(rows) + "\r\n").encode(code))
    if code == "utf-16":
        with pytest.raises(UserError, match=r"csv: not a table of action units \(line 1: 'frame"):
            annotations.read_coded_frames(file)
    else:
        assert annotations.read_coded_frames(file) == {1, 5}


def test_a_row_of_units_too_short_is_named(tmp_path):
    file = epath.Path(tmp_path / "F001_T1.csv")
    file.write_text(",".join(map(str, (0, *UNITS))) + "\n1,1,1\n")
    with pytest.raises(UserError, match=r"F001_T1.csv: .* \(line 2 has 3 cells\)"):
        annotations.read_coded_frames(file)


def test_lines_of_a_jsonl_that_are_no_rows(tmp_path):
    lines = [
        "[" * 10**5,
        '{"image": "' + "9" * 10 + '", "emotion": ' + "9" * 5000 + "}",
        "null",
        "5",
    ]
    lines += ['{"image": 5}', '{"image": "a", "subject": []}', json.dumps({"image": "ok.png"})]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = manifest.catalogue(epath.Path(tmp_path / "a.jsonl"), epath.Path("/p"), 0.0)
    assert [item.key for item in found.splits["train"]] == ["ok.png"]
    assert [reason for reason, _ in found.rejects["train"]] == ["row unreadable"] * 6
