"""What every decoder owes to the search and to training, whatever is inside it: one line a decoder."""

import dataclasses

import pytest
import torch
from torch.nn.functional import cross_entropy

from captionbot.backends.compile import compiled
from captionbot.decoders import build_decoder
from captionbot.search.beam import beam_search
from captionbot.search.options import SearchOptions
from captionbot.types import Features
from training.run.losses import teacher_force

BOS, EOS, VOCABULARY, CHANNELS = 1, 2, 13, 6
RECURRENT = {"embedding_size": 12, "hidden_size": 32, "normalise": True}
TRANSFORMER = {"embedding_size": 16, "heads": 2, "layers": 2, "feedforward_size": 24, "dropout": 0.5}
DECODERS = {
    "soft-attention": ("soft-attention", {"embedding_size": 8, "hidden_size": 16, "attention_size": 5}),
    "top-down lstm": ("top-down", {"attention_size": 5, **RECURRENT}),
    "top-down gru": (
        "top-down",
        {"cell": "gru", "attention_size": 5, "annotation_size": 4, "tie_embedding": True, **RECURRENT},
    ),
    "show-and-tell rnn": ("show-and-tell", {"cell": "rnn", **RECURRENT}),
    "show-and-tell lstm": ("show-and-tell", {"cell": "lstm", **RECURRENT}),
    "show-and-tell gru": ("show-and-tell", {"cell": "gru", "tie_embedding": True, **RECURRENT}),
    "show-and-tell maxout": ("show-and-tell", {"cell": "maxout-lstm", "image_starts": True, **RECURRENT}),
    "att2in": ("att2in", {"attention_size": 5, "annotation_size": 7, **RECURRENT}),
    "top-down own mean": (
        "top-down",
        {"attention_size": 5, "annotation_size": 4, "own_mean": True, **RECURRENT},
    ),
    "attention on attention": ("attention-on-attention", {"heads": 2, "refining_layers": 2, **RECURRENT}),
    "meshed-memory transformer": (
        "meshed-memory",
        {**TRANSFORMER, "encoder_layers": 2, "memory_slots": 3, "normalise": True},
    ),
    "annotated transformer": ("annotated-transformer", {**TRANSFORMER, "encoder_layers": 2}),
    "scratch rnn": ("scratch-recurrent", {"cell": "rnn", **RECURRENT}),
    "scratch lstm": ("scratch-recurrent", {"cell": "lstm", "tie_embedding": True, **RECURRENT}),
    "scratch transformer": ("scratch-transformer", TRANSFORMER),
    "scratch transformer tied": (
        "scratch-transformer",
        {**TRANSFORMER, "normalise": True, "tie_embedding": True},
    ),
}
DECODERS["ensemble with a transformer"] = (
    "ensemble",
    {
        "members": [
            {"name": name, "start": 0, "whole": False, "evidence": {}, "mapped": False, "decoder": spec}
            for name, spec in (
                (name, {"kind": kind, "vocabulary_size": VOCABULARY, "feature_size": CHANNELS, **config})
                for name, (kind, config) in DECODERS.items()
                if name in ("soft-attention", "show-and-tell gru", "scratch transformer")
            )
        ]
    },
)


@pytest.fixture(params=DECODERS)
def decoder(request):
    kind, config = DECODERS[request.param]
    torch.manual_seed(0)
    return build_decoder(kind, {"vocabulary_size": VOCABULARY, "feature_size": CHANNELS, **config}).eval()


def features_of(batch=3, places=5, mask=None):
    torch.manual_seed(1)
    return Features(torch.randn(batch, places, CHANNELS), torch.rand(1, places, 4), mask=mask)


def only(features, image):
    mask = None if features.mask is None else features.mask[image : image + 1]
    return Features(features.values[image : image + 1], features.boxes, mask=mask)


def search(decoder, features, **options):
    return beam_search(decoder, features, bos_id=BOS, eos_id=EOS, options=SearchOptions(**options))


def anew(decoder, features, token_ids):
    """Log-probabilities of a sentence and of its end, from the first word on."""
    state, found = decoder.start(features), []
    for word, following in zip((BOS, *token_ids), (*token_ids, EOS), strict=True):
        log_probs, _, state = decoder.step(torch.tensor([word]), state)
        found.append(log_probs[0, following].item())
    return found


@torch.inference_mode()
def test_beams_carry_what_running_the_whole_sentence_anew_gives(decoder):
    features = features_of()
    found = search(decoder, features, beam_size=4, max_length=7)
    sentences = 0
    for image in range(3):
        for hypothesis in found.hypotheses[image]:
            expected = anew(decoder, only(features, image), hypothesis.token_ids)
            assert hypothesis.log_probs.tolist() == pytest.approx(expected, abs=1e-4)
            sentences += len(hypothesis.token_ids) > 1
    assert sentences > 3  # else there was nothing to follow


@torch.inference_mode()
def test_a_batch_gives_what_its_images_give_alone(decoder):
    features = features_of(mask=torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 1, 1, 0]]).bool())
    together = search(decoder, features, beam_size=3, max_length=6).hypotheses
    for image in range(3):
        (alone,) = search(decoder, only(features, image), beam_size=3, max_length=6).hypotheses
        assert [h.token_ids for h in alone] == [h.token_ids for h in together[image]]
        assert alone[0].log_prob == pytest.approx(together[image][0].log_prob, abs=1e-4)


