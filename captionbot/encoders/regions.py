"""Region features: what a detector finds in a photo, each box a place that attention can look at.

Bottom-up attention (arXiv 1707.07998, section 3.1) with an EfficientDet (arXiv 1911.09070, through
`effdet`) where the paper has a Faster R-CNN: the boxes choose where, and a CNN's feature map, averaged
inside each box, says what. The detector has a CNN of its own, or looks through the captioner's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from captionbot.encoders.base import Encoder, EncoderKind
from captionbot.encoders.concat import cnn_of
from captionbot.encoders.grid import GridConfig, GridEncoder, maps_of
from captionbot.errors import CaptionBotError, shortened
from captionbot.extras import require
from captionbot.types import Features

COCO_CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
_COCO_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # ids of 1..90 that COCO gives to no class
WHOLE_IMAGE = "whole image"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CANDIDATES = 300  # of an image, best first, that boxes are chosen from


@dataclass(frozen=True)
class RegionsConfig:
    """Which detector, how many of its boxes, and which CNN they are seen through.

    detector: an EfficientDet of effdet by name, tf_efficientdet_d0 to d7x and others.
    detector_options: fields of effdet's configuration of that name that are others, for a detector of
        one's own: backbone_name, image_size, num_classes, fpn_channels and so on.
    classes: names of the detector's classes in order; None for COCO's, of 80 or 90 outputs.
    detector_cnn: architecture of the CNN, among those that the boxes are seen through, which the detector
        sees photos through too, with their preprocessing; "" for a detector with a CNN of its own.
    detector_layers: layers of that CNN whose maps it takes, the finest first.
    max_regions: boxes at most, beside the whole image, which always is the first place.
    threshold: score from which a box counts; an image without any still is seen as a whole.
    overlap: IoU from which a box gives way to a better one of its class.
    architecture, layer, mirror: of the CNN, as in `GridConfig`.
    geometry: x0, y0, x1, y1 and area of the box, as fractions, behind its features (arXiv 1908.02265,
        section 2.2).
    mean, std: the captioner's preprocessing, undone for the detector, which has its own.
    cnns: several CNNs side by side (`ConcatConfig`) in the place of the one; {} for that.
    """

    detector: str = "tf_efficientdet_d1"
    detector_options: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    max_regions: int = 10
    threshold: float = 0.1
    overlap: float = 0.5
    architecture: str = "resnet50"
    layer: str = "layer4"
    mirror: bool = False
    geometry: bool = False
    mean: tuple[float, float, float] = _MEAN
    std: tuple[float, float, float] = _STD
    cnns: dict[str, Any] = field(default_factory=dict)
    detector_cnn: str = ""
    detector_layers: tuple[str, ...] = ()


class Detections(NamedTuple):
    """What was found in one image, best score first.

    boxes: (n, 4) xyxy as fractions of the image, 0..1. labels: (n,) long. scores: (n,) 0..1.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor


class Heads(nn.Module):
    """What an EfficientDet has behind its CNN: a feature pyramid, and heads for classes and boxes."""

    def __init__(self, config: Any, maps: Sequence[torch.Size]) -> None:
        """config: effdet's. maps: (B, C, h, w) of the CNN's, that of the lowest level first."""
        super().__init__()
        from effdet.anchors import get_feat_sizes
        from effdet.efficientdet import BiFpn, HeadNet, _init_weight

        given = [tuple(size[-2:]) for size in maps]
        needed = get_feat_sizes(config.image_size, config.max_level)[config.min_level :][: len(given)]
        if not given or given != [tuple(size) for size in needed]:
            raise CaptionBotError(
                f"The maps of detector_layers have {given} places, and the detector's levels from "
                f"{config.min_level} have {needed}; choose a layer for each level, the finest first."
            )
        self.config = config
        self.fpn = BiFpn(config, [{"num_chs": size[1]} for size in maps])
        self.class_net = HeadNet(config, config.num_classes)
        self.box_net = HeadNet(config, 4)
        for name, module in self.named_modules():
            _init_weight(module, name)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps (B, C, h, w) -> of each level maps of class logits and of box codes, as an EfficientDet's."""
        levels = self.fpn(list(maps))
        return self.class_net(levels), self.box_net(levels)


