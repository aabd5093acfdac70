"""The heatmap of a word, and what else tells what a word rests on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from cells import SEEN, cells_captioner, first_caption, photo_with
from PIL import Image

from captionbot import Captioner
from captionbot.encoders import GridEncoder
from captionbot.errors import CaptionBotError
from captionbot.explain.attention_maps import attention_map
from captionbot.explain.attribution import word_maps
from captionbot.explain.hidden import log_probs_of
from captionbot.explain.maps import LABELS
from captionbot.images.load import to_pixel_values
from captionbot.types import Caption, Features, Size, Word


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


# Maps by method, over a captioner in which everything is known


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return photo_with([SEEN])


def test_log_probs_are_those_that_the_search_found(tiny: Captioner, photo: Image.Image) -> None:
    images = [photo, photo.rotate(90), photo.rotate(180)]
    captions = [captioned.captions[0] for captioned in tiny.caption(images)]
    for i, caption in enumerate(captions):
        log_probs = log_probs_of(tiny, tiny.encode(images), caption.token_ids)
        assert log_probs.shape == (3, len(caption.words))
        np.testing.assert_allclose(log_probs[i], [word.log_prob for word in caption.words], atol=1e-4)


def test_a_hidden_cell_costs_what_the_changed_photo_loses(tiny: Captioner, photo: Image.Image) -> None:
    caption = first_caption(tiny, photo)
    found = word_maps(tiny, photo, caption, "occlusion")
    assert found.maps.shape == (len(caption.words), 64)
    assert found.grid == (8, 8)
    np.testing.assert_allclose(found.boxes[SEEN], [8, 8, 12, 12])
    pixels = to_pixel_values([photo], tiny.preprocessing)
    for cell in (0, SEEN, 63):
        changed = pixels.clone()
        row, column = divmod(cell, 8)
        changed[0, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = pixels.mean((2, 3))[
            0, :, None, None
        ]
        with torch.inference_mode():
            state = tiny.decoder.start(tiny.encoder(changed))
            word = torch.tensor([1])
            for t, token_id in enumerate(caption.token_ids):
                log_probs, _, state = tiny.decoder.step(word, state)
                lost = caption.words[t].log_prob - float(log_probs[0, token_id])
                assert found.maps[t, cell] == pytest.approx(lost, abs=1e-4)
                word = torch.tensor([token_id])


@pytest.mark.parametrize("filling", ["mean", "blur"])
@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("method", ["occlusion", "gradient"])
def test_maps_show_what_the_word_hangs_on(
    method: str, regions: bool, filling: str, photo: Image.Image
) -> None:
    captioner = cells_captioner(None, regions)
    caption = first_caption(captioner, photo)
    assert caption.text == "bright"
    found = word_maps(captioner, photo, caption, method, filling)
    assert found.label == LABELS[method]
    assert found.maps.shape == (1, 64 + regions)
    assert found.maps[0].argmax() == SEEN + regions
    others = np.delete(found.maps[0], SEEN + regions)
    assert np.abs(others).max() < 1e-5
    assert found.grid == (None if regions else (8, 8))
    heatmap = attention_map(found.on(caption), 0, smooth=False)
    assert heatmap[9, 9] == 1
    assert heatmap[20, 20] == pytest.approx(0, abs=1e-4)


def test_grad_cam_is_the_paper_word_by_word(tiny: Captioner, photo: Image.Image) -> None:
    """arXiv 1610.02391: alpha_c = mean over places of dy / dA, map = relu(sum_c alpha_c A_c)."""
    caption = first_caption(tiny, photo)
    found = word_maps(tiny, photo, caption, "gradient")
    values = tiny.encoder(to_pixel_values([photo], tiny.preprocessing)).values
    for t in range(len(caption.words)):
        asked = values.clone().requires_grad_()
        y = log_probs_of(tiny, Features(asked, torch.zeros(1, 16, 4)), caption.token_ids)[0, t]
        (gradient,) = torch.autograd.grad(y, asked)
        cam = (asked.detach()[0] * gradient[0].mean(0)).sum(-1).clamp(min=0)
        np.testing.assert_allclose(found.maps[t], cam, rtol=1e-3, atol=1e-7)


def test_the_gradient_of_a_pooled_encoder_is_the_first_order_of_its_occlusion(
    tiny: Captioner, photo: Image.Image
) -> None:
    pooled = GridEncoder(dataclasses.replace(tiny.encoder.config, grid=(1, 1)))
    pooled.load_state_dict(tiny.encoder.state_dict())
    captioner = Captioner(tiny.card, pooled.eval().requires_grad_(False), tiny.decoder, tiny.device)
    caption = first_caption(captioner, photo)
    found = word_maps(captioner, photo, caption, "gradient")
    assert found.grid == (8, 8)
    pixels = to_pixel_values([photo], captioner.preprocessing)
    filling = pixels.mean((2, 3), keepdim=True)
    step = 1e-2
    cell = int(found.maps[0].argmax())
    mask = torch.zeros(8, 8)
    mask.view(-1)[cell] = 1
    mask = mask.repeat_interleave(8, 0).repeat_interleave(8, 1)
    with torch.inference_mode():
        little = pixels + step * mask * (filling - pixels)  # a hundredth of hiding it
        lost = [
            float(log_probs_of(captioner, captioner.encoder(p), caption.token_ids)[0, 0])
            for p in (pixels, little)
        ]
    assert found.maps[0, cell] * 64 == pytest.approx((lost[0] - lost[1]) / step, rel=0.2, abs=1e-4)


def test_the_method_follows_the_captioner(tiny: Captioner, photo: Image.Image) -> None:
    caption = first_caption(tiny, photo)
    attention = word_maps(tiny, photo, caption)
    assert attention.method == "attention"
    np.testing.assert_array_equal(attention.maps, caption.alphas)
    blind = cells_captioner(None)
    seen = first_caption(blind, photo)
    assert word_maps(blind, photo, seen).method == "needs"
    with pytest.raises(CaptionBotError, match="ask for needs or occlusion"):
        word_maps(blind, photo, seen, "attention")
    with pytest.raises(CaptionBotError, match="choose one of auto, attention"):
        word_maps(blind, photo, seen, "magic")
    with pytest.raises(CaptionBotError, match="choose one of mean, blur"):
        word_maps(blind, photo, seen, "occlusion", "pink")
