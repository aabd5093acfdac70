"""github.com/ruotianluo/ImageCaptioning.pytorch: model*.pth, and infos*.pkl with options and vocabulary.

Its fc, att2in, att2in2, updown and transformer, on the features that its scripts make.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionbot.store.importers.checkpoint import read_checkpoint, read_pickle
from captionbot.store.importers.imported import Imported, Words, check_size, is_vocabulary, the_one
from captionbot.store.importers.on_features import built, ready
from captionbot.store.importers.soft_attention import photo

if TYPE_CHECKING:
    from torch import Tensor

    from captionbot.decoders import Decoder
    from captionbot.store.importers.imported import Tensors

_CLASSES = (
    "_codecs.encode",
    "argparse.Namespace",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
)
"""What infos name: their options, and scores as numbers of numpy."""

_ATTENTION = {
    "attend_annotation": "ctx2att",
    "attend_hidden": "core.attention.h2att",
    "attend_score": "core.attention.alpha_net",
    "output_word": "logit",
}
_MOST_LAYERS = 64
_MADE_BY = "ImageCaptioning.pytorch's scripts"


def read(files: Sequence[Path]) -> Imported:
    """One model by its tensors' names; sentences begin, end and are filled with word 0."""
    infos = read_pickle(
        the_one("ruotianluo", "infos (.pkl)", [f for f in files if is_vocabulary(f)]), _CLASSES
    )
    options = vars(infos["opt"])
    for name in ("bos_idx", "eos_idx", "pad_idx"):
        if options.get(name, 0):
            raise ValueError(f"its {name} is {options[name]}, where 0 begins and ends sentences")
    model = the_one("ruotianluo", "model (.pth)", [path for path in files if not is_vocabulary(path)])
    tensors = read_checkpoint(model)
    words, silent = _words(infos["vocab"])
    output = next(name for name in ("logit.weight", "model.generator.proj.weight") if name in tensors)
    check_size(words, len(tensors[output]) + len(silent))  # which have no row of their own
    build, size = _kind(tensors)
    if build is _transformer:
        build = partial(_transformer, heads=int(options.get("num_att_heads", 8)))
    decoder = build(tensors, words, silent)
    return Imported(
        ready(size, _MADE_BY, pooled=build is _fc),
        decoder,
        {
            "family": decoder_family(decoder),
            "preprocessing": photo(224),
            "vocabulary": words.tokens,
            "search": {
                "beam_size": 5,
                "length_penalty": 0.0,
                "max_length": int(options.get("max_length") or options.get("seq_length") or 20),
            },
            "description": "A model of ImageCaptioning.pytorch, on the features that it learned from.",
            "licence": "MIT",
        },
    )


def decoder_family(decoder: Decoder) -> str:
    """The kind of a decoder, which is its family's name here."""
    from captionbot.decoders import FAMILIES

    return next(kind for kind, family in FAMILIES.items() if type(decoder) is family.decoder)


def _words(vocabulary: Mapping[str, str]) -> tuple[Words, list[int]]:
    """Words in our order, and our ids that are never said; of {"1": word, ...}, where "UNK" may be."""
    from captionbot.text.vocabulary import SPECIAL_TOKENS, Vocabulary

    tokens = [vocabulary[str(i)] for i in range(1, len(vocabulary) + 1)]
    if not all(isinstance(token, str) for token in tokens):
        raise ValueError("a vocabulary is a list of words")
    unknown = tokens.index("UNK") + 1 if "UNK" in tokens else 0
    others = [i for i in range(1, len(tokens) + 1) if i != unknown]
    known = Vocabulary((*SPECIAL_TOKENS, *(tokens[i - 1] for i in others)))
    silent = [known.pad_id, known.bos_id, *[known.unk_id] * (not unknown)]
    return Words(known.tokens, [0, 0, 0, unknown, *others]), silent


def _kind(tensors: Tensors) -> tuple[Any, int]:
    """What builds the model of such tensors, and how many numbers its features have."""
    if "core.att_lstm.weight_ih" in tensors:
        return _updown, tensors["fc_embed.0.weight"].shape[1]
    if "core.a2c.weight" in tensors:
        embeds = "att_embed.0.weight" in tensors
        return _att2in, (
            _annotate(tensors)["annotate.weight"] if embeds else tensors["ctx2att.weight"]
        ).shape[1]
    if "model.generator.proj.weight" in tensors:
        return _transformer, _annotate(tensors)["annotate.weight"].shape[1]
    for image in ("img_embed", "fc_embed"):
        if f"{image}.weight" in tensors:
            return _fc, tensors[f"{image}.weight"].shape[1]
    raise ValueError("they are of a model that is none of fc, att2in, att2in2, updown and transformer")


def _embedding(tensors: Tensors) -> Tensor:
    """Of words, behind its ReLU where there is one."""
    if "embed.weight" in tensors:
        return tensors["embed.weight"]
    return tensors["embed.0.weight"].relu()


