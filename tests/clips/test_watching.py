"""Where the faces of frames are: looks about known faces, landmark files, steadied boxes."""

from __future__ import annotations

import numpy as np
from etils import epath

from fields_jax.clips.decode import Frame
from fields_jax.clips.watching import Watcher, Where
from fields_jax.photos.faces import Detection, Finder
from tests.support.portraits import write_photograph


def frames(count, path="clip.mp4"):
    """A bright square of 40 pixels that moves to the right over a dark picture."""
    for index in range(count):
        image = np.full((240, 320, 3), 20, np.uint8)
        left = 60 + 2 * index
        image[100:140, left : left + 40] = 220
        yield Frame(index, index / 30, image, epath.Path(path))


class Bright:
    """A finder of bright squares that counts its looks at whole frames and at parts."""

    def __init__(self):
        self.looks = []

    def __call__(self, image):
        self.looks.append(image.shape[:2])
        rows, columns = np.nonzero(image[..., 0] > 120)
        if not len(rows):
            return []
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        return [Detection(None, 0.8, np.float32(box))]


def test_known_faces_are_looked_for_where_they_are_expected():
    finder = Bright()
    watcher = Watcher(Where(1.4, Finder("bright", finder), near=True), "x", 0.5, steady=False)
    for frame in frames(40):
        (seen,) = watcher.look(frame)
        assert seen.track == 0 and seen.again["again"] == 0.8
        left = 60 + 2 * frame.index
        np.testing.assert_allclose(seen.face.box, [left, 100, left + 40, 140], atol=1.5)
    whole = [shape for shape in finder.looks if shape == (240, 320)]
    assert 2 <= len(whole) <= 4  # at first, and every half second
    assert all(shape == (96, 96) for shape in finder.looks if shape != (240, 320))


def test_a_lost_face_is_looked_for_everywhere_at_once():
    finder = Bright()
    watcher = Watcher(Where(1.4, Finder("bright", finder), near=True), "x", 0.5)
    clip = list(frames(6))
    dark = np.full((240, 320, 3), 20, np.uint8)
    for frame in [*clip[:3], clip[3]._replace(image=dark), *clip[4:]]:
        finder.looks.clear()
        found = watcher.look(frame)
        assert len(found) == (frame.index != 3)
        assert ((240, 320) in finder.looks) == (frame.index in (0, 3))


def test_boxes_are_steadied_over_time():
    rng = np.random.default_rng(0)

    def trembling(image):
        (face,) = Bright()(image)
        return [face._replace(box=face.box + rng.normal(0, 1.5, 4).astype(np.float32))]

    rough = {}
    for steady in (False, True):
        watcher = Watcher(Where(1.4, Finder("x", trembling)), "x", 0.5, steady=steady)
        boxes = np.stack([watcher.look(frame)[0].face.box for frame in frames(60)])
        rough[steady] = np.abs(np.diff(boxes, 2, axis=0)).mean()
        assert np.abs(boxes[-1, 0] - (60 + 2 * 59)) < 12  # and not left behind
    assert rough[True] < 0.5 * rough[False]


def test_a_box_of_the_users_is_that_of_every_frame():
    watcher = Watcher(Where(1.4, box=(50, 90, 110, 150)), "x", 0.5)
    for frame in frames(3):
        (seen,) = watcher.look(frame)
        np.testing.assert_allclose(seen.face.box, [50, 90, 110, 150], atol=1e-4)
        assert seen.track == 0 and seen.again is None


def test_landmark_files_are_those_of_pictures_alone(tmp_path):
    points = write_photograph(tmp_path / "0.png")
    image = np.zeros((200, 300, 3), np.uint8)
    where = Where(1.4, Finder("blind", lambda image: []))
    watcher = Watcher(where, "x", 0.5)
    (seen,) = watcher.look(Frame(0, 0.0, image, epath.Path(tmp_path / "0.png")))
    np.testing.assert_allclose(seen.face.points, points[0], atol=1e-4)
    (tmp_path / "0.npy").rename(tmp_path / "film.npy")  # beside a video it is another's
    assert (
        Watcher(where, "x", 0.5).look(Frame(0, 0.0, image, epath.Path(tmp_path / "film.mp4"))) == []
    )


def test_landmark_files_that_cannot_be_used_are_counted_with_their_reason(tmp_path):
    write_photograph(tmp_path / "0.png")
    (tmp_path / "0.npy").write_bytes(b"no points")
    watcher = Watcher(Where(1.4), "x", 0.5)
    image = np.zeros((200, 300, 3), np.uint8)
    for index in range(2):
        assert watcher.look(Frame(index, index / 30, image, epath.Path(tmp_path / "0.png"))) == []
    ((reason, count),) = watcher.refused.items()
    assert "0.npy is damaged or no .npy" in reason and count == 2
