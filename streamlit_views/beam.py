"""The beam search as a tree, and the sentences that it finished."""

from __future__ import annotations

import streamlit as st

from captionbot.render import sentence
from streamlit_views import learn, work
from streamlit_views.view import View

# A click says in words what a mouse is told by resting: phones have no mouse.
TREE = st.components.v2.component(
    "beam_tree",
    html='<div class="tree" tabindex="0"></div><p class="note" aria-live="polite"></p>',
    css="""
    .tree { overflow-x: auto; padding-bottom: 0.5rem; }
    .note { min-height: 2.6em; margin: 0; white-space: pre-line; font-size: 0.875rem; opacity: 0.75;
            font-family: var(--st-font); }
    g { cursor: pointer; }
    """,
    js="""
    export default function ({ data, parentElement }) {
        const tree = parentElement.querySelector(".tree"), note = parentElement.querySelector(".note");
        if (tree.dataset.drawn !== data.svg) {
            tree.innerHTML = data.svg;
            tree.dataset.drawn = data.svg;
            note.textContent = data.hint;
        }
        tree.onclick = (event) => {
            const box = event.target.closest("g");
            if (box) note.textContent = box.querySelector("title").textContent;
        };
    }
    """,
)


def show(view: View) -> None:
    if view.asked.settings.options.sample:
        st.info("Words are being drawn by chance: turn Sampling off to see the beam search.")
        return
    cut = st.toggle(
        "Also what was cut at once",
        key="cut",
        help="Words that never made it into the beam.",
        bind="query-params",
    )
    TREE(
        key="tree",
        data={"svg": work.beam_svg(view.asked, cut), "hint": "Click a word to read what became of it."},
    )
    hypotheses = view.captioned.search.hypotheses[0]
    vocabulary = work.load_captioner(view.asked.settings.model).vocabulary
    st.dataframe(
        {
            "Sentence": [sentence(vocabulary.text(h.token_ids)) for h in hypotheses],
            "Words": [len(h.token_ids) for h in hypotheses],
            "Score": [h.score for h in hypotheses],
            "Log-probability": [h.log_prob for h in hypotheses],
            "Lost because": [
                "it won" if rank == 0 else f"its score is {hypotheses[0].score - h.score:.2f} lower"
                for rank, h in enumerate(hypotheses)
            ],
        },
        column_config={
            "Score": st.column_config.NumberColumn(
                format="%.3f",
                help="The log-probability divided by the length to the power of the length penalty.",
            ),
            "Log-probability": st.column_config.NumberColumn(format="%.2f"),
        },
        alt=f"The {len(hypotheses)} sentences that the search finished, best first.",
    )
    learn.beam(view)
