"""Copies of one photo with cells of it hidden, and what CNNs see in them, without doing any work twice.

The first layers of a CNN see so little of the photo at each of their places that it touches two rows and two
columns of cells at most, and of two neighbours one is even and one odd. So 16 copies, each without the cells
of some of the four parities, hold all that these layers see at any place of *any* copy: they are worked out
for these 16, and picked from them for all others. That is exact. What is behind sees each copy once,
whichever captioner asks.
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from captionbot.backends.cpu.cnn import UNFIT, PackedCNN, PackedConv2d, PackedEncoder, in_pieces
from captionbot.backends.cpu.integers import IntegerCNN, Scales
from captionbot.backends.cpu.precision import copies_in_integers
from captionbot.captioner import Captioner
from captionbot.encoders import GridEncoder
from captionbot.encoders.concat import ConcatEncoder
from captionbot.encoders.efficientnet_lite import SamePad2d
from captionbot.encoders.grid import with_cnns
from captionbot.types import Features

_PARITIES = 16  # which of the four kinds of cells, by parity of row and column, are hidden
_MOST_CNNS, _MOST_COPIES = 4, 128  # that are kept of a photo, some 300 kB for each copy and CNN
_BEHIND = 8  # copies at once: behind the first layers, maps are small
_CLOSE = 1e-4  # of the largest number: how far what is picked may be off by rounding
_NEAR = 0.03  # and what layers in half precision give


class Copies:
    """What is known of the copies of one photo. Captioners that are given the same record share it.

    cells: rows and columns that the photo is cut into.
    learns_from: copies that scales of integers come from, the first ones: to be asked for by one thread.
    """

    learns_from = 4

    def __init__(self, cells: tuple[int, int]) -> None:
        self.cells = cells
        self._known: dict[tuple[str, ...], _Known] = {}
        self._lock = Lock()
        self._last: tuple[Tensor, Tensor, tuple[str, str]] | None = None  # and how they are told from others

    def features(
        self, captioner: Captioner, pixels: Tensor, filling: Tensor, hidden: Tensor
    ) -> Iterator[Features]:
        """What the captioner's encoder sees in copies, some of them at a time. Threads may ask side by side.

        pixels, filling: (1, 3, H, W) of the whole photo, and of what is seen in the place of hidden cells.
        hidden: (N, cells) bool, which of them each copy lacks.
        """
        with self._lock:
            encoder, cnns = self._encoder(captioner, pixels, filling)
        for masks in hidden.to(pixels.device).split(captioner.decoder.at_once):
            first = _parities(self.cells).to(pixels.device) if any(cnn.asks for cnn in cnns) else masks[:0]
            if isinstance(encoder, GridEncoder | ConcatEncoder) and cnns and all(cnn.knows for cnn in cnns):
                shown = pixels  # of which its size is all that is asked for
            else:
                shown = painted(pixels, filling, torch.cat([first, masks]), self.cells)
            for cnn in cnns:
                cnn.masks = masks
            with torch.inference_mode(), captioner.autocast():
                seen = _without(encoder(shown), len(first))
            if not seen.values.isfinite().all():  # of half precision
                seen = captioner.encode_pixels(painted(pixels, filling, masks, self.cells))
            yield seen

    def _encoder(self, captioner: Captioner, pixels: Tensor, filling: Tensor) -> tuple[Any, list[_CNN]]:
        """The captioner's encoder with what is known in the place of its CNNs, and these."""
        encoder: Any = captioner._encode
        if self._last is None or self._last[0] is not pixels or self._last[1] is not filling:
            self._last = pixels, filling, (_sha256(pixels.cpu()), _sha256(filling.cpu()))
        of: tuple[str, ...] = "", *self._last[2]
        integers = copies_in_integers(captioner.precision)
        if isinstance(encoder, PackedEncoder):
            of = str(encoder.dtype), *of[1:]
            encoder = encoder.packed
        of = *of, str(integers)
        if not isinstance(encoder, nn.Module):
            return encoder, []
        cnns: list[_CNN] = []
        originals = (part for part in captioner.encoder.modules() if isinstance(part, GridEncoder))

        def shared(grid: GridEncoder) -> nn.Module:
            plain = next(originals).cnn
            key = *of, _digest(plain)
            if grid.config.mirror:  # which sees each copy twice
                return grid.cnn
            known = self._known.pop(key, None) or _Known()
            self._known[key] = known  # behind all others
            if len(self._known) > _MOST_CNNS:
                del self._known[next(iter(self._known))]
            size = pixels.shape[-2], pixels.shape[-1]
            layers = grid.cnn.layers if isinstance(grid.cnn, PackedCNN) else grid.cnn
            cnns.append(_CNN(layers, known, self.cells, size, plain if integers else None))
            return cnns[-1]

        return with_cnns(encoder, shared), cnns


