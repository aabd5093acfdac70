"""Text: tokens, vocabularies, parts of speech."""
