"""A CNN in 8-bit integers against the same one in fp32."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import build_tiny_captioner

from captionbot import CaptionBotError, Captioner
from captionbot.backends.cpu import cnn as packed_cnn
from captionbot.backends.cpu.int8 import Int8Conv2d, int8_cnn, largest_values
from captionbot.encoders import build_encoder
from training.compress.export import main as export

# Inception and SqueezeNet concatenate and pool; ResNet adds, which is not for 8 bits and stays in fp32.
LAYERS = {"inception_v3": "Mixed_5b", "resnet18": "layer2", "squeezenet1_1": "features.6"}
SIZE = 96


@pytest.fixture(params=LAYERS)
def encoder(request):
    torch.manual_seed(0)
    config = {"architecture": request.param, "layer": LAYERS[request.param]}
    return build_encoder("grid", config).eval().requires_grad_(False)


@torch.inference_mode()
def test_a_cnn_in_8_bits_sees_nearly_what_it_sees_in_fp32(encoder):
    photos = torch.rand(6, 3, SIZE, SIZE) * 2 - 1
    largest = largest_values(encoder.cnn, photos.split(2))
    assert largest["x"] == pytest.approx(photos.abs().max().item())
    packed = packed_cnn.packed_encoder(encoder, torch.float32, photos[:1], 2, largest)
    parts = [module for module in packed.modules() if isinstance(module, Int8Conv2d)]
    assert len(parts) >= 2
    assert packed.training == encoder.training
    for batch in photos.split(2):
        seen, expected = packed(batch).values, encoder(batch).values
        assert seen.dtype == torch.float32
        assert (seen - expected).norm() < 0.15 * expected.norm()
        alone = torch.cat([packed(photo[None]).values for photo in batch])
        assert (seen - alone).norm() < 0.01 * seen.norm()  # scales are no matter of the batch


@torch.inference_mode()
def test_what_is_concatenated_and_pooled_stays_in_8_bits():
    encoder = build_encoder("grid", {"architecture": "inception_v3", "layer": "Mixed_5b"}).eval()
    photo = torch.rand(1, 3, SIZE, SIZE)
    sizes = packed_cnn._input_sizes(encoder, photo, 1)
    small = int8_cnn(encoder.cnn, largest_values(encoder.cnn, [photo]), sizes)
    kinds = [type(module).__name__ for module in small.children()]
    convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in encoder.cnn.modules())
    assert kinds.count("Int8Conv2d") == convolutions
    assert (kinds.count("Rounded"), kinds.count("Real")) == (1, 1)  # of the pixels, and of the result


def test_a_captioner_says_when_it_cannot_encode_in_8_bits_and_export_lets_it(tmp_path, capsys):
    card = build_tiny_captioner(tmp_path / "tiny", cnn=("squeezenet1_1", "features.6", 256))
    with pytest.raises(CaptionBotError, match=r"cannot encode in int8: .* --photos"):
        Captioner.from_pretrained(card, "cpu", "int8")
    photos = tmp_path / "photos"
    photos.mkdir()
    random = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(random.integers(0, 255, (70, 90, 3), dtype=np.uint8)).save(photos / f"{i}.png")
    arguments = [str(card), "--name", "small", "--out", str(tmp_path / "out"), "--photos", str(photos)]
    assert export([*arguments, "--precision", "int8"]) == 0, capsys.readouterr().err
    captioner = Captioner.from_pretrained(tmp_path / "out" / "small.json", "cpu")
    picture = Image.open(photos / "0.png")
    (found,) = captioner.caption([picture])
    assert found.captions[0].text
    (packed,) = captioner._encode.packed.values()
    assert any(isinstance(module, Int8Conv2d) for module in packed.modules())
    assert len(captioner.card.largest) == 1 + sum(isinstance(m, Int8Conv2d) for m in packed.modules())
