"""Change a word, and the model finishes the sentence again from there."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr

from captionbot import SearchOptions
from captionbot.explain import counterfactuals as explore
from captionbot.explain.counterfactuals import LENGTHS
from captionbot.pages.gradio import work
from captionbot.pages.gradio.door import told
from captionbot.pages.gradio.draw import View
from captionbot.pages.gradio.view import BUSY, PRIVATE, Shown, SideBySide, original, present
from captionbot.pages.turns import turn
from captionbot.text.tokenizer import tokenize


class Steer:
    def __init__(self, view: gr.State) -> None:
        with gr.Row(equal_height=True):
            self.instead = gr.Textbox(label="Instead say", placeholder="running through the snow", scale=3)
            self.never = gr.Checkbox(False, label="Never say it", min_width=200)
            length = gr.Radio(LENGTHS, value="as it is", label="Length", scale=2, min_width=330)
            button = gr.Button("Finish the sentence again", variant="primary", elem_classes="act")
        self.said = SideBySide("The model's own", "Steered", elem_id="steered")
        self.word_outputs = [self.instead, self.never]
        gr.on(
            [button.click, self.instead.submit],
            self.on_steer,
            [view, self.instead, self.never, length],
            self.said.outputs,
            **PRIVATE,
            **BUSY,
        )

    def on_steer(self, seen: View | None, instead: str, never: bool, length: str) -> Shown:
        seen = present(seen)
        said = [word.text for word in seen.caption.words]
        typed = tokenize(instead)
        begun = [*said[: seen.t], *typed] if typed else []
        with told():
            options = explore.of_length(seen.options, length, len(said), len(begun))
        return self.steered(seen, options, begun, [said[seen.t]] if never else [])

    def show_rival(self, seen: View, rival: str) -> Shown:
        """The sentence finished again from a rival of the chosen word."""
        said = [word.text for word in seen.caption.words[: seen.t]]
        return self.steered(seen, seen.options, [*said, rival], [])

    def steered(self, seen: View, options: SearchOptions, begun: list[str], never: list[str]) -> Shown:
        with told(), turn():
            after = work.steer(
                seen.model, original(seen), replace(options, num_return=1), begun, [seen.banned, *never]
            )
        return self.said.show(seen.caption, after)

    def show_word(self, seen: View) -> Shown:
        text = seen.caption.words[seen.t].text
        return {
            self.instead: gr.update(label=f"Instead of “{text}” say"),
            self.never: gr.update(label=f"Never say “{text}”"),
        }
