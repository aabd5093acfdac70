"""One batched search over every decoder: beams, diverse beams, greedy (a beam of one) and sampling.

It knows no images and no vocabulary, only `Decoder.start`, `Decoder.step` and `State.select`.
Sentences are ranked by log_prob / (T + 1) ** length_penalty, arXiv 1609.08144 in its simple form, and by what
the photo says for their words, where the decoder has `decoders.WordEvidence`. Diverse groups are arXiv
1610.02424, the nucleus (top_p) arXiv 1904.09751, and the blocking of repeated n-grams arXiv 1705.04304.

Axes: A images that are not done, k beams an image (one before the first word, K after), V words,
G groups of K / G beams, M continuations weighed in a step, S steps, B images, P places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from math import inf
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from captionbot.decoders.base import Decoder
from captionbot.decoders.evidence import WordEvidence
from captionbot.search.constraints import Banned, Constraints, Prefix
from captionbot.search.options import SearchOptions
from captionbot.text.naming import Naming
from captionbot.types import Fate, Features, Hypothesis, Search

FLOOR = -1e4  # log-probability of words that a model calls impossible (-inf) or spoils (NaN): the last resort
# After how many steps to ask which images are done: a GPU that is asked has to end all its work first.
STEPS_PER_CHECK = {"cpu": 1, "cuda": 4, "mps": 4}
_Weigh = Callable[[int, Sequence[int]], float]


class Node(NamedTuple):
    """One continuation that the search weighed, as a node of an image's tree.

    parent: place of the node before in the tuple of nodes, None at the first word.
    total: log-probability of the words so far.
    slot: the beam that it lives on in, -1 where it does not.
    rank: place in `search.hypotheses` of the best one that it is part of (0: on the best path),
        None where nothing finished came of it.
    """

    step: int
    token_id: int
    parent: int | None
    log_prob: float
    total: float
    fate: Fate
    slot: int
    rank: int | None


class _Weighed(NamedTuple):
    """The continuations of one step, (A, G, M / G) each, the best of a group first."""

    token_ids: Tensor
    parents: Tensor
    log_probs: Tensor
    totals: Tensor
    fates: Tensor


class _Beams(NamedTuple):
    """The hypotheses that run.

    images: (A,) places in the batch.
    words: (A, k, t) ids so far, bos first; the last alone where no rule asks for those before.
    totals: (A, k) log-probability so far, -inf where a beam is empty.
    finished: (A, G, n) the best scores of ended sentences, best first, -inf where there are fewer.
    """

    images: Tensor
    words: Tensor
    totals: Tensor
    finished: Tensor


@torch.inference_mode()
def beam_search(
    decoder: Decoder,
    features: Features,
    *,
    bos_id: int,
    eos_id: int,
    options: SearchOptions | None = None,
    prefix: Prefix = None,
    banned_ids: Banned = (),
    continuing: Sequence[int] = (),
    naming: Naming | None = None,
) -> Search:
    """The sentences that a decoder (in eval mode) says of a batch of images.

    `Search.hypotheses` holds all that were finished, best first: slice the `num_return` that you want.
    Every image has at least one, of at least one word, whatever the model does; sampling gives
    exactly `num_return`.

    prefix: ids that sentences begin with, a list for all images or one list an image. They overrule
        every other option, and keep the log-probabilities that the model gives them.
    banned_ids: words that are never said, and tuples of ids that are never said in a row.
    continuing: ids that go on with the word before, which do not come right behind the prefix.
    naming: which ids are nouns and the like, for `SearchOptions.repeat_nouns`.
    Raises `CaptionBotError` for ids that the decoder does not know, a prefix that is too long or
    holds the end, and bans that leave no word.
    """
    options = options or SearchOptions()
    device, batch = features.values.device, len(features)
    beams = _Beams(
        images=torch.arange(batch, device=device),
        words=torch.full((batch, 1, 1), bos_id, device=device),
        totals=torch.zeros(batch, 1, device=device),
        finished=torch.full((batch, options.num_groups, options.enough), -inf, device=device),
    )
    log_probs, alphas, state = decoder.step(beams.words[..., -1].flatten(), decoder.start(features))
    constraints = Constraints(
        prefix, banned_ids, eos_id, options,
        bos_id=bos_id, continuing=continuing, naming=naming, batch=batch, vocabulary=log_probs.shape[1],
        device=device,
    )  # fmt: skip
    record = _Record(options, batch)
    generator = None if options.seed is None else torch.Generator(device).manual_seed(options.seed)

    for step in range(options.max_length + 1):
        log_probs = _usable(log_probs, options.weighed).unflatten(0, beams.totals.shape)  # (A, k, V)
        log_probs = constraints.apply(log_probs, beams.words, beams.images, step)
        if options.sample:
            weighed = _draw(log_probs, beams.totals, options, eos_id, generator)
        else:
            weighed = _best(log_probs, beams.totals, options, eos_id)
        weighed, finished = _finish(weighed, beams.finished, step, options)
        record.write(beams, weighed, alphas)
        rows, beams = _follow(beams, weighed, finished, options, eos_id, constraints.asks_back)
        staying = None
        if (step + 1) % STEPS_PER_CHECK[device.type] == 0 or step == options.max_length:
            running = [best > -inf for best in beams.totals.amax(1).tolist()]
            if not any(running):
                break
            if not all(running):
                staying = torch.tensor(running, device=device).nonzero().squeeze(1)
                rows, beams = rows[staying], _Beams(*(values[staying] for values in beams))
        state = state.select(rows.flatten(), staying)
        log_probs, alphas, state = decoder.step(beams.words[..., -1].flatten(), state)
    return record.search(_weigher(decoder.evidence if options.evidence else None, features))


def image_of(search: Search, image: int) -> Search:
    """The record of one image alone (B = 1), without the steps after it was done."""
    steps = int((search.fates[:, image] != Fate.NONE).any(-1).sum())
    one = slice(image, image + 1)
    return Search(search.hypotheses[one], *(array[:steps, one] for array in _arrays(search)))


def tree(search: Search, image: int = 0) -> tuple[Node, ...]:
    """All that was weighed for one image: step by step, and in a step the best of a group first."""
    ranked = [hypothesis.token_ids for hypothesis in search.hypotheses[image]]
    living: dict[int, int] = {}  # beam -> the node that lives on in it
    sentences: list[tuple[int, ...]] = []
    nodes: list[Node] = []
    for step, fates in enumerate(search.fates[:, image]):
        born = {}
        for m in np.flatnonzero(fates):
            token_id, beam, log_prob, total, fate, slot = (
                array[step, image, m].item() for array in _arrays(search)[:-1]
            )
            parent = living[beam] if step else None
            before = sentences[parent] if parent is not None else ()
            rank = ranked.index(before) if fate == Fate.ENDED else None
            born[slot] = len(nodes)
            sentences.append((*before, token_id))
            nodes.append(Node(step, token_id, parent, log_prob, total, Fate(fate), slot, rank))
        living = born
    for node in reversed(nodes):  # the children of a node come after it
        if node.rank is not None and node.parent is not None:
            parent_node = nodes[node.parent]
            best = node.rank if parent_node.rank is None else min(node.rank, parent_node.rank)
            nodes[node.parent] = parent_node._replace(rank=best)
    return tuple(nodes)


def _arrays(search: Search) -> tuple[np.ndarray, ...]:
    return tuple(getattr(search, field.name) for field in fields(search) if field.name != "hypotheses")


def _usable(log_probs: Tensor, least: int) -> Tensor:
    """(N, V) of any decoder -> a copy without NaN and infinity, made up to `least` words with -inf."""
    log_probs = log_probs.float().nan_to_num(nan=FLOOR, posinf=FLOOR).clamp_(FLOOR, 0)
    missing = least - log_probs.shape[1]
    return pad(log_probs, (0, missing), value=-inf) if missing > 0 else log_probs


def _best(log_probs: Tensor, totals: Tensor, options: SearchOptions, eos_id: int) -> _Weighed:
    """The 2 K / G best continuations of each group; one group is plain beam search.

    log_probs: (A, k, V); totals: (A, k).
    """
    images, rows, vocabulary = log_probs.shape
    width = options.beam_size // options.num_groups
    # how many beams of earlier groups take a word
    taken = log_probs.new_zeros(images, vocabulary) if options.num_groups > 1 else None
    groups = []
    for group in range(options.num_groups):
        first = group * width if rows > 1 else 0  # before the first word the groups share the only row
        own = slice(first, first + width)
        keys = log_probs[:, own]
        if group and taken is not None:
            keys = keys - options.diversity_penalty * taken[:, None]
        keys, places = _top((keys + totals[:, own, None]).flatten(1), 2 * width)  # (A, 2 K / G)
        token_ids = places % vocabulary
        fates = _fates(keys, token_ids, width, eos_id)
        if taken is not None:
            taken.scatter_add_(1, token_ids, (fates == Fate.KEPT).float())
        groups.append((first * vocabulary + places, fates))
    places, fates = (torch.stack(parts, 1) for parts in zip(*groups, strict=True))
    return _weigh(places, fates, log_probs, totals)


def _top(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """What `values.topk(count)` gives of (..., M), in half the time on a CPU where M is large.

    They lie in a table of 16 rows. No more than `count` of its columns hold the best, those with the
    greatest maxima, and the last ones, which do not fill a row, are looked at one by one.
    """
    rows, columns = 16, values.shape[-1] // 16
    if columns < 8 * count:
        found, places = values.topk(count)
        return found, places
    table = values[..., : rows * columns].unflatten(-1, (rows, columns))
    chosen = table.amax(-2).topk(count).indices.unsqueeze(-2)  # (..., 1, count)
    starts = _numbers(0, rows * columns, columns, values.device).unsqueeze(1)
    rest = _numbers(rows * columns, values.shape[-1], 1, values.device)
    places = torch.cat([(starts + chosen).flatten(-2), rest.expand(*values.shape[:-1], -1)], -1)
    found, best = values.gather(-1, places).topk(count)
    return found, places.gather(-1, best)


@lru_cache
def _numbers(start: int, stop: int, step: int, device: torch.device) -> Tensor:
    """`torch.arange`, kept from step to step; nothing is to be written into it."""
    return torch.arange(start, stop, step, device=device)


def _draw(
    log_probs: Tensor, totals: Tensor, options: SearchOptions, eos_id: int, generator: torch.Generator | None
) -> _Weighed:
    """One word for each sample, drawn on its own. log_probs: (A, k, V); totals: (A, k)."""
    _, rows, vocabulary = log_probs.shape
    scores, words = log_probs.expand(-1, options.width, -1) / options.temperature, None  # (A, K, V)
    if options.top_k or options.top_p < 1:
        scores, words = scores.topk(min(options.top_k or vocabulary, vocabulary))  # likeliest first
    probs = scores.softmax(-1)
    if options.top_p < 1:
        probs = probs.masked_fill(probs.cumsum(-1) - probs >= options.top_p, 0)
    # torch.multinomial draws a number for every word, and makes a GPU wait; this draws one for a row.
    sums = probs.cumsum(-1)
    aim = sums[..., -1:] * torch.rand((*sums.shape[:-1], 1), generator=generator, device=sums.device)
    token_ids = torch.searchsorted(sums, aim, right=True).clamp(max=sums.shape[-1] - 1)  # (A, K, 1)
    # A GPU sums in pieces, whose rounding could point at a word that has no share.
    token_ids = token_ids.where(probs.gather(-1, token_ids) > 0, probs.argmax(-1, keepdim=True))
    if words is not None:
        token_ids = words.gather(-1, token_ids)
    token_ids = token_ids.mT  # (A, 1, K)
    parents = torch.arange(options.width, device=scores.device).clamp(max=rows - 1).expand_as(token_ids)
    keys = totals.gather(1, parents.flatten(1))[:, None]
    fates = _fates(keys, token_ids, options.width, eos_id)
    return _weigh(parents * vocabulary + token_ids, fates, log_probs, totals)


def _fates(keys: Tensor, token_ids: Tensor, width: int, eos_id: int) -> Tensor:
    """Fates of (..., M) continuations, best first: ends among the first `width` end, the first `width`
    others are kept."""
    ends = token_ids == eos_id
    kept = ends.logical_not().cumsum(-1) <= width  # where it is no end; what cannot happen comes last
    if width == 1:  # greedy: no second best goes on where the sentence ended
        kept &= _numbers(0, keys.shape[-1], 1, keys.device) == 0
    ended, lives, pruned = _fates_of_ranks(keys.shape[-1], width, keys.device)
    return torch.where(ends, ended, torch.where(kept, lives, pruned)).mul_(keys > -inf)


@lru_cache
def _fates_of_ranks(count: int, width: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Fates of ends, (count,), by their places among the best; of what lives on; and of what does not."""
    rank = torch.arange(count, device=device)
    ended, kept, pruned = torch.tensor([Fate.ENDED, Fate.KEPT, Fate.PRUNED], device=device)
    return torch.where(rank < width, ended, pruned), kept, pruned


