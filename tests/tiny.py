"""A whole captioner with random weights, small enough to be made in a blink."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from captionbot.decoders import build_decoder
from captionbot.encoders import build_encoder
from captionbot.images.load import Preprocessing
from captionbot.store import card as cards
from captionbot.store.card import Card
from captionbot.text.vocabulary import Vocabulary

WORDS = (  # noqa: SIM905 (a list of so many strings is harder to read)
    "a the man woman dog child ball beach grass snow red blue white black runs jumps plays in on with"
).split()


DETECTOR = {
    "backbone_name": "mobilenetv2_100", "backbone_args": {}, "backbone_indices": [3, 4],
    "image_size": [64, 64], "num_classes": 80, "min_level": 4, "max_level": 5, "num_levels": 2,
    "fpn_channels": 16, "fpn_cell_repeats": 1, "box_class_repeats": 1, "anchor_scale": 1.5,
}  # fmt: skip


SHARED = {  # fields of an encoder whose detector looks through the captioner's CNN
    "detector_cnn": "mobilenet_v2", "detector_layers": ["features.6"],
    "detector_options": {**DETECTOR, "min_level": 3, "num_levels": 3},
}  # fmt: skip


def build_region_captioner(
    folder: Path, name: str = "regions", boxes: int = 5, detector: dict[str, Any] | None = None
) -> Path:
    """Write an untrained top-down captioner of an untrained detector's boxes into a folder; its card.

    detector: `SHARED` for one without a CNN of its own.
    It finds something everywhere, so each photo has that many boxes beside the whole image.
    """
    torch.manual_seed(0)
    vocabulary = Vocabulary.build([WORDS])
    encoder = {
        "kind": "regions", "detector": "mobiledetv2_110d", "detector_options": DETECTOR, "max_regions": boxes,
        "threshold": 0.0, "architecture": "mobilenet_v2", "layer": "features.6",
    } | (detector or {})  # fmt: skip
    decoder = {
        "kind": "top-down", "vocabulary_size": len(vocabulary), "feature_size": 32, "annotation_size": 16,
        "embedding_size": 16, "hidden_size": 16, "attention_size": 16,
    }  # fmt: skip
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    card = Card(
        name=name,
        family="top-down",
        encoder=encoder,
        decoder=decoder,
        preprocessing=dataclasses.asdict(Preprocessing((64, 64), mean, std)),
        vocabulary=vocabulary.tokens,
        search={"beam_size": 3, "max_length": 8},
        description="Untrained: it says random words about random boxes.",
        licence="MIT",
    )
    parts = built(encoder, decoder)
    weights = dict(parts[1].named_parameters())
    with torch.no_grad():  # so that boxes, and where it looks, make a difference
        for part, factor in (("annotate", 100), ("attend_annotation", 3), ("attend_score", 30)):
            weights[f"{part}.weight"] *= factor
        weights["output_word.weight"] *= 20
    return cards.save(folder, card, *parts)


def build_tiny_captioner(
    folder: Path,
    name: str = "tiny",
    default: bool = True,
    cnn: tuple[str, str, int] = ("mobilenet_v2", "features.10", 64),
    normalise: bool = False,
) -> Path:
    """Write an untrained captioner (4 x 4 places, 20 words) into a folder; returns its card.

    cnn: architecture, layer and its channels.
    """
    torch.manual_seed(0)
    vocabulary = Vocabulary.build([WORDS])
    architecture, layer, channels = cnn
    encoder = {"kind": "grid", "architecture": architecture, "layer": layer}
    decoder = {
        "kind": "soft-attention",
        "vocabulary_size": len(vocabulary),
        "feature_size": channels,
        "annotation_size": 16,
        "embedding_size": 16,
        "hidden_size": 16,
        "attention_size": 16,
        "normalise": normalise,
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
    return cards.save(folder, card, *built(encoder, decoder))


def built(encoder: dict[str, Any], decoder: dict[str, Any]) -> list[Any]:
    """Encoder and decoder of what a card says of them, with random weights."""
    return [
        build(spec["kind"], {k: v for k, v in spec.items() if k != "kind"})
        for build, spec in ((build_encoder, encoder), (build_decoder, decoder))
    ]


def build_observant_captioner(folder: Path, name: str = "tiny") -> None:
    """An untrained captioner looks everywhere alike; this one looks elsewhere for every word."""
    card, encoder, decoder = cards.load(build_tiny_captioner(folder, name, default=name == "tiny"))
    weights = dict(decoder.named_parameters())
    weights["annotate.weight"] *= 30_000  # features of an untrained encoder are tiny
    weights["attend_hidden.weight"] *= 3
    weights["attend_score.weight"] *= 20
    cards.save(folder, card, encoder, decoder)
