"""What each word needs of the photo: pieces of it are hidden to find out, and the maps are tested."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from captionbot.draw import plots
from captionbot.draw.files import svg
from captionbot.draw.overlays import word_overlay
from captionbot.explain.counterfactuals import cover, hide
from captionbot.explain.hidden import CELLS
from captionbot.explain.needs import COPIES, HALVED, Needs, Verdict, area_seen
from captionbot.pages.presenters.charts import Chart
from captionbot.pages.presenters.seen import Column, Picture, Seen, Table
from captionbot.pages.results import heatmaps_true
from captionbot.text.display import percent
from captionbot.types import Caption

TITLE = "Faithfulness"
INTRODUCTION = (
    "What does each word need of the photo? Pieces of the photo are hidden, again and again, and the model "
    "reads its own sentence each time."
)
WORD = "Word"
MAP = "Map"
LOOKED, NEEDED, HIDDEN = "Where it looked", "What the word needs", "With the place hidden"
MAPS = (NEEDED, LOOKED)
MARKS = {
    Verdict.PLACE: ("●", "#4f46e5", "needs this place"),
    Verdict.LITTLE: ("◐", "#818cf8", "leans on it a little"),
    Verdict.PHOTO: ("◇", "#d97706", "the photo, no one place"),
    Verdict.SENTENCE: ("○", "#8a90a0", "from the sentence"),
}
"""A sign, a colour and a few words for each verdict."""
RUN = "Find out what every word needs"
AGREEMENT, COUNT, KIND = "Agreement with what happened", "Maps", "Map"
RANDOM, OWN = "random maps", "this word's map"
COLOURS = {RANDOM: "#8a90a0", OWN: "#4f46e5"}
SENTENCE, SENTENCE_HELP = "Try a sentence of your own", "In words that the captioner knows, as “a dog runs”."
PARTS_NOTE = (
    "A map of random patches passes 1 time in 20. Lines are 95 % intervals. Parts of speech are told apart "
    "by lists and rules."
)
SPOT, NO_WORD = "Without this part of the photo: {}.", "No word needs this part of the photo."
_COARSE = 32  # copies, before which a map is too rough to be shown


class Marked(NamedTuple):
    """A word of the sentence with its mark, "" until its verdict is known."""

    word: str
    mark: str
    colour: str
    says: str


class Told(NamedTuple):
    """What is found of one word.

    verdict: one sentence, and reason: its numbers; both are empty until all is measured.
    change: "92% → 1%", how likely the word is with the photo whole and with the place hidden.
    needed, hidden: the map, and the photo without its hottest quarter; looked: the attention map, None of a
        captioner without attention.
    chance: points of the plot, with the keys AGREEMENT, COUNT and KIND; the last is the word's own.
    """

    verdict: str
    reason: str
    change: str
    needed: Picture
    looked: Picture | None
    hidden: Picture
    chance: list[dict[str, Any]]
    plot: str


def stages(seen: Seen, caption: Caption | None = None) -> Iterator[Needs]:
    """What is found, coarse to fine, from where it is worth a look."""
    return (found for found in seen.needs(caption) if found.copies >= _COARSE)


def progress(found: Needs) -> str:
    if found.done:
        return ""
    return (
        f"Still hiding pieces: {found.copies} of {COPIES} copies of the photo are read. The map gets finer."
    )


def marked(found: Needs) -> list[Marked]:
    """The sentence with a mark under each word."""
    if not found.done:
        return [Marked(word, "", "", "") for word in found.words]
    return [Marked(word, *MARKS[verdict]) for word, verdict in zip(found.words, found.verdicts, strict=True)]


def marked_html(found: Needs) -> str:
    words = "".join(
        f'<span style="display:inline-block;text-align:center;margin:0 .3em" title="{escape(says)}">'
        f'{escape(word)}<br><span style="color:{colour or "inherit"}" aria-label="{escape(says)}">'
        f"{mark or '·'}</span></span>"
        for word, mark, colour, says in marked(found)
    )
    signs = " &ensp; ".join(
        f'<span style="white-space:nowrap"><span style="color:{colour}">{mark}</span> {escape(says)}</span>'
        for mark, colour, says in MARKS.values()
    )
    return f'<div style="font-size:1.15em">{words}</div><small>{signs}</small>'


def word(seen: Seen, found: Needs, t: int, caption: Caption | None = None) -> Told:
    """What is found of word t of the chosen caption, or of another sentence about the photo."""
    own = caption or seen.caption
    text = found.words[t]
    looked = word_overlay(seen.shown, own, t, seen.look) if seen.attends else None
    needed = word_overlay(seen.shown, found.on(own), t, seen.look)
    hidden = hide(seen.shown, cover(seen.shown.size, found.hidden(t, seen.shown.size).tolist()))
    return Told(
        _verdict(found, t) if found.done else "",
        _reason(found, t) if found.done else "",
        change(found, t) if found.done else "",
        Picture(needed, f"What “{text}” needs: where hiding the photo makes it less likely."),
        Picture(looked, f"Where the model looked for “{text}”.") if looked else None,
        Picture(hidden, f"The photo with the place hidden that “{text}” needs most."),
        _chance(found, t),
        _plot(found, t),
    )


def says(found: Needs, t: int) -> str:
    """What is found of word t, in a sentence or two; of a sentence that is measured to the end."""
    return f"{_verdict(found, t)} {_reason(found, t)}"


def change(found: Needs, t: int) -> str:
    return f"{percent(found.before[t])} → {percent(found.after[t])}"


def _verdict(found: Needs, t: int) -> str:
    text, verdict = found.words[t], found.verdicts[t]
    return {
        Verdict.PLACE: f"“{text}” needs this place.",
        Verdict.LITTLE: f"“{text}” leans on this place a little.",
        Verdict.PHOTO: f"“{text}” needs the photo, but no one place of it.",
        Verdict.SENTENCE: f"“{text}” comes from the sentence: the words before it are enough.",
    }[verdict]


def _reason(found: Needs, t: int) -> str:
    before, after, text = percent(found.before[t]), percent(found.after[t]), found.words[t]
    worst = percent(float(found.before[t] * np.exp(-found.most[t])))
    if found.verdicts[t] in (Verdict.PLACE, Verdict.LITTLE):
        told = f"With the place hidden, the model says “{text}” with {after} instead of {before}"
        further = found.verdicts[t] is Verdict.PLACE and found.effect[t] < HALVED
        return f"{told}; with another quarter hidden, with {worst}." if further else f"{told}."
    if found.verdicts[t] is Verdict.PHOTO:
        return (
            f"Hiding parts of the photo took it from {before} to as little as {worst}, but no map could say "
            "which parts."
        )
    return f"Whatever quarter of the photo was hidden, it stayed at {worst} or more (whole photo: {before})."


def _chance(found: Needs, t: int) -> list[dict[str, Any]]:
    counts, edges = np.histogram(found.chance[t], 40, (-1, 1))
    points: list[dict[str, Any]] = [
        {AGREEMENT: round(float(at), 3), COUNT: int(count), KIND: RANDOM}
        for at, count in zip((edges[1:] + edges[:-1]) / 2, counts, strict=True)
    ]
    return [*points, {AGREEMENT: round(float(found.r[t]), 3), COUNT: int(counts.max()), KIND: OWN}]


def _plot(found: Needs, t: int) -> str:
    as_well = round(float(found.p[t]) * 1000) - 1
    said = "none" if as_well <= 0 else str(as_well)
    return (
        f"The map of “{found.words[t]}” foretold what would happen to the word when other parts were hidden. "
        f"Of 999 maps at random, {said} did so as well; up to 49 count as luck that need not be."
    )


def every_word(found: Needs) -> Table:
    """The whole sentence as a table; of a sentence that is measured to the end."""
    columns = (
        Column(WORD),
        Column("What it needs"),
        Column("Whole photo", share=True),
        Column("Place hidden", share=True),
    )
    rows = [
        [text, verdict.value, float(before), float(after)]
        for text, verdict, before, after in zip(
            found.words, found.verdicts, found.before, found.after, strict=True
        )
    ]
    counts = [found.verdicts.count(verdict) for verdict in Verdict]
    said = ", ".join(
        f"{count} × “{says}”" for count, (_, _, says) in zip(counts, MARKS.values(), strict=True) if count
    )
    return Table(columns, rows, f"Of {len(rows)} words: {said}.")


def place(found: Needs, box: Sequence[float]) -> list[tuple[int, float]]:
    """The words that need a place of the photo, those that need it most first, each with how many times less
    likely it is without it.

    box: xyxy as fractions of the photo; a point is a box without a size.
    """
    lost = found.at(box)
    order = [t for t in np.argsort(-lost) if lost[t] >= 0.1 * max(float(lost.max()), 1e-9) and lost[t] > 0.05]
    return [(int(t), float(np.exp(lost[t]))) for t in order]


def spots(found: Needs, caption: Caption) -> dict[str, Any]:
    """For each cell of the photo that can be clicked, the words that need it and its neighbours, since maps
    are no finer than that: what a page draws, in small numbers.

    grid: rows and columns; area: what the captioner sees of the photo, xyxy as fractions of it; words: the
    numbers of the words, by cell in reading order; says: the same as a sentence.
    """
    rows, columns = CELLS
    words, told = [], []
    for cell in range(rows * columns):
        y, x = divmod(cell, columns)
        box = np.clip([(x - 1) / columns, (y - 1) / rows, (x + 2) / columns, (y + 2) / rows], 0, 1)
        needing = place(found, box.tolist())
        words.append([t for t, _ in needing])
        said = ", ".join(f"“{found.words[t]}” {times:.1f} times" for t, times in needing)
        told.append(SPOT.format(said.replace(" times", " times less likely", 1)) if said else NO_WORD)
    return {"grid": [rows, columns], "area": list(area_seen(caption)), "words": words, "says": told}


def parts_of_speech(seen: Seen) -> Chart | None:
    """What `training.faithfulness` found over many photos, where it was run."""
    found = heatmaps_true(seen.model)
    if found is None:
        return None
    columns = (
        Column("Part of speech"),
        Column("Words"),
        Column("Map is true", share=True),
        Column("95 % interval"),
        *(Column(says.capitalize(), share=True) for _, _, says in MARKS.values()),
    )
    rows = [
        [
            *(row.part, row.words, row.true.share, "{:.0%} to {:.0%}".format(*row.true.interval)),
            *(count / row.words for count in (row.place, row.little, row.photo, row.sentence)),
        ]
        for row in found.shares
    ]
    shares = ", ".join(f"{row.part} {row.true.share:.0%}" for row in found.shares)
    return Chart(
        f"Over {found.photos} photos, by part of speech",
        svg(plots.parts_of_speech({seen.work.title(seen.model): found})),
        f"Words whose map is true: {shares}.",
        PARTS_NOTE,
        Table(columns, rows),
    )
