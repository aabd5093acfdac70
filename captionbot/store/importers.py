"""Captioners of earlier public projects, read from their own files: the same maths behind our faces.

seed004: github.com/sankalp1999/Image_Captioning; decoder .pth.tar, encoder .pt, vocabulary .pickle or .json.
sgrvinod: github.com/sgrvinod/a-PyTorch-Tutorial-to-Image-Captioning; checkpoint .pth.tar, word map .json.
seed003: image-captioning-bottom-up, decoders from scratch; rnn or lstm .npz or transformer .pt, and from
    CS231n's coco_captioning coco2014_vocab.json and both of {train,val}2014_vgg16_fc7.h5 and _fc7_pca.h5;
    Caffe's VGG16, which made these features, as a .pth by torchvision's names.

Nothing in a file is run: checkpoints go through `torch.load(weights_only=True)`, or through an unpickler
in which the classes that are known only hold attributes; whatever else a pickle names is refused.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from captionbot.errors import CaptionBotError
from captionbot.images.archives import is_file

if TYPE_CHECKING:
    from torch import Tensor, nn

    from captionbot.decoders import Decoder
    from captionbot.store.card import Card

    Tensors = Mapping[str, Tensor]

_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_VOCABULARY_CLASSES = ("__main__.Vocab_Builder", "vocab.Vocab_Builder")
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

_RESNET = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
"""torchvision's names of a ResNet's children, in the order in which `nn.Sequential` numbers them."""

_SEED004 = {
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
_SGRVINOD = _SEED004 | {
    "embedding": "embedding",
    "lstm": "decode_step",
    "attend_annotation": "attention.encoder_att",
    "attend_hidden": "attention.decoder_att",
    "attend_score": "attention.full_att",
}
"""Modules of our soft-attention decoder, and what they are called there."""

_SEED003 = {
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

_ROWS = 8192  # photos that CS231n's PCA is worked out from
_CAFFE_MEAN = (103.939, 116.779, 123.68)  # of blue, green and red, 0..255


@dataclass(frozen=True)
class _Imported:
    """Encoder and decoder with their weights, and the fields of a card that differ between projects."""

    encoder: nn.Module
    decoder: Decoder
    fields: dict[str, Any]


@dataclass(frozen=True)
class _Words:
    """tokens: of our vocabulary; order: (V,) the row of the other project's matrices for each of them."""

    tokens: tuple[str, ...]
    order: list[int]


def import_captioner(kind: str, files: Sequence[str | Path], folder: Path, name: str) -> Path:
    """Write NAME.json and NAME.safetensors, made from another project's files; returns the card's path.

    kind: a key of IMPORTERS.
    files: in any order, since they are told apart by what is in them.
    Raises CaptionBotError for files that are missing, damaged, poisoned or of another project.
    """
    if kind not in IMPORTERS:
        raise CaptionBotError(f"'{kind}' cannot be imported: choose one of {', '.join(IMPORTERS)}.")
    from captionbot.store import card as cards

    paths = [Path(file) for file in files]
    if missing := [path for path in paths if not is_file(path)]:
        raise CaptionBotError(f"There is no file {missing[0]}: give the files of that project.")
    try:
        imported = IMPORTERS[kind](paths)
    except KeyError as error:
        raise _wrong_files(kind, paths, f"there is no {error} in them") from None
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise _wrong_files(kind, paths, str(error).strip().splitlines()[-1].strip()) from None
    folder.mkdir(parents=True, exist_ok=True)
    return cards.save(folder, _card(kind, name, paths, imported), imported.encoder, imported.decoder)


def _wrong_files(kind: str, files: Sequence[Path], reason: str) -> CaptionBotError:
    return CaptionBotError(
        f"{_listed(files)} cannot be imported as {kind}: {reason.rstrip('.')}; "
        "give the files as that project published them."
    )


def _listed(files: Sequence[Path]) -> str:
    return ", ".join(path.name for path in files) or "No file"