def painted(pixels: Tensor, filling: Tensor, hidden: Tensor, cells: tuple[int, int]) -> Tensor:
    """(N, 3, H, W) copies of a photo (1, 3, H, W), with the filling where cells (N, cells) are hidden."""
    rows, columns = (_cells_of(*of).to(hidden.device) for of in zip(pixels.shape[-2:], cells, strict=True))
    covered = hidden.unflatten(1, cells)[:, rows][:, :, columns]
    return torch.where(covered.unsqueeze(1), filling, pixels)


@dataclass
class _Known:
    """What a CNN has seen of a photo. seen: by which cells were hidden. first: (16 * places, C), what its
    first layers see where parities are hidden; None: not yet. whole: whether it is of no use to part it.
    scales: of what is behind, where that is worked out in integers."""

    seen: dict[bytes, Tensor] = field(default_factory=dict)
    first: Tensor | None = None
    whole: bool = False
    scales: Scales | None = None


class _CNN(nn.Module):
    """A CNN that sees copies of a photo, each once.

    masks: (N, cells) bool, what the copies of the next call lack. Copies that lack parities may stand before
    them; what is returned of those is 0.
    """

    masks: Tensor

    def __init__(
        self,
        cnn: fx.GraphModule,
        known: _Known,
        cells: tuple[int, int],
        size: tuple[int, int],
        plain: fx.GraphModule | None,
    ) -> None:
        """plain: the same CNN with plain layers, where what is behind the first ones may be in integers."""
        super().__init__()
        self.cnn, self.known, self.cells, self.size = cnn, known, cells, size
        self.plain = [plain] if plain is not None else []  # in a list, to be no part of this module

    @property
    def knows(self) -> bool:
        """Whether it needs no copies at all: `forward` may be given one photo for all of them."""
        return self.known.first is not None

    @property
    def asks(self) -> bool:
        """Whether it needs copies that lack parities."""
        return self.known.first is None and not self.known.whole

    def forward(self, pixels: Tensor) -> Tensor:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        parities = max(len(pixels) - len(self.masks), 0)
        shown, kept = pixels[parities:], self.known.seen
        if parities and self.asks:
            self._learn(pixels[:parities], shown[-1:])
        keys = _keys(self.masks)
        new = [i for i, key in enumerate(keys) if key not in kept]
        seen = dict(zip((keys[i] for i in new), self._see(shown, new), strict=True)) if new else {}
        found = torch.stack([kept[key] if key in kept else seen[key] for key in keys])
        kept.update(list(seen.items())[: max(_MOST_COPIES - len(kept), 0)])
        return torch.cat([found.new_zeros(parities, *found.shape[1:]), found]) if parities else found

    def _see(self, shown: Tensor, new: list[int]) -> Tensor:
        parted = _parted(self.cnn, self.size, (shown.shape[-2], shown.shape[-1]), self.cells)
        if self.known.first is None or parted is None:
            return in_pieces(self.cnn, shown[new].contiguous(memory_format=torch.channels_last))
        given, scales = parted.picked(self.known.first, self.masks[new]), self.known.scales
        integers = self._integers(shown) if scales else None
        if integers is None or scales is None:
            return in_pieces(parted.rest, given, _BEHIND)
        found = in_pieces(partial(integers, scales=scales), given, _BEHIND)
        whole = ~self.masks[new].any(1)  # the photo itself, which words are held against
        if whole.any():
            found[whole] = parted.rest(given[whole]).float()
        return found

    def _learn(self, parities: Tensor, shown: Tensor) -> None:
        """Have the first layers see the copies that lack parities; try what is picked from them on the last
        copy, shown."""
        parted = _parted(self.cnn, self.size, (shown.shape[-2], shown.shape[-1]), self.cells)
        if parted is not None:
            first = in_pieces(parted.first, parities).permute(0, 2, 3, 1).flatten(0, 2)
            real, picked = parted.first(shown), parted.picked(first, self.masks[-1:])
            if _close(real, picked):
                self.known.first = first
                self._scale(parted, shown, real)
        self.known.whole = self.known.first is None

    def _scale(self, parted: _Parted, shown: Tensor, real: Tensor) -> None:
        """Find the scales of integers from what is behind the first layers in some copies."""
        integers, first = self._integers(shown), self.known.first
        if integers is None or first is None:
            return
        if _close(real, self._of_plain(shown).first(shown), _NEAR):  # parted at one place
            masks = self.masks[: Copies.learns_from]
            self.known.scales, made = integers.scales(parted.picked(first, masks), parted.rest)
            self.known.seen |= dict(zip(_keys(masks), made.float(), strict=True))

    def _integers(self, shown: Tensor) -> IntegerCNN | None:
        """What is behind the first layers in integers; None where it has layers that are not for that."""
        parted = self._of_plain(shown) if self.plain else None
        if parted is None:
            return None
        known = _in_integers.setdefault(self.plain[0], {})
        key = self.size, (shown.shape[-2], shown.shape[-1]), self.cells
        if key not in known:
            try:
                known[key] = IntegerCNN(parted.rest)
            except UNFIT:
                known[key] = None
        return known[key]

    def _of_plain(self, shown: Tensor) -> Any:
        return _parted(self.plain[0], self.size, (shown.shape[-2], shown.shape[-1]), self.cells)


