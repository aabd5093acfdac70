"""Photos by captioners: what each says of each, where they differ, how long it takes, where they look."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from captionbot.pages.gradio import view, work
from captionbot.pages.gradio.door import told
from captionbot.pages.gradio.events import BUSY, PRIVATE, QUIET, Shown
from captionbot.pages.gradio.view import CACHE_SECONDS, CAPTIONER, PHOTO, Seen, present
from captionbot.pages.gradio.work import WORK
from captionbot.pages.presenters import compare as says
from captionbot.pages.presenters.compare import Compared
from captionbot.pages.samples import sample_photos


class View(view.View):
    def build(self) -> None:
        names = work.names()
        self.compared = gr.State(time_to_live=CACHE_SECONDS)  # what was said
        self.models = gr.Dropdown(
            work.choices(""),
            value=names[: says.FIRST],
            multiselect=True,
            max_choices=says.MOST,
            label=says.CAPTIONERS,
            info=says.CAPTIONERS_HELP,
        )
        with gr.Row(equal_height=True):
            samples = gr.Dropdown(
                list(sample_photos()),
                multiselect=True,
                max_choices=says.MORE_PHOTOS,
                label=says.PHOTOS,
                info=says.PHOTOS_HELP,
            )
            self.word = gr.Dropdown([], label=says.WORD, visible=False)
            button = gr.Button(
                says.BUTTON, variant="primary", interactive=len(names) >= says.LEAST, elem_classes="act"
            )
        self.cards = gr.HTML(visible=False)
        self.frame.answer(PHOTO, self.word, self.cards)
        self.frame.follow(CAPTIONER, self.show_own, self.models)
        inputs, outputs = [self.frame.seen, self.models, samples], [self.word, self.cards, self.compared]
        button.click(self.on_compare, inputs, outputs, **QUIET, **BUSY)  # the cards say how far it is
        self.word.input(drawn, [self.compared, self.word], self.cards, **PRIVATE)

    def on_compare(
        self, seen: Seen | None, models: list[str], samples: list[str] | None = None
    ) -> Iterator[Shown]:
        """One captioner after the other, each shown as soon as it has spoken."""
        seen = present(seen)
        with told():
            named = says.to_compare(WORK, [work.known(model) for model in models])
            for known in says.present(seen, named, samples or ()):
                yield {self.cards: gr.update(visible=True, value=says.html(known))}
        words = known.words
        yield {
            self.compared: known,
            self.word: gr.update(choices=words, value=words[0], visible=True),
            self.cards: gr.update(visible=True, value=says.html(known, words[0])),
        }

    def show_own(self, own: str) -> Shown:
        """A visitor's captioner beside those that are compared at first."""
        chosen = [*work.names()[: says.FIRST], own]
        return {self.models: gr.update(choices=work.choices(own), value=chosen)}


def drawn(compared: Compared | None, word: str) -> str:
    """The same with the heatmap of one word by every captioner that says it."""
    if compared is None:
        raise gr.Error(work.STALE, print_exception=False)
    return says.html(compared, word)
