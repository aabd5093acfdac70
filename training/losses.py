"""What a decoder is trained to do, on the very step that captions are searched with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from captionbot.decoders import Decoder
from captionbot.types import Features
from captionbot.vocabulary import Vocabulary


@dataclass(frozen=True)
class Forced:
    """The decoder's answers along given captions: M predictions of N = B * K captions.

    logits: (M, V); targets: (M,) the ids that were to be predicted; rows: (M,) the caption, 0..N-1.
    coverage: (N, P), how much of its attention a caption gave to each place, summed over its words.
    """

    logits: Tensor
    targets: Tensor
    rows: Tensor
    coverage: Tensor


def teacher_force(decoder: Decoder, features: Features, token_ids: Tensor) -> Forced:
    """Run the decoder along captions: word t is predicted from the true words before it.

    token_ids: (B, K, L), K captions of each image: start, words, end, padding.
    """
    batch, captions, _ = token_ids.shape
    lengths = (token_ids != Vocabulary.pad_id).sum(-1) - 1  # (B, K) predictions
    longest, order = lengths.max(1).values.sort(descending=True)
    token_ids, lengths = token_ids[order], lengths[order]
    device = token_ids.device

    # One row an image, in the order of length so that finished images leave from the end; then K rows each.
    state = decoder.start(features)
    state = state.select(order.repeat_interleave(captions), order)
    outputs, alphas, targets, rows = [], [], [], []
    running = batch
    for t in range(int(longest[0])):
        if (still := int((longest > t).sum())) < running:
            running = still
            state = state.select(
                torch.arange(running * captions, device=device), torch.arange(running, device=device)
            )
        output, alpha, state = decoder.advance(token_ids[:running, :, t].flatten(), state)
        real = (lengths[:running] > t).flatten().nonzero().squeeze(1)
        outputs.append(output[real])
        alphas.append(alpha[real])
        targets.append(token_ids[:running, :, t + 1].flatten()[real])
        rows.append(order[real // captions] * captions + real % captions)  # in the caller's order
    row = torch.cat(rows)
    attention = torch.cat(alphas)
    coverage = attention.new_zeros(batch * captions, attention.shape[1]).index_add(0, row, attention)
    return Forced(decoder.logits(torch.cat(outputs)).float(), torch.cat(targets), row, coverage)


def caption_loss(forced: Forced, label_smoothing: float, doubly_stochastic: float) -> Tensor:
    """Cross-entropy of the words, and the pressure to look everywhere (arXiv 1502.03044, equation 14)."""
    loss = F.cross_entropy(forced.logits, forced.targets, label_smoothing=label_smoothing)
    if doubly_stochastic:
        loss = loss + doubly_stochastic * (1 - forced.coverage).square().mean()
    return loss


def self_critical_loss(forced: Forced, rewards: Tensor, temperature: float = 1.0) -> Tensor:
    """Policy gradient of sampled captions (arXiv 1612.00563, equation 7).

    rewards: (B, K). A sample's baseline is the mean reward of the image's other samples (arXiv 2003.09971).
    temperature: that the samples were drawn with.
    """
    # The policy is what drew the samples. If special tokens, which are never drawn, had a share of it, all
    # probability would flow to them: it costs bad samples theirs, and never loses a reward.
    logits = forced.logits.index_fill(
        1, torch.tensor(Vocabulary.special_ids, device=forced.logits.device), float("-inf")
    )
    samples = rewards.shape[1]
    others = (rewards.sum(1, keepdim=True) - rewards) / (samples - 1)
    advantage = (rewards - others).flatten()  # (B * K,)
    costs = F.cross_entropy(logits / temperature, forced.targets, reduction="none")  # (M,)
    return (costs * advantage[forced.rows]).mean()
