"""What importers of soft-attention captioners share: the decoder, and ResNets with numbers for names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from captionbot.store.importers.imported import Words, check_size, filled

if TYPE_CHECKING:
    from torch import Tensor, nn

    from captionbot.decoders import Decoder
    from captionbot.store.importers.imported import Tensors

_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_RESNET = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
"""torchvision's names of a ResNet's children, in the order in which `nn.Sequential` numbers them."""


def soft_attention(tensors: Tensors, names: Mapping[str, str], words: Words, **config: Any) -> Decoder:
    """Our decoder with another project's weights, V rows in the order of our vocabulary.

    Both add a bias to the keys and one to the query, which a sum cannot tell apart, and one to all
    scores, which the softmax does not see.
    """

    def size(module: str, axis: int, tensor: str = "weight") -> int:
        return tensors[f"{names[module]}.{tensor}"].shape[axis]

    check_size(words, size("output_word", 0))

    def weight(ours: str) -> Tensor:
        module, _, part = ours.rpartition(".")
        theirs = tensors[f"{names[module]}.{part}"]
        return (
            theirs + tensors[f"{names['attend_hidden']}.bias"] if ours == "attend_annotation.bias" else theirs
        )

    return filled(
        "soft-attention",
        {
            "vocabulary_size": len(words.tokens),
            "feature_size": size("attend_annotation", 1),
            "embedding_size": size("embedding", 1),
            "hidden_size": size("lstm", 1, "weight_hh"),
            "attention_size": size("attend_annotation", 0),
            "deep_output": False,
            **config,
        },
        words,
        weight,
    )


def resnet(architecture: str, layer: str, state_dict: Tensors) -> nn.Module:
    from captionbot.encoders import GridConfig, GridEncoder

    return GridEncoder(GridConfig(architecture, layer, grid=(14, 14)), dict(state_dict)).eval()


def renumbered(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    """resnet.4.0.conv1.weight -> layer1.0.conv1.weight, as torchvision calls it."""
    found = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            number, _, rest = name.removeprefix(prefix).partition(".")
            found[f"{_RESNET[int(number)]}.{rest}"] = tensor
    return found


def photo(side: int) -> dict[str, Any]:
    return {"size": (side, side), **_IMAGENET, "interpolation": "bilinear"}
