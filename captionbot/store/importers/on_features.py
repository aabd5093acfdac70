"""What importers share of captioners whose extractor is not here: they caption ready-made features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from captionbot.store.importers.imported import Words, filled

if TYPE_CHECKING:
    from torch import Tensor

    from captionbot.decoders import Decoder
    from captionbot.encoders import Encoder
    from captionbot.store.importers.imported import Tensors

NEVER = -1e4
"""The bias of a word that is never said: its probability is 0, and the others' are as they were."""


def ready(feature_size: int, made_by: str, pooled: bool = False) -> Encoder:
    """In the place of an encoder, what the features are like."""
    from captionbot.encoders.ready import MOST_PLACES, ReadyConfig, ReadyEncoder

    return ReadyEncoder(ReadyConfig(feature_size, 1 if pooled else MOST_PLACES, made_by)).eval()


def built(
    kind: str,
    config: dict[str, Any],
    words: Words,
    tensors: Tensors,
    names: Mapping[str, str],
    made: Mapping[str, Tensor] | None = None,
    silent: Sequence[int] = (),
) -> Decoder:
    """A decoder of ours with a project's tensors.

    names: modules of ours and what they are called there. made: tensors by our names that are not there as
        they are. silent: our ids that share a row with another id, and are never said.
    """
    made = made or {}

    def weight(ours: str) -> Tensor:
        if ours in made:
            return made[ours]
        module, _, part = ours.rpartition(".")
        return tensors[f"{names[module]}.{part}"]

    decoder = filled(kind, {"vocabulary_size": len(words.tokens), **config}, words, weight)
    bias = decoder.state_dict()["output_word.bias"]  # which shares its numbers with the decoder's
    bias[list(silent)] = NEVER
    return decoder
