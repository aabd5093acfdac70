"""Several captioners as one: at each step of the search their probabilities of the next word are averaged.

By default p(w) = 1/M sum_m p_m(w), the arithmetic mean, as the ensembles of Show and Tell do (arXiv
1609.06647); or the normalised geometric mean, of log-probabilities: the product of experts of Hinton, 2002.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor, nn

from captionbot.decoders.base import Decoder, DecoderConfig, State
from captionbot.decoders.evidence import WordEvidence
from captionbot.decoders.family import Equations, Family
from captionbot.errors import CaptionBotError
from captionbot.fields import check_fields
from captionbot.text.vocabulary import Vocabulary
from captionbot.types import Features

AVERAGES = ("probability", "log-probability")
MOST = 16  # members


@dataclass(frozen=True)
class EnsembleConfig(DecoderConfig):
    """What is averaged.

    members: for each captioner `name`; `decoder`, {"kind": a key of FAMILIES, **configuration}; `start`, the
        first of its channels; `whole`, whether it sees the photo as one place; `evidence`, how its word
        evidence is built, {} without; `mapped`, whether its vocabulary is a part of the ensemble's.
    average: of the probabilities, or of their logarithms.
    """

    members: tuple[dict[str, Any], ...] = ()
    average: str = "probability"


class _Member(nn.Module):
    """One of the captioners, in the words of all.

    ids: (V,) where a word of the ensemble stands in the member's own vocabulary, that of the unknown word
        where it lacks it: it is read as unknown, and never said.
    """

    ids: Tensor

    def __init__(self, spec: Mapping[str, Any], vocabulary_size: int) -> None:
        from captionbot.decoders import build_decoder

        super().__init__()
        kind = spec["decoder"]["kind"]
        if kind == FAMILY.kind:
            raise CaptionBotError("A member of an ensemble is an ensemble; name its members themselves.")
        self.decoder = build_decoder(kind, {k: v for k, v in spec["decoder"].items() if k != "kind"})
        check_fields(self.decoder.config)
        size = self.decoder.config.feature_size
        self.channels, self.whole = slice(spec["start"], spec["start"] + size), spec["whole"]
        self.evidence = WordEvidence(size, **spec["evidence"]) if spec["evidence"] else None
        self.mapped = spec["mapped"]
        if self.mapped:
            self.register_buffer("ids", torch.zeros(vocabulary_size, dtype=torch.int32))
        elif self.decoder.config.vocabulary_size != vocabulary_size:
            raise CaptionBotError(
                f"A member says {self.decoder.config.vocabulary_size} words, the ensemble {vocabulary_size}."
            )

    def view(self, features: Features) -> Features:
        """What it sees of the features of all."""
        values = features.values[..., self.channels]
        if not self.whole:
            return dataclasses.replace(features, values=values)
        # the same stands at all places; the mean, so that none of them has all of a gradient
        photo = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]], device=values.device)
        return Features(values.mean(1, keepdim=True), photo, (1, 1))

    def own(self, token_ids: Tensor) -> Tensor:
        """Ids of the ensemble -> its own."""
        return self.ids[token_ids].to(token_ids.dtype) if self.mapped else token_ids

    def log_probs(self, output: Tensor) -> Tensor:
        """(..., D) output of its decoder -> (..., V) log-probabilities of the ensemble's words."""
        log_probs = self.decoder.logits(output).float().log_softmax(-1)
        if not self.mapped:
            return log_probs
        lacking = self.ids == Vocabulary.unk_id
        lacking[Vocabulary.unk_id] = False
        return log_probs[..., self.ids].masked_fill(lacking, -math.inf)


class _Evidence:
    """The mean of what the members' word evidence says, where they have such."""

    def __init__(self, members: Sequence[_Member]) -> None:
        self.members = members

    def __call__(self, features: Features) -> Tensor:
        """(B, N) of the phrases of all."""
        says = [member.evidence(member.view(features)) for member in self.members if member.evidence]
        return torch.cat(says, 1) / len(says)

    def said(self, words: Sequence[int]) -> list[int]:
        """The numbers of the phrases that a sentence says, each once."""
        known = [(member, member.evidence) for member in self.members if member.evidence]
        starts = accumulate((evidence.sizes["phrases"] for _, evidence in known), initial=0)
        ids = torch.tensor(words, dtype=torch.long)
        return [
            start + number
            for start, (member, evidence) in zip(starts, known, strict=False)
            for number in evidence.said(member.own(ids.to(evidence.phrases.device)).tolist())
        ]


