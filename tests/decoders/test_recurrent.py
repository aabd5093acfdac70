"""Show and Tell by its equations, and the written-out cells against PyTorch's own."""

import pytest
import torch
from torch import nn

from captionbot import CaptionBotError
from captionbot.decoders import build_decoder
from captionbot.decoders.from_scratch import ScratchLSTMCell, ScratchRNNCell
from captionbot.types import Features

SIZES = {"vocabulary_size": 9, "feature_size": 5, "embedding_size": 6, "hidden_size": 7}
WORDS = [1, 4, 8]


def decoder_of(kind, **config):
    torch.manual_seed(0)
    return build_decoder(kind, {**SIZES, **config}).eval()


@pytest.fixture
def features():
    torch.manual_seed(1)
    return Features(torch.randn(1, 4, 5), torch.rand(1, 4, 4))


def log_probs_of(decoder, features):
    state, found = decoder.start(features), []
    for word in WORDS:
        log_probs, _, state = decoder.step(torch.tensor([word]), state)
        found.append(log_probs[0])
    return torch.stack(found)


@pytest.mark.parametrize(("cell", "layer"), [("rnn", nn.RNN), ("lstm", nn.LSTM), ("gru", nn.GRU)])
def test_show_and_tell_reads_the_image_and_then_the_words(cell, layer, features):
    """arXiv 1411.4555, equations 10 to 12, with PyTorch's layer run over the whole sequence."""
    decoder = decoder_of("show-and-tell", cell=cell)
    whole = layer(6, 7, batch_first=True)
    whole.load_state_dict({f"{name}_l0": value for name, value in decoder.cell.state_dict().items()})
    inputs = torch.cat([decoder.image(features.values.mean(1)), decoder.embedding.weight[WORDS]])
    hidden = whole(inputs[None])[0][0, 1:]  # what follows the image itself is not a prediction
    expected = decoder.output_word(hidden).log_softmax(-1)
    torch.testing.assert_close(log_probs_of(decoder, features), expected)


@pytest.mark.parametrize(("cell", "layer"), [("rnn", nn.RNN), ("lstm", nn.LSTM)])
def test_from_scratch_begins_with_the_image_as_hidden_state(cell, layer, features):
    decoder = decoder_of("scratch-recurrent", cell=cell)
    whole = layer(6, 7, batch_first=True)
    own = decoder.cell
    whole.load_state_dict(
        {"weight_ih_l0": own.weight_x, "weight_hh_l0": own.weight_h, "bias_ih_l0": own.bias}
        | {"bias_hh_l0": torch.zeros_like(own.bias)}
    )
    first = decoder.image(features.values.mean(1))[None]
    before = (first, torch.zeros_like(first)) if cell == "lstm" else first
    hidden = whole(decoder.embedding.weight[WORDS][None], before)[0][0]
    expected = decoder.output_word(hidden).log_softmax(-1)
    torch.testing.assert_close(log_probs_of(decoder, features), expected)


@pytest.mark.parametrize(("own", "theirs"), [(ScratchRNNCell, nn.RNNCell), (ScratchLSTMCell, nn.LSTMCell)])
def test_written_out_cells_have_the_gradients_of_pytorchs(own, theirs):
    torch.manual_seed(0)
    cell, reference = own(6, 7).double(), theirs(6, 7).double()
    nn.init.normal_(cell.bias)
    reference.load_state_dict(
        {"weight_ih": cell.weight_x, "weight_hh": cell.weight_h, "bias_ih": cell.bias}
        | {"bias_hh": torch.zeros_like(cell.bias)}
    )
    x, hidden, memory = (torch.randn(3, size, dtype=torch.double) for size in (6, 7, 7))
    weights = torch.randn(3, 7, dtype=torch.double)
    results = []
    for each in (cell, reference):
        inputs = [values.clone().requires_grad_() for values in (x, hidden, memory)]
        if own is ScratchLSTMCell:
            after, kept = each(inputs[0], (inputs[1], inputs[2]))
            ((after * weights).sum() + (kept * weights.flip(0)).sum()).backward()
        else:
            after = each(*inputs[:2])
            (after * weights).sum().backward()
        parameters = [parameter.grad for parameter in each.parameters()][:3]  # weights of x, of h, a bias
        results.append([after, *parameters, *(values.grad for values in inputs)])
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected)


def test_an_unknown_cell_is_one_sentence():
    with pytest.raises(CaptionBotError, match="'lstn' is not a cell; choose one of rnn, lstm, gru"):
        decoder_of("show-and-tell", cell="lstn")


def test_nothing_of_pytorchs_recurrent_layers_is_in_the_written_out_decoder():
    for cell in ("rnn", "lstm"):
        decoder = decoder_of("scratch-recurrent", cell=cell)
        assert not any(isinstance(module, nn.RNNBase | nn.RNNCellBase) for module in decoder.modules())
