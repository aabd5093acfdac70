"""Our Inception-v3 computes what torchvision's does, with the same names."""

import pytest
import torch
import torchvision

from captionbot.encoders import inception
from captionbot.encoders.grid import GridConfig, GridEncoder

LAYERS = ("Conv2d_4a_3x3", "Mixed_5d", "Mixed_6a", "Mixed_6e", "Mixed_7a", "Mixed_7b", "Mixed_7c")


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    torch.manual_seed(0)
    cnn = torchvision.models.inception_v3(
        weights=None, aux_logits=False, transform_input=False, init_weights=False
    )
    for name, buffer in cnn.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    return cnn.eval()


def _maps(cnn: torch.nn.Module, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    hooks = [
        cnn.get_submodule(name).register_forward_hook(lambda _, __, y, name=name: found.update({name: y}))
        for name in LAYERS
    ]
    with torch.inference_mode():
        cnn(pixels)
    for hook in hooks:
        hook.remove()
    return found


def test_every_layer_is_torchvisions(theirs: torch.nn.Module) -> None:
    ours = inception.InceptionV3().eval()
    lost, extra = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert (lost, extra) == ([], ["fc.weight", "fc.bias"])
    pixels = torch.randn(2, 3, 107, 139)
    expected, found = _maps(theirs, pixels), _maps(ours, pixels)
    assert found.keys() == expected.keys() == set(LAYERS)
    for name in LAYERS:
        assert torch.equal(found[name], expected[name]), name


def test_layers_behind_the_last_map_are_torchvisions(theirs: torch.nn.Module) -> None:
    assert inception.has("Mixed_6b.branch7x7_1")
    assert not inception.has("avgpool")
    encoder = GridEncoder(GridConfig("inception_v3", "avgpool"), theirs.state_dict()).eval()
    pixels = torch.randn(1, 3, 299, 299)
    with torch.inference_mode():
        expected = theirs.avgpool(_maps(theirs, pixels)["Mixed_7c"]).flatten(1)
        torch.testing.assert_close(encoder(pixels).values[:, 0], expected, rtol=1e-3, atol=1e-4)
