import dataclasses

import pytest
import torch
import torchvision

from captionbot.encoders.concat import ConcatConfig, ConcatEncoder
from captionbot.encoders.grid import GridConfig, GridEncoder, grid_boxes
from captionbot.errors import CaptionBotError


@pytest.mark.parametrize(
    ("architecture", "layer", "size", "grid", "channels"),
    [
        ("resnet50", "layer3", 224, (14, 14), 1024),  # the canonical configuration
        ("mobilenet_v2", "features.18", 256, (8, 8), 1280),
        ("inception_v3", "Mixed_7a", 299, (8, 8), 1280),
        ("vgg16", "features.29", 64, (4, 4), 512),
    ],
)
def test_any_cnn_by_name_and_layer(architecture, layer, size, grid, channels):
    encoder = GridEncoder(GridConfig(architecture, layer)).eval()
    with torch.inference_mode():
        features = encoder(torch.randn(1, 3, size, size))
    assert features.grid == grid
    assert features.values.shape == (1, grid[0] * grid[1], channels)


@pytest.mark.parametrize("architecture", ["regnet_y_400mf", "resnet18"])  # the first not by itself
def test_a_cnn_can_be_made_without_numbers(architecture):
    layer = {"regnet_y_400mf": "trunk_output.block2"}.get(architecture, "layer2")
    filled = GridEncoder(GridConfig(architecture, layer)).eval()
    with torch.device("meta"):
        encoder = GridEncoder(GridConfig(architecture, layer)).eval()
    assert all(tensor.is_meta for tensor in encoder.state_dict().values())
    encoder.load_state_dict(filled.state_dict(), assign=True)
    photo = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(encoder(photo).values, filled(photo).values)


def test_the_grid_can_be_averaged_to_another():
    encoder = GridEncoder(GridConfig("mobilenet_v2", "features.10", grid=(3, 5))).eval()
    assert encoder(torch.randn(2, 3, 64, 96)).grid == (3, 5)


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18"])
def test_folded_batch_norms_change_nothing(name):
    torch.manual_seed(0)
    cnn = torchvision.models.get_model(name, weights=None)
    for module in cnn.modules():  # statistics as after training, else folding would be the identity
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    layer, cut = ("features.18", cnn.features) if name == "mobilenet_v2" else ("layer4", None)
    encoder = GridEncoder(GridConfig(name, layer), cnn.state_dict()).eval()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in encoder.modules())
    pixels = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        cnn.eval()
        expected = cut(pixels) if cut else torch.nn.Sequential(*list(cnn.children())[:-2])(pixels)
        torch.testing.assert_close(
            encoder(pixels).values, expected.flatten(2).transpose(1, 2), rtol=1e-3, atol=1e-4
        )


def test_places_are_in_reading_order_like_their_boxes():
    boxes = grid_boxes(2, 3)[0]
    assert boxes[0].tolist() == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert boxes[2].tolist() == pytest.approx([2 / 3, 0, 1, 1 / 2])
    assert boxes[3].tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1])


def test_a_mirrored_photo_has_mirrored_features_if_both_are_averaged():
    torch.manual_seed(0)
    pixels = torch.randn(1, 3, 64, 96)
    plain, both = (
        GridEncoder(GridConfig("mobilenet_v2", "features.4", mirror=m)).eval() for m in (False, True)
    )
    both.load_state_dict(plain.state_dict())

    def grid(encoder, pixels):
        features = encoder(pixels)
        return features.values.unflatten(1, features.grid)

    with torch.inference_mode():
        mirrored = grid(both, pixels.flip(-1))
        torch.testing.assert_close(grid(both, pixels), mirrored.flip(2))
        assert (grid(plain, pixels) - grid(plain, pixels.flip(-1)).flip(2)).abs().max() > 1e-3
        mean = (grid(plain, pixels) + grid(plain, pixels.flip(-1)).flip(2)) / 2
        torch.testing.assert_close(grid(both, pixels), mean)
        torch.testing.assert_close(grid(both.train(), pixels), grid(plain.train(), pixels))


