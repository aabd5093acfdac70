"""What each word of a caption needs of the photo: a map for every word from one set of hidden copies, and a
test of whether the map is true.

The photo is hidden 83 times, each time another quarter of its 8 x 8 cells under its mean colour, and the
model reads the caption's own words over every copy (teacher forcing). A word's map is the posterior mean of
a Gaussian-process regression of what it lost on what was hidden (Rasmussen and Williams, Gaussian Processes
for Machine Learning, 2006, equations 2.23 and 2.42). The test asks what the map, fitted on all other copies,
foretells of each copy: in closed form (section 5.4.2), without another copy. Its correlation with what
happened is held against those of 999 random maps of patches (faithfulness correlation, arXiv 2005.00631).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from captionbot.errors import CaptionBotError
from captionbot.explain.hidden import CELLS, filled_pixels, log_probs_of
from captionbot.explain.maps import LABELS, WordMaps
from captionbot.images.load import boxes_to_image, to_pixel_values
from captionbot.text.pieces import of_words
from captionbot.text.tokenizer import tokenize
from captionbot.types import Caption, Features, Size

if TYPE_CHECKING:  # torch takes a second to import
    from collections.abc import Sequence

    from PIL import Image
    from torch import Tensor

    from captionbot.captioner import Captioner
    from captionbot.explain.copies import Copies

COPIES = 83
STAGES = (16, 32, 48, 64, COPIES)
"""Copies after which the maps are worked out anew. Those of fewer than 32 are too coarse to show."""
SEED = 2001
SIGNIFICANT = 0.05
HALVED = np.log(2)
"""Nats: what a word loses that becomes half as likely."""

_PLACES = CELLS[0] * CELLS[1]
_SHARE = 0.25  # of the cells, that a copy hides
_PATCH = 1.0  # standard deviation, in cells, of the blur that makes random fields ones of patches
_SMOOTH, _ROUGH, _NOISE = 1.2, 0.05, 10.0  # of the regression: length in cells, share of each cell, variance
_CHANCE, _CHANCE_SEED = 999, 4242
_ROUNDING = 1e-4  # nats, in the mean: a word that loses less has lost nothing


class Verdict(Enum):
    """What a word turned out to need; the value is what people read."""

    PLACE = "needs this place"
    LITTLE = "leans on it a little"
    PHOTO = "needs the photo, no one place"
    SENTENCE = "comes from the sentence"


@dataclass(frozen=True)
class Needs:
    """What every word of a caption needs of the photo, as far as it is measured.

    T words, N hidden copies so far, cells in reading order.

    words: their texts.
    before: (T,) probability of each word where nothing is hidden.
    drops: (N, T) nats of log-probability that each word lost in each copy.
    after: (T,) probability where the hottest quarter of its map is hidden; NaN until that was measured, which
        comes last.
    maps: (T, 8, 8) nats that a word loses where a cell is hidden, below 0 where hiding it helps.
    r: (T,) correlation of what the maps foretell with what happened, -1 to 1.
    p: (T,) the share of random maps, this one counted, that foretell as well.
    seed: of the hidden quarters.
    """

    words: tuple[str, ...]
    before: np.ndarray
    drops: np.ndarray
    after: np.ndarray
    seed: int = SEED
    maps: np.ndarray = field(init=False)
    r: np.ndarray = field(init=False)
    p: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        found = fit(self.drops, self.seed)
        object.__setattr__(self, "maps", found.maps.reshape(-1, *CELLS))
        object.__setattr__(self, "r", found.r)
        object.__setattr__(self, "p", found.p)

    @property
    def copies(self) -> int:
        return len(self.drops)

    @property
    def done(self) -> bool:
        return not bool(np.isnan(self.after).any())

    @cached_property
    def hottest(self) -> np.ndarray:
        """(T, 64) bool: the quarter of the cells where each word's map is highest."""
        return _quarter(-self.maps.reshape(-1, _PLACES))

    @property
    def effect(self) -> np.ndarray:
        """(T,) nats that each word lost where its map's hottest quarter was hidden."""
        least = np.finfo(float).tiny
        effect: np.ndarray = np.log(np.maximum(self.before, least)) - np.log(np.maximum(self.after, least))
        return effect

    @property
    def most(self) -> np.ndarray:
        """(T,) nats that each word lost in the copy that cost it most, its own hottest quarter included."""
        most: np.ndarray = np.fmax(self.drops.max(0), self.effect)
        return most

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Of each word, once all is measured.

        The test of the map says whether there is a place, and the copy that cost the word most (the one
        without its hottest quarter counts too) how much the word needs the photo.
        """
        names = {
            (True, True): Verdict.PLACE,
            (True, False): Verdict.LITTLE,
            (False, True): Verdict.PHOTO,
            (False, False): Verdict.SENTENCE,
        }
        placed, halved = self.p <= SIGNIFICANT, self.most >= HALVED
        return tuple(names[bool(p), bool(h)] for p, h in zip(placed, halved, strict=True))

    @property
    def chance(self) -> np.ndarray:
        """(T, 999) what r is of random maps of patches on the same copies."""
        return _by_chance(self.drops, self.seed)

    def as_word_maps(self, caption: Caption) -> WordMaps:
        """By the places that the captioner looks at: its detected boxes, else cells."""
        if caption.grid is None and len(caption.boxes) > 1:
            boxes, grid, maps = caption.boxes, None, self.where_hidden(caption.fractions)
            whole = (boxes[:, 2:] - boxes[:, :2]).prod(1) > 0.95 * np.prod(caption.image_size)
            maps = np.where(whole, 0, maps)  # hiding everything says nothing about where
        else:
            boxes, grid, maps = _cells_seen(caption), CELLS, self.maps.reshape(len(self.words), -1)
        return WordMaps("needs", LABELS["needs"], maps, boxes, grid)

    def on(self, caption: Caption) -> Caption:
        """The caption with these maps in the place of its attention, so that every drawing shows them."""
        return self.as_word_maps(caption).on(caption)

    def hidden(self, t: int, size: Size | tuple[int, int]) -> np.ndarray:
        """(16, 4) boxes in pixels of a photo of that size: the cells of word t's hottest quarter."""
        boxes: np.ndarray = cell_boxes(size)[self.hottest[t]]
        return boxes

    def where_hidden(self, boxes: np.ndarray) -> np.ndarray:
        """(T, P) nats that each word would lose, by its map, where one of (P, 4) boxes is hidden.

        boxes: xyxy as fractions of the photo; cells count by the share of them that a box covers, and a
            point as the cell that it lies in.
        """
        across = np.stack([_covered(left, right, CELLS[1]) for left, _, right, _ in boxes])
        down = np.stack([_covered(top, bottom, CELLS[0]) for _, top, _, bottom in boxes])
        lost: np.ndarray = np.einsum("tyx,py,px->tp", self.maps, down, across)
        return lost

    def at(self, box: Sequence[float]) -> np.ndarray:
        """(T,) nats that each word would lose where a box of the photo is hidden, as of `where_hidden`; words
        whose map is not true foretell nothing, 0."""
        told: np.ndarray = np.where(self.p <= SIGNIFICANT, self.where_hidden(np.array([box]))[:, 0], 0.0)
        return told


