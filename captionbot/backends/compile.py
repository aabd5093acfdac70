"""Steps that torch compiles, for GPUs: there a word is hundreds of small kernels, each soon done and long in
coming. Compiled, what lies between two products is one kernel.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captionbot.decoders.base import Decoder, State
from captionbot.types import Features

_LOG = logging.getLogger(__name__)
VARIABLE = "CAPTIONBOT_COMPILE"
_KINDS = 64  # of batches that are compiled apart: one photo and several, one beam and several, masks


def asked_for() -> bool:
    """Whether the environment's CAPTIONBOT_COMPILE says so: anything but "" and "0" does."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def compiled(decoder: Decoder) -> Decoder:
    """The decoder with steps that torch compiles, whose equations and words stay; itself where it cannot be.

    Each kind of batch is compiled when it first comes, some of half a minute each. Where torch cannot
    compile, for want of a C++ compiler as a rule, or a decoder's steps cannot be, the log says so and they
    run as they are.
    """
    if decoder.compiles:
        return CompiledDecoder(decoder)
    _LOG.warning("%s has a cache that torch does not compile: it runs as it is", type(decoder).__name__)
    return decoder


Step = Callable[[Tensor, State], tuple[Tensor, Tensor, State]]


class CompiledDecoder(Decoder):
    """A decoder whose `step` is compiled; all else is the decoder's own."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__(decoder.config)
        self.decoder, self.evidence, self.attends = decoder, decoder.evidence, decoder.attends
        self.train(decoder.training)
        # Before 2.12 torch knows one limit for all that a process compiles, which is not ours to raise.
        known = inspect.signature(torch.compile).parameters
        limit: dict[str, Any] = {"recompile_limit": _KINDS} if "recompile_limit" in known else {}
        self.step_of: Step = torch.compile(decoder.step, dynamic=True, **limit)

    def start(self, features: Features) -> State:
        return self.decoder.start(features)

    def advance(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        return self.decoder.advance(token_ids, state)

    def advance_all(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        return self.decoder.advance_all(token_ids, state)

    def logits(self, output: Tensor) -> Tensor:
        return self.decoder.logits(output)

    def gates(self, state: State) -> Tensor | None:
        return self.decoder.gates(state)

    def step(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        from torch._dynamo.exc import TorchDynamoException

        try:
            return self.step_of(token_ids, state)
        except TorchDynamoException as error:
            why = str(error).strip().partition("\n")[0]
            _LOG.warning("torch cannot compile this decoder and runs it as it is: %s", why)
            self.step_of = self.decoder.step
            return self.step_of(token_ids, state)
