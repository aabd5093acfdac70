"""Top-down attention against the paper, and over regions of which images have different numbers."""

import pytest
import torch

from captionbot.decoders.top_down import TopDownConfig, TopDownDecoder
from captionbot.errors import CaptionBotError
from captionbot.search.beam import beam_search
from captionbot.search.options import SearchOptions
from captionbot.types import Features

SIZES = {
    "vocabulary_size": 11, "feature_size": 6, "embedding_size": 8, "hidden_size": 7, "attention_size": 5,
}  # fmt: skip


def decoder_of(**changes):
    torch.manual_seed(0)
    return TopDownDecoder(TopDownConfig(**SIZES, **changes)).eval()


@pytest.fixture
def features():
    """Three images of 4, 2 and 1 places; what fills them up is noise, so that a leak would show."""
    torch.manual_seed(1)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()
    return Features(torch.randn(3, 4, 6), torch.rand(3, 4, 4), mask=mask)


def lstm(cell, x, h, c):
    i, f, g, o = (cell.weight_ih @ x + cell.bias_ih + cell.weight_hh @ h + cell.bias_hh).chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru(cell, x, h):
    (ir, iz, inn), (hr, hz, hn) = (
        (w @ v + b).chunk(3)
        for w, v, b in ((cell.weight_ih, x, cell.bias_ih), (cell.weight_hh, h, cell.bias_hh))
    )
    r, z = (ir + hr).sigmoid(), (iz + hz).sigmoid()
    return (1 - z) * (inn + r * hn).tanh() + z * h


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("image", [0, 1])
def test_two_steps_are_the_paper_written_out(features, cell, image):
    """arXiv 1707.07998, section 3.2, for one image, place by place, in the paper's own letters."""
    decoder = decoder_of(cell=cell)
    v = features.values[image][features.mask[image]]
    state = decoder.start(features)
    h1 = h2 = c1 = c2 = torch.zeros(7)
    for word in (5, 3):
        x1 = torch.cat([h2, v.mean(0), decoder.embedding.weight[word]])
        h1, c1 = lstm(decoder.attention_cell, x1, h1, c1) if cell == "lstm" else (
            gru(decoder.attention_cell, x1, h1), None
        )  # fmt: skip
        a = torch.stack(
            [
                decoder.attend_score((decoder.attend_annotation(v_i) + decoder.attend_hidden(h1)).tanh())[0]
                for v_i in v
            ]
        )
        alpha = a.exp() / a.exp().sum()
        attended = sum(alpha[i] * v[i] for i in range(len(v)))
        x2 = torch.cat([attended, h1])
        h2, c2 = lstm(decoder.language_cell, x2, h2, c2) if cell == "lstm" else (
            gru(decoder.language_cell, x2, h2), None
        )  # fmt: skip
        log_probs, alphas, state = decoder.step(torch.tensor([word] * 3), state)
        torch.testing.assert_close(log_probs[image], decoder.output_word(h2).log_softmax(-1))
        torch.testing.assert_close(alphas[image, : len(v)], alpha)
        assert alphas[image, len(v) :].eq(0).all()


def test_beams_over_regions_are_those_of_each_image_alone(features):
    decoder = decoder_of(annotation_size=4, normalise=True, tie_embedding=True)
    options = SearchOptions(beam_size=3, max_length=5)

    def search(features):
        return beam_search(decoder, features, bos_id=1, eos_id=2, options=options).hypotheses

    with torch.inference_mode():
        together = search(features)
        for image, found in enumerate(together):
            real = features.mask[image]
            alone = Features(features.values[image, real][None], features.boxes[image, real][None])
            (expected,) = search(alone)
            assert [h.token_ids for h in found] == [h.token_ids for h in expected]
            assert found[0].log_prob == pytest.approx(expected[0].log_prob, abs=1e-4)
            assert found[0].alphas[:, real.sum() :].max(initial=0) == 0


def test_an_image_without_any_box_is_looked_at_as_a_whole(features):
    _, alphas, _ = decoder_of().step(torch.tensor([1, 1, 1]), decoder_of().start(features))
    assert alphas[2].tolist() == [1, 0, 0, 0]


def test_every_weight_learns_from_a_caption(features):
    decoder = decoder_of(annotation_size=4).train()
    state = decoder.start(features)
    loss = 0
    for word in (1, 4, 5):  # the attention cell hears of what was said in the second step
        log_probs, _, state = decoder.step(torch.full((3,), word), state)
        loss = loss - log_probs[:, 6].sum()
    loss.backward()
    assert [n for n, p in decoder.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_an_unknown_cell_is_answered_with_those_there_are():
    with pytest.raises(CaptionBotError, match="'rnn' is not a cell; choose one of lstm, gru"):
        decoder_of(cell="rnn")