def needs(
    captioner: Captioner,
    image: Image.Image,
    caption: Caption,
    copies: int = COPIES,
    seed: int = SEED,
    kept: Copies | None = None,
) -> Needs:
    """What every word of a caption needs of the photo, measured to the end, with nothing shown in between.

    copies: of the photo, each with another quarter hidden; one more a word hides what its map shows.
    kept: of `kept_of`, for other captions of this photo, by any captioner: a CNN sees no copy twice.
    """
    found, kept = None, kept or kept_of()
    while found is None or not found.done:
        found = more(captioner, image, caption, found, copies, seed, kept, staged=False)
    return found


def stream(
    captioner: Captioner,
    image: Image.Image,
    caption: Caption,
    copies: int = COPIES,
    seed: int = SEED,
    kept: Copies | None = None,
) -> Iterator[Needs]:
    """`needs`, coarse to fine: after the first copies, after more of them, and once all is measured."""
    found: Needs | None = None
    kept = kept or kept_of()
    while found is None or not found.done:
        found = more(captioner, image, caption, found, copies, seed, kept)
        yield found


def kept_of() -> Copies:
    """A record of what CNNs see of one photo, with nothing in it yet. It grows to some 80 MB."""
    from captionbot.explain.copies import Copies

    return Copies(CELLS)


