"""The photo and its sentence in the browser, and what a visitor does there."""

from __future__ import annotations

from typing import Any

import gradio as gr

from captionbot.draw import canvas as drawn
from captionbot.pages.presenters import canvas as says

# An upload goes the way of all uploads, so that the door knows it.
_GLUE = """
const root = element.querySelector(".cb-root");
const send = async (event, value) => {
  if (event === "file") value = { ...(await upload(value)), orig_name: value.name };
  trigger("did", { event, value });
};
const given = () => (props.value?.part ? props.value : null);
const show = () => CaptionBot.mount(root, given(), send);
watch("value", show);
show();
"""
STYLE = drawn.style()
SOURCES = ("file", "sample", "link")
"""Events that bring another photo."""


def part(elem_id: str, value: dict[str, Any] | None = None) -> gr.HTML:
    """A part of the canvas; its event `did` has what a visitor did there, for `told_of`."""
    return gr.HTML(
        value,
        html_template='<div class="cb-root"></div>',
        js_on_load=f"{drawn.script()}{_GLUE}",
        apply_default_css=False,
        elem_id=elem_id,
    )


def told_of(page: Any, event: gr.EventData) -> tuple[str, Any]:
    """What a browser told of, through the page's door."""
    given = getattr(event, "_data", None)
    return says.event(page.admitted(given))
