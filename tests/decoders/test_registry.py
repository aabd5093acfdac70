"""A family is one module: what is registered is built, titled, packed and loaded like those that ship."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pytest
import torch
from tiny import build_tiny_captioner
from torch import Tensor, nn

from captionbot import CaptionBotError, Captioner
from captionbot.backends.cpu.decoder import pack
from captionbot.backends.cpu.linear import Product
from captionbot.decoders import (
    FAMILIES,
    Decoder,
    DecoderConfig,
    Family,
    State,
    build_decoder,
    family_of,
    register,
    registry,
)
from captionbot.decoders.packing import Matrix
from captionbot.store import card as cards
from captionbot.types import Features

# A sixth family as a module of its own would have it: from here to `FAMILY`.


@dataclass(frozen=True)
class BigramConfig(DecoderConfig):
    """Sizes of the decoder."""

    hidden_size: int = 8


class Pair(nn.Module):
    """Two layers that are given the same, which a CPU can have as one product."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(size, size), nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.left(x) * self.right(x).sigmoid()


class PackedPair(nn.Module):
    def __init__(self, both: nn.Module) -> None:
        super().__init__()
        self.both = both

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.both(x).chunk(2, -1)
        return left * right.sigmoid()


class BigramDecoder(Decoder):
    """The next word from the last one and the mean place."""

    attends = False

    def __init__(self, config: BigramConfig) -> None:
        super().__init__(config)
        self.image = nn.Linear(config.feature_size, config.hidden_size)
        self.word = nn.Embedding(config.vocabulary_size, config.hidden_size)
        self.pair = Pair(config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.vocabulary_size)

    def start(self, features: Features) -> State:
        places = features.values.shape[1]
        alphas = features.values.new_full((len(features), places), 1 / places)
        return State({"alphas": alphas}, {"image": self.image(features.values.mean(1))})

    def advance(self, token_ids: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        shares = state.images["alphas"]
        output = self.pair(self.dropped(self.word(token_ids)) + state.rows["image"])
        return output, shares.repeat_interleave(len(token_ids) // len(shares), 0), state

    def logits(self, output: Tensor) -> Tensor:
        return self.output(output)


FAMILY = Family(
    kind="bigram",
    title="Bigram",
    decoder=BigramDecoder,
    config=BigramConfig,
    packers={Pair: lambda pair, packing: PackedPair(packing(Matrix.of(pair.left), Matrix.of(pair.right)))},
    limits={"hidden_size": 100},
)


@pytest.fixture
def bigram():
    register(FAMILY)
    yield FAMILY
    del registry._families["bigram"]


def test_a_sixth_family_captions_from_its_card(bigram, tmp_path):
    card, encoder, _ = cards.load(build_tiny_captioner(tmp_path))
    torch.manual_seed(0)
    spec = {"vocabulary_size": len(card.vocabulary), "feature_size": 64, "hidden_size": 16}
    card = dataclasses.replace(card, name="sixth", decoder={"kind": "bigram", **spec})
    path = cards.save(tmp_path / "sixth", card, encoder, build_decoder("bigram", spec))
    assert cards.Card.load(path).title == "Bigram"
    captioner = Captioner.from_pretrained(path, "cpu")
    assert isinstance(captioner.decoder, BigramDecoder)
    features = captioner.encode_pixels(torch.randn(2, 3, 64, 64))
    assert all(captioner.search(features, captioner.options()).hypotheses)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")
def test_a_sixth_family_says_how_it_is_packed(bigram):
    torch.manual_seed(0)
    decoder = bigram.build({"vocabulary_size": 9, "feature_size": 6}).eval().requires_grad_(False)
    features, words = Features(torch.randn(3, 5, 6), torch.rand(1, 5, 4)), torch.tensor([1, 2, 3])
    expected = decoder.step(words, decoder.start(features))[0]
    packed = pack(decoder, torch.float32)
    assert isinstance(packed.pair, PackedPair)
    assert isinstance(packed.pair.both, Product)
    torch.testing.assert_close(packed.step(words, packed.start(features))[0], expected)


def test_kinds_are_known_once(bigram):
    register(bigram)  # the same again is no matter
    with pytest.raises(CaptionBotError, match="There is a family 'bigram' already"):
        register(dataclasses.replace(bigram, title="Another"))
    with pytest.raises(CaptionBotError, match=r"'trigram' is not a kind of decoder; choose one of .*bigram"):
        family_of("trigram")


def test_families_that_ship_keep_the_kinds_of_their_cards():
    kinds = {"gpt2-prefix", "scratch-recurrent", "scratch-transformer"}
    kinds |= {"annotated-transformer", "att2in", "attention-on-attention", "ensemble", "meshed-memory"}
    assert set(FAMILIES) == kinds | {"show-and-tell", "soft-attention", "top-down"}
    assert all(family.kind == kind for kind, family in FAMILIES.items())
    assert FAMILIES["show-and-tell"].title_of({"cell": "gru"}) == "Show and Tell (GRU)"
    assert FAMILIES["scratch-recurrent"].title_of({}) == "LSTM from scratch"
