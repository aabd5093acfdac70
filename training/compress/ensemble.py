"""Make one captioner of several: `python -m training.ensemble CAPTIONER CAPTIONER --out DIR`.

At each step of the search the members' probabilities of the next word are averaged
(`captionbot.decoders.ensemble`). The result is a captioner like any other, with a file of its own: its card
names the members and the hashes of their files. CNNs that members share are kept, and run, once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from captionbot.backends.unfilled import unfilled
from captionbot.cli.commands import Parser, command
from captionbot.decoders import Decoder
from captionbot.decoders.ensemble import AVERAGES, FAMILY, EnsembleConfig, EnsembleDecoder
from captionbot.encoders import (
    ConcatEncoder,
    EnsembleEncoder,
    EnsembleEncoderConfig,
    GridEncoder,
    PCAEncoder,
)
from captionbot.encoders.ensemble import KIND
from captionbot.errors import CaptionBotError
from captionbot.store import card as cards
from captionbot.store.card import Card
from captionbot.store.registry import find_card
from captionbot.text.vocabulary import Vocabulary, load_vocabulary
from captionbot.types import Features
from training.run.checkpoints import prepare_folder, written
from training.run.config import check_name

Loaded = tuple[Card, nn.Module, Decoder]


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser("python -m training.ensemble", description="Make one captioner of several.")
    parser.add_argument("captioners", nargs="+", help="names, folders of runs, or cards")
    parser.add_argument("--name", default="ensemble", help="of the new captioner (default: %(default)s)")
    parser.add_argument(
        "--average", choices=AVERAGES, default=AVERAGES[0],
        help="what the mean is of: each word's probability, or its logarithm (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder of the new captioner")
    given = parser.parse_args(arguments)
    check_name(given.name)
    prepare_folder(given.out, used=True)
    made = ensemble([cards.load(find_card(name)) for name in given.captioners], given.name, given.average)
    with written("The captioner", given.out, "run the command again"):
        print(cards.save(given.out, *made))
    return 0


def ensemble(loaded: Sequence[Loaded], name: str, average: str = AVERAGES[0]) -> Loaded:
    """The card, the encoder and the decoder of the mean of captioners.

    Raises CaptionBotError where they cannot be one: see `_check` and `_vocabulary`.
    """
    for card, encoder, _ in loaded:
        _check(card, encoder, loaded[0][0])
    vocabulary = _vocabulary([card for card, *_ in loaded])
    encoder, of = _encoder([encoder for _, encoder, _ in loaded])
    decoder = _decoder(loaded, of, vocabulary, average)
    specs = {"encoder": _spec(KIND.kind, encoder), "decoder": _spec(FAMILY.kind, decoder)}
    card = _card([card for card, *_ in loaded], name, average, vocabulary, specs)
    return card, encoder.eval().requires_grad_(False), decoder.eval().requires_grad_(False)


def _encoder(encoders: Sequence[nn.Module]) -> tuple[EnsembleEncoder, list[int]]:
    """What sees as all of them do, and which of its looks is whose."""
    cnns: list[nn.Module] = []
    heads: list[nn.Module] = []
    looks: list[dict[str, Any]] = []
    of: list[int] = []
    for encoder in encoders:
        look, head = _look(encoder, cnns)
        known = (i for i, other in enumerate(looks) if other == look and _same(heads[i], head))
        of.append(next(known, len(looks)))
        if of[-1] == len(looks):
            looks.append(look)
            heads.append(head)
    specs = (_spec("concat" if isinstance(cnn, ConcatEncoder) else "grid", cnn) for cnn in cnns)
    with unfilled():
        made = EnsembleEncoder(EnsembleEncoderConfig(tuple(specs), tuple(looks)))
    made.cnns, made.heads = nn.ModuleList(cnns), nn.ModuleList(heads)
    return made, of


def _look(encoder: Any, cnns: list[nn.Module]) -> tuple[dict[str, Any], nn.Module]:
    """What a configuration says of how a captioner sees, and what makes its features of its CNN's.

    cnns: those so far, to which its own is added where it is new.
    """
    if not isinstance(encoder, PCAEncoder):
        return {"cnn": _place(cnns, encoder)}, nn.Identity()
    head = PCAEncoder(encoder.config, grid=nn.Identity())
    head.load_state_dict({k: t for k, t in encoder.state_dict().items() if not k.startswith("grid.")})
    sizes = {"feature_size": encoder.config.feature_size, "components": encoder.config.components}
    return {"cnn": _place(cnns, encoder.grid), **sizes}, head


def _place(cnns: list[nn.Module], cnn: nn.Module) -> int:
    """The number of a CNN among those so far, as which it is added where it is new."""
    for number, other in enumerate(cnns):
        if _same(other, cnn):
            return number
    cnns.append(cnn)
    return len(cnns) - 1


def _same(one: nn.Module, other: nn.Module) -> bool:
    """Whether modules have the same configuration and the same numbers."""
    ours, theirs = one.state_dict(), other.state_dict()
    return (
        type(one) is type(other)
        and getattr(one, "config", None) == getattr(other, "config", None)
        and ours.keys() == theirs.keys()
        and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    )


def _decoder(
    loaded: Sequence[Loaded], of: Sequence[int], vocabulary: Vocabulary, average: str
) -> EnsembleDecoder:
    """What says as all of them do on the average; of: the look of each."""
    channels = {look: decoder.config.feature_size for look, (*_, decoder) in zip(of, loaded, strict=True)}
    specs = [
        {
            "name": card.name,
            "decoder": card.decoder,
            "start": sum(channels[before] for before in range(look)),
            "whole": _sees_whole(card, encoder),
            "evidence": dict(card.evidence),
            "mapped": load_vocabulary(card.vocabulary).tokens != vocabulary.tokens,
        }
        for look, (card, encoder, _) in zip(of, loaded, strict=True)
    ]
    config = EnsembleConfig(len(vocabulary), sum(channels.values()), 0.0, tuple(specs), average)
    with unfilled():
        made = EnsembleDecoder(config)
    for member, (card, _, decoder) in zip(made.each, loaded, strict=True):
        member.decoder, member.evidence, decoder.evidence = decoder, decoder.evidence, None
        if member.mapped:
            own = load_vocabulary(card.vocabulary).ids
            member.ids = torch.tensor([own.get(t, Vocabulary.unk_id) for t in vocabulary.tokens]).int()
    return made


def _sees_whole(card: Card, encoder: Any) -> bool:
    """Whether a captioner sees a photo as one place."""
    features: Features = encoder.on_meta(tuple(card.preprocessing["size"]))
    return features.values.shape[1] == 1


def _card(
    members: Sequence[Card], name: str, average: str, vocabulary: Vocabulary, specs: dict[str, Any]
) -> Card:
    """specs: of encoder and decoder. Scores and confidence are to be measured anew."""
    alike = len({card.precision for card in members}) == 1
    return dataclasses.replace(
        members[0],
        name=name,
        family=FAMILY.kind,
        title="",
        vocabulary=vocabulary.spec,
        precision=members[0].precision if alike else "float32",
        evidence={},
        confidence={},
        description=f"The mean {average} of {', '.join(card.name for card in members)}.",
        training={"members": [{"name": card.name, "sha256": card.sha256} for card in members]},
        scores={},
        licence=" ".join(dict.fromkeys(card.licence for card in members if card.licence)),
        default=False,
        shared={},
        **specs,
    )


def _check(card: Card, encoder: nn.Module, first: Card) -> None:
    """Refuse a captioner that sees in a way which the others' features cannot stand beside."""
    if not isinstance(encoder, GridEncoder | ConcatEncoder | PCAEncoder):
        raise CaptionBotError(
            f"{card.name} sees through {card.encoder['kind']}, which an ensemble cannot; give captioners "
            "that see a grid of places, or the whole photo through a PCA."
        )
    if card.preprocessing != first.preprocessing:
        raise CaptionBotError(
            f"{card.name} is given photos in another form than {first.name} ({card.preprocessing} and "
            f"{first.preprocessing}); give captioners that are given the same."
        )


def _vocabulary(members: Sequence[Card]) -> Vocabulary:
    """That of the most words, of which the others' must be a part."""
    known = [load_vocabulary(card.vocabulary) for card in members]
    longest = max(known, key=len)
    for card, vocabulary in zip(members, known, strict=True):
        lacking = set(vocabulary.tokens) - set(longest.tokens)
        pieces = vocabulary.in_pieces or longest.in_pieces
        if lacking or (pieces and vocabulary.tokens != longest.tokens):
            raise CaptionBotError(
                f"{card.name} has other words than the captioner that knows the most; give captioners of one "
                "vocabulary, or whose words are all among those of one of them."
            )
    return longest


def _spec(kind: str, module: Any) -> dict[str, Any]:
    """What a card says of an encoder or a decoder."""
    return {"kind": kind, **dataclasses.asdict(module.config)}
