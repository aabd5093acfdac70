"""image-captioning-bottom-up, decoders from scratch on the features of Stanford's CS231n.

rnn or lstm .npz or transformer .pt, and from CS231n's coco_captioning coco2014_vocab.json and both of
{train,val}2014_vgg16_fc7.h5 and _fc7_pca.h5; Caffe's VGG16, which made these features, as a .pth by
torchvision's names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from captionbot.errors import CaptionBotError, shortened
from captionbot.store.importers.arrays import read_arrays
from captionbot.store.importers.checkpoint import read_checkpoint
from captionbot.store.importers.imported import (
    Imported,
    Words,
    check_size,
    filled,
    is_vocabulary,
    listed,
    the_one,
    vocabulary_json,
    words_of,
)  # fmt: skip

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from captionbot.decoders import Decoder
    from captionbot.store.importers.imported import Tensors

_NAMES = {
    "image": "visual_projection",
    "embedding": "embedding",
    "output_word": "output",
    "layers": "transformer.layers",
    "self_attention": "self_attn",
    "cross_attention": "multihead_attn",
    "output": "proj",
    "widen": "linear1",
    "narrow": "linear2",
}
"""Parts of names in our Transformer, and what they are called there; other parts are the same."""

_MOST_LAYERS = 64
_MOST_CHANNELS = 4096  # of VGG16's fc7
_ROWS = 8192  # photos that CS231n's PCA is worked out from
_CAFFE_MEAN = (103.939, 116.779, 123.68)  # of blue, green and red, 0..255


def read(files: Sequence[Path]) -> Imported:
    """The RNN, LSTM and Transformer; they decode greedily, 30 positions at most."""
    features = [path for path in files if path.suffix == ".h5"]
    vocabulary = vocabulary_json(
        the_one("cs231n", "vocabulary (.json)", [f for f in files if is_vocabulary(f)])
    )
    words = words_of(vocabulary["idx_to_word"], ("<NULL>", "<START>", "<END>", "<UNK>"))
    found = [read_arrays(path) for path in files if path.suffix == ".npz"]
    found += [read_checkpoint(path) for path in files if path.suffix in (".pt", ".pth")]
    vgg16 = the_one("cs231n", "VGG16", [tensors for tensors in found if "features.0.weight" in tensors])
    decoder = the_one("cs231n", "decoder", [tensors for tensors in found if tensors is not vgg16])
    build = _scratch_recurrent if "W_embed" in decoder else _scratch_transformer
    return Imported(
        _vgg16_pca(vgg16, *fc7_projection(features)),
        build(decoder, words),
        {
            "family": "from-scratch",
            "preprocessing": {
                "size": (224, 224),
                "mean": tuple(value / 255 for value in reversed(_CAFFE_MEAN)),
                "std": (1 / 255,) * 3,
                "interpolation": "bilinear",
            },
            "vocabulary": words.tokens,
            "search": {"beam_size": 1, "length_penalty": 0.0, "max_length": 29},
            "description": "A decoder of image-captioning-bottom-up on CS231n's VGG16 features of COCO.",
        },
    )


def _scratch_recurrent(tensors: Tensors, words: Words) -> Decoder:
    """Vectors are rows there, so matrices are transposed, and an LSTM's gates are in the order i, f, o, g."""
    import torch

    check_size(words, tensors["W_vocab"].shape[1])
    hidden = tensors["Wh"].shape[0]
    is_lstm = tensors["Wh"].shape[1] == 4 * hidden
    config = {
        "cell": "lstm" if is_lstm else "rnn",
        "vocabulary_size": len(words.tokens),
        "feature_size": tensors["W_proj"].shape[0],
        "embedding_size": tensors["W_embed"].shape[1],
        "hidden_size": hidden,
    }

    def gates(rows: Tensor) -> Tensor:
        if not is_lstm:
            return rows
        i, f, o, g = rows.chunk(4)
        return torch.cat([i, f, g, o])

    state = {
        "image.weight": tensors["W_proj"].T,
        "image.bias": tensors["b_proj"],
        "embedding.weight": tensors["W_embed"],
        "cell.weight_x": gates(tensors["Wx"].T),
        "cell.weight_h": gates(tensors["Wh"].T),
        "cell.bias": gates(tensors["b"]),
        "output_word.weight": tensors["W_vocab"].T,
        "output_word.bias": tensors["b_vocab"],
    }
    return filled("scratch-recurrent", config, words, state.__getitem__)


