"""The written-out Transformer against PyTorch's own layers with the same weights."""

import math

import pytest
import torch
from torch import nn

from captionbot import CaptionBotError
from captionbot.decoders import build_decoder
from captionbot.decoders.transformer import ScratchAttention, ScratchLayerNorm, sinusoids
from captionbot.types import Features

WIDTH, HEADS, LAYERS, VOCABULARY, CHANNELS = 16, 4, 2, 11, 6


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    config = {
        "vocabulary_size": VOCABULARY,
        "feature_size": CHANNELS,
        "embedding_size": WIDTH,
        "heads": HEADS,
        "layers": LAYERS,
        "feedforward_size": 20,
        "dropout": 0.0,
    }
    built = build_decoder("scratch-transformer", config)
    for parameter in built.parameters():  # biases and gains that matter
        parameter.data += 0.1 * torch.randn_like(parameter)
    return built


def pytorchs(decoder):
    """nn.TransformerDecoder with copies of the weights."""
    layer = nn.TransformerDecoderLayer(WIDTH, HEADS, 20, dropout=0.0, batch_first=True)
    reference = nn.TransformerDecoder(layer, LAYERS)
    for own, theirs in zip(decoder.layers, reference.layers, strict=True):
        attentions = [(own.self_attention, theirs.self_attn), (own.cross_attention, theirs.multihead_attn)]
        pairs = [(own.widen, theirs.linear1), (own.narrow, theirs.linear2)]
        pairs += [(own.norm1, theirs.norm1), (own.norm2, theirs.norm2), (own.norm3, theirs.norm3)]
        pairs += [(mine.output, other.out_proj) for mine, other in attentions]
        for mine, other in pairs:
            other.load_state_dict(mine.state_dict())
        for mine, other in attentions:
            parts = (mine.query, mine.key, mine.value)
            other.in_proj_weight.data = torch.cat([part.weight for part in parts]).detach().clone()
            other.in_proj_bias.data = torch.cat([part.bias for part in parts]).detach().clone()
    return reference


def table(length):
    """Section 3.5, number by number."""
    values = torch.empty(length, WIDTH)
    for position in range(length):
        for i in range(WIDTH // 2):
            angle = position / 10000 ** (2 * i / WIDTH)
            values[position, 2 * i], values[position, 2 * i + 1] = math.sin(angle), math.cos(angle)
    return values


@pytest.mark.parametrize("places", [1, 5])
def test_forward_and_gradients_are_those_of_pytorchs_layers(decoder, places):
    reference = pytorchs(decoder)
    values, words = torch.randn(3, places, CHANNELS), torch.randint(0, VOCABULARY, (3, 7))
    mask = torch.arange(places) < torch.tensor([[places], [max(1, places - 2)], [places]])
    features = Features(values, torch.rand(1, places, 4), mask=mask)
    outputs, _, _ = decoder.advance_all(words, decoder.start(features))
    weights = torch.randn_like(outputs)
    (outputs * weights).sum().backward()
    mine = {name: p.grad.clone() for name, p in decoder.named_parameters() if p.grad is not None}
    decoder.zero_grad()

    embedded = decoder.embedding(words) * WIDTH**0.5 + table(7)
    causal = nn.Transformer.generate_square_subsequent_mask(7)
    expected = reference(
        embedded, decoder.image(values), tgt_mask=causal, memory_key_padding_mask=(~mask).float() * -1e9
    )
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)
    (expected * weights).sum().backward()
    for own, theirs in (("widen", "linear1"), ("narrow", "linear2"), ("norm1", "norm1"), ("norm3", "norm3")):
        for i, layer in enumerate(reference.layers):
            gradient = layer.get_submodule(theirs).weight.grad
            torch.testing.assert_close(mine[f"layers.{i}.{own}.weight"], gradient, rtol=1e-3, atol=1e-4)
    for own, theirs in (("self_attention", "self_attn"), ("cross_attention", "multihead_attn")):
        for i, layer in enumerate(reference.layers):
            names = [f"layers.{i}.{own}.{part}.weight" for part in ("query", "key", "value")]
            gradient = layer.get_submodule(theirs).in_proj_weight.grad
            torch.testing.assert_close(torch.cat([mine[n] for n in names]), gradient, rtol=1e-3, atol=1e-4)
    for name in ("image.weight", "embedding.weight"):
        gradient = decoder.get_parameter(name).grad
        torch.testing.assert_close(mine[name], gradient, rtol=1e-3, atol=1e-4)


