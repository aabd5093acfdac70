"""Grid features: the cells of a CNN's last feature map, each a place that attention can look at.

Any CNN of torchvision or timm by name and layer (arXiv 1502.03044, section 3.1.1: features of a lower
convolutional layer keep the correspondence to portions of the image).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from captionbot.encoders import efficientnet_lite, inception, timm_cnns
from captionbot.encoders.base import Encoder, EncoderKind
from captionbot.errors import CaptionBotError, shortened
from captionbot.types import Features

_BUILD_OPTIONS: dict[str, dict[str, bool]] = {
    "inception_v3": {"aux_logits": False, "transform_input": False, "init_weights": False},
    "googlenet": {"aux_logits": False, "transform_input": False, "init_weights": False},
}
_TOO_SMALL = ("too small", "Kernel size can't be greater")  # what torch says of maps that shrank to nothing


@dataclass(frozen=True)
class GridConfig:
    """Which CNN and which of its layers. `resnet50` to `layer3` at 224 px, 14 x 14 x 1024, is the classic.

    grid: rows and columns to average the layer's cells to; None keeps them as they come.
    mirror: outside training, each cell is the mean of what it shows in the photo and in the mirrored
        photo: better features for twice the work.
    """

    architecture: str = "resnet50"
    layer: str = "layer3"
    grid: tuple[int, int] | None = None
    mirror: bool = False


class GridEncoder(Encoder):
    """A CNN of torchvision or timm cut after one layer, its batch norms folded into the convolutions.

    Folding makes it faster, and takes away the running statistics that move during training even
    when every parameter is frozen (the reason why captioners of this family drifted).
    """

    def __init__(self, config: GridConfig, state_dict: dict[str, Tensor] | None = None) -> None:
        """state_dict: weights by the library's own names, to start training from; None: random ones."""
        super().__init__(config)
        self.cnn = fold_batch_norm(_cut(config, state_dict))
        self.pool = nn.Identity() if config.grid is None else nn.AdaptiveAvgPool2d(config.grid)

    def forward(self, pixel_values: Tensor) -> Features:
        """(B, 3, H, W) normalised pixels -> B images of P = rows * columns places in reading order."""
        grid = self._grid(pixel_values)
        if self.config.mirror and not self.training:
            grid = (grid + self._grid(pixel_values.flip(-1)).flip(-1)) / 2
        rows, columns = grid.shape[-2:]
        boxes = grid_boxes(rows, columns).to(grid.device)
        return Features(grid.flatten(2).transpose(1, 2), boxes, (rows, columns))

    def _grid(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, rows, columns), 1 x 1 behind a layer that sees the image as a whole."""
        try:
            cells = self.cnn(pixel_values.contiguous(memory_format=torch.channels_last))
        except RuntimeError as error:
            if not any(said in str(error) for said in _TOO_SMALL):
                raise
            height, width = pixel_values.shape[-2:]
            raise CaptionBotError(
                f"Photos of {width} x {height} pixels are too small for {self.config.architecture} to "
                f"{self.config.layer}; give the captioner a larger photo size, as 224."
            ) from None
        if cells.ndim not in (2, 4):
            raise CaptionBotError(
                f"{self.config.layer} of {self.config.architecture} gives no grid of places (its output is "
                f"{tuple(cells.shape)}); choose a layer of a CNN."
            )
        if cells.is_meta or not torch.is_autocast_enabled(cells.device.type):
            cells = cells.float()  # of a CNN that computes in bf16 by itself
        pooled: Tensor = self.pool(cells if cells.ndim == 4 else cells[..., None, None])
        return pooled


def maps_of(cnn: fx.GraphModule, layers: Sequence[str]) -> fx.GraphModule:
    """A graph of the same layers that gives the maps of some of them, in their order."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    graph.graph_copy(cnn.graph, copies)
    graph.output(tuple(copies[_last_inside(cnn, layer)] for layer in layers))
    module = fx.GraphModule(cnn, graph)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _last_inside(cnn: fx.GraphModule, layer: str) -> fx.Node:
    inside = [node for node in cnn.graph.nodes if layer in node.meta.get("nn_module_stack", {})]
    if not inside:
        raise CaptionBotError(
            f"The CNN has no layer '{shortened(layer)}'; choose one of those that are used."
        )
    last: fx.Node = inside[-1]
    return last


def with_cnns(module: nn.Module, made: Callable[[GridEncoder], nn.Module]) -> nn.Module:
    """The module itself where there is no CNN in it, else a copy that shares all other parts with it.

    made: gives what stands in the place of a grid encoder's CNN. They are asked for in the order of
        `module.modules()`.
    """
    if not any(isinstance(part, GridEncoder) for part in module.modules()):
        return module
    twin = copy.copy(module)
    if isinstance(module, GridEncoder):
        twin._modules = dict(module._modules) | {"cnn": made(module)}
    else:
        twin._modules = {name: child and with_cnns(child, made) for name, child in module._modules.items()}
    return twin


