"""What each word of a caption rests on, place by place: attention, occlusion or gradient.

Occlusion: Zeiler and Fergus, arXiv 1311.2901, section 4.2. Gradients: Grad-CAM, arXiv 1610.02391,
equations 1 and 2. Both ask for the log-probability of the caption's own words, each read after the true
words before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from captionbot.errors import CaptionBotError, shortened
from captionbot.explain.hidden import CELLS, filled_pixels, log_probs_of, log_probs_where_hidden
from captionbot.explain.maps import LABELS, WordMaps
from captionbot.explain.needs import needs
from captionbot.images.load import boxes_to_image, to_pixel_values
from captionbot.types import Caption, Features

if TYPE_CHECKING:  # torch takes a second to import
    from PIL import Image
    from torch import Tensor

    from captionbot.captioner import Captioner

METHODS = ("auto", "attention", "needs", "occlusion", "gradient")


def word_maps(
    captioner: Captioner, image: Image.Image, caption: Caption, method: str = "auto", filling: str = "mean"
) -> WordMaps:
    """What every word of a caption of the image rests on.

    method: "attention", "needs" (`captionbot.explain.needs`), "occlusion", "gradient", or "auto": attention
        where the decoder attends to several places, else needs.
    filling: what hides a place, the photo's "mean" colour or a strong "blur".
    Raises CaptionBotError for another method or filling, and for attention where there is none.
    """
    if method not in METHODS:
        raise CaptionBotError(f"'{shortened(method)}' explains no words; choose one of {', '.join(METHODS)}.")
    attends = captioner.decoder.attends and len(caption.boxes) > 1
    if method == "auto":
        method = "attention" if attends else "needs"
    if method == "attention":
        if not attends:
            raise CaptionBotError(
                f"{captioner.name} looks at the photo as a whole; ask for needs or occlusion instead."
            )
        maps, boxes, grid = caption.alphas, caption.boxes, caption.grid
    elif method == "needs":
        return needs(captioner, image, caption).as_word_maps(caption)
    else:
        pixels = to_pixel_values([image], captioner.preprocessing, captioner.device)
        ask = _occlusion if method == "occlusion" else _gradient
        maps, boxes, grid = ask(captioner, pixels, caption, filled_pixels(pixels, filling))
    return WordMaps(method, LABELS[method], maps, boxes, grid)


def _places(caption: Caption) -> tuple[Tensor, tuple[int, int] | None]:
    """(P, 4) boxes as fractions of the photo that can be hidden: detected regions, else cells; their grid."""
    import torch

    from captionbot.encoders import grid_boxes

    if caption.grid is None and len(caption.boxes) > 1:
        return torch.from_numpy(caption.fractions.astype(np.float32)), None
    return grid_boxes(*CELLS)[0], CELLS


_Maps = tuple[np.ndarray, np.ndarray, tuple[int, int] | None]  # maps, boxes and grid, as in `WordMaps`


def _occlusion(captioner: Captioner, pixels: Tensor, caption: Caption, filling: Tensor) -> _Maps:
    """The nats that every word loses where one place is hidden.

    Of a region as large as the photo they are set to 0, since hiding everything says nothing about where.
    """
    import torch

    boxes, grid = _places(caption)
    hidden = torch.cat([torch.zeros(1, len(boxes), dtype=torch.bool), torch.eye(len(boxes)).bool()])
    log_probs = log_probs_where_hidden(captioner, pixels, filling, boxes, hidden, caption)
    whole = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) > 0.95).numpy()
    maps = np.where(whole, 0, (log_probs[0] - log_probs[1:]).T)
    return maps, boxes_to_image(boxes.numpy(), caption.image_size, captioner.preprocessing), grid


def _gradient(captioner: Captioner, pixels: Tensor, caption: Caption, filling: Tensor) -> _Maps:
    """Grad-CAM on the places of the encoder; of one that has a single place, on the cells of the photo.

    There it is the gradient by the pixels times what hiding would change in them, averaged over a cell:
    the first order of an occlusion map, without what is below 0.
    """
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    if len(caption.boxes) > 1:
        features = captioner.encode_pixels(pixels)
        # A copy for each word, so that one backward pass gives every word its own gradient.
        words = len(caption.words)
        values = features.values.float().repeat(words, 1, 1).requires_grad_()
        mask, beside = (
            None if of is None else of.repeat(words, *[1] * (of.ndim - 1))
            for of in (features.mask, features.beside)
        )
        copies = Features(values, features.boxes[:1], mask=mask, beside=beside)
        of_word = torch.eye(words, dtype=torch.bool).repeat_interleave(torch.tensor(caption.pieces), 1)
        log_probs = log_probs_of(captioner, copies, caption.token_ids)  # (T, ids)
        (gradient,) = torch.autograd.grad(log_probs[of_word.to(log_probs.device)].sum(), values)
        weights = gradient.mean(1, keepdim=True)  # (T, 1, C), equation 1
        maps = (weights * values.detach()).sum(-1).relu()  # (T, P), equation 2
        return maps.cpu().numpy(), caption.boxes, caption.grid
    asked = pixels.clone().requires_grad_()
    with captioner.autocast():
        features = captioner.encoder(asked)
    log_probs = log_probs_of(captioner, features, caption.token_ids)[0]
    log_probs = torch.stack([pieces.sum() for pieces in log_probs.split(list(caption.pieces))])
    gradient = torch.cat(
        [torch.autograd.grad(log_prob, asked, retain_graph=True)[0] for log_prob in log_probs]
    )
    boxes, _ = _places(caption)
    maps = adaptive_avg_pool2d((gradient * (pixels - filling)).sum(1), CELLS).flatten(1).relu()
    return (
        maps.cpu().numpy(),
        boxes_to_image(boxes.numpy(), caption.image_size, captioner.preprocessing),
        CELLS,
    )
