"""Does a word rest on what its heatmap shows? The photo is hidden and shown piece by piece to find out."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

from captionbot.draw.overlays import word_overlay
from captionbot.pages.presenters.seen import Column, Picture, Seen, Table, where
from captionbot.pages.results import heatmaps_true

TITLE = "Faithfulness"
INTRODUCTION = (
    "Does the word need this place? What its heatmap shows is hidden, to see what that costs the word."
)
WORD = "Word"
ATTENTION, OCCLUSION = "Attention map", "Occlusion map"
TEST_ALL, TEST_ALL_HELP = "Test every word", "Takes a few seconds."
SHARE, LOG_PROB, CURVE = "Share of the photo, %", "Log-probability", "Curve"
PARTS_NOTE = "Chance alone gets 5 %. Parts of speech are told apart by lists and rules."
COLOURS = ("#635bff", "#d97706", "#8a90a0")


class Tested(NamedTuple):
    """The test of one word.

    pictures: its attention map, None of a captioner without attention, and its occlusion map.
    curves: points with the keys SHARE, LOG_PROB and CURVE; colours: of the curves, by their names.
    """

    holds: bool
    verdict: str
    reason: str
    attention: Picture | None
    occlusion: Picture
    stays: str
    curves: list[dict[str, float | str]]
    colours: dict[str, str]

    @property
    def legend(self) -> str:
        """HTML that says which curve is which. A legend of a chart's own is cut off on a phone."""
        return " &ensp; ".join(
            f'<span style="white-space:nowrap"><span style="color:{colour}">●</span> {escape(name)}</span>'
            for name, colour in self.colours.items()
        )


def test(word: str) -> str:
    return f"Test “{word}”"


def present(seen: Seen, t: int) -> Tested:
    """Hide what the heatmap of word t shows, and see what that costs the word."""
    (tested,) = seen.tested((t,))
    word = seen.words[t]
    attention = word_overlay(seen.shown, seen.looked, t, seen.look) if seen.attends else None
    return Tested(
        tested.holds,
        tested.verdict,
        tested.reason,
        Picture(attention, seen.where(t)) if attention else None,
        Picture(word_overlay(seen.shown, seen.occluded, t, seen.look), where(word, attends=False)),
        f"How likely “{word}” stays",
        [
            {SHARE: 100 * float(share), LOG_PROB: float(value), CURVE: name}
            for name, (shares, values) in tested.curves.items()
            for share, value in zip(shares, values, strict=True)
        ],
        dict(zip(tested.curves, COLOURS, strict=True)),
    )


def every_word(seen: Seen) -> Table:
    tested = seen.tested(tuple(range(len(seen.words))))
    columns = (
        Column("Word"),
        Column("Rests on its heatmap"),
        Column("Lost, nats", 2),
        Column("Must be above", 2),
    )
    rows = [[word.word, word.holds, word.effect, word.threshold] for word in tested]
    holds = sum(word.holds for word in tested)
    return Table(columns, rows, f"The heatmap holds for {holds} of {len(tested)} words.")


def parts_of_speech(seen: Seen) -> Table | None:
    """What `training.faithfulness` found over many photos, where it was run."""
    found = heatmaps_true(seen.model)
    if found is None:
        return None
    photos, shares = found
    columns = (
        Column("Part of speech"),
        Column("Words"),
        Column("Heatmap true", share=True, bar=1),
        Column("95 % interval"),
    )
    rows = [
        [share.part, share.words, share.share, "{:.0%} to {:.0%}".format(*share.interval)] for share in shares
    ]
    return Table(columns, rows, f"Over {photos} photos, by part of speech")