def grid_boxes(rows: int, columns: int) -> Tensor:
    """(1, rows * columns, 4) boxes of a grid's cells in reading order, as fractions of the image."""
    top, left = torch.meshgrid(torch.arange(rows) / rows, torch.arange(columns) / columns, indexing="ij")
    return torch.stack([left, top, left + 1 / columns, top + 1 / rows], -1).view(1, rows * columns, 4)


def _cut(config: GridConfig, state_dict: dict[str, Tensor] | None) -> fx.GraphModule:
    """The CNN without the layers behind the chosen one: a graph from pixels to feature map, whose code
    `fold_batch_norm` makes."""
    cnn, trace = _cnn(config.architecture, config.layer)
    lost = [] if state_dict is None else _load(cnn, state_dict)
    module = trace(cnn.eval())
    inside = [node for node in module.graph.nodes if config.layer in node.meta.get("nn_module_stack", {})]
    if not inside:
        layers = ", ".join(name for name, _ in cnn.named_children())
        raise CaptionBotError(
            f"{config.architecture} has no layer '{shortened(config.layer)}'; "
            f"choose one of {layers}, or a layer inside one."
        )
    (output,) = (node for node in module.graph.nodes if node.op == "output")
    output.args = (inside[-1],)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    if needed := [name for name in lost if name in module.state_dict()]:
        raise CaptionBotError(
            f"The weights lack {len(needed)} tensors that {config.architecture} needs up to {config.layer} "
            f"({needed[0]} first); give the weights of this very architecture."
        )
    return module


def _cnn(architecture: str, layer: str) -> tuple[nn.Module, Callable[[nn.Module], fx.GraphModule]]:
    """A CNN of our own, of torchvision or of timm, where it is looked for in this order, and what makes a
    graph of it."""
    if architecture == inception.NAME and inception.has(layer):
        return inception.InceptionV3(), fx.symbolic_trace
    if architecture in efficientnet_lite.SCALES:
        return efficientnet_lite.EfficientNetLite(architecture), efficientnet_lite.trace
    import torchvision.models as models  # after those that ship: it takes longer than captioning a photo

    if architecture in models.list_models(module=models):
        return _untrained(architecture), fx.symbolic_trace
    if timm_cnns.known(architecture):
        return timm_cnns.build(architecture), timm_cnns.trace
    raise CaptionBotError(
        f"'{shortened(architecture)}' is not a CNN of torchvision or timm; choose one of "
        "torchvision.models.list_models() or timm.list_models(), for example resnet50 or mobilenet_v2, or "
        f"one of {', '.join(efficientnet_lite.SCALES)}."
    )


def _untrained(architecture: str) -> nn.Module:
    import torchvision.models as models

    options = _BUILD_OPTIONS.get(architecture, {})

    def build() -> nn.Module:
        built: nn.Module = models.get_model(architecture, weights=None, **options)
        return built

    try:
        return build()
    except NotImplementedError:  # RegNets work out their widths in tensors, which "meta" cannot
        with torch.device("cpu"):
            return build().to("meta")


def _load(cnn: nn.Module, state_dict: dict[str, Tensor]) -> list[str]:
    """Load by name and return the names that are missing: layers behind the cut may be, others not."""
    tensors = {name: tensor.float() for name, tensor in state_dict.items()}
    missing = cnn.load_state_dict(tensors, strict=False).missing_keys
    return [name for name in missing if not name.endswith("num_batches_tracked")]


def fold_batch_norm(module: fx.GraphModule) -> fx.GraphModule:
    """The same function with every batch norm that follows a convolution folded into it."""
    modules = dict(module.named_modules())
    for node in list(module.graph.nodes):
        before = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        convolution = modules[before.target]
        if isinstance(convolution, nn.Conv2d):
            folded = _folded(convolution, modules[node.target])
            module.set_submodule(str(before.target), folded)
            modules[before.target] = folded
            node.replace_all_uses_with(before)
            module.graph.erase_node(node)
    module.delete_all_unused_submodules()
    module.recompile()
    return module


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """A convolution that does what both did; without numbers, one that has a bias as well."""
    if convolution.weight.is_meta:
        convolution.bias = nn.Parameter(torch.empty(norm.num_features, device="meta"))
        return convolution
    return fuse_conv_bn_eval(convolution, norm).requires_grad_()  # its new bias too


KIND = EncoderKind("grid", GridEncoder, GridConfig, limits={"grid": 64})
