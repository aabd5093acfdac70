"""CNNs of timm by name, as plain layers: convolutions, batch norms and activations, each with a name.

timm joins a batch norm and the activation behind it, and pads TensorFlow's convolutions by the size of the
photo at hand. Here both are layers of their own, so that batch norms can be folded and convolutions packed as
those of torchvision's CNNs are.
"""

from __future__ import annotations

import torch
from torch import fx, nn

from captionbot.encoders.efficientnet_lite import SamePad2d


def known(architecture: str) -> bool:
    """Whether timm has a model of that name; no where it is not installed."""
    try:
        import timm
    except ImportError:
        return False
    return bool(timm.is_model(architecture))


def build(architecture: str) -> nn.Module:
    """A CNN of timm by its name, with random weights."""
    import timm

    cnn: nn.Module = timm.create_model(architecture, pretrained=False)
    return cnn


def trace(cnn: nn.Module) -> fx.GraphModule:
    """The graph of a CNN in plain layers; their weights keep their names."""
    from timm.layers.conv2d_same import Conv2dSame
    from timm.layers.norm_act import BatchNormAct2d

    activations: dict[str, nn.Module] = {}
    padded: dict[str, SamePad2d] = {}
    for name, module in list(cnn.named_modules()):
        if isinstance(module, BatchNormAct2d):
            activations[name] = module.act
            plain = nn.BatchNorm2d(module.num_features, module.eps, device="meta")
            plain.load_state_dict(module.state_dict(), assign=True)
            cnn.set_submodule(name, plain.eval())
        elif isinstance(module, Conv2dSame):
            padded[name] = SamePad2d(module)
            cnn.set_submodule(name, _convolution(module))
    traced = fx.symbolic_trace(cnn.eval())
    for node in list(traced.graph.nodes):
        if node.op != "call_module":
            continue
        if (name := str(node.target)) in padded:
            traced.add_submodule(f"{name}_pad", padded[name])
            with traced.graph.inserting_before(node):
                pad = traced.graph.call_module(f"{name}_pad", (node.args[0],))
            pad.meta = dict(node.meta)
            node.replace_input_with(node.args[0], pad)
        elif name in activations and not isinstance(activations[name], nn.Identity):
            traced.add_submodule(f"{name}_act", activations[name])
            with traced.graph.inserting_after(node):
                act = traced.graph.call_module(f"{name}_act", (node,))
            act.meta = dict(node.meta)
            node.replace_all_uses_with(act, lambda user, act=act: user is not act)
    traced.recompile()
    return traced


def _convolution(layer: nn.Conv2d) -> nn.Conv2d:
    """The same convolution without padding, with the very same weights."""
    plain = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]  # torch's own types: tuple[int, ...]
        layer.stride,  # type: ignore[arg-type]
        dilation=layer.dilation,  # type: ignore[arg-type]
        groups=layer.groups,
        bias=layer.bias is not None,
        device=torch.device("meta"),
    )
    plain.weight, plain.bias = layer.weight, layer.bias
    return plain
