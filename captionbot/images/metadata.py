"""Descriptions of photos where other programs look for them: XMP sidecars, and XMP and IPTC in the file.

A description goes to dc:description (x-default), which Lightroom calls its caption and digiKam its
description, to the alt text of IPTC Core (`Iptc4xmpCore:AltTextAccessibility`), and, in formats that have
it, to IPTC's Caption-Abstract. Everything else that a file says about itself stays.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from captionbot.errors import CaptionBotError, shortened
from captionbot.extras import require
from captionbot.files import aside

NAMESPACES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
}
FORMATS = "JPEG, PNG, TIFF, WebP or JPEG 2000"
MAX_SIDECAR = 16_000_000  # bytes
_PROPERTIES = ("dc:description", "Iptc4xmpCore:AltTextAccessibility")
_DEFAULT = 'lang="x-default"'  # as exiv2 names a language
_XMP = ("Xmp.dc.description", "Xmp.iptc.AltTextAccessibility")
_CAPTION, _CHARACTERS, _UTF8 = "Iptc.Application2.Caption", "Iptc.Envelope.CharacterSet", "\x1b%G"


def sidecar_of(photo: Path) -> Path:
    """dog.jpg -> dog.jpg.xmp, where digiKam and darktable look for it."""
    return photo.with_name(f"{photo.name}.xmp")


def sidecar(text: str, before: bytes | None = None) -> bytes:
    """The bytes of an XMP file with a description.

    before: of the file that is there, whose other properties stay.
    Raises CaptionBotError where that is no XMP.
    """
    for prefix, address in NAMESPACES.items():
        ET.register_namespace(prefix, address)
    root, abouts = _empty() if before is None else _parsed(before)
    for name in _PROPERTIES:
        having = (about for about in abouts if about.find(name, NAMESPACES) is not None)
        _set(next(having, abouts[0]), name, text)
    body = ET.tostring(root, encoding="unicode")
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n' + body + '\n<?xpacket end="w"?>\n'
    ).encode()


def described(data: bytes) -> str | None:
    """The description (x-default) that the bytes of an XMP file have; None without one."""
    for about in _parsed(data)[1]:
        item = about.find("dc:description/rdf:Alt/rdf:li", NAMESPACES)
        found = about.get(_tag("dc:description")) if item is None else item.text or ""
        if found is not None:
            return found
    return None


def write_sidecar(photo: Path, text: str, replace: bool = False) -> bool:
    """Writes a description beside a photo; False where another one is there, which stays unless `replace`.

    Raises CaptionBotError for a sidecar that is no XMP, and OSError.
    """
    path = sidecar_of(photo)
    before = path.read_bytes() if path.exists() else None
    if before is not None:
        if len(before) > MAX_SIDECAR:
            raise CaptionBotError(f"{shortened(path)} is too large to be XMP: move it.")
        try:
            there = described(before)
        except CaptionBotError as error:
            raise CaptionBotError(f"{shortened(path)} {error}") from None
        if there == text:
            return True
        if there and not replace:
            return False
    with aside(path) as partial:
        partial.write_bytes(sidecar(text, before))
    return True


def _empty() -> tuple[ET.Element, list[ET.Element]]:
    root = ET.Element(_tag("x:xmpmeta"))
    rdf = ET.SubElement(root, _tag("rdf:RDF"))
    return root, [ET.SubElement(rdf, _tag("rdf:Description"), {_tag("rdf:about"): ""})]


def _parsed(data: bytes) -> tuple[ET.Element, list[ET.Element]]:
    """The tree, and the elements in it that have properties, at least one."""
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:  # which could grow without end
        raise CaptionBotError("is no XMP that is read: it defines entities; move it.")
    try:
        for _, (prefix, address) in ET.iterparse(io.BytesIO(data), ["start-ns"]):
            with contextlib.suppress(ValueError):  # a prefix that ElementTree reserves
                ET.register_namespace(prefix, address)
        root = ET.fromstring(data)
    except (ET.ParseError, ValueError) as error:
        raise CaptionBotError(f"is no XMP ({error}): mend or move it.") from None
    rdf = root if root.tag == _tag("rdf:RDF") else root.find("rdf:RDF", NAMESPACES)
    if rdf is None:
        raise CaptionBotError("is no XMP (it has no rdf:RDF): mend or move it.")
    abouts = rdf.findall("rdf:Description", NAMESPACES)
    return root, abouts or [ET.SubElement(rdf, _tag("rdf:Description"), {_tag("rdf:about"): ""})]


def _set(about: ET.Element, name: str, text: str) -> None:
    """Sets the default language of a property; the text in other languages stays."""
    about.attrib.pop(_tag(name), None)
    found = about.find(name, NAMESPACES)
    if found is None:
        found = ET.SubElement(about, _tag(name))
    items = found.find("rdf:Alt", NAMESPACES)
    if items is None:
        items = ET.SubElement(found, _tag("rdf:Alt"))
    language = "{http://www.w3.org/XML/1998/namespace}lang"
    item = next((item for item in items if item.get(language) == "x-default"), None)
    if item is None:
        item = ET.Element(_tag("rdf:li"), {language: "x-default"})
        items.insert(0, item)
    item.text = text


def _tag(name: str) -> str:
    prefix, _, local = name.partition(":")
    return f"{{{NAMESPACES[prefix]}}}{local}"


def require_embedding() -> None:
    require("pyexiv2", "metadata", "Writing descriptions into photos")


def embed(photo: Path, text: str, replace: bool = False) -> bool:
    """Writes a description into a photo's own file, all of it at once; False where another one is there,
    which stays unless `replace`.

    Not one byte of the picture changes: where that is not so the file stays as it is.
    Raises CaptionBotError for formats that have no room for descriptions, and OSError.
    """
    before = photo.read_bytes()
    after = embedded(before, text, replace, shortened(photo))
    if after is None:
        return False
    if after != before:
        photo = photo.resolve()  # a link stays one
        with aside(photo) as partial:
            partial.write_bytes(after)
            shutil.copystat(photo, partial)
            with contextlib.suppress(OSError, AttributeError):  # who may not give files away keeps them
                os.chown(partial, photo.stat().st_uid, photo.stat().st_gid)
    return True


def embedded(data: bytes, text: str, replace: bool = False, name: str = "the photo") -> bytes | None:
    """The bytes of a photo with a description in it; None where another one is there, unless `replace`."""
    require_embedding()
    import pyexiv2

    try:
        with pyexiv2.ImageData(data) as image:
            access = image.get_access_mode()
            if access["xmp"] != "read+write":
                raise CaptionBotError(
                    f"{name} has no room for a description, which {FORMATS} have: write a sidecar."
                )
            there = _descriptions(image)
            if any(found != text for found in there.values()) and not replace:
                return None
            if len(there) == 2 and set(there.values()) == {text}:
                return data
            image.modify_xmp({key: {**_languages(image, key), _DEFAULT: text} for key in _XMP})
            if access["iptc"] == "read+write":
                _write_iptc(image, text)
            after: bytes = image.get_bytes()
    except RuntimeError as error:  # of exiv2
        raise CaptionBotError(f"{name} cannot be given a description ({shortened(error)}).") from None
    if not _same_picture(data, after):
        raise CaptionBotError(f"{name} would not stay the same picture: it is left as it is.")
    return after


def _languages(image: Any, key: str) -> dict[str, str]:
    found = image.read_xmp().get(key, {})
    return found if isinstance(found, dict) else {_DEFAULT: str(found)}


def _descriptions(image: Any) -> dict[str, str]:
    """What programs show, by where it stands; empty ones are none."""
    found = {_XMP[0]: _languages(image, _XMP[0]).get(_DEFAULT, "")}
    with contextlib.suppress(RuntimeError, UnicodeDecodeError):
        found[_CAPTION] = str(image.read_iptc().get(_CAPTION, ""))
    return {key: text for key, text in found.items() if text.strip()}


def _write_iptc(image: Any, text: str) -> None:
    """The caption, in UTF-8; not at all where that would change what the other fields mean."""
    try:
        there = image.read_iptc()
    except (RuntimeError, UnicodeDecodeError):  # fields in another encoding
        return
    others = [value for key, value in there.items() if key not in (_CAPTION, _CHARACTERS)]
    if there.get(_CHARACTERS) != _UTF8 and not "".join(map(str, others)).isascii():
        return
    image.modify_iptc({_CHARACTERS: _UTF8, _CAPTION: text})


def _same_picture(before: bytes, after: bytes) -> bool:
    """Whether two files hold the same picture: the same bytes of it in a JPEG, the same pixels of others."""
    if before[:2] == b"\xff\xd8":
        if _scans(before) != _scans(after):
            return False
        if b"MPF\0" not in before:  # which says where in the file more pictures lie
            return True
    from PIL import Image

    with Image.open(io.BytesIO(before)) as one, Image.open(io.BytesIO(after)) as other:
        frames = getattr(one, "n_frames", 1)
        if (one.mode, one.size, frames) != (other.mode, other.size, getattr(other, "n_frames", 1)):
            return False
        for frame in range(frames):
            one.seek(frame)
            other.seek(frame)
            if one.tobytes() != other.tobytes():
                return False
    return True


def _scans(jpeg: bytes) -> bytes:
    """All of a JPEG but its application segments and comments, which hold no pixels."""
    kept, at = [jpeg[:2]], 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF:
        marker, length = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if marker == 0xDA:  # the scan: everything that follows
            break
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(jpeg[at : at + 2 + length])
        at += 2 + length
    return b"".join([*kept, jpeg[at:]])
