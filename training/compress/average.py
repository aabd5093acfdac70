"""Average captioners' weights: `python -m training.average RUN... --out DIR`.

Of a run that kept several epochs (`keep: 3`) all of them count, of another one its best. The mean of
weights along one run, or of runs that began from the same captioner, is often better than each
(arXiv 1803.05407, arXiv 2203.05482); its scores on val say whether it is here. Words that the vocabulary was
extended by since are unknown words in the captioners that lack them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from captionbot.cli.commands import Parser, command
from captionbot.decoders import Decoder
from captionbot.errors import CaptionBotError
from captionbot.images.load import Preprocessing
from captionbot.store import card as cards
from captionbot.store.card import Card
from captionbot.store.registry import find_card
from captionbot.text.vocabulary import load_vocabulary
from training.run.captioners import load_to_train, with_words
from training.run.checkpoints import prepare_folder, written
from training.run.config import TrainingConfig, load_config
from training.run.distributed import World, device_of
from training.run.features import BlankFeatures
from training.run.splits import read_splits
from training.run.tasks import features_of
from training.run.train import KEPT
from training.run.validation import Captions, Foreseen

Loaded = tuple[Card, nn.Module, Decoder]


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser("python -m training.average", description="Average captioners' weights.")
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs, or cards")
    parser.add_argument("--out", type=Path, required=True, help="folder of the averaged captioner")
    parser.add_argument("--config", help="that says what to validate on (default: the first run's own)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args(arguments)
    members = [path for run in given.runs for path in _members(run)]
    config = load_config(given.config or _config_beside(members[0]))
    prepare_folder(given.out, used=True)
    path = average(members, given.out, config, device_of(given.device))
    print(f"{path}: the mean of {len(members)} captioners, {Card.load(path).training['val']} on val")
    return 0


def average(members: Sequence[Path], out: Path, config: TrainingConfig, device: torch.device) -> Path:
    """Write the mean of captioners, given by their cards, with its scores on val; returns its card."""
    loaded = _in_one_vocabulary([load_to_train(member) for member in members])
    card, encoder, decoder = loaded[0]
    for other, *_ in loaded[1:]:
        if _shape(other) != _shape(card):
            raise CaptionBotError(
                f"{card.name} and {other.name} are not built alike, or not for the same words; give runs of "
                "one captioner."
            )
    encoder.load_state_dict(_mean([e.state_dict() for _, e, _ in loaded]))
    decoder.load_state_dict(_mean([d.state_dict() for _, _, d in loaded]))
    scores = _validate(card, config, encoder.to(device), decoder.to(device), device)
    training = card.training | {"averaged": [str(member) for member in members], "val": scores}
    card = dataclasses.replace(card, name=config.name, training=training)
    with written("The captioner", out, "run the command again"):
        return cards.save(out, card, encoder, decoder)


def _members(run: Path) -> list[Path]:
    kept = sorted((run / KEPT).glob("*.json"))
    return kept or [find_card(run)]


def _config_beside(card: Path) -> str:
    """The configuration of the run that a card is the best of, or one of those that it kept."""
    for folder in (card.parent, card.parent.parent):
        if (config := folder / "config.yaml").is_file():
            return str(config)
    raise CaptionBotError(f"{card.parent} has no config.yaml; say what to validate on with --config.")


def _shape(card: Card) -> tuple[object, ...]:
    decoder = {name: value for name, value in card.decoder.items() if "dropout" not in name}
    return card.encoder, decoder, card.preprocessing, load_vocabulary(card.vocabulary).tokens


def _in_one_vocabulary(loaded: list[Loaded]) -> list[Loaded]:
    """Captioners whose words are the first of another's (`extend_vocabulary`) get the others too."""
    longest = max((load_vocabulary(card.vocabulary).tokens for card, *_ in loaded), key=len)
    extended = []
    for card, encoder, decoder in loaded:
        known = load_vocabulary(card.vocabulary).tokens
        if known == longest[: len(known)]:
            card, decoder = with_words(card, decoder, longest[len(known) :])
        extended.append((card, encoder, decoder))
    return extended


def _mean(state_dicts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """What is the same in all stays as it is to the bit, so that a frozen encoder's cached features do."""
    first, *others = state_dicts
    return {
        name: tensor
        if all(torch.equal(tensor, s[name]) for s in others)
        else torch.stack([s[name].float() for s in state_dicts]).mean(0)
        for name, tensor in first.items()
    }


def _validate(
    card: Card, config: TrainingConfig, encoder: nn.Module, decoder: Decoder, device: torch.device
) -> dict[str, float]:
    world, vocabulary = World(device), load_vocabulary(card.vocabulary)
    _, val = read_splits(config)
    if config.stage == "language-model":
        blank = BlankFeatures(int(card.decoder["feature_size"]), device)
        return Foreseen(config, vocabulary, val, blank, world)(encoder, decoder)
    preprocessing = Preprocessing.from_json(card.preprocessing)
    frozen = dataclasses.replace(config, train_encoder=False, cache_features=True)
    val, features = features_of(val, frozen, encoder, preprocessing, world)
    return Captions(config, vocabulary, val, features, world)(encoder, decoder)
