"""A small detector from teachers' boxes: `python -m training.detector label | train | evaluate | assemble`.

label: boxes of teacher detectors on photos. train: an EfficientDet of effdet on them. evaluate: how far
it agrees with the teachers. assemble: one file of weights for an encoder of the kind `regions`, out of a
detector (this one, or an official one of effdet) and the CNN of a captioner.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from captionbot.cli.commands import Parser, command
from captionbot.encoders.concat import ConcatEncoder
from captionbot.encoders.grid import GridEncoder
from captionbot.encoders.regions import Detector
from captionbot.errors import CaptionBotError
from captionbot.fields import set_types
from captionbot.images.load import Preprocessing
from captionbot.store import card as cards
from captionbot.store.registry import find_card
from training.data import open_images
from training.data.formats import load_dataset
from training.detector.data import (
    Boxes,
    Labelled,
    average_precision,
    label_images,
    open_teachers,
    read_boxes,
)
from training.run.checkpoints import (
    CHECKPOINT,
    check_outputs,
    load_checkpoint,
    other_run,
    prepare_folder,
    read_weights,
    save_checkpoint,
)
from training.run.config import ABOUT, check_least, check_shares, read_config
from training.run.distributed import device_of
from training.run.features import autocast, cached_pixels

CONFIGS = Path(__file__).parents[1] / "configs" / "detectors"
COMMON = 50  # boxes that a class needs for its own line in a report


@dataclass(frozen=True)
class DetectorConfig:
    """A training run of a detector.

    detector, detector_options: as in `captionbot.encoders.regions.RegionsConfig`.
    classes: file with a class a line, synonyms behind commas; "" for COCO's.
    images: folder or tar of the photos.
    boxes: file of training.detector.data.write_boxes.
    threshold: score under which boxes are not believed.
    backbone_weights: safetensors of torchvision's MobileNetV2, to start from; "" for random ones.
    frozen_blocks: stages of the backbone, from the first, that do not learn; their batch norms never do.
    epochs, batch_size, learning_rate, backbone_learning_rate, warmup_steps: AdamW, cosine to zero.
    ema: decay of the moving average of the weights, which is what is kept.
    """

    detector: str = "tf_efficientdet_d1"
    detector_options: dict[str, Any] = field(default_factory=dict)
    classes: str = ""
    images: str = ""
    boxes: str = ""
    cache: str = "cache"
    threshold: float = 0.3
    backbone_weights: str = ""
    frozen_blocks: int = 3
    epochs: int = 6
    batch_size: int = 16
    learning_rate: float = 1.5e-3
    backbone_learning_rate: float = 1.5e-4
    warmup_steps: int = 100
    weight_decay: float = 1e-4
    clip: float = 5.0
    ema: float = 0.995
    amp: str = "bf16"
    seed: int = 1

    def __post_init__(self) -> None:
        set_types(self)
        positive = dict.fromkeys(("epochs", "batch_size", "warmup_steps"), 1)
        others = ("frozen_blocks", "learning_rate", "backbone_learning_rate", "weight_decay", "clip", "seed")
        check_least(self, positive | dict.fromkeys(others, 0))
        check_shares(self, ("threshold", "ema"))
        if self.amp not in ABOUT["amp"].choices:
            raise CaptionBotError(f"amp is '{self.amp}'; choose one of {', '.join(ABOUT['amp'].choices)}.")


def load_detector_config(name_or_file: str, **overrides: Any) -> DetectorConfig:
    """A configuration by its name in `training/configs/detectors`, or from a YAML file."""
    _, values = read_config(DetectorConfig, CONFIGS, name_or_file)
    return DetectorConfig(**{**values, **overrides})


def build_detector(config: DetectorConfig) -> Detector:
    classes = read_classes(Path(config.classes)) if config.classes else None
    if classes and config.detector_options.get("num_classes") == len(classes) + 1:
        classes = (*classes, "other")
    return Detector(config.detector, config.detector_options, classes)


def read_classes(path: Path) -> tuple[str, ...]:
    """The first of the synonyms of each line."""
    if not path.is_file():
        raise CaptionBotError(f"There are no classes at {path}: give a file with a class a line.")
    return tuple(line.split(",")[0].strip() for line in path.read_text(encoding="utf-8").splitlines() if line)


def load_backbone(detector: Detector, path: Path) -> None:
    """torchvision's MobileNetV2 into timm's: the same layers in the same order under other names."""
    given = read_weights(path)
    layers = [m for m in detector.net.backbone.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    prefixes = [k.removesuffix("weight") for k in given if k.endswith("weight")]
    prefixes.sort(key=lambda p: [int(n) if n.isdecimal() else -1 for n in p.split(".")[1:]])
    try:
        for layer, prefix in zip(layers, prefixes, strict=False):
            own = {k.removeprefix(prefix): t for k, t in given.items() if k.startswith(prefix)}
            layer.load_state_dict(own, strict=isinstance(layer, nn.Conv2d))
    except RuntimeError as error:
        raise CaptionBotError(f"{path} is not a MobileNetV2 like the backbone's ({error}).") from None


class Trainer:
    """One run; a resumed one goes on at the step where the checkpoint was written."""

    def __init__(self, config: DetectorConfig, out: Path, device: torch.device) -> None:
        from effdet.anchors import AnchorLabeler, Anchors
        from effdet.loss import DetectionLoss

        self.config, self.out, self.device = config, out, device
        torch.manual_seed(config.seed)
        self.detector = build_detector(config)
        if config.backbone_weights:
            load_backbone(self.detector, Path(config.backbone_weights))
        self.detector.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        backbone = self.detector.net.backbone
        if config.frozen_blocks:
            for module in [backbone.conv_stem, backbone.bn1, *backbone.blocks[: config.frozen_blocks]]:
                module.requires_grad_(False)
        self.average = AveragedModel(self.detector, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
        effdet_config = self.detector.net.config
        anchors = Anchors.from_config(effdet_config).to(device)
        self.labeler = AnchorLabeler(anchors, effdet_config.num_classes)
        self.loss = DetectionLoss(effdet_config)
        self.boxes = [b for b in read_boxes(Path(config.boxes)) if b.split == "train"]
        if len(self.boxes) < config.batch_size:
            raise CaptionBotError(
                f"batch_size is {config.batch_size}, and {config.boxes} has {len(self.boxes)} photos of the "
                "split train; give no more than that, or label more photos."
            )
        self.pixels = photos(config, self.detector, self.boxes)
        rates = ((backbone, config.backbone_learning_rate), (self.detector.net, config.learning_rate))
        groups, seen = [], set()
        for module, rate in rates:
            parameters = [p for p in module.parameters() if p.requires_grad and p not in seen]
            seen.update(parameters)
            groups.append({"params": parameters, "lr": rate, "peak": rate})
        self.optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
        self.steps = config.epochs * (len(self.boxes) // config.batch_size)
        self.step = 0

    def run(self, resume: bool = False) -> None:
        path = self.out / CHECKPOINT
        if resume and path.is_file():
            state = load_checkpoint(path, self.device)
            try:
                self.average.load_state_dict(state["average"])
                self.detector.load_state_dict(state["detector"])
                self.optimizer.load_state_dict(state["optimizer"])
                self.step = state["step"]
            except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise other_run(self.out, error) from error
        self.out.mkdir(parents=True, exist_ok=True)
        losses: list[float] = []
        saved = time.monotonic()
        for images in self._batches():
            losses.append(self._update(images))
            if self.step % 25 == 0:
                print(f"step {self.step}/{self.steps}: loss {np.mean(losses):.4f}", flush=True)
                losses.clear()
            if time.monotonic() - saved > 120 or self.step == self.steps:
                self._save(path)
                saved = time.monotonic()

    def _batches(self) -> Iterator[np.ndarray]:
        """Numbers of the photos of every step that is left; the order of an epoch depends on its number."""
        size = self.config.batch_size
        an_epoch = len(self.boxes) // size
        while self.step < self.steps:
            order = np.random.default_rng([self.config.seed, self.step // an_epoch]).permutation(
                len(self.boxes)
            )
            place = self.step % an_epoch * size
            yield order[place : place + size]

    def _update(self, images: np.ndarray) -> float:
        config, detector = self.config, self.detector
        detector.train()
        for module in detector.net.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        pixels = torch.from_numpy(self.pixels[np.sort(images)]).to(self.device)
        pixels = pixels.permute(0, 3, 1, 2).float() / 255
        found = [self.boxes[i].found for i in np.sort(images)]
        for row in np.flatnonzero(np.random.default_rng([config.seed, self.step]).random(len(found)) < 0.5):
            pixels[row], found[row] = pixels[row].flip(-1), found[row].mirrored()
        targets = self.labeler.batch_label_anchors(*self._wanted(found))
        with autocast(self.device, config.amp):
            outputs = detector.net(detector.normalise(pixels))
        loss, _, _ = self.loss(*outputs, *targets)
        for group in self.optimizer.param_groups:
            warm = min(1.0, (self.step + 1) / config.warmup_steps)
            group["lr"] = group["peak"] * warm * (1 + math.cos(math.pi * self.step / self.steps)) / 2
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(detector.parameters(), config.clip)
        self.optimizer.step()
        self.average.update_parameters(detector)
        self.step += 1
        return float(loss.detach())

    def _wanted(self, found: Sequence[Boxes]) -> tuple[list[Tensor], list[Tensor]]:
        """Boxes as effdet learns from them, yxyx in pixels of its input, and classes from 1."""
        height, width = self.detector.size
        believed = [f.where(f.scores >= self.config.threshold) for f in found]
        boxes = [
            f.boxes[:, [1, 0, 3, 2]] * np.array([height, width, height, width], np.float32) for f in believed
        ]
        return (
            [torch.from_numpy(b).to(self.device) for b in boxes],
            [torch.from_numpy(f.labels + 1).to(self.device) for f in believed],
        )

    def _save(self, path: Path) -> None:
        state = {
            "average": self.average.state_dict(),
            "detector": self.detector.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        save_checkpoint(path, state)
        cards.save_part(self.out / "detector.safetensors", self.average.module, "float32")
        record = json.dumps(dataclasses.asdict(self.config), indent=1)
        (self.out / "detector.json").write_text(record + "\n", encoding="utf-8")


def photos(config: DetectorConfig, detector: Detector, boxes: Sequence[Labelled]) -> np.ndarray:
    """(n, height, width, 3) uint8 at the detector's size."""
    preprocessing = Preprocessing(detector.size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    names = [b.image for b in boxes]
    return cached_pixels(open_images(Path(config.images)), names, preprocessing, Path(config.cache))[0]


def load_detector(run: Path) -> tuple[DetectorConfig, Detector]:
    """The detector of a run, in evaluation mode."""
    if not (run / "detector.json").is_file():
        raise CaptionBotError(f"{run} is no run of training.detector train: it has no detector.json.")
    config = load_detector_config(str(run / "detector.json"))
    detector = build_detector(config)
    try:
        detector.load_state_dict(read_weights(run / "detector.safetensors"))
    except RuntimeError:
        raise CaptionBotError(
            f"{run} has weights of another detector than its detector.json describes; train it again."
        ) from None
    return config, detector.eval().requires_grad_(False)


def find_boxes(detector: Detector, pixels: np.ndarray, threshold: float, batch: int = 32) -> list[Boxes]:
    """pixels: (n, height, width, 3) uint8."""
    found = []
    with torch.inference_mode():
        for i in range(0, len(pixels), batch):
            values = torch.from_numpy(np.array(pixels[i : i + batch])).permute(0, 3, 1, 2).float() / 255
            found += [Boxes(*(t.numpy() for t in f)) for f in detector(values, threshold)]
    return found


def agreement(found: Sequence[Boxes], wanted: Sequence[Boxes], classes: Sequence[str]) -> dict[str, Any]:
    """AP50 of each class against the teachers' boxes, and means over classes and over boxes."""
    counts = np.bincount(np.concatenate([w.labels for w in wanted]), minlength=len(classes))
    present = np.flatnonzero(counts)
    ap = np.array([average_precision(found, wanted, int(c)) for c in present])
    common = counts[present] >= COMMON
    return {
        "images": len(wanted),
        "boxes": int(counts.sum()),
        "classes": len(present),
        "AP50": float(ap.mean()),
        f"AP50 of {int(common.sum())} classes with {COMMON} boxes": float(ap[common].mean())
        if common.any()
        else None,
        "AP50 by boxes": float(np.average(ap, weights=counts[present])),
        "AP50 by class": {
            classes[int(c)]: {"boxes": int(counts[c]), "AP50": round(float(a), 4)}
            for c, a in sorted(zip(present, ap, strict=True), key=lambda pair: -counts[pair[0]])
        },
    }


def evaluate(run: Path, split: str, out: Path | None) -> dict[str, Any]:
    config, detector = load_detector(run)
    boxes = [b for b in read_boxes(Path(config.boxes)) if b.split == split]
    wanted = [b.found.where(b.found.scores >= config.threshold) for b in boxes]
    if not any(map(len, wanted)):
        raise CaptionBotError(
            f"{config.boxes} has no boxes with a score of {config.threshold} of the split '{split}'; label "
            "its photos first."
        )
    start = time.perf_counter()
    found = find_boxes(detector, photos(config, detector, boxes), 0.05)
    seconds = time.perf_counter() - start
    results = {"split": split, "images_per_second": len(boxes) / seconds} | agreement(
        found, wanted, detector.classes
    )
    if out:
        out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return results


def assemble(detector: Path, cnn: str, out: Path) -> None:
    """Write the weights of a `RegionEncoder`, for the field encoder_weights of a training run.

    detector: folder of a run of this module, or a file of effdet's own weights.
    cnn: a captioner whose grid encoder to take, by name, folder or card, or a safetensors of
        torchvision's names.
    """
    from safetensors.torch import save

    own = detector.is_dir()
    prefix = "detector." if own else "detector.net."
    tensors = read_weights(detector / "detector.safetensors" if own else detector)
    tensors = {prefix + name: tensor for name, tensor in tensors.items()}
    if cnn.endswith(".safetensors"):
        tensors |= read_weights(Path(cnn))
    else:
        _, encoder, _ = cards.load(find_card(cnn))
        if not isinstance(encoder, GridEncoder | ConcatEncoder):
            raise CaptionBotError(f"{cnn} has no grid encoder; give a captioner with one, or a .safetensors.")
        tensors |= {f"grid.{name}": tensor for name, tensor in encoder.state_dict().items()}
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    out.write_bytes(data)  # `save_file` would let nobody else read it


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser("python -m training.detector", description="A small detector from teachers' boxes.")
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser("label", help="write the boxes of teacher detectors on photos")
    sub.add_argument("--data", required=True, help="folder with photos and captions, for the splits")
    sub.add_argument("--teachers", type=Path, required=True, help="folder of their ONNX files")
    sub.add_argument("--out", type=Path, required=True, help="file of boxes, .jsonl")
    sub.add_argument("--threshold", type=float, default=0.2, help="score from which a box is kept")
    sub = commands.add_parser("train", help="train a detector on boxes")
    sub.add_argument("--config", required=True, help="a name in training/configs/detectors, or a YAML file")
    sub.add_argument("--out", type=Path, required=True, help="folder of the run")
    sub.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    sub.add_argument("--epochs", type=int, help="instead of the configuration's")
    earlier = sub.add_mutually_exclusive_group()
    earlier.add_argument("--resume", action="store_true", help="go on where the run broke off")
    earlier.add_argument(
        "--replace", action="store_true", help="begin anew in a folder that has a run already"
    )
    sub = commands.add_parser("evaluate", help="how far a detector agrees with its teachers")
    sub.add_argument("run", type=Path, help="folder of a run")
    sub.add_argument("--split", default="val", help="whose photos")
    sub.add_argument("--out", type=Path, help="JSON file for the results")
    sub = commands.add_parser("assemble", help="weights of a region encoder, of a detector and a CNN")
    sub.add_argument("--detector", type=Path, required=True, help="folder of a run, or effdet's .pth")
    sub.add_argument("--cnn", required=True, help="a captioner, or torchvision's .safetensors")
    sub.add_argument("--out", type=Path, required=True, help=".safetensors to write")
    given = parser.parse_args(arguments)
    if given.command != "train" and given.out:
        check_outputs([given.out], [])
    if given.command == "label":
        check_shares(given, ["threshold"])
        splits = {e.name: e.split for e in load_dataset(given.data)}
        label_images(
            open_images(given.data), splits, open_teachers(given.teachers), given.threshold, given.out
        )
    elif given.command == "train":
        changes = {} if given.epochs is None else {"epochs": given.epochs}
        config = load_detector_config(given.config, **changes)
        prepare_folder(given.out, given.resume or given.replace)
        Trainer(config, given.out, device_of(given.device)).run(given.resume)
    elif given.command == "evaluate":
        print(json.dumps(evaluate(given.run, given.split, given.out), indent=1))
    else:
        assemble(given.detector, given.cnn, given.out)
    return 0
