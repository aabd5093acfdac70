"""Measurements as pictures: the numbers that they show, and that they suit a dark page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from captionbot.draw import plots
from captionbot.draw.files import svg
from captionbot.draw.plots import Dot, Mark


def test_dots_stand_in_their_rows_with_their_intervals() -> None:
    series = {"a $b": [Dot(3, (2, 5)), Dot(4)], "c": [None, Dot(1, (0, 2))]}
    [axes] = plots.dots(["first", "second"], series, "Score", (0, 6), guide=0.5).axes
    interval, first, other, second, guide = axes.lines
    assert list(interval.get_xdata()) == [2, 5]
    assert list(first.get_xdata()) == [3, 4]
    np.testing.assert_allclose(first.get_ydata(), [-0.175, 0.825])
    assert list(other.get_xdata()) == [0, 2]
    assert list(second.get_xdata()) == [1]
    assert list(guide.get_xdata()) == [0.5, 0.5]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second"]
    assert axes.get_ylim() == (1.5, -0.5)  # the first on top
    [legend] = axes.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [r"a \$b", "c"]


def test_a_heat_grid_has_a_cell_for_each_share_and_tells_the_larger_ones() -> None:
    shares = np.array([[0.9, 0.04], [0.1, 0.96]])
    [axes] = plots.heat(["1 dog", "2 man"], ["a", "$dog"], shares, "Box").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1 dog", "2 man"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", r"\$dog"]
    assert {text.get_text(): text.get_position() for text in axes.texts} == {
        "90": (0, 0),
        "10": (0, 1),
        "96": (1, 1),
    }
    [cells] = axes.images
    np.testing.assert_allclose(cells.get_alpha() / cells.get_alpha().max(), shares / shares.max())


def test_a_series_keeps_its_colour_where_another_has_nothing_to_show() -> None:
    [axes] = plots.lines({"none": [], "one": [Mark(1, 2, (1, 3)), Mark(2, 4)]}, ("x", "y")).axes
    interval, line = axes.lines
    assert list(interval.get_ydata()) == [1, 3]
    assert line.get_xydata().tolist() == [[1, 2], [2, 4]]
    assert line.get_color() == plots.COLOURS[1]
    assert not axes.figure.legends


def test_how_far_a_judgement_can_be_trusted() -> None:
    row = {"photos": 10, "said": 0.55, "right": 0.4}
    held_out = {"some": {"bins": [row], "risk by coverage": {"0.5": 0.1, "1": 0.3}}}
    diagonal, interval, right = plots.reliability(held_out).axes[0].lines
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert list(interval.get_ydata()) == pytest.approx([0.168, 0.687], abs=1e-3)  # Wilson's of 4 in 10
    assert right.get_xydata().tolist() == [[0.55, 0.4]]
    [risk] = plots.risk(held_out).axes[0].lines
    assert risk.get_xydata().tolist() == [[0.5, 0.1], [1, 0.3]]


def test_the_ink_of_a_drawing_is_that_of_the_page() -> None:
    text = svg(plots.dots(["a"], {"b": [Dot(1)]}, "c"))
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    style, drawn = text.split("</style>", 1)
    assert "prefers-color-scheme:dark" in style
    assert "currentColor" in drawn
    assert plots.INK not in drawn
    assert set(re.findall(r"https?://[^\"]*", text)) <= {
        *("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"),
    }