class _Parted(NamedTuple):
    """A CNN in two parts.

    rows, columns: (2, h) and (2, w), the even and the odd cell that each place of what the first part gives
    touches; -1 where it touches none.
    """

    first: fx.GraphModule
    rest: fx.GraphModule
    rows: Tensor
    columns: Tensor
    cells: tuple[int, int]

    def picked(self, first: Tensor, masks: Tensor) -> Tensor:
        """(16 * h * w, C) of the copies that lack parities, (N, cells) -> (N, C, h, w) of these copies."""
        masks, rows, columns = (
            masks.unflatten(1, self.cells),
            self.rows.to(masks.device),
            self.columns.to(masks.device),
        )
        h, w = rows.shape[1], columns.shape[1]
        which = torch.zeros(len(masks), h, w, dtype=torch.long, device=masks.device)
        for a in (0, 1):
            for b in (0, 1):
                there = (rows[a] >= 0)[:, None] & (columns[b] >= 0)
                lacks = masks[:, rows[a].clamp(min=0)][:, :, columns[b].clamp(min=0)] & there
                which |= lacks.long() << (2 * a + b)
        places = which * (h * w) + torch.arange(h * w, device=masks.device).view(h, w)
        return first[places.flatten()].view(len(masks), h, w, -1).permute(0, 3, 1, 2)


_in_integers: WeakKeyDictionary[nn.Module, dict[Any, IntegerCNN | None]] = WeakKeyDictionary()
_partings: WeakKeyDictionary[nn.Module, dict[Any, _Parted | None]] = WeakKeyDictionary()
_digests: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def _digest(cnn: fx.GraphModule) -> str:
    """Tells CNNs of other weights or layers apart."""
    if cnn not in _digests:
        digest = hashlib.sha256(cnn.code.encode())
        for tensor in cnn.state_dict().values():
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        _digests[cnn] = digest.hexdigest()
    return _digests[cnn]


def _keys(masks: Tensor) -> list[bytes]:
    return [mask.numpy().tobytes() for mask in masks.cpu()]


def _sha256(pixels: Tensor) -> str:
    return hashlib.sha256(pixels.contiguous().numpy().tobytes()).hexdigest()


