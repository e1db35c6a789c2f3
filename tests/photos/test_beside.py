"""Which files beside a photograph belong to it, in every command that reads them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from PIL import Image

from data_pipelines.building import photographs
from fields_jax.errors import UserError
from fields_jax.photos import beside, faces, files, listing, points
from tests.photos.test_photos import detector, face_68, mesh


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


def own(photograph: Path) -> str | None:
    """Name of its landmark file, or what is said instead."""
    try:
        found = beside.landmark_file(photograph).file
    except beside.Shared as error:
        return str(error)
    return found and found.name


def test_a_file_of_the_stem_is_the_only_picture_s(tmp_path):
    touch(tmp_path, "a.jpg", "a.npy", "b.jpg", "c.JPEG", "c.PTS", "D.jpg", "d.npy")
    names = ("a.jpg", "b.jpg", "c.JPEG", "D.jpg")
    assert [own(tmp_path / name) for name in names] == ["a.npy", None, "c.PTS", "d.npy"]
    touch(tmp_path, "a.jpg.pts")
    assert own(tmp_path / "a.jpg") == "a.jpg.pts"  # its own name goes before any suffix


@pytest.mark.parametrize("twin", ["a.png", "a.JPG", "A.jpeg", "a.tiff"])
def test_twins_share_nothing(tmp_path, twin):
    touch(tmp_path, "a.jpg", twin, "a.npy", "ab.jpg", "ab.npy")
    assert own(tmp_path / "a.jpg") == (
        f"a.npy may be that of a.jpg or {twin}: name it a.jpg.npy if it is of this one, or rename "
        "the pictures"
    )
    assert f"{twin} or a.jpg: name it {twin}.npy" in own(tmp_path / twin)
    assert points.find_file(tmp_path / "a.jpg") is None
    assert own(tmp_path / "ab.jpg") == "ab.npy"
    touch(tmp_path, "a.jpg.npy")
    assert own(tmp_path / "a.jpg") == "a.jpg.npy"
    assert own(tmp_path / twin).startswith("a.npy may be")
    (tmp_path / twin).unlink()
    (tmp_path / "a.jpg.npy").unlink()
    assert own(tmp_path / "a.jpg") == "a.npy"


def test_many_twins_are_counted(tmp_path):
    suffixes = ("jpg", "png", "bmp", "webp", "tif", "gif")
    touch(tmp_path, "a.npy", *(f"a.{suffix}" for suffix in suffixes))
    assert "may be that of a.jpg, a.bmp, a.gif, a.png or 2 more: name" in own(tmp_path / "a.jpg")


def test_names_within_names(tmp_path):
    """A name may be another's with an ending of ours; what is named after one whole is its own."""
    touch(tmp_path, "a.jpg", "a.jpg.png", "a.jpg.npy", "b.jpg", "b.203.png", "b.203.npy", "folder")
    assert own(tmp_path / "a.jpg") == "a.jpg.npy" and own(tmp_path / "a.jpg.png") is None
    assert "b.203.png or b.jpg" in own(tmp_path / "b.203.png")
    with pytest.raises(beside.Shared, match=r"b.203.npy may be that of b.jpg or b.203.png"):
        beside.own_file(tmp_path / "b.jpg", listing.DENSE)
    (tmp_path / "c.png").mkdir()  # no picture
    touch(tmp_path, "c.jpg", "c.npy", "folder.npy", "folder.txt.jpg")
    assert own(tmp_path / "c.jpg") == "c.npy"
    assert own(tmp_path / "folder") == "folder.npy"  # a picture without a suffix


def test_where_points_are_written(tmp_path):
    def target(name):
        file, there = beside.points_file(tmp_path / name)
        return file.name, there

    touch(tmp_path, "a.jpg", "b.jpg", "b.PNG", "b.npy", "c.jpg", "c.jpg.pts", "d.jpg", "d.jpg.bmp")
    assert target("a.jpg") == ("a.npy", False)
    assert target("b.jpg") == ("b.jpg.npy", False) and target("b.PNG") == ("b.PNG.npy", False)
    assert target("c.jpg") == ("c.jpg.npy", False)  # c.npy would not be looked for
    assert target("d.jpg") == ("d.npy", False) and target("d.jpg.bmp") == ("d.jpg.bmp.npy", False)
    touch(tmp_path, "a.npy", "e.jpg", "e.JPG", "e.jpg.npy")
    assert target("a.jpg") == ("a.npy", True)
    assert target("e.jpg") == ("e.jpg.npy", True) and target("e.JPG") == ("e.JPG.npy", False)
    assert own(tmp_path / "e.jpg") == "e.jpg.npy" and own(tmp_path / "e.JPG") is None


