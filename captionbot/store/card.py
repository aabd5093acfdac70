"""A captioner on disk: `NAME.json`, the card that says all about it, beside `NAME.safetensors`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionbot.backends.user import name_cache_folder
from captionbot.errors import CaptionBotError, shortened
from captionbot.fields import check_fields
from captionbot.files import aside, read_json
from captionbot.search.options import SearchOptions
from captionbot.store.folders import SHIPPED
from captionbot.store.memory import check_room
from captionbot.store.tensors import BLOCK, SCALE, shapes_in
from captionbot.text.vocabulary import SUBWORDS, SubwordVocabulary, Vocabulary

if TYPE_CHECKING:
    from torch import Tensor, nn

    from captionbot.decoders import Decoder
    from captionbot.encoders.base import Encoder

STORAGES = ("float32", "float16", "int8", "int8-all")
_ROOM = 5.5  # bytes for each parameter: of float32, of what is packed, and of a photo's activations
FEW = 2**16  # numbers of a matrix that costs little in float16; a CNN's first ones suffer most from rounding


@dataclass(frozen=True)
class Card:
    """What a captioner is, where it comes from and how good it was measured to be.

    title: what people call a captioner of its kind, filled in from its family; `pages.captioners` tells two
        of a kind apart.
    encoder, decoder: {"kind": a key of ENCODERS or FAMILIES, **configuration}.
    preprocessing: fields of `captionbot.images.load.Preprocessing`.
    vocabulary: tokens in the order of their ids, or where the tokenizer lies, as `load_vocabulary` reads it.
    search: the options of `SearchOptions` that it was chosen with.
    precision: what it computes in on a CPU unless told otherwise, see
        `captionbot.backends.cpu.precision.choose`: "auto" where its scores were measured so.
    evidence: how `decoders.evidence.WordEvidence` is built, {} where the captioner has none.
    confidence: how it judges its captions (`search.confidence.Confidence`) and what that was measured to be
        worth, {} where it does not.
    training: data, seed, settings, and the table of what was tried.
    scores: measured ones by name, with the split and beam size.
    shared: where a part of the weights (an encoder that several captioners have) lies in a file of its
        own beside the card: {"file": its name, "sha256": ..., "part": the prefix of its tensors}.
    source: of the Hugging Face Hub's: {"id", "revision" (a commit), "file"}; such a card's storage is
        "published", and its weights are the file as it was published.
    parameters: of the whole captioner; size_bytes, sha256: of its own weights. Filled in as they are saved.
    """

    name: str
    family: str
    encoder: dict[str, Any]
    decoder: dict[str, Any]
    preprocessing: dict[str, Any]
    vocabulary: tuple[str, ...] | dict[str, Any]
    search: dict[str, Any] = field(default_factory=dict)
    precision: str = "float32"
    evidence: dict[str, int] = field(default_factory=dict)
    confidence: dict[str, Any] = field(default_factory=dict)
    description: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    default: bool = False
    storage: str = "float32"
    shared: dict[str, str] = field(default_factory=dict)
    parameters: int = 0
    size_bytes: int = 0
    sha256: str = ""
    title: str = ""
    source: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Card:
        """Read a card; CaptionBotError where the file is none."""
        try:
            values = read_json(path)
            known = {f.name for f in dataclasses.fields(cls)}
            vocabulary = values["vocabulary"]
            if isinstance(vocabulary, dict):
                beside = path.parent / vocabulary["source"]
                vocabulary |= {"source": str(beside)} if beside.is_file() else {}
            else:
                vocabulary = tuple(vocabulary)
            card = cls(**{k: v for k, v in values.items() if k in known} | {"vocabulary": vocabulary})
            check_fields(card)
            return card if card.title else card.titled()  # a card of 0.1: torch is imported for it
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CaptionBotError(
                f"{shortened(path)} is not the card of a captioner ({_reason(error)}); "
                "give a JSON card that was written beside its safetensors."
            ) from None

    @property
    def is_hub(self) -> bool:
        """Whether it is of the Hugging Face Hub, its network and weights as they were published."""
        return self.encoder.get("kind") == "hub"

    def titled(self) -> Card:
        """The card with its family's title, or its own name where there is no such family."""
        if self.is_hub and self.title:
            return self
        from captionbot.decoders import FAMILIES

        family = FAMILIES.get(str(self.decoder.get("kind")))
        return dataclasses.replace(self, title=family.title_of(self.decoder) if family else self.name)

    def write(self, path: Path) -> None:
        path.write_text(
            json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def room_of(parameters: int) -> int:
    """Bytes of memory that a captioner of the Hub needs, beside those of a process with torch."""
    return int(_ROOM * parameters)


def save(
    folder: Path,
    card: Card,
    encoder: nn.Module,
    decoder: nn.Module,
    storage: str = "float32",
    shared: str = "",
) -> Path:
    """Write card and weights to a folder and return the card's path.

    The card comes last, so that a half is never taken for a whole.

    storage: float32, float16, int8 (matrices with a scale a row, everything else float16), or int8-all
        (convolutions too, with a scale for each 64 numbers).
    shared: name of a file in the folder, written by `save_part`, whose tensors are not written again.
    """
    tensors = _tensors(encoder, decoder)
    found: dict[str, str] = {}
    own = tensors
    if shared:
        data, held = _read(folder / shared)
        part = _part_of(tensors, held, shared)
        found = {"file": shared, "sha256": hashlib.sha256(data).hexdigest(), "part": part}
        own = {name: t for name, t in tensors.items() if name.removeprefix(part) not in held}
    weights = _write(folder / f"{card.name}.safetensors", own, storage)
    vocabulary = card.vocabulary
    if isinstance(vocabulary, dict):  # so that the captioner needs no network
        tokenizer = SubwordVocabulary.load(**vocabulary)
        vocabulary = {"kind": tokenizer.kind, "source": f"{card.name}.tokenizer.json"}
        tokenizer.save(folder / vocabulary["source"])
    filled = dataclasses.replace(
        card.titled(),
        vocabulary=vocabulary,
        storage=storage,
        shared=found,
        parameters=sum(t.numel() for t in tensors.values() if t.is_floating_point()),
        size_bytes=weights.stat().st_size,
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
    )
    path = folder / f"{card.name}.json"
    filled.write(path)
    return path


def save_part(path: Path, module: nn.Module, storage: str) -> None:
    """Write a module's weights to a file that several cards can share."""
    _write(path, _own_tensors(module), storage)


def load(path: Path) -> tuple[Card, nn.Module, Decoder]:
    """Card, encoder and decoder in evaluation mode on the CPU. CaptionBotError for weights that don't fit."""
    if (hub := Card.load(path)).is_hub:
        from captionbot.hub import loading

        _check(hub, path)
        check_room(room_of(hub.parameters), hub.title)
        with _sentence(path):
            model = loading.load(hub.encoder, path.with_suffix(".safetensors"))
            return hub, *loading.split(model, hub.encoder, hub.decoder)
    card, encoder, decoder = skeleton(path)
    with _sentence(path):
        _, tensors = _read(path.with_suffix(".safetensors"), card.sha256)
        if card.shared:
            _, held = _read(path.with_name(card.shared["file"]), card.shared["sha256"])
            tensors |= {card.shared["part"] + name: tensor for name, tensor in held.items()}
        if broken := next((name for name, tensor in tensors.items() if not tensor.sum().isfinite()), None):
            raise ValueError(f"{shortened(broken, 100)} is not finite, as after a training that diverged")
        encoder.load_state_dict(_part(tensors, "encoder."), assign=True)
        _load_tied(decoder, _part(tensors, "decoder."))
    return card, encoder.eval().requires_grad_(False), decoder.eval().requires_grad_(False)


def skeleton(path: Path) -> tuple[Card, nn.Module, Decoder]:
    """Card, encoder and decoder without their weights, which are on "meta": nothing of their size is made.

    Raises CaptionBotError where they do not fit each other.
    """
    from captionbot.backends.unfilled import unfilled
    from captionbot.decoders import build_decoder
    from captionbot.decoders.evidence import WordEvidence
    from captionbot.encoders import build_encoder
    from captionbot.search.confidence import Confidence

    name_cache_folder()
    card = Card.load(path).titled()  # what a stranger's card says of it is not shown
    _check(card, path)
    with _sentence(path):
        with unfilled():
            decoder = build_decoder(**_spec(card.decoder))
            if card.evidence:
                decoder.evidence = WordEvidence(decoder.config.feature_size, **card.evidence)
            encoder = build_encoder(**_spec(card.encoder))
        if card.confidence:
            confidence = Confidence.read(card.confidence)
            if decoder.evidence is None or len(confidence.spread) != decoder.evidence.numbers:
                raise ValueError("its confidence does not fit its word evidence")
        check_fields(encoder.config)
        check_fields(decoder.config)
        if decoder.config.dropout > 1:
            raise ValueError(f"its dropout is {decoder.config.dropout}, more than 1")
        if path.parent != SHIPPED:  # those were checked as they were made, and torch takes a second for it
            _check_features(card, encoder, decoder)
    return card, encoder, decoder


def _check_features(card: Card, encoder: Encoder, decoder: Decoder) -> None:
    features = encoder.on_meta(card.preprocessing["size"])
    given, taken = features.values.shape[-1], decoder.config.feature_size
    if given != taken:
        raise ValueError(f"its encoder gives {given} numbers a place, its decoder takes {taken}")
    decoder.start(features)  # which takes no more places than it was made for


@contextmanager
def _sentence(path: Path) -> Iterator[None]:
    """Networks of a damaged configuration fail in any way: one sentence for all of them."""
    try:
        yield
    except CaptionBotError:
        raise
    except Exception as error:
        raise CaptionBotError(
            f"The captioner {shortened(path)} cannot be loaded ({_reason(error)}); fetch its card and its "
            "weights again."
        ) from None


def _check(card: Card, path: Path) -> None:
    """CaptionBotError where a captioner could be loaded by the card, and would fail at its first photo."""
    from captionbot.images.load import Preprocessing  # here, as a list of cards needs no Pillow

    try:
        Preprocessing.from_json(card.preprocessing)
        SearchOptions(**card.search)
        if isinstance(card.vocabulary, dict):  # its tokenizer is read once, by the captioner
            if card.vocabulary.get("kind") not in (*SUBWORDS, *["hub"] * card.is_hub):
                raise ValueError(f"its vocabulary must be of a kind of {', '.join(SUBWORDS)}")
        else:
            words, known = len(Vocabulary(card.vocabulary)), card.decoder["vocabulary_size"]
            if words != known:
                raise ValueError(f"its vocabulary has {words} words, its decoder {known}")
        if card.shared and Path(card.shared["file"]).name != card.shared["file"]:
            raise ValueError(f"the shared file must lie beside it, not at {shortened(card.shared['file'])}")
    except (CaptionBotError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise CaptionBotError(
            f"{shortened(path)} is a damaged card ({_reason(error)}): put a good copy of it there."
        ) from None


def _reason(error: Exception) -> str:
    """What an error says, in brief: a key that is missing says no more than its name."""
    lines = str(error).splitlines()[:2]  # the first may be a mere heading
    said = " ".join(line.strip() for line in lines).rstrip(".")
    kind = type(error).__name__
    return shortened(f"{kind}: {said}" if isinstance(error, KeyError) else said or kind)


def _tensors(encoder: nn.Module, decoder: nn.Module) -> dict[str, Tensor]:
    modules = {"encoder": encoder, "decoder": decoder}
    return {
        f"{part}.{name}": t for part, module in modules.items() for name, t in _own_tensors(module).items()
    }


def _write(path: Path, tensors: Mapping[str, Tensor], storage: str) -> Path:
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    with aside(path) as partial:
        partial.write_bytes(save(pack(tensors, storage)))  # `save_file` would let nobody else read it
    return path


def _read(path: Path, sha256: str = "") -> tuple[bytes, dict[str, Tensor]]:
    """A file's bytes and its tensors; CaptionBotError where it is not the file of that hash."""
    from safetensors.torch import load as load_tensors

    shapes_in(path)
    data = path.read_bytes()
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise CaptionBotError(
            f"{shortened(path)} is not the file that its card describes (sha256 differs); fetch it again."
        )
    return data, unpack(load_tensors(data))


def _part_of(tensors: Mapping[str, Tensor], held: Mapping[str, Tensor], file: str) -> str:
    """The prefix under which a captioner has all tensors of a shared file, but for their rounding."""
    first = next(iter(held))
    for name in tensors:
        part = name.removesuffix(first)
        if name != part and all(
            part + n in tensors
            and tensors[part + n].shape == t.shape
            and bool((tensors[part + n].detach().cpu() - t).norm() <= 0.02 * t.norm())
            for n, t in held.items()
        ):
            return part
    raise CaptionBotError(
        f"This captioner does not have the weights of {file}; share the file of the encoder that it was "
        "trained on, or none."
    )


def pack(tensors: Mapping[str, Tensor], storage: str) -> dict[str, Tensor]:
    """Tensors as they are stored; int8 keeps round(x / scale), as of `scales`.

    Tensors of fewer than `FEW` numbers stay in float16, and so do convolutions but in int8-all. Integers
    stay as they are.
    """
    import torch

    if storage not in STORAGES:
        raise CaptionBotError(
            f"'{shortened(storage)}' is no way to store weights; choose one of {', '.join(STORAGES)}."
        )
    packed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if not value.is_floating_point():  # ids, which no rounding may change
            packed[name] = value.detach().cpu().contiguous()
            continue
        tensor = value.detach().cpu().float().contiguous()
        if is_rounded(tensor, storage):
            scale = scales(tensor)
            rows = tensor.flatten(1)
            whole = (rows / by_number(scale.float(), rows)).round().clamp(-127, 127)
            packed[name] = whole.to(torch.int8).view_as(tensor)
            packed[name + SCALE] = scale
        else:
            packed[name] = tensor if storage == "float32" else tensor.half()
    return packed


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """float32 tensors from stored ones."""
    held = {name for name in packed if name.endswith(SCALE) and name.removesuffix(SCALE) in packed}

    def whole(name: str, value: Tensor) -> Tensor:
        if name + SCALE in held:
            rows = value.flatten(1)
            return (rows * by_number(packed[name + SCALE].float(), rows)).view_as(value)
        return value.float() if value.is_floating_point() else value

    return {name: whole(name, value) for name, value in packed.items() if name not in held}


def is_rounded(tensor: Tensor, storage: str) -> bool:
    """Whether `pack` keeps a tensor in 8-bit integers."""
    rounds = tensor.ndim == 2 if storage == "int8" else storage == "int8-all" and tensor.ndim > 1
    return rounds and tensor.shape[0] > 1 and tensor.numel() >= FEW


def scales(tensor: Tensor) -> Tensor:
    """float16 scales of a tensor in int8, which bring the largest number of each row or block to 127.

    A matrix has one a row, (rows,), so that its integers can be multiplied as they are; a convolution, which
    would suffer, one for each `BLOCK` numbers of what makes an output channel, (rows, blocks).
    """
    import torch

    rows = tensor.flatten(1)
    if tensor.ndim > 2:
        rows = torch.nn.functional.pad(rows, (0, -rows.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
    return (rows.abs().amax(-1) / 127).clamp(min=1e-7).half()


def by_number(scale: Tensor, rows: Tensor) -> Tensor:
    """Scales of blocks, or of whole rows, as a tensor that multiplies (rows, N)."""
    if scale.ndim == 1:
        return scale.unsqueeze(1)
    return scale.repeat_interleave(BLOCK, 1)[:, : rows.shape[1]]


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
