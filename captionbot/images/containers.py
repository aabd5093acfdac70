"""Files of images without all that is not their picture, before a decoder sees them.

Pillow and the libraries below it read whatever a file holds beside its picture: profiles, texts, EXIF blocks
whose entries all claim the same megabyte, pages, thumbnails. None of it is needed but the orientation, which
is read here, and a few bytes of it can cost gigabytes, or have a good photo refused.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from captionbot.errors import CaptionBotError

_MOST_PARTS = 200_000  # chunks or segments of a file
_MOST_BLOCKS = 1000  # beginnings of EXIF in a file
_MOST_ENTRIES = 4096  # of a directory of TIFF or EXIF
_MOST_SAMPLES = 6  # channels of a TIFF
_MOST_TEXT = 1_000_000  # bytes of an unpacked text
_MOST_SCANNED = 2_000_000_000  # pixels of a JPEG, times the scans that go over all of them
_MOST_BUFFERED = 300_000_000  # bytes of a strip or tile of a TIFF
_MOST_ICON = 4_000_000  # pixels of the pictures in a file of icons
_MOST_TILES = 4096  # of a JPEG 2000: each takes kilobytes before it is decoded

_ORIENTATION = 0x0112
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = re.compile(rb"II[*+]\0|MM\0[*+]|II\0\*|MM\*\0")
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")
_CODESTREAM = re.compile(rb"\xff\x4f\xff\x51")
_PICTURE_SEGMENTS = {0xE0, 0xEE}  # JFIF; Adobe's says whether colours are inverted
_PICTURE_CHUNKS = {b"tRNS"}  # of those that a decoder may ignore, whose names begin with a small letter


def without_metadata(data: bytes, name: str) -> tuple[bytes, int | None]:
    """A file's bytes with its picture alone, and its EXIF orientation where that was taken out of them.

    Raises CaptionBotError for what no decoder should be given: more parts, scans or tiles than any photo has,
    compressions that are not read.
    """
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data, name)
        if data.startswith(_PNG):
            return _png(data, name)
        if _TIFF.match(data):
            return _tiff(data, name)
        if data.startswith((b"\0\0\1\0", b"icns")):
            _check_icons(data, name)
        if data.startswith((b"icns", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP")):
            for start in _CODESTREAM.finditer(data[:1_000_000]):
                _check_codestream(data, start.start(), name)
        if data[4:8] == b"ftyp":
            return _avif(data), None
    except (struct.error, zlib.error) as error:
        raise _damaged(name, "it breaks off") from error
    return data, None


def _avif(data: bytes) -> bytes:
    """The file, an AVIF or HEIC, without the entries of an EXIF block that claims too much."""
    changed = bytearray(data)
    for block in islice(_TIFF.finditer(data), _MOST_BLOCKS):
        rest = memoryview(data)[block.start() :]
        with suppress(struct.error):  # what cannot be read costs nothing
            directory = _Directory.read(rest)
            if directory.claims_too_much(rest):
                at = block.start() + directory.at
                changed[at : at + 2] = bytes(2)
    return bytes(changed)


def orientation(exif: bytes, xmp: bytes = b"") -> int | None:
    """The orientation of an EXIF block, or of XMP where that has none; None where none can be read.

    Only this entry is looked at: others may be malformed, or claim more memory than there is.
    """
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    try:
        order = {b"II": "<", b"MM": ">"}[exif[:2]]
        magic, at = struct.unpack_from(f"{order}HI", exif, 2)
        (count,) = struct.unpack_from(f"{order}H", exif, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12) if magic in (0x2A, 0x2A00) else ():
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if tag == _ORIENTATION and kind in (1, 3, 4):
                return int(struct.unpack_from(order + {1: "B", 3: "H", 4: "I"}[kind], exif, entry + 8)[0])
    except (KeyError, struct.error):
        pass
    found = _XMP_ORIENTATION.search(xmp)
    return int(found[1]) if found else None


def _damaged(name: str, why: str) -> CaptionBotError:
    return CaptionBotError(f"{name} is a damaged image ({why}): save or download it again.")


def _refused(name: str, what: str) -> CaptionBotError:
    return CaptionBotError(f"{name} {what}: save it as JPEG or PNG.")


# JPEG


def _jpeg(data: bytes, name: str) -> tuple[bytes, int | None]:
    kept, exif, xmp, pixels, at = [data[:2]], b"", b"", 0, 2
    for marker, start, end in _segments(data, at, name):
        if marker == 0xDA or end > len(data):
            kept.append(data[start:])
            if marker == 0xDA and pixels:
                _check_scans(data, end, pixels, name)
            break
        body = data[start + 4 : end]
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif = exif or body
        elif marker == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/"):
            xmp = xmp or body
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", body, 1)
            pixels = max(pixels, height * width)
        if marker in _PICTURE_SEGMENTS or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(data[start:end])
    return b"".join(kept), orientation(exif, xmp)


def _segments(data: bytes, at: int, name: str) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of a JPEG's segments; those of scans end where their pixels begin."""
    for _ in range(_MOST_PARTS):
        found = _MARKER.search(data, at)
        if found is None or found[0][1] == 0xD9:
            return
        start = found.start()
        if start + 4 > len(data):
            return
        length = struct.unpack_from(">H", data, start + 2)[0]
        at = start + 2 + length
        yield found[0][1], start, at
    raise _damaged(name, "it has too many parts")