def test_captions_are_passed_over_and_points_are_not(tmp_path):
    touch(tmp_path, "a.jpg", "a.png")
    (tmp_path / "a.txt").write_text("A woman of 30 laughs.\n1990\n")
    assert beside.landmark_file(tmp_path / "a.jpg") == (None, ("a.txt beside it holds no points",))
    np.savetxt(tmp_path / "a.txt", face_68())
    assert "a.txt may be that of a.jpg or a.png" in own(tmp_path / "a.jpg")
    (tmp_path / "a.png").unlink()
    assert own(tmp_path / "a.jpg") == "a.txt"


def test_changes_of_a_folder_are_seen(tmp_path):
    photograph = tmp_path / "a.jpg"
    for _ in range(20):
        assert own(photograph) is None
        touch(tmp_path, "a.npy")
        assert own(photograph) == "a.npy"
        (tmp_path / "a.npy").unlink()
    assert own(tmp_path / "none/a.jpg") is None and own(tmp_path / "a\0b/a.jpg") is None
    assert own(tmp_path / ("n" * 300) / "a.jpg") is None


@pytest.mark.parametrize("remote", [False, True])
def test_a_folder_is_listed_once(tmp_path, monkeypatch, remote):
    names = [f"{index}.jpg" for index in range(100)]
    touch(tmp_path, *names, *(f"{index}.npy" for index in range(100)))
    os.utime(tmp_path, (1e9, 1e9))
    monkeypatch.setattr(listing, "is_remote", lambda path: remote)
    listed = []
    monkeypatch.setattr(
        listing, "_names", lambda place, names=listing._names: listed.append(place) or names(place)
    )
    assert all(own(tmp_path / name) for name in names)
    assert all(beside.points_file(tmp_path / name)[1] for name in names)
    assert len(listed) == 1
    if not remote:
        os.utime(tmp_path, (2e9, 2e9))
        assert own(tmp_path / names[0]) and len(listed) == 2


def test_a_listing_in_the_tick_of_a_change_is_made_again(tmp_path, monkeypatch):
    """FAT and exFAT tell times of change in whole two seconds."""
    version, tick = listing._version, 2 * 10**9

    def coarse(place):
        *which, changed = version(place)
        return *which, changed // tick * tick

    monkeypatch.setattr(listing, "_version", coarse)
    touch(tmp_path, "a.jpg")
    assert own(tmp_path / "a.jpg") is None
    touch(tmp_path, "a.npy")
    assert own(tmp_path / "a.jpg") == "a.npy"


def test_a_large_folder_that_changes_is_not_listed_for_every_picture(tmp_path, monkeypatch):
    listed = []

    def slow(place, names=listing._names):
        listed.append(place)
        listing.time.sleep(0.05)
        return names(place)

    monkeypatch.setattr(listing, "_names", slow)
    monkeypatch.setattr(listing, "_MANY", 0)
    for index in range(50):
        touch(tmp_path, f"{index}.jpg")
        own(tmp_path / f"{index}.jpg")
    assert len(listed) == 1


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    def refuse(place):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(listing, "_names", refuse)
    with pytest.raises(UserError, match=rf"^{tmp_path} cannot be listed: Permission denied$"):
        beside.landmark_file(tmp_path / "a.jpg")


