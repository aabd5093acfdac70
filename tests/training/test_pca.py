"""The PCA encoder against scikit-learn, and the command that fits it."""

import json
from pathlib import PurePosixPath

import numpy as np
import pytest
import torch
import torchvision
import yaml
from PIL import Image
from safetensors.torch import load_file
from sklearn.decomposition import PCA, IncrementalPCA
from tiny import build_tiny_captioner

from captionbot import Captioner, load_image
from captionbot.encoders import GridConfig, GridEncoder, PCAConfig, PCAEncoder, build_encoder
from captionbot.images.load import Preprocessing
from training.fit.pca import fit, main
from training.run.train import main as train

HALF = Preprocessing((64, 64), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CPU = torch.device("cpu")


def grid_encoder():
    torch.manual_seed(0)
    return GridEncoder(GridConfig("mobilenet_v2", "features.4")).eval()


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (50, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def data(pixels, tmp_path_factory):
    """Photos in the form of Flickr8k, 40 for training and 10 for validation."""
    folder = tmp_path_factory.mktemp("data")
    images = []
    for i, photo in enumerate(pixels):
        Image.fromarray(photo).save(folder / f"{i:02}.png")
        split = "train" if i < 40 else "val"
        sentences = [{"raw": f"a photo of number {i}"}] * 5
        images.append({"filename": f"{i:02}.png", "split": split, "sentences": sentences})
    (folder / "dataset_flickr8k.json").write_text(json.dumps({"images": images}))
    return folder


def normal(pixels):
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.inference_mode()
def test_the_transform_is_scikit_learns(pixels, monkeypatch):
    monkeypatch.setattr("training.run.features.computes_bf16", lambda device: False)
    grid = grid_encoder()
    encoder, explained = fit(grid, pixels, HALF, 8, CPU)
    pooled = grid(normal(pixels)).values.mean(1).numpy()
    reference = IncrementalPCA(8)
    for batch in np.array_split(pooled, 6):  # 50 photos in the most batches of at least 8
        reference.partial_fit(batch)
    features = encoder(normal(pixels))
    np.testing.assert_allclose(features.values[:, 0], reference.transform(pooled), atol=1e-5)
    assert explained == pytest.approx(reference.explained_variance_ratio_.sum(), abs=1e-5)
    assert features.grid == (1, 1)
    assert features.boxes.tolist() == [[[0, 0, 1, 1]]]


@torch.inference_mode()
def test_all_components_lose_nothing(pixels, monkeypatch):
    monkeypatch.setattr("training.run.features.computes_bf16", lambda device: False)
    grid = grid_encoder()
    encoder, explained = fit(grid, pixels, HALF, 32, CPU)  # all channels of the layer
    pooled = grid(normal(pixels)).values.mean(1)
    back = encoder(normal(pixels)).values[:, 0] @ encoder.components + encoder.mean
    torch.testing.assert_close(back, pooled, rtol=1e-4, atol=1e-5)
    assert explained == pytest.approx(1, abs=1e-4)
    whole = PCA(32).fit(pooled.numpy())  # all photos at once
    np.testing.assert_allclose(whole.mean_, encoder.mean, atol=1e-5)


@torch.inference_mode()
def test_vgg16s_fc7_is_behind_its_relu():
    torch.manual_seed(0)
    with torch.device("meta"):
        cnn = torchvision.models.vgg16()
        encoder = PCAEncoder(PCAConfig())
    values = {name: torch.empty(tensor.shape).normal_(std=0.03) for name, tensor in cnn.state_dict().items()}
    cnn.load_state_dict(values, assign=True)
    own = {f"grid.cnn.{name}": tensor for name, tensor in values.items() if "classifier.6" not in name}
    own |= {"mean": torch.randn(4096), "components": torch.randn(512, 4096) / 64}
    encoder.load_state_dict(own, assign=True)
    pixel_values = torch.randn(1, 3, 64, 64)
    fc7 = cnn.eval().classifier[:5](cnn.avgpool(cnn.features(pixel_values)).flatten(1))
    assert fc7.min() == 0
    expected = (fc7 - own["mean"]) @ own["components"].T
    found = encoder.eval()(pixel_values).values[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_a_mirrored_photo_gives_the_same_where_both_are_averaged(pixels):
    torch.manual_seed(0)
    config = {"architecture": "mobilenet_v2", "layer": "features.4", "feature_size": 32, "components": 5}
    encoder = build_encoder("pca", {**config, "mirror": True}).eval()
    values = normal(pixels[:2])
    torch.testing.assert_close(encoder(values).values, encoder(values.flip(-1)).values)


def test_the_command_fits_what_a_captioner_then_carries(data, tmp_path, capsys):
    card = build_tiny_captioner(tmp_path / "tiny")
    out = tmp_path / "pca.safetensors"
    flags = ["--data", str(data), "--cache", str(tmp_path / "cache"), "--device", "cpu"]
    assert main(["--encoder", str(card), "--components", "12", "--out", str(out), *flags]) == 0
    first, _, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("12 components explain ")
    assert first.endswith("of the variance of 40 photos.")
    config = tmp_path / "run.yaml"
    decoder = "decoder: scratch-recurrent\ndecoder_config: {embedding_size: 8, hidden_size: 8}\n"
    config.write_text(
        "\n".join(lines) + f"\n{decoder}epochs: 1\nsample_photos: 0\nflips: false\nmin_count: 1\n"
    )
    assert train(["--config", str(config), "--out", str(tmp_path / "run"), *flags]) == 0
    captioner = Captioner.from_pretrained(tmp_path / "run", device="cpu")
    fitted = load_file(out)
    assert fitted["components"].shape == (12, 64)
    torch.testing.assert_close(captioner.encoder.components, fitted["components"])
    (captioned,) = captioner.caption(load_image(data / "45.png"))
    assert captioned.captions[0].boxes.tolist() == [[0, 0, 64, 64]]


def test_torchvisions_weights_come_with_their_preprocessing(data, tmp_path, monkeypatch, capsys):
    """As they lie in torchvision's cache, where a download puts them."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    cnn = torchvision.models.squeezenet1_1()
    name = PurePosixPath(torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url).name
    torch.save(cnn.state_dict(), folder / name)
    out = tmp_path / "pca.safetensors"
    flags = ["--data", str(data), "--cache", str(tmp_path / "cache"), "--device", "cpu"]
    assert (
        main(["--encoder", "squeezenet1_1:features.4", "--components", "12", "--out", str(out), *flags]) == 0
    )
    written = yaml.safe_load(capsys.readouterr().out.split("configs:\n")[1])
    assert written["image_size"] == 224
    assert written["mean"] == [0.485, 0.456, 0.406]
    encoder = build_encoder("pca", written["encoder_config"], load_file(out))
    torch.testing.assert_close(encoder.grid.cnn.get_parameter("features.0.weight"), cnn.features[0].weight)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--components", "41"], "needs a batch of at least as many photos, and there are 40"),
        (["--components", "0"], "needs a batch of at least as many photos"),
        (["--components", "33", "--encoder", "NARROW"], "has 32 channels; give at most so many"),
        (["--encoder", "vgg17:classifier.4"], "torchvision has no weights of 'vgg17'"),
        (["--encoder", "nobody"], "There is no captioner 'nobody'"),
    ],
)
def test_mistakes_are_one_sentence(flags, sentence, data, tmp_path, capsys):
    path = build_tiny_captioner(tmp_path / "tiny", cnn=("mobilenet_v2", "features.4", 32))
    flags = [str(path) if flag == "NARROW" else flag for flag in flags]
    common = ["--encoder", str(path), "--data", str(data), "--cache", str(tmp_path / "cache")]
    assert main([*common, "--device", "cpu", "--out", str(tmp_path / "out.safetensors"), *flags]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert sentence in error
    assert not (tmp_path / "out.safetensors").exists()
