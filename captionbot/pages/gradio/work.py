"""How the page finds captioners and photos, and runs the models. One captioner is in memory at a time."""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial, wraps
from pathlib import Path
from typing import Any, NamedTuple

try:
    import spaces  # on ZeroGPU it patches torch, so it comes first
except ImportError:
    spaces = None

from PIL import Image

from captionbot.bulk.folder import caption_each
from captionbot.bulk.records import Result
from captionbot.bulk.review import Entry
from captionbot.captioner import Captioner
from captionbot.draw.overlays import DISPLAY, fit
from captionbot.errors import CaptionBotError, displayable, shortened
from captionbot.images.archives import is_archive, members
from captionbot.images.load import ImageSource, Preprocessing, find_images, load_image
from captionbot.pages.batches import caption_photos
from captionbot.pages.fetching import fetch_photo
from captionbot.pages.limits import MAX_PHOTO_MEGABYTES, MAX_SIDE
from captionbot.pages.resident import captioners, cards_here, resident, resident_upload
from captionbot.pages.turns import turn
from captionbot.pages.uploads import MAX_MEGABYTES
from captionbot.pages.work import Asked, Settings, Work
from captionbot.pages.workbench import Card as AltCard
from captionbot.pages.workbench import propose, styled
from captionbot.store.card import Card
from captionbot.store.registry import find_card
from captionbot.text.vocabulary import load_vocabulary
from captionbot.types import Captioned

MOST_OWN = 3  # captioners that visitors uploaded, of all sessions together
STALE = "There is no photo here, or this page was left alone for too long: caption a photo first."
_YOURS = " (yours) "


class Own(NamedTuple):
    """A captioner that a visitor uploaded. files: as `uploads.load_captioner` takes them."""

    files: tuple[tuple[str, bytes], ...]
    card: Card


_own: dict[str, Own] = {}  # by a name that only its session knows, the oldest first


@dataclass(frozen=True)
class Uploaded:
    """A photo in Gradio's temporary folder, by the name that its visitor gave it.

    The same file can come again without its name.
    """

    name: str = field(compare=False)
    path: str

    @property
    def key(self) -> str:
        return self.path

    def decode(self, at_least: int | None = None) -> Image.Image:
        try:
            return read_upload(self.path, self.name)
        except FileNotFoundError:
            raise CaptionBotError(STALE) from None


def on_gpu(method: Callable[..., Any]) -> Any:
    """A method of `Work` that waits for its turn and is lent the GPU of a ZeroGPU Space.

    ZeroGPU runs it in a copy of this process that is thrown away, so the captioner is woken here, before.
    """
    lent = spaces.GPU(method) if spaces is not None else None

    @wraps(method)
    def call(work: Work, asked: Any, *args: Any, **options: Any) -> Any:
        with turn():
            if lent is None:
                return method(work, asked, *args, **options)
            work.captioner(asked if isinstance(asked, str) else asked.settings.model)
            return lent(work, asked, *args, **options)

    return call


class GradioWork(Work):
    """`Work` for what ships and what visitors uploaded, one question after the other."""

    def captioners(self) -> dict[str, str]:
        return _shipped(tuple(cards_here()))

    def captioner(self, model: str) -> Captioner:
        """The one captioner that is in memory: another takes its place."""
        own = _own.get(model)
        return resident_upload(own.files) if own else resident(known(model))

    def card(self, model: str) -> Card:
        own = _own.get(model)
        return own.card if own else _shipped_card(known(model))

    def vocabulary(self, model: str) -> Any:
        if model not in _own:
            return _shipped_vocabulary(known(model))
        with turn():
            return self.captioner(model).vocabulary

    def public(self, model: str) -> str:
        """Of an upload, without what only its session knows."""
        return model.partition(_YOURS)[0]

    look = on_gpu(Work.look)
    evidence = on_gpu(Work.evidence)
    caption = on_gpu(Work.caption)
    steer = on_gpu(Work.steer)
    more = on_gpu(Work.more)
    maps = on_gpu(Work.maps)
    _timed = on_gpu(Work.timed)

    def timed(self, asked: Asked, warm: bool = False) -> tuple[Captioned, float]:
        timed: tuple[Captioned, float] = self._timed(asked, warm and spaces is None)  # whose copies are new
        return timed

    @on_gpu
    def caption_some(self, model: str, images: Sequence[Any], asked: dict[str, Any]) -> list[Result]:
        return list(caption_each(self.captioner(model), images, len(images), asked))


WORK = GradioWork()


@lru_cache(maxsize=1)
def _shipped(cards: tuple[Path, ...]) -> dict[str, str]:
    """cards: those that are here, so that new ones are read."""
    return captioners()


@lru_cache
def _shipped_card(model: str) -> Card:
    return Card.load(find_card(model))


@lru_cache(maxsize=8)
def _shipped_vocabulary(model: str) -> Any:
    return load_vocabulary(_shipped_card(model).vocabulary)


def names() -> list[str]:
    """The captioners that anybody may ask for, the default first."""
    return list(WORK.captioners())


def default() -> str:
    return find_card().stem


def known(model: str) -> str:
    """The name itself where such a captioner ships, or its session uploaded it: strangers name no other
    files of the server."""
    if model in names() or model in _own:
        return model
    if _YOURS in model:
        name = shortened(WORK.public(model))
        raise CaptionBotError(f"Your captioner '{name}' was let go after a while: upload it again.")
    raise CaptionBotError(f"There is no captioner '{shortened(model)}'; choose one of {', '.join(names())}.")


def choices(own: str) -> list[tuple[str, str]]:
    """What a session can choose from, as labels and names; own: as `adopt` returns it, "" without one."""
    return [
        *((title, name) for name, title in WORK.captioners().items()),
        *([(f"{WORK.public(own)} (yours)", own)] if own else []),
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


def caption_files(paths: Sequence[str], settings: Settings) -> Iterator[Result]:
    """Captions of uploaded photos and archives, in the order given; why there are none for bad ones."""
    found = caption_photos(sources(paths), *_asked(settings), thumbnail=1)
    return (result for result, _ in found)


def propose_files(
    paths: Sequence[str], settings: Settings, style: str, known: Mapping[str, Entry]
) -> Iterator[AltCard]:
    """A card for each of uploaded photos and archives, in the order given; `known` is as of `propose`.

    Raises CaptionBotError for a style that there is not.
    """
    settings = replace(settings, options=styled(settings.options, style))
    return propose(sources(paths), *_asked(settings), WORK.public(settings.model), known)


def _asked(settings: Settings) -> tuple[Preprocessing, Callable[[list[Any]], list[Result]]]:
    """The size of photos, and what captions a few of them."""
    model = settings.model
    asked = {"options": settings.options, "prefix": settings.prefix, "banned_words": settings.banned_words}
    wanted = Preprocessing.from_json(WORK.card(model).preprocessing)
    return wanted, lambda some: WORK.caption_some(model, some, asked)


def photo_of(paths: Sequence[str], name: str) -> str | bytes:
    """The upload that a card is called by, or the bytes of its photo in an archive.

    Raises CaptionBotError where it is not there any more.
    """
    for path in map(Path, paths):
        if displayable(path.name) == name and path.is_file():
            return str(path)
        if is_archive(path):
            for member in members(path):
                if displayable(f"{path.name}/{member.name}") == name:
                    return member.read()
    raise CaptionBotError(STALE)


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
