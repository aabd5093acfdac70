"""Images of every kind, and everything that is not one."""

from __future__ import annotations

import gzip
import io
import os
import re
import struct
import subprocess
import sys
import tarfile
import threading
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from local_server import LocalServer, local_server
from PIL import Image, ImageChops, features
from PIL.PngImagePlugin import PngInfo

from captionbot.errors import CaptionBotError
from captionbot.images import archives, convert, decode
from captionbot.images.load import (
    ImageSource,
    Preprocessing,
    boxes_to_image,
    count_images,
    find_images,
    load_image,
    load_url,
    squash,
    to_pixel_values,
)

RED, GREEN, BLUE = (220, 30, 20), (20, 200, 40), (10, 40, 230)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def corners(size: tuple[int, int] = (64, 32)) -> Image.Image:
    """Red, with green in the top left quarter and blue in the bottom right: no two turns look alike."""
    image = Image.new("RGB", size, RED)
    width, height = size
    image.paste(GREEN, (0, 0, width // 2, height // 2))
    image.paste(BLUE, (width // 2, height // 2, width, height))
    return image


def assert_alike(image: Image.Image, expected: Image.Image, tolerance: int = 0) -> None:
    assert (image.mode, image.size) == ("RGB", expected.size)
    difference = ImageChops.difference(image, expected.convert("RGB")).getextrema()
    assert max(high for _, high in difference) <= tolerance


def close(pixel: object, expected: tuple[int, int, int], tolerance: int = 12) -> bool:
    return bool(np.abs(np.subtract(pixel, expected)).max() <= tolerance)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with local_server() as running:
        yield running


# Every kind of image


@pytest.mark.parametrize("wrap", [str, Path, Path.read_bytes, lambda path: path.open("rb"), Image.open])
def test_every_kind_of_source(tmp_path: Path, wrap: Callable[[Path], object]) -> None:
    path = tmp_path / "corners.png"
    corners().save(path)
    assert_alike(load_image(wrap(path)), corners())


def test_a_file_that_was_read_before_is_read_from_its_start() -> None:
    file = io.BytesIO(encoded(corners()))
    load_image(file)
    assert_alike(load_image(file), corners())


def test_real_photos(shared: Path) -> None:
    photos = sorted((shared / "data" / "photos").glob("*.jpg"))
    for photo in photos:
        with Image.open(photo) as original:
            assert load_image(photo).size == original.size
    assert len(photos) == 40


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_rotation(orientation: int, kind: str) -> None:
    as_stored = {  # what a camera stores so that turning by the orientation gives the upright picture
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = corners() if as_stored is None else corners().transpose(as_stored)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = load_image(encoded(stored, kind, exif=exif))
    assert image.size == (64, 32)
    assert close(image.getpixel((8, 8)), GREEN)
    assert close(image.getpixel((56, 24)), BLUE)
    assert close(image.getpixel((56, 8)), RED)
    assert_alike(load_image(image), image)  # turned once, not once more at every loading


def exif_block(
    orientation: int, other: bytes = b"\x01\x0e\0\x02\0\0\0\x01a\0\0\0", magic: bytes = b"MM\0*"
) -> bytes:
    """An EXIF block of two entries, one of them the orientation."""
    turn = b"\x01\x12\0\x03\0\0\0\x01" + bytes([0, orientation, 0, 0])
    return b"Exif\0\0" + magic + b"\0\0\0\x08\0\x02" + other + turn + bytes(4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("block", "size"),
    [
        pytest.param(exif_block(6), (32, 64), id="good"),
        pytest.param(exif_block(6, b"\x87\x69\0\x02\0\0\0\x02b\0\0\0"), (32, 64), id="a bad entry"),
        pytest.param(exif_block(6, b"\x02\x13\0\x02\0\0\0\x02b\0\0\0"), (32, 64), id="text for a number"),
        pytest.param(exif_block(9), (64, 32), id="no such orientation"),
        pytest.param(exif_block(6, magic=b"MM\0\xf9"), (64, 32), id="unreadable"),
        pytest.param(exif_block(6)[:22], (64, 32), id="cut off"),
    ],
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_malformed_exif_block_loses_neither_photo_nor_turn(
    kind: str, block: bytes, size: tuple[int, int]
) -> None:
    assert load_image(encoded(corners(), kind, exif=block)).size == size


def half_transparent(mode: str) -> Image.Image:
    image = Image.new("RGBA", (4, 1), (*BLUE, 255))
    image.putpixel((0, 0), (*BLUE, 0))
    image.putpixel((1, 0), (*BLUE, 128))
    return image.convert(mode)


def test_transparency_becomes_white() -> None:
    image = load_image(encoded(half_transparent("RGBA")))
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert close(image.getpixel((1, 0)), (132, 147, 242), 2)
    assert image.getpixel((3, 0)) == BLUE


def test_grey_with_transparency() -> None:
    image = load_image(encoded(half_transparent("LA")))
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert image.getpixel((3, 0)) == (half_transparent("L").getpixel((3, 0)),) * 3


@pytest.mark.parametrize("transparency", [1, b"\xff\x00"], ids=["one colour", "an alpha for each colour"])
def test_palette_transparency(transparency: int | bytes) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    loaded = load_image(encoded(image, transparency=transparency))
    assert [loaded.getpixel((x, 0)) for x in (0, 1)] == [RED, (255, 255, 255)]


def test_one_colour_of_rgb_transparent() -> None:
    loaded = load_image(encoded(corners(), transparency=RED))
    assert loaded.getpixel((60, 2)) == (255, 255, 255)
    assert loaded.getpixel((2, 2)) == GREEN


@pytest.mark.parametrize("route", ["RGBA RGBa", "RGBX", "YCbCr", "HSV", "CMYK"])
def test_modes_that_only_memory_holds(route: str) -> None:
    image = corners()
    for mode in route.split():
        image = image.convert(mode)
    assert_alike(load_image(image), corners(), 3)


def test_cmyk_jpeg_is_not_a_negative() -> None:
    """Pillow writes them as Adobe does, inverted, and undoes that as it reads."""
    image = load_image(encoded(corners().convert("CMYK"), "JPEG", quality=95))
    assert [close(image.getpixel(at), to, 30) for at, to in (((8, 8), GREEN), ((56, 8), RED))] == [True, True]


RAMP = np.linspace(0, 1, 256)[None].repeat(2, 0)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        pytest.param(Image.fromarray((RAMP * 65535).astype(np.uint16)), "PNG", id="16-bit PNG"),
        pytest.param(Image.fromarray((RAMP * 65535).astype(np.uint16)), "TIFF", id="16-bit TIFF"),
        pytest.param(Image.fromarray((RAMP * 65535).astype(np.int32)), "TIFF", id="32-bit TIFF"),
        pytest.param(Image.fromarray((RAMP * 65535).astype(np.int32)), "PPM", id="16-bit PGM"),
        pytest.param(Image.fromarray((RAMP * 255).astype(np.int32)), "TIFF", id="8 bits in 32"),
        pytest.param(Image.fromarray(((RAMP - 0.5) * 4e9).astype(np.int32)), "TIFF", id="all of 32 bits"),
        pytest.param(Image.fromarray(RAMP.astype(np.float32)), "TIFF", id="floats 0..1"),
        pytest.param(Image.fromarray((RAMP * 255).astype(np.float32)), "TIFF", id="floats 0..255"),
        pytest.param(Image.fromarray((RAMP * 9 - 4).astype(np.float32)), "TIFF", id="floats -4..5"),
    ],
)
def test_deep_grey_is_scaled_and_not_clipped(image: Image.Image, kind: str) -> None:
    grey = np.asarray(load_image(encoded(image, kind)))[0, :, 0].astype(int)
    assert np.abs(grey - np.arange(256)).max() <= 1


def test_a_dark_16_bit_photo_stays_dark() -> None:
    """Its range is that of its format; stretching each photo to its own would make night into day."""
    assert load_image(Image.fromarray(np.full((2, 2), 25700, np.uint16))).getpixel((0, 0)) == (100, 100, 100)


@pytest.mark.parametrize("bits", range(9, 17))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_of_any_depth_in_16_bits_is_not_black(bits: int, kind: str) -> None:
    image = Image.fromarray((RAMP * (2**bits - 1)).astype(np.uint16))
    grey = np.asarray(load_image(encoded(image, kind)))[0, :, 0]
    assert grey[-1] > 100
    assert (np.diff(grey.astype(int)) >= 0).all()


def tiff(width: int, height: int, pixels: bytes, **tags: int) -> bytes:
    """An uncompressed TIFF of one strip. tags: of one number each."""
    numbers = {256: width, 257: height, 273: 8, 278: height, 279: len(pixels)}
    numbers |= {int(tag[1:]): value for tag, value in tags.items()}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, numbers[tag]) for tag in sorted(numbers))
    pixels += bytes(len(pixels) % 2)
    directory = struct.pack("<H", len(numbers)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory


def test_a_dark_photo_of_12_bits_is_scaled_by_its_depth() -> None:
    """The file says 12 bits, so half of 10 bits is an eighth of white, not half of it."""
    pair = bytes([0x1F, 0xF1, 0xFF])  # two pixels of 511
    assert load_image(tiff(2, 1, pair, t258=12, t262=1)).getpixel((0, 0)) == (32, 32, 32)
    deep = np.full((1, 2), 511, "<u2").tobytes()
    assert load_image(tiff(2, 1, deep, t258=16, t262=1, t281=4095)).getpixel((0, 0)) == (32, 32, 32)


def test_deep_grey_whose_zero_is_white() -> None:
    deep = np.array([[0, 65535]], "<u2").tobytes()
    image = load_image(tiff(2, 1, deep, t258=16, t262=0))
    assert [image.getpixel((x, 0))[0] for x in (0, 1)] == [255, 0]


def test_colours_of_12_bits_in_16_are_not_black() -> None:
    rgb = np.repeat((RAMP * 4095).astype("<u2")[..., None], 3, 2)
    data = tiff(256, 2, rgb.tobytes(), t258=16, t262=2, t277=3)
    assert np.asarray(load_image(data)).max() > 200


def test_lab_becomes_rgb() -> None:
    image = Image.new("LAB", (4, 4), (136, 208, 195))  # pure red: L 53, a 80, b 67
    assert close(load_image(encoded(image, "TIFF")).getpixel((1, 1)), (255, 0, 0), 12)


def test_floats_that_are_not_numbers() -> None:
    values = np.array([[np.nan, np.inf, -np.inf, 1.0]], np.float32)
    assert [load_image(Image.fromarray(values)).getpixel((x, 0))[0] for x in range(4)] == [0, 0, 0, 255]


@pytest.mark.filterwarnings("error")
def test_even_floats_below_zero() -> None:
    assert load_image(Image.new("F", (2, 2), -5.5)).getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize("value", [0, 255])
def test_even_deep_grey(value: int) -> None:
    assert load_image(Image.new("I", (1, 1), value)).getpixel((0, 0)) == (value,) * 3


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey(mode: str) -> None:
    image = Image.new(mode, (2, 1))
    image.putpixel((1, 0), 255)
    loaded = load_image(encoded(image))
    assert [loaded.getpixel((x, 0)) for x in (0, 1)] == [(0, 0, 0), (255, 255, 255)]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_is_its_first_frame(kind: str) -> None:
    first, *others = (Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE))
    data = encoded(first, kind, save_all=True, append_images=others)
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 3
    assert close(load_image(data).getpixel((4, 4)), RED)


@pytest.mark.parametrize("size", [(1, 1), (30_000, 10), (10, 30_000), (1, 5_000)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_odd_shapes(size: tuple[int, int], kind: str) -> None:
    image = load_image(encoded(Image.new("RGB", size, RED), kind))
    assert image.size == size
    values = to_pixel_values([image], Preprocessing((8, 8), (0, 0, 0), (1, 1, 1)))
    assert torch.allclose(values.mean((0, 2, 3)) * 255, torch.tensor(RED).float(), atol=3)


@pytest.mark.parametrize("kind", ["BMP", "GIF", "ICO", "JPEG2000", "PCX", "PPM", "QOI", "SGI", "TGA", "AVIF"])
def test_other_formats(kind: str) -> None:
    if kind in ("AVIF", "JPEG2000") and not features.check({"JPEG2000": "jpg_2000"}.get(kind, "avif")):
        pytest.skip(f"this Pillow was built without {kind}")
    image = load_image(encoded(corners((64, 64)), kind))
    assert close(image.getpixel((16, 16)), GREEN, 20)
    assert close(image.getpixel((48, 16)), RED, 20)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "JPEG2000"])
def test_a_large_photo_may_come_smaller(shared: Path, kind: str) -> None:
    photo = next((shared / "data" / "photos").glob("*.jpg"))
    large = load_image(photo).resize((1600, 1200))
    data = encoded(large, kind, **({"quality": 95} if kind == "JPEG" else {}))
    expected = np.asarray(large.resize((400, 300)))
    for small in (load_image(data, at_least=256), load_image(data, at_most=500)):
        assert small.size == (400, 300)
        assert np.abs(np.asarray(small).astype(int) - expected).mean() < (8 if kind == "JPEG2000" else 4)
    assert load_image(data, at_most=1600).size == load_image(data, at_least=900).size == (1600, 1200)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "I;16", "F", "CMYK"])
