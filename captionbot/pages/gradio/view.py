"""What the views share.

Each view is a class that makes its components and handles its own events. Where it follows the photo, the
caption or the chosen word, `show_photo`, `show_caption` or `show_word` says what it then shows, and
`photo_outputs`, `caption_outputs` or `word_outputs` which components that can change: `gradio_app` puts these
together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr
from PIL import Image

from captionbot.pages.gradio import draw, work
from captionbot.pages.gradio.draw import CHANGED, View
from captionbot.types import Caption

Shown = dict[Any, Any]  # a value for every component that changes

PICTURES = "jpeg"  # Gradio's own choice, WebP, takes several times as long to write
BUTTONS: list[Any] = ["download", "fullscreen"]  # not Gradio's "share", which sends the photo to another site
STALE = "There is no photo here, or this page was left alone for too long: caption a photo first."

# How events are handled.
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
QUIET: dict[str, Any] = {**PRIVATE, "show_progress": "hidden"}
# So many of them wait for their turn at the captioner (`captionbot.pages.turns`), which goes round; the
# others wait in the queue of their own kind. Programs and long jobs do not stand in the visitors' way.
BUSY: dict[str, Any] = {"concurrency_limit": 8, "concurrency_id": "captioner"}
PROGRAMS: dict[str, Any] = {"concurrency_limit": 16, "concurrency_id": "programs"}  # some fetch photos
LONG: dict[str, Any] = {"concurrency_limit": 2, "concurrency_id": "batch"}
FETCHING: dict[str, Any] = {"concurrency_limit": None}


class SideBySide:
    """Two captions, marked where they differ, and a sentence on how; out of sight until there are two.

    answers: what belongs to one caption, and is hidden with the next.
    """

    def __init__(self, before: str, after: str, elem_id: str | None = None) -> None:
        marks: dict[str, Any] = {"color_map": {CHANGED: "#8b5cf6"}, "show_inline_category": False}
        with gr.Row(visible=False) as self.row:
            self.before = gr.HighlightedText(label=before, **marks)
            self.after = gr.HighlightedText(label=after, elem_id=elem_id, **marks)
        self.note = gr.Markdown(visible=False)
        self.answers = [self.row, self.note]
        self.outputs = [self.row, self.before, self.after, self.note]

    def show(self, before: Caption, after: Caption) -> Shown:
        first, second, note = draw.marked(before, after)
        return {
            self.row: gr.update(visible=True),
            self.before: first,
            self.after: second,
            self.note: gr.update(visible=True, value=note),
        }


def hidden(*components: Any) -> Shown:
    """What belongs to another caption is out of sight."""
    return {component: gr.update(visible=False) for component in components}


def chosen(place: Any, among: Sequence[Any]) -> int:
    """A place in a list that a client says was clicked."""
    if isinstance(place, int) and not isinstance(place, bool) and 0 <= place < len(among):
        return place
    raise gr.Error(STALE, print_exception=False)


def present(seen: View | None) -> View:
    if seen is None:
        raise gr.Error(STALE, print_exception=False)
    return seen


def original(seen: View) -> Image.Image:
    """The photo at its own size, from Gradio's temporary folder."""
    try:
        return work.read_upload(seen.file)
    except FileNotFoundError:
        raise gr.Error(STALE, print_exception=False) from None
