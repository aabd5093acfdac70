"""A whole captioner with random weights, small enough to be made in a blink."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from captionbot import card as cards
from captionbot.card import Card
from captionbot.decoders import build_decoder
from captionbot.encoders import build_encoder
from captionbot.images import Preprocessing
from captionbot.vocabulary import Vocabulary

WORDS = (  # noqa: SIM905 (a list of so many strings is harder to read)
    "a the man woman dog child ball beach grass snow red blue white black runs jumps plays in on with"
).split()


def build_tiny_captioner(folder: Path, name: str = "tiny", default: bool = True) -> Path:
    """Write an untrained captioner (4 x 4 places, 20 words) into a folder; returns its card."""
    torch.manual_seed(0)
    vocabulary = Vocabulary.build([WORDS])
    encoder = {"kind": "grid", "architecture": "mobilenet_v2", "layer": "features.10"}
    decoder = {
        "kind": "soft-attention",
        "vocabulary_size": len(vocabulary),
        "feature_size": 64,
        "annotation_size": 16,
        "embedding_size": 16,
        "hidden_size": 16,
        "attention_size": 16,
        "tie_embedding": True,
    }
    card = Card(
        name=name,
        family="show-attend-tell",
        encoder=encoder,
        decoder=decoder,
        preprocessing=dataclasses.asdict(Preprocessing((64, 64), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))),
        vocabulary=vocabulary.tokens,
        search={"beam_size": 3, "max_length": 8, "length_penalty": 0.7},
        description="Untrained: it says random words.",
        licence="MIT",
        default=default,
    )
    parts = [
        build(spec["kind"], {k: v for k, v in spec.items() if k != "kind"})
        for build, spec in ((build_encoder, encoder), (build_decoder, decoder))
    ]
    return cards.save(folder, card, *parts)
