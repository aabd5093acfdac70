"""github.com/sgrvinod/a-PyTorch-Tutorial-to-Image-Captioning: checkpoint .pth.tar, word map .json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionbot.store.importers import sankalp1999
from captionbot.store.importers.checkpoint import read_checkpoint
from captionbot.store.importers.imported import Imported, is_vocabulary, the_one, vocabulary_json, words_of
from captionbot.store.importers.soft_attention import photo, renumbered, resnet, soft_attention

if TYPE_CHECKING:
    from torch import Tensor

_MODULE_CLASSES = (
    "models.Attention",
    "models.DecoderWithAttention",
    "models.Encoder",
    "torchvision.models.resnet.Bottleneck",
    "torch.nn.backends.thnn._get_thnn_function_backend",
    "torch.nn.modules.activation.ReLU",
    "torch.nn.modules.activation.Sigmoid",
    "torch.nn.modules.activation.Softmax",
    "torch.nn.modules.batchnorm.BatchNorm2d",
    "torch.nn.modules.container.Sequential",
    "torch.nn.modules.conv.Conv2d",
    "torch.nn.modules.dropout.Dropout",
    "torch.nn.modules.linear.Linear",
    "torch.nn.modules.pooling.AdaptiveAvgPool2d",
    "torch.nn.modules.pooling.MaxPool2d",
    "torch.nn.modules.rnn.LSTMCell",
    "torch.nn.modules.sparse.Embedding",
    "torch.optim.adam.Adam",
    "builtins.dict",
)
"""What sgrvinod's checkpoints name, whole pickled modules of PyTorch 0.4 and their optimizers."""

_NAMES = sankalp1999.NAMES | {
    "embedding": "embedding",
    "lstm": "decode_step",
    "attend_annotation": "attention.encoder_att",
    "attend_hidden": "attention.decoder_att",
    "attend_score": "attention.full_att",
}


def read(files: Sequence[Path]) -> Imported:
    """The PyTorch tutorial: ResNet-101 widened to 14 x 14, ReLU in the score, first states without a tanh."""
    word_map = vocabulary_json(
        the_one("sgrvinod", "word map (.json)", [f for f in files if is_vocabulary(f)])
    )
    words = words_of(sorted(word_map, key=word_map.__getitem__), ("<pad>", "<start>", "<end>", "<unk>"))
    path = the_one("sgrvinod", "checkpoint", [path for path in files if not is_vocabulary(path)])
    checkpoint = read_checkpoint(path, _MODULE_CLASSES)
    encoder = renumbered(_state_dict(checkpoint["encoder"]), "resnet.")
    decoder = _state_dict(checkpoint["decoder"])
    return Imported(
        resnet("resnet101", "layer4", encoder),
        soft_attention(decoder, _NAMES, words, score_activation="relu", initial_tanh=False),
        {
            "family": "show-attend-tell",
            "preprocessing": photo(256),
            "vocabulary": words.tokens,
            "search": {"beam_size": 5, "length_penalty": 0.0, "max_length": 50},
            "description": "The weights of sgrvinod's tutorial, trained on COCO.",
            "licence": "MIT",
        },
    )


def _state_dict(module: Any) -> dict[str, Tensor]:
    """`nn.Module.state_dict` of a module of which only the attributes were read."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    waiting = [("", module)]
    while waiting:
        prefix, inside = waiting.pop()
        if id(inside) in seen:  # else modules that hold each other twice over would take for ever
            raise ValueError("a module is there twice")
        seen.add(id(inside))
        for name, tensor in {**inside._parameters, **inside._buffers}.items():
            if tensor is not None:
                found[prefix + name] = tensor
        waiting += [
            (f"{prefix}{name}.", child) for name, child in inside._modules.items() if child is not None
        ]
    return found