class EnsembleDecoder(Decoder):
    """Its members read the same words, each with a state of its own.

    The alphas are the mean of those of the members that attend to places.
    """

    compiles = False

    def __init__(self, config: EnsembleConfig) -> None:
        super().__init__(config)
        if not 1 <= len(config.members) <= MOST or config.average not in AVERAGES:
            raise CaptionBotError(
                f"An ensemble has 1 to {MOST} members and averages {' or '.join(AVERAGES)}: make one with "
                "`python -m training.ensemble`."
            )
        members = [_Member(spec, config.vocabulary_size) for spec in config.members]
        self.members = nn.ModuleList(members)
        self.evidence = _Evidence(members) if any(m.evidence for m in members) else None
        seeing = [m for m in members if not m.whole] or members
        looking = [m for m in seeing if m.decoder.attends] or seeing
        self.looking = [m in looking for m in members]
        self.attends = any(m.decoder.attends for m in seeing)
        self.looks_elsewhere = any(m.decoder.looks_elsewhere for m in looking)

    def start(self, features: Features) -> State:
        return _together([m.decoder.start(m.view(features)) for m in self.each])

    def advance(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """The output is the logarithm of the mean, (N, V)."""
        return self._averaged(lambda member: member.decoder.advance, token_ids, state)

    def advance_all(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        return self._averaged(lambda member: member.decoder.advance_all, token_ids, state)

    def states_after(self, token_ids: Tensor, state: State) -> State:
        parts = zip(self.each, _apart(state, len(self.members)), strict=True)
        return _together([m.decoder.states_after(m.own(token_ids), part) for m, part in parts])

    def logits(self, output: Tensor) -> Tensor:
        return output

    @property
    def each(self) -> list[_Member]:
        return cast(list[_Member], list(self.members))

    def _averaged(
        self, reader: Callable[[_Member], Callable[..., Any]], token_ids: Tensor, state: State
    ) -> tuple[Tensor, Tensor, State]:
        log_probs, alphas, states = [], [], []
        parts = _apart(state, len(self.members))
        for member, part, looks in zip(self.each, parts, self.looking, strict=True):
            output, alpha, after = reader(member)(member.own(token_ids), part)
            log_probs.append(member.log_probs(output))
            states.append(after)
            if looks:
                alphas.append(alpha)
        each = torch.stack(log_probs)
        if self.config.average == "probability":
            mean = each.logsumexp(0) - math.log(len(each))
        else:
            mean = each.mean(0)
        return mean, torch.stack(alphas).mean(0), _together(states)


def _together(states: Sequence[State]) -> State:
    """The states of all members as one, each member's parts under its number."""
    return State(
        {f"{number}.{name}": part for number, one in enumerate(states) for name, part in one.images.items()},
        {f"{number}.{name}": part for number, one in enumerate(states) for name, part in one.rows.items()},
    )


def _apart(state: State, members: int) -> list[State]:
    """The state of each member."""
    states = [State({}, {}) for _ in range(members)]
    for of, found in ((0, state.images), (1, state.rows)):
        for name, part in found.items():
            number, _, own = name.partition(".")
            (states[int(number)].images, states[int(number)].rows)[of][own] = part
    return states


FAMILY = Family(
    kind="ensemble",
    title="Ensemble",
    decoder=EnsembleDecoder,
    config=EnsembleConfig,
    equations=Equations(
        r"p(w_t) = \frac{1}{M} \sum_m p_m(w_t), \quad \alpha_{ti} = \frac{1}{M} \sum_m \alpha^m_{ti}",
        "Vinyals et al., Show and Tell: Lessons Learned, arXiv 1609.06647.",
        "Each member decides where to look by itself; the map is the mean of theirs.",
    ),
    limits={
        "layers": 64,
        "heads": 256,
        "encoder_layers": 64,
        "refining_layers": 64,
        "memory_slots": 4096,
        "positions": 4096,
        "prefix_length": 1024,
    },
)
