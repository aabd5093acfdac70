"""Questions to a caption: which words nearly came, what changes when a part of the photo or a box is hidden,
and the numbers behind the explanations. The pages ask; nothing here knows of a page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageStat

from captionbot.errors import CaptionBotError, shortened
from captionbot.explain.hidden import all_log_probs
from captionbot.search.options import SearchOptions
from captionbot.types import Caption, Captioned, Features, Size, Word

if TYPE_CHECKING:  # torch takes a second to import, and the pages need these names before that
    from captionbot.captioner import Captioner

END = "the end"
"""What the end of a sentence is called among the words that could come; no word has a space."""


def rivals(
    captioner: Captioner, features: Features, token_ids: Sequence[int], count: int = 5
) -> tuple[tuple[Word, ...], ...]:
    """The likeliest other words in the place of every word of a sentence, and of its end, best first.

    The model reads the sentence itself (teacher forcing), so a rival is what it would have said at that
    place after those very words, whichever beams lived then.

    features: of one image, as of `Captioner.encode`.
    token_ids: T ids, as of a `Hypothesis`.
    Returns a tuple of `count` words for each whole word and the end, fewer where the vocabulary is smaller.
    A rival in several pieces has the probability of its first.
    """
    import torch

    vocabulary = captioner.vocabulary
    if vocabulary.in_pieces:
        return _whole_rivals(captioner, features, token_ids, count)
    with torch.inference_mode():
        said = torch.tensor([[*token_ids, vocabulary.eos_id]], device=features.values.device)
        log_probs = all_log_probs(captioner, features, said)[0]  # (T + 1, V)
        log_probs[:, list(vocabulary.special_ids)] = -torch.inf
        log_probs.scatter_(1, said.T, -torch.inf)
        best = log_probs.topk(min(count, log_probs.shape[1]))
    return tuple(
        tuple(
            Word(END if i == vocabulary.eos_id else vocabulary.pieces([i])[0], value)
            for i, value in zip(row, values, strict=True)
            if value > -np.inf
        )
        for row, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    )


_PIECES = 6  # at most, that a rival is finished with
_MORE = 8  # times as many pieces are looked at as rivals are wanted: some go on with the word before


def _whole_rivals(
    captioner: Captioner, features: Features, token_ids: Sequence[int], count: int
) -> tuple[tuple[Word, ...], ...]:
    """`rivals` of a vocabulary with pieces: the likeliest first pieces, each finished to a whole word.

    What would go on with the word before is no rival of a word.
    """
    import torch

    vocabulary, decoder = captioner.vocabulary, captioner.decoder
    ids, device = [*token_ids], features.values.device
    starts = np.cumsum([0, *vocabulary.groups(ids)]).tolist()  # of words, and the end's place

    def goes_on(said: list[int], piece: int) -> bool:
        return bool(said) and len(vocabulary.groups([*said, piece])) == len(vocabulary.groups(said))

    with torch.inference_mode(), captioner.autocast():
        said = torch.tensor([vocabulary.bos_id, *ids], device=device)
        states = decoder.states_after(said, decoder.start(features))
        log_probs, _, states = decoder.step(said, states)
        log_probs = log_probs[starts]
        log_probs[:, list(vocabulary.special_ids)] = -torch.inf
        own = torch.tensor([*ids, vocabulary.eos_id], device=device)[starts]
        log_probs.scatter_(1, own[:, None], -torch.inf)
        best = log_probs.topk(min(_MORE * count, log_probs.shape[1]))
        found: list[tuple[int, list[int], float]] = []  # the word's place, pieces so far, log-probability
        for t, (row, values) in enumerate(zip(best.indices.tolist(), best.values.tolist(), strict=True)):
            first = ids[: starts[t]]
            able = [(i, v) for i, v in zip(row, values, strict=True) if v > -np.inf and not goes_on(first, i)]
            found += [(t, [i], value) for i, value in able[:count]]
        growing = [n for n, (_, pieces, _) in enumerate(found) if pieces[-1] != vocabulary.eos_id]
        states = states.select(torch.tensor([starts[found[n][0]] for n in growing], device=device))
        for _ in range(_PIECES - 1):
            if not growing:
                break
            last = torch.tensor([found[n][1][-1] for n in growing], device=device)
            following, _, states = decoder.step(last, states)
            following[:, list(vocabulary.special_ids)] = -torch.inf
            rows = []
            for row, (n, piece) in enumerate(zip(growing, following.argmax(1).tolist(), strict=True)):
                t, pieces, _ = found[n]
                if piece != vocabulary.eos_id and goes_on([*ids[: starts[t]], *pieces], piece):
                    pieces.append(piece)
                    rows.append(row)
            growing = [growing[row] for row in rows]
            states = states.select(torch.tensor(rows, dtype=torch.long, device=device))
    rivals_of: list[dict[str, Word]] = [{} for _ in starts]
    for t, pieces, value in found:
        text = END if pieces == [vocabulary.eos_id] else vocabulary.words([*ids[: starts[t]], *pieces])[t]
        rivals_of[t].setdefault(text, Word(text, value))
    return tuple(tuple(words.values()) for words in rivals_of)


def steer(
    captioner: Captioner,
    features: Features,
    size: Size,
    options: SearchOptions,
    words: Sequence[str],
    *,
    banned_words: Sequence[str] = (),
) -> Captioned:
    """The sentence finished again from words that it must begin with; `END` as the last one ends it there.

    features, size: of one image, as of `Captioner.encode`.
    Raises CaptionBotError for words outside the vocabulary, and for a sentence that is empty or too long.
    """
    words = list(words)
    if END in words:
        words = words[: words.index(END)]
        if not words:
            raise CaptionBotError("A caption cannot end before its first word; choose another word.")
        longest = len(captioner.vocabulary.ids_of(captioner.vocabulary.join(words)))
        options = replace(options, max_length=longest, min_length=min(options.min_length, longest))
    prefix = captioner.vocabulary.join(words)
    (captioned,) = captioner.caption_features(
        features, [size], options, prefix=prefix, banned_words=banned_words
    )
    return captioned


LENGTHS = ("shorter", "as it is", "longer")
_BEAMS = 64  # to look for a shorter sentence with: of 40 photos, 1 breaks off ("in the") instead of 12


def of_length(options: SearchOptions, length: str, said: int, begun: int = 0) -> SearchOptions:
    """Search options for a sentence that is shorter or longer than one that was said.

    length: one of LENGTHS.
    said: the ids of that sentence; begun: those that the new one must begin with.
    Raises CaptionBotError for another length.
    """
    if length not in LENGTHS:
        raise CaptionBotError(
            f"'{shortened(length)}' is no length to ask for; choose one of {', '.join(LENGTHS)}."
        )
    if length == "shorter":
        longest, groups = max(said - 1, begun, 1), options.num_groups
        # Few beams hold no sentence that ends so soon, only the beginnings of longer ones.
        beams = options.beam_size if options.sample else max(options.beam_size, _BEAMS // groups * groups)
        return replace(
            options, beam_size=beams, max_length=longest, min_length=min(options.min_length, longest)
        )
    if length == "longer":
        return replace(options, min_length=said + 1, max_length=max(options.max_length, said + 6))
    return options


@dataclass(frozen=True)
class Comparison:
    """Two sentences side by side. before, after: for each word, whether the other sentence lacks it there."""

    before: tuple[bool, ...]
    after: tuple[bool, ...]

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return any(self.before) or any(self.after)


def compare(before: Sequence[str], after: Sequence[str]) -> Comparison:
    """Which words of two sentences differ, by their longest common runs of words (difflib)."""
    changed = np.ones(len(before), bool), np.ones(len(after), bool)
    for run in SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks():
        changed[0][run.a : run.a + run.size] = False
        changed[1][run.b : run.b + run.size] = False
    return Comparison(*(tuple(flags.tolist()) for flags in changed))


def looked_at(caption: Caption, t: int, share: float = 0.5) -> np.ndarray:
    """Ids of the fewest places that together hold a share of word t's weights, the heaviest first."""
    order = np.argsort(-caption.alphas[t], kind="stable")
    held = np.cumsum(caption.alphas[t][order], dtype=np.float64)
    return order[: int(np.searchsorted(held, share * held[-1] - 1e-6) + 1)]


