import dataclasses
import json

import pytest
import torch
from tiny import DETECTOR, build_tiny_captioner, built

from captionbot import CaptionBotError
from captionbot.store import card as cards
from captionbot.store.tensors import BLOCK, scale_shapes
from captionbot.text.vocabulary import SPECIAL_TOKENS


@pytest.fixture
def tiny(tmp_path):
    return build_tiny_captioner(tmp_path)


def tensors(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_what_is_saved_is_what_is_loaded(tiny, tmp_path):
    card, encoder, decoder = cards.load(tiny)
    again, encoder_2, decoder_2 = cards.load(cards.save(tmp_path / "copy", card, encoder, decoder))
    assert again == card
    for one, other in ((encoder, encoder_2), (decoder, decoder_2)):
        for name, tensor in tensors(one).items():
            torch.testing.assert_close(tensor, other.state_dict()[name], rtol=0, atol=0)


def test_the_tied_embedding_is_stored_once_and_tied_again(tiny):
    card, encoder, decoder = cards.load(tiny)
    assert decoder.output_word.weight is decoder.embedding.weight
    own = sum(p.numel() for m in (encoder, decoder) for p in m.parameters())
    assert card.parameters == own


@pytest.mark.parametrize(("storage", "tolerance", "share"), [("float16", 1e-3, 0.55), ("int8", 6e-3, 0.55)])
def test_compact_storage_keeps_the_weights(tiny, tmp_path, storage, tolerance, share):
    card, encoder, decoder = cards.load(tiny)
    path = cards.save(tmp_path / storage, card, encoder, decoder, storage)
    compact, _, loaded = cards.load(path)
    assert compact.size_bytes < share * card.size_bytes
    for name, tensor in decoder.state_dict().items():
        scale = tensor.abs().max()
        assert (loaded.state_dict()[name] - tensor).abs().max() <= tolerance * scale


def of_many_sizes(rows, rest):
    """(rows, *rest) random numbers, each row and every stretch of it of another size."""
    sizes = torch.logspace(-3, 1, rows).unsqueeze(1) * torch.linspace(0.1, 9, rest.numel()).exp2()
    return (torch.randn(rows, rest.numel()) * sizes).view(rows, *rest)


def test_int8_rounds_to_half_a_step_of_its_row_or_block():
    torch.manual_seed(0)
    matrix, convolution = torch.Size((300, 330)), torch.Size((128, 64, 3, 3))
    for shape, storage, size in ((matrix, "int8", 330), (convolution, "int8-all", BLOCK)):
        weight = of_many_sizes(shape[0], shape[1:])
        packed = cards.pack({"w": weight}, storage)
        assert packed["w"].dtype == torch.int8
        assert list(packed["w.scale"].shape) in scale_shapes(shape)
        errors = (cards.unpack(packed)["w"] - weight).flatten(1).abs().split(size, 1)
        for error, block in zip(errors, weight.flatten(1).split(size, 1), strict=True):
            assert (error <= block.abs().amax(1, keepdim=True) / 127 / 2 * 1.002 + 1e-7).all()
    assert cards.pack({"w": weight}, "int8")["w"].dtype == torch.float16  # a convolution


def test_int8_leaves_small_matrices_and_vectors_in_half_precision():
    packed = cards.pack({"w": torch.randn(255, 256), "b": torch.randn(2**17)}, "int8-all")
    assert {name: tensor.dtype for name, tensor in packed.items()} == dict.fromkeys("wb", torch.float16)


@pytest.mark.parametrize("blocks", [None, 5])
def test_files_with_scales_of_rows_or_of_blocks_are_read(blocks):
    """Whatever the tensor: matrices had one a block until they got one a row."""
    whole = torch.randint(-127, 128, (4, 300)).to(torch.int8)
    scale = torch.rand((4,) if blocks is None else (4, blocks))
    weight = cards.unpack({"w": whole, "w.scale": scale})["w"]
    each = scale.unsqueeze(1) if blocks is None else scale.repeat_interleave(BLOCK, 1)[:, :300]
    torch.testing.assert_close(weight, whole * each, rtol=0, atol=0)
    assert list(scale.shape) in scale_shapes(whole.shape)


def test_an_unknown_storage_is_refused(tiny, tmp_path):
    with pytest.raises(CaptionBotError, match="'int4' is no way to store weights"):
        cards.save(tmp_path / "x", *cards.load(tiny), storage="int4")


def test_a_changed_weights_file_is_noticed(tiny):
    weights = tiny.with_suffix(".safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CaptionBotError, match="not the file that its card describes"):
        cards.load(tiny)


@pytest.mark.parametrize("content", ["", "[]", "not json", '{"name": "x"}'])
def test_a_file_that_is_no_card(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(CaptionBotError, match="is not the card of a captioner"):
        cards.load(path)


def test_weights_that_do_not_fit_their_card(tiny):
    values = json.loads(tiny.read_text())
    values["decoder"]["hidden_size"] = 8
    tiny.write_text(json.dumps(values))
    with pytest.raises(CaptionBotError, match=r"cannot be loaded \(.*size mismatch for"):
        cards.load(tiny)


@pytest.mark.parametrize(
    ("part", "value", "sentence"),
    [
        ("preprocessing", {}, "missing"),
        ("preprocessing", {"size": [0, 0]}, "size must be"),
        ("preprocessing", {"size": "x"}, "size must be"),
        ("preprocessing", {"size": [64.5, 64]}, "size must be"),
        ("preprocessing", {"std": [0.2, 0, 0.2]}, "three numbers"),
        ("preprocessing", {"mean": ["a", "b", "c"]}, "number"),
        ("preprocessing", {"interpolation": "z"}, "interpolation must be"),
        ("search", {"foo": 1}, "foo"),
        ("search", {"beam_size": 0}, "beam_size is 0"),
        ("vocabulary", list(SPECIAL_TOKENS), "has 4 words, its decoder"),
        ("vocabulary", "abc", "starts with <pad>"),
        ("vocabulary", {"kind": "gpt3", "source": "x"}, "a kind of gpt2"),
        ("shared", {"file": "../../etc/passwd", "sha256": "", "part": ""}, "must lie beside it"),
        ("decoder", {"kind": "soft-attention"}, "vocabulary_size"),
    ],
)
def test_a_damaged_card_is_named(tiny, part, value, sentence):
    values = json.loads(tiny.read_text())
    if part == "preprocessing" and value:
        value = values[part] | value
    tiny.write_text(json.dumps(values | {part: value}))
    with pytest.raises(CaptionBotError, match=rf"{tiny.name} is a damaged card \(.*{sentence}.*\): put"):
        cards.load(tiny)


@pytest.mark.parametrize(
    ("part", "value", "sentence"),
    [
        ("name", 5, "is not the card .*its name is 5; give text"),
        ("scores", [1], "is not the card .*its scores is"),
        ("search", [1], "is not the card .*its search is"),
        ("vocabulary", [*SPECIAL_TOKENS, 5], "is not the card .*its vocabulary is"),
        ("parameters", -1, "is not the card .*its parameters is -1; give 0 or more"),
        ("parameters", "5", "is not the card .*its parameters is 5; give a number"),
        ("parameters", 5.0, "is not the card .*its parameters is 5.0; give a whole number"),
        ("default", 1, "is not the card .*its default is 1; give true or false"),
        ("evidence", {"rank": "big"}, "is not the card .*its evidence's rank is big; give a number"),
        ("encoder", {"architecture": 5}, "cannot be loaded"),
        ("encoder", {"grid": "wide"}, "cannot be loaded .*its grid is wide; give a list of 2"),
        ("decoder", {"embedding_size": 0}, "cannot be loaded"),
        ("decoder", {"dropout": "much"}, "cannot be loaded .*its dropout is much; give a number"),
        ("decoder", {"dropout": -0.5}, "cannot be loaded .*its dropout is -0.5"),
        ("decoder", {"dropout": 1.5}, "cannot be loaded .*its dropout is 1.5"),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_values_of_another_type_are_named(tiny, part, value, sentence):
    values = json.loads(tiny.read_text())
    tiny.write_text(json.dumps(values | {part: values[part] | value if isinstance(value, dict) else value}))
    with pytest.raises(CaptionBotError, match=sentence):
        cards.load(tiny)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(tiny, tmp_path, number):
    card, encoder, decoder = cards.load(tiny)
    decoder.gate.bias.data[3] = number
    with pytest.raises(CaptionBotError, match=r"cannot be loaded \(decoder\.gate\.bias is not finite"):
        cards.load(cards.save(tmp_path / "diverged", card, encoder, decoder))


@pytest.mark.parametrize(
    ("encoder", "decoder", "sentence"),
    [
        ({"layer": "features.13"}, {}, "its encoder gives 96 numbers a place, its decoder takes 64"),
        (
            {"kind": "pca", "feature_size": 64, "components": 8},
            {},
            "its encoder gives 8 numbers a place, its decoder takes 64",
        ),
        (
            {"kind": "pca", "feature_size": 65, "components": 64},
            {},
            "cannot be loaded .*65",
        ),
        (
            {},
            {
                "kind": "gpt2-prefix", "image_tokens": "places", "prefix_length": 15, "hidden_size": 8,
                "layers": 1, "heads": 2,
            },
            "The encoder gives 16 places, and the decoder has 15 image tokens",
        ),
        (
            {
                "kind": "regions", "detector": "mobiledetv2_110d", "detector_options": DETECTOR,
                "geometry": True,
            },
            {},
            "its encoder gives 69 numbers a place, its decoder takes 64",
        ),
    ],
)  # fmt: skip
def test_an_encoder_and_a_decoder_that_do_not_fit_are_refused_before_the_first_photo(
    tiny, tmp_path, encoder, decoder, sentence
):
    """Each part with weights of its own size, so that nothing else is wrong with the captioner."""
    card = cards.Card.load(tiny)
    if "kind" in decoder:
        decoder = {k: card.decoder[k] for k in ("vocabulary_size", "feature_size")} | decoder
    else:
        decoder = card.decoder
    odd = dataclasses.replace(card, encoder=card.encoder | encoder, decoder=decoder)
    path = cards.save(tmp_path / "odd", odd, *built(odd.encoder, odd.decoder))
    with pytest.raises(CaptionBotError, match=sentence):
        cards.load(path)


def test_missing_weights(tiny):
    tiny.with_suffix(".safetensors").unlink()
    with pytest.raises(CaptionBotError, match="cannot be read"):
        cards.load(tiny)


def test_cards_are_plain_json(tiny):
    values = json.loads(tiny.read_text())
    assert values.keys() == {f.name for f in dataclasses.fields(cards.Card)}
    assert values["sha256"]
    assert values["size_bytes"] == tiny.with_suffix(".safetensors").stat().st_size


def shared_pair(tiny, folder, storage):
    """Two captioners on one file of the encoder's weights."""
    card, encoder, decoder = cards.load(tiny)
    cards.save_part(folder / "cnn.safetensors", encoder, storage)
    return [
        cards.save(folder, dataclasses.replace(card, name=name), encoder, decoder, storage, "cnn.safetensors")
        for name in ("one", "two")
    ]


@pytest.mark.parametrize("storage", cards.STORAGES)
def test_captioners_share_the_weights_of_an_encoder(tiny, tmp_path, storage):
    whole, encoder, decoder = cards.load(cards.save(tmp_path / "whole", *cards.load(tiny), storage=storage))
    for path in shared_pair(tiny, tmp_path / "shared", storage):
        card, shared_encoder, shared_decoder = cards.load(path)
        assert card.parameters == whole.parameters
        assert card.size_bytes < whole.size_bytes / 2
        for one, other in ((encoder, shared_encoder), (decoder, shared_decoder)):
            for name, tensor in tensors(one).items():
                torch.testing.assert_close(tensor, other.state_dict()[name], rtol=0, atol=0)


def test_another_encoder_is_not_taken_for_the_shared_one(tiny, tmp_path):
    card, encoder, decoder = cards.load(tiny)
    cards.save_part(tmp_path / "cnn.safetensors", encoder, "float16")
    for parameter in encoder.parameters():
        parameter.add_(1.0)
    with pytest.raises(CaptionBotError, match=r"does not have the weights of cnn\.safetensors"):
        cards.save(tmp_path, card, encoder, decoder, shared="cnn.safetensors")


def test_a_changed_shared_file_is_noticed(tiny, tmp_path):
    path, _ = shared_pair(tiny, tmp_path / "shared", "float16")
    shared = path.with_name("cnn.safetensors")
    shared.write_bytes(shared.read_bytes()[:-1] + b"\xff")
    with pytest.raises(CaptionBotError, match=r"cnn\.safetensors is not the file that its card describes"):
        cards.load(path)
