"""Steps that torch compiles, for GPUs: there a word is hundreds of small kernels, each soon done and long in
coming. Compiled, what lies between two products is one kernel.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from captionbot.decoders.base import Decoder, State

_LOG = logging.getLogger(__name__)
VARIABLE = "CAPTIONBOT_COMPILE"
_KINDS = 64  # of batches that are compiled apart: one photo and several, one beam and several, masks


def asked_for() -> bool:
    """Whether the environment's CAPTIONBOT_COMPILE says so: anything but "" and "0" does."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def compile_steps(decoder: Decoder) -> bool:
    """Let torch compile what `decoder.step` computes, whose equations and words stay; whether it can be.

    Each kind of batch is compiled when it first comes, some of half a minute each. Where torch cannot
    compile, for want of a C++ compiler as a rule, or a decoder's steps cannot be, the log says so and they
    run as they are.
    """
    if not decoder.compiles:
        _LOG.warning("%s has a cache that torch does not compile: it runs as it is", type(decoder).__name__)
        return False
    import torch._dynamo

    torch._dynamo.config.recompile_limit = max(_KINDS, torch._dynamo.config.recompile_limit)
    plain, compiled = decoder.step, torch.compile(decoder.step, dynamic=True)

    def step(token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        try:
            return compiled(token_ids, state)
        except torch._dynamo.exc.TorchDynamoException as error:
            why = str(error).strip().partition("\n")[0]
            _LOG.warning("torch cannot compile this decoder and runs it as it is: %s", why)
            decoder.step = plain  # type: ignore[method-assign]
            return plain(token_ids, state)

    decoder.step = step  # type: ignore[method-assign]
    return True
