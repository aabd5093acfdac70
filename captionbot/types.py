"""The records that flow through the project: frozen, checked where they are made, free of behaviour.

Names of axes: B images, K beams of an image, N = B * K rows, P places of an image, C channels,
V words of the vocabulary, T words of a caption.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:  # torch takes a second to import, and the pages need these names before that
    import numpy as np
    from torch import Tensor


class Size(NamedTuple):
    """Width and height of an image in pixels, in PIL's order."""

    width: int
    height: int


@dataclass(frozen=True)
class Features:
    """What an encoder saw in a batch of images: P places, each with C numbers and a box.

    A cell of a grid is a box too, so grid attention, detected regions and a pooled vector
    (one place, the whole image) are the same type.

    values: (B, P, C).
    boxes: (B, P, 4), or (1, P, 4) where all images share them; xyxy as fractions of the image, 0..1.
    grid: (rows, columns) where the places form a grid in reading order, else None.
    mask: (B, P) bool, False at places that only fill up the batch; None where all are real.
    labels: for each image what a detector calls its real places, None where there was no detector.
    scores: (B, P) how sure the detector is of them, 0..1, or None.
    beside: (B, E, C) what belongs to no place, as a class token; None without. Decoders that do not know it
        leave it alone.
    """

    values: Tensor
    boxes: Tensor
    grid: tuple[int, int] | None = None
    mask: Tensor | None = None
    labels: tuple[tuple[str, ...], ...] | None = None
    scores: Tensor | None = None
    beside: Tensor | None = None

    def __post_init__(self) -> None:
        batch, places, _ = self.values.shape
        if self.boxes.shape not in ((batch, places, 4), (1, places, 4)):
            raise ValueError(
                f"boxes must be ({batch}, {places}, 4) or (1, {places}, 4), not {tuple(self.boxes.shape)}"
            )
        if self.grid is not None and self.grid[0] * self.grid[1] != places:
            raise ValueError(f"a grid of {self.grid} does not have {places} places")
        if self.mask is not None and self.mask.shape != (batch, places):
            raise ValueError(f"mask must be ({batch}, {places}), not {tuple(self.mask.shape)}")
        if self.labels is not None and len(self.labels) != batch:
            raise ValueError(f"labels must be of {batch} images, not {len(self.labels)}")
        if self.scores is not None and self.scores.shape != (batch, places):
            raise ValueError(f"scores must be ({batch}, {places}), not {tuple(self.scores.shape)}")
        if self.beside is not None and len(self.beside) != batch:
            raise ValueError(f"beside must be of {batch} images, not {len(self.beside)}")

    def __len__(self) -> int:
        return self.values.shape[0]


@dataclass(frozen=True)
class Hypothesis:
    """One sentence that the search ended: its ids without the closing word, and what they rest on.

    token_ids: T ids.
    log_probs: (T + 1,) natural log-probabilities of the ids and of the closing word after them.
    alphas: (T + 1, P), where the model looked for each of them; every row sums to 1, or less where the model
        also looks at what is no place (`Decoder.looks_elsewhere`).
    log_prob: sum of log_probs.
    score: (log_prob + evidence) / (T + 1) ** length_penalty, what the search ranks by (arXiv 1609.08144,
        section 7, in the simpler form of most captioners).
    evidence: of its words, each counted once (`captionbot.decoders.evidence`); 0 without any.
    """

    token_ids: tuple[int, ...]
    log_probs: np.ndarray
    alphas: np.ndarray
    log_prob: float
    score: float
    evidence: float = 0.0


@dataclass(frozen=True)
class Word:
    """One whole word of a caption and its natural log-probability."""

    text: str
    log_prob: float


@dataclass(frozen=True)
class Judgement:
    """What a captioner thinks of a caption of its own (`captionbot.search.confidence`).

    probability: that the caption is right, calibrated on photos that people captioned, 0..1.
    band: "sure", "unsure", or "unknown": a kind of photo that the captioner does not know.
    reason: why it is not sure, in plain words; "" where it is.
    doubtful_word: the place in `Caption.words` of the word that is likeliest wrong; None where it is sure.
    general: what it can say of the photo all the same, such as "an animal"; "" where it is sure or has none.
    general_probability: that people name something of that kind in the photo; 0 without one.
    """

    probability: float
    band: Literal["sure", "unsure", "unknown"]
    reason: str = ""
    doubtful_word: int | None = None
    general: str = ""
    general_probability: float = 0.0


