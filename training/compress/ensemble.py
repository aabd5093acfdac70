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
from captionbot.decoders import Decoder, build_decoder
from captionbot.decoders.ensemble import AVERAGES, FAMILY, EnsembleDecoder
from captionbot.encoders import ConcatEncoder, EnsembleEncoder, GridEncoder, PCAEncoder, build_encoder
from captionbot.encoders.ensemble import KIND
from captionbot.errors import CaptionBotError
from captionbot.store import card as cards
from captionbot.store.card import Card
from captionbot.store.registry import find_card
from captionbot.text.vocabulary import Vocabulary, load_vocabulary
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
    cnns: list[nn.Module] = []
    heads: list[nn.Module] = []
    looks: list[dict[str, Any]] = []
    of: list[int] = []
    for _, encoder, _ in loaded:
        pca = isinstance(encoder, PCAEncoder)
        cnn = _place(cnns, encoder.grid if pca else encoder)
        look, head = {"cnn": cnn}, nn.Identity()
        if pca:
            look |= {"feature_size": encoder.config.feature_size, "components": encoder.config.components}
            head = PCAEncoder(encoder.config, grid=nn.Identity())
            head.load_state_dict({k: t for k, t in encoder.state_dict().items() if not k.startswith("grid.")})
        known = (i for i, other in enumerate(looks) if other == look and _same(heads[i], head))
        of.append(next(known, len(looks)))
        if of[-1] == len(looks):
            looks.append(look)
            heads.append(head)
    encoder_spec = {"kind": KIND.kind, "cnns": tuple(map(_spec_of, cnns)), "looks": tuple(looks)}
    sizes = [next(d for i, (*_, d) in zip(of, loaded, strict=True) if i == look).config.feature_size
             for look in range(len(looks))]  # fmt: skip
    members = tuple(
        {
            "name": card.name,
            "decoder": card.decoder,
            "start": sum(sizes[:look]),
            "whole": "components" in looks[look],
            "evidence": dict(card.evidence),
            "mapped": load_vocabulary(card.vocabulary).tokens != vocabulary.tokens,
        }
        for look, (card, *_) in zip(of, loaded, strict=True)
    )
    decoder_spec = {
        "kind": FAMILY.kind,
        "vocabulary_size": len(vocabulary),
        "feature_size": sum(sizes),
        "dropout": 0.0,
        "members": members,
        "average": average,
    }
    with unfilled():
        seeing = build_encoder(**_built(encoder_spec))
        saying = build_decoder(**_built(decoder_spec))
    assert isinstance(seeing, EnsembleEncoder) and isinstance(saying, EnsembleDecoder)
    seeing.cnns, seeing.heads = nn.ModuleList(cnns), nn.ModuleList(heads)
    for member, (card, _, decoder) in zip(saying._members, loaded, strict=True):
        member.decoder, member.evidence, decoder.evidence = decoder, decoder.evidence, None
        if member.mapped:
            own = load_vocabulary(card.vocabulary).ids
            member.ids = torch.tensor([own.get(t, Vocabulary.unk_id) for t in vocabulary.tokens]).int()
    first, names = loaded[0][0], [card.name for card, *_ in loaded]
    card = dataclasses.replace(
        first,
        name=name,
        family=FAMILY.kind,
        title="",
        encoder=encoder_spec,
        decoder=decoder_spec,
        vocabulary=vocabulary.spec,
        precision=first.precision if len({card.precision for card, *_ in loaded}) == 1 else "float32",
        evidence={},
        confidence={},
        description=f"The mean {average} of {', '.join(names)}.",
        training={"members": [{"name": card.name, "sha256": card.sha256} for card, *_ in loaded]},
        scores={},
        licence=" ".join(dict.fromkeys(card.licence for card, *_ in loaded if card.licence)),
        default=False,
        shared={},
    )
    return card, seeing.eval().requires_grad_(False), saying.eval().requires_grad_(False)


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


def _place(cnns: list[nn.Module], cnn: nn.Module) -> int:
    """The number of a CNN among those so far, as which it is added where it is new."""
    for number, other in enumerate(cnns):
        if _same(other, cnn):
            return number
    cnns.append(cnn)
    return len(cnns) - 1


def _same(one: nn.Module, other: nn.Module) -> bool:
    """Whether modules are of the same configuration, and of the same numbers but for how they are stored."""
    ours, theirs = one.state_dict(), other.state_dict()
    return (
        type(one) is type(other)
        and getattr(one, "config", None) == getattr(other, "config", None)
        and ours.keys() == theirs.keys()
        and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    )


def _spec_of(cnn: nn.Module) -> dict[str, Any]:
    kind = "concat" if isinstance(cnn, ConcatEncoder) else "grid"
    return {"kind": kind, **dataclasses.asdict(cnn.config)}  # type: ignore[arg-type]


def _built(spec: dict[str, Any]) -> dict[str, Any]:
    return {"kind": spec["kind"], "config": {k: v for k, v in spec.items() if k != "kind"}}