def test_strips_make_no_difference(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.radial_gradient("L").resize((211, 305))
    image = (
        Image.fromarray(np.asarray(image).astype(np.uint16) * 250) if mode == "I;16" else image.convert(mode)
    )
    whole = [load_image(image, at_least=side) for side in (None, 64)]
    monkeypatch.setattr(convert, "_STRIP", 1000)
    for one, other in zip(whole, [load_image(image, at_least=side) for side in (None, 64)], strict=True):
        assert_alike(one, other)
    assert [image.size for image in whole] == [(211, 305), (71, 102)]


def test_the_callers_image_is_left_as_it_is() -> None:
    image = half_transparent("RGBA")
    before = image.tobytes()
    load_image(image).paste("black", (0, 0, 4, 1))
    assert (image.mode, image.tobytes()) == ("RGBA", before)
    plain = corners()
    load_image(plain).paste("black", (0, 0, 64, 32))
    assert plain.getpixel((0, 0)) == GREEN


# Everything that is not an image


def write(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.jpg")
    return folder / "pipe.jpg"


PHOTO = encoded(Image.effect_noise((200, 150), 80).convert("RGB"), "JPEG")
BAD_FILES = [
    pytest.param(write("notes.jpg", b"Dear diary,\n" * 40), "notes.jpg is empty or not an image", id="text"),
    pytest.param(write("empty.png", b""), "empty.png is empty", id="empty"),
    pytest.param(write("half.jpg", PHOTO[: len(PHOTO) // 2]), "half.jpg is a damaged image", id="truncated"),
    pytest.param(write("head.jpg", PHOTO[:300]), "head.jpg is", id="header only"),
    pytest.param(write("evil.eps", encoded(corners(), "EPS")), "not an image that can be read", id="EPS"),
    pytest.param(lambda folder: folder, "is a folder", id="folder"),
    pytest.param(lambda folder: folder / "gone.jpg", "gone.jpg does not exist", id="missing"),
    pytest.param(lambda folder: folder / "a\0b.jpg", "cannot be read", id="null character"),
    pytest.param(lambda folder: folder / ("x" * 3000), "cannot be read", id="endless name"),
    pytest.param(write("page.png", b"<!doctype html><html></html>"), "not an image", id="HTML"),
    pytest.param(lambda folder: "", "The path is empty", id="empty path"),
    pytest.param(fifo, "is a pipe or a device", id="pipe"),
]


@pytest.mark.parametrize(("make", "sentence"), BAD_FILES)
def test_files_that_are_no_images(tmp_path: Path, make: Callable[[Path], Path], sentence: str) -> None:
    with pytest.raises(CaptionBotError) as caught:
        load_image(make(tmp_path))
    assert sentence in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000"])
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_truncated_files_of_every_format(kind: str, keep: float) -> None:
    data = encoded(Image.effect_noise((120, 90), 80).convert("RGB"), kind)
    with pytest.raises(CaptionBotError, match=r"^the image is (a damaged image|empty or not an image)"):
        load_image(data[: int(len(data) * keep)])


def test_any_damage_is_a_sentence_or_a_picture(shared: Path) -> None:
    """Bytes are changed at random; nothing but CaptionBotError may come out."""
    noise = np.random.default_rng(0)
    small = corners((16, 16))
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in ("PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG", "ICO", "PPM", "TGA", "PCX", "SGI", "DDS"):
            data = np.frombuffer(encoded(small, kind), np.uint8)
            for _ in range(60):
                damaged = data.copy()
                spots = noise.integers(0, len(data), 4)
                damaged[spots] = noise.integers(0, 256, 4)
                try:
                    assert load_image(damaged.tobytes()).mode == "RGB"
                except CaptionBotError as error:
                    refused += "\n" not in str(error)
    assert refused > 50


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file(tmp_path: Path) -> None:
    path = write("locked.jpg", PHOTO)(tmp_path)
    path.chmod(0)
    with pytest.raises(CaptionBotError, match=r"locked\.jpg cannot be read"):
        load_image(path)


def png_of(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims any size; what follows its header is that of a small one."""
    data = encoded(Image.new("1", (8, 8)))
    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


@pytest.mark.parametrize("side", [10_001, 12_000, 60_000, 2**31 - 1])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bombs(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "to_rgb", lambda *_: pytest.fail("a bomb was decoded"))
    with pytest.raises(CaptionBotError, match="more than 100 megapixels"):
        load_image(png_of(side, side))


def test_pillow_does_not_warn_pages_and_commands_of_sizes_that_are_allowed(tmp_path: Path) -> None:
    path = write("large.png", png_of(9_800, 9_800))(tmp_path)  # pytest shows all warnings, hence a process
    load = f"from captionbot import host, load_image; host.prepare(); load_image({str(path)!r})"
    stderr = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True).stderr
    assert "large.png is a damaged image" in stderr  # not only refused: it was opened
    assert "DecompressionBomb" not in stderr


def test_pillows_own_limit_is_left_alone() -> None:
    before = Image.MAX_IMAGE_PIXELS
    load_image(PHOTO)
    with pytest.raises(CaptionBotError):
        load_image(png_of(60_000, 60_000))
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("source", [None, 7, ["a.jpg"], np.zeros((2, 2, 3))])
def test_things_that_cannot_be_images(source: object) -> None:
    with pytest.raises(CaptionBotError, match="An image cannot be made from"):
        load_image(source)


def test_an_image_without_pixels() -> None:
    with pytest.raises(CaptionBotError, match="no pixels"):
        load_image(Image.new("RGB", (0, 5)))


def test_a_file_opened_as_text() -> None:
    with pytest.raises(CaptionBotError, match="opened as text"):
        load_image(io.StringIO("text"))


# Addresses: see test_urls.py for what may be reached


def test_an_image_at_an_address(server: LocalServer) -> None:
    url = server.says("/corners.png", encoded(corners()), kind="image/png")
    assert_alike(load_url(url, allow=lambda address: True), corners())


def test_an_address_of_something_else(server: LocalServer) -> None:
    url = server.says("/data.bin", b"\x00\x01" * 500)
    with pytest.raises(CaptionBotError, match=r"data\.bin is empty or not an image"):
        load_url(url, allow=lambda address: True)


@pytest.mark.parametrize("prefix", ["", "  "])
def test_load_image_takes_addresses_and_guards_them(server: LocalServer, prefix: str) -> None:
    url = server.says("/private.png", encoded(corners()), kind="image/png")
    before = len(server.requests)
    with pytest.raises(CaptionBotError, match="not on the public internet"):
        load_image(prefix + url)
    assert len(server.requests) == before


# What a command line is given


def loaded(sources: Iterator[ImageSource]) -> list[tuple[str, str]]:
    """The name of each source, and the size of its image or what was wrong."""
    results = []
    for source in sources:
        try:
            results.append((source.name, "{} x {}".format(*source.load().size)))
        except CaptionBotError as error:
            results.append((source.name, str(error)))
    return results


@pytest.fixture
def album(tmp_path: Path) -> Path:
    folder = tmp_path / "album"
    (folder / "b" / "deep").mkdir(parents=True)
    (folder / ".thumbnails").mkdir()
    corners().save(folder / "c.PNG")
    corners((10, 20)).save(folder / "b" / "deep" / "z.webp")
    corners((30, 20)).save(folder / "a.jpg")
    for name in (".hidden.jpg", "notes.txt", "table.h5", "film.mpg", ".thumbnails/a.jpg"):
        (folder / name).write_bytes(b"not shown to anyone")
    (folder / "b" / "bad.jpeg").write_bytes(b"nonsense")
    (folder / "b" / "loop").symlink_to(folder, target_is_directory=True)
    return folder


ALBUM = [
    ("a.jpg", "30 x 20"),
    ("b/bad.jpeg", "not an image"),
    ("b/deep/z.webp", "10 x 20"),
    ("c.PNG", "64 x 32"),
]


def pack(album: Path, name: str) -> Path:
    archive = album.parent / name
    files = [path for path in sorted(album.rglob("*")) if path.is_file()]
    if name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for path in files:
                file.write(path, path.relative_to(album))
            file.writestr("__MACOSX/a.jpg", b"a resource fork")
    else:
        packer = {"tar": "", "tgz": "gz"}.get(archive.suffix[1:], archive.suffix[1:])
        with tarfile.open(archive, f"w:{packer}") as file:
            file.add(album, ".")
    return archive


def assert_is_album(results: list[tuple[str, str]], root: Path) -> None:
    assert [name for name, _ in results] == [f"{root}/{name}" for name, _ in ALBUM]
    for (_, result), (_, expected) in zip(results, ALBUM, strict=True):
        assert expected in result


def test_a_folder_is_searched_sorted_and_its_bad_image_is_reported(album: Path) -> None:
    assert_is_album(loaded(find_images([album])), album)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz", "A.ZIP"])
def test_archives(album: Path, name: str) -> None:
    archive = pack(album, name)
    before = sorted(album.parent.rglob("*"))
    results = sorted((n.replace("/./", "/"), result) for n, result in loaded(find_images([str(archive)])))
    assert_is_album(results, archive)
    assert sorted(album.parent.rglob("*")) == before  # nothing was unpacked


def test_sources_are_found_one_at_a_time(album: Path) -> None:
    sources = find_images([album / "a.jpg", album.parent / "gone.jpg", album / "c.PNG"])
    assert next(sources).load().size == (30, 20)
    gone = next(sources)
    assert gone.name.endswith("gone.jpg")
    with pytest.raises(CaptionBotError, match=r"gone\.jpg does not exist"):
        gone.load()
    assert next(sources).load().size == (64, 32)


def test_a_long_archive_stays_flat_in_memory(tmp_path: Path) -> None:
    archive, photo = tmp_path / "many.tar", encoded(Image.effect_noise((300, 300), 90))
    with tarfile.open(archive, "w") as file:
        for number in range(300):
            info = tarfile.TarInfo(f"{number}.png")
            info.size = len(photo)
            file.addfile(info, io.BytesIO(photo))
    tracemalloc.start()
    count = sum(source.load().width == 300 for source in find_images([archive]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 300
    assert peak < 40 * len(photo) < archive.stat().st_size / 7


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".zip", "locked/a.jpg", "locked/a.zip", ""])
def test_a_path_that_cannot_be_looked_at_is_one_failed_image(
    album: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat

    def refuse(path: object, *args: object, **options: object) -> os.stat_result:
        if "locked" in str(path):  # as to anyone but root, who runs these tests
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *args, **options)

    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.chdir(album)
    results = loaded(find_images([name, "a.jpg"]))
    assert [found for found, _ in results] == [name, "a.jpg"]
    assert re.search(r"cannot be read|does not exist|path is empty", results[0][1])
    assert results[1][1] == "30 x 20"
    assert count_images([name, "a.jpg"]) == 2


def test_an_entry_that_cannot_be_looked_at_is_one_failed_image(
    album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (album / "d.jpg").symlink_to("x" * 300)
    results = loaded(find_images([album]))
    assert_is_album(results[:-1], album)
    assert "d.jpg cannot be read" in results[-1][1]


def test_addresses_among_paths() -> None:
    (source,) = find_images(["https://127.0.0.1/cat.jpg"])
    assert source.name == "https://127.0.0.1/cat.jpg"
    with pytest.raises(CaptionBotError, match="not on the public internet"):
        source.load()


def empty_folder(folder: Path) -> Path:
    (folder / "void").mkdir()
    return folder / "void"


def archive_with(name: str, entries: dict[str, bytes], change: Callable[[bytes], bytes] = bytes) -> object:
    def make(folder: Path) -> Path:
        path = folder / name
        if name.endswith(".zip"):
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
                for member, data in entries.items():
                    file.writestr(member, data)
        else:
            with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as file:
                for member, data in entries.items():
                    info = tarfile.TarInfo(member)
                    info.size = len(data)
                    file.addfile(info, io.BytesIO(data))
        path.write_bytes(change(path.read_bytes()))
        return path

    return make


def locked(data: bytes) -> bytes:
    """The same zip, its members marked as encrypted."""
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.index(signature) + flags
        data = data[:at] + bytes([data[at] | 1]) + data[at + 1 :]
    return data


def broken_header(data: bytes) -> bytes:
    return data[:1024] + b"\x77" * 512 + data[1536:]


NOISE = encoded(Image.effect_noise((64, 64), 90))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        pytest.param(empty_folder, "holds no images", id="empty folder"),
        pytest.param(lambda folder: folder / "gone", "gone does not exist", id="missing folder"),
        pytest.param(lambda folder: folder / "gone.zip", r"gone.zip does not exist", id="missing archive"),
        pytest.param(archive_with("text.zip", {"a.txt": b"a"}), "text.zip holds no images", id="no images"),
        pytest.param(archive_with("a.tar", {}), "a.tar holds no images", id="empty tar"),
        pytest.param(write("a.zip", b"PK nonsense"), "a.zip is damaged", id="no zip"),
        pytest.param(write("a.tar", b"nonsense" * 99), "a.tar is damaged", id="no tar"),
        pytest.param(write("a.tar.gz", b"nonsense"), "a.tar.gz is damaged", id="no gzip"),
        pytest.param(write("a.zip", b""), "a.zip is damaged", id="empty zip file"),
        pytest.param(archive_with("a.zip", {"x.png": NOISE}, locked), "password", id="encrypted"),
        pytest.param(
            archive_with("a.zip", {"x.png": NOISE}, lambda data: data.replace(NOISE[2000:2004], b"\0\1\2\3")),
            "x.png cannot be unpacked",
            id="damaged member",
        ),
    ],
)
def test_paths_without_images_say_so(tmp_path: Path, make: Callable[[Path], Path], sentence: str) -> None:
    results = loaded(find_images([make(tmp_path)]))
    assert len(results) == 1
    assert sentence in results[0][1]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        pytest.param("a.tar", lambda data: data[: 512 + 512 * 12 + 700], id="cut off"),
        pytest.param("a.tar.gz", lambda data: data[: int(len(data) * 0.7)], id="cut off gzip"),
        pytest.param("a.tar", broken_header, id="broken header"),
    ],
)
def test_a_damaged_tar_does_not_pass_for_a_whole_one(
    tmp_path: Path, name: str, change: Callable[[bytes], bytes]
) -> None:
    small = encoded(corners((6, 4)))
    assert len(small) < 512
    entries = {"1.png": small, "2.png": NOISE, "3.png": NOISE}
    results = loaded(find_images([archive_with(name, entries, change)(tmp_path)]))
    assert results[0][1] == "6 x 4"
    assert "damaged" in results[-1][1] or "unpacked" in results[-1][1]


def test_names_that_climb_out_of_an_archive_are_only_names(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    archive = archive_with("slip.zip", {"../../slip.png": NOISE, "/etc/slip.png": NOISE})(work)
    results = loaded(find_images([archive]))
    assert [result for _, result in results] == ["64 x 64", "64 x 64"]
    assert sorted(tmp_path.rglob("*")) == [work, archive]


def test_links_in_a_tar_are_not_followed(tmp_path: Path) -> None:
    secret = write("secret.png", NOISE)(tmp_path)
    archive = tmp_path / "links.tar"
    with tarfile.open(archive, "w") as file:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"{kind.decode()}.png")
            info.type, info.linkname = kind, str(secret)
            file.addfile(info)
    assert [result for _, result in loaded(find_images([archive]))] == [
        f"{archive} holds no images: give a folder or archive of photos."
    ]


@pytest.mark.parametrize("name", ["bomb.zip", "bomb.tar.gz"])
def test_bombs_in_archives_are_refused_and_the_rest_goes_on(tmp_path: Path, name: str) -> None:
    entries = {"bomb.png": bytes(archives.MAX_MEMBER_BYTES + 1), "good.png": NOISE}
    archive = archive_with(name, entries)(tmp_path)
    assert archive.stat().st_size < 100_000
    bomb, good = loaded(find_images([archive]))
    assert "bomb.png is larger than 64 MB" in bomb[1]
    assert good[1] == "64 x 64"


def test_a_zip_that_lies_about_sizes_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The claimed size is small, the data is not: the reading itself has an end."""
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 10_000)

    def lie(data: bytes) -> bytes:
        return data.replace((50_000).to_bytes(4, "little"), (5_000).to_bytes(4, "little"))

    ((_, result),) = loaded(find_images([archive_with("lie.zip", {"a.png": bytes(50_000)}, lie)(tmp_path)]))
    assert "a.png" in result
    assert "damaged" in result or "unpacked" in result or "larger" in result


def test_a_tar_whose_header_is_a_bomb(tmp_path: Path) -> None:
    """tarfile reads extended headers whole; 600 MB of zeros fit into 600 KB of gzip."""
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 600_000_000
    archive = tmp_path / "header.tar.gz"
    with gzip.open(archive, "wb", compresslevel=1) as file:
        file.write(header.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(6):
            file.write(bytes(1_000_000))  # the rest is never asked for
    ((_, result),) = loaded(find_images([archive]))
    assert "a header of 600000000 bytes" in result


# Not `ru_maxrss`: a process that is started begins with the peak of the one that started it.
counts_memory = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux's count of a process's memory"
)
MEMORY = """
from pathlib import Path
told = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
print(*(int(told[key].split()[0]) // 1000 for key in ("VmHWM", "VmRSS")))
"""


@counts_memory
def test_an_archive_of_huge_photos_takes_little_memory(tmp_path: Path) -> None:
    """A few kilobytes of 99.8 megapixels each, as the pages and the command line load them."""
    huge = {
        f"{mode[0]}{n}.png": encoded(Image.new(mode, (9990, 9990))) for mode in ("L", "I;16") for n in (1, 2)
    }
    archive = archive_with("huge.zip", huge)(tmp_path)
    assert archive.stat().st_size < 10_000
    script = """
import sys
from captionbot.bulk.folder import load_ahead
from captionbot.images.load import Preprocessing, find_images
wanted = Preprocessing((224, 224), (0.5,) * 3, (0.5,) * 3)
print(*(image.size for _, image in load_ahead(find_images(sys.argv[1:]), 8, wanted)))
"""
    done = subprocess.run([sys.executable, "-c", script + MEMORY, archive], capture_output=True, text=True)
    sizes, memory = done.stdout.splitlines()
    assert sizes.count("(224, 224)") == 4
    assert int(memory.split()[0]) < 900


@counts_memory
def test_huge_photos_at_once_take_the_memory_of_one(tmp_path: Path) -> None:
    """Progressive JPEGs, whose coefficients are kept whole however small they come; and all is given back."""
    path = tmp_path / "huge.jpg"
    Image.new("RGB", (9900, 9900)).save(path, "JPEG", progressive=True)
    script = """
import sys
from threading import Thread
from captionbot.images.load import load_image
threads = [Thread(target=load_image, args=(sys.argv[1], None, 512)) for _ in range(4)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script + MEMORY, path], capture_output=True, text=True
    )
    most, last = map(int, done.stdout.split())
    assert most < 1200
    assert last < 300


# What a file holds beside its picture


@pytest.mark.parametrize("kind", ["iTXt", "zTXt", "iCCP"])
def test_a_png_with_much_metadata_is_a_good_photo(kind: str) -> None:
    text, options = PngInfo(), {}
    if kind == "iCCP":
        options["icc_profile"] = bytes(1_500_000)
    elif kind == "iTXt":
        text.add_itxt("workflow", "n" * 1_500_000, zip=True)
    else:
        text.add_text("workflow", "n" * 1_500_000, zip=True)
    assert_alike(load_image(encoded(corners(), pnginfo=text, **options)), corners())


def claims(entries: int, size: int) -> bytes:
    """An EXIF block in which every entry claims all of its bytes."""
    directory = b"".join(struct.pack(">HHII", 40_000 + n, 1, size, 8) for n in range(entries))
    return b"MM\0*" + struct.pack(">IH", 8, entries) + directory + bytes(size)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_an_exif_block_cannot_claim_more_than_there_is(kind: str) -> None:
    exif = claims(2000, 40_000) if kind == "JPEG" else claims(3000, 3_000_000)
    if kind == "TIFF":
        data = exif
    else:
        blank = b"MM\0*\0\0\0\x08\0\0" + bytes(len(exif) - 10)
        data = encoded(corners(), kind, exif=blank).replace(blank, exif)
    tracemalloc.start()
    try:
        with suppress(CaptionBotError):
            load_image(data)
        assert tracemalloc.get_traced_memory()[1] < 5 * len(data) + 5_000_000
    finally:
        tracemalloc.stop()


def test_pixels_that_look_like_a_container_are_pixels() -> None:
    """Grey of 79 and 81 with no transparency is how a JPEG 2000 begins."""
    image = Image.new("LA", (8, 8), (79, 255))
    image.paste((81, 255), (4, 0, 8, 8))
    for kind in ("TGA", "PNG"):
        assert load_image(encoded(image, kind)).getpixel((7, 7)) == (81, 81, 81)


@pytest.mark.parametrize("tag", [700, 34665, 65_000])
def test_a_tiff_survives_entries_that_lie(tag: int) -> None:
    """An entry of two numbers whose place is beyond the end of the file."""
    entry = struct.pack("<HHII", tag, 4, 2**31, 2**31)
    data = tiff(2, 1, b"\x10\x20", t258=8, t262=1)
    at = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, at)[0]
    lies = data[:at] + struct.pack("<H", count + 1) + data[at + 2 : -4] + entry + bytes(4)
    assert load_image(lies).getpixel((1, 0)) == (32, 32, 32)


def test_a_tiff_of_an_endless_fax_is_refused() -> None:
    with pytest.raises(CaptionBotError, match="a side may have 100,000"):
        load_image(tiff(1, 99_999_999, bytes(2000), t258=1, t259=3, t262=0))


@pytest.mark.parametrize("name", ["IMG_1.HEIC", "a.jxl", "b.NEF"])
def test_photos_that_are_not_read_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" if "HEIC" in name else b"II*\0" + bytes(60)
    )
    ((found, said),) = loaded(find_images([tmp_path]))
    assert found.endswith(name)
    assert re.search(r"is a (HEIC|JPEG XL|camera raw) photo, which is|damaged", said)


# Numbers for the encoders

IMAGENET = Preprocessing((24, 40), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos"])
@pytest.mark.parametrize("exact", [True, False])
def test_pixel_values(shared: Path, interpolation: str, exact: bool) -> None:
    photos = [load_image(path) for path in sorted((shared / "data" / "photos").glob("*.jpg"))[:3]]
    preprocessing = Preprocessing((224, 200), IMAGENET.mean, IMAGENET.std, interpolation, exact=exact)
    values = to_pixel_values(photos, preprocessing)
    assert values.shape == (3, 3, 224, 200)
    assert values.dtype == torch.float32
    resample = getattr(Image.Resampling, interpolation.upper())
    for value, photo in zip(values, photos, strict=True):
        plain = np.asarray(photo.resize((200, 224), resample), np.float32) / 255
        expected = (plain - np.array(IMAGENET.mean)) / np.array(IMAGENET.std)
        errors = np.abs(value.permute(1, 2, 0).numpy() - expected)
        if not exact and interpolation != "lanczos":  # torch's filters: 1 of 255 off here and there
            assert np.median(errors) < 1e-5
            assert (errors > 1e-5).mean() < 0.01
            errors = np.maximum(errors - 1 / 255 / min(IMAGENET.std), 0)
        assert errors.max() < 1e-5


@pytest.mark.parametrize("size", [(17, 5), (64, 64), (90, 20)])
def test_quick_filters_are_pillows(size: tuple[int, int]) -> None:
    image = Image.effect_noise(size, 90).convert("RGB")
    quick, exact = (
        squash(image, Preprocessing((32, 24), (0, 0, 0), (1, 1, 1), exact=exact)).astype(int)
        for exact in (False, True)
    )
    assert np.abs(quick - exact).max() <= 1


def test_shrinking_a_large_photo_in_two_goes_is_not_seen(shared: Path) -> None:
    photo = load_image(next((shared / "data" / "photos").glob("*.jpg"))).resize((4000, 3000))
    values = to_pixel_values([photo], Preprocessing((224, 224), (0, 0, 0), (1, 1, 1)))[0]
    plain = np.asarray(photo.resize((224, 224), Image.Resampling.BICUBIC), np.float32) / 255
    assert np.abs(values.permute(1, 2, 0).numpy() - plain).mean() < 1 / 255


def test_squashed_so_that_every_pixel_is_seen() -> None:
    values = to_pixel_values([corners((400, 40))], Preprocessing((20, 20), (0, 0, 0), (1, 1, 1)))[0] * 255
    assert close(values[:, 4, 4].numpy(), GREEN)
    assert close(values[:, 15, 15].numpy(), BLUE)


def test_a_batch_is_what_its_images_are_alone() -> None:
    batch = [corners(), corners((31, 77)), Image.new("RGB", (1, 1), RED)]
    together = to_pixel_values(batch, IMAGENET)
    assert torch.equal(together, torch.cat([to_pixel_values([image], IMAGENET) for image in batch]))
    assert to_pixel_values([], IMAGENET).shape == (0, 3, 24, 40)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"size": (0, 3)}, "size must be"),
        ({"mean": (0.5,)}, "three numbers each"),
        ({"std": (1.0, 0.0, 1.0)}, "three numbers each"),
        ({"interpolation": "nearest"}, "one of bicubic, bilinear"),
    ],
)
def test_preprocessing_is_checked(change: dict[str, object], sentence: str) -> None:
    good = {"size": (2, 3), "mean": (0.0,) * 3, "std": (1.0,) * 3}
    with pytest.raises(ValueError, match=sentence):
        Preprocessing(**good | change)


def test_boxes_to_image() -> None:
    boxes = np.array([[0, 0, 1, 1], [0.25, 0.5, 0.5, 1]], np.float32)
    pixels = boxes_to_image(boxes, (200, 100))
    assert pixels.tolist() == [[0, 0, 200, 100], [50, 50, 100, 100]]
    assert boxes_to_image(np.zeros((0, 4), np.float32), (200, 100)).shape == (0, 4)


def test_threads_share_nothing() -> None:
    data = [encoded(corners((40 + n, 20))) for n in range(8)]
    sizes: dict[int, tuple[int, int]] = {}
    threads = [
        threading.Thread(target=lambda n=n: sizes.update({n: load_image(data[n]).size})) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == {n: (40 + n, 20) for n in range(8)}


def test_folders_may_lie_in_each_other_deeper_than_python_recurses(tmp_path):
    top = os.open(tmp_path, os.O_RDONLY)
    here = top
    for _ in range(1_500):  # one by one: as a whole the path would be too long for the system
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        if here != top:
            os.close(here)
        here = below
    os.close(here)
    os.close(top)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    found = [source.name for source in find_images([tmp_path])]
    subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)  # pytest's own clean-up would recurse
    assert str(tmp_path / "a.png") in found
