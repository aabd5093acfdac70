"""A GPT-2 that continues image tokens: the photo is a prefix, and the caption is what comes after it.

GPT-2 (Radford et al., 2019) in the layout of `transformers`, whose weights can be loaded; a prefix that
is mapped from the image as in ClipCap (arXiv 2111.09734), with the maps that `IMAGE_TOKENS` lists. The
equations are written out here, because one image's keys and values serve all of its beams.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captionbot.decoders.attention import layer_norm, mean_annotation
from captionbot.decoders.base import Decoder, DecoderConfig, State
from captionbot.decoders.cache import Cache, tokens_to_see
from captionbot.decoders.family import Family
from captionbot.decoders.packing import Matrix
from captionbot.errors import CaptionBotError
from captionbot.extras import require
from captionbot.text.vocabulary import SPECIAL_TOKENS
from captionbot.types import Features


@dataclass(frozen=True)
class GPT2PrefixConfig(DecoderConfig):
    """Sizes of the decoder.

    image_tokens: how places become tokens, a key of `IMAGE_TOKENS`.
    prefix_length: image tokens, and the position of the first word; "places" has a token for each place,
        so at least as many.
    positions: that are told apart; words after the last one share it.
    layers: of a pretrained GPT-2 only the first so many are taken.
    reinsert: the image tokens are put in again after each block, as they came from the encoder.
    pretrained: name on the Hugging Face Hub, or folder, of a GPT-2 to start from, "" for random weights.
        With subwords of GPT-2 as vocabulary its embedding is taken over too.
    pretrained_blocks: False takes over nothing but the embedding.
    tag_ids: ids of the words that are tags; tags: how many of them are put in front of the image tokens.
    groups: channels of each of several CNNs, whose features are normalised apart; () for all together.
    dropout: on tokens, attention weights and residuals, in training alone.
    """

    image_tokens: str = "strips"
    prefix_length: int = 10
    hidden_size: int = 768
    layers: int = 12
    heads: int = 12
    positions: int = 64
    reinsert: bool = False
    pretrained: str = ""
    pretrained_blocks: bool = True
    tag_ids: tuple[int, ...] = ()
    tags: int = 5
    groups: tuple[int, ...] = ()
    dropout: float = 0.1

    @property
    def tags_said(self) -> int:
        """How many tags stand in front."""
        return min(self.tags, len(self.tag_ids))

    def __post_init__(self) -> None:
        if self.image_tokens not in IMAGE_TOKENS:
            raise CaptionBotError(
                f"'{self.image_tokens}' is no way to image tokens; choose one of {', '.join(IMAGE_TOKENS)}."
            )
        if self.hidden_size % self.heads or self.hidden_size % 2:
            raise CaptionBotError(
                f"A hidden_size of {self.hidden_size} cannot be split into {self.heads} heads; "
                "give an even multiple of the heads."
            )
        if self.prefix_length >= self.positions:
            raise CaptionBotError(
                f"prefix_length is {self.prefix_length} and positions {self.positions}; "
                "give more positions, so that some are left for the words."
            )


class StripTokens(nn.Module):
    """Token j is the mean and the maximum of what lies in the j-th vertical strip of the photo.

    S002's 10 x 10 grid, whose rows are pooled to 10 tokens, for places anywhere: a place counts for a
    strip by the width that they share.
    """

    def __init__(self, config: GPT2PrefixConfig) -> None:
        super().__init__()
        self.strips = config.prefix_length
        self.project = nn.Linear(config.feature_size, config.hidden_size // 2)

    def forward(self, values: Tensor, features: Features) -> tuple[Tensor, Tensor]:
        shares = strip_shares(features, self.strips).to(values.dtype)  # (B or 1, m, P)
        projected = self.project(values)  # (B, P, D / 2)
        absent = (shares == 0).unsqueeze(-1)  # (B or 1, m, P, 1)
        highest = projected.unsqueeze(1).masked_fill(absent, float("-inf")).amax(2)
        return torch.cat([shares @ projected, highest], -1), shares


class QueryTokens(nn.Module):
    """Token j is a weighted mean of the places, with the weights that learnt query j gives them.

    The attention pooling of arXiv 2205.01917, section 3.2, with one head.
    """

    def __init__(self, config: GPT2PrefixConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.queries = nn.Parameter(torch.randn(config.prefix_length, width))
        self.keys, self.project = nn.Linear(config.feature_size, width), nn.Linear(config.feature_size, width)

    def forward(self, values: Tensor, features: Features) -> tuple[Tensor, Tensor]:
        scores = self.queries @ self.keys(values).mT / self.queries.shape[-1] ** 0.5  # (B, m, P)
        if features.mask is not None:
            scores = scores.masked_fill(~features.mask.unsqueeze(1), float("-inf"))
        shares = scores.softmax(-1)
        return shares @ self.project(values), shares


class PlaceTokens(nn.Module):
    """Every place is a token."""

    def __init__(self, config: GPT2PrefixConfig) -> None:
        super().__init__()
        self.tokens = config.prefix_length
        self.project = nn.Linear(config.feature_size, config.hidden_size)

    def forward(self, values: Tensor, features: Features) -> tuple[Tensor, Tensor]:
        places = values.shape[1]
        if places > self.tokens:
            raise CaptionBotError(
                f"The encoder gives {places} places, and the decoder has {self.tokens} image tokens; "
                f"give a prefix_length of {places}, or image_tokens other than 'places'."
            )
        return self.project(values), torch.eye(places, device=values.device, dtype=values.dtype)[None]


IMAGE_TOKENS: dict[str, type[nn.Module]] = {
    "strips": StripTokens,
    "queries": QueryTokens,
    "places": PlaceTokens,
}
"""(B, P, C) normalised values and the features -> (B, m, D) tokens, and the share that each place has in
each token, (B or 1, m, P), every row summing to 1."""


def strip_shares(features: Features, strips: int) -> Tensor:
    """(B or 1, strips, P): how much of a strip's content is each place's; rows sum to 1.

    A strip that no place reaches is told of all of them.
    """
    left, right = features.boxes[:, None, :, 0], features.boxes[:, None, :, 2]  # (B or 1, 1, P)
    edges = torch.linspace(0, 1, strips + 1, device=left.device)[:, None]
    shared = right.minimum(edges[1:]) - left.maximum(edges[:-1])
    shared = shared.where(shared > 1e-6, 0)  # rounding alone makes neighbours touch
    real = torch.ones_like(right) if features.mask is None else features.mask[:, None].to(shared.dtype)
    shared = shared * real
    shared = torch.where(shared.sum(-1, keepdim=True) > 0, shared, real)
    return shared / shared.sum(-1, keepdim=True)


class GPT2Block(nn.Module):
    """One block of GPT-2: attention to what came before, then a feed-forward network."""

    def __init__(self, config: GPT2PrefixConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads, self.dropout = config.heads, config.dropout
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.attn_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.c_fc, self.mlp_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor, cache: Cache | None, sees: Tensor) -> tuple[Tensor, Cache, Tensor]:
        """Q new tokens of each image.

        hidden: (B, Q, D); cache: of the S tokens before.
        sees: (B, Q, S + Q) bool, which tokens each new one attends to.
        Returns the next hidden, the cache with the new tokens, and the weights (B, heads, Q, S + Q).
        """
        parts = self.c_attn(self.ln_1(hidden)).unflatten(-1, (3, self.heads, -1))
        query, keys, values = (part.transpose(1, 2) for part in parts.unbind(2))  # (B, heads, Q, d)
        cache = Cache(keys, values) if cache is None else cache.appended(keys, values)
        scores = query @ cache.keys.mT / query.shape[-1] ** 0.5
        weights = scores.masked_fill(~sees.unsqueeze(1), float("-inf")).softmax(-1)
        context = (self._dropped(weights) @ cache.values).transpose(1, 2).flatten(2)
        hidden = hidden + self._dropped(self.attn_proj(context))
        wide = F.gelu(self.c_fc(self.ln_2(hidden)), approximate="tanh")
        return hidden + self._dropped(self.mlp_proj(wide)), cache, weights

    def _dropped(self, values: Tensor) -> Tensor:
        return F.dropout(values, self.dropout, self.training)


class Tagger(nn.Module):
    """Which tags an image's features suggest: one linear classifier a tag, on their mean."""

    def __init__(self, feature_size: int, tags: int) -> None:
        super().__init__()
        self.linear = nn.Linear(feature_size, tags)

    def forward(self, features: Features) -> Tensor:
        """(B, tags) unnormalised scores; a sigmoid makes them the chance that a caption says the tag."""
        scores: Tensor = self.linear(self.pool(features))
        return scores

    def pool(self, features: Features) -> Tensor:
        """(B, C): the mean of the real places, normalised."""
        pooled = mean_annotation(features.values, features.mask)
        return F.layer_norm(pooled, pooled.shape[-1:])


