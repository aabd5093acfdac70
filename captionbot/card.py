"""A captioner on disk: `NAME.json`, the card that says all about it, beside `NAME.safetensors`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionbot.errors import CaptionBotError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from captionbot.decoders import Decoder
    from captionbot.encoders import GridEncoder

STORAGES = ("float32", "float16", "int8")
_SCALE = ".scale"


@dataclass(frozen=True)
class Card:
    """What a captioner is, where it comes from and how good it was measured to be.

    encoder, decoder: {"kind": a key of ENCODERS or DECODERS, **configuration}.
    preprocessing: fields of `captionbot.images.Preprocessing`.
    vocabulary: tokens in the order of their ids.
    search: the options of `SearchOptions` that it was chosen with.
    training: data, seed, commands, and the table of what was tried.
    scores: measured ones by name, with the split, beam size and command that give them again.
    parameters, size_bytes, sha256: of the weights, filled in as they are saved.
    """

    name: str
    family: str
    encoder: dict[str, Any]
    decoder: dict[str, Any]
    preprocessing: dict[str, Any]
    vocabulary: tuple[str, ...]
    search: dict[str, Any] = field(default_factory=dict)
    description: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    default: bool = False
    storage: str = "float32"
    parameters: int = 0
    size_bytes: int = 0
    sha256: str = ""

    @classmethod
    def load(cls, path: Path) -> Card:
        """Read a card; CaptionBotError where the file is none."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            known = {f.name for f in dataclasses.fields(cls)}
            return cls(
                **{k: v for k, v in values.items() if k in known}
                | {"vocabulary": tuple(values["vocabulary"])}
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CaptionBotError(
                f"{path} is not the card of a captioner ({type(error).__name__}: {error}); "
                "give a JSON card that was written beside its safetensors."
            ) from None

    def write(self, path: Path) -> None:
        path.write_text(
            json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def save(folder: Path, card: Card, encoder: nn.Module, decoder: nn.Module, storage: str = "float32") -> Path:
    """Write card and weights to a folder and return the card's path.

    The card comes last, so that a half is never taken for a whole.

    storage: float32, float16, or int8 (matrices with a scale a row, everything else float16).
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    modules = {"encoder": encoder, "decoder": decoder}
    tensors = {
        f"{part}.{name}": t for part, module in modules.items() for name, t in _own_tensors(module).items()
    }
    weights = folder / f"{card.name}.safetensors"
    partial = weights.with_suffix(".safetensors.part")
    save_file(pack(tensors, storage), partial)
    partial.replace(weights)
    filled = dataclasses.replace(
        card,
        storage=storage,
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        size_bytes=weights.stat().st_size,
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
    )
    path = folder / f"{card.name}.json"
    filled.write(path)
    return path


def load(path: Path) -> tuple[Card, GridEncoder, Decoder]:
    """Card, encoder and decoder in evaluation mode on the CPU. CaptionBotError for weights that don't fit."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    from captionbot.decoders import build_decoder
    from captionbot.encoders import build_encoder

    card = Card.load(path)
    weights = path.with_suffix(".safetensors")
    try:
        data = weights.read_bytes()
        if card.sha256 and hashlib.sha256(data).hexdigest() != card.sha256:
            raise CaptionBotError(
                f"{weights} is not the file that its card describes (sha256 differs); fetch it again."
            )
        tensors = unpack(load_tensors(data))
        with torch.device("meta"):  # no time is lost on random weights
            decoder = build_decoder(**_spec(card.decoder))
        encoder = build_encoder(**_spec(card.encoder))
        encoder.load_state_dict(_part(tensors, "encoder."), assign=True)
        _load_tied(decoder, _part(tensors, "decoder."))
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise CaptionBotError(
            f"The weights {weights} cannot be loaded ({str(error).splitlines()[0]}); fetch them again."
        ) from None
    return card, encoder.eval().requires_grad_(False), decoder.eval().requires_grad_(False)


def pack(tensors: Mapping[str, Tensor], storage: str) -> dict[str, Tensor]:
    """Tensors as they are stored; int8 keeps round(x / scale) with scale = max|row| / 127 for every row."""
    import torch

    if storage not in STORAGES:
        raise CaptionBotError(f"'{storage}' is no way to store weights; choose one of {', '.join(STORAGES)}.")
    packed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        tensor = value.detach().cpu().float().contiguous()
        if storage == "int8" and tensor.ndim == 2 and tensor.shape[0] > 1:
            scale = (tensor.abs().amax(1) / 127).clamp(min=1e-8)
            packed[name] = (tensor / scale[:, None]).round().to(torch.int8)
            packed[name + _SCALE] = scale
        else:
            packed[name] = tensor if storage == "float32" else tensor.half()
    return packed


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """float32 tensors from stored ones."""
    scales = {name for name in packed if name.endswith(_SCALE) and name.removesuffix(_SCALE) in packed}
    return {
        name: value.float() * packed[name + _SCALE].float()[:, None]
        if name + _SCALE in scales
        else value.float()
        for name, value in packed.items()
        if name not in scales
    }


def _own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A module's tensors, one that is shared under two names once."""
    seen: set[int] = set()
    own = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            own[name] = tensor
    return own


def _load_tied(decoder: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load and tie again: replacing a parameter (assign) would leave its twin behind."""
    first: dict[int, str] = {}
    twins = {}
    for name, tensor in decoder.state_dict(keep_vars=True).items():
        if first.setdefault(id(tensor), name) != name:
            twins[name] = first[id(tensor)]
    decoder.load_state_dict(tensors | {twin: tensors[name] for twin, name in twins.items()}, assign=True)
    for twin, name in twins.items():
        parent, _, attribute = twin.rpartition(".")
        setattr(decoder.get_submodule(parent), attribute, decoder.get_parameter(name))


def _spec(spec: dict[str, Any]) -> dict[str, Any]:
    return {"kind": spec["kind"], "config": {k: v for k, v in spec.items() if k != "kind"}}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
