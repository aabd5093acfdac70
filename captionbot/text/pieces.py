"""Whole words of captioners whose vocabulary writes some of them in pieces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def of_words(values: np.ndarray, pieces: Sequence[int], *, mean: bool = False) -> np.ndarray:
    """(..., T) numbers of ids -> (..., W) of whole words: the sums over their pieces, or the means.

    pieces: (W,) how many of the T ids each word has, as of `Caption.pieces`.
    """
    if len(pieces) == values.shape[-1]:  # an id a word: the very numbers
        return values
    starts = np.cumsum([0, *pieces[:-1]])
    sums: np.ndarray = np.add.reduceat(values, starts, axis=-1)
    return sums / np.array(pieces, sums.dtype) if mean else sums
