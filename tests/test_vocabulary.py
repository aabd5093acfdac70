import pytest

from captionbot.errors import CaptionBotError
from captionbot.vocabulary import BOS, EOS, PAD, UNK, Vocabulary

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
    with pytest.raises(CaptionBotError, match=EOS):  # special tokens are no words
        vocabulary.require([EOS])
