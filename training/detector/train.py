"""A small detector from teachers' boxes: `python -m training.detector label | train | evaluate | ...`.

label: boxes of teacher detectors on photos. train: an EfficientDet of effdet on them, or what it has behind
its CNN, on the frozen maps of a captioner's. evaluate: how far it, or the detector of a captioner, agrees
with the teachers. assemble: one file of weights for an encoder of the kind `regions`, out of a detector (this
one, or an official one of effdet) and the CNN of a captioner. install: a captioner of regions with this
detector in the place of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from captionbot.cli.commands import Parser, command
from captionbot.decoders import Decoder
from captionbot.encoders.concat import ConcatEncoder
from captionbot.encoders.grid import GridEncoder
from captionbot.encoders.regions import Detections, Detector, RegionEncoder, RegionsConfig
from captionbot.errors import CaptionBotError
from captionbot.fields import set_types
from captionbot.images.load import Preprocessing, squash
from captionbot.store import card as cards
from captionbot.store.registry import find_card
from training.data import ImageStore, open_images
from training.data.formats import load_dataset
from training.data.mixture import an_epoch, images_of
from training.detector.data import (
    TEACHERS,
    Boxes,
    Labelled,
    average_precision,
    label_images,
    open_teachers,
    read_boxes,
)
from training.detector.inputs import Inputs, Maps, Photos
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
from training.run.features import BATCH, autocast, normalise

CONFIGS = Path(__file__).parents[1] / "configs" / "detectors"
LEAST_SCORE = 0.05  # of boxes that are looked at when a detector is judged
COMMON = 50  # boxes that a class needs for its own line in a report


@dataclass(frozen=True)
class DetectorConfig:
    """A training run of a detector.

    detector, detector_options, detector_cnn, detector_layers: as in
        `captionbot.encoders.regions.RegionsConfig`.
    captioner: name or card of the captioner whose CNN, which stays as it is, the detector looks through; ""
        for a detector with a CNN of its own.
    classes: file with a class a line, synonyms behind commas; "" for COCO's.
    init: folder of a run, or captioner of regions by name or card, whose detector's weights to begin with; ""
        for random ones.
    data: data set or mixture of the photos, which says their splits and how often an epoch sees each; "" for
        all that are in boxes.
    images: folders or tars of the photos, where they do not lie with data.
    boxes: files of training.detector.data.write_boxes.
    mirror: learn from mirror images too.
    threshold: score under which boxes are not believed.
    backbone_weights: safetensors of torchvision's MobileNetV2, to start from; "" for random ones.
    frozen_blocks: stages of the backbone, from the first, that do not learn; their batch norms never do.
    epochs, batch_size, learning_rate, backbone_learning_rate, warmup_steps: AdamW, cosine to zero.
    ema: decay of the moving average of the weights, which is what is kept.
    """

    detector: str = "tf_efficientdet_d1"
    detector_options: dict[str, Any] = field(default_factory=dict)
    captioner: str = ""
    detector_cnn: str = ""
    detector_layers: tuple[str, ...] = ()
    classes: str = ""
    init: str = ""
    data: str = ""
    images: tuple[str, ...] = ()
    boxes: tuple[str, ...] = ()
    mirror: bool = True
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
        if bool(self.captioner) != bool(self.detector_cnn and self.detector_layers):
            raise CaptionBotError(
                "A detector that looks through a captioner's CNN needs captioner, detector_cnn and "
                "detector_layers; give all three, or none."
            )
        others = ("frozen_blocks", "learning_rate", "backbone_learning_rate", "weight_decay", "clip", "seed")
        check_least(self, positive | dict.fromkeys(others, 0))
        check_shares(self, ("threshold", "ema"))
        if self.amp not in ABOUT["amp"].choices:
            raise CaptionBotError(f"amp is '{self.amp}'; choose one of {', '.join(ABOUT['amp'].choices)}.")


def load_detector_config(name_or_file: str, **overrides: Any) -> DetectorConfig:
    """A configuration by its name in `training/configs/detectors`, or from a YAML file."""
    _, values = read_config(DetectorConfig, CONFIGS, name_or_file)
    values |= {name: [values[name]] for name in ("images", "boxes") if isinstance(values.get(name), str)}
    return DetectorConfig(**{**values, **overrides})


def build_detector(config: DetectorConfig) -> Detector:
    """An untrained one that has a CNN of its own."""
    return Detector(config.detector, config.detector_options, _classes(config))


def build_encoder(config: DetectorConfig) -> tuple[Preprocessing, RegionEncoder]:
    """An untrained detector in an encoder with the captioner's CNNs, and how these take photos."""
    card, encoder, _ = cards.load(find_card(config.captioner))
    preprocessing, grid = Preprocessing.from_json(card.preprocessing), grid_of(encoder, config.captioner)
    cnn = {"cnns": dataclasses.asdict(grid.config)}
    if isinstance(grid, GridEncoder):
        cnn = {"architecture": grid.config.architecture, "layer": grid.config.layer}
    regions = RegionsConfig(**detector_fields(config), **cnn, mean=preprocessing.mean, std=preprocessing.std)  # type: ignore[arg-type]
    return preprocessing, RegionEncoder(regions, {f"grid.{k}": t for k, t in grid.state_dict().items()})


