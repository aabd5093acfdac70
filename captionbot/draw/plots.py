"""What was measured, as pictures: dots with intervals, lines with marks, and heat grids.

All take names and numbers and return a matplotlib Figure; `files.png` and `files.svg` make files of it.
Never pyplot, whose state all sessions of a server would share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:  # matplotlib takes half a second to import
    from matplotlib.figure import Figure

    from captionbot.explain.faithfulness import Faithfulness, Share

INK = "#1f2430"  # `files.svg` makes it that of the page
COLOURS = ("#6366f1", "#d97706", "#0d9488", "#db2777", "#0284c7", "#71717a")  # 3:1 on white and on black
MARKERS = "os^DvP"
WIDTH = 5.2  # inches: letters of 9 points keep their size on a phone
_ROW = 0.3
_SHARES = (0.0, 1.0), (0.0, 1.0)
_INKED = 0.75  # of the colour of a full cell, so that the page's ink can be read on it
_TOLD = 0.05  # the least share whose number is written


class Dot(NamedTuple):
    """A number with the interval that it lies in, where that is known."""

    value: float
    interval: tuple[float, float] | None = None


class Mark(NamedTuple):
    """A place on a line; interval: of y."""

    x: float
    y: float
    interval: tuple[float, float] | None = None


def dots(
    rows: Sequence[str],
    series: Mapping[str, Sequence[Dot | None]],
    label: str,
    limits: tuple[float, float] | None = None,
    guide: float | None = None,
) -> Figure:
    """A line for each row from above, with a dot and its interval of each series.

    series: by name, a dot for each row or None. guide: where a dotted line stands.
    """
    figure, axes = _axes(1.1 + len(rows) * (0.12 + _ROW * max(1, len(series) / 2)))
    for number, (name, found) in enumerate(series.items()):
        shift = 0.7 * ((number + 0.5) / len(series) - 0.5)
        for row, dot in enumerate(found):
            if dot is not None and dot.interval is not None:
                axes.plot(dot.interval, [row + shift] * 2, **_style(number, marker=""))
        shown = [(dot.value, row + shift) for row, dot in enumerate(found) if dot is not None]
        axes.plot(*zip(*shown, strict=True), label=_text(name), **_style(number, linestyle=""))
    if guide is not None:
        axes.axvline(guide, color=INK, alpha=0.6, linestyle=":", linewidth=1)
    axes.set_yticks(range(len(rows)), list(map(_text, rows)))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set(xlabel=label, xlim=limits)
    _legend(figure, len(series))
    return figure


def lines(
    series: Mapping[str, Sequence[Mark]],
    labels: tuple[str, str],
    *,
    limits: tuple[tuple[float, float], tuple[float, float]] | None = None,
    diagonal: bool = False,
    height: float = 3.6,
) -> Figure:
    """A line of marks for each series; one without marks takes a colour all the same.

    labels, limits: of x and y. diagonal: a dotted line where y is x.
    """
    figure, axes = _axes(height + 0.18 * len(series))
    if diagonal:
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.6, linestyle=":", linewidth=1)
    for number, (name, marks) in enumerate(series.items()):
        if not marks:
            continue
        for mark in marks:
            if mark.interval is not None:
                axes.plot([mark.x] * 2, mark.interval, **_style(number, marker="", alpha=0.6))
        places = [(mark.x, mark.y) for mark in marks]
        axes.plot(*zip(*places, strict=True), label=_text(name), **_style(number))
    axes.set(xlabel=labels[0], ylabel=labels[1])
    if limits:
        axes.set(xlim=limits[0], ylim=limits[1])
    _legend(figure, sum(map(bool, series.values())))
    return figure


def heat(rows: Sequence[str], columns: Sequence[str], shares: np.ndarray, label: str) -> Figure:
    """A grid of cells, the stronger their colour the larger their share of 1, with the larger ones in %.

    shares: (rows, columns). label: what a row is.
    """
    figure, axes = _axes(1.0 + 0.26 * len(rows))
    axes.imshow(
        np.ones(shares.shape),
        cmap=_plain(COLOURS[0]),
        vmin=0,
        alpha=shares.clip(0, 1) * _INKED,
        aspect="auto",
    )
    for (row, column), share in np.ndenumerate(shares):
        if share >= _TOLD:
            axes.text(column, row, f"{100 * share:.0f}", color=INK, size=8, ha="center", va="center")
    axes.set_yticks(range(len(rows)), list(map(_text, rows)))
    axes.set_xticks(
        range(len(columns)), list(map(_text, columns)), rotation=40, ha="left", rotation_mode="anchor"
    )
    axes.set(ylabel=label)
    axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure


def reliability(held_out: Mapping[str, Any]) -> Figure:
    """How often captions are right against how likely that was said to be, for each set of photos.

    held_out: as a card's `confidence` has it under "measured".
    """
    series = {name: [calibrated(row) for row in found["bins"]] for name, found in held_out.items()}
    labels = "How likely the caption is right, it says", "How many were right"
    return lines(series, labels, limits=_SHARES, diagonal=True)


def calibrated(row: Mapping[str, Any]) -> Mark:
    """A bin of captions, with the interval of how many are right."""
    from captionbot.explain.faithfulness import Rate

    right = Rate(round(row["right"] * row["photos"]), row["photos"])
    return Mark(row["said"], row["right"], right.interval)


def risk(held_out: Mapping[str, Any]) -> Figure:
    """How many captions are wrong against how many are shown, surest first; held_out as of `reliability`."""
    series = {
        name: [Mark(float(share), wrong) for share, wrong in found["risk by coverage"].items()]
        for name, found in held_out.items()
    }
    return lines(series, ("Captions that are shown, surest first", "How many are wrong"), limits=_SHARES)


def parts_of_speech(figures: Mapping[str, Faithfulness]) -> Figure:
    """The share of words whose map is true by part of speech, for each captioner."""
    from captionbot.text.parts_of_speech import PARTS

    parts = [part for part in (*PARTS, "all") if any(found.of(part) for found in figures.values())]

    def dot(share: Share | None) -> Dot | None:
        if share is None:
            return None
        low, high = share.true.interval
        return Dot(100 * share.true.share, (100 * low, 100 * high))

    series = {name: [dot(found.of(part)) for part in parts] for name, found in figures.items()}
    return dots(parts, series, "Words whose map is true, % (dotted: by luck)", (0, 100), guide=5)


def _axes(height: float) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure((WIDTH, height), dpi=150, layout="constrained", facecolor="white")
    axes = figure.add_subplot(facecolor="none")
    axes.tick_params(labelsize=9, color=INK, labelcolor=INK)
    for part in (axes.xaxis.label, axes.yaxis.label):
        part.set(size=9, color=INK)
    axes.grid(color=INK, alpha=0.15, linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    return figure, axes


def _plain(colour: str) -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap([colour])


def _style(number: int, **changes: Any) -> dict[str, Any]:
    """Colour and shape of a series: never its colour alone."""
    usual = {"marker": MARKERS[number % len(MARKERS)], "markersize": 5, "linewidth": 1.6, "clip_on": False}
    return usual | {"color": COLOURS[number % len(COLOURS)]} | changes


def _legend(figure: Figure, series: int) -> None:
    if series > 1:
        columns = 2 if series > 2 else series
        figure.legend(loc="outside lower center", ncols=columns, fontsize=9, frameon=False, labelcolor=INK)


def _text(name: str) -> str:
    """A name that matplotlib takes for no formula."""
    return name.replace("$", r"\$")
