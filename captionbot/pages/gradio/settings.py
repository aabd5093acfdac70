"""What is asked of a captioner: which one, how it searches, and one that a visitor uploads."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gradio as gr

from captionbot.errors import CaptionBotError, displayable, shortened
from captionbot.pages import work as core
from captionbot.pages.gradio import work
from captionbot.pages.gradio.door import told, warn
from captionbot.pages.gradio.events import QUIET, Shown
from captionbot.pages.gradio.work import WORK
from captionbot.pages.limits import checked_text
from captionbot.pages.presenters import settings as says
from captionbot.pages.presenters.settings import SEARCHING, SETTINGS
from captionbot.pages.uploads import MAX_MEGABYTES
from captionbot.search.options import BEGINNINGS, SearchOptions
from captionbot.text.display import plain


class Settings:
    """controls: by their names in the address of the page; options: those of the search.

    searching: those that follow the captioner; more: what experts see alone.
    expert: the switch for that, which the page has made.
    """

    def __init__(self, own: gr.State, expert: gr.Checkbox) -> None:
        self.own, self.expert = own, expert
        usual = WORK.usual(work.default())
        self.model = gr.Dropdown(
            work.choices(""), value=work.default(), label=says.CAPTIONER.label, elem_id="model"
        )
        with gr.Accordion(says.OWN, open=False):
            self.own_files = gr.File(
                label=says.OWN_FILES,
                file_count="multiple",
                file_types=[".json", ".safetensors", ".zip"],
                height=140,
                elem_id="own",
            )
            self.own_note = gr.Markdown(says.OWN_HELP)
        self.prefix, self.banned = words(says.PREFIX), words(says.BANNED)
        self.beginnings = gr.Radio(
            list(BEGINNINGS), value=None, label=says.BEGINNING.label, info=says.BEGINNING.help
        )
        self.beginnings.input(begun, self.beginnings, self.prefix, **QUIET)
        with gr.Row():
            few = {says.FEW: option(says.FEW, usual, min_width=120, info=None)}
            self.different = gr.Checkbox(False, label=says.DIFFERENT.label, info=says.DIFFERENT.help)
        self.button = gr.Button(says.GENERATE, variant="primary")
        with gr.Accordion(says.MORE, open=False, visible=False) as self.more:
            more = {name: option(name, usual) for name in SETTINGS if name != says.FEW}
        with gr.Accordion(says.TIPS_TITLE, open=False):
            gr.Markdown(says.TIPS)
        self.options = few | more
        self.controls = {
            "model": self.model,
            "prefix": self.prefix,
            "banned": self.banned,
            "different": self.different,
            "expert": expert,
            **self.options,
        }
        self.searching = [self.options[name] for name in SEARCHING]
        self.own_outputs = [own, self.own_files, self.model, self.own_note, *self.searching]

    def chosen(self, values: Shown) -> core.Settings:
        """The captioner, its search, what captions start with, and words to avoid."""
        model, prefix, banned = (
            fitting(control, values[control]) for control in (self.model, self.prefix, self.banned)
        )
        given = {name: fitting(control, values[control]) for name, control in self.options.items()}
        different = fitting(self.different, values[self.different])
        return core.Settings(model, says.search(given, WORK.usual(model), different), prefix, (banned,))

    def on_words(self, model: str, prefix: str, banned: str) -> Shown:
        """Says at each field why the captioner cannot have what is typed there."""

        def why(help: str, prefix: str, banned: str) -> Any:
            try:
                core.Settings(model, SearchOptions(), prefix, (banned,))
                WORK.understood(model, prefix, (banned,))
            except CaptionBotError as error:
                return gr.update(info=f"⚠ {plain(displayable(str(error)))}")
            return gr.update(info=help)

        return {
            self.prefix: why(says.PREFIX.help, prefix, ""),
            self.banned: why(says.BANNED.help, "", banned),
        }

    def on_model(self, model: str) -> Shown:
        """The captioner's own search settings."""
        with told():
            options = WORK.usual(model)
        return {self.options[name]: getattr(options, name) for name in SEARCHING}

    def show_own(self, own: str) -> Shown:
        """A visitor's captioner, chosen at once."""
        return {
            self.own: own,
            self.own_files: None,
            self.model: gr.update(choices=work.choices(own), value=own),
            self.own_note: says.using(plain(displayable(WORK.title(own)))),
            **self.on_model(own),
        }

    def from_address(self, asked: dict[str, str]) -> Shown:
        """The captioner and the settings that an address asks for, of the captioners that are here now."""
        shown: Shown = {}
        if asked.get("model") in work.names():
            shown |= self.on_model(asked["model"])
        for name, control in self.controls.items():
            if name in asked:
                try:
                    shown[control] = from_text(control, asked[name])
                except (ValueError, KeyError, CaptionBotError):
                    warn(
                        f"The link has {name}={shortened(asked[name], 40)}, which cannot be: it is left out."
                    )
        return shown

    def to_address(self, values: Shown) -> dict[str, Any]:
        """What `from_address` reads, of all settings that are not as they were."""
        said = {
            name: values[control]
            for name, control in self.controls.items()
            if name in ("model", "beam_size") or values[control] != control.value
        }
        if said["model"] not in work.names():
            del said["model"]  # an upload is its session's alone
        return said


