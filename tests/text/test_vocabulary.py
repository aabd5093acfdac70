import dataclasses
import json

import pytest
from PIL import Image
from tiny import build_tiny_captioner

from captionbot.captioner import Captioner
from captionbot.decoders import build_decoder
from captionbot.errors import CaptionBotError
from captionbot.store import card as cards
from captionbot.store.card import Card
from captionbot.text.tokenizer import tokenize
from captionbot.text.vocabulary import BOS, EOS, PAD, UNK, SubwordVocabulary, Vocabulary, load_vocabulary

CAPTIONS = [["a", "dog", "runs"], ["a", "dog"], ["a", "cat"]]


def test_frequent_words_come_first_and_rare_ones_are_unknown():
    vocabulary = Vocabulary.build(CAPTIONS, min_count=2)
    assert vocabulary.tokens == (PAD, BOS, EOS, UNK, "a", "dog")
    assert vocabulary.encode(["a", "cat"]) == [4, vocabulary.unk_id]


def test_max_size_keeps_the_most_frequent():
    assert Vocabulary.build(CAPTIONS, max_size=2).tokens[4:] == ("a", "dog")


def test_encode_and_decode_are_inverse():
    vocabulary = Vocabulary.build(CAPTIONS)
    assert vocabulary.decode(vocabulary.encode(["a", "dog", "runs"])) == ["a", "dog", "runs"]


@pytest.mark.parametrize("tokens", [("a", PAD, BOS, EOS), (PAD, BOS, EOS, UNK, "a", "a")])
def test_malformed_vocabularies_are_refused(tokens):
    with pytest.raises(ValueError, match="vocabulary"):
        Vocabulary(tokens)


def test_a_word_outside_the_vocabulary_is_answered_with_near_ones():
    vocabulary = Vocabulary.build([["dog", "dogs", "beach", "snow"]])
    with pytest.raises(CaptionBotError, match="does not know the word 'doog'; try 'dog'"):
        vocabulary.require(["doog"])
    with pytest.raises(CaptionBotError, match=r"the word '\['"):  # as it was typed
        vocabulary.require(["-lsb-"])
    with pytest.raises(CaptionBotError, match=EOS):  # special tokens are no words
        vocabulary.require([EOS])


# Subwords

WORDPIECES = (  # noqa: SIM905 (a list of so many strings is harder to read)
    "[PAD] [unused0] [UNK] [CLS] [SEP] [MASK] a the dog skate run ball t shirt doesn clock in "
    "##board ##er ##s ' - s o ."
).split()


@pytest.fixture
def gpt2(shared):
    return SubwordVocabulary.load("gpt2", shared / "weights" / "gpt2_tokenizer")


@pytest.fixture
def bert(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDPIECES) + "\n")
    return SubwordVocabulary.load("bert", tmp_path)


def test_gpt2s_subwords_are_those_of_transformers(gpt2, shared):
    from transformers import GPT2TokenizerFast

    folder = shared / "weights" / "gpt2_tokenizer"
    theirs = GPT2TokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"))
    text = "the dog's ball doesn't hit a skateboarder in a t-shirt at 3.5 o'clock (really)"
    assert [i - 4 for i in gpt2.encode(tokenize(text))] == theirs(" " + text)["input_ids"]
    assert len(gpt2) == 50257 + 4
    assert gpt2.tokens[gpt2.special_ids[-1]] == "<|endoftext|>"


def test_berts_subwords_are_those_of_transformers(bert, tmp_path):
    from transformers import BertTokenizerFast

    theirs = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    text = "a skateboarder doesn't run in the dog's t-shirt"
    expected = theirs(text, add_special_tokens=False)["input_ids"]
    ids = bert.encode(tokenize(text))
    unknown = WORDPIECES.index("[UNK]")
    assert ids == [bert.unk_id if i == unknown else i + 4 for i in expected]
    assert {bert.tokens[i] for i in bert.special_ids[3:]} == {w for w in WORDPIECES if w.startswith("[")}


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
@pytest.mark.parametrize(
    "text", ["a skateboarder runs", "the dog's ball", "a t-shirt in the clock", "a dog in the o'clock run"]
)
def test_subwords_are_joined_to_words_again(kind, text, request):
    vocabulary = request.getfixturevalue(kind)
    words = tokenize(text)
    ids = vocabulary.encode(words)
    assert vocabulary.text([vocabulary.bos_id, *ids, vocabulary.eos_id]) == text
    assert vocabulary.decode(ids) == words
    assert len(vocabulary.pieces(ids)) == len(ids)


def test_pieces_are_shown_without_their_marks(gpt2, bert):
    for vocabulary in (gpt2, bert):
        ids = vocabulary.encode(["a", "skateboarder"])
        assert vocabulary.pieces([*ids, vocabulary.eos_id]) == ["a", "skate", "board", "er", EOS]


def test_captions_survive_gpt2s_subwords_word_for_word(gpt2, shared):
    lines = (shared / "data" / "flickr8k" / "Flickr8k.token.txt").read_text().splitlines()
    assert len(lines) > 30000
    for line in lines[::20]:
        text = line.split("\t")[1]
        assert gpt2.decode(gpt2.encode(tokenize(text))) == tokenize(text)