def _parities(cells: tuple[int, int]) -> Tensor:
    """(16, cells) bool: number k hides the cells whose kind, by parity of row and column, is a bit of k."""
    kind = 2 * (torch.arange(cells[0]) % 2)[:, None] + torch.arange(cells[1]) % 2
    return ((torch.arange(_PARITIES)[:, None] >> kind.flatten()) & 1).bool()


def _cells_of(pixels: int, cells: int) -> Tensor:
    """(pixels,) the cell that the middle of each pixel lies in."""
    return ((torch.arange(pixels) + 0.5) / pixels * cells).long()


def _close(one: Tensor, other: Tensor, within: float = _CLOSE) -> bool:
    """Whether they are the same but for rounding, of so much of the largest number."""
    return one.shape == other.shape and bool((one - other).abs().max() <= within * one.abs().max())


def _without(features: Features, first: int) -> Features:
    """Features without those of the first copies."""
    if not first:
        return features
    cut: dict[str, Any] = {
        name: value[first:]
        for name in ("values", "mask", "labels", "scores", "beside")
        if (value := getattr(features, name)) is not None
    }
    boxes = features.boxes[first:] if len(features.boxes) > 1 else features.boxes
    return Features(**cut, boxes=boxes, grid=features.grid)


# How far layers see


Reach = tuple[Tensor, Tensor]  # (n,) each: the first and the last pixel that every place of an axis sees
_NOTHING = 1 << 30
_PLACEWISE = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish, nn.Identity, nn.Dropout, nn.BatchNorm2d)
_PLACEWISE_FUNCTIONS = (F.relu, F.relu6, F.silu, torch.relu, operator.add, operator.mul, torch.cat)


def _parted(
    cnn: fx.GraphModule, size: tuple[int, int], given: tuple[int, int], cells: tuple[int, int]
) -> _Parted | None:
    """A CNN cut behind layers that see two rows and columns of cells at most, where it is narrowest; None
    where there are none.

    size: of the photo; given: of what the CNN is given, the photo itself or resized.
    """
    known = _partings.setdefault(cnn, {})
    if (size, given, cells) not in known:
        known[size, given, cells] = _part(cnn, size, given, cells)
    return known[size, given, cells]


def _part(
    cnn: fx.GraphModule, size: tuple[int, int], given: tuple[int, int], cells: tuple[int, int]
) -> _Parted | None:
    nodes = list(cnn.graph.nodes)
    start = nodes.index(next(node for node in nodes if node.op == "placeholder"))
    reach = {nodes[start]: [_resized(*of) for of in zip(size, given, strict=True)]}
    channels, fewest = {nodes[start]: 3}, math.inf
    end, sides = 0, list[Tensor]()
    for at in range(start + 1, len(nodes) - 1):
        if (found := _seen_by(cnn, nodes[at], reach)) is None:
            break
        reach[nodes[at]], channels[nodes[at]] = found, _channels(cnn, nodes[at], channels)
        touched = [_touched(*of) for of in zip(found, size, cells, strict=True)]
        if any(side is None for side in touched):
            break
        numbers = channels[nodes[at]] * math.prod(map(_length, found))  # that are kept of each copy
        closed = all(nodes.index(user) <= at for node in nodes[start:at] for user in node.users)
        if closed and numbers <= fewest:
            fewest, end, sides = numbers, at, [side for side in touched if side is not None]
    if not sides:
        return None
    first = _between(cnn, nodes[start], nodes[start + 1 : end + 1], nodes[end])
    rest = _between(cnn, nodes[end], nodes[end + 1 : -1], nodes[-1].args[0])
    rows, columns = sides
    return _Parted(first, rest, rows, columns, cells)


def _between(cnn: fx.GraphModule, start: fx.Node, nodes: list[fx.Node], end: Any) -> fx.GraphModule:
    """The layers behind one node up to another."""
    graph = fx.Graph()
    made = {start: graph.placeholder("x")}
    for node in nodes:
        made[node] = graph.node_copy(node, made.__getitem__)
    graph.output(made[end])
    return fx.GraphModule(cnn, graph)


def _resized(pixels: int, given: int) -> Reach:
    """What each pixel of a resized photo shows of the photo."""
    at, scale = torch.arange(given), pixels / given
    if scale == 1:
        return at, at
    middle, reach = (at + 0.5) * scale - 0.5, max(scale, 1)
    return (middle - reach).floor().long().clamp(min=0), (middle + reach).ceil().long().clamp(max=pixels - 1)


