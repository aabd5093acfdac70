"""The beam search as a tree, and the sentences that it finished."""

from __future__ import annotations

import streamlit as st

from captionbot.draw.render import plain, sentence
from captionbot.pages.streamlit import learn, work
from captionbot.pages.streamlit.view import View

# A click says in words what a mouse is told by resting: phones have no mouse.
TREE = st.components.v2.component(
    "beam_tree",
    html='<div class="all"><div class="tree" tabindex="0"></div><p class="note" aria-live="polite"></p>'
    '<button type="button">Whole screen</button></div>',
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
            note.textContent = data.hint;
        }
        tree.onclick = (event) => {
            const box = event.target.closest("g");
            if (box) note.textContent = box.querySelector("title").textContent;
        };
        button.hidden = !document.fullscreenEnabled;
        button.onclick = () =>
            document.fullscreenElement ? document.exitFullscreen() : all.requestFullscreen();
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
    st.table(  # which wraps long sentences: their ends are what tells them apart
        {
            "Sentence": [plain(sentence(vocabulary.text(h.token_ids))) for h in hypotheses],
            "Words": [len(h.token_ids) for h in hypotheses],
            "Score": [f"{h.score:.3f}" for h in hypotheses],
            "Log-probability": [f"{h.log_prob:.2f}" for h in hypotheses],
            "Word evidence": [f"{h.evidence:+.2f}" for h in hypotheses],
            "Lost because": [
                "it won" if rank == 0 else f"its score is {hypotheses[0].score - h.score:.2f} lower"
                for rank, h in enumerate(hypotheses)
            ],
        },
        border="horizontal",
        hide_index=True,
        alt=f"The {len(hypotheses)} sentences that the search finished, best first.",
    )
    st.caption(
        "Score: log-probability and word evidence, divided by the length to the power of the length penalty. "
        "Word evidence: what the photo as a whole says for the words, apart from the sentence."
    )
    learn.beam(view)
