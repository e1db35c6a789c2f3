"""Pictures of every kind that cameras, telephones and data sets leave, whole and damaged."""

from __future__ import annotations

import io
import os
import resource
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import EpsImagePlugin, ExifTags, Image

from fields_jax.photos import files, kinds, pictures

ORIENTATION = 0x0112
LOSS = {"JPEG": 12, "AVIF": 12, "HEIF": 16, "GIF": 20}  # of 255, by what each cannot store
OPTIONS = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}


def ramp(height: int = 24, width: int = 32) -> np.ndarray:
    """[height, width, 3] different at every corner, smooth enough for lossy formats."""
    rows, columns = np.mgrid[:height, :width]
    red, green = 240 * rows // (height - 1), 240 * columns // (width - 1)
    return np.stack([red, green, np.full_like(red, 90)], axis=-1).astype(np.uint8)


def encoded(kind: str, image: Image.Image, **options) -> bytes:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    stored = io.BytesIO()
    image.save(stored, kind, **OPTIONS.get(kind, {}) | options)
    return stored.getvalue()


def read(folder, content: bytes, name: str = "a.x") -> np.ndarray:
    (folder / name).write_bytes(content)
    return files.read_photograph(folder / name)


def refusal(folder, content: bytes, name: str = "a.x") -> str:
    with pytest.raises(ValueError) as caught:
        read(folder, content, name)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{folder / name}: ")


@pytest.mark.parametrize("kind", [kind for kind in kinds.FORMATS if kind != "SUN"])
def test_every_kind_is_read_under_its_own_name(tmp_path, kind):
    """Sun's raster format pillow reads and does not write."""
    found = read(tmp_path, encoded(kind, Image.fromarray(ramp())), f"a{kinds.FORMATS[kind][0]}")
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - ramp()).max() <= LOSS.get(kind, 0)


def test_a_sun_raster_by_hand(tmp_path):
    header = struct.pack(">8I", 0x59A66A95, 32, 24, 24, 32 * 24 * 3, 1, 0, 0)
    found = read(tmp_path, header + ramp()[..., ::-1].tobytes())  # blue first
    np.testing.assert_array_equal(found, ramp())


def test_the_content_decides_not_the_name(tmp_path):
    np.testing.assert_array_equal(
        read(tmp_path, encoded("PNG", Image.fromarray(ramp())), "a.jpg"), ramp()
    )
    # TGA begins with nothing of its own, so it is believed under its own name only.
    tga = encoded("TGA", Image.fromarray(ramp()))
    assert refusal(tmp_path, tga, "a.jpg") == "not a readable picture (of no known format)"


def test_all_of_pillow_s_suffixes_are_known_or_left_out_on_purpose():
    Image.init()
    no_pictures = {"BUFR", "FITS", "GRIB", "HDF5", "IM", "IPTC", "PCD"}
    for suffix, kind in Image.registered_extensions().items():
        if kind not in Image.OPEN:  # written only
            continue
        assert kinds.looks_like_picture(suffix) or kind in no_pictures, (suffix, kind)
        if kind in kinds.FORMATS:
            assert suffix in kinds.FORMATS[kind]
    assert not {"EPS", "PDF", "WMF", "PSD", "FLI"} & set(kinds.FORMATS)
    assert len(set(kinds.IMAGE_SUFFIXES)) == len(kinds.IMAGE_SUFFIXES)


def test_postscript_is_never_run(tmp_path, monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("it ran"))
    eps = encoded("EPS", Image.fromarray(ramp()))
    assert refusal(tmp_path, eps, "a.jpg") == "not a readable picture (of no known format)"
    assert refusal(tmp_path, eps, "a.eps").startswith("drawings and documents are not read; ")


def test_thumbnails_of_camera_raw_do_not_pass_for_it(tmp_path):
    thumbnail = encoded("TIFF", Image.fromarray(ramp()))  # as a NEF begins
    assert refusal(tmp_path, thumbnail, "a.NEF").startswith("camera raw is not read; ")


def test_heic_without_its_extra_says_what_to_install(tmp_path, monkeypatch):
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    monkeypatch.setattr(kinds, "reads_heic", lambda: False)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    for name in ("a.heic", "a.jpg"):  # telephones export HEIC under any name
        assert "pip install -e '.[heic]'" in refusal(tmp_path, heic, name)


