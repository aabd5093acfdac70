"""Make a trained run ready to ship: `python -m training.export RUN --name NAME --scores results.json`.

The weights are stored compactly, and the card gets what a reader wants to know: scores with the
command that gives them again, the data, the stages, and the table of what was tried.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from captionbot.backends.cpu.precision import PRECISIONS, known
from captionbot.captioner import Captioner
from captionbot.cli.commands import Parser, command
from captionbot.encoders import ConcatEncoder, GridEncoder
from captionbot.encoders.concat import resized
from captionbot.errors import CaptionBotError, shortened
from captionbot.images.load import Preprocessing, squash
from captionbot.store import card as cards
from captionbot.store.folders import weights_folder
from captionbot.store.registry import find_card
from training.compress.rounding import round_cnn
from training.data import open_images
from training.data.files import read_json
from training.evaluation.evaluate import search_options
from training.run.captioners import load_to_train
from training.run.checkpoints import prepare_folder, read_weights, written
from training.run.config import check_name
from training.run.features import normalise

PHOTOS = 64  # that the CNN is looked at with
SCORES = (
    "split",
    "images",
    "beam_size",
    "Bleu_1",
    "Bleu_2",
    "Bleu_3",
    "Bleu_4",
    "METEOR",
    "ROUGE_L",
    "CIDEr",
)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser("python -m training.export", description="Make a trained run ready to ship.")
    parser.add_argument("run", help="folder of a run, or the card of a captioner")
    parser.add_argument("--name", required=True, help="of the captioner that ships")
    parser.add_argument("--out", type=Path, default=None, help="folder (default: weights/)")
    parser.add_argument(
        "--shared",
        default="",
        metavar="FILE",
        help="keep the CNN in this file of the folder, for several captioners; made if it is not there",
    )
    parser.add_argument(
        "--cnn",
        metavar="RUN",
        help="captioner whose CNN to put in the place of its own, without scores and word evidence of before",
    )
    parser.add_argument("--storage", choices=cards.STORAGES, default="int8")
    parser.add_argument("--scores", type=Path, help="results.json of training.evaluate")
    parser.add_argument(
        "--other-scores",
        nargs="+",
        default=[],
        metavar="NAME=FILE",
        help="results.json of other data sets too, by the name that the card is to call each",
    )
    parser.add_argument("--tried", type=Path, help="JSON list of what was tried and what each gave")
    parser.add_argument(
        "--search", type=search_options, default={}, help="search options to start with, as JSON"
    )
    parser.add_argument(
        "--precision",
        type=known,
        metavar="|".join(PRECISIONS),
        help="to compute in on a CPU, if its scores hold",
    )
    parser.add_argument(
        "--photos",
        type=Path,
        metavar="PATH",
        help=f"folder or tar of training photos: {PHOTOS} of them choose the CNN's 8-bit weights",
    )
    parser.add_argument("--mirror", action="store_true", help="average features with the mirrored photo's")
    parser.add_argument("--description", help="one sentence for the pages")
    parser.add_argument("--licence", help="of the weights")
    parser.add_argument("--default", action="store_true", help="the captioner that pages start with")
    given = parser.parse_args(arguments)
    path = export(given)
    print(f"{path} and its weights, {path.with_suffix('.safetensors').stat().st_size / 2**20:.1f} MiB")
    return 0


def export(given: argparse.Namespace) -> Path:
    check_name(given.name)
    folder = given.out or weights_folder()
    prepare_folder(folder, used=True)
    held = _held(folder, given)
    scores = _scores(given.scores) if given.scores else {}
    for named in given.other_scores:
        name, _, file = named.partition("=")
        if not name or not file:
            raise CaptionBotError(f"'{shortened(named)}' is not NAME=FILE, as in coco=coco/results.json.")
        scores[name] = _scores(Path(file))
    tried = {"tried": read_json(given.tried)} if given.tried else {}
    card, encoder, decoder = load_to_train(given.run) if given.cnn else cards.load(find_card(given.run))
    Captioner(card, encoder, decoder, torch.device("cpu")).options(**given.search)  # refuses bad ones
    if given.cnn:
        other, donor, _ = cards.load(find_card(given.cnn))
        try:
            for cnn, given_cnn in zip(_cnns(encoder, card), _cnns(donor, other), strict=True):
                cnn.load_state_dict(given_cnn.state_dict())
        except (RuntimeError, ValueError):
            raise CaptionBotError(
                f"The CNN of {other.name} is {other.encoder}, which does not fit {card.name}'s "
                f"{card.encoder}; give a captioner with the same architecture and layer."
            ) from None
    photos = list(_photos(card, given.photos)) if given.photos else []
    training = card.training | tried | ({"cnn": given.cnn} if given.cnn else {})
    card = dataclasses.replace(
        card,
        name=given.name,
        default=given.default,
        description=given.description or card.description,
        licence=given.licence or card.licence,
        scores=scores or card.scores,
        training=training,
        search=card.search | given.search,
        precision=given.precision or card.precision,
        encoder=card.encoder | ({"mirror": True} if given.mirror else {}),
    )
    if photos:
        for grid, size in _own_grids(encoder, held):
            round_cnn(grid.cnn, [resized(photo, size) if size else photo for photo in photos], given.storage)
    with written("The captioner", folder, "run the command again"):
        if given.shared and not held:
            cards.save_part(folder / given.shared, encoder, given.storage)
        return cards.save(folder, card, encoder, decoder, given.storage, given.shared)


def _held(folder: Path, given: argparse.Namespace) -> dict[str, Tensor]:
    """What the shared file has if it is there; CaptionBotError where it is none, or cannot become one."""
    if not given.shared:
        return {}
    path = folder / given.shared
    if path.parent != folder or path.suffix != ".safetensors" or path.stem == given.name:
        raise CaptionBotError(
            f"--shared is {given.shared}; give the name of a .safetensors file in {folder}, another than "
            f"{given.name}.safetensors."
        )
    return read_weights(path) if path.exists() else {}


def _own_grids(encoder: nn.Module, held: Mapping[str, Tensor]) -> list[tuple[GridEncoder, int]]:
    """The CNNs that the shared file does not have, and how large each takes photos; 0 for as they come."""
    sizes = {
        grid: size
        for module in encoder.modules()
        if isinstance(module, ConcatEncoder)
        for grid, size in zip(module.grids, module.config.sizes, strict=True)
    }
    return [(grid, sizes.get(grid, 0)) for grid in _grids(encoder) if not _holds(held, grid)]


def _holds(held: Mapping[str, Tensor], grid: GridEncoder) -> bool:
    """Whether a shared file has tensors like a CNN's, whatever stands before its names."""
    shapes = {name: tensor.shape for name, tensor in grid.state_dict().items()}
    first = next(iter(shapes))
    parts = [name.removesuffix(first) for name in held if name.endswith(first)]
    return any(
        all(part + name in held and held[part + name].shape == shape for name, shape in shapes.items())
        for part in parts
    )


def _scores(path: Path) -> dict[str, Any]:
    results = read_json(path)
    if not isinstance(results, dict) or not results.keys() & set(SCORES):
        raise CaptionBotError(f"{path} has no scores; give the results.json of training.evaluate.")
    return {key: results[key] for key in SCORES if key in results}


def _grids(encoder: nn.Module) -> list[GridEncoder]:
    return [module for module in encoder.modules() if isinstance(module, GridEncoder)]


def _cnns(encoder: nn.Module, card: cards.Card) -> list[fx.GraphModule]:
    """The CNNs of a captioner's grids."""
    if grids := _grids(encoder):
        return [grid.cnn for grid in grids]
    raise CaptionBotError(f"{card.name} has no CNN of a grid, which --cnn and --photos are for.")


def _photos(card: cards.Card, path: Path) -> Iterator[Tensor]:
    """(1, 3, H, W) pixel values of the first photos of a folder or tar."""
    store, preprocessing = open_images(path), Preprocessing.from_json(card.preprocessing)
    for name in store.names()[:PHOTOS]:
        photo = squash(store.load(name), preprocessing)
        yield normalise(photo[None], preprocessing, torch.device("cpu"))
