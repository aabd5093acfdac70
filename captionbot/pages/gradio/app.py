"""The Gradio page and Hugging Face Space: `python gradio_app.py`. Widgets only.

This is the frame: the photo, the settings and the tabs, and what more than one of them follows. Each tab is
a module of `captionbot.pages.gradio`; `captionbot.pages.presenters` lists them.

GRADIO_MCP_SERVER=true makes the endpoints tools of an MCP server too; it needs `pip install "gradio[mcp]"`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read as gradio is imported

from captionbot.pages.gradio import (
    work,  # before all others: it imports ZeroGPU's spaces, which must be first
)

# isort: split
import gradio as gr
from starlette.middleware import Middleware

from captionbot.draw.overlays import fit
from captionbot.errors import CaptionBotError
from captionbot.pages import presenters
from captionbot.pages.gradio import canvas
from captionbot.pages.gradio.door import Page, Upload, aside, told, warn
from captionbot.pages.gradio.events import (
    BUSY,
    FETCHING,
    LONG,
    PRIVATE,
    PROGRAMS,
    QUIET,
    Shown,
)
from captionbot.pages.gradio.hub import Fetching
from captionbot.pages.gradio.requests import Requests
from captionbot.pages.gradio.settings import Settings, adopt, fitting
from captionbot.pages.gradio.view import CACHE_SECONDS, CAPTIONER, PHOTO, Frame, Seen
from captionbot.pages.gradio.words import Heroes
from captionbot.pages.gradio.work import WORK, Uploaded
from captionbot.pages.presenters import about
from captionbot.pages.presenters import canvas as says_canvas
from captionbot.pages.presenters import settings as settings_say
from captionbot.pages.presenters.share import File
from captionbot.pages.samples import sample_photos
from captionbot.pages.turns import turn
from captionbot.pages.uploads import MAX_MEGABYTES
from captionbot.pages.work import Asked, Decoded
from captionbot.text.display import plain

SAMPLES = sample_photos()
gr.set_static_paths([*SAMPLES.values()])  # wherever they are installed

CSS = """
.gradio-container { max-width: 1480px !important; overflow: clip !important; }  /* or nothing could stick */
main.contain, .main { padding-top: 0.5rem !important; }
#headline, #headline * { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); }
#headline:not(:has(h2)), #headline:not(:has(h2)) * { position: static; width: auto; height: auto;
  clip-path: none; }
#left { position: sticky; top: 0; align-self: flex-start; z-index: 20;
  background: var(--body-background-fill); }
