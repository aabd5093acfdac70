"""Short explanations of what a captioner did, with the numbers of the photo at hand: for both pages."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from captionbot.explain.counterfactuals import attention_entropy
from captionbot.search.options import SearchOptions
from captionbot.text.display import percent, plain
from captionbot.types import Caption, Fate, Hypothesis, Search

ATTENTION, BEAM = "How it decides where to look", "How beam search works"


@dataclass(frozen=True)
class Lesson:
    """An explanation for a page: text in Markdown, maths in LaTeX, and the source of both."""

    title: str
    text: str
    maths: str
    source: str = ""


HEATMAP_TEST = Lesson(
    "How this is found out",
    "The photo is cut into 8 x 8 pieces. **83 times** another quarter of them is hidden under the photo's "
    "mean colour, in patches, and the model reads its own sentence again. Each word becomes more or less "
    "likely; a regression finds the map of pieces that explains best what the word lost in which copy. One "
    "set of copies serves all words.\n\n"
    "Then the map is put to a **test**: for each copy, what would a map of the 82 others have said of it? "
    "How well that agrees with what happened is held against **999 maps at random**. The map counts as true "
    "where at most 49 of them do as well, which luck alone manages 1 time in 20. So of a sentence of ten "
    "words expect one to pass by luck in every other photo.\n\n"
    "Last, the hottest quarter of each word's map is really hidden, to see how likely the word stays. A word "
    "*needs the place* where its map is true and hiding some part makes it half as likely or less.",
    r"\text{map} = K Z^\top P \, d, \quad P = A - \frac{a a^\top}{\sum a}, \quad A = (Z K Z^\top + 10 "
    r"I)^{-1}, \quad a = A 1, \qquad \text{foretold} = d - \frac{P d}{\operatorname{diag} P}",
    "Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, sections 2.7 and 5.4.2; Bhatt et "
    "al., arXiv 2005.00631. Z: what each copy hides, d: what the word lost there, K: how alike neighbouring "
    "pieces are. A photo with hidden pieces is like none that the model learnt from, and what a word needs "
    "is not always enough for it: a verdict is evidence, not proof.",
)
"""The method of `explain.needs`."""


def attention(caption: Caption, kind: str, gates: np.ndarray | None = None) -> Lesson:
    """How the captioner decided where to look, and what its gate and its training had to do with it.

    caption: of a captioner that attends to several places.
    kind: of its decoder, as its card says.
    gates: (T,) of `explore.gates`, None without one.
    """
    from captionbot.decoders import family_of  # here, as pages stand before torch is imported
    from captionbot.decoders.family import SCALED_PRODUCTS

    words = [plain(word.text) for word in caption.words]
    bits, totals, places = attention_entropy(caption), caption.alphas.sum(0), len(caption.boxes)
    sharp, wide = int(bits.argmin()), int(bits.argmax())
    what = "places" if caption.grid else "boxes"
    parts = [
        f"Before each word the model scores all **{places} {what}** of the photo with what it has in mind, "
        "and reads their weighted mean. The weights are the heatmap; for each word they sum to 1.",
        f"Its sharpest look here was for **“{words[sharp]}”**, as if at {2 ** bits[sharp]:.0f} {what}; its "
        f"widest for **“{words[wide]}”**, as if at {2 ** bits[wide]:.0f}.",
    ]
    balance = (
        f"Over the whole sentence the {what} got between {totals.min():.2f} and {totals.max():.2f} of "
        f"attention; all alike it would be {len(words) / places:.2f} each."
    )
    equations = SCALED_PRODUCTS if kind == "hub" else family_of(kind).equations
    parts.append(f"{balance} {equations.remark}".rstrip())
    if gates is not None:
        most, least = int(gates.argmax()), int(gates.argmin())
        parts.append(
            "A **gate** says how much the picture counts against the words so far. It stood most open, at "
            f"{gates[most]:.2f}, for “{words[most]}”, and least, at {gates[least]:.2f}, for "
            f"“{words[least]}”."
        )
    return Lesson(ATTENTION, "\n\n".join(parts), equations.latex, equations.source)


def beam(search: Search, options: SearchOptions) -> Lesson:
    """How beam search works, with the numbers of one image's search."""
    weighed, kept = int((search.fates != Fate.NONE).sum()), int((search.fates == Fate.KEPT).sum())
    best = search.hypotheses[0][0]
    return Lesson(
        BEAM,
        "Taking the likeliest word each time can lead into a dead end. A beam keeps the best few beginnings "
        f"instead, here **{options.width}**, goes on with every word of each, and keeps the best few again. "
        f"This search weighed **{weighed}** continuations, kept **{kept}**, and finished "
        f"**{len(search.hypotheses[0])}** sentences.\n\n"
        "Every word makes a sentence less likely, so long ones would always lose. The log-probability is "
        f"therefore divided by the length to the power {options.length_penalty:g}: the winner's "
        f"{_cost(best)} over {len(best.log_probs)} words, its end included, gives "
        f"**{best.score:.2f}**. Its chance of being said, word for word, is "
        f"{percent(math.exp(best.log_prob))}.",
        r"\text{score}(y) = \frac{1}{|y|^{\,\ell}} \left( \sum_t \log p(y_t \mid y_{<t}, \text{photo}) + "
        r"\sum_{p \in y} e_p(\text{photo}) \right)",
    )


def _cost(best: Hypothesis) -> str:
    if not best.evidence:
        return f"{best.log_prob:.2f}"
    return (
        f"{best.log_prob:.2f}, and {best.evidence:+.2f} of word evidence (what the photo as a whole says for "
        "its words and pairs of words, by a network that knows no sentences),"
    )
