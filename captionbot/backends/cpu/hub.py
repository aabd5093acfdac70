"""What a Hub captioner sees of photos on a CPU: packed layers, and attention in the precision of these."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from captionbot.backends.cpu.decoder import pack
from captionbot.encoders.hub import HubEncoder

_SPECIAL = ("dropout_p", "is_causal", "enable_gqa")


def packed_hub_encoder(encoder: HubEncoder, dtype: torch.dtype) -> HubEncoder:
    """The encoder itself, its layers packed in place, as a second copy would be as large: gradients by pixels
    go through packed layers too.

    dtype: that is multiplied in.
    """
    packed: HubEncoder = pack(encoder, dtype)
    if dtype != torch.float32:
        packed.tokens = partial(_seen, packed.tokens, dtype)
    return packed


def _seen(
    tokens: Callable[[nn.ModuleDict, Tensor], Tensor],
    dtype: torch.dtype,
    parts: nn.ModuleDict,
    pixels: Tensor,
) -> Tensor:
    with _InHalf(dtype):
        return tokens(parts, pixels)


def attention(query: Tensor, key: Tensor, value: Tensor, dtype: torch.dtype, scale: float) -> Tensor:
    """softmax(Q K^T scale) V (arXiv 1706.03762, equation 1), multiplied in half precision.

    (B, H, P, D), (B, H, Q, D) and (B, H, Q, E) -> (B, H, P, E) as precise as the queries are stored.

    PyTorch's own takes as long in half precision on CPUs as in fp32, some six times the floor of its
    arithmetic. A single thread goes head by head: what one weighs stays in a core's cache.
    """
    together = 1 if torch.get_num_threads() == 1 else query.shape[1]
    asked, keys, values = (query * scale).to(dtype), key.to(dtype).transpose(2, 3), value.to(dtype)
    found = [
        torch.bmm(torch.bmm(q, k).softmax(-1), v)
        for photo in zip(asked, keys, values, strict=True)
        for q, k, v in zip(*(part.split(together) for part in photo), strict=True)
    ]
    heads: Tensor = torch.cat(found).to(query.dtype).unflatten(0, query.shape[:2])
    return heads


class _InHalf(TorchFunctionMode):
    """While it is on, PyTorch's attention without masks and dropout is `attention`."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        special = kwargs.get("attn_mask") is not None or any(map(kwargs.get, _SPECIAL))
        if func is not F.scaled_dot_product_attention or len(args) != 3 or special or args[0].ndim != 4:
            return func(*args, **kwargs)
        scale = kwargs.get("scale") or args[0].shape[-1] ** -0.5
        return attention(*args, self.dtype, scale)
