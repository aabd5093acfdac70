"""Drawings: looked at by their pixels."""

from __future__ import annotations

import dataclasses
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captionbot.draw.boxes import box_name, regions
from captionbot.draw.files import gif, png, webp
from captionbot.draw.overlays import COLORMAPS, Look, contours, fit, overlay, word_overlay
from captionbot.draw.sheets import animation, contact_sheet
from captionbot.text.display import percent
from captionbot.types import Caption, Size, Word

GREY = Image.new("RGB", (40, 30), (100, 100, 100))


def caption_of(image: Image.Image, text: str) -> Caption:
    """A caption whose t-th word looks at the t-th of 2 x 2 cells."""
    words = tuple(Word(word, -0.1 * (t + 1)) for t, word in enumerate(text.split()))
    width, height = image.size
    boxes = np.array([[x, y, x + 1, y + 1] for y in (0, 1) for x in (0, 1)], np.float32)
    boxes *= np.array([width, height, width, height]) / 2
    alphas = np.eye(4, dtype=np.float32)[np.arange(len(words)) % 4]
    return Caption(text, words, -1.0, -1.0, 0.5, alphas, boxes, (2, 2), Size(width, height))


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((2048, 1024), (100, 50)),
        ((50, 100), (50, 100)),
        ((30, 20), (30, 20)),
        ((1, 1), (1, 1)),
        ((30000, 10), (100, 1)),
    ],
)
def test_fit(size: tuple[int, int], fitted: tuple[int, int]) -> None:
    assert fit(Image.new("RGB", size), 100).size == fitted


@pytest.mark.parametrize("colormap", COLORMAPS)
def test_no_strength_leaves_the_photo_alone(colormap: str) -> None:
    heatmap = np.linspace(0, 1, 40 * 30, dtype=np.float32).reshape(30, 40)
    assert overlay(GREY, heatmap, 0, colormap).tobytes() == GREY.tobytes()


@pytest.mark.parametrize("colormap", COLORMAPS)
def test_the_hotter_the_lighter(colormap: str) -> None:
    heatmap = np.repeat(np.linspace(0, 1, 40, dtype=np.float32)[None], 30, 0)
    drawn = overlay(Image.new("RGB", (40, 30)), heatmap, 1, colormap).convert("L")
    if colormap == "spotlight":
        drawn = overlay(GREY, heatmap, 1, colormap).convert("L")
    lightness = np.asarray(drawn)[0].astype(int)
    assert (np.diff(lightness) >= -1).all()
    assert lightness[-1] > lightness[0] + 60


def test_the_hottest_pixel_has_the_colour_of_the_map() -> None:
    heatmap = np.zeros((30, 40), np.float32)
    heatmap[3, 5] = 1
    drawn = overlay(GREY, heatmap, 1, "viridis")
    assert drawn.getpixel((5, 3)) == (253, 231, 37)
    strong, weak = (overlay(GREY, heatmap, s, "viridis").getpixel((5, 3))[0] for s in (0.8, 0.2))
    assert strong > weak > 100


def test_spotlight_darkens_what_was_not_looked_at() -> None:
    heatmap = np.zeros((30, 40), np.float32)
    heatmap[3, 5] = 1
    drawn = overlay(GREY, heatmap, 0.5, "spotlight")
    assert drawn.getpixel((5, 3)) == (100, 100, 100)
    assert drawn.getpixel((0, 0)) == (50, 50, 50)


def test_a_heatmap_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(30, 40\), not \(40, 30\)"):
        overlay(GREY, np.zeros((40, 30), np.float32))


def test_a_word_is_drawn_where_it_looked() -> None:
    drawn = word_overlay(GREY, caption_of(GREY, "a dog runs"), 1, Look(smooth=False))
    changed = np.abs(np.asarray(drawn).astype(int) - 100).sum(2)
    assert changed[:15, 20:].min() > 2 * changed[:, :20].max()