def _annotate(tensors: Tensors) -> dict[str, Tensor]:
    """The linear layer of places, with the batch norm before it."""
    if "att_embed.4.weight" in tensors:
        raise ValueError("it normalises batches behind the places' layer (use_bn 2), which is not known here")
    if "att_embed.1.weight" not in tensors:
        weight, bias = tensors["att_embed.0.weight"], tensors["att_embed.0.bias"]
    else:
        mean, variance, gain, shift = (
            tensors[f"att_embed.0.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        scale = gain / (variance + 1e-5).sqrt()
        weight = tensors["att_embed.1.weight"] * scale
        bias = tensors["att_embed.1.bias"] + tensors["att_embed.1.weight"] @ (shift - mean * scale)
    return {"annotate.weight": weight, "annotate.bias": bias}


def _keys(tensors: Tensors) -> dict[str, Tensor]:
    """Biases of keys and queries as one; the softmax does not see that of the scores."""
    return {"attend_annotation.bias": tensors["ctx2att.bias"] + tensors["core.attention.h2att.bias"]}


def _updown(tensors: Tensors, words: Words, silent: list[int]) -> Decoder:
    made = {**_annotate(tensors), **_keys(tensors), "embedding.weight": _embedding(tensors)}
    names = _ATTENTION | {
        "annotate_mean": "fc_embed.0",
        "attention_cell": "core.att_lstm",
        "language_cell": "core.lang_lstm",
    }
    hidden = tensors["core.lang_lstm.weight_hh"].shape[1]
    config = {
        "feature_size": tensors["fc_embed.0.weight"].shape[1],
        "annotation_size": made["annotate.weight"].shape[0],
        "embedding_size": made["embedding.weight"].shape[1],
        "hidden_size": hidden,
        "attention_size": tensors["ctx2att.weight"].shape[0],
        "own_mean": True,
    }
    return built("top-down", config, words, tensors, names, made, silent)


def _att2in(tensors: Tensors, words: Words, silent: list[int]) -> Decoder:
    embeds = "att_embed.0.weight" in tensors  # att2in2; att2in attends to features as they come
    made = {**_keys(tensors), **_maxout(tensors, "core"), "embedding.weight": _embedding(tensors)}
    made |= _annotate(tensors) if embeds else {}
    config = {
        "feature_size": (made["annotate.weight"] if embeds else tensors["ctx2att.weight"]).shape[1],
        "annotation_size": made["annotate.weight"].shape[0] if embeds else None,
        "embedding_size": made["embedding.weight"].shape[1],
        "hidden_size": tensors["core.h2h.weight"].shape[1],
        "attention_size": tensors["ctx2att.weight"].shape[0],
    }
    return built("att2in", config, words, tensors, _ATTENTION | {"candidate": "core.a2c"}, made, silent)


def _fc(tensors: Tensors, words: Words, silent: list[int]) -> Decoder:
    old = "img_embed.weight" in tensors
    core, image = ("core", "img_embed") if old else ("_core", "fc_embed")
    config = {
        "cell": "maxout-lstm",
        "feature_size": tensors[f"{image}.weight"].shape[1],
        "embedding_size": tensors["embed.weight"].shape[1],
        "hidden_size": tensors[f"{core}.h2h.weight"].shape[1],
    }
    names = {"image": image, "embedding": "embed", "output_word": "logit"}
    return built("show-and-tell", config, words, tensors, names, _maxout(tensors, core), silent)


def _transformer(tensors: Tensors, words: Words, silent: list[int], heads: int) -> Decoder:
    embedding = tensors["model.tgt_embed.0.lut.weight"]
    image = _annotate(tensors)
    made = {"image.weight": image["annotate.weight"], "image.bias": image["annotate.bias"]}
    counts = {}
    for stack, ours in (("encoder", "encoder"), ("decoder", "layers")):
        layers = {name.split(".")[3] for name in tensors if name.startswith(f"model.{stack}.layers.")}
        counts[stack] = len(layers)
        if counts[stack] > _MOST_LAYERS:
            raise ValueError(f"there are {counts[stack]} layers in its {stack}")
        for i in range(counts[stack]):
            theirs, mine = f"model.{stack}.layers.{i}", f"{ours}.{i}"
            for attention, name in (("self_attention", "self_attn"), ("cross_attention", "src_attn")):
                for number, part in enumerate(("query", "key", "value", "output")):
                    if (source := f"{theirs}.{name}.linears.{number}") + ".weight" in tensors:
                        made |= _layer(tensors, source, f"{mine}.{attention}.{part}")
            for part, name in (("widen", "w_1"), ("narrow", "w_2")):
                made |= _layer(tensors, f"{theirs}.feed_forward.{name}", f"{mine}.{part}")
            for number in range(2 if stack == "encoder" else 3):
                made |= _norm(tensors, f"{theirs}.sublayer.{number}.norm", f"{mine}.norm{number + 1}")
        made |= _norm(tensors, f"model.{stack}.norm", f"{stack}_norm")
    config = {
        "feature_size": made["image.weight"].shape[1],
        "embedding_size": embedding.shape[1],
        "heads": heads,
        "layers": counts["decoder"],
        "encoder_layers": counts["encoder"],
        "feedforward_size": len(tensors["model.encoder.layers.0.feed_forward.w_1.weight"]),
    }
    names = {"embedding": "model.tgt_embed.0.lut", "output_word": "model.generator.proj"}
    return built("annotated-transformer", config, words, tensors, names, made, silent)


def _layer(tensors: Tensors, theirs: str, ours: str) -> dict[str, Tensor]:
    return {f"{ours}.{part}": tensors[f"{theirs}.{part}"] for part in ("weight", "bias")}


def _norm(tensors: Tensors, theirs: str, ours: str) -> dict[str, Tensor]:
    return {f"{ours}.weight": tensors[f"{theirs}.a_2"], f"{ours}.bias": tensors[f"{theirs}.b_2"]}


def _maxout(tensors: Tensors, core: str) -> dict[str, Tensor]:
    return {
        "cell.of_input.weight": tensors[f"{core}.i2h.weight"],
        "cell.of_input.bias": tensors[f"{core}.i2h.bias"] + tensors[f"{core}.h2h.bias"],
        "cell.of_hidden.weight": tensors[f"{core}.h2h.weight"],
    }
