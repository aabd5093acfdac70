"""A captioner that a visitor of a page uploads: its card and weights, or a .zip of them.

Strangers write these files. Nothing in them is unpickled or run, and what a card may ask for is limited:
no names of the server's files, no downloads, no network larger than the server can hold.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionbot.errors import CaptionBotError
from captionbot.images.archives import is_archive, members
from captionbot.search.options import SearchOptions
from captionbot.store.card import Card, scale_shapes
from captionbot.store.weights import weights_folder

if TYPE_CHECKING:  # torch takes seconds to import: the pages are there before that
    from captionbot.captioner import Captioner

MAX_MEGABYTES = 200  # of all files together, unpacked; a captioner of the default's size takes 70 in float32
MAX_PARAMETERS = 200_000_000  # as float32 they fill 800 MB

_PACKED, _FOUND = "packed", "found"
_KINDS = (".json", ".safetensors")
_MOST_CHARACTERS = 100
_MOST = 65_536  # of any number in a configuration, but for these, which cost more than a row of a matrix
_MOST_OF = {
    "size": 1024,
    "image_size": 1536,
    "grid": 64,
    "layers": 64,
    "heads": 256,
    "positions": 4096,
    "prefix_length": 1024,
    "max_regions": 300,
    "fpn_cell_repeats": 16,
    "box_class_repeats": 16,
    "num_levels": 8,
    "max_level": 9,
    "num_scales": 5,
}


def load_captioner(files: Sequence[tuple[str, bytes]]) -> Captioner:
    """The captioner of uploaded files, once it has captioned a grey photo without an error.

    files: names and bytes of a card (.json) and its weights (.safetensors), or of one .zip with them.
        A tokenizer that the card names must be among them, and so must the weights that it shares with
        other captioners, unless they ship here.
    Raises CaptionBotError, in one sentence, for anything else, more than MAX_MEGABYTES or MAX_PARAMETERS.
    Nothing of it is left on the disk.
    """
    with tempfile.TemporaryDirectory(prefix="captioner-") as folder:
        try:
            return _load(_unpacked(files, Path(folder)))
        except CaptionBotError as error:
            raise CaptionBotError(_without(folder, error)) from None
        except Exception as error:  # what a card asks for can fail in any layer of any library
            raise CaptionBotError(
                f"This captioner does not work ({_without(folder, error)}): give card and weights as "
                "training wrote them."
            ) from error


def _without(folder: str, error: Exception) -> str:
    """The first line of an error, without the server's folders."""
    text = (str(error) or type(error).__name__).splitlines()[0]
    return text.replace(f"{folder}/{_PACKED}/", "").replace(f"{folder}/{_FOUND}/", "")


def _load(folder: Path) -> Captioner:
    card = _card_in(folder)
    Card.load(card)  # or its sentence
    values = json.loads(card.read_text(encoding="utf-8"))
    _check(values, folder)
    _check_size(values, sorted(folder.glob("*.safetensors")))

    from PIL import Image

    from captionbot.captioner import Captioner

    captioner = Captioner.from_pretrained(card)
    # of subwords: a list of words was counted as the card was loaded
    known, said = len(captioner.vocabulary), values["decoder"]["vocabulary_size"]
    if known != said:
        raise ValueError(f"its vocabulary has {known} words, its decoder {said}")
    captioner.caption([Image.new("RGB", (64, 64), "grey")], captioner.options())
    return captioner


def _unpacked(files: Sequence[tuple[str, bytes]], folder: Path) -> Path:
    """A new folder with the cards, tokenizers and weights among files and .zip archives."""
    packed, found = folder / _PACKED, folder / _FOUND
    packed.mkdir()
    found.mkdir()
    left = MAX_MEGABYTES * 1_000_000
    for name, pieces in _pieces(files, packed):
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


def _pieces(files: Sequence[tuple[str, bytes]], packed: Path) -> Iterator[tuple[str, Iterable[bytes]]]:
    """The last part of each file's name, since a name is a stranger's path, and its bytes."""
    for name, data in files:
        path = packed / Path(name).name
        if path.suffix.lower() == ".zip":
            path.write_bytes(data)
        if is_archive(path):
            for member in members(path):
                inside = Path(member.name).name
                if inside.endswith(_KINDS) and not inside.startswith("."):
                    yield inside, member.pieces()
        elif path.suffix in _KINDS:
            yield path.name, [data]


