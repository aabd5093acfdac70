"""Descriptions in sidecars and in photos, read back by other programs than the one that writes them."""

from __future__ import annotations

import importlib.util
import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, IptcImagePlugin

from captionbot.errors import CaptionBotError
from captionbot.images.metadata import described, embed, embedded, sidecar, sidecar_of, write_sidecar

needs_pyexiv2 = pytest.mark.skipif(importlib.util.find_spec("pyexiv2") is None, reason="needs pyexiv2")
TEXT = "A dög & a <cat>."


def picture(format: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def xmp_of(data: bytes) -> str:
    """The packet of a file as it stands there, found without the library that wrote it."""
    start = data.index(b"<x:xmpmeta")
    return data[start : data.index(b"</x:xmpmeta>", start) + 12].decode()


@needs_pyexiv2
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "JPEG2000"])
def test_a_description_is_in_the_file_and_the_picture_is_the_same(format):
    before = picture(format)
    after = embedded(before, TEXT)
    assert after is not None
    assert described(xmp_of(after).encode()) == TEXT
    assert "AltTextAccessibility" in xmp_of(after)
    first, second = (Image.open(io.BytesIO(data)) for data in (before, after))
    assert first.tobytes() == second.tobytes()
    if format == "JPEG":
        assert after.endswith(before[before.index(b"\xff\xdb") :])  # tables and scan, byte by byte
        assert IptcImagePlugin.getiptcinfo(second)[2, 120] == TEXT.encode()
        assert IptcImagePlugin.getiptcinfo(second)[1, 90] == b"\x1b%G"  # UTF-8
    assert embedded(after, TEXT) == after
    assert embedded(after, "Another.") is None
    replaced = embedded(after, "Another.", replace=True)
    assert described(xmp_of(replaced or b"").encode()) == "Another."


@needs_pyexiv2
def test_a_photo_that_has_no_room_stays_as_it_is_and_one_that_has_keeps_its_mode(tmp_path: Path):
    (tmp_path / "a.bmp").write_bytes(picture("BMP"))
    with pytest.raises(CaptionBotError, match=r"a\.bmp has no room for a description"):
        embed(tmp_path / "a.bmp", TEXT)
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8 no photo")
    with pytest.raises(CaptionBotError, match=r"a\.jpg cannot be given a description"):
        embed(tmp_path / "a.jpg", TEXT)
    photo, link = tmp_path / "b.jpg", tmp_path / "link.jpg"
    photo.write_bytes(picture("JPEG"))
    photo.chmod(0o640)
    link.symlink_to(photo)
    assert embed(link, TEXT)
    assert link.is_symlink()
    assert photo.stat().st_mode & 0o777 == 0o640
    assert TEXT.encode() in photo.read_bytes() or b"A d\xc3\xb6g &amp;" in photo.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bmp", "a.jpg", "b.jpg", "link.jpg"]


@needs_pyexiv2
def test_fields_in_another_encoding_keep_their_meaning():
    city = b"\x1c\x02\x5a\x00\x07M\xfcnchen"  # IPTC's 2:90 in Latin-1, without a word on its encoding
    block = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + len(city).to_bytes(4, "big") + city
    jpeg = picture("JPEG")
    before = jpeg[:2] + b"\xff\xed" + (len(block) + 2).to_bytes(2, "big") + block + jpeg[2:]
    after = embedded(before, TEXT) or b""
    assert city in after
    assert b"\x1b%G" not in after
    assert described(xmp_of(after).encode()) == TEXT


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="needs exiftool")
def test_exiftool_reads_a_sidecar(tmp_path: Path):
    (tmp_path / "a.xmp").write_bytes(sidecar(TEXT))
    read = subprocess.run(
        ["exiftool", "-s3", "-XMP-dc:Description", "-XMP-iptcCore:AltTextAccessibility", tmp_path / "a.xmp"],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    assert read.stdout.splitlines() == [TEXT, TEXT]


RATED = b"""<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"
 xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt>
<rdf:li xml:lang="x-default">Mine</rdf:li>
<rdf:li xml:lang="de">Meins</rdf:li></rdf:Alt></dc:description></rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def test_a_sidecar_that_is_there_keeps_what_a_person_wrote(tmp_path: Path):
    photo = tmp_path / "a.jpg"
    assert write_sidecar(photo, TEXT)
    assert sidecar_of(photo).name == "a.jpg.xmp"
    assert described(sidecar_of(photo).read_bytes()) == TEXT
    sidecar_of(photo).write_bytes(RATED)
    assert not write_sidecar(photo, TEXT)
    assert sidecar_of(photo).read_bytes() == RATED
    assert write_sidecar(photo, TEXT, replace=True)
    written = sidecar_of(photo).read_text()
    assert described(written.encode()) == TEXT
    assert 'xmp:Rating="4"' in written
    assert '<rdf:li xml:lang="de">Meins</rdf:li>' in written


@pytest.mark.parametrize(
    "data", [b"Dear diary", b"<a/>", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', b"\xff\xfe"]
)
def test_a_sidecar_that_is_none_is_refused(tmp_path: Path, data):
    photo = tmp_path / "a.jpg"
    sidecar_of(photo).write_bytes(data)
    with pytest.raises(CaptionBotError, match=r"a\.jpg\.xmp is no XMP"):
        write_sidecar(photo, TEXT, replace=True)
    assert sidecar_of(photo).read_bytes() == data
