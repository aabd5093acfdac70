"""Alt texts of many photos: files or a .zip in, cards to review, files to take away out.

What is written in the gallery stays in the browser until a file is made of it: an event's own JavaScript puts
it where `self.edits` would be, and it comes through the door as every other value does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from captionbot.images.embedding import can_embed
from captionbot.images.load import count_images
from captionbot.pages import presenters, workbench
from captionbot.pages.gradio import view, work
from captionbot.pages.gradio.door import told
from captionbot.pages.gradio.events import LONG, PRIVATE, QUIET, Shown
from captionbot.pages.gradio.work import WORK
from captionbot.pages.limits import MAX_REVIEW_MEGABYTES, PHOTOS_AT_ONCE
from captionbot.pages.presenters import batch as says
from captionbot.pages.presenters.share import File
from captionbot.pages.work import Settings
from captionbot.pages.workbench import Bench

SCRIPT = f"""
{workbench.script()}
const root = element.querySelector(".gallery");
const told = (window.captionbotAlt ??= {{ edits: {{}}, open: null, resume: null, batch: null }});
const send = (event, value) => {{
  told[event] = value;
  if (event !== "edits") trigger(event);
}};
const show = () => {{
  const data = typeof props.value === "string" ? JSON.parse(props.value || "null") : props.value;
  if (data && data.batch !== told.batch) Object.assign(told, {{ batch: data.batch, edits: {{}} }});
  Workbench.mount(root, data, send);
}};
watch("value", show);
show();
"""
EDITS = "(...values) => [...values.slice(0, -1), window.captionbotAlt ?? null]"


class Kept(NamedTuple):
    """A visitor's bench, of which photos and settings it is. copies: the photos with texts in them, as far as
    they were asked for: one file, as large as the photos."""

    bench: Bench
    paths: list[str]
    settings: Settings
    style: str
    copies: list[str]


class View(view.View):
    def build(self) -> None:
        gr.Markdown(says.INTRODUCTION)
        self.files = gr.File(
            label=says.FILES,
            file_count="multiple",
            file_types=["image", ".zip", *workbench.REVIEWS],
            height=160,
            elem_id="files",
        )
        with gr.Row():
            choices = [(title, name) for name, title in says.STYLES.items()]
            self.style = gr.Radio(choices, value="plain", label=says.STYLE, info=says.STYLE_HELP)
            button = gr.Button(says.button(), variant="primary", elem_classes="act")
            stop = gr.Button(says.STOP, elem_classes="act")
        self.note = gr.Markdown(elem_id="alt-note")
        self.kept = gr.State(time_to_live=workbench.KEPT)
        self.edits = gr.JSON(visible=False)
        self.gallery = gr.HTML(
            html_template='<div class="gallery"></div>',
            css_template=workbench.style(),
            js_on_load=SCRIPT,
            apply_default_css=False,
            elem_id="alt-gallery",
        )
        with gr.Column(visible=False) as self.taking:
            with gr.Row():
                make = gr.Button(says.MAKE, variant="primary")
                embed = gr.Button(says.EMBED, visible=can_embed())
            self.written = gr.File(
                label=says.WRITTEN,
                file_count="multiple",
                interactive=False,
                visible=False,
                elem_id="alt-files",
            )
            gr.Markdown(says.EXPORT_HELP)
        running = button.click(
            self.on_batch,
            {self.kept, self.files, self.style, *self.frame.settings.controls.values()},
            [self.kept, self.note, self.gallery, self.taking, self.written],
            preprocess=False,
            show_progress="hidden",
            **PRIVATE,
            **LONG,
        )
        stop.click(None, None, None, cancels=[running], **PRIVATE)
        make.click(self.on_files, [self.kept, self.edits], self.written, js=EDITS, **PRIVATE)
        embed.click(self.on_photos, [self.kept, self.edits], self.written, js=EDITS, **PRIVATE, **LONG)

    def on_batch(self, values: Shown) -> Iterator[Shown]:
        """The gallery as it grows; photos that were captioned before it was stopped are not again."""
        files = values[self.files]
        if not files:
            raise gr.Error(says.NONE, print_exception=False)
        with told():
            settings, style = self.frame.settings.chosen(values), str(values[self.style])
            given = [file["path"] for file in files]
            paths = [path for path in given if not workbench.is_review(path)]
            known = workbench.reviewed([review(path) for path in given if workbench.is_review(path)])
            bench = Bench(WORK.public(settings.model), count_images(paths))
            before: Kept | None = values[self.kept]
            if before and before[1:4] == (paths, settings, style):
                known |= before.bench.known
                bench.batch = before.bench.batch
            kept = Kept(bench, paths, settings, style, [])
            workbench.SHELF.keep(bench, kept)
            started = time.monotonic()
            yield {self.note: says.READING, self.written: gr.update(visible=False, value=None)}
            for card in work.propose_files(paths, settings, style, known):
                bench.cards.append(card)
                if len(bench.cards) % PHOTOS_AT_ONCE == 0:
                    yield {
                        self.kept: kept,
                        self.note: says.so_far(bench, time.monotonic() - started),
                        self.gallery: says.gallery(bench, running=True),
                        self.taking: gr.update(visible=True),
                    }
        yield {
            self.kept: kept,
            self.note: says.note(bench),
            self.gallery: says.gallery(bench),
            self.taking: gr.update(visible=True),
        }

    def wire(self) -> None:
        frame: Any = self.frame
        shown = [self.kept, self.note, self.gallery, self.taking]
        self.gallery.resume(self.on_resume, self.edits, shown, js=EDITS, **QUIET)
        self.gallery.open(
            self.on_open,
            [self.kept, self.edits],
            [frame.photo, frame.link, frame.tabs],
            js=EDITS,
            **QUIET,
        )

    def on_resume(self, told: Any) -> Any:
        """The gallery that this tab had before it was reloaded."""
        found = workbench.SHELF.get(told.get("resume")) if isinstance(told, dict) else None
        if found is None:
            return gr.skip()
        bench, kept = found
        return {
            self.kept: kept,
            self.note: f"{says.note(bench)} {says.rest(bench)}",
            self.gallery: says.gallery(bench),
            self.taking: gr.update(visible=True),
        }

    def on_files(self, kept: Kept | None, edits: Any) -> Any:
        """The texts as they are in the browser, as files."""
        bench = edited(kept, edits).bench
        return gr.update(visible=True, value=self.frame.keep(says.files(bench)))

    def on_photos(self, kept: Kept | None, edits: Any) -> Any:
        """Copies of the photos with the texts in them."""
        kept = edited(kept, edits)
        with told():
            files = says.embedding(kept.bench, partial(bytes_of, kept.paths))
            for path in kept.copies:  # of before the texts were changed
                Path(path).unlink(missing_ok=True)
            kept.copies[:] = self.frame.keep(files)
        return gr.update(visible=True, value=list(kept.copies))

    def on_open(self, kept: Kept | None, edits: Any) -> Any:
        """The explorer with a photo of the gallery."""
        kept = edited(kept, edits)
        with told():
            entry = says.chosen(kept.bench, edits.get("open") if isinstance(edits, dict) else None)
            photo = work.photo_of(kept.paths, entry.image)
        if isinstance(photo, bytes):
            name = f"photo{Path(entry.image).suffix}"
            (photo,) = self.frame.keep([File(says.TITLE, name, "", partial(bytes, photo))])
        return photo, "", gr.update(selected=presenters.VIEWS[0])


def bytes_of(paths: list[str], name: str) -> bytes:
    photo = work.photo_of(paths, name)
    return photo if isinstance(photo, bytes) else Path(photo).read_bytes()


def review(path: str) -> tuple[str, bytes]:
    with Path(path).open("rb") as file:
        return Path(path).name, file.read(MAX_REVIEW_MEGABYTES * 1_000_000 + 1)


def edited(kept: Kept | None, told: Any) -> Kept:
    """What was kept, with what a browser says was changed of it."""
    if kept is None:
        raise gr.Error(says.LET_GO, print_exception=False)
    if isinstance(told, dict) and told.get("batch") == kept.bench.batch:
        kept.bench.edit(told.get("edits"))
    return kept