def more(
    captioner: Captioner,
    image: Image.Image,
    caption: Caption,
    known: Needs | None = None,
    copies: int = COPIES,
    seed: int = SEED,
    kept: Copies | None = None,
    staged: bool = True,
) -> Needs:
    """The next stage of measuring: some copies more, or the hottest quarters once there are all copies.

    known: what is measured already of this caption of this photo, of the same seed; None where nothing is.
    kept: as of `needs`.
    staged: some copies only, so that there is something to be shown; else all that are missing.
    """
    kept = kept or kept_of()
    upto = _next_stage(known.copies if known is not None else 0, copies) if staged else copies
    pixels = to_pixel_values([image], captioner.preprocessing, captioner.device)
    if known is None:
        hidden = design(copies, seed).hidden[:upto]
        hidden = np.concatenate([np.zeros((1, _PLACES), bool), hidden])
        first, others = np.split(hidden, [kept.learns_from])
        # By one thread: what is learned of the CNNs from these is there for all.
        found = _read(kept, captioner, pixels, caption, first, side_by_side=False)
        if len(others):
            found = np.concatenate([found, _read(kept, captioner, pixels, caption, others)])
        words = tuple(word.text for word in caption.words)
        unknown = np.full(len(words), np.nan)
        return Needs(words, np.exp(found[0]), found[0] - found[1:], unknown, seed)
    if known.copies < copies:
        hidden = design(copies, seed).hidden[known.copies : upto]
        lost = np.log(known.before) - _read(kept, captioner, pixels, caption, hidden)
        return replace(known, drops=np.concatenate([known.drops, lost]))
    quarters, of = np.unique(known.hottest, axis=0, return_inverse=True)
    found = _read(kept, captioner, pixels, caption, quarters)
    after = np.exp(found[of.ravel(), np.arange(len(known.words))])
    return replace(known, after=after)


def caption_of(captioner: Captioner, features: Features, size: Size, text: str) -> Caption:
    """A sentence of one's own as a caption of a photo, so that it is tested like one that the model wrote.

    features, size: of one image, as of `Captioner.encode`.
    Raises CaptionBotError for words that the captioner does not know, and for no words.
    """
    if not tokenize(text):
        raise CaptionBotError("The sentence is empty: write what the photo shows.")
    length = len(captioner.vocabulary.require(tokenize(text)))
    options = captioner.options(beam_size=1, max_length=length, min_length=1)
    (captioned,) = captioner.caption_features(features, [size], options, prefix=text)
    return captioned.captions[0]


def to_json(needs: Needs) -> dict[str, Any]:
    """What a page draws, in small numbers.

    For each word: cells, 64 whole numbers in reading order, 100 where the map is highest and 0 where hiding
    a place costs nothing; peak, the nats of 100; r and p; before and after, probabilities (after: null until
    it is measured); verdict, a name of `Verdict` (null until then); says, the verdict for a person; hidden,
    the numbers of the 16 cells of its hottest quarter; chance, how many of the 999 random maps had an r in
    each of 40 steps from -1 to 1.
    """
    verdicts = needs.verdicts if needs.done else (None,) * len(needs.words)
    chance = needs.chance
    return {
        "grid": list(CELLS),
        "copies": needs.copies,
        "done": needs.done,
        "words": [
            {
                "word": word,
                "cells": _small(needs.maps[t]),
                "peak": round(float(max(needs.maps[t].max(), 0)), 4),
                "r": round(float(needs.r[t]), 3),
                "p": round(float(needs.p[t]), 3),
                "before": round(float(needs.before[t]), 5),
                "after": round(float(needs.after[t]), 5) if needs.done else None,
                "verdict": verdict and verdict.name.lower(),
                "says": verdict and verdict.value,
                "hidden": np.flatnonzero(needs.hottest[t]).tolist(),
                "chance": np.histogram(chance[t], 40, (-1, 1))[0].tolist(),
            }
            for t, (word, verdict) in enumerate(zip(needs.words, verdicts, strict=True))
        ],
    }


