"""github.com/Dragonyong-siu: Show and Tell, and bottom-up and top-down attention, both with GRUs.

A checkpoint with "model_state_dict", and its words: a .json of ids by word, or a pickled Vocabulary; of
BERT's pieces its vocab.txt or tokenizer.json. On the features of the author's CNN, a ResNet of pytorchcv.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionbot.store.importers.checkpoint import read_checkpoint, read_pickle
from captionbot.store.importers.imported import (
    Imported,
    Words,
    check_size,
    is_vocabulary,
    the_one,
    vocabulary_json,
    words_of,
)
from captionbot.store.importers.on_features import built, ready
from captionbot.store.importers.soft_attention import photo

if TYPE_CHECKING:
    from torch import Tensor

    from captionbot.decoders import Decoder
    from captionbot.store.importers.imported import Tensors

_SPECIALS = ("[pad]", "[start]", "[end]", "[unk]")
_CLASSES = ("__main__.Vocabulary", "vocab.Vocabulary")
_PIECES = ("vocab.txt", "tokenizer.json")


def read(files: Sequence[Path]) -> Imported:
    """Either model by its tensors' names, its weight norms folded."""
    known = [path for path in files if is_vocabulary(path) or path.name in _PIECES]
    checkpoint = read_checkpoint(the_one("dragonyong", "checkpoint", [f for f in files if f not in known]))
    tensors = checkpoint.get("model_state_dict", checkpoint)
    vocabulary, words, silent = _words(the_one("dragonyong", "vocabulary", known))
    is_top_down = "embed_layer.weight" in tensors
    decoder = (_top_down if is_top_down else _show_and_tell)(tensors, words, silent)
    return Imported(
        ready(decoder.config.feature_size, "pytorchcv's ResNet", pooled=not is_top_down),
        decoder,
        {
            "family": "top-down" if is_top_down else "show-and-tell",
            "preprocessing": photo(224),
            "vocabulary": vocabulary,
            "search": {"beam_size": 3, "length_penalty": 0.0, "max_length": 20},
            "description": "A captioner of Dragonyong-siu, on the features that it learned from.",
        },
    )


def folded(tensors: Tensors) -> dict[str, Tensor]:
    """Matrices for the directions and lengths of weight norm (arXiv 1602.07868): w = g v / |v| by rows."""
    found = {}
    for name, tensor in tensors.items():
        if name.endswith(".weight_v"):
            module = name.removesuffix("_v")
            found[module] = tensors[f"{module}_g"] * tensor / tensor.norm(dim=1, keepdim=True)
        elif not name.endswith(".weight_g"):
            found[name] = tensor
    return found


def _words(path: Path) -> tuple[Any, Words, list[int]]:
    """The card's vocabulary, rows in its order, and our ids that are never said."""
    from captionbot.text.vocabulary import SubwordVocabulary

    if path.name in _PIECES:  # [pad], [start] and [end] were added behind BERT's own pieces
        source = str(path if path.suffix == ".json" else path.parent)
        known = SubwordVocabulary.load("bert", source)
        count = len(known.tokens) - 4
        unknown = known.tokens.index("[UNK]") - 4
        order = [count, count + 1, count + 2, unknown, *range(count)]
        return {"kind": "bert", "source": source}, Words(known.tokens, order), [known.unk_id]
    is_json = path.suffix == ".json"
    ids = vocabulary_json(path) if is_json else vars(read_pickle(path, _CLASSES))["word2idx"]
    words = words_of(sorted(ids, key=ids.__getitem__), _SPECIALS)
    return words.tokens, words, []


def _show_and_tell(tensors: Tensors, words: Words, silent: list[int]) -> Decoder:
    """Where it has weight norms the image stands in the place of the start token; else it comes before."""
    starts = "__fc_layer__.weight_g" in tensors
    tensors = folded(tensors)
    names = {
        "image": "__img2embed_layer__",
        "embedding": "__word2embed_layer__",
        "cell": "__language_gru__",
        "output_word": "__fc_layer__",
    }
    check_size(words, len(tensors["__fc_layer__.weight"]))
    config = {
        "cell": "gru",
        "feature_size": tensors["__img2embed_layer__.weight"].shape[1],
        "embedding_size": tensors["__word2embed_layer__.weight"].shape[1],
        "hidden_size": tensors["__language_gru__.weight_hh"].shape[1],
        "image_starts": starts,
    }
    return built("show-and-tell", config, words, tensors, names, silent=silent)


def _top_down(tensors: Tensors, words: Words, silent: list[int]) -> Decoder:
    tensors = folded(tensors)
    check_size(words, len(tensors["fc_layer.weight"]) + len(silent))
    names = {
        "embedding": "embed_layer",
        "attention_cell": "top_down_attention_lstm",
        "language_cell": "language_lstm",
        "attend_annotation": "attend_module.features_att",
        "attend_hidden": "attend_module.decoder_att",
        "attend_score": "attend_module.total_att",
        "output_word": "fc_layer",
    }
    keys = tensors["attend_module.features_att.weight"]
    config = {
        "cell": "gru",
        "feature_size": keys.shape[1],
        "embedding_size": tensors["embed_layer.weight"].shape[1],
        "hidden_size": tensors["language_lstm.weight_hh"].shape[1],
        "attention_size": keys.shape[0],
    }
    made = {"attend_annotation.bias": keys.new_zeros(len(keys))}
    return built("top-down", config, words, tensors, names, made, silent)
