"""A captioner in which everything is known: its word hangs on known cells, and it claims to look at others or
at them."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d

from captionbot import Captioner
from captionbot.decoders import Decoder, State
from captionbot.encoders import grid_boxes
from captionbot.store.card import Card
from captionbot.types import Caption, Features

SIZE = 32
SEEN = 18  # the one cell of 8 x 8 that the word hangs on
BLOCK = [8 * row + column for row in (2, 3, 4, 5) for column in (2, 3, 4, 5)]  # or a quarter of them


def photo_with(cells: list[int]) -> Image.Image:
    """Noise around grey, and some of 8 x 8 cells white."""
    pixels = np.random.default_rng(0).integers(60, 100, (SIZE, SIZE, 3)).astype(np.uint8)
    side = SIZE // 8
    for row, column in (divmod(cell, 8) for cell in cells):
        pixels[side * row : side * (row + 1), side * column : side * (column + 1)] = 255
    return Image.fromarray(pixels)


class Brightness(nn.Module):
    """The mean of each of 8 x 8 cells, as its one channel; or the same as boxes, the whole photo first."""

    def __init__(self, regions: bool = False) -> None:
        super().__init__()
        self.regions = regions

    def forward(self, pixels: torch.Tensor) -> Features:
        values = adaptive_avg_pool2d(pixels.mean(1, keepdim=True), 8).flatten(2).transpose(1, 2)
        boxes = grid_boxes(8, 8)
        if not self.regions:
            return Features(values, boxes, (8, 8))
        values = torch.cat([values.mean(1, keepdim=True), values], 1)
        return Features(values, torch.cat([torch.tensor([[[0.0, 0.0, 1.0, 1.0]]]), boxes], 1))


class Cells(Decoder):
    """Says word 5 the more surely the brighter the cells `seen` are, and claims to look at others or at
    them."""

    def __init__(self, claimed: list[int] | None, places: int = 64, seen: list[int] | None = None) -> None:
        super().__init__()
        self.attends = claimed is not None
        self.alphas = torch.full((1, places), 0.1 / places)
        self.alphas[0, slice(None) if claimed is None else claimed] += 1
        self.alphas /= self.alphas.sum()
        self.seen = [cell + places - 64 for cell in seen or [SEEN]]

    def start(self, features: Features) -> State:
        value = features.values[:, self.seen].mean(1)
        return State({"value": value}, {"read": features.values[:, 0] * 0})

    def advance(self, token_ids: torch.Tensor, state: State) -> tuple[torch.Tensor, torch.Tensor, State]:
        read = state.rows["read"] + 1
        value = state.images["value"].repeat_interleave(len(read) // len(state.images["value"]), 0)
        first = torch.cat([value * 0, value * 0 - 2, 3 * value], -1)  # the end, word 4, word 5
        later = torch.cat([value * 0 + 4, value * 0, value * 0], -1)
        alphas = self.alphas.expand(len(read), -1)
        return torch.where(read < 2, first, later), alphas, State(state.images, {"read": read})

    def logits(self, output: torch.Tensor) -> torch.Tensor:
        never = torch.full_like(output[..., :1], -9.0)
        return torch.cat([never, never, output[..., :1], never, output[..., 1:]], -1)


def cells_captioner(
    claimed: list[int] | None, regions: bool = False, seen: list[int] | None = None
) -> Captioner:
    preprocessing = {"size": (SIZE, SIZE), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    tokens = ("<pad>", "<bos>", "<eos>", "<unk>", "dark", "bright")
    card = Card("cells", "test", {}, {}, preprocessing, tokens, {"beam_size": 1})
    decoder = Cells(claimed, 65 if regions else 64, seen)
    return Captioner(card, Brightness(regions).eval(), decoder.eval(), torch.device("cpu"))


def first_caption(captioner: Captioner, photo: Image.Image) -> Caption:
    return captioner.caption([photo])[0].captions[0]