def _card(kind: str, name: str, files: Sequence[Path], imported: _Imported) -> Card:
    from captionbot.decoders import DECODERS
    from captionbot.encoders import ENCODERS
    from captionbot.store.card import Card

    def spec(module: Any, kinds: Mapping[str, Any]) -> dict[str, Any]:
        kind = next(kind for kind, (built, _) in kinds.items() if type(module) is built)
        return {"kind": kind, **asdict(module.config)}

    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return Card(
        name=name,
        encoder=spec(imported.encoder, ENCODERS),
        decoder=spec(imported.decoder, DECODERS),
        training={"imported": kind, "sha256": sums},
        **imported.fields,
    )


# Files


def read_checkpoint(path: Path, classes: Sequence[str] = ()) -> Any:
    """What `torch.save` wrote, in its format of today or of 2018, on the CPU.

    classes: dotted names that may occur besides tensors and plain containers. Of each instance only the
        attributes are read; `torch.load(weights_only=True)` would call its methods, and knows no modules
        in the format of 2018.
    Raises CaptionBotError for a file that names anything else, before anything of it is built.
    """
    import torch

    try:
        if classes:
            return _read_modules(path, classes)
        return torch.load(path, map_location="cpu", weights_only=True)
    except CaptionBotError:
        raise
    except OSError as error:
        raise CaptionBotError(f"{path} cannot be read ({error.strerror}): give an existing file.") from None
    except Exception as error:  # a damaged file raises errors of every kind
        if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise _refused(path, named[1]) from None
        raise CaptionBotError(
            f"{path} is no checkpoint that can be read safely (damaged, or of another format): "
            "fetch it again from its author."
        ) from None


class _Unpickler(pickle.Unpickler):
    """Reads plain values, and what is known by its dotted name; refuses everything else."""

    def __init__(self, file: IO[bytes], path: Path, known: Mapping[str, Any]) -> None:
        super().__init__(file)
        self.path, self.known = path, known

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}".replace("__builtin__.", "builtins.")
        if full not in self.known:
            raise _refused(self.path, full)
        return self.known[full]


def _refused(path: Path, name: str) -> CaptionBotError:
    return CaptionBotError(
        f"{path} names {name}, which no such file needs and which could run anything: "
        "it was refused and nothing of it was run; fetch it again from its author."
    )


def _stub() -> type:
    """A class that stands for others: attributes, and nothing to call. A new one for every file."""
    return type("Stub", (), {})


def _read_modules(path: Path, classes: Sequence[str]) -> Any:
    """A checkpoint with whole modules: a pickle, and the numbers of its storages apart from it.

    The numbers are the members data/KEY of a zip file, or, until 2020, follow the pickle: for each key of
    a list an int64 count and so many numbers. A pickle names storages by `persistent_load`'s tuples
    ("storage", type, key, location, count, view), and the classes of modules by ("module", class, ...).
    """
    import torch

    storages: dict[str, Tensor] = {}
    most = path.stat().st_size  # compressed numbers there are none

    def persistent_load(saved: tuple[Any, ...]) -> Any:
        if saved[0] == "module":
            return saved[1]
        dtype, key, _, count, *view = saved[1:]
        if not 0 <= count * dtype.itemsize <= most:
            raise ValueError("a storage is larger than the file")
        flat = storages.setdefault(key, torch.empty(count, dtype=dtype))
        return flat[view[0][1] : view[0][1] + view[0][2]] if view and view[0] else flat

    def read(file: IO[bytes]) -> Any:
        reader = _Unpickler(file, path, known)
        reader.persistent_load = persistent_load  # type: ignore[method-assign]
        return reader.load()

    def fill(flat: Tensor, data: bytes) -> None:
        if len(flat):
            flat.copy_(torch.frombuffer(bytearray(data), dtype=flat.dtype))

    known = dict.fromkeys(classes, _stub()) | {
        "builtins.set": lambda items=(): set(items),
        "collections.OrderedDict": OrderedDict,
        "collections.defaultdict": lambda *_: {},
        "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
        "torch._utils._rebuild_tensor_v2": lambda flat, start, size, stride, *_: flat.as_strided(
            size, stride, flat.storage_offset() + start
        ),
        "torch.nn.parameter.Parameter": lambda tensor, *_: tensor,
        "torch.FloatStorage": torch.float32,
        "torch.LongStorage": torch.int64,
    }
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(name) as file:
                found = read(file)
            for key, flat in storages.items():
                fill(flat, archive.read(name.removesuffix(".pkl") + f"/{key}"))
        return found
    with path.open("rb") as file:
        _magic, _version, _system, found, keys = (read(file) for _ in range(5))
        for key in keys:
            (count,) = struct.unpack("<q", file.read(8))
            fill(storages[key], file.read(count * storages[key].itemsize))
    return found


