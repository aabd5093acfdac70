"""Beam search as tutorials write it: image by image, hypothesis by hypothesis, in Python lists.

The yardstick of `captionbot.search.beam`: it finds the same sentences with one decoder row at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from captionbot.decoders.base import Decoder, State
from captionbot.search.options import SearchOptions
from captionbot.types import Features, Hypothesis


@dataclass
class Live:
    """One unfinished sentence: its ids with bos, what each cost, where the model looked, its state."""

    token_ids: list[int]
    log_probs: list[float]
    alphas: list[Tensor]
    state: State

    def total(self) -> float:
        return sum(self.log_probs)


@torch.inference_mode()
def plain_search(
    decoder: Decoder,
    features: Features,
    *,
    bos_id: int,
    eos_id: int,
    options: SearchOptions,
    banned_ids: Sequence[int] = (),
    once_an_image: bool = True,
) -> list[list[Hypothesis]]:
    """The finished hypotheses of each image, best first.

    features: without a mask.
    options: beam_size, max_length, min_length and length_penalty count; the others are not known here.
    once_an_image: False works out what depends on the image alone before every word, as tutorials do.
    """
    images = [Features(values[None], features.boxes[:1], features.grid) for values in features.values]
    return [
        _search_image(decoder, image, bos_id, eos_id, options, banned_ids, once_an_image) for image in images
    ]


def _search_image(
    decoder: Decoder,
    features: Features,
    bos_id: int,
    eos_id: int,
    options: SearchOptions,
    banned_ids: Sequence[int],
    once_an_image: bool,
) -> list[Hypothesis]:
    live = [Live([bos_id], [], [], decoder.start(features))]
    finished: list[Hypothesis] = []
    for step in range(options.max_length + 1):
        candidates: list[Live] = []
        for hypothesis in live:
            state = hypothesis.state
            if not once_an_image:
                state = State(decoder.start(features).images, state.rows)
            log_probs, alphas, state = decoder.step(torch.tensor(hypothesis.token_ids[-1:]), state)
            log_probs = log_probs[0]
            for token_id in banned_ids:
                log_probs[token_id] = -torch.inf
            if step < options.min_length:
                log_probs[eos_id] = -torch.inf
            if step == options.max_length:
                log_probs[:eos_id] = log_probs[eos_id + 1 :] = -torch.inf
            best, words = log_probs.topk(min(2 * options.beam_size, len(log_probs)))
            for log_prob, token_id in zip(best.tolist(), words.tolist(), strict=True):
                if log_prob > -torch.inf:
                    candidates.append(
                        Live(
                            [*hypothesis.token_ids, token_id],
                            [*hypothesis.log_probs, log_prob],
                            [*hypothesis.alphas, alphas[0]],
                            state,
                        )
                    )
        candidates.sort(key=Live.total, reverse=True)
        live = []
        for rank, candidate in enumerate(candidates[: 2 * options.beam_size]):
            if candidate.token_ids[-1] != eos_id:
                live.append(candidate)
            elif rank < options.beam_size:
                finished.append(_finished(candidate, options.length_penalty))
        live = live[: options.beam_size]
        finished.sort(key=lambda hypothesis: hypothesis.score, reverse=True)
        if not live or (finished and options.beam_size == 1):
            break
        if len(finished) >= options.beam_size:
            reach = live[0].total() / (step + 2) ** options.length_penalty
            if reach <= finished[options.beam_size - 1].score:
                break
    return finished


def _finished(live: Live, length_penalty: float) -> Hypothesis:
    return Hypothesis(
        token_ids=tuple(live.token_ids[1:-1]),
        log_probs=np.array(live.log_probs, dtype=np.float32),
        alphas=torch.stack(live.alphas).numpy(),
        log_prob=live.total(),
        score=live.total() / len(live.log_probs) ** length_penalty,
    )
