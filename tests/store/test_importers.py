"""Checkpoints of other projects: made here with their exact names and shapes, and run by their own maths."""

from __future__ import annotations

import json
import os
import pickle
import resource
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from local_server import local_server
from PIL import Image
from torch import nn, serialization
from torch.nn.functional import adaptive_avg_pool2d

from benchmarks.plain_search import plain_search
from captionbot import CaptionBotError, Captioner, SearchOptions
from captionbot.cli.main import main
from captionbot.decoders import Decoder, State
from captionbot.images.load import to_pixel_values
from captionbot.store.importers import OLD_KINDS, cs231n, import_captioner, read_checkpoint, read_vocabulary
from captionbot.store.importers.arrays import read_arrays
from captionbot.store.importers.imported import words_of as words_of_tokens
from captionbot.types import Features


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    rows, columns = np.mgrid[0:120, 0:160]
    pixels = np.stack([rows * 2, columns, (rows * columns) % 256], -1).astype(np.uint8)
    return Image.fromarray(pixels)


def moved(cnn: nn.Module) -> nn.Module:
    """The CNN in evaluation mode with batch norms as after training."""
    for module in cnn.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1)
            module.bias.data.normal_(std=0.1)
    return cnn.eval()


def random_tensors(shapes: dict[str, tuple[int, ...]]) -> OrderedDict[str, torch.Tensor]:
    """Scaled so that states do not saturate and words differ clearly."""
    return OrderedDict(
        (name, torch.randn(shape) * (0.3 if name.startswith(("fc", "embed")) else shape[-1] ** -0.5))
        for name, shape in shapes.items()
    )