class Unembedding(nn.Module):
    """Scores of words by an embedding's transpose (arXiv 1608.05859); the weights are the embedding's."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.embedding = (embedding,)  # a tuple hides it from state_dict, where it has its own name

    @property
    def weight(self) -> Tensor:
        return self.embedding[0].weight

    def forward(self, output: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        return F.linear(output, self.weight)


class GPT2PrefixDecoder(Decoder):
    """Tags (where there are any), image tokens, words: all in one sequence, only the words are predicted.

    Image tokens and words lie in one `Cache` a block.

    alphas: attention of a word to the image tokens, the mean of all heads and blocks, each token's weight
    shared out to the places that it was made of, and scaled to sum to 1. It is the model's own attention,
    with limits: what goes to tags and words is left out; later image tokens have read earlier ones
    (unless they are re-inserted); and "strips" cannot tell places above each other apart.
    """

    compiles = False

    def __init__(self, config: GPT2PrefixConfig) -> None:
        super().__init__(config)
        self.normalise = layer_norm(config)
        self.image_tokens = IMAGE_TOKENS[config.image_tokens](config)
        self.wte = nn.Embedding(config.vocabulary_size, config.hidden_size)
        self.wpe = nn.Embedding(config.positions, config.hidden_size)
        self.blocks = nn.ModuleList(GPT2Block(config) for _ in range(config.layers))
        self.ln_f = nn.LayerNorm(config.hidden_size)
        self.output_word = Unembedding(self.wte)
        self.tagger = Tagger(config.feature_size, len(config.tag_ids)) if config.tag_ids else None
        for name, parameter in self.named_parameters():
            if name.startswith(("wte", "wpe", "blocks")) and name.endswith("weight") and parameter.ndim == 2:
                residual = name.endswith("_proj.weight")  # section 2.3 of the GPT-2 paper
                nn.init.normal_(parameter, std=0.02 / (2 * config.layers) ** 0.5 if residual else 0.02)
            elif name.startswith("blocks") and name.endswith("bias"):
                nn.init.zeros_(parameter)
        # A decoder on "meta" is about to be given all of its weights.
        if config.pretrained and not self.wte.weight.is_meta:
            load_gpt2(self, config.pretrained, config.pretrained_blocks)

    def start(self, features: Features) -> State:
        batch, device = len(features), features.values.device
        tokens, shares = self.image_tokens(self.normalise(features.values), features)  # (B, m, D)
        count = tokens.shape[1]
        tokens = tokens + self.wpe(torch.arange(count, device=device))
        real = torch.ones(batch, count, dtype=torch.bool, device=device)
        if features.mask is not None and isinstance(self.image_tokens, PlaceTokens):
            real = features.mask
        if self.tagger is not None:
            tags = self._tags(features, self.tagger)
            tokens = torch.cat([self.wte(tags), tokens], 1)
            real = torch.cat([real.new_ones(tags.shape), real], 1)
        length = tokens.shape[1]
        sees = torch.ones(length, length, dtype=torch.bool, device=device).tril()
        itself = torch.eye(length, dtype=torch.bool, device=device)
        sees = sees & (real.unsqueeze(1) | itself)  # what only fills up sees itself, and nobody sees it
        hidden = tokens = self.dropped(tokens)
        images = {"shares": shares.expand(batch, -1, -1)}
        for i, block in enumerate(self.blocks):
            hidden, images[f"cache.{i}"], _ = block(hidden, None, sees)
            if self.config.reinsert:
                hidden = tokens
        return State(images, {"sees": real})

    def _tags(self, features: Features, tagger: Tagger) -> Tensor:
        """(B, tags) ids of the likeliest tags, likeliest first. They are a set: none has a position."""
        with torch.no_grad():
            best = tagger(features).topk(self.config.tags_said).indices
        return torch.tensor(self.config.tag_ids, device=best.device)[best]

    def advance(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        output, alphas, state = self.advance_all(token_ids.unsqueeze(1), state)
        return output.squeeze(1), alphas.squeeze(1), state

    def advance_all(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        rows, words = token_ids.shape
        shares, seen = state.images["shares"], state.rows["sees"]  # (B, m, P), (N, S)
        batch, tags = len(shares), self.config.tags_said
        image = slice(tags, tags + shares.shape[1])
        position = seen[:, image.stop :].sum(1, keepdim=True) + torch.arange(words, device=seen.device)
        position = (position + self.config.prefix_length).clamp(max=self.config.positions - 1)
        hidden = self.dropped(self.wte(token_ids) + self.wpe(position)).view(
            batch, -1, self.wte.embedding_dim
        )
        sees = tokens_to_see(seen, batch, words)
        images, looked = {"shares": shares}, []
        for i, block in enumerate(self.blocks):
            hidden, images[f"cache.{i}"], weights = block(hidden, state.images[f"cache.{i}"], sees)
            looked.append(weights[..., image].mean(1))  # (B, K T, m)
        alphas = (torch.stack(looked).mean(0) @ shares).float()
        alphas = alphas / alphas.sum(-1, keepdim=True).clamp(min=1e-20)
        output, alphas, sees = (x.reshape(rows, words, -1) for x in (self.ln_f(hidden), alphas, sees))
        return output, alphas, State(images, {"sees": sees[:, -1]})

    def logits(self, output: Tensor) -> Tensor:
        logits: Tensor = self.output_word(output)
        return logits


GPT2_NAMES = {
    "ln_1": "ln_1",
    "c_attn": "attn.c_attn",
    "attn_proj": "attn.c_proj",
    "ln_2": "ln_2",
    "c_fc": "mlp.c_fc",
    "mlp_proj": "mlp.c_proj",
}
"""Layers of a block here -> in `transformers`, where those with a matrix store it transposed."""


def load_gpt2(decoder: GPT2PrefixDecoder, name: str, blocks: bool = True) -> None:
    """Take over a GPT-2 of `transformers`: its first blocks, and its embedding if it has the same subwords.

    name: on the Hugging Face Hub, or a folder.
    blocks: False takes the embedding alone.
    Raises CaptionBotError where it cannot be had, or is of another size.
    """
    require("transformers", "transformers", "A pretrained GPT-2")
    from transformers import GPT2Model

    config = decoder.config
    try:
        gpt2 = GPT2Model.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise CaptionBotError(
            f"There is no GPT-2 at '{name}' ({str(error).splitlines()[0]}); give a name on the Hugging Face "
            "Hub and a network to fetch it, or a folder."
        ) from None
    theirs = {
        "hidden_size": gpt2.config.n_embd,
        "heads": gpt2.config.n_head,
        "layers": gpt2.config.n_layer,
        "positions": gpt2.config.n_positions,
    }
    for field, value in theirs.items():
        ours = getattr(config, field)
        if field == "hidden_size" or blocks:
            same = ours <= value if field in ("layers", "positions") else ours == value
            if not same:
                raise CaptionBotError(f"{field} is {ours}, and that of '{name}' {value}; give {value}.")
    tensors = gpt2.state_dict()
    subwords = config.vocabulary_size == len(tensors["wte.weight"]) + len(SPECIAL_TOKENS)
    if not (subwords or blocks):
        raise CaptionBotError(
            f"The embedding of '{name}' has {len(tensors['wte.weight'])} subwords, which the vocabulary has "
            "not; choose the vocabulary gpt2, or take over the blocks."
        )
    with torch.no_grad():
        if subwords:
            decoder.wte.weight[len(SPECIAL_TOKENS) :] = tensors["wte.weight"]
            decoder.wte.weight[: len(SPECIAL_TOKENS)] = tensors["wte.weight"][-1]  # <|endoftext|>
        if blocks:
            decoder.wpe.weight.copy_(tensors["wpe.weight"][: config.positions])
            for part in ("weight", "bias"):
                decoder.ln_f.get_parameter(part).copy_(tensors[f"ln_f.{part}"])
            for i, block in enumerate(decoder.blocks):
                for ours, their in GPT2_NAMES.items():
                    for part in ("weight", "bias"):
                        value = tensors[f"h.{i}.{their}.{part}"]
                        block.get_parameter(f"{ours}.{part}").copy_(value.mT if value.ndim == 2 else value)


FAMILY = Family(
    kind="gpt2-prefix",
    title="GPT-2 prefix",
    decoder=GPT2PrefixDecoder,
    config=GPT2PrefixConfig,
    packers={Unembedding: lambda layer, packing: packing(Matrix(layer.weight))},
    limits={"layers": 64, "heads": 256, "positions": 4096, "prefix_length": 1024},
)
