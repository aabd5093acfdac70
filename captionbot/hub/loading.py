"""A published model's configuration and weights -> an encoder and a decoder of ours.

transformers' own `from_pretrained` reads the file, since it knows how names of layers changed over the years;
it warns of matrices that are missing and fills them with random numbers, which is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from logging import ERROR, getLogger
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionbot.decoders.hub import HubDecoder
from captionbot.encoders.hub import HubEncoder, HubEncoderConfig
from captionbot.errors import CaptionBotError, shortened
from captionbot.extras import require
from captionbot.hub import family_of

if TYPE_CHECKING:
    from torch import Tensor

_LEFT_OUT = re.compile(r"position_ids$|\.attn\.(bias|masked_bias)$|\.crossattention\.(bias|masked_bias)$")
"""Tensors of old files that are no weights: positions counted up, masks."""
_LARGE = 1_000_000  # bytes


def split(
    model: Any, encoder: Mapping[str, Any], decoder: Mapping[str, Any]
) -> tuple[HubEncoder, HubDecoder]:
    """The parts of a model that see and that say, as a card's `encoder` and `decoder` describe them."""
    family = family_of(encoder["family"])
    sees = HubEncoder(
        HubEncoderConfig(family.kind, dict(encoder["config"])), family.parts(model), family.see, family.beside
    )
    says = family.say(model, decoder)
    return sees.eval().requires_grad_(False), says.eval().requires_grad_(False)


def on_meta(encoder: Mapping[str, Any]) -> Any:
    """The model of a configuration without its weights, on "meta"."""
    from captionbot.backends.unfilled import unfilled

    config, model = _classes(encoder)
    with _quiet(), unfilled():
        return model(config)


def load(encoder: Mapping[str, Any], weights: Path, mapped: bool = False) -> Any:
    """The model with its weights; CaptionBotError where a tensor is missing.

    mapped: whether its numbers stay in the file until they are asked for, for a model that is only checked.
        Else they are read, so that each is let go of as its layer is packed: a mapping stays whole.
    """
    import torch

    config, model = _classes(encoder)
    with _quiet():
        found, info = model.from_pretrained(
            None,
            config=config,
            state_dict=_tensors(weights, mapped),
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, in a sentence
        )
    _check(info, weights)
    return found


def _tensors(weights: Path, mapped: bool) -> dict[str, Tensor]:
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        names = list(file.keys())
        if mapped:
            return {name: file.get_tensor(name) for name in names}
    tensors = {}
    for name in names:
        with safe_open(weights, "pt") as file:  # anew, as what is read of a mapping stays in memory with it
            tensors[name] = _copied(file.get_tensor(name))
    return tensors


def _copied(tensor: Tensor) -> Tensor:
    """A copy; a large one has memory of its own, which the system gets back once nobody holds it. What
    malloc freed between other things stays with a process that loads in a thread, as pages do."""
    import torch

    if tensor.nbytes < _LARGE:
        return tensor.clone()
    memory = torch.frombuffer(mmap(-1, tensor.nbytes), dtype=tensor.dtype)
    return memory.view(tensor.shape).copy_(tensor)


def vocabulary_size(encoder: Mapping[str, Any]) -> int:
    """How many ids the words of a model have."""
    config = _classes(encoder)[0].get_text_config(decoder=True)
    return int(config.vocab_size)


def image_size(encoder: Mapping[str, Any]) -> int:
    """The side of the photos that it sees, in pixels."""
    config, _ = _classes(encoder)
    sees = getattr(config, "vision_config", None) or getattr(config, "encoder", config)
    size = getattr(sees, "image_size", 224)
    return int(size if isinstance(size, int) else size[0])


def _check(info: Mapping[str, Any], weights: Path) -> None:
    unknown = [name for name in info["unexpected_keys"] if not _LEFT_OUT.search(name)]
    for names, what in (
        (info["missing_keys"], "lacks tensors of its model"),
        (info["mismatched_keys"], "has tensors in another shape than its model"),
        (unknown, "has tensors that its model has not"),
    ):
        if names:
            first = min(str(name[0] if isinstance(name, tuple) else name) for name in names)
            raise CaptionBotError(
                f"{shortened(weights)} {what} ({len(names)}, the first is {shortened(first, 100)}), and "
                "would caption nonsense: fetch it again, or give the weights that belong to its "
                "config.json."
            )


def _classes(encoder: Mapping[str, Any]) -> tuple[Any, Any]:
    """The configuration and the class of a model, of `transformers`."""
    require("transformers", "transformers", "A captioner of the Hugging Face Hub")
    import transformers

    family = family_of(encoder["family"])
    try:
        config = transformers.CONFIG_MAPPING[family.model_type].from_dict(deepcopy(encoder["config"]))
        return config, getattr(transformers, family.model)
    except Exception as error:  # a configuration can be wrong in any way
        raise CaptionBotError(
            f"Its config.json is none of {family.kind} ({shortened(error, 100)}): give the one that was "
            "published with its weights."
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's progress bars and warnings, whose cases `load` refuses."""
    from transformers.utils import logging

    theirs: Any = logging  # which has no types
    logger = getLogger("transformers")
    before, bars = logger.level, theirs.is_progress_bar_enabled()
    logger.setLevel(ERROR)
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(before)
        if bars:
            theirs.enable_progress_bar()
