"""What the words of a caption rest on: where the model looked, what it misses where a part of the photo
is hidden, what its gradient says; and whether the first of these is true.

Occlusion: Zeiler and Fergus, arXiv 1311.2901, section 4.2. Gradients: Grad-CAM, arXiv 1610.02391,
equations 1 and 2. Deletion and insertion curves: RISE, arXiv 1806.07421, section 4.3. All of them ask for
the log-probability of the caption's own words, each read after the true words before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from captionbot.errors import CaptionBotError
from captionbot.images.load import boxes_to_image, to_pixel_values
from captionbot.text.parts_of_speech import PARTS, parts_of_speech
from captionbot.types import Caption, Features, Size

if TYPE_CHECKING:  # torch takes a second to import, and `render` needs `attention_map` alone
    from PIL import Image
    from torch import Tensor

    from captionbot.captioner import Captioner

METHODS = ("auto", "attention", "occlusion", "gradient")
FILLINGS = ("mean", "blur")
LABELS = {
    "attention": "where the model looked for the word",
    "occlusion": "how much less likely the word is where this place is hidden",
    "gradient": "how much the word's log-probability hangs on this place, by its gradient",
}

_BLUR = 0.6  # standard deviation in cells: the grid melts away, yet a lone cell stays a spot of its size
_CELLS = (8, 8)  # rows and columns that a photo without places of its own is hidden in
_BATCH = 32  # changed photos at once
_SHARE = 0.25  # of the photo, that the test of a heatmap hides or shows
_ORDERS = 19  # by chance, that a heatmap is tested against: p = 1 / 20
_PATCH = 1.0  # standard deviation, in cells, of the blur that makes a random order one of patches


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
    return (shares / shares.sum(axis=1, keepdims=True) * covered[:, None]).astype(np.float32)


@dataclass(frozen=True)
class WordMaps:
    """What each word of a caption rests on, place by place.

    method: attention, occlusion or gradient; label: what its numbers are, for a person.
    maps: (T, P). Attention sums to 1; occlusion is in nats of log-probability that are lost, and below 0
        where hiding the place helps the word; gradients have no unit, and are 0 or more.
    boxes: (P, 4) xyxy in pixels of the image; grid: (rows, columns) where they form one.
    """

    method: str
    label: str
    maps: np.ndarray
    boxes: np.ndarray
    grid: tuple[int, int] | None

    def on(self, caption: Caption) -> Caption:
        """The caption with these maps in the place of its attention, so that every drawing shows them."""
        return replace(caption, alphas=np.maximum(self.maps, 0), boxes=self.boxes, grid=self.grid)


def word_maps(
    captioner: Captioner, image: Image.Image, caption: Caption, method: str = "auto", filling: str = "mean"
) -> WordMaps:
    """What every word of a caption of the image rests on.

    method: "attention", "occlusion", "gradient", or "auto": attention where the decoder attends to
        several places, else occlusion.
    filling: what hides a place, the photo's "mean" colour or a strong "blur".
    Raises CaptionBotError for another method or filling, and for attention where there is none.
    """
    if method not in METHODS:
        raise CaptionBotError(f"'{method}' explains no words; choose one of {', '.join(METHODS)}.")
    attends = captioner.decoder.attends and len(caption.boxes) > 1
    if method == "auto":
        method = "attention" if attends else "occlusion"
    if method == "attention":
        if not attends:
            raise CaptionBotError(
                f"{captioner.name} looks at the photo as a whole; ask for occlusion or gradient instead."
            )
        maps, boxes, grid = caption.alphas, caption.boxes, caption.grid
    else:
        pixels = to_pixel_values([image], captioner.preprocessing, captioner.device)
        ask = _occlusion if method == "occlusion" else _gradient
        maps, boxes, grid = ask(captioner, pixels, caption, _filled_pixels(pixels, filling))
    return WordMaps(method, LABELS[method], maps, boxes, grid)


def log_probs_of(captioner: Captioner, features: Features, token_ids: Sequence[int] | Tensor) -> Tensor:
    """(B, T) natural log-probabilities of a caption's words, each read after the true words before it.

    token_ids: (T,) of one caption that is read over all B images, or (B, T). Without the start.
    """
    import torch

    ids = torch.as_tensor(token_ids, device=features.values.device).expand(len(features), -1)
    return all_log_probs(captioner, features, ids).gather(-1, ids.unsqueeze(-1)).squeeze(-1)


def all_log_probs(captioner: Captioner, features: Features, token_ids: Tensor) -> Tensor:
    """(B, T, V) natural log-probabilities of every word in the place of each of (B, T) ids, read after the
    true words before it."""
    import torch

    start = token_ids.new_full((len(token_ids), 1), captioner.vocabulary.bos_id)
    decoder = captioner.decoder
    with captioner.autocast():
        outputs, _, _ = decoder.advance_all(torch.cat([start, token_ids[:, :-1]], 1), decoder.start(features))
        return decoder.logits(outputs).float().log_softmax(-1)


def _filled_pixels(pixels: Tensor, filling: str) -> Tensor:
    """(1, 3, H, W), what is seen in the place of hidden pixels: the mean colour, or hardly more than it."""
    from torch.nn import functional as F

    if filling not in FILLINGS:
        raise CaptionBotError(f"'{filling}' hides nothing; choose one of {', '.join(FILLINGS)}.")
    if filling == "mean":
        return pixels.mean((2, 3), keepdim=True).expand_as(pixels)
    return F.interpolate(F.adaptive_avg_pool2d(pixels, 4), pixels.shape[-2:], mode="bicubic")


def _log_probs_where_hidden(
    captioner: Captioner, pixels: Tensor, filling: Tensor, boxes: Tensor, hidden: Tensor, caption: Caption
) -> np.ndarray:
    """(N, T) log-probabilities of the words over N copies of one photo.

    boxes: (P, 4) as fractions of the photo; hidden: (N, P) bool, which of them each copy lacks.
    """
    import torch

    height, width = pixels.shape[-2:]
    y, x = ((torch.arange(n, device=pixels.device) + 0.5) / n for n in (height, width))
    left, top, right, bottom = boxes.to(pixels.device)[..., None].unbind(1)  # (P, 1) each
    across, down = (x >= left) & (x < right), (y >= top) & (y < bottom)  # (P, W), (P, H)
    found = []
    for part in hidden.to(pixels.device).split(_BATCH):
        covered = torch.einsum("np,ph,pw->nhw", part.float(), down.float(), across.float()) > 0
        copies = torch.where(covered.unsqueeze(1), filling, pixels)
        with torch.inference_mode():
            found.append(log_probs_of(captioner, captioner.encode_pixels(copies), caption.token_ids))
    return torch.cat(found).cpu().numpy()


def _places(caption: Caption) -> tuple[Tensor, tuple[int, int] | None]:
    """(P, 4) boxes as fractions of the photo that can be hidden: detected regions, else cells; their grid."""
    import torch

    from captionbot.encoders import grid_boxes

    if caption.grid is None and len(caption.boxes) > 1:
        return torch.from_numpy(caption.boxes / np.array([*caption.image_size] * 2, np.float32)), None
    return grid_boxes(*_CELLS)[0], _CELLS


_Maps = tuple[np.ndarray, np.ndarray, tuple[int, int] | None]  # maps, boxes and grid, as in `WordMaps`


def _occlusion(captioner: Captioner, pixels: Tensor, caption: Caption, filling: Tensor) -> _Maps:
    """The nats that every word loses where one place is hidden.

    Of a region as large as the photo they are set to 0, since hiding everything says nothing about where.
    """
    import torch

    boxes, grid = _places(caption)
    hidden = torch.cat([torch.zeros(1, len(boxes), dtype=torch.bool), torch.eye(len(boxes)).bool()])
    log_probs = _log_probs_where_hidden(captioner, pixels, filling, boxes, hidden, caption)
    whole = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) > 0.95).numpy()
    maps = np.where(whole, 0, (log_probs[0] - log_probs[1:]).T)
    return maps, boxes_to_image(boxes.numpy(), caption.image_size), grid


def _gradient(captioner: Captioner, pixels: Tensor, caption: Caption, filling: Tensor) -> _Maps:
    """Grad-CAM on the places of the encoder; of one that has a single place, on the cells of the photo.

    There it is the gradient by the pixels times what hiding would change in them, averaged over a cell:
    the first order of an occlusion map, without what is below 0.
    """
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    if len(caption.boxes) > 1:
        features = captioner.encode_pixels(pixels)
        # A copy for each word, so that one backward pass gives every word its own gradient.
        words = len(caption.token_ids)
        values = features.values.float().repeat(words, 1, 1).requires_grad_()
        mask = None if features.mask is None else features.mask.repeat(words, 1)
        copies = Features(values, features.boxes[:1], mask=mask)
        (gradient,) = torch.autograd.grad(
            log_probs_of(captioner, copies, caption.token_ids).diagonal().sum(), values
        )
        weights = gradient.mean(1, keepdim=True)  # (T, 1, C), equation 1
        maps = (weights * values.detach()).sum(-1).relu()  # (T, P), equation 2
        return maps.cpu().numpy(), caption.boxes, caption.grid
    asked = pixels.clone().requires_grad_()
    with captioner.autocast():
        features = captioner.encoder(asked)
    log_probs = log_probs_of(captioner, features, caption.token_ids)[0]
    gradient = torch.cat(
        [torch.autograd.grad(log_prob, asked, retain_graph=True)[0] for log_prob in log_probs]
    )
    boxes, _ = _places(caption)
    maps = adaptive_avg_pool2d((gradient * (pixels - filling)).sum(1), _CELLS).flatten(1).relu()
    return maps.cpu().numpy(), boxes_to_image(boxes.numpy(), caption.image_size), _CELLS


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
    boxes = grid_boxes(*_CELLS)[0]
    log_probs = _log_probs_where_hidden(
        captioner, pixels, _filled_pixels(pixels, "mean"), boxes, torch.from_numpy(hidden), caption
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
    boxes = boxes_to_image(grid_boxes(*_CELLS)[0].numpy(), caption.image_size)
    return WordMaps("random", "nothing: patches by chance", fields - fields.min(), boxes, _CELLS)


def _cell_heat(caption: Caption, t: int) -> np.ndarray:
    """(P,) mean of word t's heatmap over each of the 8 x 8 cells."""
    rows, columns = _CELLS
    fine = attention_map(caption, t, (7 * columns, 7 * rows), smooth=False)  # 14 x 14 cells fit too
    return fine.reshape(rows, 7, columns, 7).mean((1, 3)).ravel()


def _random_fields(count: int, seed: int) -> np.ndarray:
    """(count, P) blurred noise over the 8 x 8 cells: what lies together is about as high."""
    rows, columns = (
        np.exp(-(np.subtract.outer(a, a) ** 2) / (2 * _PATCH**2)) for a in map(np.arange, _CELLS)
    )
    noise = np.random.default_rng(seed).standard_normal((count, *_CELLS))
    return (rows @ noise @ columns).reshape(count, -1)
