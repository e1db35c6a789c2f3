"""Photographs and landmark files as users have them, and the geometry of crops."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fields_jax import landmark_schemes
from fields_jax.flame import flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.photos import crops, faces, files, points
from tests.support.portraits import coefficients


def test_105_points_are_the_embedding_s():
    chosen = landmark_schemes.MEDIAPIPE_105
    assert len(set(chosen.tolist())) == 105
    assert chosen.max() < landmark_schemes.N_MEDIAPIPE
    assert chosen[[0, 10, 20, 36, 52, 65]].tolist() == [276, 46, 249, 7, 168, 0]
    groups = np.split(chosen, [10, 20, 36, 52, 65])
    assert [len(group) for group in groups] == [10, 10, 16, 16, 13, 40]
    assert all((np.diff(groups[i]) > 0).all() for i in (0, 1, 2, 3, 5))
    marks = np.arange(478 * 3, dtype=np.float32).reshape(478, 3)
    np.testing.assert_array_equal(points.select_105(marks)[0], marks[276, :2])


def test_mediapipe_s_nearest_to_the_68_points():
    """On the head, where both schemes are embedded: same place, same side, mirrored alike."""
    head = procedural_head()
    embedded = {int(n): i for i, n in enumerate(head.mediapipe_index)}
    output = flame(head, coefficients())
    fixed, meshed = (np.asarray(x)[0] for x in (output.landmarks_68_static, output.landmarks_105))
    apart = np.linalg.norm(fixed[36] - fixed[45])
    known = [k for k in range(17, 68) if int(landmark_schemes.MEDIAPIPE_68[k]) in embedded]
    assert len(known) == 51
    found = meshed[[embedded[int(landmark_schemes.MEDIAPIPE_68[k])] for k in known]]
    distance = np.linalg.norm(found - fixed[17:], axis=-1) / apart
    assert np.median(distance) < 0.05
    assert distance.max() < 0.2
    twin = landmark_schemes.MEDIAPIPE_68[landmark_schemes.MIRRORED["landmarks_68"]]
    middle = landmark_schemes.MEDIAPIPE_68[[8, 27, 28, 29, 30, 33, 51, 57, 62, 66]]
    unmoved = {p for p, q in zip(landmark_schemes.MEDIAPIPE_68, twin, strict=True) if p == q}
    assert unmoved == set(middle)
    assert len(set(landmark_schemes.MEDIAPIPE_68.tolist())) == 68


def test_crop_matrix_by_hand():
    # Width 20 and height 40 average 30; 1.5 x 30 = 45 pixels about (20, 40) become 90.
    matrix = crops.crop_matrix(np.array([10, 20, 30, 60]), 1.5, 90)
    corners = crops.transform_points(
        matrix, np.array([[20, 40], [20 - 22.5, 40 - 22.5], [20 + 22.5, 40]])
    )
    np.testing.assert_allclose(corners, [[45, 45], [0, 0], [90, 45]], atol=1e-5)
    np.testing.assert_allclose(crops.to_ndc(corners, 90), [[0, 0], [-1, -1], [1, 0]], atol=1e-6)
    with pytest.raises(ValueError, match=r"face box .* is empty"):
        crops.crop_matrix(np.array([10, 20, 10, 20]), 1.5, 90)


@pytest.mark.parametrize("size", [60, 12])
def test_cut_moves_pixels_as_the_matrix_moves_points(size):
    """12 pixels from 40 also goes through the averaging that precedes a strong reduction."""
    rows, columns = np.mgrid[:50, :60] + 0.5
    blob = 250 * np.exp(-(np.hypot(columns - 32, rows - 22) ** 2) / (2 * 4**2))
    image = np.repeat(blob[..., None], 3, axis=2).astype(np.uint8)
    matrix = crops.crop_matrix(np.array([10, 10, 50, 50]), 1.0, size)
    cropped = crops.cut(image, matrix, size)[..., 0].astype(float)
    rows, columns = np.mgrid[:size, :size] + 0.5
    found = np.array([(cropped * columns).sum(), (cropped * rows).sum()]) / cropped.sum()
    np.testing.assert_allclose(
        found, crops.transform_points(matrix, np.array([[32, 22]]))[0], atol=0.05
    )


@pytest.mark.parametrize("seed", range(40))
def test_a_crop_is_the_same_as_if_the_whole_picture_were_resampled(seed):
    rng = np.random.default_rng(seed)
    width, height = rng.integers(3, 500, 2)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    middle, half = rng.uniform(-0.3, 1.3, 2) * (width, height), np.exp(rng.uniform(1.5, 6.5))
    size = 48
    matrix = crops.crop_matrix(np.array([*(middle - half), *(middle + half)]), 1.4, size)
    turn = rng.uniform(-1, 1)
    about = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    matrix = (about @ matrix).astype(np.float32)
    whole, inverse = Image.fromarray(image), np.linalg.inv(np.float64(matrix))
    if (shrink := int(1 / np.sqrt(np.linalg.det(matrix[:2, :2])) + 1e-6)) > 1:
        whole = whole.reduce(shrink)
        inverse[:2] /= shrink
    expected = whole.transform(
        (size, size),
        Image.Transform.AFFINE,
        data=inverse[:2].ravel().tolist(),
        resample=Image.Resampling.BILINEAR,
    )
    np.testing.assert_array_equal(crops.cut(image, matrix, size), expected)


def test_cut_is_black_where_there_is_no_picture():
    image = np.full((20, 20, 3), 99, np.uint8)
    cropped = crops.cut(image, crops.crop_matrix(np.array([0, 0, 20, 20]), 2.0, 40), 40)
    assert (cropped[10:30, 10:30] == 99).all()
    assert not cropped[:9].any()
    assert not cropped[:, 31:].any()


def test_convex_hull_of_a_square_with_points_inside_and_on_its_edges():
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]])
    points = np.concatenate([square, [[2, 2], [2, 0], [1, 3]], square])
    assert {tuple(corner) for corner in crops.convex_hull(points)} == set(map(tuple, square))
    assert len(crops.convex_hull(points)) == 4


def test_hull_mask_fills_the_border_too():
    mask = crops.hull_mask(np.array([[2.9, 3.1], [6.5, 3.9], [6.0, 8.2], [2.0, 8.0]]), 12, 10)
    expected = np.ones((12, 10), np.uint8)
    expected[3:9, 2:7] = 0  # corners are whole pixels: columns 2 to 6, rows 3 to 8
    np.testing.assert_array_equal(mask, expected)
    assert crops.hull_mask(np.array([[-5, -5], [50, -5], [50, 50], [-5, 50]]), 8, 8).max() == 0


def test_hull_mask_agrees_with_half_planes():
    """Random points: every pixel well inside is 0, every pixel well outside is 1."""
    points = np.random.default_rng(0).normal(32, 9, (50, 2))
    mask = crops.hull_mask(points, 64, 64)
    hull = crops.convex_hull(points)
    edge = np.roll(hull, -1, axis=0) - hull
    normal = np.stack([-edge[:, 1], edge[:, 0]], axis=1) / np.linalg.norm(edge, axis=1)[:, None]
    centres = np.stack(np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5), axis=-1)
    depth = np.einsum("hwkc,kc->hwk", centres[:, :, None] - hull, normal).min(axis=-1)
    assert (mask[depth > 1.5] == 0).all()
    assert (mask[depth < -1.5] == 1).all()


def face_68(center=(100.0, 80.0), size=60.0):
    """68 points: a jaw, brows above it, the rest between."""
    angle = np.linspace(np.pi, 0, 17)
    jaw = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    brows = np.stack([np.linspace(-0.7, 0.7, 10), np.full(10, -0.6)], axis=1)
    inner = np.random.default_rng(0).uniform(-0.4, 0.4, (41, 2))
    return (np.concatenate([jaw, brows, inner]) * size + center).astype(np.float32)


@pytest.mark.parametrize(
    ("stored", "faces", "count"),
    [
        (np.ones((478, 2)), 1, 478),
        (np.ones((478, 3), np.float32), 1, 478),
        (np.ones((3, 478, 3)), 3, 478),
        (np.ones((68, 2), int), 1, 68),
        (np.ones((2, 68, 3)), 2, 68),
    ],
)
def test_landmark_arrays_of_one_and_several_faces(tmp_path, stored, faces, count):
    np.save(tmp_path / "a.npy", stored)
    assert points.load_faces(tmp_path / "a.npy").shape == (faces, count, 2)


def test_five_points_are_read_where_they_will_do(tmp_path):
    marks = face_68().astype(np.float32)
    five = np.stack([marks[list(rows)].mean(axis=0) for rows in landmark_schemes.AVERAGED_5])
    np.save(tmp_path / "a.npy", five)
    np.savetxt(tmp_path / "a.txt", five)
    with pytest.raises(ValueError, match="expected numbers of shape"):
        points.load_faces(tmp_path / "a.npy")
    for name in ("a.npy", "a.txt"):
        found = points.load_faces(tmp_path / name, fewest=5)
        np.testing.assert_allclose(found[0], five, rtol=1e-6)


def test_five_points_give_about_the_box_of_the_whole_face():
    head = procedural_head()
    for yaw in (0.0, 1.2):
        known = coefficients(yaw=yaw)
        marks = 100 + 1e3 * np.asarray(flame(head, known).landmarks_68)[0, :, :2] * [1, -1]
        five = np.stack([marks[list(rows)].mean(axis=0) for rows in landmark_schemes.AVERAGED_5])
        box, whole = points.face_box(five), points.face_box(marks)
        extent, expected = crops.crop_extent(box, 1), crops.crop_extent(whole, 1)
        assert abs(extent / expected - 1) < 0.12, yaw
        apart = (box.reshape(2, 2) - whole.reshape(2, 2)).mean(axis=0)
        assert np.linalg.norm(apart) < (0.05 if yaw == 0 else 0.35) * expected
        assert points.fault(five, 200, 300) == ""
        five[3] = -1
        assert "is unseen of its 5 landmarks" in points.fault(five, 200, 300)


def test_68_points_as_text(tmp_path):
    marks = face_68().round(2)
    rows = "\n".join(f"{x} {y}" for x, y in marks)
    (tmp_path / "a.txt").write_text(rows.replace(" ", ", "))
    (tmp_path / "b.pts").write_text(f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n")
    for name in ("a.txt", "b.pts"):
        np.testing.assert_allclose(points.load_faces(tmp_path / name)[0], marks, rtol=1e-6)
    (tmp_path / "c.txt").write_text(rows + " three\n")
    with pytest.raises(ValueError, match=r"c\.txt: not lines of x and y"):
        points.load_faces(tmp_path / "c.txt")
    (tmp_path / "d.txt").write_text("1 2\n3 4\n")
    with pytest.raises(ValueError, match=r"d\.txt: expected numbers .* found float64 \[2, 2\]"):
        points.load_faces(tmp_path / "d.txt")


def test_which_file_holds_the_landmarks(tmp_path):
    photograph = tmp_path / "a.png"
    assert points.find_file(photograph) is None
    (tmp_path / "a.txt").write_text("A woman laughs.")
    assert points.find_file(photograph) is None
    np.savetxt(tmp_path / "a.txt", face_68())
    assert points.find_file(photograph).name == "a.txt"
    (tmp_path / "a.npy").write_bytes(b"no array")  # clearly meant: its reader says what is wrong
    assert points.find_file(photograph).name == "a.npy"


def test_load_points_wants_one_face(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 478, 2)))
    with pytest.raises(ValueError, match=r"\[478, 3\], found 478 points of 2 faces"):
        points.load_points(tmp_path / "a.npy")


def test_box_of_68_points_reaches_the_hairline_whichever_way_is_up():
    marks = face_68()
    box = points.face_box(marks)
    chin, brow = marks[8, 1], marks[17:27, 1].min()
    assert box[3] == pytest.approx(chin)
    assert (chin - brow) / (box[3] - box[1]) == pytest.approx(0.86, abs=1e-3)
    turned = points.face_box(np.stack([-marks[:, 1], marks[:, 0]], axis=1))  # a quarter turn
    np.testing.assert_allclose(turned, [-box[3], box[0], -box[1], box[2]], atol=1e-4)


def write_pictures(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(folder / name)


def find(path, **options):
    return list(faces.find_faces(files.Photograph(path, "a"), scale=1.4, **options))


def detector(*found):
    return faces.Finder("finder 1", lambda image: [faces.Detection(*one) for one in found])


def mesh(center=(60, 45), radius=20):
    angle = np.linspace(0, 2 * np.pi, landmark_schemes.N_MEDIAPIPE)
    ring = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    return (radius * ring + (*center, 0)).astype(np.float32)


def test_face_sources_in_their_order(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (120, 90)).save(path)
    (whole,) = find(path)
    assert "whole image" in whole.origin and whole.points is None
    # The smallest square that holds 120 x 90 is 120 wide about (60, 45).
    np.testing.assert_allclose(
        crops.transform_points(whole.matrix(60), np.array([[0, -15], [120, 105]])),
        [[0, 0], [60] * 2],
    )
    (found,) = find(path, finder=detector((mesh(), 0.9)))
    assert found.origin == "finder 1, score 0.90" and found.name == "a"
    np.testing.assert_allclose(found.box, [40, 25, 80, 65], atol=1e-3)
    # 1.4 x 40 = 56 pixels about (60, 45)
    np.testing.assert_allclose(
        crops.transform_points(found.matrix(28), np.array([[32, 17], [88, 73]])),
        [[0, 0], [28, 28]],
        atol=1e-3,
    )
    np.save(path.with_suffix(".npy"), mesh((50, 40)))
    (marked,) = find(path, finder=detector((mesh(), 0.9)))
    assert marked.origin == "landmark file a.npy"
    np.testing.assert_allclose(marked.box, [30, 20, 70, 60], atol=1e-3)
    (boxed,) = find(path, box=(10, 20, 30, 40), finder=detector((mesh(), 0.9)))
    assert boxed.origin == "box given by the user" and boxed.box.tolist() == [10, 20, 30, 40]


def test_several_faces_and_those_that_are_none(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (120, 90)).save(path)
    missing = mesh()
    missing[3] = np.nan
    first, second, third, fourth = find(
        path, finder=detector((mesh(), None), (missing, 0.5), (mesh((500, 40)), 0.6), (mesh(), 1))
    )
    assert (first.name, first.origin, fourth.name) == ("a_0", "finder 1", "a_3")
    assert second.reason.startswith("face 1: some of its landmarks are not finite (finder 1")
    assert "face 2: its landmarks span [480.0" in third.reason
    assert "no face in 120 x 90 pixels" in third.reason
    (nobody,) = find(path, finder=detector())
    assert nobody.reason.startswith("no face found; give its landmarks, or reconstruct it with")


def test_files_that_are_no_pictures(tmp_path):
    good = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)
    Image.fromarray(noise).save(good, "jpeg")
    for name, content, said in (
        ("text.jpg", b"hello", "not a readable picture (of no known format)"),
        ("empty.png", b"", "not a readable picture (of no known format)"),
        ("half.jpg", good.getvalue()[:1500], "not a readable picture (image file is truncated"),
    ):
        (tmp_path / name).write_bytes(content)
        (unusable,) = find(tmp_path / name)
        assert unusable.reason.startswith(said), unusable
        assert "\n" not in unusable.reason
    (absent,) = find(tmp_path / "none.png")
    assert absent.reason == "no such file"
    write_pictures(tmp_path, "a.png")
    np.save(tmp_path / "a.npy", np.ones((7, 2)))
    (wrong,) = find(tmp_path / "a.png")
    assert "a.npy: expected numbers of shape [478, 2]" in wrong.reason


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "5,5,1,9", "1,2,3,nan", "1;2;3;4"])
def test_boxes_that_are_none(text):
    with pytest.raises(ValueError, match=f"--box={text}: expected x0,y0,x1,y1 in pixels"):
        faces.parse_box(text)


def test_box():
    assert faces.parse_box("1,2,3.5,4") == (1, 2, 3.5, 4)
    assert faces.parse_box("") is None