GREY = np.linspace(0, 255, 35).round().reshape(5, 7)


@pytest.mark.parametrize(
    ("stored", "kind"),
    [
        (GREY.astype(np.uint16) * 257, "PNG"),
        (GREY.astype("<u2") * 257, "TIFF"),
        (GREY.astype(">u2") * 257, "TIFF"),
        (GREY.astype(np.uint16) * 257, "PPM"),
        (GREY.astype(np.uint16), "TIFF"),
        ((GREY * 4095 / 255).round().astype(np.uint16), "PNG"),
        ((GREY * 16383 / 255).round().astype(np.uint16), "TIFF"),
        (GREY.astype(np.int32) * 257, "TIFF"),
        (GREY.astype(np.int32) * (2**31 // 255), "TIFF"),
        (GREY.astype(np.float32) / 255, "TIFF"),
        (GREY.astype(np.float32), "TIFF"),
        (GREY.astype(np.float32) * 257, "TIFF"),
        (GREY.astype(np.float32) / 255, "PPM"),
    ],
)
def test_numbers_of_more_than_8_bits_are_scaled(tmp_path, stored, kind):
    found = read(tmp_path, encoded(kind, Image.fromarray(stored)))
    np.testing.assert_array_equal(found, np.repeat(GREY[..., None], 3, axis=2))


@pytest.mark.parametrize("orientation", [2, 3, 5, 6, 8])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_a_turned_tiff_is_turned_once(tmp_path, orientation, bits):
    """As a file, and as a picture that pillow has opened, where it may have been decoded."""
    scale = {8: 1, 16: 257, 32: 2**31 // 255}[bits]
    stored = (GREY * scale).astype({8: np.uint8, 16: np.uint16, 32: np.int32}[bits])
    notes = Image.Exif()
    notes[ExifTags.Base.Orientation] = orientation
    content = encoded("TIFF", Image.fromarray(stored), exif=notes)
    turned = {
        2: GREY[:, ::-1],
        3: GREY[::-1, ::-1],
        5: GREY.T,
        6: GREY[::-1].T,
        8: GREY.T[::-1],
    }[orientation]
    expected = np.repeat(turned[..., None], 3, axis=2)
    np.testing.assert_array_equal(read(tmp_path, content), expected)
    opened = Image.open(io.BytesIO(content))
    np.testing.assert_array_equal(pictures.upright(opened), expected)
    loaded = Image.open(io.BytesIO(content))
    loaded.load()
    np.testing.assert_array_equal(pictures.upright(loaded), expected)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([0, 1.5], "run from 0 to 1.5, expected 0 to 1, 0 to 255 or 0 to 65535"),
        ([-0.5, 1], "run from -0.5 to 1,"),
        ([0, 1e6], "run from 0 to 1e"),
        ([0, np.nan], "run from nan to nan"),
        ([0, np.inf], "run from 0 to inf"),
    ],
)
def test_numbers_in_no_known_range_are_refused_by_them(tmp_path, values, line):
    stored = encoded("TIFF", Image.fromarray(np.array([values], np.float32)))
    assert line in refusal(tmp_path, stored)
    stored = encoded("TIFF", Image.fromarray(np.array([[-1, 5]], np.int32)))
    assert "run from -1 to 5, expected 0 to 2147483647" in refusal(tmp_path, stored)


def test_what_is_transparent_lies_over_white(tmp_path):
    """Half of the pixels are seen through, whatever colour hides there."""
    cover = np.zeros((4, 6), np.uint8)
    cover[:, :3] = 255
    expected = np.where(cover[..., None] > 0, np.uint8(40), np.uint8(255)).repeat(3, axis=2)
    gray = Image.new("L", (6, 4), 40)
    gray.putalpha(Image.fromarray(cover))
    palette = Image.fromarray(np.where(cover, np.uint8(0), np.uint8(1)), "L").convert("P")
    palette.putpalette([40, 40, 40, 0, 90, 0])
    keyed = Image.fromarray(np.where(cover[..., None] > 0, 40, [[[0, 90, 0]]]).astype(np.uint8))
    for image, kind, options in (
        (gray, "PNG", {}),
        (gray.convert("RGBA"), "PNG", {}),
        (gray.convert("RGBA"), "WEBP", {}),
        (gray.convert("RGBA"), "TIFF", {}),
        (palette, "PNG", {"transparency": 1}),
        (palette, "GIF", {"transparency": 1}),
        (keyed, "PNG", {"transparency": (0, 90, 0)}),
    ):
        found = read(tmp_path, encoded(kind, image, **options))
        np.testing.assert_array_equal(found, expected, err_msg=f"{kind} {image.mode}")


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("L", "JPEG"), ("1", "PNG"), ("P", "PNG"), ("P", "BMP"), ("CMYK", "JPEG"), ("CMYK", "TIFF")],
)
def test_other_modes_look_as_they_did(tmp_path, mode, kind):
    image = Image.fromarray(ramp()).convert(mode)
    found = read(tmp_path, encoded(kind, image))
    assert np.abs(found.astype(int) - np.asarray(image.convert("RGB"))).max() <= 12


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_of_several_frames_the_first_is_taken(tmp_path, kind):
    first, *others = (Image.new("RGB", (16, 16), (value,) * 3) for value in (200, 100, 0))
    stored = encoded(kind, first, save_all=True, append_images=others)
    assert np.abs(read(tmp_path, stored).astype(int) - 200).max() <= 2


