"""What page and endpoints ask of the captioners. One captioner is in memory at a time."""

from __future__ import annotations

import io
import secrets
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial, wraps
from pathlib import Path
from typing import Any, NamedTuple

try:
    import spaces  # on ZeroGPU it patches torch, so it comes first
except ImportError:
    spaces = None

import numpy as np
from PIL import Image

from captionbot import CaptionBotError, Captioned, Captioner, SearchOptions
from captionbot.bulk.folder import caption_each
from captionbot.bulk.records import Result
from captionbot.draw import beam_tree
from captionbot.draw.overlays import DISPLAY, fit
from captionbot.errors import shortened
from captionbot.explain import counterfactuals as explore
from captionbot.explain import maps as explain
from captionbot.explain.maps import Faithfulness, WordMaps
from captionbot.images.load import ImageSource, Preprocessing, find_images, load_image
from captionbot.pages.batches import caption_photos
from captionbot.pages.fetching import fetch_photo
from captionbot.pages.limits import MAX_PHOTO_MEGABYTES, MAX_SIDE
from captionbot.pages.resident import captioners, resident, resident_upload
from captionbot.pages.turns import turn
from captionbot.pages.uploads import MAX_MEGABYTES
from captionbot.store.card import Card
from captionbot.store.registry import find_card
from captionbot.text.vocabulary import load_vocabulary
from captionbot.types import Caption, Features, Size, Word

TITLES = captioners()
MODELS = [*TITLES]
DEFAULT = find_card().stem
MOST_COMPARED, FIRST_COMPARED = 4, 3
MOST_OWN = 3  # captioners that visitors uploaded, of all sessions together
_YOURS = " (yours) "
THUMBNAIL = 96  # pixels


class Evidence(NamedTuple):
    """What the words of one caption rest on.

    maps: its attention, or what it misses where a piece of the photo is hidden.
    looked: the caption with these as its alphas, so that every drawing shows them.
    rivals, gates: of `explore.rivals` and `explore.gates`.
    """

    maps: WordMaps
    looked: Caption
    rivals: tuple[tuple[Word, ...], ...]
    gates: np.ndarray | None

    @property
    def attends(self) -> bool:
        """Whether the maps are the captioner's own attention."""
        return self.maps.method == "attention"

    @property
    def label(self) -> str:
        """What the maps are, for a person."""
        return self.maps.label


class Own(NamedTuple):
    """A captioner that a visitor uploaded. files: as `uploads.load_captioner` takes them."""

    files: tuple[tuple[str, bytes], ...]
    card: Card


_own: dict[str, Own] = {}  # by a name that only its session knows, the oldest first


def on_gpu(function: Any) -> Any:
    """A function of a captioner's name, that waits for its turn and is lent the GPU of a ZeroGPU Space.

    ZeroGPU runs it in a copy of this process that is thrown away, so the captioner is woken here, before.
    """
    lent = spaces.GPU(function) if spaces is not None else None

    @wraps(function)
    def call(model: str, *args: Any, **options: Any) -> Any:
        with turn():
            if lent is None:
                return function(model, *args, **options)
            captioner(model)
            return lent(model, *args, **options)

    return call


def captioner(model: str) -> Captioner:
    """The one captioner that is in memory: another takes its place."""
    own = _own.get(model)
    return resident_upload(own.files) if own else resident(known(model))


def known(model: str) -> str:
    """The name itself where such a captioner ships, or its session uploaded it: strangers name no other
    files of the server."""
    if model in MODELS or model in _own:
        return model
    if _YOURS in model:
        raise CaptionBotError(
            f"Your captioner '{shortened(public(model))}' was let go after a while: upload it again."
        )
    raise CaptionBotError(f"There is no captioner '{shortened(model)}'; choose one of {', '.join(MODELS)}.")


def public(model: str) -> str:
    """A captioner's name as it may be told: of an upload, without what only its session knows."""
    return model.partition(_YOURS)[0]


def title(model: str) -> str:
    """What people are shown for a captioner's name; an upload has the name that its visitor gave it."""
    return TITLES.get(model) or public(model)


