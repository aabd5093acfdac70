"""Packed layers against PyTorch's own, and searches with them against searches without."""

import copy
import dataclasses
import json

import pytest
import torch
from tiny import build_tiny_captioner
from torch import nn

from captionbot import CaptionBotError, Captioner
from captionbot.backends.cpu import cnn as packed_cnn
from captionbot.backends.cpu import hub as packed_hub
from captionbot.backends.cpu import integers, linear
from captionbot.backends.cpu import precision as arithmetic
from captionbot.backends.cpu.decoder import CPUPacking, pack
from captionbot.backends.cpu.integers import IntegerCNN
from captionbot.backends.cpu.remembered import FILE, remembered
from captionbot.backends.cpu.slices import SlicedLinear, stored_integers
from captionbot.backends.cpu.threads import side_by_side
from captionbot.decoders import FAMILIES, build_decoder
from captionbot.decoders.packing import Matrix
from captionbot.encoders import GridEncoder, build_encoder
from captionbot.encoders.efficientnet_lite import SamePad2d
from captionbot.encoders.hub import HubEncoder, HubEncoderConfig
from captionbot.search.beam import beam_search
from captionbot.search.options import SearchOptions
from captionbot.store import card as cards
from captionbot.types import Features

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")

HALVES = [
    pytest.param(
        dtype, marks=pytest.mark.skipif(not arithmetic.knows(dtype), reason=f"this CPU does not know {name}")
    )
    for name, dtype in arithmetic.HALVES.items()
]
DTYPES = [torch.float32, *HALVES]
needs_bfloat16 = pytest.mark.skipif(
    not arithmetic.knows(torch.bfloat16), reason="this CPU does not know bfloat16"
)
ERRORS = {torch.float32: 1e-5, torch.bfloat16: 0.03, torch.float16: 0.004}  # of a CNN's features
SMALL = {"vocabulary_size": 23, "feature_size": 12}
OTHERS = [  # beside every kind as it comes
    ("show-and-tell", {"cell": "gru"}),
    ("show-and-tell", {"cell": "rnn"}),
    ("scratch-recurrent", {"cell": "rnn"}),
    ("top-down", {"cell": "gru"}),
    ("soft-attention", {"annotation_size": 16, "tie_embedding": True}),
]
MEMBERS = [
    {
        "name": kind, "start": 0, "whole": False, "evidence": {}, "mapped": False,
        "decoder": {"kind": kind, "embedding_size": 16, "hidden_size": 16, **SMALL},
    }
    for kind in ("soft-attention", "show-and-tell")
]  # fmt: skip
KINDS = [(kind, {"members": MEMBERS} if kind == "ensemble" else {}) for kind in FAMILIES] + OTHERS