class PlainDecoder(Decoder):
    """One image and one hypothesis at a time, by the names of the other project's weights."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.w = weights

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return self.w[f"{name}.weight"] @ x + self.w[f"{name}.bias"]

    def lstm_cell(self, name: str, x: torch.Tensor, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        w, h, c = self.w, state.rows["h"][0], state.rows["c"][0]
        gates = w[f"{name}.weight_ih"] @ x + w[f"{name}.bias_ih"] + w[f"{name}.weight_hh"] @ h
        i, f, g, o = (gates + w[f"{name}.bias_hh"]).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c

    def logits(self, output: torch.Tensor) -> torch.Tensor:
        return self.linear("fc", output[0])[None]


class PlainSeed004(PlainDecoder):
    def start(self, features: Features) -> State:
        mean = features.values[0].mean(0)
        h, c = self.linear("init_h", mean).tanh(), self.linear("init_c", mean).tanh()
        return State({"a": features.values}, {"h": h[None], "c": c[None]})

    def advance(self, token_ids: torch.Tensor, state: State) -> tuple[torch.Tensor, torch.Tensor, State]:
        a, h = state.images["a"][0], state.rows["h"][0]
        query = self.linear("attention.decoder_to_attention_dim", h)
        e = [
            self.linear(
                "attention.attention", (self.linear("attention.encoder_to_attention_dim", a_i) + query).tanh()
            )
            for a_i in a
        ]
        alpha = torch.cat(e).softmax(0)
        z = self.linear("f_beta", h).sigmoid() * (alpha @ a)
        h, c = self.lstm_cell("lstm", torch.cat([self.w["embed.weight"][token_ids[0]], z]), state)
        return h[None], alpha[None], State(state.images, {"h": h[None], "c": c[None]})


class PlainSgrvinod(PlainDecoder):
    def start(self, features: Features) -> State:
        mean = features.values[0].mean(0)
        h, c = self.linear("init_h", mean), self.linear("init_c", mean)
        return State({"a": features.values}, {"h": h[None], "c": c[None]})

    def advance(self, token_ids: torch.Tensor, state: State) -> tuple[torch.Tensor, torch.Tensor, State]:
        a, h = state.images["a"][0], state.rows["h"][0]
        att1 = a @ self.w["attention.encoder_att.weight"].T + self.w["attention.encoder_att.bias"]
        att2 = self.linear("attention.decoder_att", h)
        full = self.w["attention.full_att.weight"], self.w["attention.full_att.bias"]
        alpha = ((att1 + att2).relu() @ full[0][0] + full[1]).softmax(0)
        awe = self.linear("f_beta", h).sigmoid() * (a * alpha[:, None]).sum(0)
        h, c = self.lstm_cell(
            "decode_step", torch.cat([self.w["embedding.weight"][token_ids[0]], awe]), state
        )
        return h[None], alpha[None], State(state.images, {"h": h[None], "c": c[None]})


def check_same_captions(
    captioner: Captioner,
    photo: Image.Image,
    cnn: nn.Module,
    plain: Decoder,
    itos: list[str],
    specials: tuple[int, int, int, int],
) -> None:
    """Features, and captions with a beam of 1 and of 3, are those of the plain maths; ids may be others.

    specials: padding, start, end and unknown of the other project.
    """
    pad, start, end, unknown = specials
    pixels = to_pixel_values([photo], captioner.preprocessing)
    with torch.inference_mode():
        values = adaptive_avg_pool2d(cnn(pixels), 14).flatten(2).transpose(1, 2)
    features = captioner.encode([photo])
    assert features.grid == (14, 14)
    torch.testing.assert_close(features.values, values, rtol=1e-3, atol=1e-4 * float(values.abs().max()))
    for beam_size in (1, 3):
        options = SearchOptions(beam_size=beam_size, max_length=6, length_penalty=0.0)
        ours = captioner.search(features, options).hypotheses[0][0]
        theirs = plain_search(
            plain,
            Features(values, features.boxes),
            bos_id=start,
            eos_id=end,
            options=options,
            banned_ids=(pad, start, unknown),
        )[0][0]
        assert captioner.vocabulary.decode(ours.token_ids) == [itos[i] for i in theirs.token_ids]
        np.testing.assert_allclose(ours.log_probs, theirs.log_probs, atol=2e-3)
        np.testing.assert_allclose(ours.alphas, theirs.alphas, atol=1e-4)
        assert len(set(ours.token_ids)) > 1  # else any search would find it


# Seed 004


SEED004 = {
    "captionbot-v2-flickr30k": {
        "embed.weight": (7547, 350),
        "lstm.weight_ih": (2048, 1374),
        "lstm.weight_hh": (2048, 512),
        "lstm.bias_ih": (2048,),
        "lstm.bias_hh": (2048,),
        "attention.attention.weight": (1, 512),
        "attention.attention.bias": (1,),
        "attention.encoder_to_attention_dim.weight": (512, 1024),
        "attention.encoder_to_attention_dim.bias": (512,),
        "attention.decoder_to_attention_dim.weight": (512, 512),
        "attention.decoder_to_attention_dim.bias": (512,),
        "f_beta.weight": (1024, 512),
        "f_beta.bias": (1024,),
        "init_h.weight": (512, 1024),
        "init_h.bias": (512,),
        "init_c.weight": (512, 1024),
        "init_c.bias": (512,),
        "L_h.weight": (350, 512),
        "L_h.bias": (350,),
        "fc.weight": (7547, 512),
        "fc.bias": (7547,),
    },
    "captionbot-v1-flickr8k": {
        "embed.weight": (5011, 256),
        "lstm.weight_ih": (1600, 1280),
        "lstm.weight_hh": (1600, 400),
        "lstm.bias_ih": (1600,),
        "lstm.bias_hh": (1600,),
        "attention.attention.weight": (1, 400),
        "attention.attention.bias": (1,),
        "attention.encoder_to_attention_dim.weight": (400, 1024),
        "attention.encoder_to_attention_dim.bias": (400,),
        "attention.decoder_to_attention_dim.weight": (400, 400),
        "attention.decoder_to_attention_dim.bias": (400,),
        "f_beta.weight": (1024, 400),
        "f_beta.bias": (1024,),
        "init_h.weight": (400, 1024),
        "init_h.bias": (400,),
        "init_c.weight": (400, 1024),
        "init_c.bias": (400,),
        "L_h.weight": (256, 400),
        "L_z.weight": (256, 1024),
        "L_o.weight": (5011, 256),
        "fc.weight": (5011, 400),
        "fc.bias": (5011,),
    },
}
PARAMETERS = {"captionbot-v2-flickr30k": 12_922_116, "captionbot-v1-flickr8k": 9_432_212}


class VocabBuilder:
    """Pickled as `vocab.Vocab_Builder`, the class of seed 004."""

    def __init__(self, itos: list[str]) -> None:
        self.itos = dict(enumerate(itos))
        self.stoi = {word: i for i, word in enumerate(itos)}
        self.freq_threshold = 5


def pickle_vocabulary(path: Path, itos: list[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    module = types.ModuleType("vocab")
    module.Vocab_Builder = type("Vocab_Builder", (VocabBuilder,), {"__module__": "vocab"})  # type: ignore
    monkeypatch.setitem(sys.modules, "vocab", module)
    path.write_bytes(pickle.dumps(module.Vocab_Builder(itos), protocol=4))
    monkeypatch.delitem(sys.modules, "vocab")
    return path


def words_of(size: int) -> list[str]:
    return ["<PAD>", "<SOS>", "<EOS>", "<UNK>", ".", " ", *(f"word{i}" for i in range(6, size))]


@pytest.fixture(scope="module")
def resnet50() -> nn.Module:
    torch.manual_seed(4)
    return moved(torchvision.models.resnet50())


@pytest.fixture(scope="module")
def resnet50_file(resnet50: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """578 tensors: a whole ResNet-50, and again the part that is used, sharing storage."""
    state = {f"resnet50.{name}": tensor for name, tensor in resnet50.state_dict().items()}
    part = nn.Sequential(*list(resnet50.children())[:-3])
    state |= {f"resnet.{name}": tensor for name, tensor in part.state_dict().items()}
    assert len(state) == 578
    path = tmp_path_factory.mktemp("encoder") / "resnet5010.pt"
    torch.save(state, path)
    return path


def seed004_files(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[OrderedDict[str, torch.Tensor], Path, Path]:
    """Weights, the decoder's file with its optimizer, and the vocabulary's."""
    torch.manual_seed(3)
    weights = random_tensors(SEED004[name])
    decoder = folder / "decoder.pth.tar"
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 3e-4}]}
    torch.save({"state_dict": weights, "optimizer": optimizer, "step": 10}, decoder)
    itos = words_of(len(weights["fc.bias"]))
    return weights, decoder, pickle_vocabulary(folder / "vocab.pickle", itos, monkeypatch)


@pytest.mark.parametrize("name", SEED004)
def test_seed004_says_what_the_original_says(
    name: str,
    resnet50: nn.Module,
    resnet50_file: Path,
    photo: Image.Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights, decoder, vocabulary = seed004_files(tmp_path, name, monkeypatch)
    assert sum(tensor.numel() for tensor in weights.values()) == PARAMETERS[name]
    card = import_captioner("sankalp1999", [vocabulary, resnet50_file, decoder], tmp_path / name, name)
    captioner = Captioner.from_pretrained(tmp_path / name, device="cpu")
    assert card == tmp_path / name / f"{name}.json"
    assert "Flickr30k" in captioner.card.description or "v1" in name
    cnn = nn.Sequential(*list(resnet50.children())[:-3])
    itos = words_of(len(weights["fc.bias"]))
    check_same_captions(captioner, photo, cnn, PlainSeed004(weights), itos, (0, 1, 2, 3))


def test_a_download_is_imported_and_then_a_captioner_like_any_other(
    resnet50_file: Path,
    photo: Image.Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "captionbot-v1-flickr8k"
    _, decoder, vocabulary = seed004_files(tmp_path, name, monkeypatch)
    table = json.loads((Path(__file__).parents[2] / "weights" / "table.json").read_text())
    lines = [line for line in table if line["name"] == name]
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(shipped))
    monkeypatch.setenv("CAPTIONBOT_CACHE", str(tmp_path / "cache"))
    with local_server() as server:
        for line, file in zip(lines, (decoder, resnet50_file, vocabulary), strict=True):
            line |= {"url": server.says(f"/{line['file']}", file.read_bytes()), "size": None, "sha256": None}
        (shipped / "table.json").write_text(json.dumps(lines))
        with pytest.raises(CaptionBotError, match=f"captionbot download {name}"):
            Captioner.from_pretrained(name)
        assert main(["download", name]) == 0
    card = tmp_path / "cache" / name / f"{name}.json"
    assert str(card) in capsys.readouterr().out
    photo.save(tmp_path / "photo.png")
    assert main(["caption", str(tmp_path / "photo.png"), "--model", name, "--max-length", "5"]) == 0
    assert "word" in capsys.readouterr().out
    assert main(["models", "--format", "json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["name"], listed["ships"]) == (name, False)
    assert listed["parameters"] > 16_000_000


@pytest.mark.parametrize("file", ["seed004_flickr30k_vocab", "seed004_flickr8k_vocab"])
def test_the_real_vocabularies(shared: Path, file: str) -> None:
    folder = shared / "data" / "legacy"
    expected = json.loads((folder / f"{file}_itos.json").read_text(encoding="utf-8"))["itos"]
    assert read_vocabulary(folder / f"{file}.pickle") == expected
    assert read_vocabulary(folder / f"{file}_itos.json") == expected


def test_an_encoder_whose_two_halves_differ(
    resnet50_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, decoder, vocabulary = seed004_files(tmp_path, "captionbot-v1-flickr8k", monkeypatch)
    state = torch.load(resnet50_file, weights_only=True)
    state["resnet.6.5.bn3.running_var"] = state["resnet.6.5.bn3.running_var"] + 1
    torch.save(state, tmp_path / "encoder.pt")
    with pytest.raises(CaptionBotError, match=r"two layer3\.5\.bn3\.running_var that differ"):
        import_captioner("sankalp1999", [decoder, tmp_path / "encoder.pt", vocabulary], tmp_path / "x", "x")
    assert not (tmp_path / "x").exists()


# sgrvinod


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder_att = nn.Linear(2048, 512)
        self.decoder_att = nn.Linear(512, 512)
        self.full_att = nn.Linear(512, 1)
        self.relu = nn.ReLU()
        self.softmax = nn.Softmax(dim=1)


class DecoderWithAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.embedding = nn.Embedding(9490, 512)
        self.dropout = nn.Dropout(0.5)
        self.decode_step = nn.LSTMCell(2560, 512, bias=True)
        self.init_h = nn.Linear(2048, 512)
        self.init_c = nn.Linear(2048, 512)
        self.f_beta = nn.Linear(512, 2048)
        self.sigmoid = nn.Sigmoid()
        self.fc = nn.Linear(512, 9490)


class Encoder(nn.Module):
    def __init__(self, resnet: nn.Module) -> None:
        super().__init__()
        self.resnet = nn.Sequential(*list(resnet.children())[:-2])
        self.adaptive_pool = nn.AdaptiveAvgPool2d((14, 14))


class Backend:
    """Every module of PyTorch 0.4 carried one, pickled as a call of this function."""

    def __reduce__(self):
        return sys.modules["torch.nn.backends.thnn"]._get_thnn_function_backend, ()


def pose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the classes above be pickled under the names of the tutorial's own module, and thnn be there."""
    models, thnn = types.ModuleType("models"), types.ModuleType("torch.nn.backends.thnn")
    for original in (Attention, DecoderWithAttention, Encoder):
        monkeypatch.setattr(original, "__module__", "models")
        setattr(models, original.__name__, original)

    def _get_thnn_function_backend() -> None: ...

    _get_thnn_function_backend.__module__ = thnn.__name__
    _get_thnn_function_backend.__qualname__ = "_get_thnn_function_backend"
    thnn._get_thnn_function_backend = _get_thnn_function_backend  # type: ignore
    monkeypatch.setitem(sys.modules, "models", models)
    monkeypatch.setitem(sys.modules, thnn.__name__, thnn)


