"""Short explanations beside the views, with the numbers of the photo at hand."""

from __future__ import annotations

import math

import streamlit as st

from captionbot import explore
from captionbot.render import percent, plain
from captionbot.types import Fate
from streamlit_views import work
from streamlit_views.view import View


def attention(view: View) -> None:
    """Attention, the gate and doubly stochastic attention, for captioners with a grid or regions."""
    caption = view.caption
    places = len(caption.boxes)
    bits = explore.attention_entropy(caption)
    words = view.words
    sharp, wide = int(bits.argmin()), int(bits.argmax())
    totals = caption.alphas.sum(0)
    with st.expander("How it decides where to look", icon=":material/school:"):
        st.markdown(
            f"Before each word the model scores all **{places} places** of the photo with what it has in "
            "mind, and reads their weighted mean. The weights are the heatmap; for each word they sum to 1."
            f"\n\nIts sharpest look here was for **“{plain(words[sharp])}”**, as if at "
            f"{2 ** bits[sharp]:.0f} places; its widest for **“{plain(words[wide])}”**, as if at "
            f"{2 ** bits[wide]:.0f}.\n\n"
            f"Over the whole sentence the places got between {totals.min():.2f} and {totals.max():.2f} of "
            f"attention; all alike it would be {len(words) / places:.2f} each. Training nudged the model "
            "towards looking everywhere about as much (*doubly stochastic* attention)."
        )
        opened = work.gates(view.asked, caption.token_ids)
        if opened is not None:
            most, least = int(opened.argmax()), int(opened.argmin())
            st.markdown(
                "A **gate** says how much the picture counts against the words so far. It stood most open, "
                f"at {opened[most]:.2f}, for “{plain(words[most])}”, and least, at {opened[least]:.2f}, for "
                f"“{plain(words[least])}”."
            )
        st.latex(
            r"\alpha_{ti} = \frac{\exp e_{ti}}{\sum_k \exp e_{tk}}, \quad "
            r"e_{ti} = v^\top \tanh(W h_{t-1} + U a_i), \quad "
            r"z_t = \beta_t \sum_i \alpha_{ti} a_i, \quad "
            r"\mathcal{L} = -\log p(y) + \lambda \sum_i \Big(1 - \sum_t \alpha_{ti}\Big)^2"
        )
        st.caption("Xu et al., Show, Attend and Tell, arXiv 1502.03044, sections 4.2 and 4.2.1.")


def beam(view: View) -> None:
    search, options = view.captioned.search, view.asked.settings.options
    weighed = int((search.fates != Fate.NONE).sum())
    kept = int((search.fates == Fate.KEPT).sum())
    best = search.hypotheses[0][0]
    words = len(best.log_probs)
    with st.expander("How beam search works", icon=":material/school:"):
        st.markdown(
            "Taking the likeliest word each time can lead into a dead end. A beam keeps the best few "
            f"beginnings instead, here **{options.width}**, goes on with every word of each, and keeps the "
            "best few again. "
            f"This search weighed **{weighed}** continuations, kept **{kept}**, and finished "
            f"**{len(search.hypotheses[0])}** sentences.\n\n"
            "Every word makes a sentence less likely, so long ones would always lose. The log-probability is "
            f"therefore divided by the length to the power {options.length_penalty:g}: the winner's "
            f"{best.log_prob:.2f} over {words} words, its end included, gives **{best.score:.2f}**. Its "
            f"chance of being said, word for word, is {percent(math.exp(best.log_prob))}."
        )
        st.latex(r"\text{score}(y) = \frac{1}{|y|^{\,\ell}} \sum_t \log p(y_t \mid y_{<t}, \text{photo})")