def read_vocabulary(path: Path) -> list[str]:
    """The tokens of seed 004's vocabulary in the order of their ids: its pickle, or a JSON with "itos"."""
    if path.suffix == ".json":
        return list(_read_json(path)["itos"])
    try:
        with path.open("rb") as file:
            itos = vars(_Unpickler(file, path, dict.fromkeys(_VOCABULARY_CLASSES, _stub())).load())["itos"]
        return [itos[i] for i in range(len(itos))]
    except CaptionBotError:
        raise
    except OSError as error:
        raise CaptionBotError(f"{path} cannot be read ({error.strerror}): give an existing file.") from None
    except Exception:  # a damaged pickle raises errors of every kind
        raise CaptionBotError(
            f"{path} is no pickled vocabulary with its 'itos': fetch it again from its author."
        ) from None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CaptionBotError(f"{path} cannot be read as JSON ({error}): give a good copy of it.") from None


def _is_vocabulary(path: Path) -> bool:
    return path.suffix.lower() in (".json", ".pickle", ".pkl")


def _the_one(kind: str, what: str, found: Sequence[Any]) -> Any:
    if len(found) != 1:
        raise CaptionBotError(
            f"{kind} needs one {what}, and {len(found)} are among the files: give all of its files once."
        )
    return found[0]


def _words(tokens: Sequence[str], specials: Sequence[str]) -> _Words:
    """specials: what padding, start, end and unknown are called there."""
    from captionbot.text.vocabulary import SPECIAL_TOKENS

    places = {token: i for i, token in enumerate(tokens)}
    first = [places[token] for token in specials]
    others = [i for i in range(len(tokens)) if i not in first]
    return _Words((*SPECIAL_TOKENS, *(tokens[i] for i in others)), first + others)


def _check_size(words: _Words, rows: int) -> None:
    if len(words.order) != rows:
        raise ValueError(f"the vocabulary has {len(words.order)} words where the decoder knows {rows}")


# Show, Attend and Tell


def _soft_attention(tensors: Tensors, names: Mapping[str, str], words: _Words, **config: Any) -> Decoder:
    """Our decoder with another project's weights, V rows in the order of our vocabulary.

    Both add a bias to the keys and one to the query, which a sum cannot tell apart, and one to all
    scores, which the softmax does not see.
    """
    from captionbot.decoders import build_decoder

    def size(module: str, axis: int, tensor: str = "weight") -> int:
        return tensors[f"{names[module]}.{tensor}"].shape[axis]

    _check_size(words, size("output_word", 0))
    decoder = build_decoder(
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
    )
    state = {}
    for ours in decoder.state_dict():
        module, _, tensor = ours.rpartition(".")
        state[ours] = tensors[f"{names[module]}.{tensor}"].detach().float()
    state["attend_annotation.bias"] = (
        state["attend_annotation.bias"] + tensors[f"{names['attend_hidden']}.bias"].detach()
    )
    for table in ("embedding.weight", "output_word.weight", "output_word.bias"):
        state[table] = state[table][words.order]
    decoder.load_state_dict(state)
    return decoder.eval()