def test_the_picture_that_a_table_means(tmp_path):
    def found(name):
        try:
            return photographs.find_image(epath.Path(tmp_path / name)).name
        except photographs.Rejected as error:
            return error.reason

    touch(tmp_path, "a.JPG", "b.jpeg", "c.png", "c.JPG", "d.jpg", "d.png", "frame.jpg", "f.1.png")
    assert [found(name) for name in ("a.jpg", "b.jpg", "d.jpg", "d.png", "f.1", "f.1.jpg")] == [
        *("a.JPG", "b.jpeg", "d.jpg", "d.png", "f.1.png", "f.1.png"),
    ]
    assert found("c.jpg") == found("d.webp") == photographs.SHARED_IMAGE
    for name in ("A.jpg", "frame.001", "e.jpg", "none/a.jpg", "a\0.jpg", "n" * 300 + ".jpg", ".."):
        assert found(name) == photographs.NO_IMAGE, name
    with pytest.raises(photographs.Rejected, match=r"c\.JPG or c\.png may each be meant"):
        photographs.find_image(epath.Path(tmp_path / "c.jpg"))


def picture(path: Path, seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 255, (90, 120, 3), np.uint8)
    kind = "jpeg" if "jp" in path.suffix.lower() else "png"
    Image.fromarray(pixels).save(path, format=kind)
    return path


@pytest.fixture
def twins(tmp_path):
    """Two people of one name, and one's points, called by what they share."""
    np.save(tmp_path / "a.npy", mesh())
    return picture(tmp_path / "a.jpg"), picture(tmp_path / "a.png", 1)


def test_no_face_is_made_of_a_twin_s_points(twins):
    """Nor does the detector stand in for points that somebody has put there."""
    finder = detector((mesh((50, 40)), 0.9))
    for path in twins:
        (refused,) = faces.find_faces(files.Photograph(path, "a"), scale=1.4, finder=finder)
        assert refused.path == path and "a.npy may be that of" in refused.reason
        assert f"name it {path.name}.npy" in refused.reason
    np.save(f"{twins[0]}.npy", mesh((50, 40)))
    (found,) = faces.find_faces(files.Photograph(twins[0], "a"), scale=1.4, finder=finder)
    assert found.origin == "landmark file a.jpg.npy"
    np.testing.assert_allclose(found.box, [30, 20, 70, 60], atol=1e-3)
    (boxed,) = faces.find_faces(files.Photograph(twins[1], "a"), scale=1.4, box=(0, 0, 40, 40))
    assert boxed.points is None


def test_no_record_is_made_of_a_twin_s_points(twins):
    def record(path):
        return photographs.make_record(photographs.Sample("a", str(path)), size=64, scale=2.0)

    for path in twins:
        with pytest.raises(photographs.Rejected, match=r"a\.npy may be that of") as caught:
            record(path)
        assert caught.value.reason == photographs.SHARED_LANDMARKS
        np.save(f"{path}.npy", mesh())
        assert record(path)["has_landmarks_105"]
    np.save(twins[0].with_name("a.203.npy"), np.ones((203, 2)))
    with pytest.raises(photographs.Rejected, match=r"a\.203\.npy may be .* name it a\.jpg\.203\."):
        record(twins[0])
    dense = np.random.default_rng(0).uniform(40, 60, (203, 2))
    np.save(f"{twins[0]}.203.npy", dense)
    assert record(twins[0])["has_landmarks_203"]


def test_captions_are_mentioned(tmp_path):
    path = picture(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("a woman who laughs")
    photograph, remark = files.Photograph(path, "a"), " (a.txt beside it holds no points)"
    (whole,) = faces.find_faces(photograph, scale=1.4)
    assert whole.origin == faces.WHOLE_IMAGE + remark
    (found,) = faces.find_faces(photograph, scale=1.4, finder=detector((mesh(), 0.9)))
    assert found.origin == "finder 1, score 0.90" + remark
    (nobody,) = faces.find_faces(photograph, scale=1.4, finder=detector())
    assert nobody.reason.endswith(remark)
    (tmp_path / "a.npz").touch()
    (found,) = faces.find_faces(photograph, scale=1.4, finder=detector((mesh(), 0.9)))
    assert found.origin.endswith("no points; a.npz beside it is none of .npy, .pts, .txt)")
    with pytest.raises(photographs.Rejected, match=r"a\.jpg; a\.txt beside it holds no points"):
        photographs.make_record(photographs.Sample("a", str(path)), size=64, scale=2.0)
