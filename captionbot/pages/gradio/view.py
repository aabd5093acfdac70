"""What the views share: the frame that they are built into, and the few ways in which all of them show it.

A view is a class `View` of its module. It makes its components in a tab, says which of them follow what the
visitor looks at (`Frame.follow`), and handles its own events.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import gradio as gr
import numpy as np

from captionbot.pages.gradio.events import Shown
from captionbot.pages.gradio.settings import Settings
from captionbot.pages.gradio.work import STALE
from captionbot.pages.lessons import Lesson
from captionbot.pages.presenters import seen as seen_by
from captionbot.pages.presenters.canvas import UNTOUCHED, Touched
from captionbot.pages.presenters.seen import WHOLE, Sides, Table, sharpest
from captionbot.pages.presenters.share import File
from captionbot.pages.work import Evidence
from captionbot.types import Caption, Word

CHANGED = "changed"
CACHE_SECONDS = 600
PICTURES = "jpeg"  # Gradio's own choice, WebP, takes several times as long to write

# What a view can follow. A new photo has a new caption, and a new caption a new word.
PHOTO, CAPTION, WORD = "photo", "caption", "word"
CAPTIONER = "captioner"  # that a visitor uploads
_LEVELS = (PHOTO, CAPTION, WORD)
# What is empty without a photo; the others are what visitors ask with.
_SHOWING = (
    *(gr.AnnotatedImage, gr.Dataframe, gr.Gallery, gr.HTML, gr.HighlightedText, gr.Image),
    *(gr.JSON, gr.Markdown),
)


@dataclass(frozen=True)
class Seen(seen_by.Seen):
    """What one visitor looks at, with what was worked out of it.

    evidence: of the caption that is chosen.
    touched: what the visitor did to the photo and the sentence; whole: the same before that, if anything.
    expert: whether numbers are shown.
    """

    evidence: Evidence | None = None
    touched: Touched = UNTOUCHED
    whole: Seen | None = None
    expert: bool = False

    @property
    def base(self) -> Seen:
        return self.whole or self

    @property
    def found(self) -> Evidence:
        assert self.evidence is not None
        return self.evidence

    @property
    def attends(self) -> bool:
        return self.found.attends

    @property
    def looked(self) -> Caption:
        return self.found.looked

    @property
    def rivals(self) -> Sequence[Sequence[Word]]:
        return self.found.rivals

    @property
    def gates(self) -> np.ndarray | None:
        return self.found.gates


class Follower(NamedTuple):
    what: str
    show: Callable[[Any], Shown]
    components: tuple[Any, ...]


class Frame(ABC):
    """What every view is built into.

    seen: the state of a visitor, a `Seen` or None. settings: what is asked of a captioner.
    addressed: what `on_address` reads.
    tabs: that the views lie in; heroes: the photo's caption above them.
    """

    settings: Settings
    addressed: set[Any]
    tabs: gr.Tabs
    heroes: Any
    demo: Any

    def __init__(self) -> None:
        self.seen = gr.State(time_to_live=CACHE_SECONDS)
        self._followers: list[Follower] = []
        self._answers: dict[str, list[Any]] = {what: [] for what in _LEVELS}

    def follow(self, what: str, show: Callable[[Any], Shown], *components: Any) -> None:
        """Have components follow the photo, the caption, the word or the visitor's captioner.

        show: what they then show, of the `Seen`; of the captioner, its name.
        """
        self._followers.append(Follower(what, show, components))

    def answer(self, what: str, *components: Any) -> None:
        """Components that belong to one photo or caption, and are out of sight with the next."""
        self._answers[what] += components

    def outputs(self, what: str) -> list[Any]:
        """All components that change with it."""
        levels = _below(what)
        followers = [
            c for follower in self._followers if follower.what in levels for c in follower.components
        ]
        answers = [answer for level in levels for answer in self._answers.get(level, ())]
        return list(dict.fromkeys([*([self.seen] if what in _LEVELS else []), *answers, *followers]))

    def show(self, what: str, value: Any) -> Shown:
        """What all views show once it has changed. value: a `Seen`, or a captioner's name."""
        levels, shown = _below(what), {}
        if what in (PHOTO, CAPTION):
            value = replace(value, t=sharpest(value.looked))
        if what in _LEVELS:
            shown = {self.seen: value}
        shown |= hidden(*(answer for level in levels for answer in self._answers.get(level, ())))
        for follower in self._followers:
            if follower.what in levels:
                shown |= follower.show(value)
        return shown

    @abstractmethod
    def on_address(self, values: Shown) -> str:
        """The query of an address that restores the page."""

    @abstractmethod
    def keep(self, files: Sequence[File]) -> list[str]:
        """Makes files that visitors can download; their paths."""

    def show_nothing(self) -> Shown:
        """The page without a photo."""
        emptied = [part for part in self.outputs(PHOTO) if isinstance(part, _SHOWING)]
        answers = [answer for answers in self._answers.values() for answer in answers]
        return {self.seen: None, **dict.fromkeys(emptied), **hidden(*answers)}


def _below(what: str) -> Sequence[str]:
    return _LEVELS[_LEVELS.index(what) :] if what in _LEVELS else (what,)


class View(ABC):
    """One view in its tab. `wire` is called once all views are there, for events that change several."""

    def __init__(self, frame: Frame, tab: gr.Tab) -> None:
        self.frame, self.tab = frame, tab
        self.build()

    @abstractmethod
    def build(self) -> None:
        """Make its parts, in its tab."""

    def wire(self) -> None:  # noqa: B027 - most views have no such event
        """Connect what changes several views."""


class SideBySide:
    """Two captions, marked where they differ, and a sentence on how; out of sight until there are two."""

    def __init__(self, frame: Frame, titles: tuple[str, str], elem_id: str | None = None) -> None:
        marks: dict[str, Any] = {"color_map": {CHANGED: "#8b5cf6"}, "show_inline_category": False}
        with gr.Row(visible=False) as self.row:
            self.before = gr.HighlightedText(label=titles[0], **marks)
            self.after = gr.HighlightedText(label=titles[1], elem_id=elem_id, **marks)
        self.note = gr.Markdown(visible=False)
        self.outputs = [self.row, self.before, self.after, self.note]
        frame.answer(CAPTION, self.row, self.note)

    def show(self, sides: Sides) -> Shown:
        marked = [
            gr.update(
                label=side.title,
                value=[(word, CHANGED) if flag else (f"{word} ", None) for word, flag in side.words],
            )
            for side in (sides.before, sides.after)
        ]
        return {
            self.row: gr.update(visible=True),
            self.before: marked[0],
            self.after: marked[1],
            self.note: gr.update(visible=True, value=sides.note),
        }


def filled(table: Table | None) -> Any:
    """A table with what it shows; out of sight where there is none."""
    if table is None:
        return gr.update(visible=False, value=None)
    return gr.update(visible=True, headers=table.titles, value=table.written, label=table.text)


def lesson(lesson: Lesson | None) -> str:
    if lesson is None:
        return WHOLE
    return f"{lesson.text}\n\n$$ {lesson.maths} $$\n\n{lesson.source}"


def hidden(*components: Any) -> Shown:
    return {component: gr.update(visible=False) for component in components}


def chosen(place: Any, among: Sequence[Any]) -> int:
    """A place in a list that a client says was clicked."""
    if isinstance(place, int) and not isinstance(place, bool) and 0 <= place < len(among):
        return place
    raise gr.Error(STALE, print_exception=False)


def present(seen: Seen | None) -> Seen:
    if seen is None:
        raise gr.Error(STALE, print_exception=False)
    return seen