def _weigh(places: Tensor, fates: Tensor, log_probs: Tensor, totals: Tensor) -> _Weighed:
    """(A, G, M / G) choices, by places in an image's (k, V), with what they cost."""
    token_ids, parents = places % log_probs.shape[-1], places // log_probs.shape[-1]
    gained = log_probs.flatten(1).gather(1, places.flatten(1)).view_as(places)
    before = totals.gather(1, parents.flatten(1)).view_as(places)
    return _Weighed(token_ids, parents, gained, before + gained, fates)


def _finish(
    weighed: _Weighed, finished: Tensor, step: int, options: SearchOptions
) -> tuple[_Weighed, Tensor]:
    """Enter the sentences that ended, and drop the beams of groups in which none can win any more."""
    penalty = options.length_penalty
    scores = weighed.totals / (step + 1) ** penalty
    ended = torch.where(weighed.fates == Fate.ENDED, scores, -inf)
    finished = torch.cat([finished, ended], -1).topk(finished.shape[-1]).values
    length = step + 2  # with one more word, the end
    if options.exhaustive:  # log-probabilities only fall: the length that divides them best bounds the score
        length = options.max_length + 1 if penalty > 0 else max(length, options.min_length + 1)
    running = weighed.fates == Fate.KEPT
    reach = torch.where(running, weighed.totals, -inf).amax(-1, keepdim=True) / length**penalty  # (A, G, 1)
    hopeless = running & (reach <= finished[..., -1:])
    return weighed._replace(fates=weighed.fates.masked_fill(hopeless, Fate.PRUNED)), finished


