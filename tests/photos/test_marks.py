"""Landmarks as text, where they may be in a picture, unseen ones, and damaged files of them."""

from __future__ import annotations

import io
import random
import re

import numpy as np
import pytest
from PIL import Image

from data_pipelines.building import photographs
from fields_jax import fit, landmark_schemes
from fields_jax.errors import UserError
from fields_jax.photos import beside, crops, faces, files, mark_text, points
from tests.photos.test_photos import detector, face_68, find, mesh
from tests.support import raw_sets

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
    assert (
        len(set(landmark_schemes.WFLW_68.tolist())) == 68
        and (np.diff(landmark_schemes.WFLW_68) > 0).all()
    )


NO_POINTS = {
    "12 three\n" + TEXT + "\nthe end": r"not lines of x and y \(line 70: 'the end'\)",
    TEXT + "\n12.5": r"not lines of x and y \(line 69: 1 numbers, 2 before\)",
    "67\n" + TEXT: "says that it has 67 points and has 68",
    PTS.replace("68", "91", 1): "says that it has 91 points and has 68",
    PTS.replace(ROWS[7] + "\n", ""): "says that it has 68 points and has 67",
    "\n".join(ROWS[:29]): r"expected numbers .*, found float64 \[29, 2\]",
    "\n".join(ROWS[:5]): r"found float64 \[5, 2\]",
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


# Boxes in a picture of 200 x 100 pixels, and what is wrong with each.
BOXES = [
    ((10, 20, 90, 95), ""),
    ((-30, -20, 60, 70), ""),  # cut off at a corner
    ((-50, -60, 250, 190), ""),  # a close-up
    ((10, 10, 27, 27), ""),
    ((0.1, 0.1, 0.9, 0.9), r"the box spans 0\.1\.\.0\.9: normalised\? give pixels"),
    ((-1, -1, 1, 1), r"spans -1\.\.1: normalised\?"),
    ((10, 10, 13, 60), "its smaller side is 3 pixels, a face's 16 at least"),
    ((300, 10, 340, 50), "0 % of it is inside, of a face 25 % at least"),
    ((-70, 10, 20, 90), "22 % of it is inside"),
    ((-200, -200, 210, 210), "more than 2 times as large as the picture"),
    ((0, 0, 1e30, 1e30), "no face in 200 x 100 pixels: it is more than 2 times as large"),
    ((0, 0, np.nan, 50), "not all numbers"),
    ((0, 0, np.inf, 50), "not all numbers"),
]


@pytest.mark.parametrize(("box", "reason"), BOXES)
def test_where_a_face_may_be(tmp_path, box, reason):
    """One check of --box, of landmark files, of the detector's answers and of annotations."""
    path = tmp_path / "a.png"
    Image.new("RGB", (200, 100)).save(path)
    (found,) = find(path, box=box)
    assert isinstance(found, files.Unusable) == bool(reason)
    if not reason:
        assert crops.box_fault(box, 100, 200) == "" and found.box.tolist() == list(box)
    else:
        assert re.search(reason, found.reason), found.reason
        assert found.reason.endswith("(box given by the user)")
    low, size = np.array(box[:2], np.float64), np.subtract(box[2:], box[:2])
    ring = np.pad((mesh((0.5, 0.5), 0.5)[:, :2] * size + low).astype(np.float32), ((0, 0), (0, 1)))
    (seen,) = find(path, finder=detector((ring, None)))
    np.save(tmp_path / "a.npy", ring)
    (marked,) = find(path)
    assert isinstance(seen, files.Unusable) == isinstance(marked, files.Unusable) == bool(reason)
    sample = photographs.Sample("a", str(path))
    if reason:
        assert marked.reason.replace("landmark file a.npy", "finder 1") == seen.reason
        with pytest.raises(photographs.Rejected) as caught:
            photographs.make_record(sample, size=64, scale=2.0)
        assert caught.value.reason == photographs.BAD_LANDMARKS
        assert marked.reason.startswith(caught.value.detail.removeprefix(f"{path}: "))
    else:
        assert min(photographs.make_record(sample, size=64, scale=2.0)["image"].shape[:2]) > 16


def test_boxes_that_no_points_have():
    assert "its smaller side is -40 pixels" in crops.box_fault((60, 60, 20, 20), 100, 200)
    assert "more than 2 times as large" in crops.box_fault((-1e308, 0, 1e308, 50), 100, 200)


def test_annotations_pass_the_same_check(tmp_path):
    path = raw_sets.picture(tmp_path / "a.jpg")

    def record(marks):
        sample = photographs.Sample("a", str(path), np.asarray(marks, np.float32))
        return photographs.make_record(sample, size=64, scale=2.0)

    inner = np.delete(raw_sets.face_68(), [*range(17), 60, 64], axis=0)
    for marks in (raw_sets.face_68(), inner):
        assert record(marks)["face_box"].min() > 0
        for spoiled, reason in (
            (marks / 120, "normalised. give pixels"),
            (marks + 1000, "0 % of it is inside"),
            (marks / 10, "its smaller side is"),
            (marks * 1e30, "more than 2 times"),
            (marks * np.nan, "not finite"),
            (np.where(np.arange(len(marks))[:, None] == 30, 0, marks), "1 of its .* are unseen"),
        ):
            with pytest.raises(photographs.Rejected, match=reason):
                record(spoiled)
    np.save(tmp_path / "a.203.npy", np.random.default_rng(0).uniform(0.1, 0.9, (203, 2)))
    with pytest.raises(photographs.Rejected, match=r"its points span 0\.1.*normalised\?"):
        record(raw_sets.face_68())


def test_a_picture_of_a_few_pixels_is_no_face(tmp_path):
    Image.new("RGB", (40, 3)).save(tmp_path / "a.png")
    (refused,) = find(tmp_path / "a.png")
    assert refused.reason.startswith(
        "a picture of 40 x 3 pixels: the smaller side of a face has 16"
    )


UNSEEN = [(0, 0), (-1, -1), (-9999, -9999)]


@pytest.mark.parametrize("placeholder", UNSEEN)
def test_unseen_points_stretch_no_box(tmp_path, placeholder):
    whole = face_68((100, 80), 60)
    marks = whole.copy()
    marks[[0, 1, 2, 40, 17]] = placeholder
    assert points.seen(marks).sum() == 63 and points.seen(whole).all()
    assert points.fault(marks, 200, 300) == ""
    low, high = points.face_box(whole)[:2], points.face_box(whole)[2:]
    box = points.face_box(marks)
    assert (box[:2] >= low).all() and (box[2:] <= high).all()
    np.testing.assert_allclose(box[[1, 2, 3]], points.face_box(whole)[[1, 2, 3]], atol=1e-4)
    dense = np.pad(mesh((100, 80), 60)[:, :2], 0)
    dense[5] = placeholder
    np.testing.assert_allclose(points.face_box(dense), [40, 20, 160, 140], atol=0.1)


def test_points_beyond_a_corner_are_seen_and_turned_signs_are_not():
    face = face_68((30, 24), 50)
    assert ((face < 0).all(axis=1)).any() and points.seen(face).all()
    turned = face_68((150, 120), 60)
    turned[:20] *= -1
    assert points.seen(turned).tolist() == [False] * 20 + [True] * 48
    assert points.face_box(turned).min() > 0
    assert points.seen(face_68((-300, -320), 50)).all()  # no others to compare them with


@pytest.mark.parametrize(
    ("hidden", "reason"),
    [
        (range(35), "35 of its 68 landmarks are unseen"),
        (range(68), "68 of its 68 landmarks are unseen"),
        ([8], "its chin or all of its brows are unseen"),
        (range(17, 27), "its chin or all of its brows are unseen"),
    ],
)
def test_too_many_unseen_points_are_no_face(tmp_path, hidden, reason):
    Image.new("RGB", (200, 160)).save(tmp_path / "a.png")
    marks = face_68((100, 80), 60)
    marks[list(hidden)] = 0
    np.savetxt(tmp_path / "a.txt", marks)
    (refused,) = find(tmp_path / "a.png")
    assert refused.reason.startswith(reason) and refused.reason.endswith("(landmark file a.txt)")


def test_a_record_wants_every_point(tmp_path):
    path = raw_sets.picture(tmp_path / "a.jpg")
    dense = raw_sets.mesh()
    dense[3] = 0
    np.save(tmp_path / "a.npy", dense)
    with pytest.raises(photographs.Rejected, match="1 of its 478 landmarks are unseen, and a rec"):
        photographs.make_record(photographs.Sample("a", str(path)), size=64, scale=2.0)


def test_a_fit_weighs_unseen_points_with_nothing(monkeypatch):
    marks, dense = face_68((100, 80), 60), mesh((100, 80), 60)[:, :2]
    marks[[3, 40]] = -1
    dense[landmark_schemes.MEDIAPIPE_105[7]] = 0
    image = np.zeros((200, 200, 3), np.uint8)
    given = {}
    monkeypatch.setattr(fit, "fit_landmarks", lambda model, observed: given.update(seen=observed))
    fit.fit_faces(
        None,
        [
            faces.Face("", "", image, place, points.face_box(place), 1.4, "")
            for place in (marks, dense)
        ],
    )
    seen = given["seen"]
    assert np.flatnonzero(seen.weights_68[0] == 0).tolist() == [3, 40]
    assert np.flatnonzero(seen.weights_105[1] == 0).tolist() == [7]
    assert not seen.weights_68[1].any() and not seen.weights_105[0].any()
    dense[landmark_schemes.MEDIAPIPE_105[:60]] = -1
    face = faces.Face("", "", image, dense, np.zeros(4), 1.4, "landmark file a.npy")
    assert fit._unfit(face).startswith("60 of the 105 landmarks that the head knows are unseen")


def npy(array: np.ndarray, **options) -> bytes:
    stored = io.BytesIO()
    np.save(stored, array, **options)
    return stored.getvalue()


SOUND = npy(mesh())
HUGE = SOUND.replace(b"(478, 3), }", b"(478, 3" + b"0" * 9 + b"), }").replace(
    b" " * 9 + b"\n", b"\n"
)
# What files called NAME.npy may hold; how it ends is for the test to find out, but not in a crash.
DAMAGED_NPY = [
    b"",
    b"\x93NUMPY",
    b"\x93NUMPY\x09\x00" + SOUND[8:],
    SOUND[:100],
    SOUND[:-1],
    SOUND + SOUND,
    HUGE,
    SOUND.replace(b"(478, 3)", b"(-78, 3)"),
    SOUND.replace(b"<f4", b"<f8"),
    SOUND.replace(b"<f4", b"|O "),
    SOUND.replace(b"'descr'", b"'descx'"),
    SOUND.replace(b"{'descr'", b"[[[[[[[["),
    SOUND.replace(b"False", b"True "),
    npy(np.array([{"a": 1}] * 478, object), allow_pickle=True),
    npy(np.array(7.0)),
    npy(np.zeros((0, 478, 2))),
    npy(np.zeros((2, 3, 478, 2))),
    npy(np.full((478, 2), 1e300)),
    npy(np.full((478, 2), -(2**62))),
    npy(np.full((478, 2), np.nan)),
    npy(np.full((478, 2), "12")),
    npy(np.zeros((478, 2), complex)),
    npy(np.zeros((478, 2), [("x", "f4")])),
    npy(np.asfortranarray(mesh())),
    npy(mesh().astype(">f8")),
]
DAMAGED_TEXT = [
    b"",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\0" * 1000,
    bytes(range(256)) * 10,
    TEXT.encode()[:-3],
    TEXT.encode() * 2,
    TEXT.encode("utf-16")[:-1],
    TEXT.encode("utf-32"),
    b"1e999 1\n" * 68,
    b"nan nan\n" * 68,
    b"inf -inf\n" * 68,
    b"1 2\n" * 2_000,
    b"1 " * 5_000,
    b"1\n" * 5_000,
    b"a\n1\n" * 5_000,
    b"9" * 100_000,
    b"-" * 100_000,
    b"{" * 100_000,
    b"68\n68\n" + TEXT.encode(),
    "１２ ３\n".encode() * 68,
    b"0x1 1_0\n" * 68,
    PTS.encode().replace(b"68", b"9" * 50),
    PTS.encode().replace(b"}", b"} trailing words"),
    TEXT.replace(".", "\x1b[31m").encode(),
]


def attempt(folder, name: str, content: bytes) -> None:
    """Reads a file in every way there is, and wants a face or one line about it."""
    (folder / name).write_bytes(content)
    for found in find(folder / "a.png", finder=detector((mesh(), 0.9))):
        said = found.origin if isinstance(found, faces.Face) else found.reason
        assert name in said or said == "landmark file a.npy" or said.startswith("no face found")
        assert said.isprintable() and len(said) < 500
    try:
        photographs.make_record(photographs.Sample("a", str(folder / "a.png")), size=64, scale=2.0)
    except photographs.Rejected as error:
        assert "a." in error.detail and error.detail.isprintable()
    for read in (points.load_faces, points.load_points):
        try:
            read(folder / name)
        except UserError as error:
            assert name in str(error) and str(error).isprintable()
    (folder / name).unlink()


@pytest.mark.parametrize("suffix", [".npy", ".txt", ".pts", ".203.npy"])
def test_damaged_files_cost_one_line_each(tmp_path, suffix):
    """25 ways that are known to break readers and 60 corruptions at random, of each kind."""
    Image.new("RGB", (120, 90)).save(tmp_path / "a.png")
    is_text = suffix in (".txt", ".pts")
    sound = PTS.encode() if is_text else SOUND
    chosen = DAMAGED_TEXT if is_text else DAMAGED_NPY
    rng = random.Random(suffix)
    for content in [*chosen, *(corrupted(sound, rng) for _ in range(60))]:
        if suffix == ".203.npy":
            np.save(tmp_path / "a.npy", mesh())
        attempt(tmp_path, f"a{suffix}", content)


def corrupted(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut out, doubled or cut off."""
    start, stop = sorted(rng.randrange(len(data)) for _ in range(2))
    stop = min(stop, start + 40)
    return rng.choice(
        (
            data[:start] + rng.randbytes(stop - start) + data[stop:],
            data[:start] + data[stop:],
            data[:stop] + data[start:],
            data[:start],
            data[:8] + rng.randbytes(120) + data[128:],
            data[:start] + bytes([data[start] ^ 1 << rng.randrange(8)]) + data[start + 1 :],
        )
    )
