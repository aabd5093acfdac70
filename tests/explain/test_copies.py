"""Hidden copies of a photo: what is picked and what is kept is what the encoder would see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from captionbot import Captioner
from captionbot.decoders import build_decoder
from captionbot.encoders import ConcatConfig, ConcatEncoder, GridConfig, GridEncoder
from captionbot.explain import copies as module
from captionbot.explain.copies import Copies, painted
from captionbot.explain.needs import design
from captionbot.store.card import Card
from captionbot.types import Features

CELLS = (8, 8)
SIDE = 128
HIDDEN = torch.from_numpy(np.concatenate([np.zeros((1, 64), bool), design().hidden[:40]]))


def captioner_of(encoder: nn.Module) -> Captioner:
    preprocessing = {"size": (SIDE, SIDE), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    card = Card("copies", "test", {}, {}, preprocessing, ("<pad>", "<bos>", "<eos>", "<unk>", "dog"), {})
    decoder = build_decoder("soft-attention", {"vocabulary_size": 5, "feature_size": 8, "hidden_size": 8})
    return Captioner(card, encoder.eval().requires_grad_(False), decoder, torch.device("cpu"))


@pytest.fixture(scope="module")
def two_cnns() -> Captioner:
    """A CNN that is given the photo, and one that is given it smaller."""
    torch.manual_seed(0)
    config = ConcatConfig(("resnet18", "efficientnet_lite0"), ("layer4", "act2"), (SIDE, 112))
    return captioner_of(ConcatEncoder(config))


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def filling(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.mean((2, 3), keepdim=True).expand_as(pixels)


def values(found: Copies, captioner: Captioner, *asked: torch.Tensor) -> torch.Tensor:
    return torch.cat([features.values for features in found.features(captioner, *asked)])


def shown_to(captioner: Captioner) -> list[int]:
    """How many photos the last layer of each CNN is given from now on."""
    counts = [0] * len(captioner.encoder.grids)

    def count(which: int, given: int) -> None:
        counts[which] += given

    for which, grid in enumerate(captioner.encoder.grids):
        *_, last = (part for part in grid.cnn.modules() if isinstance(part, nn.Conv2d))
        last.register_forward_hook(lambda layer, given, out, which=which: count(which, len(out)))
    return counts


def test_first_layers_see_16_copies_and_nothing_is_seen_twice(
    two_cnns: Captioner, pixels: torch.Tensor, filling: torch.Tensor
) -> None:
    alone = two_cnns.encode_pixels(painted(pixels, filling, HIDDEN, CELLS)).values
    counts, first = shown_to(two_cnns), []
    two_cnns.encoder.grids[0].cnn.conv1.register_forward_hook(
        lambda layer, given, out: first.append(len(out))
    )
    found = Copies(CELLS)
    seen = values(found, two_cnns, pixels, filling, HIDDEN)
    torch.testing.assert_close(seen, alone, rtol=1e-4, atol=1e-4 * float(alone.abs().max()))
    assert [known.whole for known in found._known.values()] == [False, False]
    assert sum(first) == 16 + 1  # and one to be sure
    assert counts == [41, 41]
    again = captioner_of(two_cnns.encoder)  # another captioner with the same CNNs
    assert torch.equal(values(found, again, pixels, filling, HIDDEN[5:]), seen[5:])
    assert torch.equal(values(found, two_cnns, pixels, filling, HIDDEN[:1]), seen[:1])
    assert counts == [41, 41]
    other = values(found, two_cnns, pixels.flip(-1), filling.flip(-1), HIDDEN[:20])
    assert not torch.allclose(other, seen[:20])
    assert counts == [61, 61]


@pytest.mark.skipif(
    "fbgemm" not in torch.backends.quantized.supported_engines, reason="torch has no fbgemm here"
)
def test_copies_in_integers_are_nearly_the_same_and_the_whole_photo_is_itself(
    pixels: torch.Tensor, filling: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    encoder = GridEncoder(GridConfig("inception_v3", "Mixed_6b"))
    made = {
        name: torch.randn(t.shape) * (2 / t[0].numel()) ** 0.5 for name, t in encoder.state_dict().items()
    }
    encoder.load_state_dict(made, assign=True)
    captioner = captioner_of(encoder)
    exact = values(Copies(CELLS), captioner, pixels, filling, HIDDEN)
    monkeypatch.setattr(module, "copies_in_integers", lambda precision: True)
    seen = values(Copies(CELLS), captioner, pixels, filling, HIDDEN)
    torch.testing.assert_close(seen[0], exact[0], rtol=1e-4, atol=1e-4 * float(exact.abs().max()))
    errors = (seen - exact).norm(dim=(1, 2)) / exact.norm(dim=(1, 2))
    learned = Copies.learns_from  # copies that scales came from, which stay as exact as the photo itself
    assert errors[:learned].max() < 1e-4
    assert 0.001 < errors[learned:].min() < errors.max() < 0.1


class Cropped(nn.Module):
    """An encoder that looks at the left half of a photo, and at boxes that differ from photo to photo."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = GridEncoder(GridConfig("resnet18", "layer2"))

    def forward(self, pixels: torch.Tensor) -> Features:
        cells = self.grid(pixels[..., : SIDE // 2]).values
        bright = pixels.mean((1, 2, 3))
        boxes = torch.rand(len(pixels), cells.shape[1], 4)
        labels = tuple(str(round(float(b), 4)) for b in bright)
        mask = (bright[:, None] > 0).expand(-1, cells.shape[1])
        return Features(cells * bright[:, None, None], boxes, None, mask, labels)


def test_an_encoder_of_another_kind_is_believed_not_guessed(
    pixels: torch.Tensor, filling: torch.Tensor
) -> None:
    captioner, found = captioner_of(Cropped()), Copies(CELLS)
    alone = captioner.encode_pixels(painted(pixels, filling, HIDDEN[:5], CELLS))
    (seen,) = found.features(captioner, pixels, filling, HIDDEN[:5])
    torch.testing.assert_close(seen.values, alone.values)
    assert seen.labels == alone.labels
    assert torch.equal(seen.mask, alone.mask)
    assert len(seen.boxes) == 5
    assert [known.whole for known in found._known.values()] == [True]


def test_what_is_kept_has_an_end(
    two_cnns: Captioner, pixels: torch.Tensor, filling: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_COPIES", 6)
    found = Copies(CELLS)
    for shift in range(3):
        part = values(found, two_cnns, pixels + shift, filling, HIDDEN[:8])
        alone = two_cnns.encode_pixels(painted(pixels + shift, filling, HIDDEN[:8], CELLS)).values
        torch.testing.assert_close(part, alone, rtol=1e-4, atol=1e-4 * float(alone.abs().max()))
    assert len(found._known) == module._MOST_CNNS
    assert {len(known.seen) for known in found._known.values()} == {6}


@pytest.mark.parametrize(
    ("architecture", "layer"),
    [
        ("resnet18", "layer4"),
        ("efficientnet_lite0", "act2"),
        ("inception_v3", "Mixed_5b"),
    ],
)
def test_layers_are_parted_where_gradients_reach_no_third_cell(
    architecture: str, layer: str, pixels: torch.Tensor
) -> None:
    torch.manual_seed(0)
    cnn = GridEncoder(GridConfig(architecture, layer)).eval().requires_grad_(False).cnn
    parted = module._part(cnn, (SIDE, SIDE), (SIDE, SIDE), CELLS)
    assert parted is not None
    photo = pixels.clone().requires_grad_()
    first = parted.first(photo)
    with torch.no_grad():
        torch.testing.assert_close(parted.rest(first.detach()), cnn(pixels))
    height, width = first.shape[-2:]
    most = 0
    for y, x in ((0, 0), (height // 2, width // 3), (height // 3, width - 1), (height - 2, width // 2 + 1)):
        (gradient,) = torch.autograd.grad(first[0, :, y, x].sum(), photo, retain_graph=True)
        for axis, touched in (((0, 1, 3), parted.rows[:, y]), ((0, 1, 2), parted.columns[:, x])):
            seen = {int(at) * 8 // SIDE for at in gradient.abs().sum(axis).nonzero()}
            assert seen <= set(touched.tolist())
            most = max(most, len(seen))
    assert most == 2
