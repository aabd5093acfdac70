import dataclasses

import pytest
import torch

from captionbot.decoders.soft_attention import SoftAttentionConfig, SoftAttentionDecoder
from captionbot.errors import CaptionBotError
from captionbot.types import Features

CONFIG = SoftAttentionConfig(
    vocabulary_size=11, feature_size=6, embedding_size=8, hidden_size=7, attention_size=5
)
VARIANTS = [CONFIG, dataclasses.replace(CONFIG, annotation_size=4, tie_embedding=True)]


@pytest.fixture
def features():
    torch.manual_seed(1)
    return Features(torch.randn(3, 9, 6), torch.rand(1, 9, 4), (3, 3))


def decoder_of(config):
    torch.manual_seed(0)
    return SoftAttentionDecoder(config).eval()


@pytest.mark.parametrize("scale", [1, 10], ids=["usual", "saturated"])
def test_one_step_is_the_paper_written_out(features, scale):
    """arXiv 1502.03044 for one image, row by row, in the paper's own letters."""
    decoder = decoder_of(CONFIG)
    decoder.attend_annotation.weight.data *= scale
    decoder.attend_hidden.weight.data *= scale
    a = features.values[0]  # (P, C)
    h = torch.tanh(decoder.init_hidden(a.mean(0)))
    c = torch.tanh(decoder.init_cell(a.mean(0)))
    e = torch.stack(
        [
            decoder.attend_score(torch.tanh(decoder.attend_annotation(a_i) + decoder.attend_hidden(h)))[0]
            for a_i in a
        ]
    )
    alpha = e.exp() / e.exp().sum()
    beta = torch.sigmoid(decoder.gate(h))
    z = beta * sum(alpha[i] * a[i] for i in range(9))
    y = decoder.embedding.weight[5]
    w = decoder.lstm
    i, f, g, o = (w.weight_ih @ torch.cat([y, z]) + w.bias_ih + w.weight_hh @ h + w.bias_hh).chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c.tanh()
    logits = decoder.output_word(y + decoder.output_hidden(h) + decoder.output_context(z))

    log_probs, alphas, _ = decoder.step(torch.tensor([5, 1, 1]), decoder.start(features))
    torch.testing.assert_close(log_probs[0], logits.log_softmax(-1))
    torch.testing.assert_close(alphas[0], alpha)


@pytest.mark.parametrize("config", VARIANTS)
def test_steps_give_distributions(config, features):
    log_probs, alphas, state = decoder_of(config).step(
        torch.tensor([1, 1, 1]), decoder_of(config).start(features)
    )
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(3))
    torch.testing.assert_close(alphas.sum(-1), torch.ones(3))
    assert log_probs.shape == (3, 11)
    assert alphas.shape == (3, 9)
    assert state.rows["hidden"].shape == (3, 7)


@pytest.mark.parametrize("config", VARIANTS)
def test_beams_of_a_batch_are_what_each_image_gives_alone(config, features):
    decoder = decoder_of(config)
    rows = torch.arange(3).repeat_interleave(2)
    state = decoder.start(features).select(rows)
    words = torch.tensor([1, 2, 3, 4, 5, 6])
    together, alphas, _ = decoder.step(words, state)
    for row in range(6):
        image = row // 2
        one = Features(features.values[image : image + 1], features.boxes, features.grid)
        alone, alpha, _ = decoder.step(words[row : row + 1], decoder.start(one))
        torch.testing.assert_close(together[row], alone[0])
        torch.testing.assert_close(alphas[row], alpha[0])


def test_what_depends_on_the_image_is_never_copied_for_a_beam(features):
    state = decoder_of(CONFIG).start(features)
    many = state.select(torch.arange(3).repeat_interleave(50))
    assert all(many.images[k].data_ptr() == v.data_ptr() for k, v in state.images.items())


def test_masked_places_get_no_attention(features):
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[:, 6:] = False
    masked = dataclasses.replace(features, mask=mask)
    shorter = Features(features.values[:, :6], features.boxes[:, :6])
    decoder = decoder_of(CONFIG)
    words = torch.tensor([1, 1, 1])
    log_probs, alphas, _ = decoder.step(words, decoder.start(masked))
    expected, few, _ = decoder.step(words, decoder.start(shorter))
    torch.testing.assert_close(log_probs, expected)
    torch.testing.assert_close(alphas[:, :6], few)
    assert alphas[:, 6:].abs().max() == 0


def test_dropout_is_off_at_inference_and_on_in_training(features):
    decoder = decoder_of(CONFIG)
    words = torch.tensor([1, 1, 1])

    def twice():
        return [decoder.step(words, decoder.start(features))[0] for _ in range(2)]

    torch.testing.assert_close(*twice())
    decoder.train()
    one, other = twice()
    assert (one - other).abs().max() > 1e-4


def test_the_channels_of_each_cnn_are_normalised_apart(features):
    config = dataclasses.replace(CONFIG, normalise=True, groups=(4, 2))
    decoder = decoder_of(config)
    torch.nn.init.normal_(decoder.normalise.weight)
    found = decoder.normalise(features.values)
    weight = decoder.normalise.weight
    for part in (slice(0, 4), slice(4, 6)):
        values = features.values[..., part]
        centred = values - values.mean(-1, keepdim=True)
        expected = weight[part] * centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        torch.testing.assert_close(found[..., part], expected)
    louder = features.values * torch.tensor([1, 1, 1, 1, 9, 9])
    assert torch.equal(decoder.normalise(louder)[..., :4], found[..., :4])


def test_groups_are_all_channels():
    with pytest.raises(CaptionBotError, match="not 6 channels"):
        decoder_of(dataclasses.replace(CONFIG, normalise=True, groups=(4, 3)))
