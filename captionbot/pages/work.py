"""What pages ask of captioners, and how the models are run for it, whichever toolkit shows the answer."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from PIL import Image

from captionbot.draw.overlays import DISPLAY, fit
from captionbot.errors import CaptionBotError, displayable, shortened
from captionbot.explain import counterfactuals as explore
from captionbot.explain import needs as explain
from captionbot.explain.attribution import word_maps
from captionbot.explain.maps import WordMaps
from captionbot.explain.needs import Needs
from captionbot.images.load import load_image
from captionbot.pages.kept import Kept
from captionbot.pages.limits import MAX_PHOTO_MEGABYTES, MAX_SIDE, checked_text
from captionbot.pages.resident import captioners, resident
from captionbot.pages.turns import turn
from captionbot.search.options import SearchOptions
from captionbot.store.card import Card
from captionbot.store.registry import find_card
from captionbot.types import Caption, Captioned, Features, Search, Size, Word

if TYPE_CHECKING:  # torch takes seconds to import: the pages are there before that
    from captionbot.captioner import Captioner
    from captionbot.explain.copies import Copies
    from captionbot.text.vocabulary import Vocabulary

Box = tuple[float, float, float, float]


class Photo(Protocol):
    """A photo by its name, wherever it is kept. key: what caches know it by."""

    @property
    def name(self) -> str: ...

    @property
    def key(self) -> str: ...

    def decode(self, at_least: int | None = None) -> Image.Image:
        """The upright RGB image, as `load_image` returns it; CaptionBotError where it is none."""


@dataclass(frozen=True)
class PhotoFile:
    """A photo as it came: its name and the bytes of its file."""

    name: str
    data: bytes

    @cached_property
    def key(self) -> str:
        return f"{self.name} {hashlib.sha256(self.data).hexdigest()}"

    def decode(self, at_least: int | None = None) -> Image.Image:
        name = displayable(self.name)
        if len(self.data) > MAX_PHOTO_MEGABYTES * 1_000_000:
            raise CaptionBotError(
                f"{shortened(name)} is larger than {MAX_PHOTO_MEGABYTES} MB: make it smaller."
            )
        file = io.BytesIO(self.data)
        file.name = name
        return load_image(file, at_least, MAX_SIDE)


@dataclass(frozen=True)
class Decoded:
    """A photo that is an image already. known_as: the key that it had before, "" without one."""

    name: str
    image: Image.Image
    known_as: str = ""

    @property
    def key(self) -> str:
        return self.known_as or f"{self.name} {hashlib.sha256(self.image.tobytes()).hexdigest()}"

    def decode(self, at_least: int | None = None) -> Image.Image:
        return self.image


@dataclass(frozen=True)
class PartlyHidden:
    """A photo with boxes (xyxy as fractions) painted over, or all else where `others`."""

    photo: Photo
    boxes: tuple[Box, ...]
    others: bool = False

    @property
    def name(self) -> str:
        return self.photo.name

    @property
    def key(self) -> str:
        return f"{self.photo.key} {self.boxes} {self.others}"

    def decode(self, at_least: int | None = None) -> Image.Image:
        return hidden(self.photo.decode(at_least), self.boxes, self.others)


@dataclass(frozen=True)
class Settings:
    """Which captioner, how it searches, how sentences begin, what they avoid."""

    model: str
    options: SearchOptions
    prefix: str = ""
    banned_words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checked_text(self.prefix, "The beginning")
        checked_text(" ".join(self.banned_words), "What captions are to avoid")


@dataclass(frozen=True)
class Asked:
    """One question to a captioner: a photo, the settings, and what of the photo is hidden.

    boxes: (xyxy as fractions of the photo) painted over, or all that is left where `others`.
    places: of a region captioner, taken away.
    """

    photo: Photo
    settings: Settings
    boxes: tuple[Box, ...] = ()
    others: bool = False
    places: tuple[int, ...] = ()


class Evidence(NamedTuple):
    """What the words of one caption rest on.

    maps: its attention, or what its words need, as far as it is measured.
    looked: the caption with these as its alphas, so that every drawing shows them.
    rivals, gates: as `counterfactuals.rivals` and `counterfactuals.gates` return them.
    """

    maps: WordMaps
    looked: Caption
    rivals: tuple[tuple[Word, ...], ...]
    gates: np.ndarray | None

    @property
    def attends(self) -> bool:
        """Whether the maps are the captioner's own attention."""
        return self.maps.method == "attention"


