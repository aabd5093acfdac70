"""A captioner that a visitor of a page uploads: its card and weights, or a .zip of them.

Strangers write these files. Nothing in them is unpickled or run, and what a card may ask for is limited:
no names of the server's files, no downloads, no network larger than the server can hold.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from captionbot.errors import CaptionBotError, displayable, shortened
from captionbot.images.archives import members
from captionbot.search.options import SearchOptions
from captionbot.store import card as cards
from captionbot.store.card import Card
from captionbot.store.folders import weights_folder
from captionbot.store.tensors import shapes_in

if TYPE_CHECKING:  # torch takes seconds to import: the pages are there before that
    from captionbot.captioner import Captioner

MAX_MEGABYTES = 200  # of all files together, unpacked; a captioner of the default's size takes 70 in float32
MAX_PARAMETERS = 200_000_000  # as float32 they fill 800 MB

_PACKED, _FOUND = "packed", "found"
_CARD, _WEIGHTS = _KINDS = (".json", ".safetensors")
_MOST_MEMBERS = 1000  # of an archive; a captioner has four files
_MOST_FILES = 16
_LONGEST_NAME, _LONGEST_TEXT = 100, 2000  # characters, of what pages show of a card
_LONGEST_VALUE = 100  # characters, of a configuration
_MOST = 65_536  # of any number in a configuration, but for these, and what families and encoders limit
_MOST_OF = {
    "size": 1024,
    "beam_size": 20,
    "num_return": 20,
    "max_length": 100,
    "min_length": 100,
    "phrases": 2**20,
    "seed": 2**63,
    "top_k": 2**20,
}
_MOST_OUTPUT = 2**22  # numbers that a layer may give of one photo; a batch has as many for each of its photos
_MOST_ANCHORS = 500_000
_MOST_CNNS = 4
_DETECTOR_OPTIONS = {  # of effdet's; the others name files and downloads, or say how to train
    "backbone_name", "backbone_args", "backbone_indices", "image_size", "num_classes", "min_level",
    "max_level", "num_levels", "num_scales", "aspect_ratios", "anchor_scale", "pad_type", "act_type",
    "head_act_type", "box_class_repeats", "fpn_cell_repeats", "fpn_channels", "fpn_name", "separable_conv",
    "apply_resample_bn", "conv_bn_relu_pattern", "downsample_type", "upsample_type", "redundant_bias",
    "head_bn_level_first",
}  # fmt: skip


def load_captioner(files: Sequence[tuple[str, bytes]]) -> Captioner:
    """The captioner of uploaded files, once it has captioned a grey photo without an error.

    files: as of `checked`, which says what is refused.
    """
    with checked(files) as card:
        return load_checked(card)


@contextmanager
def checked(files: Sequence[tuple[str, bytes]]) -> Iterator[Path]:
    """The card of uploaded files, in a folder that goes as this ends; what it asks for is known to be modest.

    Nothing of the captioner's size is made here, so that others can be at work in the meantime.

    files: names and bytes of a card (.json) and its weights (.safetensors), or of one .zip with them.
        A tokenizer that the card names must be among them, and so must the weights that it shares with
        other captioners, unless they ship here.
    Raises CaptionBotError, in one sentence, for anything else, more than MAX_MEGABYTES or MAX_PARAMETERS, and
    in the place of what is raised inside. Nothing of it is left on the disk.
    """
    with tempfile.TemporaryDirectory(prefix="captioner-") as folder:
        try:
            path = _card_in(_unpacked(files, Path(folder)))
            card = Card.load(path)
            _check(card, path.parent)
            _check_cost(card, path)
            yield path
        except CaptionBotError as error:
            raise CaptionBotError(_without(folder, error)) from None
        except Exception as error:  # what a card asks for can fail in any layer of any library
            raise CaptionBotError(
                f"This captioner does not work ({_without(folder, error)}): give card and weights as "
                "training wrote them."
            ) from error


def load_checked(path: Path) -> Captioner:
    """The captioner of a card that was `checked`."""
    from PIL import Image

    from captionbot.captioner import Captioner

    captioner = Captioner.from_pretrained(path)
    # of subwords: a list of words was counted as the card was loaded
    known, said = len(captioner.vocabulary), captioner.card.decoder["vocabulary_size"]
    if known != said:
        raise ValueError(f"its vocabulary has {known} words, its decoder {said}")
    captioner.caption([Image.new("RGB", (64, 64), "grey")], captioner.options())
    return captioner


def _without(folder: str, error: Exception) -> str:
    """The first line of an error, in brief and without the server's folders."""
    text = (str(error) or type(error).__name__).splitlines()[0]
    return shortened(text.replace(f"{folder}/{_PACKED}/", "").replace(f"{folder}/{_FOUND}/", ""), 500)