def word_map() -> dict[str, int]:
    words = ["<pad>", *(f"word{i}" for i in range(1, 9487)), "<unk>", "<start>", "<end>"]
    return {word: i for i, word in enumerate(words)}


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_sgrvinod_says_what_the_original_says(
    photo: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(5)
    pose(monkeypatch)
    decoder, encoder = DecoderWithAttention(), Encoder(moved(torchvision.models.resnet101()))
    decoder.load_state_dict(
        random_tensors({name: tuple(tensor.shape) for name, tensor in decoder.state_dict().items()})
    )
    assert len(encoder.state_dict()) == 624
    decoder._backend = Backend()  # type: ignore
    optimizer = torch.optim.Adam(decoder.fc.parameters())
    decoder.fc(torch.ones(512)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    torch.save(
        {"epoch": 20, "epochs_since_improvement": 0, "bleu-4": 0.25, "encoder": encoder, "decoder": decoder}
        | {"encoder_optimizer": None, "decoder_optimizer": optimizer},
        tmp_path / "BEST_checkpoint.pth.tar",
        _use_new_zipfile_serialization=False,  # as in 2018
    )
    monkeypatch.undo()  # from here on there is no module called models
    (tmp_path / "WORDMAP.json").write_text(json.dumps(word_map()))
    files = [str(tmp_path / name) for name in ("BEST_checkpoint.pth.tar", "WORDMAP.json")]
    assert main(["import", "sgrvinod", *files, "--out", f"{tmp_path}/tutorial"]) == 0
    captioner = Captioner.from_pretrained(tmp_path / "tutorial", device="cpu")
    assert captioner.vocabulary.tokens[:5] == ("<pad>", "<bos>", "<eos>", "<unk>", "word1")
    weights = {name: tensor.detach() for name, tensor in decoder.state_dict().items()}
    specials = (0, 9488, 9489, 9487)
    check_same_captions(captioner, photo, encoder.resnet, PlainSgrvinod(weights), [*word_map()], specials)


# Seed 003


def cs231n_words() -> list[str]:
    return ["<NULL>", "<START>", "<END>", "<UNK>", *(f"word{i}" for i in range(4, 1004))]


def scratch_arrays(gates: int) -> dict[str, np.ndarray]:
    shapes = {"W_embed": (1004, 256), "W_proj": (512, 512), "b_proj": (512,), "Wx": (256, gates * 512)}
    shapes |= {"Wh": (512, gates * 512), "b": (gates * 512,), "W_vocab": (512, 1004), "b_vocab": (1004,)}
    random = np.random.default_rng(gates)
    return {name: random.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}


def plain_scratch(w: dict[str, np.ndarray], feature: np.ndarray, token_ids: list[int]) -> np.ndarray:
    """(T, V) scores of the word after each, row vectors, gates i, f, o, g, and an empty memory at first."""

    def sigmoid(a: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-a))

    h, scores = feature @ w["W_proj"] + w["b_proj"], []
    c = np.zeros_like(h)
    for word in token_ids:
        a = w["W_embed"][word] @ w["Wx"] + h @ w["Wh"] + w["b"]
        if len(a) == 512:
            h = np.tanh(a)
        else:
            i, f, o, g = np.split(a, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        scores.append(h @ w["W_vocab"] + w["b_vocab"])
    return np.stack(scores)


TRANSFORMER = {
    "visual_projection.weight": (256, 512),
    "visual_projection.bias": (256,),
    "embedding.weight": (1004, 256),
    **{
        f"transformer.layers.{i}.{name}": shape
        for i in range(2)
        for name, shape in {
            **{
                f"{attention}.{part}.{kind}": (256, 256)[: 2 if kind == "weight" else 1]
                for attention in ("self_attn", "multihead_attn")
                for part in ("key", "query", "value", "proj")
                for kind in ("weight", "bias")
            },
            "linear1.weight": (2048, 256),
            "linear1.bias": (2048,),
            "linear2.weight": (256, 2048),
            "linear2.bias": (256,),
            **{f"norm{n}.{kind}": (256,) for n in (1, 2, 3) for kind in ("weight", "bias")},
        }.items()
    },
    "output.weight": (1004, 256),
    "output.bias": (1004,),
}


def transformer_weights() -> OrderedDict[str, torch.Tensor]:
    torch.manual_seed(6)
    weights = OrderedDict((name, torch.randn(shape) * 0.1) for name, shape in TRANSFORMER.items())
    assert sum(tensor.numel() for tensor in weights.values()) == 3_803_884
    positions = torch.zeros(1, 30, 256)
    for i in range(30):
        for j in range(0, 256, 2):
            positions[0, i, j] = np.sin(i * 10000 ** (-j / 256))
            positions[0, i, j + 1] = np.cos(i * 10000 ** (-j / 256))
    weights["positional_encoding.pe"] = positions
    return weights


def plain_transformer(
    w: dict[str, torch.Tensor], feature: torch.Tensor, token_ids: list[int]
) -> torch.Tensor:
    """(T, V) scores by PyTorch's own layers."""
    x = (w["embedding.weight"][token_ids] + w["positional_encoding.pe"][0, : len(token_ids)])[None]
    memory = (w["visual_projection.weight"] @ feature + w["visual_projection.bias"])[None, None]
    for i in range(2):
        layer = nn.TransformerDecoderLayer(256, 2, 2048, batch_first=True).eval()
        theirs = {n.removeprefix(f"transformer.layers.{i}."): t for n, t in w.items() if f"layers.{i}." in n}
        state = {n: t for n, t in theirs.items() if n.startswith(("linear", "norm"))}
        for name in ("self_attn", "multihead_attn"):
            for kind in ("weight", "bias"):
                parts = [theirs[f"{name}.{part}.{kind}"] for part in ("query", "key", "value")]
                state[f"{name}.in_proj_{kind}"] = torch.cat(parts)
                state[f"{name}.out_proj.{kind}"] = theirs[f"{name}.proj.{kind}"]
        layer.load_state_dict(state)
        x = layer(x, memory, tgt_mask=torch.ones(len(token_ids), len(token_ids)).bool().triu(1))
    return x[0] @ w["output.weight"].T + w["output.bias"]


def cs231n_scores(decoder: Decoder, feature: torch.Tensor, token_ids: list[int]) -> torch.Tensor:
    features = Features(feature.view(1, 1, -1), torch.tensor([[[0.0, 0.0, 1.0, 1.0]]]))
    with torch.inference_mode():
        outputs, _, _ = decoder.advance_all(torch.tensor([token_ids]), decoder.start(features))
        return decoder.logits(outputs)[0]


CAPTION = [1, 40, 7, 1003, 40, 512]


@pytest.mark.parametrize("gates", [1, 4], ids=["rnn", "lstm"])
def test_seed003_recurrent_scores(gates: int, tmp_path: Path) -> None:
    arrays = scratch_arrays(gates)
    np.savez(tmp_path / "checkpoint.npz", **arrays)
    words = words_of_tokens(cs231n_words(), ("<NULL>", "<START>", "<END>", "<UNK>"))
    decoder = cs231n._scratch_recurrent(read_arrays(tmp_path / "checkpoint.npz"), words)
    feature = torch.randn(512, generator=torch.Generator().manual_seed(1))
    scores = cs231n_scores(decoder, feature, CAPTION)
    np.testing.assert_allclose(scores, plain_scratch(arrays, feature.numpy(), CAPTION), rtol=1e-3, atol=1e-4)


def test_seed003_transformer_scores(tmp_path: Path) -> None:
    weights = transformer_weights()
    torch.save(weights, tmp_path / "transformer_model.pt")
    moved_words = [*cs231n_words()[4:], *cs231n_words()[:4]]  # specials are looked up by name
    words = words_of_tokens(moved_words, ("<NULL>", "<START>", "<END>", "<UNK>"))
    decoder = cs231n._scratch_transformer(read_checkpoint(tmp_path / "transformer_model.pt"), words)
    feature = torch.randn(512, generator=torch.Generator().manual_seed(1))
    theirs = [(i - 4) % 1004 for i in CAPTION]
    scores = cs231n_scores(decoder, feature, CAPTION)
    expected = plain_transformer(weights, feature, theirs).detach()[:, words.order]
    torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-4)


def feature_files(folder: Path, width: int, reduced: int, photos: int) -> tuple[list[Path], np.ndarray]:
    """Features with units that never fire, and their PCA, whose mean is not that of these photos."""
    h5py = pytest.importorskip("h5py")
    random = np.random.default_rng(0)
    features = random.normal(0, 1, (photos, width)).clip(0)
    features[:, :3] = 0
    basis = np.linalg.qr(random.normal(0, 1, (width, reduced)))[0]
    paths = [folder / "train2014_vgg16_fc7.h5", folder / "train2014_vgg16_fc7_pca.h5"]
    for path, values in zip(paths, (features, (features - 0.4) @ basis), strict=True):
        with h5py.File(path, "w") as file:
            file["features"] = values.astype(np.float32)
    return paths, (features - 0.4) @ basis


def test_the_pca_of_cs231n_is_found_again(tmp_path: Path) -> None:
    paths, expected = feature_files(tmp_path, 40, 8, 200)
    mean, components = cs231n.fc7_projection(paths)
    import h5py

    with h5py.File(paths[0]) as file:
        features = torch.from_numpy(file["features"][:])
    torch.testing.assert_close((features - mean) @ components.T, torch.from_numpy(expected).float())
    with h5py.File(paths[1], "r+") as file:
        file["features"][5] += 1
    with pytest.raises(CaptionBotError, match="do not belong together"):
        cs231n.fc7_projection(paths)


@pytest.mark.parametrize("damage", ["no HDF5", "cut", "another name", "a list"])
def test_features_that_are_none_are_named(tmp_path: Path, damage: str) -> None:
    import h5py

    paths, _ = feature_files(tmp_path, 40, 8, 200)
    if damage == "no HDF5":
        paths[1].write_bytes(b"junk")
    elif damage == "cut":
        paths[1].write_bytes(paths[1].read_bytes()[:500])
    else:
        with h5py.File(paths[1], "w") as file:
            file["features" if damage == "a list" else "pixels"] = np.zeros(3)
    with pytest.raises(CaptionBotError, match=rf"{paths[1].name} holds no table of features"):
        cs231n.fc7_projection(paths)


def test_pickled_objects_among_arrays_are_not_read(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    np.savez(tmp_path / "rnn.npz", W_embed=np.array([Poison(os.system, f"touch {marker}")], dtype=object))
    with pytest.raises(CaptionBotError, match=r"holds more than plain arrays.*nothing of it was run"):
        read_arrays(tmp_path / "rnn.npz")
    assert not marker.exists()


@pytest.mark.slow
def test_seed003_captions_a_photo(photo: Image.Image, tmp_path: Path) -> None:
    paths, _ = feature_files(tmp_path, 4096, 512, 4200)
    vgg16 = torchvision.models.vgg16()
    torch.save(vgg16.state_dict(), tmp_path / "vgg16.pth")
    np.savez(tmp_path / "lstm_checkpoint.npz", **scratch_arrays(4))
    (tmp_path / "coco2014_vocab.json").write_text(json.dumps({"idx_to_word": cs231n_words()}))
    files = [*paths, *(tmp_path / n for n in ("vgg16.pth", "lstm_checkpoint.npz", "coco2014_vocab.json"))]
    assert main(["import", "cs231n", *map(str, files), "--out", f"{tmp_path}/lstm"]) == 0
    captioner = Captioner.from_pretrained(tmp_path / "lstm", device="cpu")
    pixels = torch.from_numpy(np.array(photo.resize((224, 224), Image.Resampling.BILINEAR))).float()
    caffe = pixels.flip(-1) - torch.tensor([103.939, 116.779, 123.68])  # blue, green, red
    with torch.inference_mode():
        fc7 = vgg16.eval().classifier[:5](
            vgg16.avgpool(vgg16.features(caffe.permute(2, 0, 1)[None])).flatten(1)
        )
    mean, components = cs231n.fc7_projection(paths)
    features = captioner.encode([photo])
    torch.testing.assert_close(features.values[0], (fc7 - mean) @ components.T, rtol=1e-3, atol=1e-2)
    (captioned,) = captioner.caption([photo])
    assert captioned.captions[0].text.startswith("word")


# Poison


class Poison:
    """Creates the file `ran` where it is unpickled carelessly."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def poisons(marker: Path) -> dict[str, object]:
    return {
        "os.system": Poison(os.system, f"touch {marker}"),
        "eval": Poison(eval, f"open({str(marker)!r}, 'w')"),
        "getattr": Poison(getattr, "", "join"),
        "torch.hub.load": Poison(torch.hub.load, str(marker.parent), "x"),
        "a class of torch that is not needed": nn.Bilinear(1, 1, 1),
        "a script": Poison(torch.jit.load, str(marker)),
    }


POISONS = sorted(poisons(Path("x")))


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("form", ["zip", "2018", "nested zip", "module", "vocabulary", "vocabulary's word"])
def test_poison_is_refused_in_one_sentence_and_nothing_runs(
    poison: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "ran"
    bad = poisons(marker)[poison]
    path = tmp_path / ("vocab.pickle" if form.startswith("vocabulary") else "checkpoint.pth.tar")
    if form == "vocabulary":
        path.write_bytes(pickle.dumps(bad))
    elif form == "vocabulary's word":
        pickle_vocabulary(path, ["<PAD>", bad], monkeypatch)  # type: ignore[list-item]
    elif form == "module":
        pose(monkeypatch)
        decoder = Attention()
        decoder.relu.payload = bad  # type: ignore[assignment]
        torch.save({"decoder": decoder, "encoder": None}, path, _use_new_zipfile_serialization=poison > "g")
        monkeypatch.undo()
    elif form == "nested zip":
        inner = tmp_path / "inner"
        torch.save({"state_dict": {"fc.weight": bad}}, inner)
        with zipfile.ZipFile(inner) as archive, zipfile.ZipFile(path, "w") as repacked:
            for member in archive.namelist():  # compressed, under another folder's name
                data = archive.read(member)
                repacked.writestr(f"deep/{member.partition('/')[2]}", data, zipfile.ZIP_DEFLATED)
    else:
        torch.save({"state_dict": {"fc.weight": bad}}, path, _use_new_zipfile_serialization=form == "zip")
    other = tmp_path / ("word_map.json" if form == "module" else "vocab.json")
    other.write_text(json.dumps(word_map() if form == "module" else {"itos": words_of(9)}))
    kind = "sgrvinod" if form == "module" else "sankalp1999"
    files = [path] if form.startswith("vocabulary") else [path, other]
    with pytest.raises(CaptionBotError) as caught:
        import_captioner(kind, files, tmp_path / "out", "out")
    assert not marker.exists()
    assert not (tmp_path / "out").exists()
    assert "\n" not in str(caught.value)
    if form != "nested zip":
        assert "refused and nothing of it was run" in str(caught.value)


def test_a_tensor_in_a_part_of_a_storage_is_read_as_torch_reads_it(tmp_path: Path) -> None:
    """Files of 2018 may name a part of a storage, from the third number on here."""

    class Part:
        pass

    class Saved:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (part, 1, (3,), (1,), False, OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, saved: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", 6, ("1", 2, 4)) if saved is part else None

    part = Part()
    with (tmp_path / "c.pth").open("wb") as file:
        for value in (serialization.MAGIC_NUMBER, serialization.PROTOCOL_VERSION, {"little_endian": True}):
            pickle.dump(value, file, protocol=2)
        Pickler(file, protocol=2).dump(Saved())
        pickle.dump(["0"], file, protocol=2)
        file.write(struct.pack("<q6f", 6, *range(6)))
    expected = torch.load(tmp_path / "c.pth", weights_only=False)
    assert expected.tolist() == [3, 4, 5]
    assert torch.equal(read_checkpoint(tmp_path / "c.pth", ["no.class"]), expected)


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_class_is_known_to_one_importer_alone(is_zip: bool, tmp_path: Path) -> None:
    linear = nn.Linear(2, 3)
    torch.save({"encoder": linear}, tmp_path / "c.pth", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(CaptionBotError, match=r"c\.pth"):
        read_checkpoint(tmp_path / "c.pth")
    found = read_checkpoint(tmp_path / "c.pth", ["torch.nn.modules.linear.Linear"])["encoder"]
    assert not isinstance(found, nn.Module)
    torch.testing.assert_close(found._parameters["weight"], linear.weight.detach())


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 broken", b"\x80\x02broken", b"<html>", os.urandom(500)])
def test_damaged_files(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "c.pth").write_bytes(data)
    (tmp_path / "v.pickle").write_bytes(data)
    with pytest.raises(CaptionBotError, match=r"c\.pth is no checkpoint that can be read safely"):
        read_checkpoint(tmp_path / "c.pth")
    with pytest.raises(CaptionBotError, match=r"v\.pickle is no pickled vocabulary"):
        read_vocabulary(tmp_path / "v.pickle")


def twice_over(depth: int) -> bytes:
    """A tuple of two tuples of two tuples and so on, each two the same: small, but not to be hashed."""
    twice = (b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(depth))
    return b")q\0" + b"".join(twice)


@pytest.mark.parametrize(
    "data",
    [
        b"N" + pickle.LONG_BINPUT + struct.pack("<I", 2**29) + b".",  # 4.6 GB in the unpickler of C
        pickle.BYTEARRAY8 + struct.pack("<Q", 2**33) + b".",
        pickle.BINUNICODE + struct.pack("<I", 2**32 - 1) + b".",
        pickle.EMPTY_SET * 10_000_000 + b".",
        pickle.EMPTY_DICT + twice_over(100) + b"Ns.",  # 2^100 hashes
        b"(" * 5_000_000 + b".",
    ],
)
@pytest.mark.parametrize("name", ["v.pickle", "c.pth"])
def test_small_pickles_that_ask_for_much_are_a_sentence(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x02" + data)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CaptionBotError, match="fetch it again from its author"):
        (read_vocabulary if name == "v.pickle" else read_checkpoint)(tmp_path / name)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < held + 500_000


def test_storages_that_are_packed_or_larger_than_the_file_are_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1_000_000)}, tmp_path / "good.pth")
    assert read_checkpoint(tmp_path / "good.pth")["w"].shape == (1_000_000,)
    with (
        zipfile.ZipFile(tmp_path / "good.pth") as archive,
        zipfile.ZipFile(tmp_path / "c.pth", "w") as packed,
    ):
        for member in archive.namelist():
            packed.writestr(member, archive.read(member), zipfile.ZIP_DEFLATED)
    assert (tmp_path / "c.pth").stat().st_size < 10_000
    with pytest.raises(CaptionBotError, match="no checkpoint that can be read safely"):
        read_checkpoint(tmp_path / "c.pth")


def test_a_tensor_that_repeats_its_numbers_without_end_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1).expand(100_000, 100_000)}, tmp_path / "c.pth")
    with pytest.raises(CaptionBotError, match="no checkpoint that can be read safely"):
        read_checkpoint(tmp_path / "c.pth")


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16", "float64", "int64", "int8", "bool"])
@pytest.mark.parametrize("is_zip", [True, False])
def test_tensors_are_read_as_torch_reads_them(kind: str, is_zip: bool, tmp_path: Path) -> None:
    table = torch.arange(24).view(4, 6).to(getattr(torch, kind))
    saved = {"all": table, "turned": table.T, "part": table[1:, ::2], "none": table[:0], "one": table[0, 0]}
    torch.save(OrderedDict(saved), tmp_path / "c.pth", _use_new_zipfile_serialization=is_zip)
    found = read_checkpoint(tmp_path / "c.pth")
    assert list(found) == list(saved)
    for name, tensor in saved.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_arrays_that_unpack_to_too_much_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", **{f"a{i}": np.zeros(20_000_000, np.float32) for i in range(7)})
    assert (tmp_path / "a.npz").stat().st_size < 1_000_000
    with pytest.raises(CaptionBotError, match="holds more than plain arrays, or is damaged"):
        read_arrays(tmp_path / "a.npz")


def test_projects_have_their_old_names_for_one_release(tmp_path: Path) -> None:
    for old, new in OLD_KINDS.items():
        with pytest.raises(CaptionBotError, match=f"{new} needs one vocabulary"):
            import_captioner(old, [], tmp_path / "x", "x")


def test_wrong_files_are_named_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "v.json").write_text(json.dumps({"itos": words_of(9)}))
    torch.save({"state_dict": {"fc.weight": torch.ones(9, 2)}}, tmp_path / "d.pth")
    torch.save({"resnet50.conv1.weight": torch.ones(1)}, tmp_path / "e.pth")
    given = {
        "seed005": (["v.json"], "'seed005' cannot be imported: choose one of sankalp1999, sgrvinod"),
        "sankalp1999": (["v.json"], "needs one decoder, and 0 are among the files"),
        "sgrvinod": (["v.json", "d.pth"], "give the files as that project published them"),
    }
    for kind, (names, sentence) in given.items():
        files = [str(tmp_path / name) for name in names]
        assert main(["import", kind, *files, "--out", str(tmp_path / "out")]) == 2
        errors = capsys.readouterr().err
        assert sentence in errors
        assert errors.count("\n") == 1
    files = [str(tmp_path / name) for name in ("v.json", "d.pth", "e.pth")]
    assert main(["import", "sankalp1999", *files, "--out", str(tmp_path / "out")]) == 2
    assert "size mismatch for conv1.weight" in capsys.readouterr().err
    assert (
        main(["import", "sankalp1999", files[0], str(tmp_path / "gone.pth"), "--out", f"{tmp_path}/out"]) == 2
    )
    assert "There is no file " in (error := capsys.readouterr().err)
    assert "gone.pth: give the files of that project" in error
    assert not (tmp_path / "out").exists()
