"""Many photos of one visitor: small as soon as they are read, captioned a few at a time, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from captionbot.bulk.folder import load_ahead
from captionbot.bulk.records import Result
from captionbot.draw.files import data_url
from captionbot.draw.overlays import fit
from captionbot.errors import CaptionBotError, displayable
from captionbot.images.load import ImageSource, Preprocessing, squash
from captionbot.pages.limits import MAX_BATCH_PHOTOS, PHOTOS_AHEAD, PHOTOS_AT_ONCE

if TYPE_CHECKING:
    from captionbot.bulk.folder import Loaded


class Small(NamedTuple):
    """A photo at the size that an encoder wants, and smaller still as a data URL."""

    image: Image.Image
    thumbnail: str


def caption_photos(
    sources: Iterable[ImageSource],
    wanted: Preprocessing,
    caption: Callable[[list[Loaded]], list[Result]],
    thumbnail: int,
) -> Iterator[tuple[Result, str]]:
    """Captions of photos in their order, or why there are none; each with a small picture as a data URL, ""
    of a bad one.

    wanted: an encoder's; no photo is held at its own size but the one that is being decoded.
    caption: of a few photos, called anew for every few, so that it can wait for its turn.
    thumbnail: the longest side of the small pictures in pixels.
    """
    read = (
        ImageSource(
            displayable(source.name),
            partial(_small, source, wanted, thumbnail),  # type: ignore[arg-type]  # loads more than an image
            source.held,
        )
        for source in _at_most(sources)
    )
    loaded: Iterator[tuple[str, Any]] = load_ahead(read, PHOTOS_AHEAD, loaders=1)
    while some := list(islice(loaded, PHOTOS_AT_ONCE)):
        results = caption([(name, getattr(found, "image", found)) for name, found in some])
        for result, (_, found) in zip(results, some, strict=True):
            yield result, getattr(found, "thumbnail", "")


def _at_most(sources: Iterable[ImageSource]) -> Iterator[ImageSource]:
    for number, source in zip(count(), sources, strict=False):
        if number == MAX_BATCH_PHOTOS:
            yield ImageSource(source.name, _too_many)
            return
        yield source


def _too_many(at_least: int) -> Image.Image:
    raise CaptionBotError(
        f"A batch has {MAX_BATCH_PHOTOS:,} photos at most, and this one and those after it are left out: "
        "give them apart, or use the command line, which has no limit."
    )


def _small(source: ImageSource, wanted: Preprocessing, thumbnail: int) -> Small:
    try:
        image = source.load(2 * max(wanted.size))  # as `captionbot.bulk.folder.small`
        return Small(Image.fromarray(squash(image, wanted)), data_url(fit(image, thumbnail)))
    except CaptionBotError as error:
        raise CaptionBotError(displayable(str(error))) from error