@torch.inference_mode()
def test_a_beam_of_one_is_greedy(decoder):
    features = features_of()
    found = search(decoder, features, beam_size=1, max_length=6).hypotheses
    for image in range(3):
        state, word, greedy = decoder.start(only(features, image)), BOS, []
        while len(greedy) < 6:
            log_probs, _, state = decoder.step(torch.tensor([word]), state)
            word = int(log_probs.argmax())
            if word == EOS and greedy:
                break
            if word == EOS:  # a sentence has at least one word
                word = int(log_probs[0].index_fill(0, torch.tensor(EOS), -1e9).argmax())
            greedy.append(word)
        assert list(found[image][0].token_ids) == greedy


@torch.inference_mode()
def test_words_read_at_once_are_words_read_one_by_one(decoder):
    features = features_of()
    state = decoder.start(features).select(torch.arange(3).repeat_interleave(2))
    _, _, state = decoder.advance(torch.full((6,), BOS), state)
    words = torch.randint(3, VOCABULARY, (6, 4))
    outputs, alphas, last = decoder.advance_all(words, state)
    for t in range(4):
        output, alpha, state = decoder.advance(words[:, t], state)
        torch.testing.assert_close(outputs[:, t], output)
        torch.testing.assert_close(alphas[:, t], alpha)
    next_words = torch.randint(3, VOCABULARY, (6,))  # a state need not look the same, but go on the same
    torch.testing.assert_close(decoder.step(next_words, last)[:2], decoder.step(next_words, state)[:2])


@torch.inference_mode()
def test_places_that_only_fill_up_the_batch_change_nothing(decoder):
    mask = torch.tensor([[True] * 3 + [False] * 2] * 3)
    masked, words = features_of(mask=mask), torch.tensor([BOS, 4, 5])
    few = Features(masked.values[:, :3], masked.boxes[:, :3])
    log_probs, alphas, _ = decoder.step(words, decoder.start(masked))
    expected, attention, _ = decoder.step(words, decoder.start(few))
    torch.testing.assert_close(log_probs, expected)
    torch.testing.assert_close(alphas[:, :3], attention)
    assert alphas[:, 3:].abs().max() == 0
    torch.testing.assert_close(alphas.sum(1), torch.ones(3))
    assert decoder.attends == (alphas[:, :3].std() > 1e-6)  # who does not attend has uniform alphas


def test_dropout_is_on_in_training_alone(decoder):
    features, words = features_of(), torch.tensor([BOS, BOS, BOS])
    with torch.inference_mode():
        once, again = (decoder.step(words, decoder.start(features))[0] for _ in range(2))
        assert torch.equal(once, again)
        decoder.train()
        once, again = (decoder.step(words, decoder.start(features))[0] for _ in range(2))
        assert (once - again).abs().max() > 1e-4


@pytest.mark.parametrize("decoder", [n for n in DECODERS if "ensemble" not in n], indirect=True)
def test_four_captions_are_learnt_by_heart(decoder):
    """A decoder that sees the image and follows its words says them all; the first words are the same."""
    decoder.config = dataclasses.replace(decoder.config, dropout=0.0)
    for module in decoder.modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    features = features_of(batch=4)
    captions = [[3, 4, 5, 6], [3, 4, 7], [3, 8, 4, 4, 9], [3, 4, 5, 10, 11]]
    token_ids = torch.zeros(4, 1, 7, dtype=torch.long)
    for row, words in zip(token_ids[:, 0], captions, strict=True):
        row[: len(words) + 2] = torch.tensor([BOS, *words, EOS])
    optimizer = torch.optim.Adam(decoder.train().parameters(), lr=0.01)
    for _ in range(300):
        forced = teacher_force(decoder, features, token_ids)
        loss = cross_entropy(forced.logits, forced.targets)
        if loss < 0.01:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.01
    found = search(decoder.eval(), features, beam_size=2, max_length=6).hypotheses
    assert [list(h[0].token_ids) for h in found] == captions


CACHED = [name for name in DECODERS if "transformer" in name]


@pytest.mark.parametrize("decoder", CACHED, indirect=True)
def test_a_decoder_with_a_cache_is_not_compiled(decoder):
    assert compiled(decoder) is decoder


@pytest.mark.slow
@pytest.mark.parametrize("decoder", [name for name in DECODERS if name not in CACHED], indirect=True)
def test_compiled_steps_find_the_same_sentences(decoder):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    masked = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 1, 1, 0]]).bool()
    batches = [features_of(), features_of(2), features_of(1), features_of(mask=masked)]
    plain = [search(decoder, features, beam_size=4, max_length=7).hypotheses for features in batches]
    fast = compiled(decoder)
    step = fast.step_of
    limit = torch._dynamo.config.recompile_limit
    for expected, features in zip(plain, batches, strict=True):
        found = search(fast, features, beam_size=4, max_length=7).hypotheses
        for theirs, ours in zip(expected, found, strict=True):
            assert [h.token_ids for h in ours] == [h.token_ids for h in theirs]
            assert [h.score for h in ours] == pytest.approx([h.score for h in theirs], abs=1e-4)
    assert fast.step_of is step  # it did not go back to what was not compiled
    assert torch._dynamo.config.recompile_limit == limit  # which belongs to the process
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert not torch._dynamo.utils.counters["graph_break"]