# Files


def _unpacked(files: Sequence[tuple[str, bytes]], folder: Path) -> Path:
    """A new folder with the cards, tokenizers and weights among files and .zip archives."""
    packed, found = folder / _PACKED, folder / _FOUND
    packed.mkdir()
    found.mkdir()
    left = MAX_MEGABYTES * 1_000_000
    for count, (name, pieces) in enumerate(_pieces(files, packed), 1):
        if count > _MOST_FILES:
            raise CaptionBotError(
                f"There are more than {_MOST_FILES} cards and weights: upload those of one captioner."
            )
        _check_name(name)
        with (found / name).open("wb") as out:
            for piece in pieces:
                left -= len(piece)
                if left < 0:
                    raise CaptionBotError(
                        f"These files are larger than {MAX_MEGABYTES} MB: store the weights compactly, "
                        "as python -m training.export does."
                    )
                out.write(piece)
    return found


def _check_name(name: str) -> None:
    if len(name) > _LONGEST_NAME or displayable(name) != name:
        raise CaptionBotError(
            f"A file cannot be called '{shortened(name, 40)}' here: give a short, plain name."
        )


def _pieces(files: Sequence[tuple[str, bytes]], packed: Path) -> Iterator[tuple[str, Iterable[bytes]]]:
    """The last part of each file's name, since a name is a stranger's path, and its bytes."""
    for given, data in files:
        name = PurePath(given).name
        if name.lower().endswith(".zip"):
            _check_name(name)
            path = packed / name
            path.write_bytes(data)
            for count, member in enumerate(members(path), 1):
                if count > _MOST_MEMBERS:
                    raise CaptionBotError(
                        f"{name} has more than {_MOST_MEMBERS} files: pack those of one captioner."
                    )
                inside = PurePath(member.name).name
                if inside.endswith(_KINDS) and not inside.startswith("."):
                    yield inside, member.pieces()
        elif name.endswith(_KINDS):
            yield name, [data]


def _card_in(folder: Path) -> Path:
    found = [path for path in sorted(folder.glob(f"*{_CARD}")) if path.with_suffix(_WEIGHTS).is_file()]
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in sorted(folder.iterdir())) or "none of these"
    raise CaptionBotError(
        f"A captioner is a card, NAME.json, and its weights, NAME.safetensors, or a .zip of the two; "
        f"found here: {shortened(names)}."
    )


# What a card asks for


def _check(card: Card, folder: Path) -> None:
    """Refuses a card that names files of the server, or asks for more than a page can give."""
    from captionbot.decoders import family_of
    from captionbot.encoders import encoder_of

    SearchOptions(**card.search)
    for text, most in (
        (card.name, _LONGEST_NAME),
        (card.description, _LONGEST_TEXT),
        (card.licence, _LONGEST_TEXT),
    ):
        if len(text) > most or displayable(text) != text:
            raise CaptionBotError(
                f"The card says '{shortened(text, 40)}', where a line of {most} characters fits."
            )
    kinds: dict[str, Any] = {
        "encoder": encoder_of(card.encoder["kind"]),
        "decoder": family_of(card.decoder["kind"]),
    }
    for part in ("encoder", "decoder", "preprocessing", "search", "evidence"):
        limits = _MOST_OF | dict(kinds[part].limits if part in kinds else {})
        for key, value in _leaves(getattr(card, part), part):
            _check_value(part, key, value, limits)
    if card.encoder["kind"] == "regions":
        _check_detector(card.encoder)
    if isinstance(card.vocabulary, dict):
        source = Path(card.vocabulary.get("source", ""))  # `Card.load` says where it found it
        _require(folder, source.name if source.parent == folder else str(source), "tokenizer", _CARD)
    if card.shared:
        ships = weights_folder() / Path(card.shared["file"]).name
        if not (folder / ships.name).is_file() and ships.is_file():
            (folder / ships.name).symlink_to(ships.resolve())
        _require(folder, card.shared["file"], "encoder's weights", _WEIGHTS)


def _check_value(part: str, key: str, value: Any, limits: Mapping[str, int]) -> None:
    if isinstance(value, str) and (len(value) > _LONGEST_VALUE or set(value) & set("/\\:$")):
        raise CaptionBotError(f"The card's {part} names '{shortened(value, 40)}', which pages do not load.")
    if isinstance(value, int | float) and not abs(value) <= limits.get(key, _MOST):
        raise CaptionBotError(
            f"The card has {shortened(key, 40)} = {shortened(value, 40)}, more than pages compute with."
        )


