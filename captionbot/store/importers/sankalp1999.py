"""github.com/sankalp1999/Image_Captioning: decoder .pth.tar, encoder .pt, vocabulary .pickle or .json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from captionbot.store.importers.checkpoint import read_checkpoint, read_vocabulary
from captionbot.store.importers.imported import Imported, is_vocabulary, the_one, words_of
from captionbot.store.importers.soft_attention import photo, renumbered, resnet, soft_attention

NAMES = {
    "embedding": "embed",
    "lstm": "lstm",
    "attend_annotation": "attention.encoder_to_attention_dim",
    "attend_hidden": "attention.decoder_to_attention_dim",
    "attend_score": "attention.attention",
    "gate": "f_beta",
    "init_hidden": "init_h",
    "init_cell": "init_c",
    "output_word": "fc",
}
"""Modules of our soft-attention decoder, and what they are called there."""


def read(files: Sequence[Path]) -> Imported:
    """CaptionBot 1.0 and 2.0: ResNet-50 to layer3, 14 x 14; L_h, L_z and L_o are there, and never used."""
    import torch

    vocabulary = the_one("sankalp1999", "vocabulary", [path for path in files if is_vocabulary(path)])
    words = words_of(read_vocabulary(vocabulary), ("<PAD>", "<SOS>", "<EOS>", "<UNK>"))
    checkpoints = [read_checkpoint(path) for path in files if not is_vocabulary(path)]
    checkpoints = [checkpoint.get("state_dict", checkpoint) for checkpoint in checkpoints]
    decoder = the_one("sankalp1999", "decoder", [found for found in checkpoints if "fc.weight" in found])
    encoder = the_one(
        "sankalp1999", "encoder", [found for found in checkpoints if "resnet50.conv1.weight" in found]
    )
    named = {n.removeprefix("resnet50."): t for n, t in encoder.items() if n.startswith("resnet50.")}
    for name, tensor in renumbered(encoder, "resnet.").items():
        if not torch.equal(tensor, named[name]):
            raise ValueError(f"the encoder has two {name} that differ")
    version = "1.0, trained on Flickr8k" if "L_z.weight" in decoder else "2.0, trained on Flickr30k"
    return Imported(
        resnet("resnet50", "layer3", named),
        soft_attention(decoder, NAMES, words),
        {
            "family": "show-attend-tell",
            "preprocessing": photo(256),
            "vocabulary": words.tokens,
            "search": {"beam_size": 3, "length_penalty": 0.0, "max_length": 50},
            "description": f"The weights of CaptionBot {version}, by sankalp1999.",
            "licence": "MIT",
        },
    )
