"""What attention remembers of the words so far: one copy an image, which all of its hypotheses read.

The tokens of an image lie one after the other, the words of all beams among them, in the order in which they
were read. What follows the beams is a row of bools that says which of them are a hypothesis's own past, so
that no keys or values are ever copied from beam to beam.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor


class Cache:
    """Keys and values of the tokens so far, with room behind them for those to come.

    New ones are written there, and nothing is copied, unless the room is full, or another state that
    grew from the same tokens has written there already. With gradients all is copied.

    keys, values: (B, heads, S, d) of the S tokens.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self._room, self._count = (keys, values), keys.shape[2]
        self._written = [self._count]  # of the room, by this state or one that grew from it

    @property
    def keys(self) -> Tensor:
        return self._room[0][:, :, : self._count]

    @property
    def values(self) -> Tensor:
        return self._room[1][:, :, : self._count]

    def appended(self, keys: Tensor, values: Tensor) -> Cache:
        """With Q tokens more, (B, heads, Q, d) each."""
        before, after = self._count, self._count + keys.shape[2]
        if torch.is_grad_enabled():
            return Cache(torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2))
        grown = copy.copy(self)
        if after > self._room[0].shape[2] or self._written[0] != before:
            grown._room, grown._written = (
                (_with_room(self.keys, after), _with_room(self.values, after)),
                [before],
            )
        for room, tokens in zip(grown._room, (keys, values), strict=True):
            room[:, :, before:after] = tokens
        grown._count = grown._written[0] = after
        return grown

    def index_select(self, dim: int, index: Tensor) -> Cache:
        """Of some of the images; dim is 0, as `State.select` asks for it."""
        return Cache(self.keys.index_select(dim, index), self.values.index_select(dim, index))


def tokens_to_see(seen: Tensor, images: int, words: int) -> Tensor:
    """Which tokens T new words of each hypothesis attend to: its past, and its own new words up to each.

    seen: (N, S) bool, which of the S tokens of an image are a hypothesis's past. words: T.
    Returns (B, K T, S + K T) for B images with K hypotheses each; the new words lie behind the others.
    """
    past = seen.repeat_interleave(words, 0).unflatten(0, (images, -1))  # (B, K T, S)
    own = torch.block_diag(*[seen.new_ones(words, words).tril()] * (len(seen) // images))  # (K T, K T)
    return torch.cat([past, own.expand(images, -1, -1)], -1)


def _with_room(tokens: Tensor, count: int) -> Tensor:
    """(B, heads, S, d) tokens at the beginning of room for twice the count."""
    batch, heads, before, width = tokens.shape
    room = tokens.new_empty(batch, heads, 2 * count, width)
    room[:, :, :before] = tokens
    return room