def test_a_word_in_pieces_cannot_be_banned_but_said(gpt2, bert):
    for vocabulary in (gpt2, bert):
        assert vocabulary.ban(["dog"]) == vocabulary.require(["dog"])
        assert len(vocabulary.require(["skateboarder"])) == 3
        with pytest.raises(CaptionBotError, match="'skate', 'board', 'er'"):
            vocabulary.ban(["skateboarder"])
    with pytest.raises(CaptionBotError, match="cannot spell 'cat'"):
        bert.require(["cat"])


@pytest.mark.parametrize(
    ("kind", "said"), [("gpt3", "'gpt3' is no kind of subwords"), ("gpt2", "There is no gpt2 tokenizer at")]
)
def test_subwords_that_are_not_there_are_a_sentence(kind, said, tmp_path):
    with pytest.raises(CaptionBotError, match=said):
        SubwordVocabulary.load(kind, tmp_path)


def tokenizer_json(vocabulary, path, **parts):
    vocabulary.save(path)
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(values | parts), encoding="utf-8")
    return path


HOSTILE = {
    "padding": {"strategy": {"Fixed": 10**12}, "direction": "Right", "pad_to_multiple_of": 2**60},
    "truncation": {"max_length": 0, "stride": 2**40, "strategy": "LongestFirst", "direction": "Right"},
    "post_processor": {"type": "BertProcessing", "sep": ["x", 2**40], "cls": ["y", -1]},
    "decoder": {"type": "Strip", "content": "ab", "start": 2**63, "stop": 1},
    "added_tokens": [{"id": 0, "content": "a", "single_word": False, "lstrip": True, "rstrip": True}],
}


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_what_else_a_tokenizer_asks_for_never_reaches_its_library(kind, tmp_path, request):
    """In the library some of these end the process, which nothing could catch."""
    vocabulary = request.getfixturevalue(kind)
    hostile = SubwordVocabulary.load(kind, tokenizer_json(vocabulary, tmp_path / "t.json", **HOSTILE))
    words = ["a", "skateboarder", "doesn't", "run", "in", "the", "dog's", "t-shirt"]
    assert hostile.tokens == vocabulary.tokens
    assert hostile.encode(words) == vocabulary.encode(words)
    assert hostile.text(hostile.encode(words)) == vocabulary.text(vocabulary.encode(words))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            {"normalizer": {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}},
            "BertNormalizer",
        ),
        ({"normalizer": {"type": "BertNormalizer", "lowercase": 2**70}}, "true or false"),
        ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}}}, "BertPreTokenizer"),
        ({"model": {"type": "BPE", "vocab": {}, "merges": []}}, "its model is BPE, where bert has WordPiece"),
        ({"model": {"vocab": {"[UNK]": 2**63}}}, "leaves out ids"),
        ({"model": {"vocab": {"[UNK]": -1}}}, "leaves out ids"),
        ({"model": {"vocab": {"[UNK]": 0, "a": 0}}}, "leaves out ids"),
        ({"model": {"vocab": {"[UNK]": 0.0}}}, "whole numbers"),
        ({"model": {"vocab": {"[UNK]": 0, "x" * 2000: 1}}}, "at most 1000 characters"),
        ({"model": {"vocab": {"[UNK]": 0, "\ud800": 1}}}, "no text in UTF-8"),
        ({"model": {"vocab": {"a": 0}}}, r"has no \[UNK\]"),
        ({"model": {"vocab": ["a"]}}, "where a dict belongs"),
        ({"added_tokens": [{"id": 10**9, "content": "x"}]}, "leaves out ids"),
    ],
)
def test_a_tokenizer_that_is_none_is_one_short_sentence(bert, parts, said, tmp_path):
    path = tokenizer_json(bert, tmp_path / "t.json", **parts)
    with pytest.raises(CaptionBotError, match=said) as error:
        SubwordVocabulary.load("bert", path)
    assert len(str(error.value)) < 600
    assert len(str(error.value).splitlines()) == 1


def test_a_card_without_subwords_is_what_it_was(tmp_path):
    path = build_tiny_captioner(tmp_path)
    assert isinstance(json.loads(path.read_text())["vocabulary"], list)
    assert load_vocabulary(Card.load(path).vocabulary) == Vocabulary(Card.load(path).vocabulary)


def test_a_captioner_of_subwords_carries_its_tokenizer(bert, tmp_path):
    """Saved, moved to another folder and loaded, it captions and takes a beginning, without the source."""
    plain, encoder, _ = cards.load(build_tiny_captioner(tmp_path / "plain"))
    spec = {"vocabulary_size": len(bert), "feature_size": 64, "hidden_size": 16, "layers": 1, "heads": 2}
    card = dataclasses.replace(plain, decoder={"kind": "gpt2-prefix", **spec}, vocabulary=bert.spec)
    cards.save(tmp_path / "saved", card, encoder, build_decoder("gpt2-prefix", spec))
    (tmp_path / "vocab.txt").unlink()
    (tmp_path / "saved").rename(tmp_path / "moved")
    captioner = Captioner.from_pretrained(tmp_path / "moved")
    assert captioner.vocabulary.tokens == bert.tokens
    (captioned,) = captioner.caption(
        Image.new("RGB", (64, 64)), prefix="a skateboarder", banned_words=["dog"]
    )
    caption = captioned.captions[0]
    assert caption.text.startswith("a skateboarder")
    assert [word.text for word in caption.words[:4]] == ["a", "skate", "board", "er"]
    assert "dog" not in caption.text
    assert not any(token in caption.text for token in ("[", "<", "##"))
