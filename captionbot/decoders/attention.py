"""Additive attention (Bahdanau et al., arXiv 1409.0473, appendix A.1.2), which several decoders look with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionbot.errors import CaptionBotError

_CACHED = 2**18  # numbers, 1 MB: what stays in a core's own cache from one pass to the next


class GroupedLayerNorm(nn.LayerNorm):
    """Layer norm (arXiv 1607.06450) of each group of channels by itself, as of several CNNs' side by side."""

    def __init__(self, groups: Sequence[int]) -> None:
        super().__init__(sum(groups))
        self.groups = list(groups)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        if len(self.groups) == 1:
            return super().forward(x)
        normalised = [F.layer_norm(part, part.shape[-1:], eps=self.eps) for part in x.split(self.groups, -1)]
        return torch.addcmul(self.bias, torch.cat(normalised, -1), self.weight)


def layer_norm(config: Any) -> GroupedLayerNorm:
    """Of an encoder's channels, in the groups that a decoder's configuration has, all of them if none."""
    if config.groups and sum(config.groups) != config.feature_size:
        raise CaptionBotError(f"The groups {list(config.groups)} are not {config.feature_size} channels.")
    return GroupedLayerNorm(config.groups or (config.feature_size,))


def prepared(values: Tensor, activation: str = "tanh") -> Tensor:
    """Keys or queries in the form in which `attend` takes them.

    e^2x for tanh, with x held within 40 of 0, where it has long been flat and a product of two is no NaN.
    """
    return (2 * values).clamp_(-80, 80).exp_() if activation == "tanh" else values


def attend(
    images: Mapping[str, Tensor], query: Tensor, weight: Tensor, activation: str = "tanh"
) -> tuple[Tensor, Tensor]:
    """The attended vectors (N, C) and the weights (N, P), which sum to 1 over an image's real places.

    images: "annotations" (B, P, C), "keys" (B, P, A) as of `prepared`, and "mask" (B, P) where not all
        places are real; broadcast over an image's rows, never copied.
    query: (N, A) as of `prepared`. weight: (A,), v of the scores v . tanh(k + q), or of relu for tanh.
    """
    annotations, keys = images["annotations"], images["keys"]
    batch, places, size = keys.shape
    scores = _scores(keys.unsqueeze(1), query.view(batch, -1, 1, size), weight, activation)  # (B, K, P)
    if "mask" in images:
        scores = scores.masked_fill(~images["mask"].unsqueeze(1), float("-inf"))
    alphas = scores.softmax(-1)
    return (alphas.to(annotations.dtype) @ annotations).flatten(0, 1), alphas.reshape(-1, places)


def mean_annotation(annotations: Tensor, mask: Tensor | None) -> Tensor:
    """(B, P, C) -> (B, C), the mean over an image's real places."""
    if mask is None:
        return annotations.mean(1)
    weights = mask.unsqueeze(-1).to(annotations.dtype)
    return (annotations * weights).sum(1) / weights.sum(1).clamp(min=1)


def _scores(keys: Tensor, query: Tensor, weight: Tensor, activation: str) -> Tensor:
    """Prepared keys (B, 1, P, A) and queries (B, K, 1, A) -> (B, K, P), for tanh but for a constant.

    tanh(k + q) = 1 - 2 / (e^2k e^2q + 1): an exponential a place and one a row, instead of a tanh for
    every pair of them, and the softmax does not see the constant sum of v.
    """
    count, _, places, size = keys.shape
    images = count
    if keys.device.type == "cpu":  # as many images, or else places of one, as the cache holds
        row = query.shape[1] * size
        images, places = max(1, _CACHED // (row * places)), max(1, min(places, _CACHED // row))
    one = None if activation == "relu" else keys.new_ones(())
    weight = weight if one is None else -2 * weight
    parts = zip(keys.split(images), query.split(images), strict=True)
    return torch.cat([torch.cat([_pairs(k, q, weight, one) for k in some.split(places, 2)], -1)
                      for some, q in parts])  # fmt: skip


def _pairs(keys: Tensor, query: Tensor, weight: Tensor, one: Tensor | None) -> Tensor:
    """The part of `_scores` that some places have; one: 1 for tanh, None for relu."""
    if one is None:
        return (keys + query).relu_() @ weight
    return torch.addcmul(one, keys, query).reciprocal_() @ weight