def _check_scans(data: bytes, at: int, pixels: int, name: str) -> None:
    scans = 1 + sum(marker == 0xDA for marker, *_ in _segments(data, at, name))
    if scans > 10 and scans * pixels > _MOST_SCANNED:
        raise _refused(name, f"has {scans} scans, which take too long to decode")


# PNG


def _png(data: bytes, name: str) -> tuple[bytes, int | None]:
    kept: list[bytes] = []
    turn, at, begun = None, len(_PNG), 0
    for _ in range(_MOST_PARTS):
        if at + 12 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind[:1].isupper() or kind in _PICTURE_CHUNKS or end > len(data):
            if kind == b"IEND":
                return b"".join([*kept, data[begun:end]]), turn
        else:
            turn = _turn_of(kind, data[at + 8 : end - 4]) or turn
            kept.append(data[begun:at])
            begun = end
        at = end
    else:
        raise _damaged(name, "it has too many parts")
    return b"".join([*kept, data[begun:]]), turn


def _turn_of(kind: bytes, body: bytes) -> int | None:
    """The orientation in a PNG's chunk of EXIF, of XMP, or of EXIF as text, as ImageMagick writes it."""
    if kind == b"eXIf":
        return orientation(body)
    keyword, _, text = body.partition(b"\0")
    if kind == b"iTXt" and keyword == b"XML:com.adobe.xmp":
        packed = text[:1] == b"\1"
        text = text[2:].split(b"\0", 2)[-1]
        return orientation(b"", _unpacked(text) if packed else text)
    if kind in (b"zTXt", b"tEXt") and keyword == b"Raw profile type exif":
        lines = (_unpacked(text[1:]) if kind == b"zTXt" else text[:_MOST_TEXT]).split(b"\n")
        try:
            return orientation(bytes.fromhex(b"".join(lines[3:]).decode("ascii")))
        except ValueError:
            pass
    return None


def _unpacked(data: bytes) -> bytes:
    """The beginning of a text, nothing of a damaged one: a photo is as good without."""
    try:
        return zlib.decompressobj().decompress(data, _MOST_TEXT)
    except zlib.error:
        return b""


# TIFF

_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
_DNG_VERSION = 50706
_PICTURE_TAGS = frozenset(
    (
        256,
        257,
        258,
        259,
        262,
        266,
        273,
        277,
        278,
        279,
        280,
        281,
        284,
        292,
        293,
        317,
        320,
        322,
        323,
        324,
        325,
        332,
        338,
        339,
        340,
        341,
        347,
        529,
        530,
        531,
        532,
    )
)
_NUMBER_TAGS = frozenset((256, 257, 259, 262, 266, 277, 278, 284, 317, 322, 323))  # of one number each
_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000, 50001})


_Entry = tuple[int, int, int, bytes]
"""Tag, type, count, and the value or its place in the file."""


@dataclass(frozen=True)
class _Directory:
    """The first directory of a TIFF or of an EXIF block.

    order: "<" or ">"; big: of a BigTIFF; at: where the number of its entries stands.
    """

    order: str
    big: bool
    at: int
    entries: Sequence[_Entry]

    @classmethod
    def read(cls, data: bytes | memoryview) -> _Directory:
        """Raises struct.error where there is none."""
        order = "<" if data[:2] == b"II" else ">"
        big = b"+" in bytes(data[2:4])
        offset, counted = (f"{order}Q", f"{order}Q") if big else (f"{order}I", f"{order}H")
        (at,) = struct.unpack_from(offset, data, 8 if big else 4)
        (count,) = struct.unpack_from(counted, data, at)
        begins = at + struct.calcsize(counted)
        form = _form(order, big)
        size = struct.calcsize(form)
        ends = min(begins + size * min(count, _MOST_ENTRIES), len(data) - size + 1)
        read = (struct.unpack_from(form, data, start) for start in range(begins, ends, size))
        return cls(order, big, at, [entry for entry in read if entry[1] in _SIZES])

    def claims_too_much(self, data: bytes | memoryview) -> bool:
        """Whether reading it would take more than the file has: entries may all name the same bytes."""
        claimed = sum(number * _SIZES[kind] for _, kind, number, _ in self.entries)
        return len(self.entries) >= _MOST_ENTRIES or claimed > len(data) + 4096

    def number(self, tag: int, otherwise: int, data: bytes) -> int:
        """The first number of an entry."""
        for found, kind, count, value in self.entries:
            if found == tag and kind in _NUMBERS and count:
                form = f"{self.order}{_NUMBERS[kind]}"
                if count * _SIZES[kind] <= len(value):
                    return int(struct.unpack_from(form, value)[0])
                (place,) = struct.unpack(f"{self.order}Q" if self.big else f"{self.order}I", value)
                return int(struct.unpack_from(form, data, place)[0])
        return otherwise

    def appended(self, data: bytes) -> bytes:
        """The file with this directory at its end in place of its own ones."""
        packed = [struct.pack(_form(self.order, self.big), *entry) for entry in self.entries]
        padding = bytes(-len(data) % 8)
        header, counted, ended = (8, "Q", 8) if self.big else (4, "H", 4)
        begins = struct.pack(self.order + ("Q" if self.big else "I"), len(data) + len(padding))
        count = struct.pack(self.order + counted, len(packed))
        rest = data[header + len(begins) :]
        return b"".join([data[:header], begins, rest, padding, count, *packed, bytes(ended)])