# The linear algebra, which knows nothing of captioners


class Design(NamedTuple):
    """The hidden quarters and all that depends on them alone, worked out once.

    hidden: (N, 64) bool. to_map: (64, N) from what a word lost to its map. residual: (N, N), from what it
    lost to how far the map is off, each copy's weight on the diagonal. chance: (999, N), what random maps
    foretell, as unit vectors.
    """

    hidden: np.ndarray
    to_map: Tensor
    residual: Tensor
    chance: Tensor


class Fit(NamedTuple):
    """maps: (T, 64); r, p: (T,); foretold: (N, T) nats that a map fitted without the copy foretells of it."""

    maps: np.ndarray
    r: np.ndarray
    p: np.ndarray
    foretold: np.ndarray


@lru_cache(maxsize=8)
def design(copies: int = COPIES, seed: int = SEED) -> Design:
    import torch

    hidden = random_quarters(copies, seed)
    z = torch.from_numpy(hidden).double()
    at = torch.cartesian_prod(*(torch.arange(n).double() for n in CELLS))
    prior = torch.exp(-(torch.cdist(at, at) ** 2) / (2 * _SMOOTH**2)) + _ROUGH * torch.eye(_PLACES)
    inverse = torch.linalg.inv(z @ prior @ z.T + _NOISE * torch.eye(copies))
    ones = inverse.sum(1)
    residual = inverse - torch.outer(ones, ones) / ones.sum()  # the level of all copies is free
    chance = _unit(torch.from_numpy(random_fields(_CHANCE, _CHANCE_SEED)) @ z.T)
    return Design(hidden, prior @ z.T @ residual, residual, chance)


def fit(drops: np.ndarray, seed: int = SEED) -> Fit:
    """The maps of what words lost in N copies, (N, T), and how well each foretells copies it did not see."""
    import torch

    of, lost = design(len(drops), seed), torch.from_numpy(np.asarray(drops, np.float64))
    foretold = lost - (of.residual @ lost) / of.residual.diagonal()[:, None]
    r, p = _tested(of, foretold.T, lost.T)
    return Fit((of.to_map @ lost).T.numpy(), r, p, foretold.numpy())