@pytest.mark.parametrize("size", [(40, 30), (600, 450)])
def test_contours_follow_the_heatmap_and_leave_the_rest_alone(size: tuple[int, int]) -> None:
    width, height = size
    image = Image.new("RGB", size, (100, 100, 100))
    heatmap = np.repeat(np.linspace(0, 1, width, dtype=np.float32)[None], height, 0)
    changed = np.abs(np.asarray(contours(image, heatmap, 1.0)).astype(int) - 100).sum(2)[height // 2]
    for level in (0.3, 0.5, 0.7, 0.9):
        assert changed[round(level * (width - 1))] > 0
    near = [abs(heatmap[0] - level) < 3.5 / 40 for level in (0.3, 0.5, 0.7, 0.9)]
    assert (changed[~np.any(near, axis=0)] == 0).all()
    assert contours(image, heatmap, 0).tobytes() == image.tobytes()


def region_caption() -> Caption:
    caption = caption_of(Image.new("RGB", (400, 300)), "a dog")
    alphas = np.array([[0.6, 0.3, 0.1, 0.0], [0.1, 0.2, 0.0, 0.7]], np.float32)
    return dataclasses.replace(
        caption,
        alphas=alphas,
        grid=None,
        labels=("dog", "man", "ball", "grass"),
        scores=np.array([0.9, 0.8, 0.3, 0.6]),
    )


@pytest.mark.parametrize(
    ("t", "count", "drawn"),
    [(0, 1, {0}), (1, 1, {3}), (0, 2, {0, 1}), (None, 1, {0, 3})],
)
def test_regions_draw_the_boxes_that_a_word_leaned_on(t: int | None, count: int, drawn: set[int]) -> None:
    photo = Image.new("RGB", (400, 300), (100, 100, 100))
    changed = np.asarray(regions(photo, region_caption(), t, count)).astype(int).sum(2) != 300
    quarters = [changed[:150, :200], changed[:150, 200:], changed[150:, :200], changed[150:, 200:]]
    found = {place for place, quarter in enumerate(quarters) if quarter[130:150, :].any()}
    assert found <= drawn
    assert found


def test_boxes_of_a_word_that_rests_on_none_are_thin() -> None:
    photo, caption = Image.new("RGB", (400, 300), (100, 100, 100)), region_caption()
    drawn = regions(photo, dataclasses.replace(caption, alphas=np.zeros_like(caption.alphas)), 0, 1)
    assert 0 < (np.asarray(drawn) != 100).any(2)[250].sum() < 4


def test_boxes_are_called_by_their_label_and_score() -> None:
    caption = region_caption()
    assert box_name(caption, 2) == "ball 30%"
    assert box_name(dataclasses.replace(caption, scores=None), 2) == "ball"
    assert box_name(dataclasses.replace(caption, scores=None, labels=None), 2) == "box 3"


@pytest.mark.parametrize("words", [1, 2, 13])
@pytest.mark.parametrize("size", [(40, 30), (30, 40), (1, 1), (3000, 1)])
def test_contact_sheet_has_a_tile_for_the_photo_and_for_every_word(words: int, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (90, 120, 150))
    caption = caption_of(image, " ".join(f"w{t}" for t in range(words)))
    figure = contact_sheet(image, caption)
    assert len(figure.axes) == words + 1
    for t, axes in enumerate(figure.axes[1:]):
        assert [text.get_text() for text in axes.texts] == [f"w{t}", percent(np.exp(-0.1 * (t + 1)))]
    boxes = [axes.get_position(original=True) for axes in figure.axes]
    assert all(0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1 for box in boxes)
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[i + 1 :])


def test_words_on_a_contact_sheet_are_no_formulas() -> None:
    figure = contact_sheet(GREY, caption_of(GREY, r"costs $5 or $\frac{"))
    assert Image.open(io.BytesIO(png(figure))).size > (400, 200)


def test_png_of_an_image() -> None:
    assert Image.open(io.BytesIO(png(GREY))).tobytes() == GREY.tobytes()


def test_animation_shows_the_photo_and_then_every_word() -> None:
    photo = Image.new("RGB", (400, 300), (90, 120, 150))
    caption = caption_of(photo, "a dog runs over a very wide and very green field of grass")
    frames = animation(photo, caption)
    assert len(frames) == len(caption.words) + 1
    assert len({frame.size for frame in frames}) == 1
    assert frames[0].crop((0, 0, 400, 300)).tobytes() == photo.tobytes()
    assert len({frame.tobytes() for frame in frames}) == len(frames)


@pytest.mark.parametrize("write", [gif, webp])
@pytest.mark.parametrize(("seconds", "each"), [(0.5, 500), (None, 830)])  # 5 seconds in all; GIF has 1/100
def test_an_animation_has_all_frames_and_goes_round(
    write: Callable[..., bytes], seconds: float | None, each: int
) -> None:
    frames = animation(GREY, caption_of(GREY, "a dog runs"))
    with Image.open(io.BytesIO(write(frames, seconds))) as animated:
        assert animated.n_frames == 4
        assert animated.info["loop"] == 0
        durations = []
        for frame in range(4):
            animated.seek(frame)
            animated.load()
            durations.append(animated.info["duration"])
    assert durations == pytest.approx([each, each, each, 3 * each], abs=10)


def test_pyplot_is_never_imported() -> None:
    script = (
        "import sys; from PIL import Image\n"
        "from captionbot.render import animation, contact_sheet, gif, png\n"
        "from test_drawings import caption_of\n"
        "image = Image.new('RGB', (9, 9)); caption = caption_of(image, 'a dog')\n"
        "png(contact_sheet(image, caption)); gif(animation(image, caption))\n"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    here = Path(__file__).parent
    paths = {"PYTHONPATH": f"{here}{os.pathsep}{here.parent}"}
    assert subprocess.run([sys.executable, "-c", script], env=os.environ | paths).returncode == 0
