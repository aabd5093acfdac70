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
    "How this is tested",
    "The photo is cut into 8 x 8 pieces. The quarter of them where the heatmap is hottest is hidden under "
    "the photo's mean colour, and the model reads its own sentence again: the word loses some of its "
    "log-probability, counted in *nats* (0.69 halves the probability). Then the same is done with **19 "
    "quarters chosen at random**, in patches, the same for every word and photo. The heatmap counts as true "
    "where it costs the word something, and more than **each of the 19**. A heatmap that knew nothing would "
    "manage that once in 20 times: it is a permutation test with p = 1/20.\n\n"
    "So of a sentence of ten words expect one to pass by luck in every other photo. The curves show the same "
    "at every quarter: *hidden*, the hottest first, and *shown*, nothing but the hottest.",
    r"\log \frac{p(y_t \mid \text{photo})}{p(y_t \mid \text{hottest quarter hidden})} > "
    r"\max_{r \le 19} \log \frac{p(y_t \mid \text{photo})}{p(y_t \mid \text{random quarter } r "
    r"\text{ hidden})}",
    "Petsiuk et al., RISE, arXiv 1806.07421, section 4.3; Zeiler and Fergus, arXiv 1311.2901, section 4.2. A "
    "photo with hidden pieces is like none that the model learnt from, so a verdict is evidence, not proof.",
)
"""The rule of `explain.faithfulness`."""


def attention(caption: Caption, kind: str, gates: np.ndarray | None = None) -> Lesson:
    """How the captioner decided where to look, and what its gate and its training had to do with it.

    caption: of a captioner that attends to several places.
    kind: of its decoder, as its card says.
    gates: (T,) of `explore.gates`, None without one.
    """
    from captionbot.decoders import family_of  # here, as pages stand before torch is imported

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
    equations = family_of(kind).equations
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
