"""The photographs that files, folders and patterns name, each once, and unusable files."""

from __future__ import annotations

import errno
import fnmatch
import os

import pytest
from etils import epath
from PIL import Image

from fields_jax.errors import printable
from fields_jax.photos import kinds
from fields_jax.photos.finding import find_photographs, photographs_below
from fields_jax.photos.names import unique_name


def write(folder, *names):
    """Pictures where pillow has such a format, else files without content."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in (".png", ".jpg", ".bmp"):
            Image.new("RGB", (4, 3)).save(path)
        else:
            path.write_bytes(b"")


@pytest.fixture
def search(tmp_path):
    """Names of what is found below tmp_path, and "FILE: REASON" of what is no use."""

    def call(*paths):
        found, unusable = find_photographs([str(tmp_path / path) for path in paths])
        return [one.name for one in found], [f"{one.path.name}: {one.reason}" for one in unusable]

    return call


def test_files_folders_and_patterns(tmp_path, search):
    write(tmp_path, "a/1.png", "a/b/2.jpg", "a/b/2.png", "c.bmp", "a/notes.txt", "a/film.MP4")
    film = "film.MP4: a video among pictures; the commands reconstruct and fit take it by name"
    assert search("a") == (["1", "b/2", "b/2-2"], [film])
    assert search("a", "a/1.png", "a/film.MP4") == (["1", "b/2", "b/2-2"], [film])  # once
    assert search("a/1.png", "a") == (["1", "b/2", "b/2-2"], [film])
    assert search("*/*.png") == (["a/1"], [])
    assert search("*/1*", "**/?.png", "c.bmp") == (["a/1", "a/b/2", "c"], [])
    assert search("x.png", "*.gif") == (
        [],
        ["x.png: no such file or folder", "*.gif: no picture matches this pattern"],
    )
    (tmp_path / "empty").mkdir()
    assert search("empty")[1][0].startswith("empty: no pictures in this folder; JPEG, PNG,")
    (tmp_path / "d[1]").mkdir()
    write(tmp_path, "d[1]/e.png")
    assert search("d[1]") == (["e"], []) and search("d[1]/e.png") == (["e"], [])


@pytest.mark.parametrize("pattern", ["a/*", "*", "**", "**/*", "a/**", "a/**/b/..", "**/b", "a/b*"])
def test_patterns_mean_what_shells_make_of_them(tmp_path, search, pattern):
    """Folders that match are searched."""
    write(tmp_path, "a/b/2.jpg", "a/b/c/3.png", "a/b/4.cr2", "a/b/notes.txt")
    if ".." in pattern:
        assert search(pattern)[0] == []  # nothing is called so: no way up by pattern
        return
    names, unusable = search(pattern)
    assert [name.rsplit("/", 1)[-1] for name in names] == ["2", "3"]
    assert unusable == ["4.cr2: camera raw is not read; develop it to JPEG or TIFF"]


CAMERA = ("1.heic", "2.tiff", "3.gif", "4.avif", "5.jfif", "6.JP2", "7.bmp", "8.jpeg")


def test_every_kind_that_cameras_make_is_found(tmp_path, search, monkeypatch):
    for name in CAMERA:
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr(kinds, "reads_heic", lambda: True)
    for named in (".", "*", "**/*"):
        assert search(named) == (list("12345678"), [])
    monkeypatch.setattr(kinds, "reads_heic", lambda: False)
    heic = ["1.heic: HEIC needs pillow-heif; pip install -e '.[heic]', or save it as JPEG"]
    assert search("*") == search(".") == search(*CAMERA) == (list("2345678"), heic)


def test_what_looks_like_a_picture_is_named_and_the_rest_is_not(tmp_path, search):
    like = ["a.CR2", "b.nef", "c.dng", "d.psd", "e.svg", "f.pdf", "g.mov", "h.jxl", "i.eps"]
    silent = ["j.npy", "j.landmarks.json", "k.txt", "l.csv", "m.zip", "Thumbs.db", "n", "o.pts"]
    hidden = [".p.jpg", "._q.jpg", "__MACOSX/r.jpg", ".cache/s.png", "@eaDir/t.jpg"]
    write(tmp_path, *like, *silent, *hidden)
    names, reasons = search(".")
    assert names == [] and [reason.split(":")[0] for reason in reasons] == like
    assert all(reason.count("; ") == 1 for reason in reasons)
    assert search(*like) == ([], reasons) and search("*") == ([], reasons)
    assert search(".p.jpg", "k.txt")[0] == [".p".strip("."), "k"]  # who names them means them


def test_landmark_files_named_by_a_shell_are_passed_over(tmp_path, search):
    write(tmp_path, "a.b.jpg", "a.b.npy", "a.b.landmarks.json", "a.b.jpg.npy", "c.npy", "d.txt")
    named = sorted(path.name for path in tmp_path.iterdir())
    assert search(*named) == (["a.b", "c", "d"], [])
    assert search("a.b.npy") == (["a.b"], [])  # alone it is meant: its reader says what it is


def test_links_that_lead_back_add_nothing(tmp_path, search):
    write(tmp_path, "in/a/1.png", "in/b/2.png")
    for link, target in (
        ("in/a/up", ".."),
        ("in/a/self", "."),
        ("in/b/a", "../a"),
        ("in/a/b", "../b"),
    ):
        (tmp_path / link).symlink_to(target)
    (tmp_path / "in/b/out").symlink_to(tmp_path)  # where more is, which nobody has named
    write(tmp_path, "beside/9.png")
    for named in ("in", "in/*", "in/**", "in/**/*.png", "*n", "**/in"):
        names, unusable = search(named)
        assert [name.removeprefix("in/") for name in names] == ["a/1", "b/2"] and not unusable
    below = [one.path.name for one in photographs_below(epath.Path(tmp_path / "in"))]
    assert below == ["1.png", "2.png"]


def test_links_between_two_folders_end(tmp_path):
    write(tmp_path, "in/1.png", "out/2.png")
    for link, target in (
        ("in/x", "../out"),
        ("in/y", "../out"),
        ("out/x", "../in"),
        ("out/y", "."),
    ):
        (tmp_path / link).symlink_to(target)
    found = [one.path for one in photographs_below(epath.Path(tmp_path / "in"))]
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["in/1.png", "in/x/2.png"]


def test_links_elsewhere_are_followed_after_all_that_is_no_link(tmp_path, search):
    """So a link never decides what a picture that is there by itself is called."""
    write(tmp_path, "in/z.png", "in/m/2.png", "out/3.png", "out/4.png")
    (tmp_path / "in/a.png").symlink_to("z.png")
    (tmp_path / "in/b").symlink_to("m")
    (tmp_path / "in/c").symlink_to("../out")
    (tmp_path / "in/d.png").symlink_to("../out/4.png")
    assert search("in") == (["m/2", "z", "c/3", "c/4"], []) == search("in/*")
    assert search("in/a.png", "in") == (["a", "m/2", "c/3", "c/4"], [])  # unless it is named itself


def test_links_to_nothing_are_named(tmp_path, search):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/gone.png").symlink_to("none.png")
    (tmp_path / "in/own.png").symlink_to("own.png")
    (tmp_path / "in/notes.txt").symlink_to("none.txt")
    line = "a link to something that is not there; name the picture itself"
    both = ([], [f"gone.png: {line}", f"own.png: {line}"])
    assert search("in") == search("in/gone.png", "in/own.png") == both


def test_a_locked_folder_harms_only_itself(tmp_path, search, monkeypatch):
    """Permissions do not bind root, so the refusal is made here."""
    write(tmp_path, "a/1.png", "locked/2.png", "z/3.png")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    line = "locked: this folder cannot be opened (Permission denied); see to its permissions"
    assert search(".") == (["a/1", "z/3"], [line])
    assert search("locked") == ([], [line])


def test_a_path_that_cannot_be_reached_says_why(search):
    (line,) = search("x" * 300 + ".png")[1]
    assert line.endswith("cannot be opened (File name too long); see to its permissions")


def test_results_of_earlier_runs_are_no_photographs(tmp_path, search):
    """Wherever they lie; a picture that somebody calls so is one."""
    results = [f"out/a/{name}" for name in ("params.npz", "overlay.png", "geometry.png")]
    write(tmp_path, "a.png", *results, "out/a/b.png", "mine/overlay.png")
    write(tmp_path, *(f"out/a/vhap/{name}" for name in ("export.json", "images/0.png")))
    write(tmp_path, "gone/vhap/export.json", "gone/vhap/images/0.png")  # whose face has gone
    write(tmp_path, "mine/vhap/0.png", "mine/other/export.json", "mine/other/0.png")
    expected = ["a", "mine/other/0", "mine/overlay", "mine/vhap/0", "out/a/b"]
    for named in (".", "*", "**", "**/*.png"):
        assert search(named) == (expected, [])
    assert search("out/a/overlay.png") == (["overlay"], [])


def test_names_that_are_no_text(tmp_path):
    names = (b"caf\xe9.png", b"a\x1b[31m.png", b"two\nlines.png", b"\xe9.cr2")
    for name in names:
        Image.new("RGB", (4, 3)).save(os.fsencode(tmp_path) + b"/" + name, "png")
    found, (raw,) = find_photographs([str(tmp_path)])
    assert [one.name for one in found] == ["a_[31m", "caf_", "two_lines"]
    assert all(one.path.exists() for one in found)
    assert printable(raw.path.name) == r"\udce9.cr2"


def test_a_bucket_is_searched_without_links(monkeypatch):
    tree = {"p": ["sub", "a.png", "x.cr2", ".b.png"], "p/sub": ["1.jpg"]}
    files = [f"{folder}/{name}" for folder, names in tree.items() for name in names]

    def below(path):
        return str(path).removeprefix("gs://")

    bucket = dict(
        isdir=lambda _, path: below(path) in tree,
        exists=lambda _, path: below(path) in files or below(path) in tree,
        listdir=lambda _, path: tree[below(path)],
        glob=lambda _, path: [f"gs://{file}" for file in fnmatch.filter(files, below(path))],
    )
    monkeypatch.setattr(epath.gpath, "_is_tf_installed", lambda: False)  # which has its own
    with epath.testing.mock_epath(**bucket):
        for named, prefix in (("gs://p", ""), ("gs://p/*", ""), ("gs://p/**/*g", "")):
            found, unusable = find_photographs([named])
            assert [prefix + one.name for one in found] == ["a", "sub/1"]
            assert [one.path.name for one in unusable] == ["x.cr2"][: "g" not in named[5:]]
        assert find_photographs(["gs://p/no.png"])[1][0].reason == "no such file or folder"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a b", "a b"),
        ("day/one", "day/one"),
        ("..", "_"),
        ("../../etc/x", "_/_/etc/x"),
        ("a. ", "a"),
        (".hidden/.x", "hidden/x"),
        ("", "_"),
        ("a\x00\n\x1b\u202e\udce9", "a_____"),
        ('<>:"\\|?*', "________"),
        ("params.npz", "params.npz_"),
        ("a/Overlay.PNG", "a/Overlay.PNG_"),
        ("index.html", "index.html_"),
        ("summary.csv/x", "summary.csv_/x"),
        ("é" * 150, "é" * 100),
    ],
)
def test_names_are_harmless(name, expected):
    assert unique_name(name, set()) == expected


def test_names_that_some_disk_takes_for_one_are_several():
    taken = set()
    names = ["a", "A", "a.", "a", "a-2", "caf\u00e9", "cafe\u0301", "\u00df", "SS", "..", "..."]
    assert [unique_name(name, taken) for name in names] == [
        *("a", "A-2", "a-3", "a-4", "a-2-2", "caf\u00e9", "cafe\u0301-2", "\u00df", "SS-2"),
        *("_", "_-2"),
    ]
