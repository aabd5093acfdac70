"""The captioner that a run trains: that of an earlier run, or a new one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import nn

from captionbot.decoders import Decoder, Family, build_decoder, family_of
from captionbot.encoders import Encoder, EncoderKind, build_encoder, encoder_of, features_on_meta
from captionbot.encoders.ready import MOST_PLACES
from captionbot.errors import CaptionBotError
from captionbot.fields import as_type
from captionbot.images.load import Preprocessing
from captionbot.store import card as cards
from captionbot.store.card import Card
from captionbot.store.registry import find_card
from captionbot.text.vocabulary import SPECIAL_TOKENS, SubwordVocabulary, Vocabulary
from training.data.ready import open_ready
from training.run.checkpoints import read_weights
from training.run.config import INHERITED, TrainingConfig


class Model(nn.Module):
    """What is trained: one module, so that one average and one checkpoint hold it all."""

    def __init__(self, encoder: nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def train(self, mode: bool = True) -> Model:
        """Batch norms stay as they are: small batches would spoil their statistics."""
        super().train(mode)
        for module in self.encoder.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


def build_captioner(config: TrainingConfig, captions: Iterable[list[str]]) -> tuple[Card, Model]:
    """The card of `init` and its captioner, or a new captioner whose words are those of the captions."""
    if config.init:
        return _from_card(config, captions)
    if config.vocabulary == "words":
        vocabulary = Vocabulary.build(captions, config.min_count, config.max_size or None)
    else:
        vocabulary = SubwordVocabulary.load(config.vocabulary, config.tokenizer)
    if len(vocabulary) == len(SPECIAL_TOKENS):
        raise CaptionBotError(
            f"The training captions say no word {config.min_count} times; give more captions, or a lower "
            "--min-count."
        )
    if config.features:
        config = dataclasses.replace(config, encoder="ready", encoder_config=_ready_config(config))
    encoder_config = _checked("encoder", encoder_of(config.encoder), config.encoder_config)
    decoder_config = _checked("decoder", family_of(config.decoder), config.decoder_config)
    preprocessing = Preprocessing((config.image_size, config.image_size), config.mean, config.std)
    encoder = _new_encoder(dataclasses.replace(config, encoder_config=encoder_config))
    channels = features_on_meta(encoder, preprocessing.size).values.shape[-1]
    sizes = {**decoder_config, "vocabulary_size": len(vocabulary), "feature_size": channels}
    card = Card(
        name=config.name,
        family=config.family,
        encoder={"kind": config.encoder, **encoder_config},
        decoder={"kind": config.decoder, **sizes},
        preprocessing=dataclasses.asdict(preprocessing),
        vocabulary=vocabulary.spec,
    )
    return card, Model(encoder, build_decoder(config.decoder, sizes))


def _ready_config(config: TrainingConfig) -> dict[str, Any]:
    """What the features of a run are like, by those of its first image."""
    features = open_ready(config.features)
    first = features.load_key(next(iter(features.keys.values())))
    return {
        "feature_size": first.values.shape[1],
        "places": 1 if first.grid == (1, 1) else MOST_PLACES if first.grid is None else len(first.values),
        "made_by": Path(config.features).name,
    }


def described(
    card: Card,
    config: TrainingConfig,
    data: str,
    best: Mapping[str, float],
    curve: Sequence[Mapping[str, float]] = (),
) -> Card:
    """The card with a run's own stage of training behind those before it.

    data: what was learnt from, in words. best: scores on val. curve: loss and scores on val of each epoch.
    """
    stage = {**dataclasses.asdict(config), "best": best, "curve": list(curve)}
    for name in INHERITED if config.init else ():
        del stage[name]
    return dataclasses.replace(
        card,
        name=config.name,
        training={"data": data, "seed": config.seed, "stages": [*card.training.get("stages", []), stage]},
        search={"beam_size": 5, "length_penalty": config.length_penalty, "max_length": config.max_words},
    )


def load_to_train(name: str | Path) -> tuple[Card, nn.Module, Decoder]:
    """A captioner without what is of its weights as they are: its scores, word evidence and confidence."""
    card, encoder, decoder = cards.load(find_card(name))
    if card.family == "ensemble":
        raise CaptionBotError(
            f"{card.name} is an ensemble, which learns nothing itself; name a member of it."
        )
    decoder.evidence = None
    return dataclasses.replace(card, evidence={}, confidence={}, scores={}), encoder, decoder


def _from_card(config: TrainingConfig, captions: Iterable[list[str]]) -> tuple[Card, Model]:
    """The captioner of `init`; what its card says of it as it was is left out."""
    card, encoder, decoder = load_to_train(config.init)
    if bool(config.features) != (card.encoder["kind"] == "ready"):
        learned = "photos" if config.features else "ready-made features (--features)"
        raise CaptionBotError(f"The captioner {config.init} learned from {learned}; train it on such again.")
    if config.encoder_weights:
        kind, options = card.encoder["kind"], {k: v for k, v in card.encoder.items() if k != "kind"}
        encoder = _new_encoder(dataclasses.replace(config, encoder=kind, encoder_config=options))
    wanted = _checked("decoder", family_of(card.decoder["kind"]), config.decoder_config)
    changes = {k: v for k, v in wanted.items() if card.decoder.get(k) != v}
    if fixed := sorted(k for k in changes if "dropout" not in k):
        raise CaptionBotError(
            f"decoder_config changes {fixed[0]} of the captioner {config.init}; with --init only dropout "
            "can be another."
        )
    decoder.config = dataclasses.replace(decoder.config, **changes)
    card = dataclasses.replace(card, decoder=card.decoder | changes, description="", default=False)
    if config.extend_vocabulary:
        card, decoder = with_words(card, decoder, new_words(card, captions, config.min_count))
    return card, Model(encoder, decoder)


def new_words(card: Card, captions: Iterable[list[str]], min_count: int) -> list[str]:
    """What captions say at least min_count times and a captioner cannot, the most frequent first."""
    if isinstance(card.vocabulary, dict):  # subwords spell everything
        return []
    known = set(card.vocabulary)
    return [word for word in Vocabulary.build(captions, min_count).tokens if word not in known]


def with_words(card: Card, decoder: Decoder, words: Sequence[str]) -> tuple[Card, Decoder]:
    """The captioner with more words, each of which begins as the unknown word that it was read as so far."""
    if not words:
        return card, decoder
    vocabulary = Vocabulary((*card.vocabulary, *words))
    sizes = {**card.decoder, "vocabulary_size": len(vocabulary)}
    larger = build_decoder(sizes["kind"], {k: v for k, v in sizes.items() if k != "kind"})
    tensors = decoder.state_dict()
    for name, tensor in larger.state_dict().items():
        if tensor.shape != (old := tensors[name]).shape:  # one row a word: embedding, output and its bias
            unknown = old[Vocabulary.unk_id].expand(len(words), *old.shape[1:])
            tensors[name] = torch.cat([old, unknown])
    larger.load_state_dict(tensors)
    larger.train(decoder.training)
    return dataclasses.replace(card, decoder=sizes, vocabulary=vocabulary.tokens), larger


def _checked(part: str, chosen: EncoderKind | Family, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of an encoder or decoder with its fields' types; CaptionBotError for bad values."""
    known = get_type_hints(chosen.config)
    if unknown := sorted(set(map(str, config)) - set(known)):
        raise CaptionBotError(
            f"The {part} {chosen.kind} has no '{unknown[0]}'; its fields are {', '.join(known)} "
            f"({part}_config)."
        )
    typed = {name: as_type(name, known[name], value) for name, value in config.items()}
    for name, value in typed.items():
        if "dropout" in name and not 0 <= value <= 1:
            raise CaptionBotError(f"{name} is {value}; give a share from 0 to 1.")
        counts = value if isinstance(value, tuple) else (value,)
        if "int" in str(known[name]) and any(count is not None and count < 1 for count in counts):
            raise CaptionBotError(f"{name} is {value}; give 1 or more.")
    return typed


def _new_encoder(config: TrainingConfig) -> Encoder:
    weights = Path(config.encoder_weights)
    if not config.encoder_weights or config.encoder == "ready":
        return build_encoder(config.encoder, config.encoder_config)
    if not weights.exists():
        raise CaptionBotError(
            f"There are no weights at {weights}; give --encoder-weights FILE, a .safetensors or a .pth as "
            "`python -m captionbot download inception_v3-imagenet` fetches it, or a run's folder."
        )
    if weights.is_file() and not weights.with_suffix(".json").is_file():
        return build_encoder(config.encoder, config.encoder_config, read_weights(weights))
    card, trained, _ = cards.load(find_card(weights.with_suffix(".json") if weights.is_file() else weights))
    encoder = build_encoder(config.encoder, config.encoder_config)
    try:
        encoder.load_state_dict(trained.state_dict())
    except RuntimeError:
        raise CaptionBotError(
            f"The encoder of {weights} is {card.encoder}, which does not fit the run's "
            f"{config.encoder} {config.encoder_config}; give the same --encoder-config."
        ) from None
    return encoder
