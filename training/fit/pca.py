"""Fit the PCA of an encoder: `python -m training.pca --encoder vgg16:classifier.4 --out FILE.safetensors`.

The file holds the CNN, the mean and the components: give it to training as `--encoder-weights`, and the
captioner that comes of it carries all of them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor
from tqdm import tqdm

from captionbot.cli.commands import Parser, command
from captionbot.encoders import ConcatEncoder, GridConfig, GridEncoder, PCAConfig, PCAEncoder
from captionbot.errors import CaptionBotError
from captionbot.images.load import Preprocessing
from captionbot.store import card as cards
from captionbot.store.registry import find_card
from training.run.checkpoints import check_outputs, written
from training.run.config import TrainingConfig
from training.run.distributed import device_of
from training.run.features import BATCH, autocast, cached_pixels, normalise
from training.run.splits import photos_of, read_splits


@command
def main(arguments: list[str] | None = None) -> int:
    defaults = TrainingConfig()
    parser = Parser("python -m training.pca", description="Fit the PCA of an encoder.")
    parser.add_argument(
        "--encoder",
        required=True,
        help="captioner (name, folder or card) whose encoder to take, or ARCHITECTURE:LAYER with the weights "
        "of torchvision, which are downloaded",
    )
    parser.add_argument("--components", type=int, default=512)
    parser.add_argument("--out", type=Path, required=True, help="safetensors to write")
    parser.add_argument("--data", default=defaults.data, help="data set, whose training photos are used")
    parser.add_argument("--images", default=defaults.images, help="its photos, where they lie apart")
    parser.add_argument("--limit", type=int, default=0, help="use only the first so many photos")
    parser.add_argument("--cache", default=defaults.cache, help="folder for decoded photos")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args(arguments)
    config = dataclasses.replace(
        defaults, data=given.data, images=given.images, limit=given.limit, cache=given.cache
    )
    check_outputs([given.out], [])
    grid, preprocessing = _grid_encoder(given.encoder)
    train, _ = read_splits(config)
    pixels, _ = cached_pixels(photos_of(config), train.names, preprocessing, Path(config.cache))
    device = device_of(given.device)
    encoder, explained = fit(grid.to(device), pixels, preprocessing, given.components, device)
    with written("The PCA", given.out.parent, "run the command again"):
        cards.save_part(given.out, encoder, "float32")
    print(f"{given.components} components explain {explained:.2%} of the variance of {len(pixels)} photos.")
    print(f"For training/configs:\n{_yaml(encoder.config, preprocessing, given.out)}", end="")
    return 0


def fit(
    grid: GridEncoder | ConcatEncoder,
    pixels: np.ndarray,
    preprocessing: Preprocessing,
    components: int,
    device: torch.device,
) -> tuple[PCAEncoder, float]:
    """The encoder on the CPU and the share of the variance that it keeps, by scikit-learn's IncrementalPCA.

    pixels: (n, H, W, 3) uint8, read in batches of at least as many photos as components.
    """
    from sklearn.decomposition import IncrementalPCA

    if not 0 < components <= len(pixels):
        raise CaptionBotError(
            f"A PCA to {components} components needs a batch of at least as many photos, and there are "
            f"{len(pixels)}; give more photos, or fewer --components."
        )
    pca = IncrementalPCA(components)
    for batch in np.array_split(np.arange(len(pixels)), len(pixels) // components):
        pooled = [
            _pooled(grid, normalise(pixels[batch[i : i + BATCH]], preprocessing, device))
            for i in tqdm(range(0, len(batch), BATCH), "features", unit="batch", mininterval=1)
        ]
        width = pooled[0].shape[1]
        if components > width:
            raise CaptionBotError(f"{_named(grid)} has {width} channels; give at most so many --components.")
        pca.partial_fit(torch.cat(pooled).cpu().numpy())
    config = PCAConfig(feature_size=width, components=components, **_cnn(grid))
    encoder = PCAEncoder(config)
    encoder.grid.load_state_dict(grid.state_dict())
    encoder.mean.copy_(torch.from_numpy(pca.mean_))
    encoder.components.copy_(torch.from_numpy(pca.components_))
    return encoder.eval(), float(pca.explained_variance_ratio_.sum())


def _cnn(grid: GridEncoder | ConcatEncoder) -> dict[str, Any]:
    """What a configuration says of a CNN, or of several."""
    if isinstance(grid, ConcatEncoder):
        return {"cnns": dataclasses.asdict(grid.config)}
    return {name: getattr(grid.config, name) for name in ("architecture", "layer", "mirror")}


def _named(grid: GridEncoder | ConcatEncoder) -> str:
    if isinstance(grid, ConcatEncoder):
        return " and ".join(grid.config.architectures)
    return f"{grid.config.layer} of {grid.config.architecture}"


@torch.inference_mode()
def _pooled(grid: GridEncoder | ConcatEncoder, pixel_values: Tensor) -> Tensor:
    with autocast(pixel_values.device, TrainingConfig.amp):  # as training reads them
        return grid(pixel_values).values.float().mean(1)


def _grid_encoder(name: str) -> tuple[GridEncoder | ConcatEncoder, Preprocessing]:
    """The encoder of a captioner, or torchvision's CNN with the preprocessing of its weights."""
    architecture, colon, layer = name.partition(":")
    if not colon:
        card, encoder, _ = cards.load(find_card(name))
        if not isinstance(encoder, GridEncoder | ConcatEncoder):
            raise CaptionBotError(
                f"The encoder of {name} is of the kind {card.encoder['kind']}, where a PCA needs a grid; "
                "give another captioner, or ARCHITECTURE:LAYER."
            )
        return encoder, Preprocessing.from_json(card.preprocessing)
    from torchvision.models import get_model_weights

    try:
        weights: Any = get_model_weights(architecture).DEFAULT  # type: ignore[attr-defined]
        state_dict = weights.get_state_dict(check_hash=True)
    except ValueError:
        raise CaptionBotError(
            f"torchvision has no weights of '{architecture}'; give a CNN of torchvision.models.list_models() "
            "and a layer, for example vgg16:classifier.4."
        ) from None
    except OSError as error:
        raise CaptionBotError(
            f"torchvision's weights of {architecture} cannot be downloaded ({error}); try again online."
        ) from None
    transforms = weights.transforms()
    (size,) = transforms.crop_size
    preprocessing = Preprocessing((size, size), tuple(transforms.mean), tuple(transforms.std))
    return GridEncoder(GridConfig(architecture, layer), state_dict).eval(), preprocessing


def _yaml(config: PCAConfig, preprocessing: Preprocessing, out: Path) -> str:
    fields = {
        "encoder": "pca",
        "encoder_config": dataclasses.asdict(config),
        "encoder_weights": str(out),
        "image_size": preprocessing.size[0],
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
    }
    return yaml.safe_dump(fields, sort_keys=False, default_flow_style=None)
