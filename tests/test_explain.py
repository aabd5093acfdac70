"""The heatmap of a word."""

from __future__ import annotations

import numpy as np
import pytest

from captionbot.errors import CaptionBotError
from captionbot.explain import attention_map
from captionbot.types import Caption, Size, Word


def caption_of(
    alphas: list[list[float]],
    boxes: list[list[float]],
    grid: tuple[int, int] | None = None,
    size: tuple[int, int] = (40, 20),
) -> Caption:
    words = tuple(Word(f"word{t}", -0.5) for t in range(len(alphas)))
    text = " ".join(word.text for word in words)
    arrays = np.array(alphas, np.float32), np.array(boxes, np.float32)
    return Caption(text, words, -1.0, -1.0, 0.5, *arrays, grid, Size(*size))


def grid_caption(alphas: list[list[float]], rows: int = 2, columns: int = 4) -> Caption:
    """Cells of 10 x 10 pixels."""
    boxes = [[10 * c, 10 * r, 10 * c + 10, 10 * r + 10] for r in range(rows) for c in range(columns)]
    return caption_of(alphas, boxes, (rows, columns), (10 * columns, 10 * rows))


LONELY = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]  # all in row 1, column 2
SPREAD = [0.05, 0.1, 0.15, 0.2, 0.3, 0.1, 0.06, 0.04]


def test_cells_are_shown_as_they_are() -> None:
    heatmap = attention_map(grid_caption([SPREAD]), 0, smooth=False)
    cells = np.array(SPREAD, np.float32).reshape(2, 4) / 0.3
    assert heatmap.dtype == np.float32
    np.testing.assert_allclose(heatmap, cells.repeat(10, 0).repeat(10, 1), rtol=1e-6)


def test_a_smooth_map_peaks_in_the_middle_of_a_lonely_cell_and_fades() -> None:
    alphas = [float(place == 7) for place in range(15)]  # row 1, column 2 of 3 x 5
    heatmap = attention_map(grid_caption([alphas], 3, 5), 0)
    assert heatmap[14:16, 24:26].min() == pytest.approx(1)
    for line in (heatmap[15], heatmap[:, 25]):
        middle = len(line) // 2
        assert (np.diff(line[:middle]) >= 0).all()
        assert (np.diff(line[middle:]) <= 0).all()
    assert heatmap[0, 0] < 0.01


@pytest.mark.parametrize("alphas", [LONELY, SPREAD])
def test_a_smooth_map_never_leaves_the_range_of_the_cells(alphas: list[float]) -> None:
    heatmap = attention_map(grid_caption([alphas]), 0, (97, 31), peak=1.0)
    assert heatmap.min() >= min(alphas) - 1e-6
    assert heatmap.max() <= max(alphas) + 1e-6


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize(
    ("size", "shape"), [(None, (20, 40)), ((7, 5), (5, 7)), (Size(1, 1), (1, 1)), ((3000, 2), (2, 3000))]
)
def test_maps_of_every_size(size: tuple[int, int] | None, shape: tuple[int, int], smooth: bool) -> None:
    heatmap = attention_map(grid_caption([SPREAD]), 0, size, smooth=smooth)
    assert heatmap.shape == shape
    assert np.isfinite(heatmap).all()
    assert heatmap.min() >= 0
    assert heatmap.max() == pytest.approx(1)


@pytest.mark.parametrize("smooth", [True, False])
def test_equal_attention_is_an_even_map(smooth: bool) -> None:
    np.testing.assert_allclose(attention_map(grid_caption([[0.125] * 8]), 0, smooth=smooth), 1, rtol=1e-5)


@pytest.mark.parametrize("smooth", [True, False])
def test_nothing_is_shown_beyond_a_grid_that_covers_the_middle_only(smooth: bool) -> None:
    boxes = [[10, 0, 20, 20], [20, 0, 30, 20]]
    heatmap = attention_map(caption_of([[0.5, 0.5]], boxes, (1, 2)), 0, smooth=smooth)
    assert (heatmap[:, :10] == 0).all()
    assert (heatmap[:, 30:] == 0).all()
    np.testing.assert_allclose(heatmap[:, 10:30], 1, rtol=1e-5)


def test_overlapping_regions_add_up() -> None:
    caption = caption_of([[0.2, 0.3, 0.5]], [[0, 0, 20, 10], [10, 0, 30, 20], [35, 15, 40, 20]])
    heatmap = attention_map(caption, 0, peak=1.0)
    seen = [heatmap[y, x] for y, x in ((5, 5), (5, 15), (15, 25), (17, 37), (15, 5))]
    np.testing.assert_allclose(seen, [0.2, 0.5, 0.3, 0.5, 0], rtol=1e-6)


def test_a_region_beyond_the_edge_keeps_a_pixel() -> None:
    caption = caption_of([[0.1, 0.9]], [[0, 0, 40, 20], [39.9, 19.9, 60, 60]])
    heatmap = attention_map(caption, 0)
    assert heatmap[-1, -1] == 1
    assert heatmap[0, 0] == pytest.approx(0.1)


def test_one_peak_for_all_words_makes_them_comparable() -> None:
    caption = grid_caption([LONELY, [0.125] * 8])
    peak = float(caption.alphas.max())
    assert attention_map(caption, 0, smooth=False, peak=peak).max() == 1
    assert attention_map(caption, 1, smooth=False, peak=peak).max() == pytest.approx(0.125)
    assert attention_map(caption, 1, smooth=False).max() == 1


@pytest.mark.parametrize("t", [-1, 1, 99])
def test_a_word_that_is_not_there(t: int) -> None:
    with pytest.raises(CaptionBotError, match=rf"no word {t} in “word0”.*0 to 0"):
        attention_map(grid_caption([LONELY]), t)