def detector_fields(config: DetectorConfig) -> dict[str, Any]:
    """What the configuration of an encoder says of its detector."""
    names = ("detector", "detector_options", "detector_cnn", "detector_layers")
    return {name: getattr(config, name) for name in names} | {"classes": _classes(config)}


def grid_of(encoder: nn.Module, name: str) -> GridEncoder | ConcatEncoder:
    """The CNN, or CNNs, of a captioner's encoder."""
    grid = getattr(encoder, "grid", encoder)
    if not isinstance(grid, GridEncoder | ConcatEncoder):
        raise CaptionBotError(f"{name} has no grid encoder; give a captioner with one.")
    return grid


def _classes(config: DetectorConfig) -> tuple[str, ...] | None:
    classes = read_classes(Path(config.classes)) if config.classes else None
    if classes and config.detector_options.get("num_classes") == len(classes) + 1:
        classes = (*classes, "other")
    return classes


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
        labelled = read_all_boxes(config)
        self.boxes = [b for b in labelled if b.split == "train"]
        photos = len(self._epoch(0))
        self.steps_an_epoch = photos // config.batch_size
        if not self.steps_an_epoch:
            raise CaptionBotError(
                f"batch_size is {config.batch_size}, and an epoch of {', '.join(config.boxes)} has "
                f"{photos} photos of the split train; give no more than that, or label more."
            )
        self.detector, self.inputs = open_detector(config, [b.image for b in labelled], device)
        if config.init:
            start_from(self.detector, config.init)
        rates = [(self.detector.net, config.learning_rate)]
        if not config.captioner:
            rates.insert(0, (self._backbone(), config.backbone_learning_rate))
        self.average = AveragedModel(self.detector, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
        effdet_config = self.detector.net.config
        anchors = Anchors.from_config(effdet_config).to(device)
        self.labeler = AnchorLabeler(anchors, effdet_config.num_classes)
        self.loss = DetectionLoss(effdet_config)
        groups, seen = [], set()
        for module, rate in rates:
            parameters = [p for p in module.parameters() if p.requires_grad and p not in seen]
            seen.update(parameters)
            groups.append({"params": parameters, "lr": rate, "peak": rate})
        self.optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
        self.steps = config.epochs * self.steps_an_epoch
        self.step = 0

    def _backbone(self) -> nn.Module:
        """Its own CNN, with weights to start from and the first stages frozen."""
        backbone, config = self.detector.net.backbone, self.config
        if config.backbone_weights:
            load_backbone(self.detector, Path(config.backbone_weights))
        if config.frozen_blocks:
            for module in [backbone.conv_stem, backbone.bn1, *backbone.blocks[: config.frozen_blocks]]:
                module.requires_grad_(False)
        return backbone

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
        """Numbers of the photos of every step that is left."""
        size = self.config.batch_size
        while self.step < self.steps:
            epoch, first = divmod(self.step, self.steps_an_epoch)
            order = self._epoch(epoch)
            for step in range(first, self.steps_an_epoch):
                yield order[step * size : (step + 1) * size]

    def _epoch(self, number: int) -> np.ndarray:
        """Numbers of the photos of an epoch, in an order that depends on its number."""
        return an_epoch([b.repeat for b in self.boxes], np.random.default_rng([self.config.seed, number]))

    def _update(self, images: np.ndarray) -> float:
        config, detector = self.config, self.detector
        detector.train()
        for module in self._own_norms():
            module.eval()
        chosen = [self.boxes[i] for i in np.sort(images)]
        rng = np.random.default_rng([config.seed, self.step])
        mirrored = (rng.random(len(chosen)) < 0.5) & config.mirror
        found = [b.found.mirrored() if m else b.found for b, m in zip(chosen, mirrored, strict=True)]
        targets = self.labeler.batch_label_anchors(*self._wanted(found))
        with autocast(self.device, config.amp):
            outputs = detector.levels(self.inputs([b.image for b in chosen], mirrored))
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

    def _own_norms(self) -> list[nn.Module]:
        """The batch norms of its own CNN, whose statistics stay."""
        backbone = getattr(self.detector.net, "backbone", nn.Identity())
        return [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]

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


def label_photos(given: argparse.Namespace) -> None:
    """The command `label`."""
    check_shares(given, ["threshold"])
    splits = {example.name: example.split for example in load_dataset(given.data)}
    store = images_of(given.data, given.images)
    teachers = open_teachers(given.teachers, given.use)
    label_images(store, splits, teachers, given.threshold, given.out, not given.no_mirror)


def read_all_boxes(config: DetectorConfig) -> list[Labelled]:
    """The boxes of all files of a configuration, of the photos of its data set where it names one."""
    labelled = [labelled for path in config.boxes for labelled in read_boxes(Path(path))]
    if not config.data:
        return labelled
    known, examples = {b.image: b for b in labelled}, load_dataset(config.data)
    if missing := [example.name for example in examples if example.name not in known]:
        raise CaptionBotError(
            f"{len(missing)} of the {len(examples)} photos of {config.data} have no boxes in "
            f"{', '.join(config.boxes)}, such as {missing[0]}; label them with training.detector label."
        )
    return [known[e.name]._replace(split=e.split, source=e.source, repeat=e.repeat) for e in examples]


def open_store(config: DetectorConfig) -> ImageStore:
    if config.images:
        return ImageStore.joined([open_images(path) for path in config.images])
    return images_of(config.data, None)


def open_detector(
    config: DetectorConfig, names: Sequence[str], device: torch.device
) -> tuple[Detector, Inputs]:
    """An untrained detector, and what it is given of the photos of these names."""
    store, cache = open_store(config), Path(config.cache)
    if config.captioner:
        preprocessing, encoder = build_encoder(config)
        inputs = Maps(encoder, preprocessing, store, names, config.mirror, cache, device)
        return encoder.detector.to(device, memory_format=torch.channels_last), inputs  # type: ignore[call-overload]
    detector = build_detector(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return detector, Photos(store, names, detector.size, cache, device)


def load_run_config(run: Path) -> DetectorConfig:
    """The configuration of a run."""
    if not (run / "detector.json").is_file():
        raise CaptionBotError(f"{run} is no run of training.detector train: it has no detector.json.")
    return load_detector_config(str(run / "detector.json"))


def load_weights(detector: Detector, run: Path) -> None:
    """Give a detector the weights of a run, and set it to evaluation mode."""
    try:
        detector.load_state_dict(read_weights(run / "detector.safetensors"))
    except RuntimeError:
        raise CaptionBotError(
            f"{run} has weights of another detector than its detector.json describes; train it again."
        ) from None
    detector.eval().requires_grad_(False)


def start_from(detector: Detector, init: str) -> None:
    """Give a detector that is to be trained the weights of a run, or of a captioner of regions."""
    weights = Path(init) / "detector.safetensors"
    given = read_weights(weights) if weights.is_file() else load_regions(init)[1].detector.state_dict()
    try:
        detector.load_state_dict(given)
    except RuntimeError:
        raise CaptionBotError(
            f"The detector of {init} is built differently from the one to be trained; give one of the same "
            "configuration."
        ) from None


def load_regions(captioner: str) -> tuple[cards.Card, RegionEncoder, Decoder]:
    """A captioner that has a detector, by name or card."""
    card, encoder, decoder = cards.load(find_card(captioner))
    if not isinstance(encoder, RegionEncoder):
        raise CaptionBotError(f"{captioner} has no detector; give a captioner of the family top-down.")
    return card, encoder, decoder


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


def evaluate(run: Path, split: str, out: Path | None, captioner: str = "") -> dict[str, Any]:
    """captioner: one of regions, whose detector is looked at in the place of the run's; "" for none."""
    config = load_run_config(run)
    boxes = [b for b in read_all_boxes(config) if b.split == split]
    wanted = [b.found.where(b.found.scores >= config.threshold) for b in boxes]
    if not any(map(len, wanted)):
        raise CaptionBotError(
            f"{', '.join(config.boxes)} has no boxes with a score of {config.threshold} of the split "
            f"'{split}'; label its photos first."
        )
    names = [b.image for b in boxes]
    if captioner:
        find, classes = finder(captioner, config)
    else:
        find, classes = run_finder(run, config)
    start = time.perf_counter()
    with torch.inference_mode():
        batches = (names[i : i + BATCH] for i in range(0, len(names), BATCH))
        found = [Boxes(*(t.numpy() for t in f)) for batch in batches for f in find(batch)]
    seconds = time.perf_counter() - start
    results = {"split": split, "images_per_second": len(boxes) / seconds} | agreement(found, wanted, classes)
    sources = dict.fromkeys(b.source for b, w in zip(boxes, wanted, strict=True) if len(w))
    if len(sources) > 1:
        results["by data set"] = {
            source: agreement(
                [f for f, b in zip(found, boxes, strict=True) if b.source == source],
                [w for w, b in zip(wanted, boxes, strict=True) if b.source == source],
                classes,
            )
            for source in sources
        }
    if out:
        out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return results


Finder = Callable[[Sequence[str]], list[Detections]]


def run_finder(run: Path, config: DetectorConfig) -> tuple[Finder, tuple[str, ...]]:
    """What finds boxes in photos of a run by their names, and the names of its classes."""
    detector, inputs = open_detector(config, [b.image for b in read_all_boxes(config)], torch.device("cpu"))
    load_weights(detector, run)

    def find(names: Sequence[str]) -> list[Detections]:
        found: list[Detections] = detector(inputs(names, np.zeros(len(names), bool)), LEAST_SCORE)
        return found

    return find, detector.classes


def finder(captioner: str, config: DetectorConfig) -> tuple[Finder, tuple[str, ...]]:
    """What a captioner's detector finds in photos, and the names of its classes."""
    card, encoder, _ = load_regions(captioner)
    encoder.config = dataclasses.replace(encoder.config, threshold=LEAST_SCORE)
    store, preprocessing = open_store(config), Preprocessing.from_json(card.preprocessing)

    def find(names: Sequence[str]) -> list[Detections]:
        photos = np.stack([squash(store.load(name), preprocessing) for name in names])
        return encoder.find(normalise(photos, preprocessing, torch.device("cpu")))

    return find, encoder.detector.classes


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
        tensors |= {f"grid.{name}": tensor for name, tensor in grid_of(encoder, cnn).state_dict().items()}
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    out.write_bytes(data)  # `save_file` would let nobody else read it


def install(run: Path, captioner: str, out: Path, threshold: float | None = None) -> Path:
    """Write a captioner of regions with the detector of a run in the place of its own; its card.

    Its decoder stays as it is. What its card says of how good it is, and of when its captions are right, is
    left out.

    threshold: score from which a box counts; None for the captioner's.
    """
    config = load_run_config(run)
    card, encoder, decoder = load_regions(captioner)
    changed = dataclasses.replace(encoder.config, **detector_fields(config))
    if threshold is not None:
        changed = dataclasses.replace(changed, threshold=threshold)
    tensors = {f"grid.{name}": tensor for name, tensor in encoder.grid.state_dict().items()}
    tensors |= {f"detector.{k}": t for k, t in read_weights(run / "detector.safetensors").items()}
    regions = RegionEncoder(changed, tensors)
    new = dataclasses.replace(
        card,
        encoder={"kind": "regions", **dataclasses.asdict(changed)},
        training=card.training | {"detector": dataclasses.asdict(config)},
        scores={},
        confidence={},
        default=False,
    )
    return cards.save(out, new, regions, decoder)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser("python -m training.detector", description="A small detector from teachers' boxes.")
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser("label", help="write the boxes of teacher detectors on photos")
    sub.add_argument("--data", required=True, help="a data set, or a mixture of several and of photos alone")
    sub.add_argument("--images", help="folder or tar of its photos; where they lie with it, nothing")
    sub.add_argument("--teachers", type=Path, required=True, help="folder of their files")
    sub.add_argument(
        "--use", nargs="+", choices=TEACHERS, default=["yolox", "nanodet"], help="which teachers"
    )
    sub.add_argument(
        "--no-mirror", action="store_true", help="do not let them see mirror images, in half the time"
    )
    sub.add_argument("--out", type=Path, required=True, help="file of boxes, .jsonl")
    sub.add_argument("--threshold", type=float, default=0.2, help="score from which a box is kept")
    sub = commands.add_parser("train", help="train a detector on boxes")
    sub.add_argument("--config", required=True, help="a name in training/configs/detectors, or a YAML file")
    sub.add_argument("--out", type=Path, required=True, help="folder of the run")
    sub.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    instead = sub.add_argument_group("instead of the configuration's")
    instead.add_argument("--init", metavar="RUN", help="run or captioner whose detector to begin with")
    instead.add_argument("--data", help="data set or mixture of the photos")
    instead.add_argument(
        "--mirror", action=argparse.BooleanOptionalAction, help="learn from mirror images too"
    )
    instead.add_argument("--epochs", type=int, help="over which the learning rate falls to zero")
    instead.add_argument("--learning-rate", type=float, help="at its peak")
    instead.add_argument("--ema", type=float, help="decay of the moving average of the weights")
    earlier = sub.add_mutually_exclusive_group()
    earlier.add_argument("--resume", action="store_true", help="go on where the run broke off")
    earlier.add_argument(
        "--replace", action="store_true", help="begin anew in a folder that has a run already"
    )
    sub = commands.add_parser("evaluate", help="how far a detector agrees with its teachers")
    sub.add_argument("run", type=Path, help="folder of a run")
    sub.add_argument("--split", default="val", help="whose photos")
    sub.add_argument(
        "--captioner", default="", help="look at the detector of this captioner of regions instead"
    )
    sub.add_argument("--out", type=Path, help="JSON file for the results")
    sub = commands.add_parser("assemble", help="weights of a region encoder, of a detector and a CNN")
    sub.add_argument("--detector", type=Path, required=True, help="folder of a run, or effdet's .pth")
    sub.add_argument("--cnn", required=True, help="a captioner, or torchvision's .safetensors")
    sub.add_argument("--out", type=Path, required=True, help=".safetensors to write")
    sub = commands.add_parser("install", help="put a detector in the place of a captioner's own")
    sub.add_argument("run", type=Path, help="folder of a run")
    sub.add_argument("captioner", help="one of the family top-down, by name, folder or card")
    sub.add_argument("--out", type=Path, required=True, help="folder for the captioner")
    sub.add_argument("--threshold", type=float, help="score from which a box counts (default: as before)")
    given = parser.parse_args(arguments)
    if given.command not in ("train", "install") and given.out:
        check_outputs([given.out], [])
    if given.command == "label":
        label_photos(given)
    elif given.command == "train":
        names = ("init", "data", "mirror", "epochs", "learning_rate", "ema")
        changes = {name: value for name in names if (value := getattr(given, name)) is not None}
        config = load_detector_config(given.config, **changes)
        prepare_folder(given.out, given.resume or given.replace)
        Trainer(config, given.out, device_of(given.device)).run(given.resume)
    elif given.command == "evaluate":
        print(json.dumps(evaluate(given.run, given.split, given.out, given.captioner), indent=1))
    elif given.command == "install":
        if given.threshold is not None:
            check_shares(given, ["threshold"])
        prepare_folder(given.out, used=True)
        print(install(given.run, given.captioner, given.out, given.threshold))
    else:
        assemble(given.detector, given.cnn, given.out)
    return 0
