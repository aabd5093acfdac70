"""Whether a word rests on what its heatmap shows: deletion and insertion curves and a permutation test.

The curves are those of RISE, arXiv 1806.07421, section 4.3, over the log-probability of the caption's own
words, each read after the true words before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from captionbot.explain.attention_maps import attention_map
from captionbot.explain.attribution import CELLS, WordMaps, filled_pixels, log_probs_where_hidden, word_maps
from captionbot.images.load import boxes_to_image, to_pixel_values
from captionbot.text.parts_of_speech import PARTS, parts_of_speech
from captionbot.types import Caption

if TYPE_CHECKING:  # torch takes a second to import
    from PIL import Image

    from captionbot.captioner import Captioner

_SHARE = 0.25  # of the photo, that the test of a heatmap hides or shows
_ORDERS = 19  # by chance, that a heatmap is tested against: p = 1 / 20
_PATCH = 1.0  # standard deviation, in cells, of the blur that makes a random order one of patches


@dataclass(frozen=True)
class Faithfulness:
    """Whether a word rests on what its heatmap shows: a permutation test with one side.

    effect: nats of log-probability that the word loses when the hottest quarter of the photo is hidden,
        which is the deletion curve's fall there.
    random_effects: (R,) the same for random orders of patches in the place of the heatmap's order.
    holds: the effect is above every random one, and above 0. An order that has nothing to do with the word
        is as likely as any other to be the best of them all, so it passes once in R + 1 times at most:
        p = 1 / 20 with the 19 that there are.
    shares: (S,) of the photo's cells, from 0 to 1, that are hidden or shown, the hottest first.
    deletion: (S,) log-probability of the word with that share hidden; insertion: with only it shown.
    random: (R,) log-probability with a quarter of the photo hidden in random orders.
    """

    word: str
    effect: float
    random_effects: np.ndarray
    shares: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray
    random: np.ndarray

    @property
    def threshold(self) -> float:
        """The nats that an effect must be above: the best random order's, and none."""
        return max(0.0, float(self.random_effects.max()))

    @property
    def holds(self) -> bool:
        return self.effect > self.threshold

    @property
    def verdict(self) -> str:
        if self.holds:
            return "This word rests on what the heatmap shows."
        return "This word does not rest on what the heatmap shows."

    @property
    def reason(self) -> str:
        """The verdict's numbers, for a person."""
        cost = "costs the word" if self.effect >= 0 else "makes the word likelier by"
        return (
            f"Hiding the hottest quarter of the photo {cost} {abs(self.effect):.2f} nats of log-probability. "
            f"Hiding random patches of that size cost it up to {self.threshold:.2f} in "
            f"{len(self.random_effects)} tries; to count, the heatmap must do better than all of them."
        )

    @property
    def curves(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """What there is to draw: shares and log-probabilities by name. Random orders are a mean."""
        middle = np.array([self.deletion[0], self.random.mean(), self.deletion[-1]])
        return {
            "Hottest places hidden": (self.shares, self.deletion),
            "Hottest places shown": (self.shares, self.insertion),
            "Hidden at random": (np.array([0, _SHARE, 1]), middle),
        }


def faithfulness(
    captioner: Captioner,
    image: Image.Image,
    caption: Caption,
    words: Sequence[int] | None = None,
    *,
    maps: WordMaps | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> tuple[Faithfulness, ...]:
    """Do words of a caption rest on what their heatmaps show? Tested against random orders of patches.

    The photo is cut into 8 x 8 cells, ordered by the heatmap; where it is even, by chance. They are hidden
    in the pixels, since an encoder's places have long been mixed. Random orders hide patches as heatmaps
    do, not scattered cells, which would spoil the whole photo at once; all words share their copies of the
    photo, one an order, so 10 words need 41 copies: 2, 19, and 2 a word.

    words: places in the caption, all of them if None; maps: of the caption, its attention or occlusion
        (`word_maps`' "auto") if None.
    seed: of the random orders, always the same unless another is given.
    steps: 1 measures the curves at the quarter that the test needs, 3 at all quarters; None is 3 for one
        word and 1 for several, which saves time.
    Raises CaptionBotError where the caption has no such word.
    """
    import torch

    from captionbot.encoders import grid_boxes

    maps = maps or word_maps(captioner, image, caption)
    words = range(len(caption.words)) if words is None else words
    asked = len(words)
    inner = _SHARE * np.arange(1, 1 + (steps or (3 if asked == 1 else 1)))  # (S - 2,), the quarter first
    fields = _random_fields(_ORDERS + 1, seed)
    heat = np.stack([_cell_heat(maps.on(caption), t) for t in words])  # (W, P)
    cells = heat.shape[1]
    by_chance = np.broadcast_to(fields[-1], heat.shape)
    ranks = np.lexsort((by_chance, -heat)).argsort(1)[:, None]  # (W, 1, P)
    random_ranks = fields[:-1].argsort(1).argsort(1)  # (R, P)
    hidden = np.concatenate(
        [
            np.zeros((1, cells), bool),
            np.ones((1, cells), bool),
            random_ranks < _SHARE * cells,
            (ranks < cells * inner[:, None]).reshape(-1, cells),
            (ranks >= cells * inner[:, None]).reshape(-1, cells),
        ]
    )
    pixels = to_pixel_values([image], captioner.preprocessing, captioner.device)
    boxes = grid_boxes(*CELLS)[0]
    log_probs = log_probs_where_hidden(
        captioner, pixels, filled_pixels(pixels, "mean"), boxes, torch.from_numpy(hidden), caption
    )
    (whole, nothing), rest = log_probs[:2], log_probs[2:]  # (T,) each, (N, T)
    random = rest[:_ORDERS]
    deletions, insertions = rest[_ORDERS:].reshape(2, asked, len(inner), -1)
    return tuple(
        Faithfulness(
            caption.words[t].text,
            float(whole[t] - deletion[0, t]),
            whole[t] - random[:, t],
            np.array([0, *inner, 1]),
            np.array([whole[t], *deletion[:, t], nothing[t]]),
            np.array([nothing[t], *insertion[:, t], whole[t]]),
            random[:, t],
        )
        for t, deletion, insertion in zip(words, deletions, insertions, strict=True)
    )


@dataclass(frozen=True)
class Share:
    """Of how many words of one part of speech the heatmap is true.

    part: one of `parts_of_speech.PARTS`, or "all". words: those tested; true: those for which it holds.
    """

    part: str
    words: int
    true: int

    @property
    def share(self) -> float:
        return self.true / self.words

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval of 95 % (J. Am. Stat. Assoc. 22, 1927), as if words were independent."""
        n, p, z = self.words, self.share, 1.96
        middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
        return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def by_part_of_speech(captions: Iterable[Sequence[Faithfulness]]) -> tuple[Share, ...]:
    """The share of words for which the heatmap holds, by part of speech, with all words last.

    captions: of each caption, all of its words in order; parts of speech without a word are left out.
    """
    words: Counter[str] = Counter()
    true: Counter[str] = Counter()
    for tested in captions:
        for part, word in zip(parts_of_speech([word.word for word in tested]), tested, strict=True):
            words.update((part, "all"))
            true.update({part: word.holds, "all": word.holds})
    return tuple(Share(part, words[part], true[part]) for part in (*PARTS, "all") if words[part])


def random_maps(caption: Caption, seed: int) -> WordMaps:
    """Heatmaps of patches that know nothing of the photo, another for each word: what a test of heatmaps
    must not believe more often than it says."""
    from captionbot.encoders import grid_boxes

    fields = _random_fields(len(caption.words), seed)
    boxes = boxes_to_image(grid_boxes(*CELLS)[0].numpy(), caption.image_size)
    return WordMaps("random", "nothing: patches by chance", fields - fields.min(), boxes, CELLS)


def _cell_heat(caption: Caption, t: int) -> np.ndarray:
    """(P,) mean of word t's heatmap over each of the 8 x 8 cells."""
    rows, columns = CELLS
    fine = attention_map(caption, t, (7 * columns, 7 * rows), smooth=False)  # 14 x 14 cells fit too
    means: np.ndarray = fine.reshape(rows, 7, columns, 7).mean((1, 3))
    return means.ravel()


def _random_fields(count: int, seed: int) -> np.ndarray:
    """(count, P) blurred noise over the 8 x 8 cells: what lies together is about as high."""
    rows, columns = (np.exp(-(np.subtract.outer(a, a) ** 2) / (2 * _PATCH**2)) for a in map(np.arange, CELLS))
    noise = np.random.default_rng(seed).standard_normal((count, *CELLS))
    return (rows @ noise @ columns).reshape(count, -1)
