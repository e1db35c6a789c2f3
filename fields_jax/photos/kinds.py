"""Kinds of files by name: photographs, files that look like one but are not read, and the rest."""

from __future__ import annotations

import functools
import importlib.util

# Raster formats of photographs that pillow reads without running another program, and their
# suffixes: pillow's own and other common names of the same formats. Left out of pillow's list:
# drawings, icons, textures of games and arrays of measurements.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjp", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "HEIF": (".heic", ".heif", ".hif", ".heics", ".heifs"),  # by the extra `heic`
    "QOI": (".qoi",),
    "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
    "SUN": (".ras",),
    "PCX": (".pcx",),
    "DIB": (".dib",),
    "TGA": (".tga", ".icb", ".vda", ".vst"),
}
# Formats whose first bytes prove little: accepted only if the suffix agrees.
BY_SUFFIX_ONLY = ("PCX", "DIB", "TGA")
IMAGE_SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
NAMES = "JPEG, PNG, WebP, TIFF, GIF, BMP, HEIC, AVIF, JPEG 2000, PPM, TGA and a few more"
VIDEO_SUFFIXES = (
    *(".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"),
    *(".3gp", ".3g2", ".mts", ".m2ts", ".flv", ".ogv", ".vob", ".insv", ".asf"),
)

NO_HEIC = "HEIC needs pillow-heif; pip install -e '.[heic]', or save it as JPEG"
# Files that look like pictures and are not read: (suffixes, what they are; the remedy).
_NOT_READ = (
    (VIDEO_SUFFIXES, "a video among pictures; the commands reconstruct and fit take it by name"),
    (
        (
            *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr"),
            *(".iiq", ".k25", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef"),
            *(".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
        ),
        "camera raw is not read; develop it to JPEG or TIFF",
    ),
    (
        (".psd", ".psb", ".xcf", ".kra", ".ora", ".afphoto", ".procreate"),
        "files of image editors are not read; export it as PNG or JPEG",
    ),
    (
        (".svg", ".svgz", ".eps", ".ps", ".ai", ".pdf", ".wmf", ".emf", ".djvu"),
        "drawings and documents are not read; save its picture as PNG or JPEG",
    ),
    (
        (
            *(".jxl", ".jxr", ".wdp", ".hdp", ".exr", ".hdr", ".bpg", ".flif", ".dds", ".ico"),
            *(".icns", ".cur", ".xbm", ".xpm", ".pct", ".pict", ".fpx", ".dcx", ".msp"),
            *(".wbmp", ".fli", ".flc", ".blp", ".ftc", ".ftu", ".gbr", ".pxr"),
        ),
        "this kind of picture is not read; save it as PNG or JPEG",
    ),
)
_REMEDIES = {suffix: remedy for suffixes, remedy in _NOT_READ for suffix in suffixes}
# Folders in which operating systems keep thumbnails, copies and deleted files.
_OF_SYSTEMS = ("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found")


def looks_like_picture(suffix: str) -> bool:
    """Whether files of that suffix are photographs or look like them."""
    return suffix.lower() in IMAGE_SUFFIXES or suffix.lower() in _REMEDIES


def why_not_read(suffix: str) -> str:
    """What a file of that suffix is and what to do about it, "WHAT; REMEDY", or "" to read it."""
    if suffix.lower() in FORMATS["HEIF"] and not reads_heic():
        return NO_HEIC
    return _REMEDIES.get(suffix.lower(), "")


def is_of_system(name: str) -> bool:
    """Whether operating systems make folders of that name for their own use."""
    return name.lower() in _OF_SYSTEMS


@functools.cache
def reads_heic() -> bool:
    """Whether the extra `heic` is installed."""
    return importlib.util.find_spec("pillow_heif") is not None