def _require(folder: Path, name: str, what: str, ending: str) -> None:
    if Path(name).name != name or not name.endswith(ending) or not (folder / name).is_file():
        raise CaptionBotError(
            f"The card names '{shortened(name, 40)}' for its {what}: upload that file with it."
        )


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """What a tree of JSON holds at its ends, each by the key that it, or its list, stands under."""
    if isinstance(value, dict):
        for name, inside in value.items():
            yield from _leaves(inside, name)
    elif isinstance(value, list | tuple):
        for inside in value:
            yield from _leaves(inside, key)
    else:
        yield key, value


def _check_detector(encoder: dict[str, Any]) -> None:
    """What a detector may be told. Its anchors are made in full as it is built: they are counted before."""
    from effdet import get_efficientdet_config
    from effdet.config.model_config import efficientdet_model_param_dict

    name, options = encoder.get("detector", "tf_efficientdet_d1"), encoder.get("detector_options", {})
    if name not in efficientdet_model_param_dict:
        raise CaptionBotError(f"'{shortened(name, 40)}' is not a detector of effdet: name one.")
    if unknown := sorted(set(options) - _DETECTOR_OPTIONS):
        raise CaptionBotError(
            f"The card's detector has the option '{shortened(unknown[0], 40)}', which pages do not load."
        )
    if options.get("backbone_args"):
        raise CaptionBotError("The card's detector has arguments for its backbone, which pages do not load.")
    config = {**get_efficientdet_config(name), **options}
    levels = range(config["min_level"], config["max_level"] + 1)
    if len(encoder.get("detector_layers", ())) > len(levels):
        raise CaptionBotError(
            f"The card's detector has {len(levels)} levels and maps for more: give it fewer."
        )
    if levels.start < 1 or min(config["image_size"]) < 32:
        raise CaptionBotError("The card's detector needs levels from 1, and an image of 32 pixels at least.")
    cells = sum(math.prod(math.ceil(side / 2**level) for side in config["image_size"]) for level in levels)
    if cells * config["num_scales"] * len(config["aspect_ratios"]) > _MOST_ANCHORS:
        raise CaptionBotError(f"The card's detector has more than {_MOST_ANCHORS} anchors: give it fewer.")


def _check_cost(card: Card, path: Path) -> None:
    """Counts parameters, and what layers give of a photo, before anything of their size is made."""
    from torchvision import models

    from captionbot.encoders.efficientnet_lite import SCALES

    architectures = [name for key, name in _leaves(card.encoder, "") if key.startswith("architecture")]
    known = models.list_models(module=models)
    for architecture in architectures[:_MOST_CNNS] or [""]:
        if architecture in known:
            _check_parameters(max(w.meta["num_params"] for w in models.get_model_weights(architecture)))
        elif architecture not in SCALES:
            raise CaptionBotError(
                f"The card's encoder has no CNN of torchvision, but '{shortened(architecture, 40)}'."
            )
    if len(architectures) > _MOST_CNNS:
        raise CaptionBotError(f"The card's encoder has more than {_MOST_CNNS} CNNs: give it fewer.")
    files = [path.with_suffix(_WEIGHTS), *([path.with_name(card.shared["file"])] if card.shared else [])]
    _check_parameters(sum(math.prod(shape) for file in files for shape in shapes_in(file).values()))
    _, encoder, decoder = cards.skeleton(path)
    _check_parameters(sum(t.numel() for part in (encoder, decoder) for t in part.state_dict().values()))
    numbers = _largest_output(encoder, decoder, card.preprocessing["size"])
    if numbers > _MOST_OUTPUT:
        raise CaptionBotError(
            f"A layer of this captioner gives {numbers} numbers of one photo, where a page takes "
            f"{_MOST_OUTPUT}: give it smaller photos."
        )


def _largest_output(encoder: Any, decoder: Any, size: tuple[int, int]) -> int:
    """The most numbers that any step gives of one photo, up to the decoder's start; nothing is computed."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    from captionbot.encoders import RegionEncoder, features_on_meta

    most = 0

    class Watched(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal most
            given = func(*args, **(kwargs or {}))
            if not func.is_view:  # of weights, as a rule
                for value in given if isinstance(given, tuple | list) else (given,):
                    most = max(most, value.numel() if isinstance(value, torch.Tensor) else 0)
            return given

    with Watched():  # type: ignore[no-untyped-call]
        if isinstance(encoder, RegionEncoder):
            pixels = torch.empty(1, 3, *encoder.detector.size, device="meta")
            encoder.detector.net(encoder.maps(pixels) if encoder.config.detector_cnn else pixels)
        decoder.start(features_on_meta(encoder, size))
    return most


def _check_parameters(needed: int) -> None:
    if needed > MAX_PARAMETERS:
        raise CaptionBotError(
            f"This captioner needs {needed / 1e6:.0f} million parameters, where a page takes "
            f"{MAX_PARAMETERS / 1e6:.0f} million at most."
        )
