"""What is particular to one family of the Hub's captioners; each module of a family ends with its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from captionbot.decoders.hub import HubDecoder

Config = Mapping[str, Any]
"""A model's config.json."""


@dataclass(frozen=True)
class Variant:
    """Another captioner of the same file: what it is asked, and the options of its search."""

    ask: str
    search: Mapping[str, Any]


@dataclass(frozen=True)
class HubFamily:
    """A family of captioners that `transformers` has a class for.

    kind: what cards call it; model_type: what config.json calls it; model: the class.
    title: of a configuration, for people.
    style: of the tokenizer, "bert" or "gpt2".
    prompt: ids before the words, the last of which a search begins with; end: the id that ends a sentence.
    see: the parts of a model that see a photo, and (parts, pixels) -> (B, E + P, C) tokens; beside: E.
    say: a model and the prompt -> the decoder.
    space_first: whether the first word is written with a space before it, where the style tells such apart.
    search: options that the authors publish.
    ask: the words of a question, for those that are asked one; "" without.
    chat: of those that are asked in a chat, in the place of prompt and end: its tokenizer, the configuration
        and the words -> the ids of all before the answer, and the id that ends it.
    variants: names, and what is asked and searched by other captioners of the same file.
    """

    kind: str
    model_type: str
    model: str
    title: Callable[[Config], str]
    style: str
    parts: Callable[[Any], dict[str, nn.Module]]
    see: Callable[[nn.ModuleDict, Tensor], Tensor]
    say: Callable[[Any, Mapping[str, Any]], HubDecoder]
    prompt: Callable[[Config], tuple[int, ...]] | None = None
    end: Callable[[Config], int] | None = None
    beside: int = 1
    space_first: bool = False
    search: Mapping[str, Any] = field(default_factory=dict)
    ask: str = ""
    chat: Callable[[Any, Config, str], tuple[list[int], int]] | None = None
    variants: Mapping[str, Variant] = field(default_factory=dict)
    applies: Callable[[Config], bool] = lambda config: True


def sized(name: str, hidden_size: int, usual: int = 768) -> str:
    """A title with the size of a model, by the width of its layers."""
    size = {usual: "base", 1024: "large"}.get(hidden_size, f"{hidden_size} wide")
    return f"{name} ({size})"
