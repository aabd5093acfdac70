"""What is particular to one family of captioners, in one record: each module of a family ends with its own.

`captionbot.decoders.registry` collects them. Cards, pages, training, the CPU backend and uploads ask there,
so that a new family is a new module, and nothing else has to hear of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from captionbot.decoders.base import Decoder, DecoderConfig
from captionbot.decoders.packing import Packers

ATTENTION = r"\alpha_{ti} = \frac{\exp e_{ti}}{\sum_k \exp e_{tk}}"


@dataclass(frozen=True)
class Equations:
    """How a decoder decides where to look, for a lesson on the pages.

    latex: the equations. source: where they stand. remark: what its training has to do with it, as Markdown.
    """

    latex: str
    source: str
    remark: str = ""


SCALED_PRODUCTS = Equations(
    rf"{ATTENTION}, \quad e_{{ti}} = \frac{{q_t^\top k_i}}{{\sqrt d}}, \quad z_t = \sum_i \alpha_{{ti}} v_i",
    "Vaswani et al., Attention Is All You Need, arXiv 1706.03762, section 3.2.",
)
"""Of every decoder that attends by scaled dot products."""


@dataclass(frozen=True)
class Family:
    """A family of decoders.

    kind: what cards and `--decoder` call it. It is in the cards of captioners, and stays.
    title: what people call it; {cell} in it becomes the configuration's cell, as LSTM.
    decoder, config: the classes; a decoder is built of its configuration alone.
    equations: of its attention, for the pages.
    packers: how modules of it are packed for a CPU, where it is more than PyTorch's own layers one by one.
    limits: the most that the card of a stranger may ask for, by the configuration's field, where fields of
        all families do not say it (`captionbot.pages.uploads`).
    small: configurations by name that `training.overfit` learns a few captions by heart with.
    """

    kind: str
    title: str
    decoder: type[Decoder]
    config: type[DecoderConfig]
    equations: Equations = SCALED_PRODUCTS
    packers: Packers = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    small: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def build(self, config: Mapping[str, Any]) -> Decoder:
        """A new decoder, weights random until they are loaded."""
        return self.decoder(self.config(**config))

    def title_of(self, config: Mapping[str, Any]) -> str:
        """The title of a captioner with such a decoder."""
        cell = str(config.get("cell") or getattr(self.config, "cell", ""))
        return self.title.format(cell=cell.upper())