def _seen_by(cnn: fx.GraphModule, node: fx.Node, reach: dict[fx.Node, list[Reach]]) -> list[Reach] | None:
    """What a layer's places see along both axes; None of a layer that is not known."""
    before = [reach[other] for other in node.all_input_nodes if other in reach]
    if len(before) != len(node.all_input_nodes) or not before:
        return None
    layer: Any = cnn.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(layer, _PLACEWISE) or (layer is None and node.target in _PLACEWISE_FUNCTIONS):
        return _together(before)
    if isinstance(layer, SamePad2d):
        return _padded_by(layer, before[0])
    if (windows := _windows(layer)) is None:
        return None
    same = layer.same if isinstance(layer, PackedConv2d) else None  # the padding that it does
    given = before[0] if same is None else _padded_by(same, before[0])
    slid = [_slid(axis, *window) for axis, window in zip(given, windows, strict=True)]
    return _together([slid, *before[1:]])  # a packed convolution may add what another layer gave


def _together(before: Sequence[list[Reach]]) -> list[Reach] | None:
    """What places see that are made of those of several layers; None where these are of different sizes."""
    if len({tuple(len(first) for first, _ in axes) for axes in before}) > 1:
        return None
    return [
        (torch.stack([first for first, _ in axes]).amin(0), torch.stack([last for _, last in axes]).amax(0))
        for axes in zip(*before, strict=True)
    ]


def _channels(cnn: fx.GraphModule, node: fx.Node, channels: dict[fx.Node, int]) -> int:
    layer: Any = cnn.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(layer, nn.Conv2d | PackedConv2d):
        return layer.out_channels
    before = [channels[other] for other in node.all_input_nodes]
    return sum(before) if node.target is torch.cat else before[0]


def _windows(layer: Any) -> list[tuple[int, int, int, int]] | None:
    """Kernel, stride, padding and dilation along both axes."""
    if isinstance(layer, nn.Conv2d | PackedConv2d):
        if isinstance(layer.padding, str) or getattr(layer, "padding_mode", "zeros") != "zeros":
            return None
        sides: list[Any] = [layer.kernel_size, layer.stride, layer.padding, layer.dilation]
    elif isinstance(layer, nn.MaxPool2d | nn.AvgPool2d) and not layer.ceil_mode:
        sides = [layer.kernel_size, layer.stride, layer.padding, getattr(layer, "dilation", 1)]
    else:
        return None
    both: list[Any] = [side if isinstance(side, tuple) else (side, side) for side in sides]
    return list(zip(*both, strict=True))


def _slid(axis: Reach, kernel: int, stride: int, padding: int, dilation: int) -> Reach:
    first, last = _padded(axis, (padding, padding))
    starts = torch.arange(0, len(first) - dilation * (kernel - 1), stride)
    within = starts[:, None] + dilation * torch.arange(kernel)
    return first[within].amin(1), last[within].amax(1)


def _padded_by(layer: SamePad2d, axes: list[Reach]) -> list[Reach]:
    return [_padded(*of) for of in zip(axes, layer.pads(*map(_length, axes)), strict=True)]


def _padded(axis: Reach, pads: tuple[int, int]) -> Reach:
    """With places that see nothing on both sides."""
    return F.pad(axis[0], pads, value=_NOTHING), F.pad(axis[1], pads, value=-1)


def _touched(axis: Reach, pixels: int, cells: int) -> Tensor | None:
    """(2, n) the even and the odd cell that each place sees of, -1 for none; None where one sees of three."""
    cell = _cells_of(pixels, cells)
    first, last = cell[axis[0].clamp(max=pixels - 1)], cell[axis[1].clamp(min=0)]
    if (last - first > 1).any():
        return None
    first = torch.minimum(first, last)
    return torch.stack(
        [torch.where(first % 2 == odd, first, torch.where(last % 2 == odd, last, -1)) for odd in (0, 1)]
    )


def _length(axis: Reach) -> int:
    return len(axis[0])