def _scratch_transformer(tensors: Tensors, words: Words) -> Decoder:
    """Post-norm, two heads; words are not multiplied by sqrt(D) there, so that ours are divided by it."""
    import torch

    from captionbot.decoders.transformer import sinusoids

    size = tensors["embedding.weight"].shape[1]
    check_size(words, len(tensors["output.weight"]))
    positions = tensors["positional_encoding.pe"][0]
    if positions.shape[1:] != (size,) or not torch.allclose(
        positions, sinusoids(torch.arange(len(positions)), size), atol=1e-4
    ):
        raise ValueError("positional_encoding.pe holds no sinusoids")
    layers = len({name.split(".")[2] for name in tensors if name.startswith("transformer.layers.")})
    if layers > _MOST_LAYERS:
        raise ValueError(f"there are {layers} layers in them")

    def weight(ours: str) -> Tensor:
        found = tensors[".".join(_NAMES.get(part, part) for part in ours.split("."))]
        return found / size**0.5 if ours == "embedding.weight" else found

    return filled(
        "scratch-transformer",
        {
            "vocabulary_size": len(words.tokens),
            "feature_size": tensors["visual_projection.weight"].shape[1],
            "embedding_size": size,
            "heads": 2,
            "layers": layers,
            "feedforward_size": len(tensors["transformer.layers.0.linear1.weight"]),
        },
        words,
        weight,
    )


def fc7_projection(files: Sequence[Path]) -> tuple[Tensor, Tensor]:
    """Mean (C,) and components (D, C) of CS231n's PCA, which was never published, from what it did.

    files: the .h5 of features (n, C) and the .h5 of the same reduced to (n, D): a linear map, so least
        squares give it back from more rows than C. Directions in which no photo differs stay 0.
    Raises CaptionBotError where the one is no such map of the other.
    """
    import numpy as np
    import torch

    if len(files) != 2:
        raise CaptionBotError(
            "cs231n needs two files of features, NAME_vgg16_fc7.h5 and NAME_vgg16_fc7_pca.h5, "
            f"not {len(files)}: give both."
        )
    arrays = [_table(path) for path in files]
    reduced, features = sorted(arrays, key=lambda array: array.shape[1])
    centred = features - features.mean(0)
    target = reduced - reduced.mean(0)
    components = target.T @ centred @ np.linalg.pinv(centred.T @ centred, hermitian=True)
    left = np.abs(target - centred @ components.T).max() / np.abs(target).max()
    if len(features) <= features.shape[1] or left > 1e-3:
        raise CaptionBotError(
            f"{listed(files)} do not belong together, or have too few photos to tell: "
            "give features and their PCA of the same photos."
        )
    # W (x - m) = W (x - mean) + mean of the reduced
    mean = features.mean(0) - np.linalg.pinv(components) @ reduced.mean(0)
    return torch.from_numpy(mean).float(), torch.from_numpy(components).float()


def _table(path: Path) -> np.ndarray:
    """(n, C) float64, the first rows of a file's "features"."""
    import numpy as np

    try:
        import h5py
    except ImportError:
        raise CaptionBotError("CS231n's features need the package h5py: `pip install h5py`.") from None
    try:
        with h5py.File(path) as file:
            table = file["features"]
            _, channels = table.shape
            if channels > _MOST_CHANNELS or table.dtype.kind != "f":
                raise ValueError(f"rows of {channels} {table.dtype}")
            rows: np.ndarray = table[:_ROWS].astype(np.float64)
            return rows
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CaptionBotError(
            f"{shortened(path)} holds no table of features ({shortened(error)}): give the .h5 as CS231n "
            "made it."
        ) from None


def _vgg16_pca(tensors: Tensors, mean: Tensor, components: Tensor) -> nn.Module:
    """Caffe's VGG16, whose first layer takes blue, green, red, to fc7 behind its ReLU, and the PCA."""
    from captionbot.encoders import GridConfig, GridEncoder, PCAConfig, PCAEncoder

    encoder = PCAEncoder(PCAConfig(feature_size=len(mean), components=len(components)))
    state = {**tensors, "features.0.weight": tensors["features.0.weight"].flip(1)}
    encoder.grid = GridEncoder(GridConfig(encoder.config.architecture, encoder.config.layer), state)
    encoder.mean.copy_(mean)
    encoder.components.copy_(components)
    return encoder.eval()
