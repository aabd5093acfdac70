"""Where the model looked for a word, as a heatmap over the whole photo."""

from __future__ import annotations

import numpy as np

from captionbot.errors import CaptionBotError
from captionbot.types import Caption, Size

_BLUR = 0.6  # standard deviation in cells: the grid melts away, yet a lone cell stays a spot of its size


def attention_map(
    caption: Caption,
    t: int,
    size: Size | tuple[int, int] | None = None,
    *,
    smooth: bool = True,
    peak: float | None = None,
) -> np.ndarray:
    """(height, width) float32 in [0, 1]: where the model looked for word t, over the whole image.

    A box adds its weight to every pixel it covers, so overlapping regions add up. A smooth map of a
    grid is a Gaussian-weighted mean of the cells near each pixel: it never leaves their range.

    t: 0 is the first word.
    size: (width, height) of the map; the original image's if None.
    smooth: False shows the cells themselves. Regions are always shown as they are.
    peak: the weight drawn as 1. None is the map's own highest, which shows the most of one word;
        `caption.alphas.max()` for all words makes them comparable.

    Raises CaptionBotError where the caption has no word t.
    """
    if not 0 <= t < len(caption.words):
        raise CaptionBotError(
            f"There is no word {t} in “{caption.text}”: choose one of 0 to {len(caption.words) - 1}."
        )
    width, height = caption.image_size if size is None else size
    weights = caption.alphas[t].astype(np.float32)
    boxes = caption.boxes * (np.array([width, height] * 2) / np.array([*caption.image_size] * 2))
    if smooth and caption.grid is not None:
        heatmap = _smoothed(weights.reshape(caption.grid), boxes.reshape(*caption.grid, 4), width, height)
    else:
        heatmap = _filled(weights, boxes, width, height)
    peak = float(heatmap.max()) if peak is None else peak
    return np.clip(heatmap / peak, 0, 1) if peak > 0 else heatmap


def _filled(weights: np.ndarray, boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """(P,) weights, (P, 4) boxes in pixels -> (height, width), each box at least one pixel."""
    heatmap = np.zeros((height, width), np.float32)
    starts = np.clip(boxes[:, :2].round().astype(int), 0, [width - 1, height - 1])
    ends = np.maximum(boxes[:, 2:].round().astype(int), starts + 1)
    for weight, (left, top), (right, bottom) in zip(weights, starts, ends, strict=True):
        heatmap[top:bottom, left:right] += weight
    return heatmap


def _smoothed(weights: np.ndarray, boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """(rows, columns) weights, (rows, columns, 4) boxes in pixels -> (height, width)."""
    from torch import from_numpy

    across = _blend(boxes[0, :, 0], boxes[0, :, 2], width)
    down = _blend(boxes[:, 0, 1], boxes[:, 0, 3], height)
    # Not by numpy: the threads of its OpenBLAS wait by spinning, and beside another process everything after
    # them took twice as long.
    return (from_numpy(down) @ from_numpy(weights) @ from_numpy(across).T).numpy()


def _blend(starts: np.ndarray, ends: np.ndarray, length: int) -> np.ndarray:
    """(n,) edges of n cells along one axis -> (length, n) how much of each cell a pixel shows.

    Rows sum to 1 at pixels that the cells cover and are 0 beyond them, as after a centre crop.
    """
    pixels = np.arange(length) + 0.5
    distances = (pixels[:, None] - (starts + ends) / 2) / (ends - starts)
    nearest = (distances**2).min(axis=1, keepdims=True)  # taken off, so that no pixel underflows to 0 / 0
    shares = np.exp((nearest - distances**2) / (2 * _BLUR**2))
    covered = (pixels >= starts.min()) & (pixels <= ends.max())
    spread: np.ndarray = shares / shares.sum(axis=1, keepdims=True) * covered[:, None]
    return spread.astype(np.float32)
