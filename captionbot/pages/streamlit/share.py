"""What a person can take along: a link, pictures, numbers, and a page that opens offline."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import streamlit as st

from captionbot.bulk.records import record
from captionbot.draw import render, report
from captionbot.pages.streamlit import work
from captionbot.pages.streamlit.view import View


def show(view: View) -> None:
    files: list[tuple[str, str, str, Callable[[], str | bytes]]] = [
        ("The page that opens offline (HTML)", "html", "text/html", lambda: page(view)),
        ("Every word (PNG)", "png", "image/png", lambda: sheet(view)),
        ("Word by word (GIF)", "gif", "image/gif", lambda: work.gif(view.photo, view.looked, view.look)),
        ("Captions and attention (JSON)", "json", "application/json", lambda: numbers(view)),
    ]
    left, right = st.columns(2, gap="large")
    stem = Path(view.photo.name).stem or "photo"
    with left:
        st.markdown("##### Take along")
        for label, ending, mime, make in files:
            st.download_button(
                label,
                make,
                f"{stem}.{ending}",
                mime,
                icon=":material/download:",
                on_click="ignore",
                width="stretch",
                key=ending,
            )
    with right:
        st.markdown("##### Copy")
        for caption in view.captioned.captions:
            st.code(render.sentence(caption.text), language=None, wrap_lines=True)
        st.markdown("##### Link")
        st.code(link(), language=None, wrap_lines=True)
        st.caption(
            "It restores the captioner and every setting, and the photo too where that came from a link or "
            "is a sample. Photos of your own are not stored, so they cannot be linked to."
        )


def link() -> str:
    """The address of this page with all that was set; it opens on the caption, not on this view."""
    params = st.query_params
    pairs = [(key, value) for key in params if key != "view" for value in params.get_all(key)]
    return f"{st.context.url or ''}{'?' if pairs else ''}{urlencode(pairs)}"


def sheet(view: View) -> bytes:
    return render.png(render.contact_sheet(view.shown, view.looked, view.look))


def numbers(view: View) -> str:
    fields = record(view.photo.name, view.asked.settings.model, view.captioned, with_alphas=True)
    return json.dumps(fields, ensure_ascii=False)


def page(view: View) -> str:
    """The report of the chosen caption."""
    before, after = view.captioned.captions[: view.rank], view.captioned.captions[view.rank + 1 :]
    captioned = replace(view.captioned, captions=(*before, view.looked, *after))
    tree = "" if view.asked.settings.options.sample else work.beam_svg(view.asked, False)
    return report.html(
        view.photo.name,
        work.title(view.asked.settings.model),
        view.shown,
        captioned,
        view.rank,
        work.rivals(view.asked, view.caption.token_ids),
        tree,
        view.look,
    )