def test_a_bright_corner_is_seen_in_that_corners_cell():
    torch.manual_seed(0)
    encoder = GridEncoder(GridConfig("mobilenet_v2", "features.3")).eval()
    pixels = torch.zeros(1, 3, 64, 64)
    dark = encoder(pixels).values
    pixels[..., :8, 56:] = 1  # top right
    change = (encoder(pixels).values - dark).abs().sum(-1).view(16, 16)
    row, column = divmod(int(change.argmax()), 16)
    assert row < 4
    assert column >= 12


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (GridConfig("resnet5000", "layer3"), "'resnet5000' is not a CNN of torchvision"),
        (GridConfig("resnet18", "layer9"), "has no layer 'layer9'; choose one of conv1"),
    ],
)
def test_unknown_names_are_answered_with_what_there_is(config, sentence):
    with pytest.raises(CaptionBotError, match=sentence):
        GridEncoder(config)


def test_weights_may_lack_what_lies_behind_the_cut_and_nothing_else():
    weights = torchvision.models.resnet18().state_dict()
    behind = {k: v for k, v in weights.items() if not k.startswith(("layer3", "layer4", "fc"))}
    GridEncoder(GridConfig("resnet18", "layer2"), behind)
    with pytest.raises(CaptionBotError, match="The weights lack"):
        GridEncoder(GridConfig("resnet18", "layer3"), behind)


def test_every_parameter_can_be_fine_tuned():
    encoder = GridEncoder(GridConfig("mobilenet_v2", "features.4"))
    encoder(torch.randn(2, 3, 32, 32)).values.square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


@pytest.mark.parametrize(
    ("architecture", "layer"), [("squeezenet1_1", "features.2"), ("vgg11", "features.20")]
)
def test_a_photo_size_that_a_cnn_shrinks_to_nothing_is_one_sentence(architecture, layer):
    encoder = GridEncoder(GridConfig(architecture, layer))
    with pytest.raises(CaptionBotError, match=f"Photos of 2 x 1 pixels are too small for {architecture}"):
        encoder(torch.zeros(1, 3, 1, 2))
    with pytest.raises(RuntimeError, match="channels"):  # another mistake keeps its own words
        encoder(torch.zeros(1, 4, 32, 32))


@pytest.mark.parametrize("size", [(64, 64), (75, 91)])  # "same" padding depends on the photo's size
@pytest.mark.parametrize("ours", [("tf_efficientnet_lite0", "bn2"), ("efficientnet_lite0", "act2")])
def test_efficientnet_lite_gives_what_timm_gives(size, ours):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    cnn = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    for module in cnn.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    weights = {name: tensor.clone() for name, tensor in cnn.state_dict().items()}
    encoder = GridEncoder(GridConfig(*ours), weights).eval()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in encoder.modules())
    pixels = torch.randn(2, 3, *size)
    with torch.inference_mode():
        expected = cnn.forward_features(pixels).flatten(2).transpose(1, 2)
        torch.testing.assert_close(encoder(pixels).values, expected, rtol=1e-3, atol=1e-4)


def test_a_name_that_no_library_has_is_refused():
    with pytest.raises(CaptionBotError, match="is not a CNN of torchvision or timm"):
        GridEncoder(GridConfig("no_such_cnn"))


TWO_CNNS = ConcatConfig(("mobilenet_v2", "efficientnet_lite0"), ("features.18", "act2"), (64, 96))


def test_two_cnns_see_one_photo_each_at_its_size():
    config = dataclasses.replace(TWO_CNNS, sizes=(96, 64))
    encoder = ConcatEncoder(dataclasses.replace(config, layers=("features.13", "blocks.4"))).eval()
    with torch.inference_mode():
        pixels = torch.randn(2, 3, 96, 96)
        with pytest.raises(CaptionBotError, match="6 x 6, 4 x 4"):
            encoder(pixels)


def test_cells_have_the_channels_of_both_cnns():
    torch.manual_seed(0)
    encoder = ConcatEncoder(dataclasses.replace(TWO_CNNS, sizes=(64, 64))).eval()
    with torch.inference_mode():
        pixels = torch.randn(2, 3, 64, 64)
        features, (one, other) = encoder(pixels), [grid(pixels).values for grid in encoder.grids]
    assert features.grid == (2, 2)
    torch.testing.assert_close(features.values, torch.cat([one, other], -1))


def test_cnns_need_a_layer_and_a_size_each():
    with pytest.raises(CaptionBotError, match="2 architectures, 1 layers and 2 sizes"):
        ConcatEncoder(dataclasses.replace(TWO_CNNS, layers=("bn2",)))
