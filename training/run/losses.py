"""What a decoder is trained to do, on the very step that captions are searched with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from captionbot.decoders import Decoder
from captionbot.text.vocabulary import Vocabulary
from captionbot.types import Features


@dataclass(frozen=True)
class Forced:
    """The decoder's answers along given captions: M predictions of N = B * K captions.

    Predictions of one caption are in the order of its words; captions may be mixed.

    logits: (M, V); targets: (M,) the ids that were to be predicted; rows: (M,) the caption, 0..N-1.
    coverage: (N, P), how much of its attention a caption gave to each place, summed over its words.
    """

    logits: Tensor
    targets: Tensor
    rows: Tensor
    coverage: Tensor


@dataclass(frozen=True)
class Term:
    """A part of a loss: the mean of so many numbers. Processes that share a batch weigh it by the count."""

    mean: Tensor
    count: int


def teacher_force(
    decoder: Decoder,
    features: Features,
    token_ids: Tensor,
    *,
    inputs: Tensor | None = None,
    own_words: float = 0.0,
) -> Forced:
    """Run the decoder along captions: word t is predicted from the true words before it.

    token_ids: (B, K, L), K captions of each image: start, words, end, padding.
    inputs: (B, K, L), what the decoder reads where that is not what it is to predict.
    own_words: chance that a word it reads is one drawn from its own prediction instead: scheduled
        sampling (arXiv 1506.03099).
    """
    inputs = token_ids if inputs is None else inputs
    if type(decoder).advance_all is not Decoder.advance_all and not own_words:
        return _force_all(decoder, features, token_ids, inputs)
    batch, captions, _ = token_ids.shape
    lengths = (token_ids != Vocabulary.pad_id).sum(-1) - 1  # (B, K) predictions
    longest, order = lengths.max(1).values.sort(descending=True)
    token_ids, inputs, lengths = token_ids[order], inputs[order], lengths[order]
    device = token_ids.device

    output = torch.empty(0)  # nothing is predicted before the first word
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
        words = inputs[:running, :, t].flatten()
        if own_words and t:
            words = _some_own(words, decoder.logits(output[: len(words)]), own_words)
        output, alpha, state = decoder.advance(words, state)
        real = (lengths[:running] > t).flatten().nonzero().squeeze(1)
        outputs.append(output[real])
        alphas.append(alpha[real])
        targets.append(token_ids[:running, :, t + 1].flatten()[real])
        rows.append(order[real // captions] * captions + real % captions)  # in the caller's order
    row = torch.cat(rows)
    attention = torch.cat(alphas)
    coverage = attention.new_zeros(batch * captions, attention.shape[1]).index_add(0, row, attention)
    return Forced(decoder.logits(torch.cat(outputs)).float(), torch.cat(targets), row, coverage)


def _force_all(decoder: Decoder, features: Features, token_ids: Tensor, inputs: Tensor) -> Forced:
    """`teacher_force` of a decoder that reads all words of a caption at once."""
    batch, captions, _ = token_ids.shape
    images = torch.arange(batch, device=token_ids.device)
    state = decoder.start(features).select(images.repeat_interleave(captions))
    longest = int((token_ids != Vocabulary.pad_id).sum(-1).max())
    outputs, alphas, _ = decoder.advance_all(inputs[..., : longest - 1].flatten(0, 1), state)
    targets = token_ids[..., 1:longest].flatten(0, 1)  # (N, L - 1)
    real = targets != Vocabulary.pad_id
    coverage = (alphas * real.unsqueeze(-1)).sum(1)
    return Forced(decoder.logits(outputs[real]).float(), targets[real], real.nonzero()[:, 0], coverage)


def drop_words(token_ids: Tensor, probability: float, vocabulary: Vocabulary) -> Tensor:
    """Captions with some of their words, though not start, end or padding, replaced by the unknown word."""
    marks = torch.tensor([*vocabulary.special_ids, vocabulary.eos_id], device=token_ids.device)
    dropped = torch.rand(token_ids.shape, device=token_ids.device) < probability
    return token_ids.masked_fill(dropped & ~torch.isin(token_ids, marks), vocabulary.unk_id)


def soft_targets(forced: Forced, teachers: Sequence[Forced]) -> Tensor:
    """(M, V) mean probabilities of teachers along the same captions, in the order of `forced`."""
    order = forced.rows.argsort(stable=True)
    answers = torch.stack([t.logits[t.rows.argsort(stable=True)].softmax(-1) for t in teachers])
    return torch.empty_like(forced.logits).index_copy(0, order, answers.mean(0))


def caption_loss(
    forced: Forced,
    label_smoothing: float,
    doubly_stochastic: float,
    soft: Tensor | None = None,
    distillation: float = 0.0,
) -> list[Term]:
    """Cross-entropy of the words, and the pressure to look everywhere (arXiv 1502.03044, equation 14).

    soft: (M, V) probabilities of teachers, as of `soft_targets`, which get the share `distillation` of the
        cross-entropy (arXiv 1503.02531, word by word as in arXiv 1606.07947).
    """
    words = F.cross_entropy(forced.logits, forced.targets, label_smoothing=label_smoothing)
    if soft is not None:
        words = (1 - distillation) * words + distillation * F.cross_entropy(forced.logits, soft)
    terms = [Term(words, len(forced.targets))]
    if doubly_stochastic:
        places = doubly_stochastic * (1 - forced.coverage).square().mean()
        terms.append(Term(places, len(forced.coverage)))
    return terms


STRUCTURED = ("risk", "sequence-nll", "softmax-margin", "max-margin")


def structured_loss(
    objective: str, forced: Forced, rewards: Tensor, temperature: float, never_drawn: Sequence[int]
) -> Term:
    """What an image's K samples cost as wholes (arXiv 1711.04956, section 3), the mean over images.

    With s(u) the log-probability of a sample, u* the one of the highest reward, cost(u) = -reward(u):

    risk: sum_u p(u) cost(u), p the softmax of s over the image's samples;
    sequence-nll: -s(u*) + log sum_u exp s(u);
    softmax-margin: -s(u*) + log sum_u exp(s(u) + cost(u) - cost(u*));
    max-margin: max(0, cost(v) - cost(u*) - s(u*) + s(v)), v the likeliest sample.
    """
    costs = _costs(forced, temperature, never_drawn)
    scores = -costs.new_zeros(rewards.numel()).index_add(0, forced.rows, costs).view_as(rewards)
    best = rewards.argmax(1, keepdim=True)
    lacking = rewards.gather(1, best) - rewards  # cost(u) - cost(u*)
    chosen = scores.gather(1, best)
    if objective == "risk":
        each = -(scores.softmax(1) * rewards).sum(1)
    elif objective == "sequence-nll":
        each = scores.logsumexp(1) - chosen.squeeze(1)
    elif objective == "softmax-margin":
        each = (scores + lacking).logsumexp(1) - chosen.squeeze(1)
    else:
        each = (lacking + scores - chosen).gather(1, scores.argmax(1, keepdim=True)).relu()
    return Term(each.mean(), len(rewards))


def _costs(forced: Forced, temperature: float, never_drawn: Sequence[int]) -> Tensor:
    """(M,) how unlikely each word of samples was among those that could be drawn, in nats."""
    # The policy is what drew the samples. If special tokens, which are never drawn, had a share of it, all
    # probability would flow to them: it costs bad samples theirs, and never loses a reward.
    never = torch.tensor(list(never_drawn), device=forced.logits.device)
    logits = forced.logits.index_fill(1, never, float("-inf"))
    return F.cross_entropy(logits / temperature, forced.targets, reduction="none")


def self_critical_loss(
    forced: Forced,
    rewards: Tensor,
    temperature: float = 1.0,
    baseline: Tensor | None = None,
    never_drawn: Sequence[int] = Vocabulary.special_ids,
    best_alone: bool = False,
) -> Term:
    """Policy gradient of sampled captions (arXiv 1612.00563, equation 7).

    rewards: (B, K).
    temperature: that the samples were drawn with.
    baseline: (B,) rewards that samples are to beat, as those of greedy captions; None for the mean
        reward of the image's other samples (arXiv 2003.09971).
    never_drawn: ids that the samples could not have.
    best_alone: of each image's samples only the best rewarded has a say.
    """
    samples = rewards.shape[1]
    if baseline is None:
        others = (rewards.sum(1, keepdim=True) - rewards) / (samples - 1)
    else:
        others = baseline.unsqueeze(1)
    advantage = rewards - others
    if best_alone:
        advantage = torch.where(rewards == rewards.amax(1, keepdim=True), advantage, 0)
    advantage = advantage.flatten()  # (B * K,)
    costs = _costs(forced, temperature, never_drawn)
    return Term((costs * advantage[forced.rows]).mean(), len(costs))


def _some_own(words: Tensor, logits: Tensor, probability: float) -> Tensor:
    """(N,) words, some replaced by words drawn from the (N, V) prediction of them."""
    drawn = logits.detach().float().softmax(-1).multinomial(1).squeeze(1)
    return torch.where(torch.rand(words.shape, device=words.device) < probability, drawn, words)
