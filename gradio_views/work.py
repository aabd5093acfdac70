"""What page and endpoints ask of the captioners. One captioner is in memory at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial, wraps
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

try:
    import spaces  # on ZeroGPU it patches torch, so it comes first
except ImportError:
    spaces = None

import gradio as gr
import numpy as np
from PIL import Image

from captionbot import (
    CaptionBotError,
    Captioned,
    Captioner,
    SearchOptions,
    beam_tree,
    explain,
    explore,
    render,
)
from captionbot.batch import caption_each, load_ahead
from captionbot.card import Card
from captionbot.explain import Faithfulness
from captionbot.images import ImageSource, find_images, load_image
from captionbot.pages import resident
from captionbot.records import Result
from captionbot.types import Caption, Features, Size, Word
from captionbot.vocabulary import load_vocabulary
from captionbot.weights import find_card, list_cards

MODELS = [path.stem for path in list_cards()]
DEFAULT = find_card().stem
MOST_COMPARED = 4
AT_ONCE = 8  # photos of a batch: enough for one batched search, few enough that progress shows
THUMBNAIL = 96  # pixels


class Evidence(NamedTuple):
    """What the words of one caption rest on.

    looked: the caption with the maps that are drawn as its alphas: its attention, or what it misses where a
        piece of the photo is hidden.
    attends: whether they are its attention; label: what they are, for a person.
    rivals, gates: of `explore.rivals` and `explore.gates`.
    """

    looked: Caption
    attends: bool
    label: str
    rivals: tuple[tuple[Word, ...], ...]
    gates: np.ndarray | None


def on_gpu(function: Any) -> Any:
    """Lends the GPU of a ZeroGPU Space to a function of a captioner's name; elsewhere the function as it is.

    ZeroGPU runs it in a copy of this process that is thrown away, so the captioner is woken here, before.
    """
    if spaces is None:
        return function
    lent = spaces.GPU(function)

    @wraps(function)
    def call(model: str, *args: Any, **options: Any) -> Any:
        captioner(model)
        return lent(model, *args, **options)

    return call


def captioner(model: str) -> Captioner:
    """The one captioner that is in memory: another takes its place."""
    return resident(known(model))


def known(model: str) -> str:
    """The name itself where such a captioner ships: strangers name no other files of the server."""
    if model not in MODELS:
        raise CaptionBotError(f"There is no captioner '{model}'; choose one of {', '.join(MODELS)}.")
    return model


@lru_cache
def card_of(model: str) -> Card:
    return Card.load(find_card(known(model)))


def usual(model: str) -> SearchOptions:
    """The search options that a captioner was chosen with."""
    return SearchOptions(**card_of(model).search)


@lru_cache(maxsize=8)
def vocabulary_of(model: str) -> Any:
    return load_vocabulary(card_of(model).vocabulary)


@contextmanager
def told() -> Iterator[None]:
    """Mistakes that a person can mend become the page's own messages."""
    try:
        yield
    except CaptionBotError as error:
        raise gr.Error(str(error), print_exception=False) from error


def read_upload(path: str) -> Image.Image:
    """The photo of an upload. Not as Gradio reads it, which takes fewer kinds of image and forgets EXIF."""
    return load_image(Path(path).read_bytes())


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
        maps.on(caption),
        maps.method == "attention",
        maps.label,
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
    model: str, image: Image.Image, caption: Caption, words: Sequence[int]
) -> tuple[tuple[Faithfulness, ...], Evidence]:
    """Whether words of a caption rest on what their heatmaps show, and what hiding pieces does to them."""
    bot = captioner(model)
    return explain.faithfulness(bot, image, caption, words), _evidence(bot, image, caption, "occlusion")


@on_gpu
def compare(model: str, image: Image.Image) -> tuple[Captioned, Evidence, float]:
    """What one captioner says as its card has it search, and the seconds from the image to its captions."""
    bot = captioner(model)
    started = time.perf_counter()
    (captioned,) = bot.caption([image])
    seconds = time.perf_counter() - started
    return captioned, _evidence(bot, image, captioned.captions[0], "auto"), seconds


def first_compared() -> list[str]:
    """What is compared until someone chooses: the default beside others."""
    return [DEFAULT, *(name for name in MODELS if name != DEFAULT)][:MOST_COMPARED]


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
    images = load_ahead(sources(paths), AT_ONCE)
    asked = {"options": options, "prefix": prefix, "banned_words": [banned]}
    while some := list(islice(images, AT_ONCE)):
        results = caption_some(model, some, asked)
        for result, (_, image) in zip(results, some, strict=True):
            if isinstance(image, CaptionBotError):
                yield result, ""
            else:
                yield result, render.data_url(render.fit(image, THUMBNAIL))


@on_gpu
def caption_some(model: str, images: Sequence[Any], asked: dict[str, Any]) -> list[Result]:
    return list(caption_each(captioner(model), images, AT_ONCE, asked))


def sources(paths: Sequence[str]) -> Iterator[ImageSource]:
    """The images of uploads by the names that the person gave them: the server's folders are its own."""
    for path in map(Path, paths):
        folder = f"{path.parent}/"
        for source in find_images([path]):
            yield ImageSource(source.name.removeprefix(folder), partial(_load, source, folder))


def _load(source: ImageSource, folder: str) -> Image.Image:
    try:
        return source.load()
    except CaptionBotError as error:
        raise CaptionBotError(str(error).replace(folder, "")) from error


def hidden(image: Image.Image, boxes: Sequence[Sequence[float]], others: bool) -> Image.Image:
    """The image with boxes (xyxy as fractions) painted over, or with everything else."""
    scaled = (np.array(boxes) * np.array([*image.size] * 2)).tolist()
    return explore.hide(image, explore.cover(image.size, scaled, others=others))


def boxes_looked_at(caption: Caption, t: int) -> list[list[float]]:
    """Fractions of the photo: the places that together hold half of what word t rests on."""
    places = explore.looked_at(caption, t)
    return (caption.boxes[places] / np.array([*caption.image_size] * 2)).tolist()


def beam_svg(model: str, captioned: Captioned, cut: bool) -> str:
    vocabulary = vocabulary_of(model)
    return beam_tree.draw(captioned.search, lambda i: vocabulary.pieces([i])[0], vocabulary.eos_id, cut=cut)