def cover(size: tuple[int, int], boxes: Iterable[Sequence[float]], *, others: bool = False) -> Image.Image:
    """A mask (mode L) of an image of that size, 255 inside boxes (xyxy in pixels), each at least a pixel; of
    others, 255 everywhere else instead."""
    mask = Image.new("L", size, 255 if others else 0)
    draw = ImageDraw.Draw(mask)
    for left, top, right, bottom in boxes:
        corner = max(round(right) - 1, round(left)), max(round(bottom) - 1, round(top))
        draw.rectangle((round(left), round(top), *corner), fill=0 if others else 255)
    return mask


def hide(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The image with a mask of `cover` painted over in its mean colour, which says as little as can be."""
    mean = tuple(round(value) for value in ImageStat.Stat(image).mean)
    return Image.composite(Image.new("RGB", image.size, mean), image, mask)


def without_places(features: Features, places: Sequence[int]) -> Features:
    """Features of one image without some of its places, as if the encoder had not found them.

    places: as a `Caption` counts them, without the padding.
    Raises CaptionBotError where no place would be left.
    """
    import torch

    real = (
        torch.ones(features.values.shape[1], dtype=torch.bool) if features.mask is None else features.mask[0]
    )
    found = list(enumerate(real.nonzero().flatten().tolist()))
    kept = [place for number, place in found if number not in places]
    if not kept:
        raise CaptionBotError("Without any box there is nothing to describe; leave at least one.")
    labels = features.labels
    return Features(
        features.values[:, kept],
        features.boxes[:, kept],
        labels=None if labels is None else (tuple(labels[0][n] for n, _ in found if n not in places),),
        scores=None if features.scores is None else features.scores[:, kept],
        beside=features.beside,
    )


def attention_entropy(caption: Caption) -> np.ndarray:
    """(T,) bits: how spread out each word's attention is, from 0 (one place) to log2(P) (all alike)."""
    alphas = caption.alphas.astype(np.float64)
    entropy: np.ndarray = -(alphas * np.log2(np.where(alphas > 0, alphas, 1))).sum(1)
    return entropy


def gates(captioner: Captioner, features: Features, token_ids: Sequence[int]) -> np.ndarray | None:
    """(T,) mean gate beta of each word, 0..1: how much the decoder let the picture count (arXiv 1502.03044,
    section 4.2.1). None for decoders without one."""
    import torch

    decoder, opened = captioner.decoder, []
    with torch.inference_mode(), captioner.autocast():
        state = decoder.start(features)
        for token_id in (captioner.vocabulary.bos_id, *token_ids[:-1]):
            gate = decoder.gates(state)
            if gate is None:
                return None
            opened.append(gate.mean().item())
            _, _, state = decoder.advance(torch.tensor([token_id], device=features.values.device), state)
    return np.array(opened)
