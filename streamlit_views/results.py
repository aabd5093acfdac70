"""How good the captioners are, by the scores on their cards."""

from __future__ import annotations

import streamlit as st

from captionbot.render import plain
from captionbot.weights import list_cards
from streamlit_views import work

METRICS = ("CIDEr", "Bleu_4", "METEOR", "ROUGE_L", "Bleu_1", "Bleu_2", "Bleu_3")


def show() -> None:
    st.title("Results", anchor=False)
    cards = [work.load_card(path.stem) for path in list_cards()]
    scored = sorted((card for card in cards if card.scores), key=lambda card: -card.scores.get("CIDEr", 0.0))
    if not scored:
        st.info("No captioner that is here has scores on its card.")
        return
    st.markdown(
        "Scores of coco-caption on the photos that a card names, higher is better. CIDEr counts the phrases "
        "that a caption shares with what people wrote, rare ones more; BLEU-4 counts runs of four words."
    )
    st.dataframe(
        {
            "Captioner": [card.name for card in scored],
            "Family": [card.family for card in scored],
            **{
                name.replace("_", "-").replace("Bleu", "BLEU"): [card.scores.get(name) for card in scored]
                for name in METRICS
            },
            "Photos": [_measured_on(card.scores) for card in scored],
            "Million parameters": [card.parameters / 1e6 for card in scored],
        },
        hide_index=True,
        column_config={
            "CIDEr": st.column_config.ProgressColumn(format="%.3f", min_value=0, max_value=1.2),
            "Million parameters": st.column_config.NumberColumn(format="%.1f"),
            **{
                name.replace("_", "-").replace("Bleu", "BLEU"): st.column_config.NumberColumn(format="%.3f")
                for name in METRICS[1:]
            },
        },
        alt="The captioners with their scores, best CIDEr first.",
    )
    for card in scored:
        with st.expander(plain(card.name)):
            st.markdown(plain(card.description))


def _measured_on(scores: dict[str, object]) -> str:
    known = [str(scores[key]) for key in ("images", "split") if key in scores]
    return " of ".join(known) if len(known) == 2 else "".join(known)
