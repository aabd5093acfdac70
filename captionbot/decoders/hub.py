"""The text decoders of the Hugging Face Hub's captioners, as one decoder of our own equations.

BERT's blocks (BLIP, GIT), GPT-2's (ViT-GPT-2) and BART's (Florence-2) differ in where their layer norms stand
and in how the photo reaches the words: by cross-attention, or as a prefix that the words continue. The layers
are those of `transformers`, which loads them; their equations are written out here, because the keys and
values of one image serve all of its beams, and weights of attention cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionbot.decoders.base import Decoder, State
from captionbot.decoders.cache import Cache, tokens_to_see
from captionbot.decoders.packing import Matrix, Packers, Packing
from captionbot.types import Features

Activation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class HubConfig:
    """family: a key of `captionbot.hub.FAMILIES`. feature_size: numbers of a place. dropout: always 0."""

    family: str
    feature_size: int
    dropout: float = 0.0


class HubAttention(nn.Module):
    """Scaled dot products of several heads, by the layers of a model that was published.

    crosses: whether keys and values are of other tokens than the queries.
    """

    def __init__(
        self,
        query: nn.Module,
        key: nn.Module,
        value: nn.Module,
        out: nn.Module,
        norm: nn.Module,
        heads: int,
        crosses: bool = False,
    ) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out, self.norm = query, key, value, out, norm
        self.heads, self.crosses = heads, crosses

    def split(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, heads, T, d)."""
        parts: Tensor = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return parts

    def queries(self, x: Tensor) -> Tensor:
        return self.split(self.query(x))

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.split(self.key(x)), self.split(self.value(x))

    def of_own(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the same tokens."""
        return (self.queries(x), *self.keys_and_values(x))

    def forward(self, query: Tensor, seen: Cache, sees: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, heads, Q, d) -> (B, Q, D), and weights (B, heads, Q, S). sees: (B, Q, S) bool, None for all."""
        scores = query @ seen.keys.mT / query.shape[-1] ** 0.5
        if sees is not None:
            scores = scores.masked_fill(~sees.unsqueeze(1), float("-inf"))
        weights = scores.softmax(-1)
        return self.out((weights @ seen.values).transpose(1, 2).flatten(2)), weights


class PackedHubAttention(HubAttention):
    """`HubAttention` with one product for what is made of the same tokens."""

    def __init__(self, layer: HubAttention, packing: Packing) -> None:
        nn.Module.__init__(self)
        self.out, self.norm, self.heads, self.crosses = layer.out, layer.norm, layer.heads, layer.crosses
        shared = (layer.key, layer.value) if layer.crosses else (layer.query, layer.key, layer.value)
        self.shared = packing(*map(Matrix.of, shared))  # type: ignore[arg-type]
        if layer.crosses:
            self.query = layer.query

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        key, value = self.shared(x).chunk(2, -1)
        return self.split(key), self.split(value)

    def of_own(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = self.shared(x).chunk(3, -1)
        return self.split(query), self.split(key), self.split(value)


PACKERS: Packers = {HubAttention: PackedHubAttention}


class HubBlock(nn.Module):
    """Attention to the words so far, to the image where there is cross-attention, and a feed-forward network.

    norm_first: whether layer norms stand before each part (GPT-2), or behind its sum (BERT, BART).
    """

    def __init__(
        self,
        own: HubAttention,
        cross: HubAttention | None,
        widen: nn.Module,
        narrow: nn.Module,
        norm: nn.Module,
        activation: Activation,
        norm_first: bool = False,
    ) -> None:
        super().__init__()
        self.own, self.cross, self.widen, self.narrow, self.norm = own, cross, widen, narrow, norm
        self.activation, self.norm_first = activation, norm_first

    def forward(
        self,
        hidden: Tensor,
        cache: Cache | None,
        sees: Tensor | None,
        image: Cache | None,
        position: Tensor | None = None,
    ) -> tuple[Tensor, Cache, Tensor]:
        """(B, Q, D) -> (B, Q, D), the cache with these Q, and weights (B, heads, Q, S) of the image, or of
        all tokens where the image is among them.

        cache: of the tokens before; image: keys and values of cross-attention; position: (B, Q) of the
        tokens, for blocks that want it, as the embedding knows it already.
        """
        x = self.own.norm(hidden) if self.norm_first else hidden
        query, *new = self.own.of_own(x)
        cache = Cache(*new) if cache is None else cache.appended(*new)
        found, weights = self.own(query, cache, sees)
        hidden = self._added(hidden, found, self.own.norm)
        if self.cross is not None and image is not None:
            x = self.cross.norm(hidden) if self.norm_first else hidden
            found, weights = self.cross(self.cross.queries(x), image)
            hidden = self._added(hidden, found, self.cross.norm)
        x = self.norm(hidden) if self.norm_first else hidden
        return self._added(hidden, self.narrow(self.activation(self.widen(x))), self.norm), cache, weights

    def _added(self, hidden: Tensor, found: Tensor, norm: nn.Module) -> Tensor:
        summed: Tensor = hidden + found
        return summed if self.norm_first else norm(summed)


class HubEmbedding(nn.Module):
    """Words and their places in the sentence.

    positions: None where blocks see to them. offset: of positions; scale: of words; norm: None without.
    """

    def __init__(
        self,
        words: nn.Embedding,
        positions: nn.Embedding | None = None,
        norm: nn.Module | None = None,
        offset: int = 0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.words, self.positions, self.norm, self.offset, self.scale = words, positions, norm, offset, scale

    def forward(self, token_ids: Tensor, position: Tensor) -> Tensor:
        # By the matrices alone: modules of the library scale and count in ways of their own.
        x = F.embedding(token_ids, self.words.weight) * self.scale
        if self.positions is not None:
            position = (position + self.offset).clamp(max=len(self.positions.weight) - 1)
            x = x + F.embedding(position, self.positions.weight)
        return x if self.norm is None else self.norm(x)


class HubHead(nn.Module):
    """Scores of words. transform: BERT's layer before them, with its norm; None without."""

    def __init__(self, out: nn.Linear, transform: nn.Module | None = None) -> None:
        super().__init__()
        # A layer of its own, which is packed, of numbers that are the embedding's too.
        self.out = nn.Linear(out.in_features, out.out_features, device="meta")
        self.out.weight, self.out.bias = out.weight, out.bias
        self.transform = transform

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.out(x if self.transform is None else self.transform(x))
        return scores


class HubDecoder(Decoder):
    """Words of a published captioner, K beams side by side in one sequence of each image.

    alphas: the mean of all heads' and blocks' attention to the places. What goes to a class token, to pooled
    tokens and, where the photo is a prefix, to words is left out, so that they sum to less than 1.
    """

    at_once = 4  # of BLIP's 577 places, the keys and values of all blocks have 43 MB a photo
    compiles = False
    looks_elsewhere = True

    def __init__(
        self,
        config: HubConfig,
        blocks: Sequence[nn.Module],
        embedding: HubEmbedding,
        head: nn.Module,
        prompt: Sequence[int],
        *,
        norm: nn.Module | None = None,
        context: nn.Module | None = None,
        prefix: bool = False,
        around: tuple[Sequence[int], Sequence[int]] | None = None,
    ) -> None:
        """prompt: ids before the words, the last of which a search begins with.

        norm: behind the last block. context: (B, P, C) -> what is attended to, as of an encoder of text and
            image. prefix: whether the image goes through the blocks as tokens before the words.
        around: of a chat: ids before and behind the image's tokens, all of which are read as words are.
        """
        super().__init__(config)
        self.blocks = nn.ModuleList(blocks)
        self.embedding, self.head, self.context = embedding, head, context
        self.norm = nn.Identity() if norm is None else norm
        self.prompt, self.prefix, self.around = tuple(prompt), prefix or around is not None, around

    def start(self, features: Features) -> State:
        x = features.values
        extra = 0
        if features.beside is not None:
            x, extra = torch.cat([features.beside, x], 1), features.beside.shape[1]
        places = torch.arange(extra, x.shape[1], device=x.device)
        if self.context is not None:
            x = self.context(x)
        sees = position = None
        if self.around is not None:
            begun = len(self.around[0])
            before, after = (self._read(ids, x) for ids in self.around)
            x, places = torch.cat([before, x, after], 1), places + begun
            sees = torch.ones(1, x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
            position = torch.arange(x.shape[1], device=x.device)[None]
        images: dict[str, Any] = {"places": places.expand(len(x), -1)}
        hidden = x
        for i, block in enumerate(self.blocks):
            if self.prefix:
                hidden, images[f"cache.{i}"], _ = block(hidden, None, sees, None, position)
            else:
                seen = block.cross.keys_and_values(x)  # type: ignore[union-attr, operator]
                images[f"image.{i}"] = Cache(*(part.contiguous() for part in seen))  # read with every word
        given = x.shape[1] if self.prefix else 0
        sees = torch.ones(len(x), given, dtype=torch.bool, device=x.device)
        words = torch.full((len(x),), given if self.around else 0, device=x.device)
        state = State(images, {"sees": sees, "words": words})
        if len(self.prompt) > 1:
            ids = torch.tensor([self.prompt[:-1]], device=x.device).expand(len(x), -1)
            _, _, state = self.advance_all(ids, state)
        return state

    def _read(self, ids: Sequence[int], x: Tensor) -> Tensor:
        """(B, T, D) words of a chat, for each image of x."""
        rows = torch.tensor([list(ids)], dtype=torch.long, device=x.device)
        return F.embedding(rows, self.embedding.words.weight).to(x.dtype).expand(len(x), -1, -1)

    def advance(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        output, alphas, state = self.advance_all(token_ids.unsqueeze(1), state)
        return output.squeeze(1), alphas.squeeze(1), state

    def advance_all(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        rows, words = token_ids.shape
        places = state.images["places"]  # (B, P)
        batch, own = len(places), places[0]
        position = state.rows["words"].unsqueeze(1) + torch.arange(words, device=token_ids.device)
        hidden = self.embedding(token_ids, position).reshape(batch, rows // batch * words, -1)
        sees = tokens_to_see(state.rows["sees"], batch, words)
        images, looked, places_of = dict(state.images), [], position.reshape(batch, -1)
        for i, block in enumerate(self.blocks):
            hidden, images[f"cache.{i}"], weights = block(
                hidden, images.get(f"cache.{i}"), sees, images.get(f"image.{i}"), places_of
            )
            looked.append(weights.mean(1))
        alphas = torch.stack(looked).mean(0)[..., own].float()
        output, alphas, sees = (x.reshape(rows, words, -1) for x in (self.norm(hidden), alphas, sees))
        return output, alphas, State(images, {"sees": sees[:, -1], "words": position[:, -1] + 1})

    def states_after(self, token_ids: Tensor, state: State) -> State:
        """All words in one product: each row sees those before it."""
        _, _, last = self.advance_all(token_ids[None, :-1], state)
        seen, words = last.rows["sees"], len(token_ids)
        after = torch.arange(words, device=seen.device)
        sees = seen.repeat(words, 1)
        sees[:, seen.shape[1] - words + 1 :] &= after[:-1] < after[:, None]
        return State(last.images, {"sees": sees, "words": state.rows["words"] + after})

    def logits(self, output: Tensor) -> Tensor:
        scores: Tensor = self.head(output)
        return scores


def linear(layer: Any, part: int = 0, parts: int = 1) -> nn.Linear:
    """A layer, or one of equal parts of its output, as PyTorch's own; GPT-2's are transposed."""
    weight, bias = layer.weight, layer.bias
    if not isinstance(layer, nn.Linear):
        weight = weight.T
    size = weight.shape[0] // parts
    made = nn.Linear(weight.shape[1], size, bias is not None, device="meta")
    rows = slice(part * size, (part + 1) * size)
    made.weight = nn.Parameter(weight[rows], requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias[rows], requires_grad=False)
    return made
