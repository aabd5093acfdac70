"""Photos that visitors upload: damaged files of every format, absurd sizes, bombs, and archives of them."""

from __future__ import annotations

import io
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from random import Random

from PIL import Image

from fuzz.mutate import damaged, in_turn

_NUMBERS = (0, 1, 2, 8, 255, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_SIDES = (0, 1, 7, 3000, 8000, 9990, 10_000, 65_535, 100_000, 100_001, 10**8, 2**31 - 1, 2**32 - 1)


def inputs(seed: int) -> Iterator[tuple[str, bytes]]:
    random = Random(seed)
    makers = (_mutated, _mutated, _mutated, _png, _tiff, _jpeg, _metadata, _archived, _flat)
    return in_turn(random, *(partial(make, random) for make in makers))


def attack(name: str, data: bytes) -> None:
    """As the pages read them: a photo alone, and one of many on its way to an encoder."""
    from captionbot.bulk.folder import load_ahead
    from captionbot.errors import CaptionBotError
    from captionbot.images.load import Preprocessing, find_images, load_image

    if not name.endswith((".zip", ".tar", ".tgz")):
        load_image(data, at_most=4096)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        said = [image for _, image in load_ahead(find_images([path]), 8, _wanted(Preprocessing))]
    for image in said:
        if isinstance(image, CaptionBotError):
            raise image


def _wanted(preprocessing: type) -> object:
    return preprocessing((224, 224), (0.5,) * 3, (0.5,) * 3)


# Good files


@cache
def _files() -> dict[str, bytes]:
    """A small file of every format and mode that Pillow writes, by its ending."""
    Image.init()
    found = {}
    photo = Image.radial_gradient("L").resize((61, 43))
    for kind in sorted(Image.SAVE):
        for mode in ("RGB", "RGBA", "P", "L", "LA", "1", "CMYK", "I;16", "I", "F", "YCbCr", "LAB"):
            image = photo.convert("I").convert("I;16") if mode == "I;16" else photo
            image = Image.new("LAB", photo.size) if mode == "LAB" else image.convert(mode)
            for number, options in enumerate(_OPTIONS.get(kind, ({},))):
                if mode not in _MODES.get(str(options.get("compression")), (mode,)):
                    continue  # libtiff crashes as it writes them
                file = io.BytesIO()
                try:
                    image.save(file, kind, **options)
                except Exception:  # Pillow raises all kinds of things for modes that a format has not
                    continue
                found[f"{mode}{number}.{kind.lower()}"] = file.getvalue()
    return found


_OPTIONS: dict[str, tuple[dict[str, object], ...]] = {
    "JPEG": (
        {},
        {"progressive": True},
        {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"},
    ),
    "PNG": ({}, {"bits": 4}, {"icc_profile": bytes(300), "dpi": (72, 72)}),
    "TIFF": tuple(
        {"compression": name}
        for name in (
            None,
            "tiff_lzw",
            "packbits",
            "tiff_adobe_deflate",
            "jpeg",
            "group3",
            "group4",
            "zstd",
            "lzma",
        )
    ),
    "WEBP": ({}, {"lossless": True}),
    "GIF": ({}, {"save_all": True, "append_images": [Image.new("L", (61, 43))]}),
    "BMP": ({},),
}


_MODES = {"group3": ("1",), "group4": ("1",), "jpeg": ("RGB", "L", "CMYK")}


def _mutated(random: Random) -> tuple[str, bytes]:
    name = random.choice(sorted(_files()))
    data = _files()[name]
    if random.random() < 0.3:  # a number of the header made a large one
        changed = bytearray(data)
        at, width = random.randrange(min(len(data), 200)), random.choice((1, 2, 4))
        number = random.choice(_NUMBERS) % 2 ** (8 * width)
        changed[at : at + width] = number.to_bytes(width, random.choice(("little", "big")))
        return name, bytes(changed)
    return name, damaged(data, random)


# Containers whose parts lie


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _zeros(count: int) -> bytes:
    packer = zlib.compressobj(9)
    return (
        b"".join(packer.compress(bytes(min(10**6, count - at))) for at in range(0, count, 10**6))
        + packer.flush()
    )


def _png(random: Random) -> tuple[str, bytes]:
    width, height = (random.choice(_SIDES[:-2]) for _ in range(2))
    depth, colour = random.choice(
        ((1, 0), (8, 0), (16, 0), (8, 2), (16, 2), (8, 3), (16, 4), (16, 6), (8, 6))
    )
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, random.randrange(2))
    parts = [_chunk(b"IHDR", header), _chunk(b"PLTE", bytes(768)) if colour == 3 else b""]
    for _ in range(random.randrange(6)):
        kind = random.choice(
            (b"iTXt", b"zTXt", b"tEXt", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"tRNS", b"abCD", b"gAMA")
        )
        body = random.choice(
            (
                b"",
                b"k\0\0" + _zeros(10**7),
                b"XML:com.adobe.xmp\0\1\0\0\0" + _zeros(10**7),
                _exif(random),
                bytes(5000),
            )
        )
        parts.append(_chunk(kind, body) * (random.choice((1, 1, 2000)) if len(body) < 6000 else 1))
    wanted = min(10**8, max(0, height * (1 + width * depth * 4 // 8))) if random.random() < 0.5 else 1000
    packed = _zeros(wanted)
    size = random.choice((1, 100, len(packed) + 1))
    pieces = [packed[at : at + size] for at in range(0, min(len(packed), 50_000 * size), size)]
    parts += [_chunk(b"IDAT", piece) for piece in pieces]
    return "a.png", b"\x89PNG\r\n\x1a\n" + b"".join(parts) + _chunk(b"IEND", b"")


def _exif(random: Random, order: str = ">") -> bytes:
    """A directory whose entries all claim the rest of the file."""
    count = random.choice((1, 20, 2000, 65_535))
    rest = bytes(random.choice((0, 1000, 1_000_000)))
    entries = b"".join(
        struct.pack(
            f"{order}HHII", random.randrange(65_536), random.choice((1, 2, 3, 5, 7)), max(1, len(rest)), 8
        )
        for _ in range(min(count, 5000))
    )
    head = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HIH", 42, 8, count)
    return head + entries + rest


def _tiff(random: Random) -> tuple[str, bytes]:
    width, height = (random.choice((50, 200, random.choice(_SIDES))) for _ in range(2))
    samples = random.choice((1, 1, 1, 3, 3, 4, 5, 65_535))
    pixels = random.choice((b"", bytes(2000), _zeros(10**7), random.randbytes(3000), b"\0\1" * 40_000))
    tags = {
        256: width, 257: height, 258: random.choice((1, 8, 12, 16, 32, 64)),
        259: random.choice((1, 2, 3, 4, 5, 6, 7, 8, 32773, 32809, 34676, 34925, 50000, 50001, 50002, 9)),
        262: random.choice((0, 1, 2, 3, 5, 6, 8, 32844)), 273: 8, 277: samples,
        278: random.choice((1, height, 2**32 - 1)), 279: len(pixels), 284: random.choice((1, 1, 2)),
        317: random.choice((1, 2, 3)), 339: random.choice((1, 2, 3)),
    }  # fmt: skip
    if random.random() < 0.4:
        tags |= {
            322: random.choice((16, 256, 65_536)),
            323: random.choice((16, 256, 40_000)),
            324: 8,
            325: len(pixels),
        }
    for _ in range(random.choice((0, 0, 0, 1, 2))):
        tags[random.choice((34665, 34853, 330, 700, 347, 320, 50706, *tags))] = random.choice(_NUMBERS)
    entries = b"".join(
        struct.pack(
            "<HHII",
            tag,
            random.choice((4,) * 40 + (3, 9, 5)),
            random.choice((1,) * 80 + (2, 10**6)),
            tags[tag],
        )
        for tag in sorted(tags)
    )
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", random.choice((0, 8)))
    return "a.tif", b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory


def _jpeg(random: Random) -> tuple[str, bytes]:
    """Segments of a good file among others, and scan upon scan."""
    data = _files()[random.choice(("RGB1.jpeg", "L1.jpeg", "CMYK1.jpeg", "RGB0.jpeg"))]
    frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    scan = data.rfind(b"\xff\xda")
    changed = bytearray(data)
    if random.random() < 0.7:
        sides = [random.choice([side for side in _SIDES if side < 65_536]) for _ in range(2)]
        changed[frame + 5 : frame + 9] = struct.pack(">HH", *sides)
    extra = b""
    for _ in range(random.randrange(3)):
        body = random.choice(
            (
                b"Exif\0\0" + _exif(random)[:60_000],
                b"MPF\0" + _exif(random)[:60_000],
                b"ICC_PROFILE\0\1\1" + bytes(60_000),
                b"",
            )
        )
        marker = random.choice((0xE1, 0xE2, 0xED, 0xFE, 0xE0, 0xC4, 0xDB))
        extra += (b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body) * random.choice(
            (1, 1, 30)
        )
    scans = bytes(changed[scan:-2]) * random.choice((0, 0, 5, 500, 20_000))
    return "a.jpg", bytes(changed[:2]) + extra + bytes(changed[2:-2]) + scans[:5_000_000] + b"\xff\xd9"


def _metadata(random: Random) -> tuple[str, bytes]:
    """An EXIF block of lies in every format that has one."""
    kind = random.choice(("JPEG", "PNG", "WEBP", "AVIF", "TIFF"))
    file = io.BytesIO()
    exif = _exif(random, random.choice("<>"))
    plain = b"MM\0*\0\0\0\x08\0\0" + bytes(max(4, len(exif) - 10))
    limit = 60_000 if kind == "JPEG" else 10**7
    Image.new("RGB", (32, 32)).save(file, kind, exif=plain[:limit])
    return f"a.{kind.lower()}", file.getvalue().replace(plain[:limit], exif[:limit])


@cache
def _large(kind: str, mode: str, width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, kind)
    return file.getvalue()


def _flat(random: Random) -> tuple[str, bytes]:
    """Megapixels in a few kilobytes, mostly just within the limits."""
    kind, mode = random.choice(
        (("PNG", "L"), ("PNG", "RGBA"), ("PNG", "I;16"), ("GIF", "P"), ("TIFF", "F"), ("WEBP", "RGB"),
         ("JPEG", "CMYK"), ("JPEG2000", "RGB"), ("AVIF", "RGB"), ("QOI", "RGB"), ("TGA", "RGB"), ("BMP", "1"))
    )  # fmt: skip
    side = random.choice((4000, 6000))
    if (kind, mode) in (("BMP", "1"), ("PNG", "L"), ("PNG", "I;16"), ("JPEG", "CMYK")):
        side = random.choice((side, 9990))
    data = _large(kind, mode, side, side)
    return f"a.{kind.lower()}", data if random.random() < 0.7 else damaged(data, random)


def _archived(random: Random) -> tuple[str, bytes]:
    makers: tuple[Callable[[Random], tuple[str, bytes]], ...] = (_mutated, _tiff, _metadata)
    members = [random.choice(makers)(random) for _ in range(random.choice((1, 3, 8)))]
    if random.random() < 0.2:
        members = [("bomb.jpg", bytes(60_000_000))] * 3
    elif random.random() < 0.2:
        members = [("large.png", _large("PNG", "L", 9990, 9990))] * 3
    names = (
        *["{}-{}"] * 5,
        "__MACOSX/{}-{}",
        "../{}-{}",
        "\ud800{}-{}",
        "x" * 5000 + "{}-{}",
        "/{}-{}",
        "é{}-{}",
    )
    file = io.BytesIO()
    kind = random.choice(("zip", "zip", "tar", "tgz"))
    if kind == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for number, (name, data) in enumerate(members):
                archive.writestr(random.choice(names).format(number, name).replace("\ud800", "\ufffd"), data)
    else:
        with tarfile.open(fileobj=file, mode="w:gz" if kind == "tgz" else "w") as tar:
            for number, (name, data) in enumerate(members):
                info = tarfile.TarInfo(random.choice(names).format(number, name).replace("\ud800", "\udce9"))
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    packed = file.getvalue()
    return f"a.{kind}", packed if random.random() < 0.6 else damaged(packed, random)