def test_attention_weights_are_pytorchs():
    torch.manual_seed(0)
    own = ScratchAttention(WIDTH, HEADS, 0.0)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    parts = (own.query, own.key, own.value)
    theirs.in_proj_weight.data = torch.cat([part.weight for part in parts])
    theirs.in_proj_bias.data = torch.cat([part.bias for part in parts])
    theirs.out_proj.load_state_dict(own.output.state_dict())
    x, memory = torch.randn(2, 3, WIDTH), torch.randn(2, 5, WIDTH)
    context, weights = own(own.queries(x), own.pair(memory))
    expected, averaged = theirs(x, memory, memory)
    torch.testing.assert_close(context, expected)
    torch.testing.assert_close(weights.mean(1), averaged)


def test_the_layer_norm_is_pytorchs():
    own, theirs = ScratchLayerNorm(8).double(), nn.LayerNorm(8).double()
    for module in (own, theirs):
        torch.manual_seed(0)
        nn.init.normal_(module.weight)
        nn.init.normal_(module.bias)
    x = torch.randn(3, 8, dtype=torch.double)
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    torch.testing.assert_close(own(mine), theirs(other))
    own(mine).sin().sum().backward()
    theirs(other).sin().sum().backward()
    torch.testing.assert_close(mine.grad, other.grad)
    torch.testing.assert_close(own.weight.grad, theirs.weight.grad)


def test_positions_are_the_papers_sinusoids_at_any_length():
    torch.testing.assert_close(sinusoids(torch.arange(50), WIDTH), table(50))
    torch.testing.assert_close(sinusoids(torch.tensor([49]), WIDTH), table(50)[49:])


@torch.inference_mode()
def test_alphas_are_the_attention_to_the_places_of_the_last_layer(decoder):
    features = Features(torch.randn(2, 3, CHANNELS), torch.rand(1, 3, 4))
    words = torch.tensor([[1, 4], [1, 5]])
    seen = []
    hook = decoder.layers[-1].cross_attention.register_forward_hook(lambda *call: seen.append(call[-1][1]))
    _, alphas, _ = decoder.advance_all(words, decoder.start(features))
    hook.remove()
    torch.testing.assert_close(alphas, seen[0].mean(1))
    torch.testing.assert_close(alphas.sum(-1), torch.ones(2, 2))


def test_the_image_is_read_once_and_never_copied_for_a_beam(decoder):
    state = decoder.start(Features(torch.randn(2, 3, CHANNELS), torch.rand(1, 3, 4)))
    many = state.select(torch.arange(2).repeat_interleave(5))
    _, _, after = decoder.advance(torch.full((10,), 1), many)
    for name in ("keys.0.0", "values.0.0", "keys.1.0", "values.1.0"):
        assert after.images[name] is state.images[name]
    assert set(after.rows) == {"sees"}


def test_nothing_of_pytorchs_attention_is_in_the_decoder(decoder):
    theirs = (nn.MultiheadAttention, nn.TransformerDecoder, nn.TransformerDecoderLayer, nn.LayerNorm)
    assert not any(isinstance(module, theirs) for module in decoder.modules())


def test_heads_that_do_not_divide_the_width_are_one_sentence():
    with pytest.raises(CaptionBotError, match="cannot be split into 3 heads"):
        build_decoder("scratch-transformer", {"vocabulary_size": 5, "feature_size": 3, "heads": 3})
