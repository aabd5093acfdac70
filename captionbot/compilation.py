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
_KINDS = (
    64  # of batches that are compiled apart: one photo and several, one beam and several, a full cache...
)


def asked_for() -> bool:
    """Whether the environment's CAPTIONBOT_COMPILE says so: anything but "" and "0" does."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def compile_steps(decoder: Decoder) -> None:
    """Let torch compile what `decoder.step` computes; its equations stay where they are, and its words too.

    Each kind of batch is compiled when it first comes, some of half a minute each. Where torch cannot
    compile, for want of a C++ compiler as a rule, it says so once and goes on without.
    """
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
