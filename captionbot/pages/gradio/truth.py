"""Does a word rest on what its heatmap shows? The photo is hidden and shown piece by piece to find out."""

from __future__ import annotations

import gradio as gr

from captionbot.draw.render import word_overlay
from captionbot.pages import resident as pages
from captionbot.pages.gradio import draw, work
from captionbot.pages.gradio.door import told
from captionbot.pages.gradio.draw import View
from captionbot.pages.gradio.view import BUSY, PICTURES, PRIVATE, Shown, original, present
from captionbot.pages.lessons import HEATMAP_TEST
from captionbot.pages.turns import turn


class Truth:
    """answers: what belongs to one caption, and is hidden with the next."""

    def __init__(self, view: gr.State) -> None:
        self.view = view
        gr.Markdown("Does the word rest on what its heatmap shows? Hide that, and see what it costs.")
        with gr.Row():
            self.button = gr.Button("Test the chosen word", variant="primary")
            test_all = gr.Button("Test every word")
        self.verdict = gr.Markdown(elem_id="verdict", visible=False)
        with gr.Row(visible=False) as self.row:
            self.pictures = gr.Gallery(
                format=PICTURES,
                show_label=False,
                columns=2,
                height="auto",
                object_fit="contain",
                allow_preview=False,
                min_width=480,
            )
            with gr.Column(min_width=320):
                self.legend = gr.HTML()
                self.curves = gr.LinePlot(
                    x="share of the photo, %",
                    y="log-probability",
                    color="what",
                    colors_in_legend=[],
                    height=320,
                    show_label=False,
                )
        self.verdicts = gr.Dataframe(
            headers=["word", "rests on its heatmap", "lost, nats", "must be above"],
            interactive=False,
            visible=False,
        )
        self.parts = gr.Dataframe(
            headers=["part of speech", "words", "heatmap true", "95 % interval"],
            interactive=False,
            visible=False,
        )
        with gr.Accordion(HEATMAP_TEST.title, open=False):
            gr.Markdown(draw.lesson(HEATMAP_TEST))
        self.answers = [self.verdict, self.row, self.verdicts]
        self.photo_outputs = [self.parts]
        self.word_outputs = [self.button]
        self.button.click(
            self.on_test,
            view,
            [view, self.verdict, self.row, self.legend, self.curves, self.pictures],
            **PRIVATE,
            **BUSY,
        )
        test_all.click(self.on_test_all, view, self.verdicts, **PRIVATE, **BUSY)

    def on_test(self, seen: View | None) -> Shown:
        """Whether the chosen word rests on its heatmap; what it misses is worked out once a caption."""
        seen = present(seen)
        caption = seen.caption
        with told(), turn():
            image = original(seen)
            (tested,) = work.test(seen.model, image, caption, seen.evidence.maps, [seen.t])
            if seen.missed is None and seen.evidence.attends:
                seen = seen._replace(missed=work.evidence(seen.model, image, caption, "occlusion"))
        word = caption.words[seen.t].text
        return {
            self.view: seen,
            self.verdict: gr.update(visible=True, value=draw.verdict(tested)),
            self.row: gr.update(visible=True),
            self.legend: f"<small>{pages.legend(pages.colours(tested.curves))}</small>",
            self.curves: gr.update(value=draw.curves(tested), color_map=pages.colours(tested.curves)),
            self.pictures: [
                (word_overlay(seen.photo, shown.looked, seen.t), f"“{word}”: {shown.label}")
                for shown in (seen.evidence, seen.missed)
                if shown is not None
            ],
        }

    def on_test_all(self, seen: View | None) -> Shown:
        seen = present(seen)
        with told(), turn():
            words = range(len(seen.caption.words))
            tested = work.test(seen.model, original(seen), seen.caption, seen.evidence.maps, words)
        holds = sum(word.holds for word in tested)
        note = f"The heatmap holds for {holds} of {len(tested)} words."
        return {self.verdicts: gr.update(visible=True, value=draw.verdicts(tested), label=note)}

    def show_photo(self, seen: View) -> Shown:
        return {self.parts: draw.parts_of_speech(seen.model)}

    def show_word(self, seen: View) -> Shown:
        return {self.button: gr.update(value=f"Test “{seen.caption.words[seen.t].text}”")}