def test(maps: np.ndarray, drops: np.ndarray, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """r and p, (T,) each, of maps (T, 64) that were not fitted on what the words lost (N, T)."""
    import torch

    of = design(len(drops), seed)
    foretold = torch.from_numpy(np.asarray(maps, np.float64)) @ torch.from_numpy(of.hidden).double().T
    return _tested(of, foretold, torch.from_numpy(np.asarray(drops, np.float64)).T)


def random_quarters(count: int, seed: int) -> np.ndarray:
    """(count, 64) bool, a quarter of the 8 x 8 cells each, in a few patches."""
    return _quarter(random_fields(count, seed))


def random_fields(count: int, seed: int) -> np.ndarray:
    """(count, 64) blurred noise over the 8 x 8 cells: what lies together is about as high."""
    rows, columns = (np.exp(-(np.subtract.outer(a, a) ** 2) / (2 * _PATCH**2)) for a in map(np.arange, CELLS))
    noise = np.random.default_rng(seed).standard_normal((count, *CELLS))
    return (rows @ noise @ columns).reshape(count, -1)


def cell_boxes(size: Size | tuple[int, int]) -> np.ndarray:
    """(64, 4) boxes of the cells in pixels of a photo of that size."""
    from captionbot.encoders import grid_boxes

    return boxes_to_image(grid_boxes(*CELLS)[0].numpy(), Size(*size))


def area_seen(caption: Caption) -> tuple[float, float, float, float]:
    """What the captioner sees of the photo, as fractions of it: all, or its middle alone."""
    if caption.grid is None or caption.boxes[:, :2].min(0).max() < 1:
        return 0.0, 0.0, 1.0, 1.0
    boxes = caption.fractions
    (left, top), (right, bottom) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    return float(left), float(top), float(right), float(bottom)


def _cells_seen(caption: Caption) -> np.ndarray:
    """(64, 4) the cells of what the captioner sees, in pixels of the photo."""
    left, top, right, bottom = area_seen(caption)
    whole = np.array([*caption.image_size] * 2)
    seen: np.ndarray = cell_boxes((1, 1)) * np.tile([right - left, bottom - top], 2) + np.tile([left, top], 2)
    pixels: np.ndarray = (seen * whole).astype(np.float32)
    return pixels


def _tested(of: Design, foretold: Tensor, lost: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(T, N) each -> r and p."""
    lost = _unit(lost)
    r = (_unit(foretold) * lost).sum(1)
    as_well = (lost @ of.chance.T >= r[:, None] - 1e-12).sum(1)
    return r.numpy(), ((1 + as_well) / (1 + _CHANCE)).numpy()


def _by_chance(drops: np.ndarray, seed: int) -> np.ndarray:
    import torch

    lost = _unit(torch.from_numpy(np.asarray(drops, np.float64)).T)
    return np.asarray((lost @ design(len(drops), seed).chance.T).numpy())


def _unit(rows: Tensor) -> Tensor:
    """Rows less their mean, of length 1; of a row that is even, 0."""
    rows = rows - rows.mean(1, keepdim=True)
    length = rows.norm(dim=1, keepdim=True)
    even = length < _ROUNDING * rows.shape[1] ** 0.5
    unit: Tensor = (rows / length.clamp(min=1e-12)).masked_fill(even, 0)
    return unit


def _quarter(fields: np.ndarray) -> np.ndarray:
    """(n, 64) -> bool, the quarter of the cells of each row where it is lowest."""
    lowest: np.ndarray = fields.argsort(1, kind="stable").argsort(1) < round(_SHARE * _PLACES)
    return lowest


def _next_stage(measured: int, copies: int) -> int:
    return min([stage for stage in STAGES if measured < stage < copies], default=copies)


def _read(
    kept: Copies,
    captioner: Captioner,
    pixels: Tensor,
    caption: Caption,
    hidden: np.ndarray,
    side_by_side: bool = True,
) -> np.ndarray:
    """(N, T) log-probabilities of the caption's words over copies that lack (N, 64) cells.

    side_by_side: on a CPU, whether each core reads some of them by itself.
    """
    import torch

    from captionbot.backends.cpu import threads

    filling, masks = filled_pixels(pixels, "mean"), torch.from_numpy(hidden)

    def read(some: Tensor) -> Tensor:
        seen = kept.features(captioner, pixels, filling, some)
        return torch.cat([log_probs_of(captioner, features, caption.token_ids) for features in seen])

    with torch.inference_mode():
        count = min(torch.get_num_threads(), len(masks)) if side_by_side and pixels.is_cpu else 1
        found = torch.cat(threads.side_by_side(read, masks.tensor_split(count)))
    return of_words(found.cpu().numpy(), caption.pieces).astype(np.float64)


def _covered(start: float, end: float, cells: int) -> np.ndarray:
    """(cells,) the share of each cell between two fractions of a side; of a point its cell alone."""
    if end <= start:
        point: np.ndarray = np.eye(cells)[min(int(start * cells), cells - 1)]
        return point
    edges = np.arange(cells + 1) / cells
    within: np.ndarray = np.minimum(end, edges[1:]) - np.maximum(start, edges[:-1])
    return np.asarray(within.clip(0) * cells)


def _small(cells: np.ndarray) -> list[int]:
    peak = max(float(cells.max()), 1e-9)
    small: list[int] = (100 * np.clip(cells / peak, 0, 1)).round().astype(int).ravel().tolist()
    return small
