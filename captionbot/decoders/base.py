"""The interface of all decoders: start, step, and a state whose rows can be selected.

The search, teacher forcing, greedy decoding, sampling and forced words all run this one `step`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionbot.types import Features


@dataclass(frozen=True)
class DecoderConfig:
    """What all configurations have; a family's own adds its sizes.

    vocabulary_size: V, words. feature_size: C, numbers that the encoder gives for a place.
    dropout: in training alone, where the decoder's docstring says.
    """

    vocabulary_size: int
    feature_size: int
    dropout: float = 0.5


@dataclass(frozen=True)
class State:
    """What a decoder carries from word to word. Row n belongs to image n // (N / B).

    images: what belongs to the image and is never copied per beam, tensors (B, ...) or what selects images
        like one (`cache.Cache`).
    rows: tensors (N, ...) that belong to one hypothesis each.
    """

    images: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, Tensor] = field(default_factory=dict)

    def select(self, rows: Tensor, images: Tensor | None = None) -> State:
        """The state whose row i continues old row `rows[i]`: beams followed, multiplied or dropped.

        rows: (N',) indices of old rows, an image's rows side by side.
        images: (B',) indices of the images that stay, where some leave the batch.
        """
        return State(
            self.images if images is None else {k: v.index_select(0, images) for k, v in self.images.items()},
            {k: v.index_select(0, rows) for k, v in self.rows.items()},
        )


class Decoder(nn.Module, ABC):
    """Features and the words so far -> the next word, and how much it looked at each place.

    Modules hold weights only; everything of one call lives in its `State`, because the pages'
    sessions are threads that share one decoder.

    config: the frozen dataclass that it was built from.
    evidence: a `captionbot.decoders.evidence.WordEvidence`, which finished sentences are ranked with beside
        their probability, where it was fitted.
    attends: whether alphas are attention, which tells the places apart where there are several; else
        they are uniform, and what a word rests on has to be asked in another way.
    looks_elsewhere: whether it also attends to what is no place, so that alphas sum to less than 1.
    at_once: copies of a photo that are read together, where many are; what it keeps of each has to fit.
    compiles: whether torch can compile its steps; a cache that grows by a word at each is too much for it.
    """

    at_once: int = 16
    attends: bool = True
    compiles: bool = True
    looks_elsewhere: bool = False

    def __init__(self, config: Any = None) -> None:
        super().__init__()
        self.config = config
        self.evidence: Any = None

    @abstractmethod
    def start(self, features: Features) -> State:
        """All that depends on the image alone, once an image; one row an image."""

    @abstractmethod
    def advance(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """Read one word a row: (N,) ids -> (N, D) output, (N, P) alphas, the next state."""

    def advance_all(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """Read T words a row: (N, T) ids -> (N, T, D) outputs, (N, T, P) alphas, the state after them.

        Word by word here; decoders without a recurrence override it to read all words in one product.
        """
        outputs, alphas = [], []
        for word in token_ids.unbind(1):
            output, alpha, state = self.advance(word, state)
            outputs.append(output)
            alphas.append(alpha)
        return torch.stack(outputs, 1), torch.stack(alphas, 1), state

    def states_after(self, token_ids: Tensor, state: State) -> State:
        """(T,) ids of one image's sentence -> T rows, row t the state after the first t of them.

        state: the start, or any other of one row. All rows go on from what is computed once.
        """
        states = [state]
        for word in token_ids[:-1].split(1):
            states.append(self.advance(word, states[-1])[2])
        rows = {name: torch.cat([one.rows[name] for one in states]) for name in state.rows}
        return State(states[-1].images, rows)

    @abstractmethod
    def logits(self, output: Tensor) -> Tensor:
        """(..., D) output of `advance` -> (..., V) unnormalised scores of the next word.

        Apart from `advance`, so that training scores all words of all steps in one product.
        """

    def dropped(self, values: Tensor) -> Tensor:
        """With dropout (arXiv 1207.0580) at the configuration's rate in training, as they are otherwise."""
        return F.dropout(values, self.config.dropout) if self.training else values

    def gates(self, state: State) -> Tensor | None:
        """(N, C) of 0..1, how much each hypothesis lets the picture count next; None without such a gate."""
        return None

    def step(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """(N,) ids -> (N, V) log-probabilities of the next word, (N, P) alphas, the next state."""
        output, alphas, state = self.advance(token_ids, state)
        return self.logits(output).float().log_softmax(-1), alphas, state