def decoder_of(kind, changes, stored=False):
    """stored: with weights that are whole multiples of a scale a row, as they ship."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "layers": 2, "heads": 2, "positions": 40, "prefix_length": 4}
    sizes |= {"embedding_size": 16, "attention_size": 8, "feedforward_size": 32}
    known = {field.name for field in dataclasses.fields(FAMILIES[kind].config)}
    config = SMALL | {name: size for name, size in sizes.items() if name in known} | changes
    decoder = build_decoder(kind, config).eval().requires_grad_(False)
    # Words that differ; layers upon layers of attention make rounding a thousand times as large with that.
    larger = 1 if kind == "attention-on-attention" else 4
    for parameter in decoder.parameters():
        parameter.mul_(larger if parameter.ndim > 1 else 1).add_(0.1 * torch.randn_like(parameter))
        if stored and parameter.ndim == 2:
            parameter.copy_((parameter / cards.scales(parameter)[:, None]).round().clamp(-127, 127))
            parameter.mul_(cards.scales(parameter)[:, None] / 127)
    return decoder


@pytest.fixture(params=[False, True], ids=["fp32", "8-bit"])
def stored(request, monkeypatch):
    """Weights as they ship, multiplied in slices wherever the CPU does so exactly, or any fp32 ones."""
    if request.param and not arithmetic.slices_pay():
        pytest.skip("this CPU does not multiply integers faster than fp32, or not exactly")
    return request.param


@pytest.mark.parametrize(("kind", "changes"), KINDS)
def test_a_packed_decoder_says_what_the_plain_one_says(kind, changes, stored):
    decoder = decoder_of(kind, changes, stored)
    packed = pack(copy.deepcopy(decoder), torch.float32)
    kinds = {type(m) for m in packed.modules() if isinstance(m, linear.Product)}
    assert kinds == {SlicedLinear if stored else linear.PackedLinear}
    left = [m for m in packed.modules() if isinstance(m, nn.RNNCellBase)]
    left += [m for m in packed.modules() if isinstance(m, nn.Linear) and m.out_features > 1]
    assert not left
    features = Features(torch.randn(3, 9, 12), torch.rand(1, 9, 4), (3, 3))
    options = SearchOptions(beam_size=4, max_length=7, num_return=4)
    plain, fast = (beam_search(d, features, bos_id=1, eos_id=2, options=options) for d in (decoder, packed))
    for ours, theirs in zip(fast.hypotheses, plain.hypotheses, strict=True):
        assert [h.token_ids for h in ours] == [h.token_ids for h in theirs]
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one.log_probs, other.log_probs, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(one.alphas, other.alphas, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("images", [3, 120])  # the last in parts
def test_a_packed_layer_is_the_layer_and_has_its_gradient(dtype, bias, images):
    torch.manual_seed(0)
    layer = nn.Linear(24, 40, bias=bias).requires_grad_(False)
    packed = linear.PackedLinear(layer.weight, layer.bias, dtype)
    near = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.03, "rtol": 0.03}
    x = torch.randn(images, 5, 48)[..., ::2]  # many rows of many images, not contiguous
    torch.testing.assert_close(packed(x), layer(x), **near)
    torch.testing.assert_close(packed.weight, layer.weight, **near)
    one, other = (x.clone().requires_grad_() for _ in range(2))
    packed(one).square().sum().backward()
    layer(other).square().sum().backward()
    torch.testing.assert_close(one.grad, other.grad, atol=10 * near["atol"], rtol=10 * near["rtol"])


@pytest.mark.parametrize("inference", [False, True])
def test_one_product_of_several_layers_is_each_of_them_and_has_their_gradient(inference):
    torch.manual_seed(0)
    layers = [nn.Linear(24, size, bias=size > 8).requires_grad_(False) for size in (40, 8, 16)]
    wide = nn.Linear(30, 5).requires_grad_(False)
    whole = CPUPacking(torch.float32)(*map(Matrix.of, layers), Matrix(wide.weight, start=6))
    with torch.inference_mode(inference):
        for x in (torch.randn(3, 24), torch.randn(2, 5, 24)):
            *parts, last = whole(x).split([40, 8, 16, 5], -1)
            for layer, part in zip(layers, parts, strict=True):
                torch.testing.assert_close(part, layer(x))
            torch.testing.assert_close(last, x @ wide.weight[:, 6:].T)
    if not inference:
        x = x.clone().requires_grad_()
        whole(x).sum().backward()
        expected = sum(layer.weight.sum(0) for layer in layers) + wide.weight[:, 6:].sum(0)
        torch.testing.assert_close(x.grad, expected.expand_as(x))


def test_packing_a_decoder_leaves_what_it_is_made_of_out_of_its_class():
    """The plain decoder of the same class goes on computing as it did."""
    decoder, other = decoder_of("soft-attention", {}), decoder_of("soft-attention", {})
    features = Features(torch.randn(2, 9, 12), torch.rand(1, 9, 4), (3, 3))
    words = torch.tensor([1, 1])
    expected = other.step(words, other.start(features))[0]
    packed = pack(decoder, torch.float32)
    assert not packed.training
    torch.testing.assert_close(packed.step(words, packed.start(features))[0], expected)
    assert torch.equal(other.step(words, other.start(features))[0], expected)
    torch.testing.assert_close(packed.gates(packed.start(features)), other.gates(other.start(features)))


def stored_weight(rows, columns):
    scale = torch.rand(rows, 1) + 0.01
    whole = torch.randint(-127, 128, (rows, columns))
    whole[:, 0] = 127
    return whole * scale


@pytest.mark.parametrize("rows", [1, 5, 200, 600])  # the last in parts
@pytest.mark.parametrize("size", [1024, 9000])  # the last one too
@pytest.mark.parametrize("biased", [False, True])
def test_slices_are_as_exact_as_fp32(rows, size, biased):
    if not arithmetic.slices_pay():
        pytest.skip("this CPU does not multiply integers faster than fp32, or not exactly")
    torch.manual_seed(0)
    weight, bias = stored_weight(size, 512), torch.linspace(-3, 3, size) if biased else None
    layer = CPUPacking(torch.float32)(Matrix(weight, bias))
    assert isinstance(layer, SlicedLinear)
    torch.testing.assert_close(layer.weight, weight, atol=0, rtol=1e-6)
    x = torch.randn(rows, 1024)[:, ::2] * torch.logspace(-6, 6, rows)[:, None]  # rows of all sizes
    exact = x.double() @ weight.double().T
    error = (layer(x) - exact - (0 if bias is None else bias)).abs() / exact.abs().amax(1, keepdim=True)
    fp32 = (x @ weight.T - exact).abs() / exact.abs().amax(1, keepdim=True)
    rounding = 0 if bias is None else 3 * 2**-24 / exact.abs().amax(1)  # of the sum with a bias
    assert (error.amax(1) <= 2 * fp32.max() + rounding).all()


@pytest.mark.parametrize("size", [1024, 9000])
def test_two_slices_are_far_finer_than_bfloat16(size):
    if not arithmetic.slices_pay():
        pytest.skip("this CPU does not multiply integers faster than fp32, or not exactly")
    torch.manual_seed(0)
    weight = stored_weight(size, 512)
    layer = CPUPacking(torch.bfloat16)(Matrix(weight))
    assert isinstance(layer, SlicedLinear)
    x = torch.randn(200, 512)
    exact = x @ weight.T
    error, coarse = ((y - exact).norm() for y in (layer(x), (x.bfloat16().float() @ weight.T)))
    assert 0 < error < 0.05 * coarse


def test_slices_of_nothing_and_of_what_is_no_number():
    if not arithmetic.slices_pay():
        pytest.skip("this CPU does not multiply integers faster than fp32, or not exactly")
    torch.manual_seed(0)
    weight = stored_weight(96, 512)
    layer = CPUPacking(torch.float32)(Matrix(weight))
    x = torch.randn(4, 512)
    x[1], x[2, 7] = 0, torch.nan
    y = layer(x)
    assert not y[1].any()
    assert y[2].isnan().all()
    exact = (x[[0, 3]].double() @ weight.double().T).float()
    torch.testing.assert_close(y[[0, 3]], exact, atol=1e-3, rtol=1e-6)  # nobody else notices
    x = torch.randn(2, 3, 512, requires_grad=True)
    layer(x).square().sum().backward()
    expected = 2 * (x @ weight.T) @ weight
    assert (x.grad - expected).abs().max() < 1e-6 * expected.abs().max()


def test_integers_are_found_in_weights_that_are_stored_so():
    torch.manual_seed(0)
    weight = torch.randn(300, 400)
    assert stored_integers(weight) is None
    weight[5] = 0
    packed = cards.pack({"w": weight}, "int8")
    whole, scale = stored_integers(cards.unpack(packed)["w"])
    assert torch.equal(whole, packed["w"])
    rows = torch.arange(300) != 5
    torch.testing.assert_close(scale[rows], packed["w.scale"].float()[rows], atol=0, rtol=1e-6)


def filled_encoder(architecture, layer):
    """With random weights that keep numbers as large as they are."""
    torch.manual_seed(0)
    encoder = build_encoder("grid", {"architecture": architecture, "layer": layer}).eval()
    made = {
        name: torch.randn(t.shape) * (2 / t[0].numel()) ** 0.5 if t.ndim > 1 else torch.zeros(t.shape)
        for name, t in encoder.state_dict().items()
    }
    encoder.load_state_dict(made, assign=True)
    return encoder.requires_grad_(False)


@pytest.mark.parametrize(
    ("architecture", "layer", "size"),
    [
        ("resnet18", "layer3", 64),
        ("squeezenet1_1", "features.6", 64),
        ("mobilenet_v2", "features.10", 64),
        ("efficientnet_lite0", "blocks.3", 63),
        ("efficientnet_lite0", "blocks.4", 64),  # pads more on one side
        ("inception_v3", "Mixed_6b", 107),  # pads by name, and convolutions of 1 x 7
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_packed_cnn_sees_what_the_plain_one_sees(architecture, layer, size, dtype):
    encoder = filled_encoder(architecture, layer)
    photos = torch.randn(2, 3, size, size)
    packed = packed_cnn.packed_encoder(encoder, dtype)
    assert isinstance(packed, GridEncoder)
    assert packed is not encoder
    assert any(isinstance(module, packed_cnn.PackedConv2d) for module in packed.modules())
    assert not any(isinstance(module, packed_cnn.PackedConv2d) for module in encoder.modules())
    assert not any(isinstance(module, nn.Conv2d) for module in packed.modules())
    layers = [packed.cnn.layers.get_submodule(str(node.target))
              for node in packed.cnn.layers.graph.nodes if node.op == "call_module"]  # fmt: skip
    assert not any(isinstance(layer, SamePad2d) for layer in layers)
    behind = {str(node.target) for node in packed.cnn.layers.graph.nodes if node.op == "call_function"}
    assert not any(name in told for told in behind for name in ("add", "relu"))  # convolutions do these
    with torch.inference_mode():
        seen, expected = packed(photos).values, encoder(photos).values
    assert seen.dtype == torch.float32
    error = (seen - expected).norm() / expected.norm()
    assert error < ERRORS[dtype]


@pytest.mark.parametrize("dtype", HALVES)
def test_the_bias_of_a_packed_convolution_is_not_rounded_away(dtype):
    layer = nn.Conv2d(1, 1, 1).requires_grad_(False)
    layer.weight.fill_(1)
    layer.bias.fill_(300.625)
    one = packed_cnn.PackedConv2d(layer, dtype)(torch.full((1, 1, 4, 4), -300.0))
    exact = 0.625 if dtype == torch.bfloat16 else 0.5  # of float16's eleven bits
    torch.testing.assert_close(one.float(), torch.full((1, 1, 4, 4), exact))


def test_an_encoder_that_cannot_be_packed_stays_as_it_is(monkeypatch):
    encoder = build_encoder("grid", {"architecture": "resnet18", "layer": "layer1"}).eval()
    monkeypatch.setattr(packed_cnn, "padding_of", None)  # calling it is a TypeError
    assert packed_cnn.packed_encoder(encoder, torch.float32) is encoder


def test_a_cnn_whose_packed_layers_fail_is_run_as_it_is(monkeypatch):
    torch.manual_seed(0)
    encoder = (
        build_encoder("grid", {"architecture": "resnet18", "layer": "layer1"}).eval().requires_grad_(False)
    )
    fast, photos = packed_cnn.PackedEncoder(encoder, torch.float32), torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = encoder(photos).values
        torch.testing.assert_close(fast(photos).values, expected, atol=1e-4, rtol=1e-4)
        assert fast.packed is not encoder
        monkeypatch.delattr(packed_cnn.PackedConv2d, "forward")
        assert torch.equal(fast(photos).values, expected)
        assert fast.packed is encoder
        with pytest.raises(RuntimeError, match="channels"):
            packed_cnn.PackedEncoder(encoder, torch.float32)(torch.zeros(1, 2, 64, 64))


def test_precisions(monkeypatch):
    monkeypatch.setattr(arithmetic, "remembered", lambda name, measure: measure())
    monkeypatch.setattr(arithmetic, "knows", lambda dtype: True)
    assert arithmetic.choose("bfloat16") == arithmetic.Arithmetic(torch.bfloat16, torch.bfloat16)
    for half in (torch.float16, torch.bfloat16):
        monkeypatch.setattr(arithmetic, "half", lambda half=half: half)
        monkeypatch.setattr(arithmetic, "_gains", lambda half: [2.0, 1.1, 1.5])
        assert arithmetic.choose("auto") == arithmetic.Arithmetic(half, torch.float32)
        assert arithmetic.choose("float32") == arithmetic.Arithmetic(torch.float32, torch.float32)
        assert arithmetic.choose("half") == arithmetic.Arithmetic(half, half)
        monkeypatch.setattr(arithmetic, "_gains", lambda half: [1.7, 1.5, 1.5])  # packed gains as much
        assert arithmetic.choose("auto") == arithmetic.Arithmetic(torch.float32, torch.float32)
        monkeypatch.setattr(arithmetic, "_gains", lambda half: [1.2, 0.9, 0.9])
        for pay in (True, False):
            monkeypatch.setattr(arithmetic, "slices_pay", lambda pay=pay: pay)
            assert arithmetic.choose("auto") == arithmetic.Arithmetic(None, torch.float32 if pay else None)
    monkeypatch.setattr(arithmetic, "knows", lambda dtype: False)
    monkeypatch.setattr(arithmetic, "half", lambda: None)
    for precision in ("float16", "bfloat16", "half"):
        with pytest.raises(
            CaptionBotError, match=f"multiply in {precision} precision; choose auto or float32"
        ):
            arithmetic.choose(precision)


def encodes_in(captioner):
    return getattr(captioner._encode, "dtype", torch.float32)


@needs_bfloat16
def test_who_chooses_the_precision(monkeypatch, tmp_path):
    path = build_tiny_captioner(tmp_path)
    monkeypatch.delenv(arithmetic.VARIABLE, raising=False)
    captioner = Captioner.from_pretrained(path, "cpu")  # this card says nothing
    assert encodes_in(captioner) == torch.float32
    dataclasses.replace(captioner.card, precision="bfloat16").write(path)
    captioner = Captioner.from_pretrained(path, "cpu")
    assert encodes_in(captioner) == torch.bfloat16
    monkeypatch.setenv(arithmetic.VARIABLE, "float32")  # the environment overrules the card
    captioner = Captioner.from_pretrained(path, "cpu")
    assert encodes_in(captioner) == torch.float32
    captioner = Captioner.from_pretrained(path, "cpu", "bfloat16")  # and the caller both
    assert encodes_in(captioner) == torch.bfloat16
    monkeypatch.setenv(arithmetic.VARIABLE, "quarter")
    monkeypatch.setattr("captionbot.captioner._device", torch.device)
    for device in ("cpu", "meta"):
        with pytest.raises(CaptionBotError, match="'quarter' is not a precision; choose one of auto"):
            Captioner.from_pretrained(path, device)


def test_int8_of_old_cards_is_read_as_auto_and_refused_where_it_is_asked_for(monkeypatch, tmp_path):
    path = build_tiny_captioner(tmp_path)
    values = json.loads(path.read_text()) | {"precision": "int8", "largest": {"relu": 3.5}}  # of version 0.1
    path.write_text(json.dumps(values))
    monkeypatch.delenv(arithmetic.VARIABLE, raising=False)
    asked = []
    choose = arithmetic.choose
    monkeypatch.setattr(arithmetic, "choose", lambda precision: asked.append(precision) or choose(precision))
    Captioner.from_pretrained(path, "cpu")
    assert asked == ["auto"]
    with pytest.raises(CaptionBotError, match=r"no longer encoded in int8.*; choose half"):
        Captioner.from_pretrained(path, "cpu", "int8")


def test_what_the_cpu_cannot_is_no_matter_to_other_devices(monkeypatch, tmp_path):
    path = build_tiny_captioner(tmp_path)
    monkeypatch.setattr(arithmetic, "half", lambda: None)
    with pytest.raises(CaptionBotError, match="does not multiply in half precision"):
        Captioner.from_pretrained(path, "cpu", "half")
    monkeypatch.setattr("captionbot.captioner._device", torch.device)
    captioner = Captioner.from_pretrained(path, "meta", "half")
    assert captioner._encode is captioner.encoder


def test_what_was_measured_is_kept_between_starts(monkeypatch, tmp_path):
    monkeypatch.setenv("CAPTIONBOT_CACHE", str(tmp_path / "cache"))
    asked = []

    def measure():
        asked.append(1)
        return [1.5, 0.0]

    def told(name="gains"):
        return remembered(name, measure), len(asked)

    assert told() == ([1.5, 0.0], 1)
    assert told() == ([1.5, 0.0], 1)
    assert told("others") == ([1.5, 0.0], 2)
    assert told() == ([1.5, 0.0], 2)
    file = tmp_path / "cache" / FILE
    monkeypatch.setattr(torch, "__version__", "9.9")
    assert told() == ([1.5, 0.0], 3)
    kept = json.loads(file.read_text())
    assert len(kept) == 3
    for damaged in ("{", "[]", json.dumps(dict.fromkeys(kept, "fast"))):
        file.write_text(damaged)
        assert told() == ([1.5, 0.0], len(asked))
    assert len(asked) == 6
    file.unlink()
    file.mkdir()  # no file can be written there
    assert told() == ([1.5, 0.0], 7)
    assert told() == ([1.5, 0.0], 8)


@needs_bfloat16
def test_what_is_too_large_for_float16_is_computed_in_float32(tmp_path):
    encoder = Captioner.from_pretrained(build_tiny_captioner(tmp_path), "cpu", "float32").encoder
    half = packed_cnn.PackedEncoder(encoder, torch.bfloat16)
    pixels = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = encoder(pixels).values
        near = half(pixels).values
        assert not torch.equal(near, expected)
        torch.testing.assert_close(near, expected, atol=0.1, rtol=0.1)
        packed = half.packed
        half.packed = lambda pixels: dataclasses.replace(packed(pixels), values=expected / 0)
        assert torch.equal(half(pixels).values, expected)


def test_each_core_works_by_itself():
    before = torch.get_num_threads()
    torch.set_num_threads(3)

    def told(n):
        return n, torch.get_num_threads(), torch.is_inference_mode_enabled()

    try:
        with torch.inference_mode():
            found = side_by_side(told, range(7))
        assert found == [(n, found[0][1], True) for n in range(7)]
        assert found[0][1] in (1, 3)  # 3 where torch has no OpenMP that can be told
        assert side_by_side(lambda n: torch.is_grad_enabled(), range(2)) == [True, True]
        assert torch.get_num_threads() == 3
        with pytest.raises(ZeroDivisionError):
            side_by_side(lambda n: 1 / n, [2, 0])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("photos", [1, 2, 4, 5, 9, 16])
def test_a_cnn_sees_a_few_photos_at_a_time(photos, threads):
    before, seen = torch.get_num_threads(), []

    def cnn(some):
        seen.append(len(some))
        return some.sum((2, 3))

    x = torch.randn(photos, 3, 4, 5)
    torch.set_num_threads(threads)
    try:
        assert torch.equal(packed_cnn.in_pieces(cnn, x), x.sum((2, 3)))
    finally:
        torch.set_num_threads(before)
    assert sum(seen) == photos
    assert max(seen) <= 4
    assert max(seen) - min(seen) <= 1
    assert len(seen) >= min(threads, photos)


@pytest.mark.parametrize("photos", [1, 9])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_packed_vit_sees_what_the_plain_one_sees(monkeypatch, dtype, photos):
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=64,
        image_size=40,
        patch_size=8,
    )
    vit = ViTModel(config, add_pooling_layer=False)
    for name, weight in vit.named_parameters():
        if weight.ndim == 2 and ("query" in name or "key" in name):
            weight.data.mul_(20)  # so that places do not look everywhere alike
    plain = HubEncoder(
        HubEncoderConfig("vit"), {"vit": vit}, lambda parts, seen: parts["vit"](seen)[0]
    ).eval()
    scales = []

    def noted(query, key, value, dtype, scale):
        scales.append(scale)
        return attention(query, key, value, dtype, scale)

    attention = packed_hub.attention
    monkeypatch.setattr(packed_hub, "attention", noted)
    with torch.no_grad():
        packed = packed_hub.packed_hub_encoder(copy.deepcopy(plain), dtype)
        pixels = torch.randn(photos, 3, 40, 40)
        expected, found = plain(pixels), packed(pixels)
    off = (found.values - expected.values).norm() / expected.values.norm()
    assert off < {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.5e-2}[dtype]
    assert found.values.dtype == found.beside.dtype == torch.float32
    assert set(scales) == (set() if dtype == torch.float32 else {0.25})  # of heads of 16 numbers


@pytest.mark.parametrize("dtype", HALVES)
def test_attention_in_half_precision_is_pytorchs_but_for_rounding(dtype):
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 19, 3, 5, 8).permute(2, 0, 3, 1, 4).requires_grad_()
    mask = torch.rand(2, 5, 19, 19) > 0.5
    attend = nn.functional.scaled_dot_product_attention

    def found(**options):
        with packed_hub._InHalf(dtype):
            return attend(query, key, value, **options)

    close = {"atol": 0.03, "rtol": 0}
    torch.testing.assert_close(found(), attend(query, key, value), **close)
    torch.testing.assert_close(found(scale=0.7), attend(query, key, value, scale=0.7), **close)
    ours, theirs = (
        torch.autograd.grad(of().sum(), query)[0] for of in (found, lambda: attend(query, key, value))
    )
    torch.testing.assert_close(ours, theirs, **close)
    assert not found().equal(attend(query, key, value))
    for special in ({"attn_mask": mask}, {"is_causal": True}):  # which it leaves to PyTorch
        assert found(**special).equal(attend(query, key, value, **special))


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_photo_and_many_have_layouts_of_their_own(tmp_path, dtype):
    encoder = Captioner.from_pretrained(build_tiny_captioner(tmp_path), "cpu", "float32").encoder
    packed, threads = packed_cnn.PackedEncoder(encoder, dtype), torch.get_num_threads()
    photos = torch.randn(9, 3, 64, 64)
    near = {"atol": 1e-4, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.05, "rtol": 0.05}
    with torch.inference_mode():
        expected = encoder(photos).values
        torch.testing.assert_close(packed(photos).values, expected, **near)
        try:
            for n in (1, 2):
                torch.set_num_threads(n)
                alone = torch.cat([packed(photo[None]).values for photo in photos])
                torch.testing.assert_close(alone, expected, **near)
        finally:
            torch.set_num_threads(threads)
    layers = [m for m in packed.packed.modules() if isinstance(m, packed_cnn.PackedConv2d)]
    assert layers
    assert all(sorted(threads for threads, _ in layer.packed) == [0, 2] for layer in layers)


@needs_bfloat16
def test_captioners_of_all_precisions_caption(tmp_path):
    card = build_tiny_captioner(tmp_path)
    torch.manual_seed(0)
    pixels = torch.randn(2, 3, 64, 64)
    exact, fast = (Captioner.from_pretrained(card, "cpu", p) for p in ("float32", "bfloat16"))
    expected, seen = (captioner.encode_pixels(pixels).values for captioner in (exact, fast))
    torch.testing.assert_close(fast.encoder(pixels).values, expected)  # what gradients are taken of
    assert 0 < (seen - expected).norm() / expected.norm() < 0.05
    for captioner, features in ((exact, exact.encode_pixels(pixels)), (fast, fast.encode_pixels(pixels))):
        assert all(captioner.search(features, captioner.options()).hypotheses)


@pytest.mark.parametrize("bits", [7, 8])
def test_a_cnn_in_integers_is_nearly_what_it_is(monkeypatch, bits):
    if bits == 8 and not integers._has_vnni():
        pytest.skip("this CPU has no VNNI")
    monkeypatch.setattr(integers, "_has_vnni", lambda: bits == 8)
    if integers._engine() not in torch.backends.quantized.supported_engines:
        pytest.skip(f"torch has no {integers._engine()} here")
    encoder, engine = filled_encoder("inception_v3", "Mixed_6b"), torch.backends.quantized.engine
    photos = torch.rand(3, 3, 107, 107)
    with torch.inference_mode():
        cnn = IntegerCNN(encoder.cnn)
        expected, found = encoder.cnn(photos), cnn(photos, cnn.scales(photos[:2])[0])
    assert found.dtype == torch.float32
    assert (found >= 0).all()
    error = (found - expected).norm() / expected.norm()
    assert 0 < error < (0.1 if bits == 7 else 0.07)
    assert torch.backends.quantized.engine == engine  # which is the whole process's
    for architecture, layer in (("mobilenet_v2", "features.3"), ("resnet18", "layer1")):
        with pytest.raises(packed_cnn.UNFIT):
            IntegerCNN(filled_encoder(architecture, layer).cnn)


def test_copies_are_encoded_in_integers_for_auto_where_these_are_much_faster(monkeypatch):
    integers = "times as fast in integers as in "
    kept = {"times as fast in None": [0.0, 0.1, 1.5], f"{integers}None": [1.8]}
    monkeypatch.setattr(arithmetic, "half", lambda: None)
    monkeypatch.setattr(arithmetic, "slices_pay", lambda: False)
    monkeypatch.setattr(arithmetic, "remembered", lambda name, measure: kept[name])
    assert arithmetic.copies_in_integers("auto")
    assert not arithmetic.copies_in_integers("float32")
    kept[f"{integers}None"] = [1.1]
    assert not arithmetic.copies_in_integers("auto")
    kept |= {"times as fast in torch.bfloat16": [3.0, 1.0, 1.5], f"{integers}torch.bfloat16": [1.1]}
    monkeypatch.setattr(arithmetic, "half", lambda: torch.bfloat16)
    assert not arithmetic.copies_in_integers("auto")
    kept[f"{integers}torch.bfloat16"] = [1.6]
    assert arithmetic.copies_in_integers("auto")
