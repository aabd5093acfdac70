"""CPU precision and weight packing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from captionbot.decoders import Decoder
    from captionbot.types import Features


def packed(
    encoder: nn.Module, decoder: Decoder, precision: str
) -> tuple[Callable[[Tensor], Features], Decoder]:
    """What encodes photos and what decodes them, in the fastest form that this CPU has for a precision.

    The encoder keeps its weights, for gradients; the decoder's parts are packed in place.

    precision: as `precision.choose` takes it. Raises CaptionBotError where the CPU does not know it.
    """
    import torch

    from captionbot.backends.compile import CompiledDecoder
    from captionbot.backends.cpu.cnn import PackedEncoder
    from captionbot.backends.cpu.decoder import pack
    from captionbot.backends.cpu.hub import packed_hub_encoder
    from captionbot.backends.cpu.precision import choose
    from captionbot.encoders.hub import HubEncoder

    chosen = choose(precision)
    if isinstance(encoder, HubEncoder) and chosen.decoder is not None:
        return packed_hub_encoder(encoder, chosen.encoder or torch.float32), pack(decoder, chosen.decoder)
    encode = PackedEncoder(encoder, chosen.encoder) if chosen.encoder is not None else encoder
    if chosen.decoder is not None and not isinstance(
        decoder, CompiledDecoder
    ):  # whose layers torch arranges itself
        decoder = pack(decoder, chosen.decoder)
    return encode, decoder
