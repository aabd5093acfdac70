"""CLIPScore and RefCLIPScore (arXiv 2104.08718): how well a caption fits its photo, as a CLIP sees both.

Any CLIP of `transformers`, by its name on the Hugging Face Hub or its folder; the paper's is
openai/clip-vit-base-patch32. Scores by different CLIPs cannot be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from captionbot.errors import CaptionBotError, shortened
from captionbot.extras import require
from training.metrics.tally import Tally, mean_tally

PREFIX = "A photo depicts "  # section 3
WEIGHT = 2.5
_BATCH = 32

T = TypeVar("T")


class Clip:
    """A CLIP's view of photos and of captions, as vectors of length 1 in one space."""

    def __init__(self, name: str) -> None:
        """name: on the Hub, or a folder. Raises CaptionBotError where there is no CLIP, or no network."""
        require("transformers", "transformers", "CLIPScore")
        from transformers import AutoProcessor, CLIPModel

        try:
            self.model: Any = CLIPModel.from_pretrained(name).eval()
            self.processor: Any = AutoProcessor.from_pretrained(name)
        except Exception as error:  # of any library's kind: a file is missing, another model's, or damaged
            raise CaptionBotError(
                f"'{shortened(name)}' is no CLIP that transformers can load "
                f"({shortened(str(error).splitlines()[0] if str(error) else type(error).__name__)}); give a "
                "name on the Hugging Face Hub, such as openai/clip-vit-base-patch32, or a folder of one."
            ) from None

    @torch.inference_mode()
    def photos(self, photos: Iterable[Image.Image]) -> Tensor:
        """(n, D)"""
        seen = []
        for batch in _batches(photos):
            given = self.processor.image_processor(images=batch, return_tensors="pt")
            pooled = self.model.vision_model(**given).pooler_output
            seen.append(F.normalize(self.model.visual_projection(pooled), dim=-1))
        return torch.cat(seen)

    @torch.inference_mode()
    def captions(self, captions: Iterable[str]) -> Tensor:
        """(n, D), each behind the paper's prefix, and cut where it is longer than CLIP reads."""
        read = []
        longest = self.model.config.text_config.max_position_embeddings
        for batch in _batches(captions):
            given = self.processor.tokenizer(
                [PREFIX + caption for caption in batch],
                padding=True, truncation=True, max_length=longest, return_tensors="pt",
            )  # fmt: skip
            pooled = self.model.text_model(**given).pooler_output
            read.append(F.normalize(self.model.text_projection(pooled), dim=-1))
        return torch.cat(read)


def clip_tallies(
    clip: Clip, photos: Iterable[Image.Image], captions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[Tally, Tally]:
    """CLIPScore = 2.5 max(cos(c, v), 0) of captions c and photos v; RefCLIPScore, the harmonic mean of it and
    max(0, the largest cos(c, r)) over a photo's references r."""
    said = clip.captions(captions)
    fits = WEIGHT * (said * clip.photos(photos)).sum(-1).clamp(min=0)
    people = clip.captions(text for texts in references for text in texts).split([len(t) for t in references])
    alike = torch.stack([(texts @ one).amax().clamp(min=0) for one, texts in zip(said, people, strict=True)])
    both = 2 * fits * alike / (fits + alike).clamp(min=1e-12)
    return mean_tally("CLIPScore", _array(fits)), mean_tally("RefCLIPScore", _array(both))


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    waiting = iter(items)
    return iter(lambda: list(islice(waiting, _BATCH)), [])


def _array(scores: Tensor) -> np.ndarray:
    return scores.double().numpy()
