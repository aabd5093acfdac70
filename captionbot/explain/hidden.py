"""What a model says of a photo of which a part is hidden: the log-probabilities of a caption's own words,
each read after the true words before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from captionbot.errors import CaptionBotError, shortened
from captionbot.text.pieces import of_words
from captionbot.types import Caption, Features

if TYPE_CHECKING:  # torch takes a second to import
    from torch import Tensor

    from captionbot.captioner import Captioner

FILLINGS = ("mean", "blur")
CELLS = (8, 8)  # rows and columns that a photo without places of its own is hidden in


def log_probs_of(captioner: Captioner, features: Features, token_ids: Sequence[int] | Tensor) -> Tensor:
    """(B, T) natural log-probabilities of a caption's words, each read after the true words before it.

    token_ids: (T,) of one caption that is read over all B images, or (B, T). Without the start.
    """
    import torch

    ids = torch.as_tensor(token_ids, device=features.values.device).expand(len(features), -1)
    return all_log_probs(captioner, features, ids).gather(-1, ids.unsqueeze(-1)).squeeze(-1)


def all_log_probs(captioner: Captioner, features: Features, token_ids: Tensor) -> Tensor:
    """(B, T, V) natural log-probabilities of every word in the place of each of (B, T) ids, read after the
    true words before it."""
    import torch

    start = token_ids.new_full((len(token_ids), 1), captioner.vocabulary.bos_id)
    decoder = captioner.decoder
    with captioner.autocast():
        outputs, _, _ = decoder.advance_all(torch.cat([start, token_ids[:, :-1]], 1), decoder.start(features))
        return decoder.logits(outputs).float().log_softmax(-1)


def filled_pixels(pixels: Tensor, filling: str) -> Tensor:
    """(1, 3, H, W), what is seen in the place of hidden pixels: the mean colour, or hardly more than it."""
    from torch.nn import functional as F

    if filling not in FILLINGS:
        raise CaptionBotError(f"'{shortened(filling)}' hides nothing; choose one of {', '.join(FILLINGS)}.")
    if filling == "mean":
        return pixels.mean((2, 3), keepdim=True).expand_as(pixels)
    return F.interpolate(F.adaptive_avg_pool2d(pixels, 4), pixels.shape[-2:], mode="bicubic")


def log_probs_where_hidden(
    captioner: Captioner, pixels: Tensor, filling: Tensor, boxes: Tensor, hidden: Tensor, caption: Caption
) -> np.ndarray:
    """(N, T) log-probabilities of the T whole words over N copies of one photo.

    boxes: (P, 4) as fractions of the photo; hidden: (N, P) bool, which of them each copy lacks.
    """
    import torch

    height, width = pixels.shape[-2:]
    y, x = ((torch.arange(n, device=pixels.device) + 0.5) / n for n in (height, width))
    left, top, right, bottom = boxes.to(pixels.device)[..., None].unbind(1)  # (P, 1) each
    across, down = (x >= left) & (x < right), (y >= top) & (y < bottom)  # (P, W), (P, H)
    found = []
    for part in hidden.to(pixels.device).split(captioner.decoder.at_once):
        covered = torch.einsum("np,ph,pw->nhw", part.float(), down.float(), across.float()) > 0
        copies = torch.where(covered.unsqueeze(1), filling, pixels)
        with torch.inference_mode():
            found.append(log_probs_of(captioner, captioner.encode_pixels(copies), caption.token_ids))
    return of_words(torch.cat(found).cpu().numpy(), caption.pieces)
