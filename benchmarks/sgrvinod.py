"""A photo's caption as sgrvinod's tutorial finds it, the peer that everything is held against.

github.com/sgrvinod/a-PyTorch-Tutorial-to-Image-Captioning: ResNet-101 over 256 x 256 pixels widened to 14 x
14 places, an LSTM of 512 with attention, 9,490 words. Its search goes photo by photo, all hypotheses in one
batch, and projects the photo again for each of them before every word. This is written anew, does the same
work, and takes the equations of our decoder; gradients are off, which the original leaves on.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captionbot.decoders.base import Decoder, State
from captionbot.decoders.soft_attention import SoftAttentionConfig
from captionbot.types import Features

SIZE, GRID, WORDS = 256, 14, 9490
CONFIG = SoftAttentionConfig(WORDS, 2048, score_activation="relu", initial_tanh=False, deep_output=False)


class TutorialEncoder(nn.Module):
    """torchvision's ResNet-101 as it comes, batch norms and all, and its places in reading order."""

    def __init__(self, cnn: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*list(cnn.children())[:-2])
        self.widen = nn.AdaptiveAvgPool2d(GRID)

    def forward(self, pixel_values: Tensor) -> Features:
        values: Tensor = self.widen(self.layers(pixel_values)).flatten(2).transpose(1, 2).contiguous()
        return Features(values, torch.zeros(1, values.shape[1], 4), (GRID, GRID))


@torch.inference_mode()
def search(
    decoder: Decoder, features: Features, *, bos_id: int, eos_id: int, words: int, beams: int
) -> list[list[int]]:
    """The best sentence of exactly so many words of each photo, as ids without start and end."""
    return [
        _search_photo(
            decoder, Features(values[None], features.boxes[:1], features.grid), bos_id, eos_id, words, beams
        )
        for values in features.values
    ]


def _search_photo(
    decoder: Decoder, photo: Features, bos_id: int, eos_id: int, words: int, beams: int
) -> list[int]:
    sentences, scores = torch.full((1, 1), bos_id), torch.zeros(1)
    rows = decoder.start(photo).rows
    for _ in range(words):
        alive = len(sentences)
        copied = Features(photo.values.expand(alive, -1, -1), photo.boxes, photo.grid)
        state = State(decoder.start(copied).images, rows)
        log_probs, _, state = decoder.step(sentences[:, -1], state)
        log_probs[:, eos_id] = -torch.inf
        totals = (scores[:, None] + log_probs).flatten()
        scores, best = totals.topk(min(beams, len(totals)))
        of, word = best // log_probs.shape[1], best % log_probs.shape[1]
        sentences = torch.cat([sentences[of], word[:, None]], 1)
        rows = {name: values[of] for name, values in state.rows.items()}
    copied = Features(photo.values.expand(len(sentences), -1, -1), photo.boxes, photo.grid)
    log_probs, _, _ = decoder.step(sentences[:, -1], State(decoder.start(copied).images, rows))
    ends: int = (scores + log_probs[:, eos_id]).argmax().item()  # type: ignore[assignment]
    return sentences[ends, 1:].tolist()