def _form(order: str, big: bool) -> str:
    return f"{order}HHQ8s" if big else f"{order}HHI4s"


def _tiff(data: bytes, name: str) -> tuple[bytes, int | None]:
    """The first page, with a directory of its own that says how it is decoded and nothing else."""
    whole = _Directory.read(data)
    if any(tag == _DNG_VERSION for tag, *_ in whole.entries):
        raise _refused(name, "is a camera raw photo, which is not read")
    needed = {
        tag: (tag, kind, count, value)
        for tag, kind, count, value in reversed(whole.entries)
        if tag in _PICTURE_TAGS and (tag not in _NUMBER_TAGS or (kind in _NUMBERS and count == 1))
    }
    page = _Directory(whole.order, whole.big, whole.at, [needed[tag] for tag in sorted(needed)])
    if page.claims_too_much(data) or any(count > 2 * _MOST_PARTS for _, _, count, _ in page.entries):
        raise _damaged(name, "its directory claims more than there is")
    if page.number(277, 1, data) > _MOST_SAMPLES:
        raise _refused(name, f"is a TIFF of more than {_MOST_SAMPLES} channels, which is not read")
    compression = page.number(259, 1, data)
    if compression not in _COMPRESSIONS:
        raise _refused(name, f"is a TIFF of compression {compression}, which is not read")
    width, height = page.number(256, 0, data), page.number(257, 0, data)
    piece = page.number(322, width, data) * page.number(
        323, min(height, page.number(278, height, data)), data
    )
    samples = 1 if page.number(284, 1, data) == 2 else page.number(277, 1, data)
    if compression != 1 and piece * samples * page.number(258, 1, data) // 8 > _MOST_BUFFERED:
        raise _refused(name, "is a TIFF whose strips or tiles are too large to decode")
    return page.appended(data), whole.number(_ORIENTATION, 1, data)


# Icons and JPEG 2000


def _check_icons(data: bytes, name: str) -> None:
    """Refuses pictures in a file of icons that are larger than any icon: Pillow believes the file's table."""
    sizes = [
        struct.unpack_from(">II", data, found.start() + 16) for found in re.finditer(re.escape(_PNG), data)
    ]
    if data.startswith(b"\0\0\1\0"):
        (count,) = struct.unpack_from("<H", data, 4)
        for entry in range(6, 6 + 16 * min(count, 4096), 16):
            (at,) = struct.unpack_from("<I", data, entry + 12)
            if data[at : at + 4] != _PNG[:4]:
                sizes.append(struct.unpack_from("<Ii", data, at + 4))
    for width, height in sizes:
        if abs(width * height) > _MOST_ICON:
            raise CaptionBotError(
                f"{name} is an icon of {width} x {height} pixels, which is too large: save it as JPEG or PNG."
            )


def _check_codestream(data: bytes, at: int, name: str) -> None:
    left, top, x, y, wide, high, *_, components = struct.unpack_from(">IIIIIIIIH", data, at + 8)
    width, height = left - x, top - y
    tiles = -(-width // max(1, wide)) * -(-height // max(1, high))
    if components > 4 or tiles > _MOST_TILES:
        raise _refused(name, f"is a JPEG 2000 of {components} channels in {tiles} tiles, which is not read")
    if data.startswith(b"icns") and width * height > _MOST_ICON:
        raise _refused(name, f"holds an icon of {width} x {height} pixels, which is too large")


def levels_of(data: bytes) -> int:
    """How often a JPEG 2000 can be halved as it is decoded."""
    found = re.search(rb"\xff\x52\0[\x0c-\x2d].{6}([\0-\x20])", data[:100_000], re.DOTALL)
    return found[1][0] if found else 0