def _resnet(architecture: str, layer: str, state_dict: Tensors) -> nn.Module:
    from captionbot.encoders import GridConfig, GridEncoder

    return GridEncoder(GridConfig(architecture, layer, grid=(14, 14)), dict(state_dict)).eval()


def _renumbered(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    """resnet.4.0.conv1.weight -> layer1.0.conv1.weight, as torchvision calls it."""
    found = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            number, _, rest = name.removeprefix(prefix).partition(".")
            found[f"{_RESNET[int(number)]}.{rest}"] = tensor
    return found


def _photo(side: int) -> dict[str, Any]:
    return {"size": (side, side), **_IMAGENET, "interpolation": "bilinear"}


def _seed004(files: Sequence[Path]) -> _Imported:
    """CaptionBot 1.0 and 2.0: ResNet-50 to layer3, 14 x 14; L_h, L_z and L_o are there, and never used."""
    import torch

    vocabulary = _the_one("seed004", "vocabulary", [path for path in files if _is_vocabulary(path)])
    words = _words(read_vocabulary(vocabulary), ("<PAD>", "<SOS>", "<EOS>", "<UNK>"))
    checkpoints = [read_checkpoint(path) for path in files if not _is_vocabulary(path)]
    checkpoints = [checkpoint.get("state_dict", checkpoint) for checkpoint in checkpoints]
    decoder = _the_one("seed004", "decoder", [found for found in checkpoints if "fc.weight" in found])
    encoder = _the_one(
        "seed004", "encoder", [found for found in checkpoints if "resnet50.conv1.weight" in found]
    )
    named = {n.removeprefix("resnet50."): t for n, t in encoder.items() if n.startswith("resnet50.")}
    for name, tensor in _renumbered(encoder, "resnet.").items():
        if not torch.equal(tensor, named[name]):
            raise ValueError(f"the encoder has two {name} that differ")
    version = "1.0, trained on Flickr8k" if "L_z.weight" in decoder else "2.0, trained on Flickr30k"
    return _Imported(
        _resnet("resnet50", "layer3", named),
        _soft_attention(decoder, _SEED004, words),
        {
            "family": "show-attend-tell",
            "preprocessing": _photo(256),
            "vocabulary": words.tokens,
            "search": {"beam_size": 3, "length_penalty": 0.0, "max_length": 50},
            "description": f"The weights of CaptionBot {version}, by sankalp1999.",
            "licence": "MIT",
        },
    )


def _sgrvinod(files: Sequence[Path]) -> _Imported:
    """The PyTorch tutorial: ResNet-101 widened to 14 x 14, ReLU in the score, first states without a tanh."""
    word_map = _read_json(_the_one("sgrvinod", "word map (.json)", [f for f in files if _is_vocabulary(f)]))
    words = _words(sorted(word_map, key=word_map.__getitem__), ("<pad>", "<start>", "<end>", "<unk>"))
    path = _the_one("sgrvinod", "checkpoint", [path for path in files if not _is_vocabulary(path)])
    checkpoint = read_checkpoint(path, _MODULE_CLASSES)
    encoder = _renumbered(_state_dict(checkpoint["encoder"]), "resnet.")
    decoder = _state_dict(checkpoint["decoder"])
    return _Imported(
        _resnet("resnet101", "layer4", encoder),
        _soft_attention(decoder, _SGRVINOD, words, score_activation="relu", initial_tanh=False),
        {
            "family": "show-attend-tell",
            "preprocessing": _photo(256),
            "vocabulary": words.tokens,
            "search": {"beam_size": 5, "length_penalty": 0.0, "max_length": 50},
            "description": "The weights of sgrvinod's tutorial, trained on COCO.",
            "licence": "MIT",
        },
    )


def _state_dict(module: Any, prefix: str = "") -> dict[str, Tensor]:
    """`nn.Module.state_dict` of a module of which only the attributes were read."""
    found = {
        prefix + name: tensor
        for name, tensor in {**module._parameters, **module._buffers}.items()
        if tensor is not None
    }
    for name, child in module._modules.items():
        if child is not None:
            found |= _state_dict(child, f"{prefix}{name}.")
    return found


# Decoders from scratch, on CS231n's features


def _seed003(files: Sequence[Path]) -> _Imported:
    """The RNN, LSTM and Transformer of seed 003; they decode greedily, 30 positions at most."""
    features = [path for path in files if path.suffix == ".h5"]
    vocabulary = _read_json(
        _the_one("seed003", "vocabulary (.json)", [f for f in files if _is_vocabulary(f)])
    )
    words = _words(vocabulary["idx_to_word"], ("<NULL>", "<START>", "<END>", "<UNK>"))
    found = [_read_arrays(path) for path in files if path.suffix == ".npz"]
    found += [read_checkpoint(path) for path in files if path.suffix in (".pt", ".pth")]
    vgg16 = _the_one("seed003", "VGG16", [tensors for tensors in found if "features.0.weight" in tensors])
    decoder = _the_one("seed003", "decoder", [tensors for tensors in found if tensors is not vgg16])
    build = _scratch_recurrent if "W_embed" in decoder else _scratch_transformer
    return _Imported(
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


def _read_arrays(path: Path) -> dict[str, Tensor]:
    """The arrays of an .npz file; CaptionBotError for pickled objects among them, which are not read."""
    import numpy as np
    import torch

    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except OSError as error:
        raise CaptionBotError(f"{path} cannot be read ({error}): give an existing file.") from None
    except Exception:  # a damaged file raises errors of every kind
        raise CaptionBotError(
            f"{path} holds more than plain arrays, or is damaged: nothing of it was run; fetch it again."
        ) from None


def _scratch_recurrent(tensors: Tensors, words: _Words) -> Decoder:
    """Vectors are rows there, so matrices are transposed, and an LSTM's gates are in the order i, f, o, g."""
    import torch

    from captionbot.decoders import build_decoder

    _check_size(words, tensors["W_vocab"].shape[1])
    hidden = tensors["Wh"].shape[0]
    is_lstm = tensors["Wh"].shape[1] == 4 * hidden
    config = {
        "cell": "lstm" if is_lstm else "rnn",
        "vocabulary_size": len(words.tokens),
        "feature_size": tensors["W_proj"].shape[0],
        "embedding_size": tensors["W_embed"].shape[1],
        "hidden_size": hidden,
    }
    decoder = build_decoder("scratch-recurrent", config)

    def gates(rows: Tensor) -> Tensor:
        if not is_lstm:
            return rows
        i, f, o, g = rows.chunk(4)
        return torch.cat([i, f, g, o])

    decoder.load_state_dict(
        {
            "image.weight": tensors["W_proj"].T,
            "image.bias": tensors["b_proj"],
            "embedding.weight": tensors["W_embed"][words.order],
            "cell.weight_x": gates(tensors["Wx"].T),
            "cell.weight_h": gates(tensors["Wh"].T),
            "cell.bias": gates(tensors["b"]),
            "output_word.weight": tensors["W_vocab"].T[words.order],
            "output_word.bias": tensors["b_vocab"][words.order],
        }
    )
    return decoder.eval()


def _scratch_transformer(tensors: Tensors, words: _Words) -> Decoder:
    """Post-norm, two heads; words are not multiplied by sqrt(D) there, so that ours are divided by it."""
    import torch

    from captionbot.decoders import build_decoder
    from captionbot.decoders.transformer import sinusoids

    size = tensors["embedding.weight"].shape[1]
    _check_size(words, len(tensors["output.weight"]))
    positions = tensors["positional_encoding.pe"][0]
    if not torch.allclose(positions, sinusoids(torch.arange(len(positions)), size), atol=1e-4):
        raise ValueError("positional_encoding.pe holds no sinusoids")
    decoder = build_decoder(
        "scratch-transformer",
        {
            "vocabulary_size": len(words.tokens),
            "feature_size": tensors["visual_projection.weight"].shape[1],
            "embedding_size": size,
            "heads": 2,
            "layers": len({name.split(".")[2] for name in tensors if name.startswith("transformer.layers.")}),
            "feedforward_size": len(tensors["transformer.layers.0.linear1.weight"]),
        },
    )
    state = {
        ours: tensors[".".join(_SEED003.get(part, part) for part in ours.split("."))]
        for ours in decoder.state_dict()
    }
    state["embedding.weight"] = state["embedding.weight"] / size**0.5
    for table in ("embedding.weight", "output_word.weight", "output_word.bias"):
        state[table] = state[table][words.order]
    decoder.load_state_dict(state)
    return decoder.eval()


def fc7_projection(files: Sequence[Path]) -> tuple[Tensor, Tensor]:
    """Mean (C,) and components (D, C) of CS231n's PCA, which was never published, from what it did.

    files: the .h5 of features (n, C) and the .h5 of the same reduced to (n, D): a linear map, so least
        squares give it back from more rows than C. Directions in which no photo differs stay 0.
    Raises CaptionBotError where the one is no such map of the other.
    """
    import numpy as np
    import torch

    try:
        import h5py
    except ImportError:
        raise CaptionBotError("CS231n's features need the package h5py: `pip install h5py`.") from None
    if len(files) != 2:
        raise CaptionBotError(
            "seed003 needs two files of features, NAME_vgg16_fc7.h5 and NAME_vgg16_fc7_pca.h5, "
            f"not {len(files)}: give both."
        )
    arrays = []
    for path in files:
        try:
            with h5py.File(path) as file:
                arrays.append(file["features"][:_ROWS].astype(np.float64))
            _, _ = arrays[-1].shape
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise CaptionBotError(
                f"{path} holds no table of features ({error}): give the .h5 as CS231n made it."
            ) from None
    reduced, features = sorted(arrays, key=lambda array: array.shape[1])
    centred = features - features.mean(0)
    target = reduced - reduced.mean(0)
    components = target.T @ centred @ np.linalg.pinv(centred.T @ centred, hermitian=True)
    left = np.abs(target - centred @ components.T).max() / np.abs(target).max()
    if len(features) <= features.shape[1] or left > 1e-3:
        raise CaptionBotError(
            f"{_listed(files)} do not belong together, or have too few photos to tell: "
            "give features and their PCA of the same photos."
        )
    # W (x - m) = W (x - mean) + mean of the reduced
    mean = features.mean(0) - np.linalg.pinv(components) @ reduced.mean(0)
    return torch.from_numpy(mean).float(), torch.from_numpy(components).float()


def _vgg16_pca(tensors: Tensors, mean: Tensor, components: Tensor) -> nn.Module:
    """Caffe's VGG16, whose first layer takes blue, green, red, to fc7 behind its ReLU, and the PCA."""
    from captionbot.encoders import GridConfig, GridEncoder, PCAConfig, PCAEncoder

    encoder = PCAEncoder(PCAConfig(feature_size=len(mean), components=len(components)))
    state = {**tensors, "features.0.weight": tensors["features.0.weight"].flip(1)}
    encoder.grid = GridEncoder(GridConfig(encoder.config.architecture, encoder.config.layer), state)
    encoder.mean.copy_(mean)
    encoder.components.copy_(components)
    return encoder.eval()


IMPORTERS: dict[str, Callable[[Sequence[Path]], _Imported]] = {
    "seed004": _seed004,
    "sgrvinod": _sgrvinod,
    "seed003": _seed003,
}
