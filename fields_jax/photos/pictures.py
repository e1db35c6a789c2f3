"""Decoding pictures of any kind into RGB of 8 bits, or refusing them with a one-line message."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import warnings

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from fields_jax.errors import UserError, first_line
from fields_jax.photos import kinds

# Telephones make 200 megapixels, 16,384 x 12,288. Decoded, a picture of this bound takes 1 GiB, and
# while it is converted three.
LARGEST_PIXELS = 2**28
_PILLOWS_LARGEST = 2**30 // 12  # pixels, as long as nobody changes it
_TOO_LARGE = f"more than {LARGEST_PIXELS // 10**6} million pixels; reduce it"
# Beyond this many pixels a file must have enough bytes for them: flat colour gives a JPEG 64 pixels
# per byte and a PNG 1,030; a photograph gives 10 at most.
_SURELY_SMALL, _PIXELS_PER_BYTE = 25_000_000, 1500

_INTEGER_SCALES = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16, 24, 31))
_FLOAT_SCALES = (1, 255, 65535)
_BETWEEN_SCALES = 16  # floats that end above 1 and below this are neither [0, 1] nor [0, 255]

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")

# Pillow's bound, a third of ours, holds for the whole process, and its decoders read it too: it is
# ours from now on, unless the program that imports this has chosen its own. Pillow's
# warnings about damaged metadata are silenced: the picture is read, or refused by our own message.
if Image.MAX_IMAGE_PIXELS == _PILLOWS_LARGEST:
    Image.MAX_IMAGE_PIXELS = LARGEST_PIXELS
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)
with contextlib.suppress(OSError, AttributeError):  # libtiff writes to the terminal itself
    for _handler in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        getattr(ctypes.CDLL(Image.core.__file__), _handler)(None)


def decode(content: bytes, suffix: str = "") -> UInt8[np.ndarray, "H W 3"]:
    """An RGB picture, turned upright by its EXIF orientation as OpenCV and browsers do.

    Animations give their first frame. Transparency is laid over white. Values of more than 8 bits
    are scaled by `scaled`. Unreadable metadata is ignored.

    Args:
      content: of a file.
      suffix: of its name; only kinds.BY_SUFFIX_ONLY must have their own.

    Raises:
      UserError: not a picture, a damaged one, one of more than LARGEST_PIXELS, or one with far more
        pixels than its file can hold; in one line.
    """
    try:
        with _opened(content, suffix.lower()) as image:
            _check_size(image.size, len(content))
            turn = _loaded(image)
            # Turned before it is converted: pillow tells the size of the turned picture already.
            return np.asarray(_as_rgb(image if turn is None else image.transpose(turn)))
    except UnidentifiedImageError as error:
        raise UserError("not a readable picture (of no known format)") from error
    # Beyond the bound pillow warns, which may be an error here, and beyond twice it refuses.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"not a readable picture ({_TOO_LARGE})") from error
    except Exception as error:  # formats are read by parsers of their own, with errors of their own
        raise UserError(f"not a readable picture ({first_line(error)})") from error


def upright(picture: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    """A picture that pillow has opened, as `decode` gives that of a file.

    Raises:
      UserError: it cannot be decoded.
    """
    try:
        picture.load()  # which turns a TIFF
        turn = _turn(picture)
        return np.asarray(_as_rgb(picture if turn is None else picture.transpose(turn)))
    except Exception as error:
        raise UserError(f"not a readable picture ({first_line(error)})") from error


def scaled(values: Shaped[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """Grey values of any range as 8 bits.

    Files do not say how many bits their cameras had, so the largest value decides: integers count
    as the fewest of 8, 10, 12, 14, 16, 24 and 31 bits that hold it, floats as [0, 1], [0, 255] or
    [0, 65535].

    Raises:
      UserError: values below 0, not finite, or in no such range.
    """
    low, high = float(values.min()), float(values.max())
    is_float = values.dtype.kind == "f"
    scales = _FLOAT_SCALES if is_float else _INTEGER_SCALES
    full = next((scale for scale in scales if high <= scale), None)
    if not low >= 0 or full is None or (is_float and 1 < high < _BETWEEN_SCALES):
        expected = "0 to 1, 0 to 255 or 0 to 65535" if is_float else "0 to 2147483647"
        raise UserError(f"its values run from {low:g} to {high:g}, expected {expected}")
    return np.round(values * np.float32(255 / full)).astype(np.uint8)


def _opened(content: bytes, suffix: str) -> Image.Image:
    """The picture as its header says it is, undecoded.

    Raises:
      UnidentifiedImageError: none of kinds.FORMATS.
      UserError: HEIC without the extra that reads it.
    """
    Image.init()
    known = [
        name
        for name, suffixes in kinds.FORMATS.items()
        if name in Image.OPEN and (name not in kinds.BY_SUFFIX_ONLY or suffix in suffixes)
    ]
    is_heif = content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS
    if is_heif and kinds.reads_heic() and "HEIF" not in Image.OPEN:
        import pillow_heif  # an extra; late, for it brings a library of its own

        pillow_heif.register_heif_opener(thumbnails=False)
        known.append("HEIF")
    try:
        return Image.open(io.BytesIO(content), formats=known)
    except UnidentifiedImageError:
        if is_heif and not kinds.reads_heic():
            raise UserError(kinds.NO_HEIC) from None
        raise
    except ValueError:  # raised by AVIF's decoder for bad EXIF data
        return Image.open(io.BytesIO(_without_notes(content)), formats=known)


def _without_notes(content: bytes) -> bytes:
    """An ISO media file whose EXIF items are of no known type; only its index is touched."""
    index, data, pixels = content.partition(b"mdat")
    return index.replace(b"Exif", b"none") + data + pixels


def _check_size(size: tuple[int, int], length: int) -> None:
    """Refuses pictures by their header, before memory is asked for.

    Raises:
      UserError: no pixels, too many, or far more than `length` bytes can hold.
    """
    width, height = size
    if min(size) < 1:
        raise UserError("it has no pixels")
    if width * height > LARGEST_PIXELS:
        raise UserError(_TOO_LARGE)
    if width * height > max(_SURELY_SMALL, _PIXELS_PER_BYTE * length):
        raise UserError(f"{width} x {height} pixels in {length} bytes, which is no photograph")


def _loaded(image: Image.Image) -> Image.Transpose | None:
    """Decodes a picture; returns how it must be turned, if at all.

    The orientation of a TIFF is read first: decoding reads all its metadata and fails at bad parts.
    """
    if image.format != "TIFF":
        image.load()
        return _turn(image)
    turn = _turn(image)
    with contextlib.suppress(Exception):
        notes = image.getexif()
        for tag in list(notes):
            del notes[tag]
    image.load()
    return turn


def _turn(image: Image.Image) -> Image.Transpose | None:
    with contextlib.suppress(Exception):  # bad metadata makes its parsers raise anything
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    return None


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(scaled(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        over = image.convert("RGBA")
        page = Image.new("RGBA", over.size, "white")
        page.alpha_composite(over)
        return page.convert("RGB")
    return image.convert("RGB")
