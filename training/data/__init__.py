"""What every data set becomes: a list of examples, and a store of photos by file name.

`training.data.formats.load_dataset` reads any of the usual data sets; each reader has a module of its own.
"""

from __future__ import annotations

import tarfile
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from PIL import Image

from captionbot.errors import CaptionBotError, shortened
from captionbot.images.formats import is_hidden, is_photo
from captionbot.images.load import load_image
from training.data.files import nearest, told_apart, walk


@dataclass(frozen=True)
class Example:
    """One image of a data set and what people wrote about it.

    name: file name of the image; with its folders where images of two folders have it.
    captions: as they were written, not tokenised.
    split: "train", "val" or "test".
    image_id: what files of results call the image by, a number as a rule, where the data set has such
        (COCO's).
    source: which data set of a mixture it is of. repeat: how often an epoch of training sees it, on average.
    """

    name: str
    captions: tuple[str, ...]
    split: str
    image_id: int | str | None = None
    source: str = ""
    repeat: float = 1

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):  # as a number in JSON would be
            raise TypeError(f"the image's name {self.name!r} is not text")


class Span(NamedTuple):
    """Where the bytes of one image lie."""

    path: Path
    offset: int
    size: int


class ImageStore:
    """Bytes of images by file name, from folders and tar files alike.

    It keeps places, not open files: every read opens, seeks and closes. Threads, forked workers and
    pickled copies can therefore share one.

    An image is called by its file's name, and where two folders have one of that name by its path. A name
    finds its image also where the two differ in folders, as long as the last of these tell which is meant, or
    as systems let them: in the case of the ending, or in accents that are characters of their own, as on
    macOS.
    """

    def __init__(self, spans: dict[str, Span]) -> None:
        self._spans = spans
        self._alike: dict[str, list[str]] = {}
        for name in spans:
            self._alike.setdefault(_key(PurePosixPath(name).name), []).append(name)

    def find(self, name: str) -> str | None:
        """What the store calls the image of a name; None where none, or more than one, may be meant."""
        if name in self._spans:
            return name
        file = PurePosixPath(name).name
        alike = self._alike.get(_key(file), [])
        # one whose file has this very name goes before those that differ in accents or case
        meant = [found for found in alike if PurePosixPath(found).name == file] or alike
        meant = nearest(name, meant)
        return meant[0] if len(meant) == 1 else None

    @classmethod
    def joined(cls, stores: Iterable[ImageStore]) -> ImageStore:
        """The images of several; CaptionBotError where two of them have an image of one file name."""
        spans: dict[str, Span] = {}
        whose: dict[str, tuple[int, Span]] = {}
        for number, store in enumerate(stores):
            for name, span in store._spans.items():
                file = PurePosixPath(name).name
                other, where = whose.setdefault(file, (number, span))
                if other != number:
                    raise CaptionBotError(
                        f"Two images are called '{file}', in {where.path} and {span.path}; captions of a "
                        "mixture go by file name, so rename one."
                    )
                spans[name] = span
        return cls(spans)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None

    def __len__(self) -> int:
        return len(self._spans)

    def names(self) -> list[str]:
        return list(self._spans)

    def __getitem__(self, name: str) -> bytes:
        """The file as it lies there. Raises CaptionBotError for an unknown name or a file that has shrunk."""
        found = self.find(name)
        if found is None and len(several := self._alike.get(_key(PurePosixPath(name).name), [])) > 1:
            raise CaptionBotError(
                f"'{shortened(name)}' may be any of {len(several)} images, such as {shortened(several[0])} "
                f"and {shortened(several[1])}; name the folder too."
            )
        if found is None:
            places = ", ".join(sorted({str(span.path.parent) for span in self._spans.values()}))
            raise CaptionBotError(
                f"There is no image '{shortened(name)}' among the {len(self)} under {shortened(places)}; "
                "check that images and captions are of the same data set."
            )
        path, offset, size = self._spans[found]
        try:
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(size)
        except OSError as error:
            raise CaptionBotError(f"Image '{name}' cannot be read from {path}: {error.strerror}.") from error
        if len(data) != size:
            raise CaptionBotError(f"{path} has changed since it was opened: image '{name}' is cut off.")
        return data

    def load(self, name: str) -> Image.Image:
        """The image, upright and RGB. Raises CaptionBotError that names it where it cannot be read."""
        data = self[name]
        try:
            return load_image(data)
        except CaptionBotError as error:
            raise CaptionBotError(f"{name}: {error}") from error


def photos_beside(data: str | Path) -> Path:
    """Where the photos of a data set lie: in its folder, or in that of its file."""
    return Path(data) if Path(data).is_dir() else Path(data).parent


def open_images(path: str | Path) -> ImageStore:
    """The images of a tar file, or of a folder with all its subfolders and tar files, in order of name.

    Raises CaptionBotError if there are none, or two of one name in tar files.
    """
    path = Path(path)
    if not path.exists():
        raise CaptionBotError(f"There are no images at {path}: give a folder or an uncompressed .tar file.")
    spans: dict[PurePosixPath, Span] = {}
    for place, span in _spans(path):
        if place in spans:
            raise CaptionBotError(
                f"Two images are called '{place}', in {spans[place].path} and {span.path}; captions go by "
                "name, so rename one."
            )
        spans[place] = span
    if not spans:
        raise CaptionBotError(
            f"There are no images in {path}: give a folder or .tar file with .jpg, .png or other photos."
        )
    names = told_apart(spans)
    return ImageStore({names[place]: spans[place] for place in sorted(spans, key=names.__getitem__)})


def _spans(path: Path) -> Iterator[tuple[PurePosixPath, Span]]:
    """Paths of images below a folder or within a tar, and where they lie."""
    if path.is_dir():
        for file in walk(path):
            if file.suffix.lower() == ".tar":
                yield from _members(file)
            elif is_image(file.name):
                place = PurePosixPath(file.relative_to(path).as_posix())
                yield place, Span(file, 0, file.stat().st_size)
    else:
        yield from _members(path)


def _members(path: Path) -> Iterator[tuple[PurePosixPath, Span]]:
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                place = PurePosixPath(member.name)
                if member.isreg() and is_image(place.name):
                    yield place, Span(path, member.offset_data, member.size)
            if not _ends_well(tar):
                raise tarfile.ReadError("it breaks off")
    except (tarfile.TarError, OSError) as error:
        raise CaptionBotError(f"{path} is not a whole, uncompressed .tar file: {error}.") from error


def is_image(name: str) -> bool:
    """Whether a file is a photo by its name; not those with a dot that macOS leaves beside each photo."""
    return is_photo(Path(name)) and not is_hidden(name)


def _key(name: str) -> str:
    stem, dot, ending = unicodedata.normalize("NFC", name).rpartition(".")
    return stem + dot + ending.lower()


def _ends_well(tar: tarfile.TarFile) -> bool:
    """tarfile takes a header that is cut off or damaged for the end, which really is a block of zeros."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    return tar.fileobj.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
