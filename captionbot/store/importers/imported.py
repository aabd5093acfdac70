"""What every importer makes of a project's files: a captioner of ours, and its words in our order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionbot.errors import CaptionBotError, shortened
from captionbot.files import read_json

if TYPE_CHECKING:
    from torch import Tensor, nn

    from captionbot.decoders import Decoder

    Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Imported:
    """Encoder and decoder with their weights, and the fields of a card that differ between projects."""

    encoder: nn.Module
    decoder: Decoder
    fields: dict[str, Any]


@dataclass(frozen=True)
class Words:
    """tokens: of our vocabulary; order: (V,) the row of the other project's matrices for each of them."""

    tokens: tuple[str, ...]
    order: list[int]


def words_of(tokens: Sequence[str], specials: Sequence[str]) -> Words:
    """specials: what padding, start, end and unknown are called there. ValueError for what are no words."""
    from captionbot.text.vocabulary import SPECIAL_TOKENS, Vocabulary

    if not all(isinstance(token, str) for token in tokens):
        raise ValueError("a vocabulary is a list of words")
    places = {token: i for i, token in enumerate(tokens)}
    first = [places[token] for token in specials]
    others = [i for i in range(len(tokens)) if i not in first]
    known = Vocabulary((*SPECIAL_TOKENS, *(tokens[i] for i in others)))
    return Words(known.tokens, first + others)


def check_size(words: Words, rows: int) -> None:
    if len(words.order) != rows:
        raise ValueError(f"the vocabulary has {len(words.order)} words where the decoder knows {rows}")


def filled(kind: str, config: dict[str, Any], words: Words, weight: Callable[[str], Tensor]) -> Decoder:
    """A decoder of ours with a project's weights; it is built without any, so odd sizes ask for no memory.

    weight: the project's tensor for each of our names; V rows are in the order of its vocabulary.
    """
    from captionbot.backends.unfilled import unfilled
    from captionbot.decoders import build_decoder

    with unfilled():
        decoder = build_decoder(kind, config)
    state = {name: weight(name).detach().float() for name in decoder.state_dict()}
    for table in ("embedding.weight", "output_word.weight", "output_word.bias"):
        state[table] = state[table][words.order]
    decoder.load_state_dict(state, assign=True)
    return decoder.eval()


def vocabulary_json(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise CaptionBotError(
            f"{shortened(path)} cannot be read as JSON ({shortened(error)}): give a good copy of it."
        ) from None


def is_vocabulary(path: Path) -> bool:
    return path.suffix.lower() in (".json", ".pickle", ".pkl")


def the_one(kind: str, what: str, found: Sequence[Any]) -> Any:
    if len(found) != 1:
        raise CaptionBotError(
            f"{kind} needs one {what}, and {len(found)} are among the files: give all of its files once."
        )
    return found[0]


def listed(files: Sequence[Path]) -> str:
    return shortened(", ".join(path.name for path in files) or "No file")
