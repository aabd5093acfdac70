"""Which words of a vocabulary are nouns, and which tell two things of one name apart."""

from __future__ import annotations

from captionbot.text.naming import naming
from captionbot.text.vocabulary import SPECIAL_TOKENS, SubwordVocabulary, Vocabulary

WORDS = (*SPECIAL_TOKENS, "a", "dog", "brown", "and", "another", "two", "is", "running", "on", "bench", "'s")


def test_words_are_told_by_what_they_are():
    found = naming(WORDS)
    said = {kind: {WORDS[i] for i in ids} for kind, ids in found._asdict().items()}
    assert said == {
        "nouns": {"dog", "bench"},
        "adjectives": {"brown"},
        "apart": {"dog", "bench", "brown", "another", "two"},
        "joining": {"and"},
    }


def test_only_vocabularies_of_whole_words_know_their_nouns():
    assert Vocabulary(WORDS).naming == naming(WORDS)
    assert SubwordVocabulary.naming is None