@dataclass(frozen=True)
class Caption:
    """A sentence about one image.

    words: whole words. What the captioner's vocabulary writes in several pieces has the sum of their
        log-probabilities and the mean of their alphas.
    alphas: (T, P), where the model looked for each word; every row sums to 1. In the caption that
        `explain.WordMaps.on` makes for drawings, an occlusion or gradient map: 0 or more, of any sum.
    boxes: (P, 4) xyxy in pixels of the upright original image, the places that alphas speak of.
    grid: (rows, columns) where the places form a grid in reading order, else None.
    log_prob: of the whole sentence, its end included.
    confidence: geometric mean of the probabilities of the words and of the end, 0..1, which people are shown
        as the likelihood. It says how sure the model is of its wording; it is not the chance that the caption
        is true, which `judgement` has.
    token_ids: the words as the captioner's vocabulary knows them, to ask it about them again.
    pieces: (T,) how many of these ids each word has; 1 each unless it is said.
    labels: what a detector calls each of the P places, None where there was no detector.
    scores: (P,) how sure it is of them, 0..1, or None.
    judgement: None where the captioner cannot judge its captions.
    nowhere: (T,) the share of each word's attention that went to no place, 0..1; None where it is not known.
    """

    text: str
    words: tuple[Word, ...]
    log_prob: float
    score: float
    confidence: float
    alphas: np.ndarray
    boxes: np.ndarray
    grid: tuple[int, int] | None
    image_size: Size
    token_ids: tuple[int, ...] = ()
    labels: tuple[str, ...] | None = None
    scores: np.ndarray | None = None
    judgement: Judgement | None = None
    pieces: tuple[int, ...] = ()
    nowhere: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not self.pieces:
            object.__setattr__(self, "pieces", (1,) * len(self.words))
        if self.alphas.shape != (len(self.words), len(self.boxes)):
            raise ValueError(
                f"alphas must be ({len(self.words)}, {len(self.boxes)}), not {self.alphas.shape}"
            )
        if len(self.pieces) != len(self.words):
            raise ValueError(f"pieces must be of {len(self.words)} words, not {len(self.pieces)}")

    @property
    def fractions(self) -> np.ndarray:
        """(P, 4) the boxes as fractions of the image."""
        boxes: np.ndarray = self.boxes / ((*self.image_size,) * 2)
        return boxes


class Fate(IntEnum):
    """What became of one continuation that the search weighed."""

    NONE = 0  # an empty slot: fewer continuations were possible than there was room for
    KEPT = 1  # lives on as a beam in the next step
    ENDED = 2  # the sentence ended here, and is one of the finished hypotheses
    PRUNED = 3  # better ones took all the beams, or it could not win any more


@dataclass(frozen=True)
class Search:
    """All that one batched search did, finished and pruned, as arrays on the CPU.

    S steps, B images, K beams, M continuations weighed in a step (the best 2 K of a beam search).
    After an image is done its fates are `Fate.NONE`. `captionbot.search.beam.tree` reads one
    image's record as a tree.

    hypotheses: per image the finished ones, best score first, at least one.
    token_ids: (S, B, M) the word each continuation adds.
    parents: (S, B, M) the beam it continues, 0..K-1 (at step 0 there is only beam 0).
    log_probs: (S, B, M) natural log-probability of that word; totals: (S, B, M) of the words so far.
    fates: (S, B, M) of `Fate`; slots: (S, B, M) the beam it lives on in, -1 where it does not.
    alphas: (S, B, K, P) where the model looked as it continued beam k: all continuations of
        one beam share it, since attention is computed from the words before.
    """

    hypotheses: tuple[tuple[Hypothesis, ...], ...]
    token_ids: np.ndarray
    parents: np.ndarray
    log_probs: np.ndarray
    totals: np.ndarray
    fates: np.ndarray
    slots: np.ndarray
    alphas: np.ndarray


@dataclass(frozen=True)
class Captioned:
    """One image's captions, best first (at least one), and the record of the search that found them.

    search holds this image alone (B = 1).
    """

    captions: tuple[Caption, ...]
    search: Search
