"""The photo and its sentence in the browser, and what a visitor does there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from captionbot.draw import canvas as drawn

PART = st.components.v2.component(
    "captionbot_canvas",
    css=drawn.style(),
    js=f"""{drawn.script()}
    export default function ({{ data, parentElement, setTriggerValue }}) {{
        let root = parentElement.querySelector(":scope > .cb-root");
        if (!root) {{
            root = document.createElement("div");
            root.className = "cb-root";
            parentElement.append(root);
        }}
        CaptionBot.mount(root, data, (event, value) => setTriggerValue("did", {{ event, value }}));
    }}""",
    isolate_styles=False,
)


def part(key: str, data: dict[str, Any], did: Callable[[Any], None] | None = None) -> None:
    """A part of the canvas. did: is told of an event, as the browser sent it, before the script runs."""
    name = f"canvas of the {key}"  # among all that the session keeps

    def tell() -> None:
        given = st.session_state[name].get("did")
        if did is not None and given is not None:
            did(given)

    PART(key=name, data=data, on_did_change=tell)