NOTED = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF")


@pytest.mark.parametrize("kind", NOTED[:-1])  # HEIC's turns are no notes: its decoder makes them
def test_photographs_are_turned_upright(tmp_path, kind):
    upright = Image.fromarray(ramp())
    undone = {6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180, 5: 5, 7: 6}
    for orientation, method in undone.items():
        note = Image.Exif()
        note[ORIENTATION] = orientation
        found = read(tmp_path, encoded(kind, upright.transpose(method), exif=note))
        assert found.shape == ramp().shape
        assert np.abs(found.astype(int) - ramp()).max() <= LOSS.get(kind, 0), orientation


def bad_notes() -> dict[str, bytes]:
    """EXIF that is none: words, a truncated table, one that points outside, an odd orientation."""
    begin = b"Exif\0\0MM\0*\0\0\0\x08"
    return {
        "words": b"Exif\0\0no note at all",
        "truncated": begin + b"\0\x09\x01",
        "outside": begin + b"\0\1" + struct.pack(">HHII", 0x8769, 4, 1, 2**31) + bytes(4),
        "text": begin + b"\0\1" + struct.pack(">HHI4s", ORIENTATION, 2, 4, b"up\0\0") + bytes(4),
        "endless": begin + b"\0\1" + struct.pack(">HHII", 0x8769, 4, 1, 8) + b"\0\0\0\x08",
    }


@pytest.mark.parametrize("kind", [kind for kind in NOTED if kind != "TIFF"])
def test_a_bad_note_never_loses_the_picture(tmp_path, kind):
    whole = read(tmp_path, encoded(kind, Image.fromarray(ramp())))
    good = Image.Exif()
    good[0x010F] = "maker" * 20
    good = good.tobytes()
    for name, note in bad_notes().items():
        # Some writers check their notes: a good one is overwritten, padded to the same length.
        if kind == "PNG":
            stored = encoded(kind, Image.fromarray(ramp()))
            end = stored.index(b"IDAT") - 4
            body = b"eXIf" + note.removeprefix(b"Exif\0\0")
            chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
            stored = stored[:end] + chunk + stored[end:]
        else:
            stored = encoded(kind, Image.fromarray(ramp()), exif=good)
            begin = stored.index(good.removeprefix(b"Exif\0\0"))
            note = note.removeprefix(b"Exif\0\0").ljust(len(good) - 6, b"\0")
            stored = stored[:begin] + note + stored[begin + len(note) :]
        np.testing.assert_array_equal(read(tmp_path, stored), whole, err_msg=name)


@pytest.mark.parametrize("place", [0, 8, 150, 2**31])
def test_bad_notes_of_a_tiff_are_no_loss_either(tmp_path, place):
    """Its notes are tables of their own, which the table of the picture points to."""
    lying = np.ascontiguousarray(np.rot90(ramp()))
    height, width = lying.shape[:2]
    tags = ((256, width), (257, height), (258, 8), (259, 1), (262, 2), (273, 200))
    tags += ((ORIENTATION, 6), (277, 3), (278, height), (279, lying.size))
    tags += ((0x8769, place), (0x8825, place))
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    stored = b"II*\0" + struct.pack("<IH", 8, len(tags)) + table + bytes(4)
    found = read(tmp_path, stored.ljust(200, b"\xff") + lying.tobytes())
    np.testing.assert_array_equal(found, ramp())


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in (body, data, b"IEND")
    )


