"""What a sentence may say: banned and forced words, its length, n-grams and nouns not to repeat.

Axes: A images that are not done, k beams of an image, V words of the vocabulary, t words so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from math import inf
from numbers import Integral
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.functional import pad

from captionbot.errors import CaptionBotError
from captionbot.search.options import SearchOptions
from captionbot.text.naming import Naming

Banned = Sequence[int | tuple[int, ...]]  # ids, and ids in a row; these may begin with the start
Prefix = Sequence[int] | Sequence[Sequence[int]] | None  # forced words, for all images or one list an image


class _Naming(NamedTuple):
    """`Naming` as (V,) bool each."""

    nouns: Tensor
    adjectives: Tensor
    apart: Tensor
    joining: Tensor


class Constraints:
    """The rules of one search, applied to every step's log-probabilities for all rows at once."""

    def __init__(
        self,
        prefix: Prefix,
        banned_ids: Banned,
        eos_id: int,
        options: SearchOptions,
        *,
        bos_id: int | None = None,
        continuing: Sequence[int] = (),
        naming: Naming | None = None,
        batch: int,
        vocabulary: int,
        device: torch.device,
    ) -> None:
        """continuing: ids that go on with a word, which never come right behind forced ones.

        naming: of the vocabulary, for `options.repeat_nouns`; None where its words have several ids.
        """
        prefixes = _prefixes(prefix, batch, options.max_length)
        self.begun = torch.tensor([len(ids) or -1 for ids in prefixes], device=device)
        self.continuing = torch.tensor(continuing, dtype=torch.long, device=device)
        self.begun_steps = {len(ids) for ids in prefixes if ids} if len(continuing) else set()
        _check_ids("prefix", list(chain(*prefixes)), eos_id, vocabulary)
        self.rows = [torch.tensor(ids, device=device) for ids in banned_ids if isinstance(ids, tuple)]
        single = [ids for ids in banned_ids if not isinstance(ids, tuple)]
        _check_ids("banned_ids", single, eos_id, vocabulary)
        for row in self.rows:
            _check_ids("banned_ids", row[int(row[0] == bos_id) :].tolist(), eos_id, vocabulary)
        if len(set(single)) == vocabulary - 1:
            raise CaptionBotError("banned_ids holds every word that there is; leave at least one to say.")
        forced = torch.full((batch, options.max_length + 1), -1)  # the id that must come; -1: free
        for row, ids in zip(forced, prefixes, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        forced[:, -1] = eos_id
        self.forced = forced.to(device)
        self.forced_steps = (forced >= 0).any(0).tolist()
        self.banned = torch.tensor(single, dtype=torch.long, device=device)
        self.eos_id = eos_id
        self.options = options
        self.naming = None
        if naming and not options.repeat_nouns:
            width = max(vocabulary, options.weighed)  # as `beam_search` widens scores of few words
            self.naming = _Naming(*(_among(ids, width, device) for ids in naming))

    def apply(self, log_probs: Tensor, words: Tensor, images: Tensor, step: int) -> Tensor:
        """(A, k, V), written over -> (A, k, V) with -inf for what must not follow, never for a whole row.

        words: (A, k, 1 + t) the start and the ids so far, of which a rule may ask (`asks_back`); images: (A,)
            places in the batch.
        """
        # Forced words keep their own log-probability whatever the rules below take away.
        forced = self._only_forced(log_probs, images, step) if self.forced_steps[step] else None
        if len(self.banned):
            log_probs.index_fill_(-1, self.banned, -inf)
        if step in self.begun_steps:
            behind = (self.begun[images] == step)[:, None, None]
            going_on = log_probs[..., self.continuing]
            log_probs[..., self.continuing] = going_on.masked_fill_(behind, -inf)
        for row in self.rows:
            _ban_row(log_probs, words, row)
        if self.options.no_repeat_ngram_size:
            _ban_repeats(log_probs, words[..., 1:], self.options.no_repeat_ngram_size)
        if self.naming and step:
            _ban_nouns(log_probs, words, self.naming)
        if step < self.options.min_length:
            end = log_probs[..., self.eos_id]
            own = end.clone() if self.asks_back and step else None
            end.fill_(-inf)
            if own is not None:  # bans alone leave a word to say
                stuck = log_probs.amax(-1) == -inf
                end.copy_(own.masked_fill_(~stuck, -inf))
        if forced is None:
            return log_probs
        return torch.where(forced.amax(-1, keepdim=True) > -inf, forced, log_probs)

    @property
    def asks_back(self) -> bool:
        """Whether a rule asks for the words so far."""
        return bool(self.options.no_repeat_ngram_size or self.rows or self.naming)

    def _only_forced(self, log_probs: Tensor, images: Tensor, step: int) -> Tensor:
        """(A, k, V) with the forced words' log-probabilities and -inf elsewhere, also in free images."""
        forced = self.forced[images, step][:, None, None].expand(-1, log_probs.shape[1], 1)
        word = forced.clamp(min=0)
        own = log_probs.gather(-1, word).masked_fill(forced < 0, -inf)
        return torch.full_like(log_probs, -inf).scatter_(-1, word, own)


def _prefixes(prefix: Prefix, batch: int, max_length: int) -> list[list[int]]:
    """The forced words of each image."""
    if not prefix or isinstance(prefix[0], Integral):
        prefix = [cast(Sequence[int], prefix or ())] * batch
    prefixes = [list(ids) for ids in cast(Sequence[Sequence[int]], prefix)]
    if len(prefixes) != batch:
        raise CaptionBotError(
            f"prefix holds {len(prefixes)} lists for {batch} images; give one list for all, or one an image."
        )
    longest = max(map(len, prefixes), default=0)
    if longest > max_length:
        raise CaptionBotError(
            f"The caption would begin with {longest} words, and may have {max_length} (max_length): "
            "give fewer words, or allow more."
        )
    return prefixes


def _check_ids(name: str, ids: Sequence[int], eos_id: int, vocabulary: int) -> None:
    for token_id in ids:
        if not 0 <= token_id < vocabulary:
            raise CaptionBotError(
                f"{name} holds the id {token_id}; give ids that the decoder knows, 0 to {vocabulary - 1}."
            )
        if token_id == eos_id:
            raise CaptionBotError(f"{name} holds the end of the sentence, id {eos_id}; leave it out.")


def _ban_row(log_probs: Tensor, words: Tensor, row: Tensor) -> None:
    """Write -inf into (A, k, V) where a word would complete a banned row of ids, by (A, k, 1 + t)."""
    before = len(row) - 1
    if words.shape[-1] >= before:
        said = (words[..., words.shape[-1] - before :] == row[:-1]).all(-1)
        log_probs[..., row[-1]] = log_probs[..., row[-1]].masked_fill(said, -inf)


def _ban_repeats(log_probs: Tensor, words: Tensor, size: int) -> None:
    """Write -inf into (A, k, V) where a word would repeat `size` words in a row of (A, k, t)."""
    length = words.shape[-1]
    if length < size:
        return
    windows = words.unfold(-1, size, 1)  # (A, k, t - size + 1, size)
    last = words[..., None, length - size + 1 :]  # (A, k, 1, size - 1)
    repeats = (windows[..., :-1] == last).all(-1)
    log_probs.scatter_reduce_(-1, windows[..., -1], torch.where(repeats, -inf, inf), "amin")


def _among(ids: Sequence[int], width: int, device: torch.device) -> Tensor:
    """(width,) bool: which ids are among these."""
    among = torch.zeros(width, dtype=torch.bool, device=device)
    among[torch.tensor(ids, dtype=torch.long, device=device)] = True
    return among


def _ban_nouns(log_probs: Tensor, words: Tensor, naming: _Naming) -> None:
    """Write -inf into (A, k, V) where a word would name again what (A, k, 1 + t) has named.

    A noun comes again where each time a word stands before it that tells the two apart, and was not said
    before ("a brown dog ... a white dog"), or where it is joined ("a woman and a woman"). No noun and no
    adjective comes behind itself ("a yellow yellow shirt"), and no adjective behind itself and "and".
    """
    nouns, adjectives, apart, joining = (among[words] for among in naming)  # (A, k, 1 + t) each
    told = pad(apart[..., :-1], (1, 0))
    fresh = apart[..., -1:] & ((words == words[..., -1:]).sum(-1, keepdim=True) == 1)
    banned = nouns & ~(told & fresh) & ~joining[..., -3:].any(-1, keepdim=True)
    banned[..., -1] |= nouns[..., -1] | adjectives[..., -1]
    banned[..., -2] |= joining[..., -1] & adjectives[..., -2]
    log_probs.scatter_reduce_(-1, words, torch.where(banned, -inf, inf), "amin")