class Detector(nn.Module):
    """An EfficientDet of effdet. Photos are squashed to its size, not padded, as for every encoder here."""

    anchors: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        classes: tuple[str, ...] | None = None,
        maps: Callable[[tuple[int, int]], Sequence[torch.Size]] | None = None,
    ) -> None:
        """maps: (height, width) of photos -> (B, C, h, w) of what it is given in their place, by a CNN that
        is not its own; None: it has one of its own."""
        super().__init__()
        require("effdet", "detect", "A captioner of detected boxes")
        from effdet import create_model_from_config, get_efficientdet_config
        from effdet.anchors import Anchors
        from effdet.config.model_config import efficientdet_model_param_dict
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        if name not in efficientdet_model_param_dict:
            raise CaptionBotError(
                f"'{name}' is not a detector of effdet; choose one of "
                f"{', '.join(sorted(efficientdet_model_param_dict))}."
            )
        config = get_efficientdet_config(name)
        if unknown := sorted(set(options) - set(config)):
            raise CaptionBotError(
                f"effdet's configurations have no '{unknown[0]}'; they have {', '.join(config)}."
            )
        for key, value in options.items():
            try:
                OmegaConf.update(config, key, value, merge=False)
            except OmegaConfBaseException as error:
                reason = str(error).splitlines()[0].rstrip(".")
                raise CaptionBotError(f"The detector's {key} cannot be {value!r} ({reason}).") from None
        self.classes = classes or coco_classes(config.num_classes)
        if len(self.classes) != config.num_classes:
            raise CaptionBotError(
                f"The detector has {config.num_classes} classes and {len(self.classes)} names; give a name "
                "to each."
            )
        self.size: tuple[int, int] = tuple(config.image_size)
        if maps is None:
            self.net = create_model_from_config(config, pretrained_backbone=False)
        else:
            self.net = Heads(config, maps(self.size))
        anchors = Anchors.from_config(self.net.config).boxes  # (A, 4) yxyx in pixels of its own input
        self.register_buffer("anchors", anchors, persistent=False)
        mean, std = config.get("mean", _MEAN), config.get("std", _STD)
        self.register_buffer("mean", torch.tensor(mean, device="cpu").view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, device="cpu").view(3, 1, 1), persistent=False)

    def resized(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) at its size, channels last in memory."""
        if pixels.shape[-2:] != self.size:
            pixels = F.interpolate(pixels, self.size, mode="bilinear", antialias=True)
        return pixels.contiguous(memory_format=torch.channels_last)

    def normalise(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in 0..1 -> what the network reads, at its size."""
        return (self.resized(pixels) - self.mean) / self.std

    def levels(self, seen: Tensor | Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Photos or maps as of `forward` -> of each level maps of class logits and of box codes."""
        found: tuple[list[Tensor], list[Tensor]]
        found = self.net(self.normalise(seen) if isinstance(seen, Tensor) else seen)
        return found

    def outputs(self, seen: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Photos or maps as of `forward` -> logits (B, A, classes), box codes (B, A, 4) of the A anchors."""
        logits, codes = self.levels(seen)
        return _anchors_first(logits, len(self.classes)), _anchors_first(codes, 4)

    def forward(
        self, seen: Tensor | Sequence[Tensor], threshold: float = 0.1, overlap: float = 0.5
    ) -> list[Detections]:
        """Photos -> what scores at least the threshold, without what overlaps a better one.

        seen: (B, 3, H, W) in 0..1; or maps (B, C, h, w) of a CNN that is not its own.
        Every anchor speaks for its best class; suppression is within a class.
        """
        from effdet.anchors import decode_box_outputs
        from torchvision.ops import batched_nms

        logits, codes = self.outputs(seen)
        best, labels = logits.float().max(-1)  # (B, A)
        best, chosen = best.topk(min(_CANDIDATES, best.shape[1]))  # (B, K)
        labels = labels.gather(1, chosen)
        codes = codes.float().gather(1, chosen.unsqueeze(-1).expand(-1, -1, 4))
        boxes = decode_box_outputs(codes.flatten(0, 1), self.anchors[chosen.flatten()], output_xyxy=True)
        height, width = self.size
        boxes = (
            (boxes / boxes.new_tensor([width, height, width, height])).clamp(0, 1).unflatten(0, chosen.shape)
        )
        scores = best.sigmoid()
        found = []
        for image in range(len(scores)):
            real = (scores[image] >= threshold) & (boxes[image, :, 2:] > boxes[image, :, :2]).all(-1)
            own = Detections(boxes[image][real], labels[image][real], scores[image][real])
            kept = batched_nms(own.boxes, own.scores, own.labels, overlap)
            found.append(Detections(*(t[kept] for t in own)))
        return found


class RegionEncoder(Encoder):
    """The whole image and the boxes of a detector, seen through a CNN.

    The detector is no part of what is fine-tuned: a caption says nothing of where boxes belong.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: RegionsConfig, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """state_dict: `detector.` and names of `Detector`; the others are the CNN's, by torchvision's names
        or with `grid.` in front by those of `GridEncoder`. None: random weights."""
        super().__init__(config)
        tensors = dict(state_dict or {})
        ours = {k: tensors.pop(k) for k in list(tensors) if k.startswith(("detector.", "grid."))}
        cnn = GridConfig(config.architecture, config.layer, mirror=config.mirror)
        self.grid = cnn_of(config.cnns, cnn, tensors or None)
        # In a tuple, as its layers are the grid's.
        self._cnn: tuple[fx.GraphModule, ...] = (self._shared_cnn(),) if config.detector_cnn else ()
        sizes = self._sizes_of_maps if config.detector_cnn else None
        self.detector = Detector(config.detector, config.detector_options, config.classes, sizes)
        for part, module in (("detector.", self.detector), ("grid.", self.grid)):
            own = {k.removeprefix(part): t.float() for k, t in ours.items() if k.startswith(part)}
            if own:
                _load(module, own, config)
        self.register_buffer("mean", torch.tensor(config.mean, device="cpu").view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std, device="cpu").view(3, 1, 1), persistent=False)

    def _shared_cnn(self) -> fx.GraphModule:
        """What gives the detector the maps of one of the captioner's own CNNs."""
        config = self.config
        grids = {g.config.architecture: g.cnn for g in self.grid.modules() if isinstance(g, GridEncoder)}
        if config.detector_cnn not in grids:
            raise CaptionBotError(
                f"The detector looks through '{shortened(config.detector_cnn, 40)}', and the captioner's "
                f"CNNs are {', '.join(grids)}; name one of them."
            )
        return maps_of(grids[config.detector_cnn], config.detector_layers)

    def _sizes_of_maps(self, size: tuple[int, int]) -> list[torch.Size]:
        (cnn,) = self._cnn
        tensors = {n: t.to("meta") for n, t in (*cnn.named_parameters(), *cnn.named_buffers())}
        return [
            seen.shape for seen in functional_call(cnn, tensors, (torch.empty(1, 3, *size, device="meta"),))
        ]

    def maps(self, pixel_values: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised pixels -> what a detector without a CNN of its own takes."""
        (cnn,) = self._cnn
        return [seen.float() for seen in cnn(self.detector.resized(pixel_values))]

    def find(self, pixel_values: Tensor) -> list[Detections]:
        """(B, 3, H, W) normalised pixels -> what the detector finds in each, the best score first."""
        config = self.config
        with torch.no_grad():
            seen = self.maps(pixel_values) if self._cnn else pixel_values * self.std + self.mean
            found: list[Detections] = self.detector(seen, config.threshold, config.overlap)
        return found

    def train(self, mode: bool = True) -> RegionEncoder:
        super().train(mode)
        self.detector.eval()
        return self

    def forward(self, pixel_values: Tensor) -> Features:
        """(B, 3, H, W) normalised pixels -> the whole image, then its boxes with the best score first."""
        from torchvision.ops import roi_align

        config = self.config
        found = [Detections(*(t[: config.max_regions] for t in f)) for f in self.find(pixel_values)]
        whole = pixel_values.new_tensor([[0.0, 0.0, 1.0, 1.0]])
        boxes = [torch.cat([whole, f.boxes]) for f in found]
        cells = self.grid(pixel_values)
        assert cells.grid is not None
        rows, columns = cells.grid
        grid = cells.values.transpose(1, 2).unflatten(2, cells.grid)  # (B, C, rows, columns)
        scale = whole.new_tensor([columns, rows, columns, rows])
        regions = roi_align(grid, [b * scale for b in boxes], 1, aligned=True).flatten(1)
        if config.geometry:
            flat = torch.cat(boxes)
            area = (flat[:, 2:] - flat[:, :2]).prod(-1, keepdim=True)
            regions = torch.cat([regions, flat, area], -1)
        counts = [len(b) for b in boxes]
        return Features(
            pad_sequence(list(regions.split(counts)), batch_first=True),
            pad_sequence(boxes, batch_first=True),
            mask=torch.arange(max(counts), device=whole.device)
            < torch.tensor(counts, device=whole.device)[:, None],
            labels=tuple(self._names(f.labels) for f in found),
            scores=pad_sequence(
                [torch.cat([f.scores.new_ones(1), f.scores]) for f in found], batch_first=True
            ),
        )

    def on_meta(self, size: tuple[int, int]) -> Features:
        channels = self.grid.on_meta(size).values.shape[-1] + 5 * self.config.geometry
        places = 1 + self.config.max_regions
        return Features(
            torch.empty(1, places, channels, device="meta"), torch.empty(1, places, 4, device="meta")
        )

    def _names(self, labels: Tensor) -> tuple[str, ...]:
        return (WHOLE_IMAGE, *(self.detector.classes[i] for i in labels.tolist()))


def coco_classes(outputs: int) -> tuple[str, ...]:
    """Names of a detector's outputs: COCO's 80 classes in a row, or its 90 ids with their gaps."""
    if outputs == len(COCO_CLASSES):
        return COCO_CLASSES
    if outputs == len(COCO_CLASSES) + len(_COCO_GAPS):
        names = iter(COCO_CLASSES)
        return tuple("" if i in _COCO_GAPS else next(names) for i in range(1, outputs + 1))
    raise CaptionBotError(
        f"A detector of {outputs} classes needs their names; only COCO's 80 classes or 90 ids are known here."
    )


def _anchors_first(levels: list[Tensor], width: int) -> Tensor:
    """Maps (B, anchors of a cell * width, h, w) of each level -> (B, A, width)."""
    return torch.cat([x.permute(0, 2, 3, 1).reshape(len(x), -1, width) for x in levels], 1)


def _load(module: nn.Module, tensors: dict[str, Tensor], config: RegionsConfig) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise CaptionBotError(
            f"The weights do not fit {config.detector} or {config.architecture} to {config.layer} "
            f"({str(error).splitlines()[-1].strip()}); give those of this very configuration."
        ) from None


KIND = EncoderKind(
    "regions",
    RegionEncoder,
    RegionsConfig,
    limits={
        "image_size": 1536,
        "max_regions": 300,
        "fpn_cell_repeats": 16,
        "box_class_repeats": 16,
        "num_levels": 8,
        "max_level": 9,
        "num_scales": 5,
    },
)
