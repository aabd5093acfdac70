"""The Gradio page and Hugging Face Space: `python gradio_app.py`. Widgets only.

This is the frame: the photo, the settings and the tabs, and what more than one of them follows. Each tab is
a module of `captionbot.pages.gradio`; `captionbot.pages.presenters` lists them.

GRADIO_MCP_SERVER=true makes the endpoints tools of an MCP server too; it needs `pip install "gradio[mcp]"`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
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
from captionbot.pages.gradio.door import Page, aside, told, warn
from captionbot.pages.gradio.requests import Requests
from captionbot.pages.gradio.settings import Settings, adopt
from captionbot.pages.gradio.view import (
    BUSY,
    CACHE_SECONDS,
    CAPTIONER,
    FETCHING,
    LONG,
    PHOTO,
    PRIVATE,
    PROGRAMS,
    QUIET,
    Frame,
    Seen,
    Shown,
)
from captionbot.pages.gradio.words import Heroes
from captionbot.pages.gradio.work import WORK, Uploaded
from captionbot.pages.presenters import about
from captionbot.pages.presenters.share import File
from captionbot.pages.samples import sample_photos
from captionbot.pages.turns import turn
from captionbot.pages.uploads import MAX_MEGABYTES
from captionbot.pages.work import Asked, Decoded
from captionbot.text.display import plain

SAMPLES = sample_photos()
gr.set_static_paths([*SAMPLES.values()])  # wherever they are installed

# What is asked for from further down comes into sight; a caption that is in sight stays where it is.
TO_HEADLINE = "() => document.getElementById('headline').scrollIntoView({block: 'nearest'})"

CSS = """
#headline { scroll-margin-top: 1rem; }
#words .token { cursor: pointer; font-size: 1.1rem; }
#rivals button { cursor: pointer; }
#rivals h2 { display: none; }
#rivals .container { padding-top: 2.4rem; }
.caption-label { white-space: pre-line !important; max-width: 100% !important; }
#views [role=grid] *, #rivals * { font-family: var(--font); }
.dark #words button, .dark .token, .dark .token * { color: white !important; }
#heatmap img, #places img, #boxes img, #asked img { width: 100%; height: 100%; object-fit: contain; }
#said:not(:has(#headline h2)) > :not(#headline) { display: none; }  /* no caption yet */
@media (max-width: 700px) {  /* what is said stands right under the photo */
  #given { display: contents; }
  #given > :not(#photo) { order: 1; }
  #views .row:has(> .act) { flex-direction: column; }
  #views .act { width: 100%; }
  #heatmap, #places { height: auto !important; }
  .grid-container { grid-template-columns: 1fr !important; }
  #tiles .grid-container { grid-template-columns: repeat(3, 1fr) !important; }
  #views table * { font-size: 0.75rem; }
  #views table th > *, #views table td > * { padding-left: 0.25rem; padding-right: 0.25rem; }
}
#heatmap label.float, #boxes label.float { max-width: calc(100% - 5.5rem); }
#asked-for input[type=range] { min-width: 0; }
#views .grid-wrap { max-height: none !important; }
#boxes img.mask:not(.active):not(.inactive) { opacity: 0.45; }
.act { align-self: center; max-height: 3rem; min-width: fit-content !important; white-space: nowrap; }
#many img { max-height: 4.5rem; border-radius: 0.4rem; margin: 0; }
.tree { overflow-x: auto; --st-text-color: var(--body-text-color);
        --st-background-color: var(--background-fill-primary); --st-primary-color: var(--primary-500); }
"""
LAUNCH: dict[str, Any] = {
    # Fonts of the visitor's own system: nothing is fetched from elsewhere to show the page.
    "theme": gr.themes.Soft(
        primary_hue="indigo",
        font=("system-ui", "sans-serif"),
        font_mono=("ui-monospace", "monospace"),
    ),
    "css": CSS,
    "max_file_size": f"{MAX_MEGABYTES}mb",  # of a captioner; photos have a limit of their own
    "run_history": False,
    # Gradio would ask its own page for an answer within 3 seconds and give up where the machine is busy.
    "_frontend": False,
    "footer_links": ["api"],
    "state_session_capacity": 200,
    "enable_monitoring": False,
    "app_kwargs": {"middleware": [Middleware(Requests)]},
}


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
        gr.Markdown(f"# {about.TITLE}\n{about.INTRODUCTION}")
        self.own_captioner = gr.State("", delete_callback=work.let_go)
        with gr.Row(elem_id="heroes"):
            with gr.Column(scale=2, min_width=320, elem_id="given"):
                self.photo = gr.Image(
                    next((str(path) for path in SAMPLES.values()), None),
                    label=about.PHOTO,
                    sources=["upload", "webcam", "clipboard"],
                    type="filepath",
                    format="png",
                    height=300,
                    elem_id="photo",
                )
                self.link = gr.Textbox(
                    label=about.ADDRESS, placeholder=about.ADDRESS_EXAMPLE, submit_btn=about.FETCH
                )
                gr.Examples([str(path) for path in SAMPLES.values()], self.photo, label=about.SAMPLE)
                with gr.Column(elem_id="asked-for"):
                    self.settings = Settings(self.own_captioner)
            with gr.Column(scale=3, min_width=320, elem_id="said"):
                self.heroes = Heroes(self)
        self.views: dict[str, Any] = {}
        with gr.Tabs(elem_id="views") as self.tabs:
            for name in (*presenters.VIEWS, *presenters.PAGES):
                with gr.Tab(presenters.title(name), id=name) as tab:
                    self.views[name] = import_module(f"captionbot.pages.gradio.{name}").View(self, tab)
        gr.Markdown(f"{about.MISTAKES} {about.kept(CACHE_SECONDS // 60)}")

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
            self.on_link, link, photo, **QUIET, **FETCHING
        ).then(**caption_photo)
        asked_for = [photo.change, settings.button.click, settings.prefix.submit, settings.banned.submit]
        gr.on(asked_for, **caption_photo)
        words = self.views["words"]
        scrolling = [*asked_for, settings.model.input, words.gallery.select, words.table.select]
        gr.on(scrolling, None, js=TO_HEADLINE)
        settings.model.input(settings.on_model, settings.model, settings.searching, **QUIET).then(
            **caption_photo
        )
        settings.own_files.upload(
            self.on_own,
            [settings.own_files, self.own_captioner],
            [*settings.own_outputs, *self.outputs(CAPTIONER)],
            preprocess=False,
            **PRIVATE,
            **BUSY,
        ).success(**caption_photo)
        link.submit(self.on_link, link, photo, **PRIVATE, **FETCHING)
        photo.input(lambda: "", None, link, **QUIET)  # the photo is no longer that of the address
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

    async def on_link(self, url: str) -> Any:
        """The photo at an address; the one before stays where there is none."""
        if not url.strip():
            return gr.skip()
        try:
            return await aside(work.photo_at, url.strip())
        except CaptionBotError as error:
            warn(str(error))
            return gr.skip()

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
            if before and before.asked == asked:
                return {self.seen: before}  # a link's photo comes twice: with the page, and as it changes
            try:
                image = photo.decode()
            except CaptionBotError as error:
                return self.nothing(plain(str(error)))
            captioned, evidence = WORK.look(Asked(Decoded(photo.name, image, photo.key), asked.settings))
        return self.show(PHOTO, Seen(WORK, asked, fit(image), captioned, evidence=evidence))

    def nothing(self, why: str) -> Shown:
        return {
            **self.show_nothing(),
            self.heroes.headline: why,
            self.heroes.heatmap: gr.update(value=None, label=self.heroes.heatmap.label),
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
