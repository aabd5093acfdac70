import dataclasses

import pytest
import torch
from torch.nn import functional as F

from benchmarks.gpt2 import as_transformers, generate, search
from captionbot.decoders import Decoder, build_decoder
from captionbot.decoders.cache import Cache
from captionbot.decoders.gpt2_prefix import GPT2PrefixConfig, GPT2PrefixDecoder, strip_shares
from captionbot.encoders import grid_boxes
from captionbot.errors import CaptionBotError
from captionbot.search.beam import beam_search
from captionbot.search.options import SearchOptions
from captionbot.types import Features
from training.run.losses import teacher_force

CONFIG = GPT2PrefixConfig(
    vocabulary_size=13,
    feature_size=6,
    prefix_length=4,
    hidden_size=16,
    layers=2,
    heads=2,
    positions=30,
)
IMAGE_TOKENS = ["strips", "queries", "places"]
CAPTION = torch.tensor([1, 5, 9, 5, 11, 7, 6])


@pytest.fixture
def features():
    torch.manual_seed(1)
    return Features(torch.randn(3, 9, 6), grid_boxes(3, 3), (3, 3))


def decoder_of(**changes):
    torch.manual_seed(0)
    if changes.get("image_tokens") == "places":
        changes["prefix_length"] = 9
    decoder = GPT2PrefixDecoder(dataclasses.replace(CONFIG, **changes)).eval()
    for name, parameter in decoder.named_parameters():
        if name.startswith(("wte", "wpe", "blocks")):
            parameter.data = parameter.data * 8 + 0.1 * torch.randn_like(parameter)  # words that differ
    return decoder


def image_tokens(decoder, features):
    return decoder.image_tokens(decoder.normalise(features.values), features)


def by_transformers(decoder, embedded, before):
    """Log-probabilities (T, V) of what follows each word, and attention (T, S), mean of blocks and heads."""
    twin = as_transformers(decoder)
    twin.set_attn_implementation("eager")
    out = twin(inputs_embeds=embedded[None], output_attentions=True)
    attention = torch.stack(out.attentions).mean((0, 2))[0]
    return out.logits[0, before:].log_softmax(-1), attention[before:]


