"""What is asked of a captioner: which one, how it searches, and one that a visitor uploads."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gradio as gr

from captionbot import CaptionBotError, SearchOptions
from captionbot.errors import displayable, shortened
from captionbot.pages.gradio import work
from captionbot.pages.gradio.door import told, warn
from captionbot.pages.gradio.view import Shown
from captionbot.pages.gradio.work import DEFAULT, MODELS
from captionbot.pages.limits import checked_text
from captionbot.pages.uploads import MAX_MEGABYTES
from captionbot.text.display import plain

BEAM_OPTIONS = ("beam_size",)
SAMPLING_OPTIONS = ("temperature", "top_k", "top_p", "seed")
COMMON_OPTIONS = ("min_length", "max_length", "length_penalty", "no_repeat_ngram_size")
SEARCHING = (*BEAM_OPTIONS, *COMMON_OPTIONS)  # what a captioner's card says of its search


class Settings:
    """controls: by their names in the address of the page; options: those of the search.

    searching: those that follow the captioner.
    """

    def __init__(self, own: gr.State) -> None:
        self.own = own
        usual = work.usual(DEFAULT)
        self.model = gr.Dropdown(work.choices(""), value=DEFAULT, label="Captioner", elem_id="model")
        with gr.Accordion("A captioner of your own", open=False):
            self.own_files = gr.File(
                label="Its card (.json) and weights (.safetensors) together, or a .zip of both",
                file_count="multiple",
                file_types=[".json", ".safetensors", ".zip"],
                height=140,
                elem_id="own",
            )
            self.own_note = gr.Markdown(
                f"What `python -m training.train` writes, {MAX_MEGABYTES} MB at most. It is kept in "
                "memory for this visit, and used by you alone."
            )
        with gr.Row():
            beam_size = gr.Slider(1, 10, usual.beam_size, step=1, label="Beam size", min_width=120)
            captions = gr.Slider(1, 10, 3, step=1, label="Captions", min_width=120)
        self.button = gr.Button("Generate captions", variant="primary")
        with gr.Accordion("More options", open=False):
            self.prefix = gr.Textbox("", label="Start the caption with", placeholder="two children")
            self.banned = gr.Textbox("", label="Words to avoid", placeholder="man, shirt")
            self.options = {
                "beam_size": beam_size,
                "captions": captions,
                "min_length": gr.Slider(1, 40, usual.min_length, step=1, label="Words at least"),
                "max_length": gr.Slider(1, 40, usual.max_length, step=1, label="Words at most"),
                "length_penalty": gr.Slider(
                    0,
                    2,
                    usual.length_penalty,
                    label="Length penalty",
                    info="more favours long sentences",
                ),
                "no_repeat_ngram_size": gr.Slider(
                    0,
                    5,
                    usual.no_repeat_ngram_size,
                    step=1,
                    label="No repeat of so many words",
                    info="0 allows it",
                ),
                "sample": gr.Checkbox(False, label="Sampling", info="draw words, don't search"),
                "temperature": gr.Slider(0.1, 2, 1, label="Temperature", info="lower is safer"),
                "top_k": gr.Slider(0, 100, 0, step=1, label="Top k", info="0 is all words"),
                "top_p": gr.Slider(0.05, 1, 0.9, label="Top p"),
                "seed": gr.Number(0, precision=0, label="Seed"),
            }
        self.controls = {
            "model": self.model,
            "prefix": self.prefix,
            "banned": self.banned,
            **self.options,
        }
        self.searching = [self.options[name] for name in SEARCHING]
        self.own_outputs = [own, self.own_files, self.model, self.own_note, *self.searching]

    def chosen(self, values: Shown) -> tuple[str, SearchOptions, str, str]:
        """The captioner, its search, what captions start with, and words to avoid."""
        model, prefix, banned = (
            fitting(control, values[control]) for control in (self.model, self.prefix, self.banned)
        )
        given = {name: fitting(control, values[control]) for name, control in self.options.items()}
        names = COMMON_OPTIONS + (SAMPLING_OPTIONS if given["sample"] else BEAM_OPTIONS)
        captions = given["captions"] if given["sample"] else min(given["captions"], given["beam_size"])
        options = SearchOptions(
            sample=given["sample"], num_return=captions, **{name: given[name] for name in names}
        )
        return model, options, prefix, banned

    def on_model(self, model: str) -> Shown:
        """The captioner's own search settings."""
        with told():
            options = work.usual(model)
        return {self.options[name]: getattr(options, name) for name in SEARCHING}

    def show_own(self, own: str) -> Shown:
        """A visitor's captioner, chosen at once."""
        return {
            self.own: own,
            self.own_files: None,
            self.model: gr.update(choices=work.choices(own), value=own),
            self.own_note: f"“{plain(displayable(work.title(own)))}” is at work. It is kept for this visit "
            "alone.",
            **self.on_model(own),
        }

    def from_address(self, asked: dict[str, str]) -> Shown:
        """The captioner and the settings that an address asks for."""
        shown: Shown = {}
        if asked.get("model") in MODELS:
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
        if said["model"] not in MODELS:
            del said["model"]  # an upload is its session's alone
        return said


def from_text(control: Any, text: str) -> Any:
    """The value of a setting in an address; an error where the control could not have it."""
    if isinstance(control, gr.Checkbox):
        return {"True": True, "False": False}[text]
    if isinstance(control, gr.Dropdown):
        if text not in MODELS:
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
