"""Checkpoints of projects that caption features: made by their names, and run by their own maths."""

from __future__ import annotations

import argparse
import json
import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from captionbot import CaptionBotError, Captioner
from captionbot.cli.main import main
from captionbot.types import Features, Size

WORDS, FEATURES, EMBEDDING, HIDDEN, ATTENTION = 12, 10, 6, 8, 5
SENTENCE = [3, 7, 1, 9]  # by the project's own ids
Weights = dict[str, Tensor]


def random_weights(shapes: dict[str, tuple[int, ...]]) -> Weights:
    torch.manual_seed(0)
    return OrderedDict((name, torch.randn(shape) * 0.5) for name, shape in shapes.items())


def linear(name: str, *sizes: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a linear layer of (inputs, outputs)."""
    return {f"{name}.weight": (sizes[1], sizes[0]), f"{name}.bias": (sizes[1],)}


def cell(name: str, gates: int, size: int) -> dict[str, tuple[int, ...]]:
    shapes = {f"{name}.weight_ih": (gates * HIDDEN, size), f"{name}.weight_hh": (gates * HIDDEN, HIDDEN)}
    return {**shapes, f"{name}.bias_ih": (gates * HIDDEN,), f"{name}.bias_hh": (gates * HIDDEN,)}


def lin(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", torch.zeros(()))


# The originals, one image and one word after the other


def maxout(w: Weights, core: str, x: Tensor, h: Tensor, c: Tensor, beside: Tensor | None = None) -> Any:
    sums = lin(w, f"{core}.i2h", x) + lin(w, f"{core}.h2h", h)
    i, f, o = (sums[k * HIDDEN : (k + 1) * HIDDEN].sigmoid() for k in range(3))
    candidates = sums[3 * HIDDEN :] + (0 if beside is None else beside)
    c = f * c + i * torch.max(candidates[:HIDDEN], candidates[HIDDEN:])
    return o * c.tanh(), c


def lstm(w: Weights, name: str, x: Tensor, h: Tensor, c: Tensor) -> Any:
    gates = w[f"{name}.weight_ih"] @ x + w[f"{name}.bias_ih"] + w[f"{name}.weight_hh"] @ h
    i, f, g, o = (gates + w[f"{name}.bias_hh"]).chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru(w: Weights, name: str, x: Tensor, h: Tensor) -> Tensor:
    of_x = (w[f"{name}.weight_ih"] @ x + w[f"{name}.bias_ih"]).chunk(3)
    of_h = (w[f"{name}.weight_hh"] @ h + w[f"{name}.bias_hh"]).chunk(3)
    r, z = (of_x[0] + of_h[0]).sigmoid(), (of_x[1] + of_h[1]).sigmoid()
    return (1 - z) * (of_x[2] + r * of_h[2]).tanh() + z * h


def looked(w: Weights, h: Tensor, places: Tensor) -> Tensor:
    scores = [
        lin(w, "core.attention.alpha_net", (lin(w, "ctx2att", p) + lin(w, "core.attention.h2att", h)).tanh())
        for p in places
    ]
    return torch.cat(scores).softmax(0) @ places


def plain_fc(w: Weights, features: Tensor, ids: list[int], core: str, image: str) -> list[Tensor]:
    h = c = torch.zeros(HIDDEN)
    h, c = maxout(w, core, lin(w, image, features.mean(0)), h, c)
    said = []
    for word in ids:
        h, c = maxout(w, core, w["embed.weight"][word], h, c)
        said.append(lin(w, "logit", h).log_softmax(0))
    return said


def plain_att2in(w: Weights, features: Tensor, ids: list[int]) -> list[Tensor]:
    places, table = features, w.get("embed.weight")
    if table is None:  # att2in2
        places, table = lin(w, "att_embed.0", features).relu(), w["embed.0.weight"].relu()
    h = c = torch.zeros(HIDDEN)
    said = []
    for word in ids:
        h, c = maxout(w, "core", table[word], h, c, lin(w, "core.a2c", looked(w, h, places)))
        said.append(lin(w, "logit", h).log_softmax(0))
    return said


def plain_updown(w: Weights, features: Tensor, ids: list[int]) -> list[Tensor]:
    normalised = features
    if "att_embed.0.running_mean" in w:
        centred = (features - w["att_embed.0.running_mean"]) / (w["att_embed.0.running_var"] + 1e-5).sqrt()
        normalised = centred * w["att_embed.0.weight"] + w["att_embed.0.bias"]
    places = lin(w, "att_embed.1" if normalised is not features else "att_embed.0", normalised).relu()
    fc = lin(w, "fc_embed.0", features.mean(0)).relu()
    h1 = c1 = h2 = c2 = torch.zeros(HIDDEN)
    said = []
    for word in ids:
        x = w["embed.0.weight"][word].relu()
        h1, c1 = lstm(w, "core.att_lstm", torch.cat([h2, fc, x]), h1, c1)
        h2, c2 = lstm(w, "core.lang_lstm", torch.cat([looked(w, h1, places), h1]), h2, c2)
        said.append(lin(w, "logit", h2).log_softmax(0))
    return said


def plain_transformer(w: Weights, features: Tensor, ids: list[int]) -> list[Tensor]:
    """The Annotated Transformer, all words at once."""

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return w[f"{name}.a_2"] * centred / (x.std(-1, keepdim=True) + 1e-6) + w[f"{name}.b_2"]

    def attended(name: str, x: Tensor, places: Tensor, hidden: Tensor | None = None) -> Tensor:
        q, k, v = (lin(w, f"{name}.linears.{i}", of) for i, of in enumerate((x, places, places)))
        found = []
        for part in (slice(0, HIDDEN // 2), slice(HIDDEN // 2, HIDDEN)):  # two heads
            scores = q[:, part] @ k[:, part].T / (HIDDEN // 2) ** 0.5
            scores = scores if hidden is None else scores.masked_fill(hidden, -1e9)
            found.append(scores.softmax(-1) @ v[:, part])
        return lin(w, f"{name}.linears.3", torch.cat(found, -1))

    def feed_forward(name: str, x: Tensor) -> Tensor:
        return lin(w, f"{name}.feed_forward.w_2", lin(w, f"{name}.feed_forward.w_1", x).relu())

    memory = lin(w, "att_embed.0", features).relu()
    for i in range(2):
        name = f"model.encoder.layers.{i}"
        x = norm(f"{name}.sublayer.0.norm", memory)
        memory = memory + attended(f"{name}.self_attn", x, x)
        memory = memory + feed_forward(name, norm(f"{name}.sublayer.1.norm", memory))
    memory = norm("model.encoder.norm", memory)
    y = w["model.tgt_embed.0.lut.weight"][ids] * HIDDEN**0.5 + w["model.tgt_embed.1.pe"][0, : len(ids)]
    later = torch.ones(len(ids), len(ids)).triu(1).bool()
    name = "model.decoder.layers.0"
    x = norm(f"{name}.sublayer.0.norm", y)
    y = y + attended(f"{name}.self_attn", x, x, later)
    y = y + attended(f"{name}.src_attn", norm(f"{name}.sublayer.1.norm", y), memory)
    y = y + feed_forward(name, norm(f"{name}.sublayer.2.norm", y))
    return [*lin(w, "model.generator.proj", norm("model.decoder.norm", y)).log_softmax(-1)]


def transformer_shapes() -> dict[str, tuple[int, ...]]:
    shapes = {**linear("att_embed.0", FEATURES, HIDDEN), **linear("model.generator.proj", HIDDEN, WORDS)}
    shapes |= {"model.tgt_embed.0.lut.weight": (WORDS, HIDDEN), "model.tgt_embed.1.pe": (1, 50, HIDDEN)}
    for stack, layers, attentions in (
        ("encoder", 2, ["self_attn"]),
        ("decoder", 1, ["self_attn", "src_attn"]),
    ):
        norms = [f"model.{stack}.norm"]
        for i in range(layers):
            name = f"model.{stack}.layers.{i}"
            for attention in attentions:
                for number in range(4):
                    shapes |= linear(f"{name}.{attention}.linears.{number}", HIDDEN, HIDDEN)
            shapes |= linear(f"{name}.feed_forward.w_1", HIDDEN, 7) | linear(
                f"{name}.feed_forward.w_2", 7, HIDDEN
            )
            norms += [f"{name}.sublayer.{number}.norm" for number in range(len(attentions) + 1)]
        shapes |= {f"{norm}.{part}": (HIDDEN,) for norm in norms for part in ("a_2", "b_2")}
    return shapes


LOGIT = linear("logit", HIDDEN, WORDS)
LOOKING = {
    **linear("core.attention.h2att", HIDDEN, ATTENTION),
    **linear("core.attention.alpha_net", ATTENTION, 1),
}
MAXOUT = {**linear("core.i2h", EMBEDDING, 5 * HIDDEN), **linear("core.h2h", HIDDEN, 5 * HIDDEN)}
EMBED = {"embed.weight": (WORDS, EMBEDDING)}
RELU = {"embed.0.weight": (WORDS, EMBEDDING), **linear("ctx2att", HIDDEN, ATTENTION)}
UPDOWN = {
    **RELU, **LOOKING, **LOGIT, **linear("fc_embed.0", FEATURES, HIDDEN),
    **cell("core.att_lstm", 4, EMBEDDING + 2 * HIDDEN), **cell("core.lang_lstm", 4, 2 * HIDDEN),
}  # fmt: skip
NORM = {f"att_embed.0.{part}": (FEATURES,) for part in ("weight", "bias", "running_mean", "running_var")}
ORIGINALS = {
    "fc": (
        {**EMBED, **MAXOUT, **LOGIT, **linear("img_embed", FEATURES, EMBEDDING)},
        lambda w, x, ids: plain_fc(w, x, ids, "core", "img_embed"),
    ),
    "newfc": (
        {**EMBED, **{f"_{k}": v for k, v in MAXOUT.items()}, **LOGIT,
         **linear("fc_embed", FEATURES, EMBEDDING)},
        lambda w, x, ids: plain_fc(w, x, ids, "_core", "fc_embed"),
    ),
    "att2in": (
        {**EMBED, **MAXOUT, **LOOKING, **LOGIT, **linear("core.a2c", FEATURES, 2 * HIDDEN),
         **linear("ctx2att", FEATURES, ATTENTION)},
        plain_att2in,
    ),
    "att2in2": (
        {**RELU, **MAXOUT, **LOOKING, **LOGIT, **linear("core.a2c", HIDDEN, 2 * HIDDEN),
         **linear("att_embed.0", FEATURES, HIDDEN)},
        plain_att2in,
    ),
    "updown": ({**UPDOWN, **linear("att_embed.0", FEATURES, HIDDEN)}, plain_updown),
    "transformer": (transformer_shapes(), plain_transformer),
    "updown with batch norm": ({**UPDOWN, **NORM, **linear("att_embed.1", FEATURES, HIDDEN)}, plain_updown),
}  # fmt: skip


def vocabulary(unknown: bool = True) -> dict[str, str]:
    words = [f"word{i}" for i in range(1, WORDS)]
    return {str(i): word for i, word in enumerate([*words[:-1], "UNK"] if unknown else words, 1)}


def write_infos(path: Path, unknown: bool = True, **options: Any) -> Path:
    """As the project's own training script pickles them."""
    options = argparse.Namespace(caption_model="any", max_length=9, **options)
    infos = {"iter": 7, "best_val_score": np.float64(1.1), "vocab": vocabulary(unknown), "opt": options}
    path.write_bytes(pickle.dumps({**infos, "iterators": {"train": 3}, "split_ix": {"val": [4, 5]}}, 2))
    return path


def scores(captioner: Captioner, features: Tensor, ids: list[int]) -> list[Tensor]:
    """Log-probabilities after each of a sentence's words, by our ids."""
    state, said = captioner.decoder.start(Features(features[None], torch.rand(1, len(features), 4))), []
    for word in ids:
        log_probs, _, state = captioner.decoder.step(torch.tensor([word]), state)
        said.append(log_probs[0])
    return said


def check(captioner: Captioner, theirs: list[Tensor], features: Tensor, words: dict[str, int]) -> None:
    """words: ids of the project by word."""
    vocabulary = captioner.vocabulary
    places = {word: vocabulary.ids[word] for word in words}
    by_id = {i: word for word, i in words.items()}
    ours = scores(captioner, features, [vocabulary.bos_id, *(places[by_id[i]] for i in SENTENCE)])
    assert len(ours) == len(theirs) == len(SENTENCE) + 1
    for mine, original in zip(ours, theirs, strict=True):
        torch.testing.assert_close(
            mine[[*places.values()]], original[[*words.values()]], rtol=1e-4, atol=1e-5
        )
        assert mine.exp().sum().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", ORIGINALS)
def test_a_model_of_ruotianluo_says_what_the_original_says(tmp_path: Path, name: str) -> None:
    shapes, plain = ORIGINALS[name]
    weights = random_weights(shapes)
    if "att_embed.0.running_var" in weights:
        weights["att_embed.0.running_var"] = weights["att_embed.0.running_var"].abs() + 0.5
    if "model.tgt_embed.1.pe" in weights:
        angles = torch.arange(50)[:, None] * 10000.0 ** (-torch.arange(0, HIDDEN, 2) / HIDDEN)
        weights["model.tgt_embed.1.pe"] = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[None]
    torch.save(weights, tmp_path / "model-best.pth")
    files = [
        str(tmp_path / "model-best.pth"),
        str(write_infos(tmp_path / "infos_x-best.pkl", num_att_heads=2)),
    ]
    assert main(["import", "ruotianluo", *files, "--out", f"{tmp_path}/mine"]) == 0
    captioner = Captioner.from_pretrained(tmp_path / "mine", "cpu", "float32")
    torch.manual_seed(1)
    features = torch.randn(4, FEATURES)
    theirs = plain(weights, features, [0, *SENTENCE])
    known = {word: int(i) for i, word in vocabulary().items() if word != "UNK"}
    check(captioner, theirs, features, known)
    (last,) = scores(captioner, features, [captioner.vocabulary.bos_id])
    assert last[captioner.vocabulary.eos_id].item() == pytest.approx(theirs[0][0].item(), abs=1e-4)
    assert last[captioner.vocabulary.unk_id].item() == pytest.approx(theirs[0][WORDS - 1].item(), abs=1e-4)
    assert captioner.card.search["max_length"] == 9


def test_it_captions_features_and_no_photo(tmp_path: Path) -> None:
    torch.save(random_weights(ORIGINALS["updown"][0]), tmp_path / "model.pth")
    files = [str(tmp_path / "model.pth"), str(write_infos(tmp_path / "infos_x.pkl", unknown=False))]
    assert main(["import", "ruotianluo", *files, "--out", f"{tmp_path}/mine"]) == 0
    captioner = Captioner.from_pretrained(tmp_path / "mine", "cpu")
    features = Features(torch.randn(2, 4, FEATURES), torch.rand(1, 4, 4))
    found = captioner.caption_features(features, [Size(9, 9)] * 2, captioner.options(beam_size=3))
    assert all(word.text.startswith("word") for one in found for word in one.captions[0].words)
    with pytest.raises(CaptionBotError, match="learned from ready-made features"):
        captioner.caption(Image.new("RGB", (9, 9)))


@pytest.mark.parametrize(
    ("shapes", "options", "said"),
    [
        ({**LOGIT, "core.lstm.weight": (2, 2)}, {}, "none of fc, att2in, att2in2, updown and transformer"),
        (
            {**UPDOWN, **NORM, **linear("att_embed.1", FEATURES, HIDDEN), "att_embed.4.weight": (3,)},
            {},
            "use_bn 2",
        ),
        (linear("logit", HIDDEN, 9), {}, "the vocabulary has 14 words"),
        (LOGIT, {"bos_idx": 5}, "its bos_idx is 5"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shapes: Any, options: Any, said: str
) -> None:
    torch.save(random_weights(shapes), tmp_path / "model.pth")
    files = [str(tmp_path / "model.pth"), str(write_infos(tmp_path / "infos.pkl", **options))]
    assert main(["import", "ruotianluo", *files, "--out", f"{tmp_path}/mine"]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


class Evil:
    def __reduce__(self) -> Any:
        return print, ("run",)


def test_infos_are_read_without_running_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(random_weights(LOGIT), tmp_path / "model.pth")
    (tmp_path / "infos.pkl").write_bytes(pickle.dumps({"vocab": Evil()}))
    files = [str(tmp_path / "model.pth"), str(tmp_path / "infos.pkl")]
    assert main(["import", "ruotianluo", *files, "--out", f"{tmp_path}/mine"]) == 2
    told = capsys.readouterr()
    assert "names builtins.print" in told.err and told.out == ""


# Dragonyong-siu

TOKENS = ["[pad]", "[start]", "[end]", "[unk]", *(f"word{i}" for i in range(4, WORDS))]


def normed(name: str, inputs: int, outputs: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    shapes = {f"{name}.weight_v": (outputs, inputs), f"{name}.weight_g": (outputs, 1)}
    return {**shapes, **({f"{name}.bias": (outputs,)} if bias else {})}


def unnormed(w: Weights) -> Weights:
    """By PyTorch's own weight norm."""
    found = dict(w)
    for name in [name for name in w if name.endswith(".weight_v")]:
        module = name.removesuffix("_v")
        found[module] = torch._weight_norm(found.pop(name), found.pop(f"{module}_g"), 0)
    return found


def plain_tell(w: Weights, features: Tensor, ids: list[int], starts: bool) -> list[Tensor]:
    h, image = torch.zeros(HIDDEN), lin(w, "__img2embed_layer__", features.mean(0))
    inputs = [image, *w["__word2embed_layer__.weight"][ids[1:] if starts else ids]]
    said = []
    for x in inputs:
        h = gru(w, "__language_gru__", x, h)
        said.append(lin(w, "__fc_layer__", h).log_softmax(0))
    return said if starts else said[1:]


def plain_top_down(w: Weights, features: Tensor, ids: list[int]) -> list[Tensor]:
    h1 = h2 = torch.zeros(HIDDEN)
    said = []
    for word in ids:
        h1 = gru(
            w, "top_down_attention_lstm", torch.cat([h2, features.mean(0), w["embed_layer.weight"][word]]), h1
        )
        keys = lin(w, "attend_module.features_att", features) + lin(w, "attend_module.decoder_att", h1)
        alpha = lin(w, "attend_module.total_att", keys.tanh()).squeeze(1).softmax(0)
        h2 = gru(w, "language_lstm", torch.cat([alpha @ features, h1]), h2)
        said.append(lin(w, "fc_layer", h2).log_softmax(0))
    return said


TELL = {"__word2embed_layer__.weight": (WORDS, EMBEDDING), **cell("__language_gru__", 3, EMBEDDING)}
DRAGONYONG = {
    "show and tell": (
        {
            **TELL,
            **normed("__img2embed_layer__", FEATURES, EMBEDDING),
            **normed("__fc_layer__", HIDDEN, WORDS),
        },
        lambda w, x, ids: plain_tell(w, x, ids, True),
    ),
    "show and tell of before": (
        {
            **TELL,
            **linear("__img2embed_layer__", FEATURES, EMBEDDING),
            **linear("__fc_layer__", HIDDEN, WORDS),
        },
        lambda w, x, ids: plain_tell(w, x, ids, False),
    ),
    "top-down": (
        {
            "embed_layer.weight": (WORDS, EMBEDDING),
            **cell("top_down_attention_lstm", 3, HIDDEN + FEATURES + EMBEDDING),
            **cell("language_lstm", 3, FEATURES + HIDDEN),
            **normed("attend_module.features_att", FEATURES, ATTENTION, False),
            **normed("attend_module.decoder_att", HIDDEN, ATTENTION, False),
            **normed("attend_module.total_att", ATTENTION, 1, False),
            **normed("fc_layer", HIDDEN, WORDS),
            "encoder.backbone.output.weight": (3, 3),
        },
        plain_top_down,
    ),
}


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("name", DRAGONYONG)
def test_a_captioner_of_dragonyong_says_what_the_original_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, pickled: bool
) -> None:
    shapes, plain = DRAGONYONG[name]
    weights = random_weights(shapes)
    checkpoint = {"model_state_dict": weights, "optimizer_state_dict": {"state": {}}, "epoch": 3}
    torch.save({**checkpoint, "best_summary_loss": 2.5}, tmp_path / "best-checkpoint-003epoch.bin")
    ids = {word: i for i, word in enumerate(TOKENS)}
    if pickled:
        module = types.ModuleType("vocab")
        module.Vocabulary = type("Vocabulary", (), {"__module__": "vocab"})  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "vocab", module)
        words = module.Vocabulary()
        words.word2idx, words.idx2word, words.idx = ids, {i: word for word, i in ids.items()}, len(ids)
        file = tmp_path / "vocab.pkl"
        file.write_bytes(pickle.dumps(words))
        monkeypatch.delitem(sys.modules, "vocab")
    else:
        file = tmp_path / "vocab.json"
        file.write_text(json.dumps(ids))
    files = [str(tmp_path / "best-checkpoint-003epoch.bin"), str(file)]
    assert main(["import", "dragonyong", *files, "--out", f"{tmp_path}/mine"]) == 0
    captioner = Captioner.from_pretrained(tmp_path / "mine", "cpu", "float32")
    torch.manual_seed(1)
    features = torch.randn(4, FEATURES)
    sentence = [i if i > 3 else i + 4 for i in SENTENCE]
    theirs = plain(unnormed(weights), features, [1, *sentence])
    ours = scores(captioner, features, [captioner.vocabulary.bos_id, *sentence])
    assert captioner.vocabulary.tokens[4:] == tuple(TOKENS[4:])  # and the four before are in the same order
    for mine, original in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, original, rtol=1e-4, atol=1e-5)


def test_a_top_down_captioner_of_berts_pieces(tmp_path: Path) -> None:
    """[pad], [start] and [end] stand behind BERT's own pieces."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "##s", "run"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    rows = len(pieces) + 3
    shapes = {
        k: tuple(rows if size == WORDS else size for size in v) for k, v in DRAGONYONG["top-down"][0].items()
    }
    weights = random_weights(shapes)
    torch.save({"model_state_dict": weights}, tmp_path / "last-checkpoint.bin")
    files = [str(tmp_path / "last-checkpoint.bin"), str(tmp_path / "vocab.txt")]
    pytest.importorskip("tokenizers", reason="needs the extra transformers")
    assert main(["import", "dragonyong", *files, "--out", f"{tmp_path}/mine"]) == 0
    captioner = Captioner.from_pretrained(tmp_path / "mine", "cpu", "float32")
    features = torch.randn(4, FEATURES)
    theirs = plain_top_down(unnormed(weights), features, [len(pieces) + 1, 4, 5, 6])
    ours = scores(captioner, features, [captioner.vocabulary.bos_id, 4 + 4, 5 + 4, 6 + 4])
    for mine, original in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine[4:], original[: len(pieces)], rtol=1e-4, atol=1e-5)
        assert mine[captioner.vocabulary.eos_id].item() == pytest.approx(original[-1].item(), abs=1e-4)