#title p { margin: 0; }
#expert { flex: 0 0 auto; width: auto; min-width: 6.5rem !important; background: none; }
.caption-label { white-space: pre-line !important; max-width: 100% !important; }
#views [role=tab] { padding: 0 0.5rem; }
#views [role=grid] * { font-family: var(--font); }
.dark { --color-accent: #a5b4fc !important; }
.dark .token, .dark .token * { color: white !important; }
@media (min-width: 900px) {  /* all in sight: what a view has too much of scrolls within it */
  #views .tabitem { max-height: calc(100vh - 24rem); min-height: 14rem; overflow-y: auto; }
}
@media (max-width: 899px) {
  #heroes { flex-direction: column; }
  #heroes > * { width: 100%; min-width: 0 !important; }
  #heroes :has(.cb-stage) { display: contents; }  /* the photo sticks, its tools do not */
  #canvas .cb-photo { --cb-tall: 30vh; }
  #views .row:has(> .act) { flex-direction: column; }
  #views .act { width: 100%; }
}
@media (max-width: 700px) {
  .grid-container { grid-template-columns: 1fr !important; }
  #views table * { font-size: 0.75rem; }
  #views table th > *, #views table td > * { padding-left: 0.25rem; padding-right: 0.25rem; }
}
#boxes img { width: 100%; height: 100%; object-fit: contain; }
#asked-for input[type=range] { min-width: 0; }
#views .grid-wrap { max-height: none !important; }
#boxes img.mask:not(.active):not(.inactive) { opacity: 0.45; }
.act { align-self: center; max-height: 3rem; min-width: fit-content !important; white-space: nowrap; }
"""
LAUNCH: dict[str, Any] = {
    # Fonts of the visitor's own system: nothing is fetched from elsewhere to show the page.
    "theme": gr.themes.Soft(
        primary_hue="indigo",
        font=("system-ui", "sans-serif"),
        font_mono=("ui-monospace", "monospace"),
    ).set(
        # All text with a contrast of 4.5 or more, and labels that are no purple badges.
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        color_accent="*primary_600",
        block_label_background_fill="*background_fill_primary",
        block_label_background_fill_dark="*background_fill_primary",
        block_label_text_color="*body_text_color",
        block_title_background_fill="none",
        block_title_background_fill_dark="none",
        block_title_text_color="*body_text_color",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_700",
        checkbox_border_color="*neutral_500",
        checkbox_border_color_dark="*neutral_400",
        checkbox_label_background_fill_selected="*primary_600",
    ),
    "css": CSS + canvas.STYLE,
    "max_file_size": f"{MAX_MEGABYTES}mb",  # of a captioner; photos have a limit of their own
    "run_history": False,
    # Gradio would ask its own page for an answer within 3 seconds and give up where the machine is busy.
    "_frontend": False,
    "footer_links": ["api"],
    "state_session_capacity": 200,
    "enable_monitoring": False,
}


def launch_options() -> dict[str, Any]:
    """What the page is launched with. Gradio writes into the last of it, so each launch gets its own."""
    return {**LAUNCH, "app_kwargs": {"middleware": [Middleware(Requests)]}}


class Explorer(Frame):
    """The page. demo: what Gradio launches; views: by their names, as `presenters` lists them.

    Its events are those that more than one view follows. Each returns a value for every component that it
    changes.
    """

    def __init__(self) -> None:
        with Page(title=about.TITLE, analytics_enabled=False, delete_cache=(60, CACHE_SECONDS)) as self.demo:
            super().__init__()
            self.build()
            self.wire()
        self.demo.queue(max_size=64, default_concurrency_limit=4)

    def build(self) -> None:
        """The components, from the top of the page to its end."""
        self.own_captioner = gr.State("", delete_callback=work.let_go)
        # What is captioned; the canvas shows it.
        self.photo = gr.Image(
            next((str(path) for path in SAMPLES.values()), None),
            label=about.PHOTO,
            type="filepath",
            format="png",
            visible="hidden",
            elem_id="photo",
        )
        self.link = gr.Textbox(label=about.ADDRESS, visible="hidden")
        with gr.Row(elem_id="heroes"):
            with gr.Column(scale=1, min_width=320, elem_id="left"):
                self.canvas = canvas.part("canvas", says_canvas.empty(**says_canvas.sources("")))
            with gr.Column(scale=1, min_width=320, elem_id="said"):
                with gr.Row(equal_height=True):
                    gr.Markdown(f"**{about.TITLE}** {about.INTRODUCTION}", elem_id="title")
                    self.expert = gr.Checkbox(
                        False, label=settings_say.EXPERT, container=False, min_width=90, elem_id="expert"
                    )
                self.heroes = Heroes(self, self.canvas)
                self.fetching = Fetching(self)
                with gr.Accordion(settings_say.TITLE, open=False), gr.Column(elem_id="asked-for"):
                    self.settings = Settings(self.own_captioner, self.expert)
                    self.fetching.choose()
                self.build_views()
        gr.Markdown(f"{about.MISTAKES} {about.kept(CACHE_SECONDS // 60)}")

    def build_views(self) -> None:
        self.views: dict[str, Any] = {}
        with gr.Tabs(elem_id="views", overflow_behavior="wrap") as self.tabs:
            for name in (*presenters.VIEWS, *presenters.PAGES):
                with gr.Tab(presenters.title(name), id=name) as tab:
                    self.views[name] = import_module(f"captionbot.pages.gradio.{name}").View(self, tab)

    def wire(self) -> None:
        """The events that change several views, once all of them are there."""
        photo, link, settings = self.photo, self.link, self.settings
        asking = {*settings.controls.values()}
        self.addressed = {self.seen, link, *asking}
        caption_photo: dict[str, Any] = {
            "fn": self.on_photo,
            "inputs": {self.seen, photo, *asking},
            "outputs": self.outputs(PHOTO),
            "preprocess": False,
            "show_progress_on": self.heroes.headline,
            "trigger_mode": "always_last",  # a photo that comes while another is captioned is not forgotten
            **PRIVATE,
            **BUSY,
        }
        self.demo.load(self.on_open, None, [*settings.controls.values(), photo, link], **PRIVATE).then(
            self.on_link, link, [photo, link], **QUIET, **FETCHING
        ).then(**caption_photo)
        asked_for = [photo.change, settings.button.click, settings.prefix.submit, settings.banned.submit]
        gr.on(asked_for, **caption_photo)
        settings.model.input(settings.on_model, settings.model, settings.searching, **QUIET).then(
            **caption_photo
        )
        fields = [settings.prefix, settings.banned]
        leaving = [leave for field in fields for leave in (field.submit, field.blur)]
        gr.on(leaving, settings.on_words, [settings.model, *fields], fields, **QUIET)
        settings.own_files.upload(
            self.on_own,
            [settings.own_files, self.own_captioner],
            [*settings.own_outputs, *self.outputs(CAPTIONER)],
            preprocess=False,
            **PRIVATE,
            **BUSY,
        ).success(**caption_photo)
        self.expert.change(
            self.on_expert, [self.seen, self.expert], [settings.more, *self.outputs(PHOTO)], **QUIET, **BUSY
        )
        self.canvas.did(self.on_source, None, [photo, link], **QUIET, **FETCHING)
        self.fetching.wire(settings, caption_photo)
        for part in (self.heroes, *self.views.values()):
            part.wire()

    def on_open(self, request: gr.Request) -> Shown:
        """What the address of the page says: the captioner, its settings, and a photo that others can see
        too."""
        asked = dict(request.query_params)
        shown = self.settings.from_address(asked)
        if asked.get("photo") in SAMPLES:
            return {self.link: "", self.photo: str(SAMPLES[asked["photo"]]), **shown}
        # Gradio takes an empty dictionary for none.
        return {self.link: asked.get("url", ""), **shown}

    def on_address(self, values: Shown) -> str:
        """What `on_open` reads, of all settings that are not as they were, and of the photo."""
        said = self.settings.to_address(values)
        seen, url = values[self.seen], (values[self.link] or "").strip()
        if seen:
            file = Path(seen.photo.path)
            data = file.read_bytes() if file.is_file() else b""
            own = next((name for name, path in SAMPLES.items() if path.read_bytes() == data), None)
            said |= {"photo": own} if own else {"url": url} if url else {}
        return f"?{urlencode(said)}"

    async def on_source(self, event: gr.EventData) -> Any:
        """Another photo: one that was uploaded, a sample, or one at an address."""
        with told():
            name, value = canvas.told_of(self.demo, event)
            if name == "file" and isinstance(value, Upload):
                return value.path, ""
            if name == "sample" and value in SAMPLES:
                return str(SAMPLES[value]), ""
            if name == "link" and isinstance(value, str):
                return await self.on_link(value)
        return gr.skip(), gr.skip()

    async def on_link(self, url: str) -> Any:
        """The photo at an address, and the address; the one before stays where there is none."""
        if not url.strip():
            return gr.skip(), gr.skip()
        try:
            return await aside(work.photo_at, url.strip()), url
        except CaptionBotError as error:
            warn(str(error))
            return gr.skip(), ""  # or a link to the page would name a photo that it does not show

    def on_expert(self, seen: Seen | None, expert: bool) -> Shown:
        """The same with all its numbers, or without any."""
        with told():
            expert = fitting(self.expert, expert)
        shown = {self.settings.more: gr.update(visible=expert)}
        return shown | self.show(PHOTO, replace(seen, expert=expert)) if seen else shown

    def on_own(self, uploaded: list[dict[str, Any]] | None, before: str) -> Shown:
        """A captioner that a visitor uploads, chosen at once and among those to compare."""
        own = adopt(uploaded, before)
        return {**self.settings.show_own(own), **self.show(CAPTIONER, own)}

    def on_photo(self, values: Shown) -> Shown:
        """Caption the photo and show the best caption; an empty page where the photo was taken away."""
        if values[self.photo] is None:
            return self.nothing(about.NO_PHOTO)
        file, before = values[self.photo], values[self.seen]
        with told(), turn():
            photo = Uploaded(file.get("orig_name") or "photo", file["path"])
            asked = Asked(photo, self.settings.chosen(values))
            expert = fitting(self.expert, values[self.expert])
            if before and before.base.asked == asked:
                return {self.seen: before}  # a link's photo comes twice: with the page, and as it changes
            try:
                image = photo.decode()
            except CaptionBotError as error:
                return self.nothing(plain(str(error)))
            captioned, evidence = WORK.look(Asked(Decoded(photo.name, image, photo.key), asked.settings))
        return self.show(PHOTO, Seen(WORK, asked, fit(image), captioned, evidence=evidence, expert=expert))

    def nothing(self, why: str) -> Shown:
        return {
            **self.show_nothing(),
            self.heroes.headline: why,
            self.canvas: says_canvas.empty(**says_canvas.sources("")),
        }

    def keep(self, files: Sequence[File]) -> list[str]:
        """Makes files that visitors can download; their paths."""
        paths: list[str] = self.demo.keep([(file.name, file.make()) for file in files])
        return paths


def build() -> Explorer:
    """The page with its endpoints for programs, of the captioners that are here now."""
    from captionbot.pages.gradio import api  # whose signatures have the default captioner

    page = Explorer()
    with page.demo:
        for endpoint in api.ENDPOINTS:
            kind = LONG if endpoint is api.batch else PROGRAMS
            gr.api(endpoint, api_name=endpoint.__name__, **kind)
    return page