def words(setting: says.Setting) -> gr.Textbox:
    """The field of words that a person types."""
    return gr.Textbox("", label=setting.label, placeholder=setting.example, info=setting.help)


def begun(preset: Any) -> str:
    """A preset as the beginning."""
    return preset if preset in BEGINNINGS else ""


def option(name: str, usual: SearchOptions, **looks: Any) -> Any:
    """The widget of a setting."""
    setting, first = SETTINGS[name], says.first(name, usual)
    texts = {"label": setting.label, "info": setting.help or None, **looks}
    if isinstance(first, bool):
        return gr.Checkbox(first, **texts)
    if name == "seed":
        return gr.Number(first, precision=0, **texts)
    return gr.Slider(setting.low, setting.high, first, step=setting.step, **texts)


def from_text(control: Any, text: str) -> Any:
    """The value of a setting in an address; an error where the control could not have it."""
    if isinstance(control, gr.Checkbox):
        return {"True": True, "False": False}[text]
    if isinstance(control, gr.Dropdown):
        if text not in work.names():
            raise ValueError
        return text
    if isinstance(control, gr.Slider | gr.Number):
        return fitting(control, float(text))
    return fitting(control, text)


def fitting(control: Any, value: Any) -> Any:
    """The same value; CaptionBotError where the control could not have it, whatever a client sends."""
    if isinstance(control, gr.Checkbox):
        fits = isinstance(value, bool)
    elif isinstance(control, gr.Slider | gr.Number):
        whole = control.step == 1 or isinstance(control, gr.Number)
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        fits = fits and (not whole or value == int(value))
        if fits and whole:
            value = int(value)
        if isinstance(control, gr.Slider):
            fits = fits and control.minimum <= value <= control.maximum
    else:
        value = "" if value is None else value
        fits = isinstance(value, str)
        if fits:
            checked_text(value, f"“{control.label}”")
    if not fits:
        raise CaptionBotError(f"“{control.label}” cannot be {shortened(value)}: choose what the page offers.")
    return value


def adopt(uploaded: list[dict[str, Any]] | None, before: str) -> str:
    """The name of a captioner that a visitor uploads; its files leave the disk."""
    paths = [Path(file["path"]) for file in uploaded or []]
    try:
        with told():
            if sum(path.stat().st_size for path in paths) > MAX_MEGABYTES * 1_000_000:
                raise CaptionBotError(f"These files are larger than {MAX_MEGABYTES} MB together.")
            return work.adopt([(path.name, path.read_bytes()) for path in paths], before)
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
