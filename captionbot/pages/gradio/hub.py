"""Stronger captioners of the Hugging Face Hub: which to fetch, and how far that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from captionbot.pages.gradio import work
from captionbot.pages.gradio.door import told
from captionbot.pages.gradio.events import QUIET, Shown
from captionbot.pages.gradio.settings import Settings
from captionbot.pages.gradio.view import CAPTION, Frame, Seen
from captionbot.pages.gradio.work import WORK
from captionbot.pages.offers import DOWNLOADS, offer_of, offered, offers
from captionbot.pages.presenters import hub as says
from captionbot.pages.presenters.judgement import band
from captionbot.text.display import plain

_EVERY = 1.0  # seconds between two looks at a download


class Fetching:
    """How far the download is, and a button that brings a stronger captioner where this one is not sure."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.own = gr.State("")  # what this visitor has fetched
        self.asked = gr.State("")  # what the button brings
        self.ask = gr.Button(visible=False, size="sm", elem_id="stronger")
        with gr.Row(visible=False) as self.row:
            self.progress = gr.Markdown(elem_id="progress")
            self.stop = gr.Button(says.STOP, size="sm", elem_classes="act")
        self.timer = gr.Timer(_EVERY, active=False)
        frame.follow(CAPTION, self.show_caption, self.ask, self.asked)

    def choose(self) -> None:
        """Among the settings: what can be fetched, where the host offers any."""
        labels = says.choices(offers())
        first = next(iter(labels), None)
        with gr.Accordion(says.TITLE, open=False, visible=offered()) as self.section:
            gr.Markdown(says.INTRODUCTION)
            self.name = gr.Dropdown(
                [(label, name) for name, label in labels.items()],
                value=first,
                label=says.CHOOSE,
                elem_id="to-fetch",
            )
            self.facts = gr.Markdown(self._facts(first))
            self.fetch = gr.Button(says.FETCH, elem_id="fetch")
            self.here = gr.Markdown()  # progress where it was asked for, maybe far from the sentence

    def wire(self, settings: Settings, captioned: Mapping[str, Any]) -> None:
        """captioned: the event that captions the photo, for another captioner."""
        running = [self.own, self.row, self.progress, self.here, self.stop, self.timer]
        gr.on([self.name.input, self.section.expand], self._facts, self.name, self.facts, **QUIET)
        self.fetch.click(self.on_fetch, self.name, running, **QUIET)
        self.timer.tick(
            self.on_tick,
            [self.own, settings.own],
            [*running, settings.model, self.name, self.ask, self.asked],
            **QUIET,
        )
        self.stop.click(self.on_stop, self.own, None, **QUIET)
        self.settings = settings
        self.ask.click(
            self.on_ask, self.asked, [*running, settings.model, *settings.searching], **QUIET
        ).then(**captioned)

    def show_caption(self, seen: Seen) -> Shown:
        unsure = band(seen.caption).kind not in ("", "sure")
        asked = says.ask(WORK.captioners()) if unsure else None
        return {
            self.ask: gr.update(visible=asked is not None, value=asked.label if asked else ""),
            self.asked: asked.model if asked else "",
        }

    def on_fetch(self, name: Any) -> Shown:
        with told():
            DOWNLOADS.start(name if isinstance(name, str) else "")
        return {self.own: name, **self._state(name)}

    def on_ask(self, name: Any) -> Shown:
        """The stronger captioner is chosen, or fetched first."""
        if name in work.names():
            return {self.settings.model: name, **self.settings.on_model(name)}
        return self.on_fetch(name)

    def on_stop(self, own: str) -> None:
        if own and own == DOWNLOADS.state.name:
            DOWNLOADS.stop()

    def on_tick(self, own: str, uploaded: str) -> Shown:
        """How far it is; at its end the captioners that can be chosen and fetched now."""
        shown = self._state(own)
        if DOWNLOADS.state.running:
            return shown
        labels = says.choices(offers())
        asked = says.ask(WORK.captioners())
        return {
            **shown,
            self.settings.model: gr.update(choices=work.choices(uploaded)),
            self.name: gr.update(
                choices=[(label, name) for name, label in labels.items()], value=next(iter(labels), None)
            ),
            self.ask: gr.update(value=asked.label) if asked else gr.skip(),
            self.asked: asked.model if asked else gr.skip(),
        }

    def _state(self, own: str) -> Shown:
        state = DOWNLOADS.state
        said = plain(says.progress(state))
        return {
            self.row: gr.update(visible=bool(state.name)),
            self.progress: said,
            self.here: said,
            self.stop: gr.update(visible=state.running and own == state.name),
            self.timer: gr.update(active=state.running),
        }

    @staticmethod
    def _facts(name: Any) -> str:
        offer = offer_of(name)
        return says.facts(offer) if offer else ""