def _follow(
    beams: _Beams, weighed: _Weighed, finished: Tensor, options: SearchOptions, eos_id: int, asks_back: bool
) -> tuple[Tensor, _Beams]:
    """The rows (A, K) that the kept continuations grew from, and the beams that they now are.

    asks_back: whether words before the last are asked for.
    """
    images, rows = beams.totals.shape
    kept = weighed.fates == Fate.KEPT
    count = kept.shape[-1]
    # The kept first, in their order; floats, as not every device finds the largest of whole numbers.
    first = (kept * float(count)).sub_(_numbers(0, count, 1, kept.device))
    order = first.topk(options.width // options.num_groups).indices  # (A, G, K / G)
    alive = kept.gather(-1, order).flatten(1)
    followed = (weighed.token_ids, weighed.parents, weighed.totals)
    token_ids, parents, totals = (values.gather(-1, order).flatten(1) for values in followed)
    words = token_ids.where(alive, eos_id)[..., None]
    if asks_back:
        before = beams.words.gather(1, parents[..., None].expand(-1, -1, beams.words.shape[-1]))
        words = torch.cat([before, words], -1)
    sources = parents + _numbers(0, rows * images, rows, parents.device)[:, None]
    return sources, _Beams(beams.images, words, totals.where(alive, -inf), finished)


class _Record:
    """All continuations of all steps, on the device until the search ends."""

    def __init__(self, options: SearchOptions, batch: int) -> None:
        self.options, self.batch = options, batch
        self.images: list[Tensor] = []  # (A,) of each step
        self.weighed: list[_Weighed] = []
        self.alphas: list[Tensor] = []  # (A, K, P), zeros where there is no beam yet

    def write(self, beams: _Beams, weighed: _Weighed, alphas: Tensor) -> None:
        """Enter what the images that are not done weighed; alphas: (A k, P)."""
        self.images.append(beams.images)
        self.weighed.append(weighed)
        alphas = alphas.unflatten(0, beams.totals.shape)
        missing = self.options.width - alphas.shape[1]
        self.alphas.append(pad(alphas, (0, 0, 0, missing)) if missing else alphas)

    def search(self, weigh: _Weigh) -> Search:
        """The record on the CPU, without the steps in which nothing ran."""
        step = np.repeat(np.arange(len(self.images)), [len(images) for images in self.images])
        image = _joined(self.images)

        def laid_out(parts: list[Tensor]) -> np.ndarray:
            """(A, ...) of each step -> (S, B, ...), zeros where an image is done."""
            values = _joined(parts)
            array = np.zeros((len(parts), self.batch, *values.shape[1:]), values.dtype)
            array[step, image] = values
            return array

        columns = [laid_out(list(parts)) for parts in zip(*self.weighed, strict=True)]
        for column in columns[:-1]:
            column[columns[-1] == Fate.NONE] = 0  # where there was no continuation, something stood there
        alphas = laid_out(self.alphas)
        alphas[~np.isfinite(alphas).all(-1)] = 1 / alphas.shape[-1]
        kept = columns[-1] == Fate.KEPT  # (S, B, G, M / G)
        groups = np.arange(kept.shape[2])[:, None] * (self.options.width // kept.shape[2])
        slots = np.where(kept, kept.cumsum(-1) - 1 + groups, -1)
        steps = int(columns[-1].any((1, 2, 3)).sum())  # `Fate.NONE` is 0
        arrays = [array[:steps].reshape(steps, self.batch, -1) for array in (*columns, slots)]
        search = Search((), *(*arrays, alphas[:steps]))
        return replace(search, hypotheses=_hypotheses(search, self.options, weigh))


def _joined(parts: list[Tensor]) -> np.ndarray:
    joined = torch.cat(parts)
    return (joined.float() if joined.is_floating_point() else joined).cpu().numpy()


def _weigher(evidence: WordEvidence | None, features: Features) -> _Weigh:
    """The evidence for a sentence, given the number of its image and its words; 0 without any."""
    if evidence is None:
        return lambda image, words: 0.0
    says = np.nan_to_num(_joined([evidence(features)]), posinf=0, neginf=0)  # (B, N)
    return lambda image, words: float(says[image, evidence.said(words)].sum())


def _hypotheses(search: Search, options: SearchOptions, weigh: _Weigh) -> tuple[tuple[Hypothesis, ...], ...]:
    """Every image's finished sentences, read back from their ends through the parents; E ends."""
    steps, batch, _ = search.fates.shape
    last, image, place = np.nonzero(search.fates == Fate.ENDED)  # (E,) each
    # (S, B, K): which continuation became beam k
    origin = (search.slots[:, :, None] == np.arange(search.alphas.shape[2])[:, None]).argmax(-1)
    places, beams = np.zeros((2, len(last), steps), dtype=int)
    beam = np.zeros_like(last)
    for step in reversed(range(steps)):
        places[:, step] = np.where(step == last, place, origin[step, image, beam])
        beam = beams[:, step] = search.parents[step, image, places[:, step]]
    path = (np.arange(steps), image[:, None], places)
    token_ids, log_probs = search.token_ids[path], search.log_probs[path]  # (E, S)
    found: list[list[Hypothesis]] = [[] for _ in range(batch)]
    for e, length in enumerate(last):
        log_prob = float(search.totals[length, image[e], place[e]])
        words = token_ids[e, :length].tolist()
        weight = weigh(image[e], words)
        found[image[e]].append(
            Hypothesis(
                token_ids=tuple(words),
                log_probs=log_probs[e, : length + 1],
                alphas=search.alphas[np.arange(length + 1), image[e], beams[e, : length + 1]],
                log_prob=log_prob,
                score=options.score(log_prob + weight, len(words) + 1),
                evidence=weight,
            )
        )
    ranked = [sorted(hypotheses, key=lambda found: -found.score) for hypotheses in found]
    if options.num_groups > 1:  # groups may find the same sentence
        ranked = [list({h.token_ids: h for h in hypotheses}.values()) for hypotheses in ranked]
    return tuple(map(tuple, ranked))
