"""What attention remembers of the words so far: one copy an image, which all of its hypotheses read.

The tokens of an image lie one after the other, the words of all beams among them, in the order in which they
were read. What follows the beams is a row of bools that says which of them are a hypothesis's own past, so
that no keys or values are ever copied from beam to beam.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Cache:
    """Keys and values of the tokens so far, in buffers with room for those to come.

    New ones are written behind them, and nothing is copied, unless the room is full, or another state that
    grew from the same tokens has written there already. With gradients all is copied.

    keys, values: (B, heads, S, d) of the S tokens.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values
        self._buffers, self._written = (keys, values), [keys.shape[2]]

    def appended(self, keys: Tensor, values: Tensor) -> Cache:
        """With Q tokens more, (B, heads, Q, d) each."""
        before, new = self.keys.shape[2], keys.shape[2]
        if torch.is_grad_enabled():
            return Cache(torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2))
        grown = Cache(self.keys, self.values)
        grown._buffers, grown._written = self._buffers, self._written
        if before + new > self._buffers[0].shape[2] or self._written[0] != before:
            grown._buffers = (_with_room(self.keys, new), _with_room(self.values, new))
            grown._written = [before]
        for buffer, tokens in zip(grown._buffers, (keys, values), strict=True):
            buffer[:, :, before : before + new] = tokens
        grown._written[0] = before + new
        grown.keys, grown.values = (buffer[:, :, : before + new] for buffer in grown._buffers)
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


def _with_room(tokens: Tensor, new: int) -> Tensor:
    """(B, heads, S, d) at the beginning of a buffer for twice as many tokens and the new ones."""
    batch, heads, count, width = tokens.shape
    buffer = tokens.new_empty(batch, heads, 2 * (count + new), width)
    buffer[:, :, :count] = tokens
    return buffer