def _card_in(folder: Path) -> Path:
    cards = [path for path in sorted(folder.glob("*.json")) if path.with_suffix(".safetensors").is_file()]
    if len(cards) == 1:
        return cards[0]
    names = ", ".join(path.name for path in sorted(folder.iterdir())) or "none of these"
    raise CaptionBotError(
        f"A captioner is a card, NAME.json, and its weights, NAME.safetensors, or a .zip of the two; "
        f"found here: {names}."
    )


def _check(values: dict[str, Any], folder: Path) -> None:
    """Refuses a card that names files of the server, or asks for more than a page can give."""
    for part in ("encoder", "decoder", "preprocessing", "search"):
        for key, value in _leaves(values.get(part) or {}, part):
            if isinstance(value, str) and part == "encoder":
                if len(value) > _MOST_CHARACTERS or set(value) & set("/\\:$"):
                    raise CaptionBotError(f"The card's {part} names '{value[:40]}', which pages do not load.")
            elif isinstance(value, int | float) and not abs(value) <= _MOST_OF.get(key, _MOST):
                raise CaptionBotError(f"The card has {key} = {value}, which is more than pages compute with.")
    SearchOptions(**values.get("search", {}))
    vocabulary = values["vocabulary"]
    if isinstance(vocabulary, dict):
        _require(folder, vocabulary.get("source", ""), "tokenizer")
    shared = values.get("shared")
    if shared:
        ships = weights_folder() / Path(shared["file"]).name
        if not (folder / ships.name).is_file() and ships.is_file():
            (folder / ships.name).symlink_to(ships.resolve())
        _require(folder, shared["file"], "encoder's weights")


def _require(folder: Path, name: str, what: str) -> None:
    if Path(name).name != name or not (folder / name).is_file():
        raise CaptionBotError(f"The card names '{name[:40]}' for its {what}: upload that file with it.")


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """What a tree of JSON holds at its ends, each by the key that it, or its list, stands under."""
    if isinstance(value, dict):
        for name, inside in value.items():
            yield from _leaves(inside, name)
    elif isinstance(value, list):
        for inside in value:
            yield from _leaves(inside, key)
    else:
        yield key, value


def _check_size(values: dict[str, Any], weights: Sequence[Path]) -> None:
    """Counts parameters before anything of their size is made."""
    from safetensors import SafetensorError, safe_open

    stored = 0
    for path in weights:
        try:
            with safe_open(path, "pt") as file:
                shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise CaptionBotError(f"{path.name} is no safetensors file ({error}).") from None
        for name, shape in shapes.items():
            stored += math.prod(shape)
            scale = shapes.get(f"{name}.scale")
            if scale is not None and scale not in scale_shapes(shape):
                raise CaptionBotError(f"{path.name} has {scale} scales for the {shape} of {name}.")
    needed = max(stored, *_parameters(values))
    if needed > MAX_PARAMETERS:
        raise CaptionBotError(
            f"This captioner needs {needed / 1e6:.0f} million parameters, where a page takes "
            f"{MAX_PARAMETERS / 1e6:.0f} million at most."
        )


def _parameters(values: dict[str, Any]) -> Iterator[int]:
    """Of the networks that are built to load a card, before parts of them are cut away."""
    import torch
    from torchvision import models

    from captionbot.decoders import build_decoder

    encoder, decoder = dict(values["encoder"]), dict(values["decoder"])
    architecture = encoder.get("architecture", "")
    if architecture not in models.list_models(module=models):
        raise CaptionBotError(f"The card's encoder has no CNN of torchvision, but '{architecture}'.")
    yield max(weights.meta["num_params"] for weights in models.get_model_weights(architecture))
    with torch.device("meta"):  # nothing is allocated
        networks: list[Any] = [build_decoder(decoder.pop("kind"), decoder)]
        if "backbone_name" in encoder.get("detector_options", {}):
            import timm

            networks.append(timm.create_model(encoder["detector_options"]["backbone_name"]))
    for network in networks:
        yield sum(tensor.numel() for tensor in network.state_dict().values())
