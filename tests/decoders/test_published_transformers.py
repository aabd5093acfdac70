"""Attention on attention, and the meshed-memory Transformer, against their papers' equations written out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captionbot.decoders.attention_on_attention import (
    AttentionOnAttention,
    AttentionOnAttentionConfig,
    AttentionOnAttentionDecoder,
)
from captionbot.decoders.meshed_memory import MeshedMemoryConfig, MeshedMemoryDecoder
from captionbot.decoders.transformer import ScratchAttention, sinusoids
from captionbot.types import Features

D, HEADS, PLACES = 8, 2, 3
FEATURES = Features(torch.randn(1, PLACES, 6, generator=torch.manual_seed(1)), torch.rand(1, PLACES, 4))


def heads(attention: ScratchAttention, asks: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """(D,) that asks, (P, D) keys and values -> the heads' findings side by side, before any output layer."""
    found, width = [], D // HEADS
    for head in range(HEADS):
        part = slice(head * width, (head + 1) * width)
        weights = (keys[:, part] @ asks[part] / width**0.5).softmax(0)
        found.append(weights @ values[:, part])
    return torch.cat(found)


def layer_norm(norm: nn.Module, x: Tensor) -> Tensor:
    centred = x - x.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * norm.weight + norm.bias


def on_attention(module: AttentionOnAttention, x: Tensor, places: Tensor) -> Tensor:
    """Equations 2 to 4 of arXiv 1908.06954, for one question."""
    attention = module.attention
    question = attention.query(x)
    found = heads(attention, question, attention.key(places), attention.value(places))
    weight, bias = module.vector_and_gate.weight, module.vector_and_gate.bias
    information = weight[:D, :D] @ question + weight[:D, D:] @ found + bias[:D]
    gate = (weight[D:, :D] @ question + weight[D:, D:] @ found + bias[D:]).sigmoid()
    return gate * information


@torch.inference_mode()
def test_attention_on_attention_is_the_paper_written_out():
    torch.manual_seed(0)
    config = AttentionOnAttentionConfig(
        11, 6, embedding_size=5, hidden_size=D, heads=HEADS, refining_layers=2
    )
    decoder = AttentionOnAttentionDecoder(config).eval()
    places = decoder.image(FEATURES.values[0]).relu()
    for layer in decoder.refine:
        places = torch.stack([layer_norm(layer.norm, a + on_attention(layer.ask, a, places)) for a in places])
    state = decoder.start(FEATURES)
    h = c = answer = torch.zeros(D)
    for word in (5, 3):
        x = torch.cat([decoder.embedding.weight[word], places.mean(0) + answer])
        cell = decoder.cell
        i, f, g, o = (cell.weight_ih @ x + cell.bias_ih + cell.weight_hh @ h + cell.bias_hh).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        answer = on_attention(decoder.ask, h, places)
        output, _, state = decoder.advance(torch.tensor([word]), state)
        torch.testing.assert_close(output[0], answer, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_the_meshed_memory_transformer_is_the_paper_written_out():
    torch.manual_seed(0)
    sizes = {"embedding_size": D, "heads": HEADS, "layers": 1, "feedforward_size": 12}
    decoder = MeshedMemoryDecoder(MeshedMemoryConfig(11, 6, **sizes, encoder_layers=2, memory_slots=4)).eval()

    def merged(slots: Tensor) -> Tensor:
        """(heads, S, d) -> (S, D)."""
        return slots.transpose(0, 1).flatten(1)

    levels = []
    places = torch.stack(
        [layer_norm(decoder.image_norm, p) for p in decoder.image(FEATURES.values[0]).relu()]
    )
    for layer in decoder.encoder:
        attention, found = layer.attention, []
        keys = torch.cat([attention.key(places), merged(layer.keys)])  # equation 3
        values = torch.cat([attention.value(places), merged(layer.values)])
        for x in places:
            attended = attention.output(heads(attention, attention.query(x), keys, values))
            z = layer_norm(layer.norm1, x + attended)
            found.append(layer_norm(layer.norm2, z + layer.narrow(layer.widen(z).relu())))
        places = torch.stack(found)
        levels.append(places)

    (layer,) = decoder.layers
    state, past = decoder.start(FEATURES), []
    for t, word in enumerate((5, 3)):
        x = decoder.embedding.weight[word] * D**0.5 + sinusoids(torch.tensor(t), D)
        past.append(x)
        own, cross, before = layer.self_attention, layer.cross_attention, torch.stack(past)
        attended = own.output(heads(own, own.query(x), own.key(before), own.value(before)))
        y = layer_norm(layer.norm1, x + attended)
        mesh = torch.zeros(D)
        for gate, level in zip(layer.gates, levels, strict=True):  # equations 5 to 7
            seen = cross.output(heads(cross, cross.query(y), cross.key(level), cross.value(level)))
            mesh = mesh + gate(torch.cat([y, seen])).sigmoid() * seen
        z = layer_norm(layer.norm2, y + mesh)
        expected = layer_norm(layer.norm3, z + layer.narrow(layer.widen(z).relu()))
        output, alphas, state = decoder.advance(torch.tensor([word]), state)
        torch.testing.assert_close(output[0], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alphas.sum(), torch.tensor(1.0))


def test_memory_slots_are_learnt_and_do_not_count_as_places():
    config = MeshedMemoryConfig(11, 6, embedding_size=D, heads=HEADS, layers=1, feedforward_size=12)
    decoder = MeshedMemoryDecoder(config)
    output, alphas, _ = decoder.advance(torch.tensor([5]), decoder.start(FEATURES))
    assert alphas.shape == (1, PLACES)
    output.sum().backward()
    assert all(layer.keys.grad.abs().max() > 0 for layer in decoder.encoder)