def test_bombs_are_refused_by_their_headers(tmp_path, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("it was decoded"))
    line = "not a readable picture (more than 268 million pixels; reduce it)"
    for size, said in (
        ((60000, 60000), line),
        ((20000, 20000), line),
        ((14000, 14000), "14000 x 14000 pixels in 74 bytes, which is no photograph"),
    ):
        assert said in refusal(tmp_path, png_header(*size))


def test_photographs_of_telephones_are_no_bombs(tmp_path, monkeypatch, recwarn):
    """As 16,384 x 12,288 pixels with all bounds a ten thousandth; pillow's own would be 8,900."""
    assert Image.MAX_IMAGE_PIXELS == pictures.LARGEST_PIXELS > 16384 * 12288
    monkeypatch.setattr(pictures, "LARGEST_PIXELS", pictures.LARGEST_PIXELS // 10**4)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pictures.LARGEST_PIXELS)
    for kind in ("JPEG", "PNG", "TIFF"):
        assert read(tmp_path, encoded(kind, Image.new("RGB", (163, 122)))).shape == (122, 163, 3)
    assert not recwarn.list


def test_nothing_but_our_line_is_said_of_damage(tmp_path):
    """Pillow warns of bombs and bad notes, libtiff writes to the terminal by itself."""
    (tmp_path / "large.png").write_bytes(png_header(20000, 20000))
    note = bad_notes()["truncated"]
    (tmp_path / "noted.jpg").write_bytes(encoded("JPEG", Image.fromarray(ramp()), exif=note))
    packed = encoded("TIFF", Image.fromarray(ramp()), compression="tiff_adobe_deflate")
    (tmp_path / "packed.tif").write_bytes(packed[:10] + b"x" * 20 + packed[30:])
    program = """if True:
        import pathlib, sys
        from fields_jax.photos.files import read_photograph
        for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
            try:
                print(read_photograph(path).shape)
            except ValueError as error:
                print(error)
    """
    ended = subprocess.run(
        [sys.executable, "-W", "default", "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    large, noted, packed = ended.stdout.splitlines()
    assert large.endswith("(more than 268 million pixels; reduce it)")
    assert noted == "(24, 32, 3)" and "packed.tif: not a readable picture" in packed
    assert not ended.stderr


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would wait for a writer
    (tmp_path / "folder.jpg").mkdir()
    for name in ("pipe.jpg", "folder.jpg"):
        with pytest.raises(ValueError, match=f"{name}: no file but a folder, a pipe or a device"):
            files.read_photograph(tmp_path / name)
    with pytest.raises(ValueError, match=r"none.jpg: no such file$"):
        files.read_photograph(tmp_path / "none.jpg")


def corrupted(good: bytes, rng: np.random.Generator) -> bytes:
    """Cut short, or a few bytes anywhere or in the header are others."""
    way = rng.integers(3)
    if way == 0:
        return good[: rng.integers(len(good))]
    content = bytearray(good)
    for place in rng.integers(len(good) if way == 1 else 48, size=rng.integers(1, 8)):
        content[place] = rng.integers(256)
    return bytes(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_damage_is_read_or_refused_in_one_line(tmp_path, kind, recwarn, capfd):
    rng = np.random.default_rng(0)
    note = {"exif": Image.Exif()} if kind in NOTED else {}
    if note:
        note["exif"][ORIENTATION] = 6
    ways = ({}, {"compression": "tiff_adobe_deflate"}) if kind == "TIFF" else ({},)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for options in ways:
        good = encoded(kind, Image.fromarray(ramp()), **note, **options)
        outcomes = []
        for _ in range(60):
            try:
                outcomes.append(read(tmp_path, corrupted(good, rng)))
            except ValueError as error:
                assert str(error).startswith(f"{tmp_path / 'a.x'}: not a readable picture (")
                assert "\n" not in str(error) and len(str(error)) < 400
        assert len(outcomes) < 60
        assert all(image.dtype == np.uint8 and image.shape[2] == 3 for image in outcomes)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 400 * 1024  # kilobytes
    assert not capfd.readouterr().err
