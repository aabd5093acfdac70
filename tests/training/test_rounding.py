"""8-bit weights chosen for photos, against each rounded by itself."""

import copy

import pytest
import torch
from tiny import build_tiny_captioner
from torch import nn
from torch.nn import functional as F
from torchvision.transforms.functional import to_pil_image

from captionbot.encoders import build_encoder
from captionbot.store import card as cards
from training.compress.export import main as export
from training.compress.rounding import round_cnn, rounded


def pictures(count, seed):
    """Smooth random pictures, (1, 3, 64, 64) each: neighbouring pixels are alike, as in photos."""
    generator = torch.Generator().manual_seed(seed)
    return [
        F.interpolate(torch.randn(1, 3, 8, 8, generator=generator), 64, mode="bicubic") for _ in range(count)
    ]


@pytest.fixture(scope="module")
def cnn():
    torch.manual_seed(0)
    encoder = build_encoder("grid", {"architecture": "resnet18", "layer": "layer2"}).eval()
    return encoder.requires_grad_(False).cnn


def stored(cnn):
    """The CNN as it is after it was stored and read again."""
    cnn = copy.deepcopy(cnn)
    cnn.load_state_dict(cards.unpack(cards.pack(cnn.state_dict(), "int8-all")))
    return cnn


def test_a_rounded_cnn_is_stored_as_it_is_and_sees_better_than_one_rounded_weight_by_weight(cnn):
    chosen = copy.deepcopy(cnn)
    round_cnn(chosen, pictures(12, seed=1), "int8-all")
    large = [
        n for n, m in chosen.named_modules() if isinstance(m, nn.Conv2d) and m.weight.numel() >= cards.FEW
    ]
    assert large
    again = stored(chosen)
    for name in large:
        torch.testing.assert_close(again.get_submodule(name).weight, chosen.get_submodule(name).weight)
    with torch.inference_mode():
        photos = torch.cat(pictures(12, seed=2))  # others
        before, plain, ours = (one(photos) for one in (cnn, stored(cnn), again))
    assert (ours - before).norm() < 0.7 * (plain - before).norm()


def test_captioners_that_share_a_cnn_share_the_rounded_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cards, "FEW", 2**10)
    card = build_tiny_captioner(tmp_path / "tiny", cnn=("squeezenet1_1", "features.6", 256))
    (tmp_path / "photos").mkdir()
    for i, picture in enumerate(pictures(2, seed=3)):
        to_pil_image(picture[0].clamp(0, 1)).save(tmp_path / "photos" / f"{i}.png")
    arguments = [str(card), "--out", str(tmp_path), "--storage", "int8-all", "--shared", "cnn.safetensors"]
    found = {}
    for name, more in (("one", ["--photos", str(tmp_path / "photos")]), ("two", [])):
        assert export([*arguments, "--name", name, *more]) == 0, capsys.readouterr().err
        found[name] = cards.load(tmp_path / f"{name}.json")
    (one, encoder, _), (two, twin, _) = found["one"], found["two"]
    assert one.shared == two.shared
    changed = False
    for ours, theirs, before in zip(
        encoder.parameters(), twin.parameters(), cards.load(card)[1].parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)
        plain = cards.unpack(cards.pack({"w": before}, "int8-all"))["w"]
        changed = changed or not torch.equal(ours, plain)
    assert changed


def test_without_storage_in_8_bits_nothing_is_rounded(cnn):
    same = copy.deepcopy(cnn)
    round_cnn(same, pictures(1, seed=1), "float16")
    for name, tensor in cnn.state_dict().items():
        assert torch.equal(same.state_dict()[name], tensor), name


def test_inputs_that_are_always_alike_are_rounded_together():
    torch.manual_seed(0)
    weight = torch.randn(16, 64, 1, 1)
    x = torch.randn(500, 8).repeat_interleave(8, 1)  # eight numbers, each eight times
    ours = rounded(weight, x.T @ x)
    rows, scale = weight.flatten(1), cards.scales(weight).float()
    plain = (rows / scale).round() * scale
    error, by_itself = (((w.flatten(1) - rows) @ x.T).norm() for w in (ours, plain))
    assert error < 0.5 * by_itself