def choices(own: str) -> list[tuple[str, str]]:
    """What a session can choose from, as labels and names; own: of `adopt`, "" without one."""
    return [
        *((title, name) for name, title in TITLES.items()),
        *([(f"{public(own)} (yours)", own)] if own else []),
    ]


def adopt(files: Sequence[tuple[str, bytes]], before: str = "") -> str:
    """The name under which one session finds the captioner of its files; it begins with its card's name.

    before: the session's last upload, which makes room.
    Raises CaptionBotError as `uploads.load_captioner` does.
    """
    with turn():
        card = resident_upload(files).card
    let_go(before)
    name = f"{card.name}{_YOURS}{secrets.token_hex(8)}"
    _own[name] = Own(tuple(files), card)
    while len(_own) > MOST_OWN or (len(_own) > 1 and _own_bytes() > MAX_MEGABYTES * 1_000_000):
        let_go(next(iter(_own)))
    return name


def _own_bytes() -> int:
    return sum(len(data) for own in _own.values() for _, data in own.files)


def let_go(own: str) -> None:
    """Forget an upload; "" is none."""
    _own.pop(own, None)


def card_of(model: str) -> Card:
    own = _own.get(model)
    return own.card if own else _shipped_card(known(model))


@lru_cache
def _shipped_card(model: str) -> Card:
    return Card.load(find_card(model))


def usual(model: str) -> SearchOptions:
    """The search options that a captioner was chosen with."""
    return SearchOptions(**card_of(model).search)


def vocabulary_of(model: str) -> Any:
    if model not in _own:
        return _shipped_vocabulary(known(model))
    with turn():
        return captioner(model).vocabulary


@lru_cache(maxsize=8)
def _shipped_vocabulary(model: str) -> Any:
    return load_vocabulary(_shipped_card(model).vocabulary)


def read_upload(path: str, name: str = "This photo") -> Image.Image:
    """The photo of an upload. Not as Gradio reads it, which takes fewer kinds of image and forgets EXIF.

    name: what a mistake calls it.
    """
    if Path(path).stat().st_size > MAX_PHOTO_MEGABYTES * 1_000_000:
        raise CaptionBotError(f"{name} is larger than {MAX_PHOTO_MEGABYTES} MB: make it smaller.")
    file = io.BytesIO(Path(path).read_bytes())
    file.name = name
    return load_image(file, at_most=MAX_SIDE)


def photo_at(url: str) -> Image.Image:
    """The photo at an address, at display size."""
    file = io.BytesIO(fetch_photo(url))
    file.name = shortened(url)
    return fit(load_image(file, at_most=2 * DISPLAY))


@on_gpu
def look(
    model: str, image: Image.Image, options: SearchOptions, prefix: str, banned: str
) -> tuple[Captioned, Evidence]:
    """The captions of a photo, and what the best of them rests on."""
    bot = captioner(model)
    features = bot.encode([image])
    (captioned,) = bot.caption_features(
        features, [Size(*image.size)], options, prefix=prefix, banned_words=[banned]
    )
    return captioned, _evidence(bot, image, captioned.captions[0], "auto", features)


@on_gpu
def evidence(model: str, image: Image.Image, caption: Caption, method: str = "auto") -> Evidence:
    """What the words of a caption rest on, by one of `explain.METHODS`."""
    return _evidence(captioner(model), image, caption, method)


def _evidence(
    bot: Captioner, image: Image.Image, caption: Caption, method: str, features: Features | None = None
) -> Evidence:
    """features: of the image, where they are there already."""
    maps = explain.word_maps(bot, image, caption, method)
    asked = bot.encode([image]) if features is None else features, caption.token_ids
    return Evidence(
        maps,
        maps.on(caption),
        explore.rivals(bot, *asked),
        explore.gates(bot, *asked),
    )


@on_gpu
def steer(
    model: str, image: Image.Image, options: SearchOptions, words: Sequence[str], banned: Sequence[str]
) -> Caption:
    """The best caption that begins with some words and avoids others."""
    bot = captioner(model)
    size = Size(*image.size)
    return explore.steer(bot, bot.encode([image]), size, options, words, banned_words=banned).captions[0]


