"""Which kinds of image are read, how large they may be, and which files of a folder are photos."""

from __future__ import annotations

import re
from functools import cache
from pathlib import PurePath

from PIL import Image

# EPS runs Ghostscript on what a stranger sent, and IPTC opens what it holds as any format, EPS too. FITS and
# BLP unpack without a limit, FPX, FTEX and MIC are containers of these. The others cannot be drawn by Pillow.
_REFUSED = {"BLP", "BUFR", "EPS", "FITS", "FPX", "FTEX", "GRIB", "HDF5", "IPTC", "MIC", "MPEG", "WMF"}

MAX_SIDE = 100_000
MEMORY = 800_000_000  # bytes that decoding one image may take
# Measured for each decoder: its buffers, Pillow's image and the copy that is handed out.
_BYTES_A_PIXEL = {
    **dict.fromkeys(("BMP", "DIB", "GIF", "JPEG", "MPO", "PNG", "PPM", "TGA", "TIFF"), 8),
    "JPEG2000": 20,
}
_OTHERS = 16

HIDDEN = frozenset(  # folders of thumbnails, of resource forks and of deleted photos
    {"__macosx", "@eadir", "@__thumb", "@recycle", "#recycle", "$recycle.bin", "lost+found", "thumbs.db"}
)

_HEIF = "HEIC"
_UNREADABLE = {
    **dict.fromkeys((".heic", ".heif", ".heics", ".heifs", ".hif"), _HEIF),
    **dict.fromkeys((".jxl",), "JPEG XL"),
    **dict.fromkeys((".jxr", ".wdp", ".hdp"), "JPEG XR"),
    **dict.fromkeys(
        [
            ".3fr",
            ".ari",
            ".arw",
            ".bay",
            ".cap",
            ".cr2",
            ".cr3",
            ".crw",
            ".dcr",
            ".dcs",
            ".dng",
            ".erf",
            ".fff",
            ".gpr",
            ".iiq",
            ".k25",
            ".kdc",
            ".mef",
            ".mos",
            ".mrw",
            ".nef",
            ".nrw",
            ".orf",
            ".pef",
            ".ptx",
            ".r3d",
            ".raf",
            ".raw",
            ".rw2",
            ".rwl",
            ".sr2",
            ".srf",
            ".srw",
            ".x3f",
        ],
        "camera raw",
    ),
}
_SIGNATURES = (
    (re.compile(rb"....ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1|mif2)", re.DOTALL), _HEIF),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"), "JPEG XL"),
    (re.compile(rb"II\xbc[\0\1]"), "JPEG XR"),
    (
        re.compile(rb"FUJIFILMCCD-RAW|IIRO|IIRS|MMOR|IIU\0|FOVb|\0MRM|II\*\0....CR|....ftypcrx", re.DOTALL),
        "camera raw",
    ),
)


@cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read, the common ones first; HEIF where pillow-heif is there."""
    Image.init()
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        pass
    else:
        register_heif_opener()
    return tuple(name for name in Image.ID if name not in _REFUSED)


@cache
def image_extensions() -> frozenset[str]:
    """The endings of file names, in lower case with their dot, of the formats that are read."""
    readable = formats()
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in readable)


def is_hidden(part: str) -> bool:
    """Whether a folder or file is left out by its name: hidden, or a place of thumbnails and other copies."""
    return (part.startswith(".") and part not in (".", "..")) or part.lower() in HIDDEN


def is_photo(path: PurePath) -> bool:
    """Whether a file is a photo by its name, be it of a kind that can be read or not."""
    ending = path.suffix.lower()
    return ending in image_extensions() or ending in _UNREADABLE


def max_pixels(format: str | None) -> int:
    """The most that an image of one of Pillow's formats may have; None: an image that is decoded already."""
    return MEMORY // bytes_a_pixel(format)


def bytes_a_pixel(format: str | None) -> int:
    """The most memory that decoding takes."""
    return 8 if format is None else _BYTES_A_PIXEL.get(format, _OTHERS)


def unreadable(name: str, data: bytes = b"") -> str:
    """What to say of a photo of a kind that is not read, by its first bytes or its name; "" of others."""
    signed = (kind for signature, kind in _SIGNATURES if signature.match(data))
    kind = next(signed, _UNREADABLE.get(PurePath(name).suffix.lower(), ""))
    if not kind or (kind == _HEIF and "HEIF" in formats()):
        return ""
    if kind == _HEIF:
        return "is a HEIC photo, which is read once pillow-heif is installed: install it, or save it as JPEG."
    return f"is a {kind} photo, which is not read: save it as JPEG or PNG."


def is_camera_raw(name: str, data: bytes) -> bool:
    """Whether a TIFF is a camera's raw data, of which Pillow reads but a thumbnail."""
    return _UNREADABLE.get(PurePath(name).suffix.lower()) == "camera raw" and data[:2] in (b"II", b"MM")
