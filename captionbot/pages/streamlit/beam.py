"""The beam search as a tree, and the sentences that it finished."""

from __future__ import annotations

import streamlit as st

from captionbot.pages.presenters import beam as says
from captionbot.pages.presenters import learn
from captionbot.pages.presenters.seen import Seen
from captionbot.pages.streamlit.view import lesson
from captionbot.text.display import plain

# A click says in words what a mouse is told by resting: phones have no mouse.
TREE = st.components.v2.component(
    "beam_tree",
    html='<div class="all"><div class="tree" tabindex="0"></div><p class="note" aria-live="polite"></p>'
    '<button type="button"></button></div>',
    css="""
    .all { background: var(--st-background-color); color: var(--st-text-color); font-family: var(--st-font); }
    .tree { overflow: auto; padding-bottom: 0.5rem; }
    .note { min-height: 2.6em; margin: 0; white-space: pre-line; font-size: 0.875rem; opacity: 0.75; }
    .all:fullscreen { display: flex; flex-direction: column; padding: 1rem; box-sizing: border-box; }
    .all:fullscreen .tree { flex: 1; }
    button { font: inherit; font-size: 0.875rem; color: inherit; background: none; cursor: pointer;
             border: 1px solid var(--st-border-color); border-radius: 0.75rem; padding: 0.3rem 0.8rem;
             align-self: start; }
    g { cursor: pointer; }
    """,
    js="""
    export default function ({ data, parentElement }) {
        const tree = parentElement.querySelector(".tree"), note = parentElement.querySelector(".note");
        const all = parentElement.querySelector(".all"), button = parentElement.querySelector("button");
        if (tree.dataset.drawn !== data.svg) {
            tree.innerHTML = data.svg;
            tree.dataset.drawn = data.svg;
            note.textContent = "";
        }
        tree.onclick = (event) => {
            const box = event.target.closest("g");
            if (box) note.textContent = box.querySelector("title").textContent;
        };
        button.textContent = data.whole;
        button.hidden = !document.fullscreenEnabled;
        button.onclick = () =>
            document.fullscreenElement ? document.exitFullscreen() : all.requestFullscreen();
    }
    """,
)


def show(seen: Seen) -> None:
    if seen.options.sample:
        st.info(says.SAMPLING)
        return
    st.caption(f"{says.INTRODUCTION} {says.HINT}")
    cut = st.toggle(says.CUT, key="cut", help=says.CUT_HELP, bind="query-params")
    TREE(key="tree", data={"svg": says.tree(seen, cut), "whole": says.WHOLE_SCREEN})
    finished = says.finished(seen)
    columns = zip(*([plain(text) for text in row] for row in finished.written), strict=True)
    st.table(  # which wraps long sentences: their ends are what tells them apart
        dict(zip(finished.titles, map(list, columns), strict=True)),
        border="horizontal",
        hide_index=True,
        alt=finished.text,
    )
    st.caption(says.NOTE)
    lesson(learn.beam(seen))