@on_gpu
def ask(
    model: str,
    image: Image.Image,
    options: SearchOptions,
    prefix: str = "",
    banned: str = "",
    places: Sequence[int] = (),
) -> Caption:
    """The best caption of a photo, some of its detected boxes taken away."""
    bot = captioner(model)
    features = bot.encode([image])
    if places:
        features = explore.without_places(features, places)
    (captioned,) = bot.caption_features(
        features, [Size(*image.size)], options, prefix=prefix, banned_words=[banned]
    )
    return captioned.captions[0]


@on_gpu
def test(
    model: str, image: Image.Image, caption: Caption, maps: WordMaps, words: Sequence[int]
) -> tuple[Faithfulness, ...]:
    """Whether words of a caption rest on what their maps show."""
    return explain.faithfulness(captioner(model), image, caption, words, maps=maps)


@on_gpu
def timed(model: str, image: Image.Image) -> tuple[Captioned, float]:
    """What one captioner says as its card has it search, and the seconds from the image to its captions.

    The captioner is woken before the clock starts.
    """
    bot = captioner(model)
    started = time.perf_counter()
    (captioned,) = bot.caption([image])
    return captioned, time.perf_counter() - started


def compared(models: Sequence[str]) -> list[str]:
    """Names to compare, once they are known to be two to four different ones."""
    names = list(dict.fromkeys(known(model) for model in models))
    if not 2 <= len(names) <= MOST_COMPARED:
        raise CaptionBotError(
            f"{len(names)} captioners were named; choose 2 to {MOST_COMPARED} of {', '.join(MODELS)}."
        )
    return names


def caption_files(
    model: str, paths: Sequence[str], options: SearchOptions, prefix: str = "", banned: str = ""
) -> Iterator[tuple[Result, str]]:
    """Captions of uploaded photos and archives, in the order given; why there are none for bad ones.

    Each comes with a small picture as a data URL, "" of a bad one.
    """
    wanted = Preprocessing.from_json(card_of(model).preprocessing)
    asked = {"options": options, "prefix": prefix, "banned_words": [banned]}
    yield from caption_photos(
        sources(paths), wanted, lambda some: caption_some(model, some, asked), THUMBNAIL
    )


@on_gpu
def caption_some(model: str, images: Sequence[Any], asked: dict[str, Any]) -> list[Result]:
    return list(caption_each(captioner(model), images, len(images), asked))


def sources(paths: Sequence[str]) -> Iterator[ImageSource]:
    """The images of uploads by the names that the person gave them: the server's folders are its own."""
    for path in map(Path, paths):
        folder = f"{path.parent}/"
        for source in find_images([path]):
            yield ImageSource(source.name.removeprefix(folder), partial(_load, source, folder))


def _load(source: ImageSource, folder: str, at_least: int | None = None) -> Image.Image:
    try:
        return source.load(at_least)
    except CaptionBotError as error:
        raise CaptionBotError(str(error).replace(folder, "")) from error


def hidden(image: Image.Image, boxes: Sequence[Sequence[float]], others: bool) -> Image.Image:
    """The image with boxes (xyxy as fractions) painted over, or with everything else."""
    scaled: list[list[float]] = (np.array(boxes) * np.array([*image.size] * 2)).tolist()
    return explore.hide(image, explore.cover(image.size, scaled, others=others))


def boxes_looked_at(caption: Caption, t: int) -> list[list[float]]:
    """Fractions of the photo: the places that together hold half of what word t rests on."""
    places = explore.looked_at(caption, t)
    return (caption.boxes[places] / np.array([*caption.image_size] * 2)).tolist()


def beam_svg(model: str, captioned: Captioned, cut: bool) -> str:
    vocabulary = vocabulary_of(model)
    return beam_tree.draw(captioned.search, lambda i: vocabulary.pieces([i])[0], vocabulary.eos_id, cut=cut)