_ENOUGH = 64  # hidden copies, before a page draws what words need in the place of attention
_SOON = 2.0  # seconds for all hidden copies that are left, which are then read without stages to be shown
_measured: Kept[Needs] = Kept(256)  # by captioner, photo and sentence
_hidden: Kept[Copies] = Kept(2)  # by photo: what CNNs saw in its copies, for all captioners and sentences


class Work:
    """Runs captioners for a page. The page says how they are found by their names, in the first methods.

    A page may keep what the methods return, for their arguments tell all questions apart, or have them run
    elsewhere: the first argument is, or has, the captioner's name. Each waits for its turn at the captioner,
    and reads its photo within it; no method that a page may keep is called within a turn, since who works out
    what is kept keeps others waiting.
    """

    def captioners(self) -> dict[str, str]:
        """What a visitor can choose from: titles by name, the default first."""
        return captioners()

    def captioner(self, model: str) -> Captioner:
        return resident(model)

    def card(self, model: str) -> Card:
        return Card.load(find_card(model))

    def public(self, model: str) -> str:
        """The name as files and links may tell it."""
        return model

    def title(self, model: str) -> str:
        """What people are shown for a captioner's name."""
        return self.captioners().get(model) or self.public(model)

    def usual(self, model: str) -> SearchOptions:
        """The search options that a captioner was chosen with."""
        return SearchOptions(**self.card(model).search)

    def vocabulary(self, model: str) -> Vocabulary:
        return self.captioner(model).vocabulary

    def understood(self, model: str, prefix: str, banned_words: tuple[str, ...]) -> None:
        """Raises CaptionBotError where the captioner does not know one of these words."""
        vocabulary = self.vocabulary(model)
        vocabulary.ids_of(prefix)
        vocabulary.banned(banned_words)

    def encode(
        self, model: str, photo: Photo, boxes: tuple[Box, ...] = (), others: bool = False
    ) -> tuple[Features, Size]:
        """Features of a photo, parts of it hidden, and its size in pixels."""
        with turn():
            image = photo.decode()
            size = Size(*image.size)
            return self.captioner(model).encode([hidden(image, boxes, others) if boxes else image]), size

    def features(self, asked: Asked) -> tuple[Features, Size]:
        features, size = self.encode(asked.settings.model, asked.photo, asked.boxes, asked.others)
        return explore.without_places(features, asked.places) if asked.places else features, size

    def caption(self, asked: Asked) -> Captioned:
        return self._caption(asked, *self.features(asked))

    def _caption(self, asked: Asked, features: Features, size: Size) -> Captioned:
        settings = asked.settings
        with turn():
            captioner = self.captioner(settings.model)
            (captioned,) = captioner.caption_features(
                features, [size], settings.options, prefix=settings.prefix, banned_words=settings.banned_words
            )
        return captioned

    def look(self, asked: Asked) -> tuple[Captioned, Evidence]:
        """The captions of a photo, and what the best of them rests on."""
        asked = _decoded(asked)
        features, size = self.features(asked)
        captioned = self._caption(asked, features, size)
        return captioned, self._evidence(asked, features, captioned.captions[0], "auto")

    def evidence(self, asked: Asked, caption: Caption, method: str = "auto") -> Evidence:
        """What the words of a caption rest on, by one of `attribution.METHODS`."""
        asked = _decoded(asked)
        return self._evidence(asked, self.features(asked)[0], caption, method)

    def _evidence(self, asked: Asked, features: Features, caption: Caption, method: str) -> Evidence:
        maps = self.maps(asked.settings.model, asked.photo, caption, method)
        with turn():
            captioner = self.captioner(asked.settings.model)
            question = captioner, features, caption.token_ids
            return Evidence(maps, maps.on(caption), explore.rivals(*question), explore.gates(*question))

    def maps(self, model: str, photo: Photo, caption: Caption, method: str = "auto") -> WordMaps:
        if method == "auto":
            method = "attention" if self.attends(model, caption) else "needs"
        if method == "needs":
            stages = self.needs(model, photo, caption)
            return next(found for found in stages if found.copies >= _ENOUGH).as_word_maps(caption)
        with turn():
            return word_maps(self.captioner(model), photo.decode(), caption, method)

    def attends(self, model: str, caption: Caption) -> bool:
        """Whether the captioner tells places of the photo apart by itself."""
        return len(caption.boxes) > 1 and self.captioner(model).decoder.attends

    def needs(self, model: str, photo: Photo, caption: Caption) -> Iterator[Needs]:
        """What every word needs of the photo, coarse to fine; the last is measured to the end.

        Between two of them others have their turn, but on a machine that is soon done anyway. It goes on
        where it was left, and what is measured is kept.
        """
        key = self._needs_key(model, photo, caption)
        found, staged = _measured.get(key), True
        if found is not None:
            yield found
        while found is None or not found.done:
            before, start = found.copies if found is not None else 0, time.perf_counter()
            found = self.more(model, photo, caption, found, staged)
            copies, seconds = found.copies - before, time.perf_counter() - start
            staged = copies > 0 and (explain.COPIES - found.copies) * seconds / copies > _SOON
            _measured.keep(key, found)
            yield found

    def known_needs(self, model: str, photo: Photo, caption: Caption) -> Needs | None:
        """What `needs` has measured to its end; None before that."""
        found = _measured.get(self._needs_key(model, photo, caption))
        return found if found is not None and found.done else None

    def _needs_key(self, model: str, photo: Photo, caption: Caption) -> tuple[str, str, tuple[int, ...]]:
        return self.card(model).sha256, photo.key, caption.token_ids

    def more(
        self, model: str, photo: Photo, caption: Caption, known: Needs | None = None, staged: bool = True
    ) -> Needs:
        """The next stage of `needs`, after what is known; all that is left where it is not staged."""
        with turn():
            kept = _hidden.get(photo.key) or explain.kept_of()
            _hidden.keep(photo.key, kept)
            captioner = self.captioner(model)
            return explain.more(captioner, photo.decode(), caption, known, kept=kept, staged=staged)

    def sentence(self, asked: Asked, text: str) -> Caption:
        """A sentence of the visitor's own as a caption of the photo, to be tested like one that was found."""
        checked_text(text, "The sentence")
        features, size = self.features(asked)
        with turn():
            return explain.caption_of(self.captioner(asked.settings.model), features, size, text)

    def rivals(self, asked: Asked, token_ids: tuple[int, ...]) -> tuple[tuple[Word, ...], ...]:
        features, _ = self.features(asked)
        with turn():
            return explore.rivals(self.captioner(asked.settings.model), features, token_ids)

    def gates(self, asked: Asked, token_ids: tuple[int, ...]) -> np.ndarray | None:
        features, _ = self.features(asked)
        with turn():
            return explore.gates(self.captioner(asked.settings.model), features, token_ids)

    def steer(self, asked: Asked, words: tuple[str, ...], banned_words: tuple[str, ...] = ()) -> Caption:
        """The best caption that begins with some words and avoids others."""
        features, size = self.features(asked)
        options = replace(asked.settings.options, num_return=1)
        banned = (*asked.settings.banned_words, *banned_words)
        with turn():
            captioner = self.captioner(asked.settings.model)
            return explore.steer(captioner, features, size, options, words, banned_words=banned).captions[0]

    def timed(self, asked: Asked, warm: bool = False) -> tuple[Captioned, float]:
        """Captions that are worked out anew, and the seconds from the photo's bytes to them.

        warm: whether the captioner has just captioned another photo. Else it captions this one before the
        clock starts: the first captions take longer.
        """
        with turn():
            captioner = self.captioner(asked.settings.model)
            if not warm:
                captioner.caption([asked.photo.decode()], asked.settings.options)
            started = time.perf_counter()
            (captioned,) = captioner.caption([asked.photo.decode()], asked.settings.options)
            return captioned, time.perf_counter() - started

    def beam_svg(self, model: str, search: Search, cut: bool) -> str:
        """The tree of a search; cut: also what was pruned as soon as it was weighed."""
        from captionbot.draw import beam_tree  # with torch, which the first caption has loaded

        vocabulary = self.vocabulary(model)
        return beam_tree.draw(search, lambda i: vocabulary.pieces([i])[0], vocabulary.eos_id, cut=cut)


def _decoded(asked: Asked) -> Asked:
    photo = asked.photo
    return replace(asked, photo=Decoded(photo.name, photo.decode(), photo.key))


def display(photo: Photo) -> Image.Image:
    """The photo at the size in which pages show it."""
    return fit(photo.decode(at_least=DISPLAY), DISPLAY)


def cover(size: tuple[int, int], boxes: Sequence[Sequence[float]], others: bool) -> Image.Image:
    """`counterfactuals.cover` for boxes as fractions of the photo."""
    return explore.cover(size, (np.array(boxes) * np.array([*size] * 2)).tolist(), others=others)


def hidden(image: Image.Image, boxes: Sequence[Sequence[float]], others: bool) -> Image.Image:
    """The image with boxes (xyxy as fractions) painted over, or with everything else."""
    return explore.hide(image, cover(image.size, boxes, others))


def boxes_looked_at(caption: Caption, t: int) -> tuple[Box, ...]:
    """Fractions of the photo: the places that together hold half of what word t rests on."""
    places = explore.looked_at(caption, t)
    return tuple(tuple(box) for box in caption.fractions[places].tolist())
