"""What a person can export: a link, pictures, numbers, and a page that opens offline."""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st

from captionbot.pages.presenters import share as says
from captionbot.pages.presenters.seen import Seen
from captionbot.pages.streamlit.view import downloads


def show(seen: Seen) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown(f"##### {says.EXPORT}")
        downloads(says.files(seen), width="stretch")
    with right:
        st.markdown(f"##### {says.COPY}")
        for caption in says.captions(seen):
            st.code(caption, language=None, wrap_lines=True)
        st.markdown(f"##### {says.LINK}")
        st.code(link(), language=None, wrap_lines=True)
        st.caption(says.LINK_HELP)


def link() -> str:
    """The address of this page with all that was set; it opens on the caption, not on this view."""
    params = st.query_params
    pairs = [(key, value) for key in params if key != "view" for value in params.get_all(key)]
    return f"{st.context.url or ''}{'?' if pairs else ''}{urlencode(pairs)}"