@pytest.mark.parametrize("kind", IMAGE_TOKENS)
def test_it_is_the_gpt2_of_transformers_over_the_whole_sequence(kind, features):
    decoder = decoder_of(image_tokens=kind)
    tokens, shares = image_tokens(decoder, features)
    count = tokens.shape[1]
    embedded = torch.cat([tokens[1], decoder.wte(CAPTION)])
    expected, attention = by_transformers(decoder, embedded, count)
    looked = attention[:, :count] / attention[:, :count].sum(1, keepdim=True)

    state = decoder.start(features)
    for t, word in enumerate(CAPTION):
        log_probs, alphas, state = decoder.step(word.repeat(3), state)
        torch.testing.assert_close(log_probs[1], expected[t], atol=1e-4, rtol=0)
        torch.testing.assert_close(alphas[1], looked[t] @ shares.expand(3, -1, -1)[1])
    outputs, alphas, _ = decoder.advance_all(CAPTION.repeat(3, 1), decoder.start(features))
    together = decoder.logits(outputs)[1].log_softmax(-1)
    torch.testing.assert_close(together, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(alphas.sum(-1), torch.ones(3, len(CAPTION)))


def test_the_search_says_what_generate_says(features):
    decoder = decoder_of()
    ours = search(decoder, features, words=9)
    assert ours == generate(as_transformers(decoder), decoder, features, words=9)
    assert len(set(ours)) > 1


@pytest.mark.parametrize("kind", IMAGE_TOKENS)
def test_every_beam_has_its_own_past(kind, features):
    """Log-probabilities and alphas of all sentences found, against the model run over each of them anew."""
    decoder = decoder_of(image_tokens=kind)
    options = SearchOptions(beam_size=4, max_length=6, num_return=4)
    found = beam_search(decoder, features, bos_id=1, eos_id=2, options=options)
    lengths = set()
    for image, hypotheses in enumerate(found.hypotheses):
        one = Features(features.values[image : image + 1], features.boxes, features.grid)
        for hypothesis in hypotheses:
            words = torch.tensor([[1, *hypothesis.token_ids]])
            outputs, alphas, _ = decoder.advance_all(words, decoder.start(one))
            log_probs = decoder.logits(outputs)[0].log_softmax(-1)
            said = torch.tensor([*hypothesis.token_ids, 2])
            expected = log_probs.gather(1, said[:, None]).squeeze(1)
            torch.testing.assert_close(torch.tensor(hypothesis.log_probs), expected, atol=1e-4, rtol=0)
            torch.testing.assert_close(torch.tensor(hypothesis.alphas), alphas[0])
            lengths.add(len(said))
    assert len(lengths) > 1  # sentences that ended at different times


def test_keys_and_values_are_never_copied_for_a_beam(features):
    _, _, state = decoder_of().step(torch.tensor([1, 1, 1]), decoder_of().start(features))
    many = state.select(torch.arange(3).repeat_interleave(50))
    assert all(many.images[name] is kept for name, kept in state.images.items())
    assert set(many.rows) == {"sees"}


@pytest.mark.parametrize("grad", [True, False])  # with gradients the cache is copied
def test_one_state_can_be_continued_twice(grad, features):
    decoder = decoder_of()
    with torch.set_grad_enabled(grad):
        _, _, state = decoder.step(torch.tensor([1, 1, 1]), decoder.start(features))
        first, _, next_state = decoder.step(torch.tensor([5, 5, 5]), state)
        after, _, _ = decoder.step(torch.tensor([7, 7, 7]), next_state)
        decoder.step(torch.tensor([6, 6, 6]), state)
        torch.testing.assert_close(decoder.step(torch.tensor([5, 5, 5]), state)[0], first)
        torch.testing.assert_close(decoder.step(torch.tensor([7, 7, 7]), next_state)[0], after)


@pytest.mark.parametrize("kind", IMAGE_TOKENS)
def test_masked_places_count_for_nothing(kind, features):
    mask = torch.tensor([[True, True, False, True, True, False, False, False, True]]).expand(3, -1)
    kept = mask[0].nonzero().squeeze(1)
    if kind == "places":  # whose position is the place's number
        mask, kept = torch.arange(9).expand(3, -1) < 5, torch.arange(5)
    decoder = decoder_of(image_tokens=kind)
    masked = dataclasses.replace(features, mask=mask)
    fewer = Features(features.values[:, kept], features.boxes[:, kept])
    words = CAPTION.repeat(3, 1)
    outputs, alphas, _ = decoder.advance_all(words, decoder.start(masked))
    expected, few, _ = decoder.advance_all(words, decoder.start(fewer))
    torch.testing.assert_close(outputs, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(alphas[..., kept], few)
    assert alphas.masked_fill(mask[:, None], 0).abs().max() == 0


def test_strips_share_the_columns_of_a_grid():
    """Three columns in four strips: the middle strips are a third of one column, two thirds of another."""
    features = Features(torch.zeros(1, 6, 2), grid_boxes(2, 3), (2, 3))
    column = torch.tensor([[1, 0, 0], [1 / 3, 2 / 3, 0], [0, 2 / 3, 1 / 3], [0, 0, 1]])
    torch.testing.assert_close(strip_shares(features, 4)[0], column.repeat(1, 2) / 2)


def test_a_strip_without_a_place_is_told_of_all_of_them():
    boxes = torch.tensor([[[0.0, 0, 0.4, 1], [0.1, 0, 0.5, 1]]])
    shares = strip_shares(Features(torch.zeros(1, 2, 2), boxes), 2)[0]
    torch.testing.assert_close(shares, torch.tensor([[0.5, 0.5], [0.5, 0.5]]))
    whole = Features(torch.zeros(1, 1, 2), torch.tensor([[[0.0, 0, 1, 1]]]))
    torch.testing.assert_close(strip_shares(whole, 3)[0], torch.ones(3, 1))


def test_image_tokens_can_be_reinserted_after_each_block(features):
    """Each block's keys and values of the prefix are then made of the image tokens themselves."""
    decoder = decoder_of(reinsert=True)
    state = decoder.start(features)
    tokens = image_tokens(decoder, features)[0] + decoder.wpe.weight[:4]
    for i, block in enumerate(decoder.blocks):
        keys = block.c_attn(F.layer_norm(tokens, (16,), block.ln_1.weight, block.ln_1.bias))[..., 16:32]
        cached = state.images[f"cache.{i}"].keys
        torch.testing.assert_close(cached, keys.unflatten(-1, (2, 8)).transpose(1, 2))
    plain = decoder_of().start(features)
    assert not torch.allclose(state.images["cache.1"].keys, plain.images["cache.1"].keys)


@torch.inference_mode()
def test_a_cache_copies_its_tokens_only_when_its_room_is_full():
    tokens = torch.arange(40.0).view(1, 2, 10, 2)
    cache = Cache(tokens[:, :, :1], tokens[:, :, :1])
    places = set()
    for i in range(1, 10):
        cache = cache.appended(tokens[:, :, i : i + 1], -tokens[:, :, i : i + 1])
        places.add(cache.keys.data_ptr())
    torch.testing.assert_close(cache.keys, tokens)
    torch.testing.assert_close(cache.values[:, :, 1:], -tokens[:, :, 1:])
    assert len(places) < 4  # room for 4, 10 and 22 tokens


def test_the_likeliest_tags_stand_in_front(features):
    decoder = decoder_of(tag_ids=(5, 7, 8, 12), tags=2)
    mean = features.values[1].mean(0)
    scores = decoder.tagger.linear((mean - mean.mean()) / (mean.var(correction=0) + 1e-5).sqrt())
    first, second = ((5, 7, 8, 12)[i] for i in scores.argsort(descending=True)[:2])
    # transformers gives every token a position: tags have none, and image and words begin at 0
    positions = decoder.wpe.weight[:13]
    tokens, _ = image_tokens(decoder, features)
    embedded = torch.cat([decoder.wte(torch.tensor([first, second])), tokens[1] + positions[:4]])
    embedded = torch.cat([embedded, decoder.wte(CAPTION) + positions[4:11]]) - positions
    expected, attention = by_transformers(decoder, embedded, 6)
    outputs, alphas, _ = decoder.advance_all(CAPTION.repeat(3, 1), decoder.start(features))
    torch.testing.assert_close(decoder.logits(outputs)[1].log_softmax(-1), expected, atol=1e-4, rtol=0)
    looked = attention[:, 2:6] / attention[:, 2:6].sum(1, keepdim=True)
    torch.testing.assert_close(alphas[1], looked @ strip_shares(features, 4)[0])


def test_all_words_at_once_are_word_by_word(features):
    decoder = decoder_of()
    words = CAPTION.repeat(6, 1) + torch.arange(6)[:, None] % 2
    state = decoder.start(features).select(torch.arange(3).repeat_interleave(2))
    outputs, alphas, last = decoder.advance_all(words, state)
    expected, looked, stepped = Decoder.advance_all(decoder, words, state)
    torch.testing.assert_close(outputs, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(alphas, looked)
    after = [decoder.step(words[:, 0], state)[0] for state in (last, stepped)]
    torch.testing.assert_close(*after, atol=1e-4, rtol=0)


def test_teacher_forcing_at_once_is_caption_by_caption(features):
    decoder = decoder_of()
    captions = torch.tensor(
        [[[1, 5, 6, 2, 0, 0], [1, 7, 2, 0, 0, 0]], [[1, 4, 8, 9, 5, 2], [1, 9, 9, 2, 0, 0]]]
    )
    forced = teacher_force(decoder, Features(features.values[:2], features.boxes, features.grid), captions)
    for row, caption in enumerate(captions.flatten(0, 1)):
        image, words = row // 2, caption[caption > 0]
        one = Features(features.values[image : image + 1], features.boxes, features.grid)
        outputs, alphas, _ = decoder.advance_all(words[None, :-1], decoder.start(one))
        own = forced.rows == row
        torch.testing.assert_close(forced.logits[own], decoder.logits(outputs)[0], atol=1e-4, rtol=0)
        assert forced.targets[own].tolist() == words[1:].tolist()
        torch.testing.assert_close(forced.coverage[row], alphas[0].sum(0))


@pytest.mark.parametrize("kind", IMAGE_TOKENS)
def test_it_learns_four_captions_by_heart(kind):
    torch.manual_seed(0)
    features = Features(torch.randn(4, 9, 6), grid_boxes(3, 3), (3, 3))
    captions = torch.tensor(
        [[[1, 5, 6, 7, 2, 0]], [[1, 5, 7, 2, 0, 0]], [[1, 8, 9, 5, 10, 2]], [[1, 5, 8, 2, 0, 0]]]
    )
    decoder = decoder_of(image_tokens=kind, hidden_size=32, dropout=0.0).train()
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=5e-3)
    for _ in range(150):
        forced = teacher_force(decoder, features, captions)
        loss = F.cross_entropy(forced.logits, forced.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    options = SearchOptions(beam_size=3, max_length=6)
    found = beam_search(decoder.eval(), features, bos_id=1, eos_id=2, options=options)
    said = [[1, *hypotheses[0].token_ids, 2] for hypotheses in found.hypotheses]
    assert said == [[i for i in caption[0].tolist() if i] for caption in captions]


def test_a_pooled_image_is_one_place(features):
    pooled = Features(features.values.mean(1, keepdim=True), torch.tensor([[[0.0, 0, 1, 1]]]))
    _, alphas, _ = decoder_of().step(torch.tensor([1, 1, 1]), decoder_of().start(pooled))
    torch.testing.assert_close(alphas, torch.ones(3, 1))


def test_words_after_the_last_position_go_on(features):
    decoder = decoder_of(positions=8)
    outputs, _, _ = decoder.advance_all(CAPTION.repeat(3, 3), decoder.start(features))
    assert outputs.isfinite().all()


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A GPT-2 of 3 blocks and 9 subwords as `transformers` saves it."""
    donor = GPT2PrefixDecoder(dataclasses.replace(CONFIG, vocabulary_size=9, layers=3))
    folder = tmp_path_factory.mktemp("gpt2")
    as_transformers(donor).save_pretrained(folder)
    return donor, folder


def test_a_pretrained_gpt2_is_taken_over(pretrained, features):
    donor, folder = pretrained
    decoder = decoder_of()
    fresh = build_decoder("gpt2-prefix", dataclasses.asdict(CONFIG) | {"pretrained": str(folder)})
    for ours, theirs in zip(fresh.blocks, donor.blocks, strict=False):
        for name, tensor in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], tensor)
    torch.testing.assert_close(fresh.wte.weight[4:], donor.wte.weight)
    torch.testing.assert_close(fresh.wte.weight[1], donor.wte.weight[-1])
    torch.testing.assert_close(fresh.wpe.weight, donor.wpe.weight)
    assert len(fresh.blocks) == len(decoder.blocks) == 2


def test_of_a_pretrained_gpt2_the_embedding_alone(pretrained):
    donor, folder = pretrained
    torch.manual_seed(3)
    config = dataclasses.replace(CONFIG, layers=5, positions=40)  # blocks and positions of our own
    decoder = GPT2PrefixDecoder(dataclasses.replace(config, pretrained=str(folder), pretrained_blocks=False))
    torch.testing.assert_close(decoder.wte.weight[4:], donor.wte.weight)
    assert not torch.allclose(decoder.blocks[0].c_fc.weight, donor.blocks[0].c_fc.weight)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": 32}, "hidden_size is 32"),
        ({"layers": 4}, "layers is 4"),
        ({"heads": 4}, "heads is 4"),
        ({"vocabulary_size": 20, "pretrained_blocks": False}, "has 9 subwords"),
    ],
)
def test_a_pretrained_gpt2_of_another_size_is_refused(pretrained, changes, said):
    with pytest.raises(CaptionBotError, match=said):
        GPT2PrefixDecoder(dataclasses.replace(CONFIG, pretrained=str(pretrained[1]), **changes))


def test_a_pretrained_gpt2_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(CaptionBotError, match="There is no GPT-2 at"):
        GPT2PrefixDecoder(dataclasses.replace(CONFIG, pretrained=str(tmp_path)))


@pytest.mark.parametrize("changes", [{"image_tokens": "rows"}, {"hidden_size": 15}, {"prefix_length": 30}])
def test_sizes_that_make_no_sense_are_refused(changes):
    with pytest.raises(CaptionBotError, match=r"; (choose|give)"):
        dataclasses.replace(CONFIG, **changes)


def test_more_places_than_tokens_are_refused(features):
    decoder = GPT2PrefixDecoder(dataclasses.replace(CONFIG, image_tokens="places"))
    with pytest.raises(CaptionBotError, match="give a prefix_length of 9"):
        decoder.start(features)
