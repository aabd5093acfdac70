"""Whether a heatmap points at what the word is about: a model of BLIP's shape that learns coloured shapes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_hub import SIZE, blip, publish
from torch.nn.functional import cross_entropy

from captionbot.captioner import Captioner
from captionbot.store.importers.hub import import_hub

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (40, 40, 230), "white": (250, 250, 250)}
CELL = SIZE // 4  # pixels; a photo has 4 x 4 cells, which are the model's patches
SHAPES = {"square": np.ones((6, 6), bool), "cross": np.zeros((6, 6), bool), "bar": np.zeros((6, 6), bool)}
SHAPES["cross"][2:4] = SHAPES["cross"][:, 2:4] = True
SHAPES["bar"][:2] = True
KINDS = list(product(COLOURS, SHAPES))


def painted(generator, kind, cell):
    """Grey noise with one shape in one cell."""
    colour, shape = KINDS[kind]
    pixels = generator.integers(90, 140, (SIZE, SIZE, 3))
    top, left = (CELL * n + 1 for n in divmod(cell, 4))
    pixels[top : top + 6, left : left + 6][SHAPES[shape]] = COLOURS[colour]
    return pixels.astype(np.uint8)


@pytest.mark.slow
def test_heatmaps_of_a_model_that_learnt_coloured_shapes_point_at_them(tmp_path):
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    model, tokenizer, asked = blip(("a", *COLOURS, *SHAPES))
    start = model.config.text_config.bos_token_id
    sentences = torch.tensor(
        [[start, *(tokenizer.token_to_id(word) for word in ("a", *kind)), 3] for kind in KINDS]
    )
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=2e-3)
    for step in range(500):
        kinds, cells = generator.integers(len(KINDS), size=48), generator.integers(16, size=48)
        photos = np.stack([painted(generator, *each) for each in zip(kinds, cells, strict=True)])
        pixels = (torch.from_numpy(photos).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
        words = sentences[kinds]
        logits = model(pixel_values=pixels, input_ids=words[:, :-1]).logits
        loss = cross_entropy(logits.flatten(0, 1), words[:, 1:].flatten())
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 30) * (1 - step / 500)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    publish(tmp_path / "repository", model, tokenizer, asked)
    captioner = Captioner.from_pretrained(
        import_hub(str(tmp_path / "repository"), tmp_path / "mine", "mine"), device="cpu"
    )
    right, hottest = 0, []
    for i in range(48):
        kind, cell = i % len(KINDS), (5 * i) % 16
        caption = captioner.caption(Image.fromarray(painted(generator, kind, cell)))[0].captions[0]
        right += caption.text == f"a {' '.join(KINDS[kind])}"
        hottest.append([int(alphas.argmax()) == cell for alphas in caption.alphas[1:3]])
    assert right >= 44
    colour, shape = np.mean(hottest, 0)
    assert colour >= 0.8 and shape >= 0.5  # by chance 0.06
