"""The beam search as a tree, and the sentences that it finished."""

from __future__ import annotations

from typing import Any

from captionbot.draw import canvas
from captionbot.draw.canvas import BEAM
from captionbot.pages.presenters.seen import Column, Seen, Table
from captionbot.text.display import sentence

TITLE = "Beam"
INTRODUCTION = "All that the search kept, from left to right, the winner in colour."
CUT, CUT_HELP = "Show pruned candidates", "Words that never made it into the beam."
SAMPLING = "Sampling is on: turn it off to see the beam search."
COLUMNS = (
    Column("Sentence"),
    Column("Words"),
    Column("Score", 3),
    Column("Log-probability", 2),
    Column("Word evidence", 2),
    Column("Lost because"),
)
NOTE = (
    "Score: log-probability and word evidence, divided by the length to the power of the length penalty. "
    "Word evidence: what the photo as a whole says for the words, apart from the sentence."
)


def tree(seen: Seen, cut: bool) -> str:
    """The search as an SVG; "" where sentences were drawn."""
    return "" if seen.options.sample else seen.work.beam_svg(seen.model, seen.captioned.search, cut)


def drawn(seen: Seen, cut: bool) -> dict[str, Any]:
    """The tree for the browser, which moves in it and shows where the model looked for each word of it."""
    return canvas.beam(tree(seen, cut), seen.captioned.search, BEAM | {"none": SAMPLING})


def finished(seen: Seen) -> Table:
    """All sentences that the search finished, and why they lost."""
    vocabulary, hypotheses = seen.work.vocabulary(seen.model), seen.captioned.search.hypotheses[0]
    best = hypotheses[0].score
    rows = [
        [
            sentence(vocabulary.text(h.token_ids)),
            len(vocabulary.words(h.token_ids)),
            h.score,
            h.log_prob,
            h.evidence,
            f"its score is {best - h.score:.2f} lower" if rank else "the best score",
        ]
        for rank, h in enumerate(hypotheses)
    ]
    return Table(COLUMNS, rows, f"The {len(rows)} sentences that the search finished, best first.")
