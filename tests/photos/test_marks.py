"""Landmarks as text: which texts are read, refused or passed over."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from data_pipelines.building import photographs
from fields_jax import landmark_schemes
from fields_jax.errors import UserError
from fields_jax.photos import beside, files, mark_text, points
from tests.photos.test_photos import detector, face_68, find, mesh

MARKS = face_68().round(2)
ROWS = [f"{x:.2f} {y:.2f}" for x, y in MARKS]
TEXT = "\n".join(ROWS)
PTS = f"version: 1\nn_points: 68\n{{\n{TEXT}\n}}\n"


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.replace(" ", ","),
        TEXT.replace(" ", "; "),
        TEXT.replace(" ", "\t") + "\n\n",
        TEXT.replace("\n", "\r\n"),
        TEXT.replace("\n", ",\n"),
        "\n".join(f"({row.replace(' ', ', ')})" for row in ROWS),
        "\n".join(f"{n} {row}" for n, row in enumerate(ROWS)),
        "\n".join(f"{n},{row.replace(' ', ',')}" for n, row in enumerate(ROWS, start=1)),
        "\n".join(f"{n}: {row} 0.5" for n, row in enumerate(ROWS)),
        "\n".join(f"{row} -3.25" for row in ROWS),
        "x y\n" + TEXT,
        "index,x,y\n" + "\n".join(f"{n} {row}" for n, row in enumerate(ROWS)),
        "68\n" + TEXT,
        "68 2\n" + TEXT,
        "# 68 points\n" + "\n".join(f"{row} # point" for row in ROWS),
        "a face of 2021\n68\nx y\n" + TEXT,
        PTS,
        PTS.replace("version", "Version").replace("n_points", "N_POINTS"),
        PTS.replace("{\n", "{").replace("\n}", "}"),
        PTS.replace("version: 1\n", "").replace("n_points:", "n_points ="),
    ],
)
@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_texts_of_68_points(tmp_path, text, code):
    for name in ("a.txt", "a.pts"):
        path = tmp_path / name
        path.write_bytes(text.encode(code))
        found = points.load_faces(path)
        np.testing.assert_allclose(found, MARKS[None], atol=1e-6)
    assert beside.landmark_file(tmp_path / "a.txt").file.name == "a.pts"
    assert not mark_text.is_prose(tmp_path / "a.txt")


def test_text_of_478_points_and_of_98(tmp_path):
    np.savetxt(tmp_path / "a.txt", mesh())
    np.testing.assert_allclose(points.load_faces(tmp_path / "a.txt")[0], mesh()[:, :2], atol=1e-4)
    wide = np.stack([np.arange(98), np.arange(98) + 0.5], axis=1)
    np.savetxt(tmp_path / "b.txt", wide)
    np.save(tmp_path / "c.npy", np.stack([wide, wide]))
    assert points.load_faces(tmp_path / "c.npy").shape == (2, 68, 2)
    (taken,) = points.load_faces(tmp_path / "b.txt")
    # By WFLW's figure: chin 16, brows' ends 33, 37, 42, 46, nose 51 to 59, the outer corners of the
    # eyes 60 and 72, the inner ones 64 and 68, the mouth's 76, 82 and 88, 92.
    rows = [8, 17, 21, 22, 26, 27, 30, 33, 35, 36, 39, 42, 45, 48, 54, 60, 64, 67]
    expected = [16, 33, 37, 42, 46, 51, 54, 57, 59, 60, 64, 68, 72, 76, 82, 88, 92, 95]
    assert taken[rows, 0].tolist() == expected
    kept = landmark_schemes.WFLW_68
    assert len(set(kept.tolist())) == 68 and (np.diff(kept) > 0).all()


NO_POINTS = {
    "12 three\n" + TEXT + "\nthe end": r"not lines of x and y \(line 70: 'the end'\)",
    TEXT + "\n12.5": r"not lines of x and y \(line 69: 1 numbers, 2 before\)",
    "67\n" + TEXT: "says that it has 67 points and has 68",
    PTS.replace("68", "91", 1): "says that it has 91 points and has 68",
    PTS.replace(ROWS[7] + "\n", ""): "says that it has 68 points and has 67",
    "\n".join(ROWS[:29]): r"expected numbers .*, found float64 \[29, 2\]",
    "\n".join(ROWS[:7]): r"found float64 \[7, 2\]",
    " ".join(ROWS): r"not lines of x and y \(there are 1 rows of 136 numbers\)",
    TEXT.replace(".", ","): r"there are 68 rows of 4 numbers",
    "\n".join(f"{n} {row}" for n, row in enumerate(reversed(ROWS), start=-67)).replace("-", ""): (
        "its first column numbers the points, out of order"
    ),
    "1 2\n" * 30: r"found float64 \[30, 2\]",
    "9" * 10**5 + "x\n" + TEXT[:-5]: "not lines of x and y .line 69: 1 numbers, 2 before",
    TEXT * 1000: "is larger than 128 KiB, which no landmark file is",
}


@pytest.mark.parametrize("text", NO_POINTS)
def test_texts_that_are_none_are_named_with_the_reason(tmp_path, text):
    """Whatever else there is to find the face by: somebody has put that file there."""
    Image.new("RGB", (120, 150)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(text)
    (refused,) = find(tmp_path / "a.png", finder=detector((mesh(), 0.9)))
    assert isinstance(refused, files.Unusable) and "a.txt" in refused.reason
    with pytest.raises(UserError, match=rf"a\.txt.* ?{NO_POINTS[text]}") as caught:
        points.load_faces(tmp_path / "a.txt")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    with pytest.raises(photographs.Rejected, match=r"a\.txt") as caught:
        photographs.make_record(
            photographs.Sample("a", str(tmp_path / "a.png")), size=64, scale=2.0
        )
    assert caught.value.reason == photographs.BAD_LANDMARKS


@pytest.mark.parametrize(
    "text", ["", "\0\0\0", "A man, 34, smiles.", "0 0.5 0.5 0.2 0.3\n", "1\n2\n3\n4\nwords 5\n" * 1]
)
def test_texts_of_other_matters_are_passed_over(tmp_path, text):
    Image.new("RGB", (120, 90)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(text)
    (found,) = find(tmp_path / "a.png", finder=detector((mesh(), 0.9)))
    assert found.origin == "finder 1, score 0.90 (a.txt beside it holds no points)"
    (tmp_path / "a.txt").rename(tmp_path / "a.pts")  # which can only be meant for points
    (refused,) = find(tmp_path / "a.png", finder=detector((mesh(), 0.9)))
    assert "a.pts: not lines of x and y" in refused.reason or "expected" in refused.reason


def test_a_text_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    Image.new("RGB", (120, 90)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").mkdir()  # the only file that root cannot read
    (refused,) = find(tmp_path / "a.png", finder=detector((mesh(), 0.9)))
    assert refused.reason == f"{tmp_path}/a.txt cannot be read: Is a directory"
