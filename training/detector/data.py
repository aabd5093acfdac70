"""Boxes to train a detector with, on photos that nobody drew boxes on: the agreement of teacher detectors.

The teachers are NanoDet-m (github.com/RangiLyu/nanodet) and YOLOX-Nano (arXiv 2107.08430), as ONNX
files of the 80 COCO classes at 416 px, and a Faster R-CNN on FBNetV3 (github.com/facebookresearch/d2go), as
TorchScript. Each looks at a photo, and where asked for at its mirror image, and weighted box fusion (arXiv
1910.13302) makes one set of boxes of all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from captionbot.encoders.regions import COCO_CLASSES, coco_classes
from captionbot.errors import CaptionBotError
from training.data import ImageStore
from training.data.files import read_text

SIDE = 416
LEAST = 0.1  # score from which a teacher says a box
STRIDES = (8, 16, 32)
BINS = 8  # NanoDet speaks of a distance as a distribution over 0..7 strides (arXiv 2006.04388)
MEAN = np.array([103.53, 116.28, 123.675], np.float32)  # BGR
STD = np.array([57.375, 57.12, 58.395], np.float32)


@dataclass(frozen=True)
class Boxes:
    """What was found in one image, best score first.

    boxes: (n, 4) xyxy as fractions of the image, 0..1.
    labels: (n,) int64 places in the detector's list of classes.
    scores: (n,) 0..1.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.boxes)
        if self.boxes.shape != (count, 4) or self.labels.shape != (count,) or self.scores.shape != (count,):
            shapes = f"{self.boxes.shape}, {self.labels.shape} and {self.scores.shape}"
            raise ValueError(f"boxes (n, 4), labels (n,) and scores (n,) do not agree: {shapes}")

    def __len__(self) -> int:
        return len(self.boxes)

    def where(self, chosen: np.ndarray) -> Boxes:
        """Those of a bool mask or of indices."""
        return Boxes(self.boxes[chosen], self.labels[chosen], self.scores[chosen])

    def mirrored(self) -> Boxes:
        x0, y0, x1, y1 = self.boxes.T
        return Boxes(np.stack([1 - x1, y0, 1 - x0, y1], 1), self.labels, self.scores)


Teacher = Callable[[np.ndarray], Boxes]


def open_teachers(folder: Path, names: Sequence[str] = ("yolox", "nanodet")) -> list[Teacher]:
    """Teachers of a folder by name: (416, 416, 3) uint8 RGB -> every box with a score of 0.1."""
    return [TEACHERS[name].open(folder / TEACHERS[name].file) for name in names]


def yolox(path: Path) -> Teacher:
    run = _session(path)

    def find(pixels: np.ndarray) -> Boxes:
        (cells,) = run(pixels[..., ::-1].astype(np.float32))  # (cells, 4 + 1 + 80)
        corners, strides = _cells(0.0)
        centre = (cells[:, :2] + corners) * strides
        half = np.exp(cells[:, 2:4]) * strides / 2
        return _best(np.concatenate([centre - half, centre + half], 1), cells[:, 5:] * cells[:, 4:5])

    return find


def nanodet(path: Path) -> Teacher:
    run = _session(path)

    def find(pixels: np.ndarray) -> Boxes:
        outputs = run((pixels[..., ::-1] - MEAN) / STD)
        scores, bins = np.concatenate(outputs[:3]), np.concatenate(outputs[3:])  # (cells, 80), (cells, 32)
        weights = np.exp(bins.reshape(-1, 4, BINS))
        distances = (weights / weights.sum(-1, keepdims=True)) @ np.arange(BINS)  # left, top, right, bottom
        centres, strides = _cells(0.5)
        boxes = np.concatenate([centres - distances[:, :2], centres + distances[:, 2:]], 1) * strides
        return _best(boxes, scores)

    return find


def faster_rcnn(path: Path) -> Teacher:
    """d2go's, in 8 bits. It shrinks photos to 320 px itself and names classes by COCO's ids, 1 to 90."""
    import torch
    import torchvision  # noqa: F401 (has the operators that the file calls)

    torch.backends.quantized.engine = "qnnpack"  # what its weights are packed for
    net = _opened(path, lambda: torch.jit.load(str(path)).eval())
    places = np.array([COCO_CLASSES.index(name) if name else -1 for name in coco_classes(90)])

    def find(pixels: np.ndarray) -> Boxes:
        image = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).float() / 255
        with torch.inference_mode():
            _, (seen,) = net([image])
        boxes, labels, scores = (seen[key].numpy() for key in ("boxes", "labels", "scores"))
        found = Boxes((boxes / SIDE).clip(0, 1).astype(np.float32), places[labels - 1], scores)
        return found.where(found.scores > LEAST)

    return find


class TeacherFile(NamedTuple):
    """How a teacher is opened, and the file that it is."""

    open: Callable[[Path], Teacher]
    file: str


TEACHERS = {
    "yolox": TeacherFile(yolox, "yolox_nano.onnx"),
    "nanodet": TeacherFile(nanodet, "nanodet_m.onnx"),
    "faster-rcnn": TeacherFile(faster_rcnn, "d2go_faster_rcnn_fbnetv3_int8.torchscript.pt"),
}


def _opened(path: Path, open_file: Callable[[], Any]) -> Any:
    if not path.is_file():
        raise CaptionBotError(f"There is no detector at {path}: give the folder of the teachers' files.")
    try:
        return open_file()
    except Exception as error:  # onnxruntime has an exception of its own for every code
        kind = "TorchScript" if path.suffix == ".pt" else "ONNX"
        raise CaptionBotError(
            f"{path} is no {kind} file that can be read ({error}); fetch it again."
        ) from None


def _session(path: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    """(416, 416, 3) float32 -> the outputs of a network for this one image."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)  # else a page of warnings about how the file was exported
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = _opened(path, lambda: onnxruntime.InferenceSession(path, options))
    name = session.get_inputs()[0].name

    def run(values: np.ndarray) -> list[np.ndarray]:
        values = np.ascontiguousarray(values.transpose(2, 0, 1)[None])
        return [output[0] for output in session.run(None, {name: values})]

    return run


def _cells(offset: float) -> tuple[np.ndarray, np.ndarray]:
    """(cells, 2) x, y of the cells of all strides, in strides, and (cells, 1) their strides in pixels."""
    places, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: SIDE // stride, : SIDE // stride]
        places.append(np.stack([x.ravel(), y.ravel()], 1) + offset)
        strides.append(np.full((x.size, 1), stride))
    return np.concatenate(places), np.concatenate(strides)


def _best(boxes: np.ndarray, scores: np.ndarray, threshold: float = LEAST, overlap: float = 0.6) -> Boxes:
    """(n, 4) in pixels and (n, 80) -> the best class of each, without what overlaps a better one of it."""
    import torch
    from torchvision.ops import batched_nms

    boxes = (boxes / SIDE).clip(0, 1).astype(np.float32)
    found = Boxes(boxes, scores.argmax(1), scores.max(1)).where(scores.max(1) > threshold)
    tensors = (torch.from_numpy(a) for a in (found.boxes, found.scores, found.labels))
    return found.where(batched_nms(*tensors, overlap).numpy())


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n, 4) and (m, 4) xyxy -> (n, m) intersection over union."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (high - low).clip(0).prod(-1)
    area, other = (np.prod(b[:, 2:] - b[:, :2], axis=-1) for b in (boxes, others))
    return shared / (area[:, None] + other - shared).clip(1e-9)


def fuse(opinions: Sequence[Boxes], threshold: float, overlap: float = 0.55) -> Boxes:
    """Weighted box fusion (arXiv 1910.13302, section 3): boxes of one class that overlap become their mean.

    A fused box has its members' mean weighted by their scores, and as score the sum of the best score
    of each opinion over the number of opinions: who does not see a thing votes against it.

    threshold: score under which fused boxes are left out.
    overlap: IoU from which boxes of one class are taken for the same thing.
    """
    boxes, labels, scores = (
        np.concatenate([getattr(o, name) for o in opinions]) for name in ("boxes", "labels", "scores")
    )
    voters = np.repeat(np.arange(len(opinions)), [len(o) for o in opinions])
    clusters: list[list[int]] = []
    means = np.zeros((0, 4))
    for i in np.argsort(-scores, kind="stable"):
        overlaps = iou(means, boxes[i : i + 1])[:, 0] * [labels[c[0]] == labels[i] for c in clusters]
        if len(clusters) and overlaps.max() > overlap:
            j = int(overlaps.argmax())
            clusters[j].append(i)
            means[j] = np.average(boxes[clusters[j]], axis=0, weights=scores[clusters[j]])
        else:
            clusters.append([i])
            means = np.concatenate([means, boxes[i : i + 1]])
    votes = np.zeros((len(clusters), len(opinions)))
    for vote, members in zip(votes, clusters, strict=True):
        np.maximum.at(vote, voters[members], scores[members])
    fused = Boxes(means.astype(np.float32), labels[[c[0] for c in clusters]].astype(int), votes.mean(1))
    order = np.argsort(-fused.scores, kind="stable")
    return fused.where(order[fused.scores[order] >= threshold])


def label(image: Image.Image, teachers: Iterable[Teacher], threshold: float, mirror: bool = True) -> Boxes:
    """What the teachers agree on in one image, squashed to their size; in its mirror image too, if asked."""
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    opinions = []
    for find in teachers:
        opinions += [find(pixels), find(pixels[:, ::-1]).mirrored()] if mirror else [find(pixels)]
    return fuse(opinions, threshold)


class Labelled(NamedTuple):
    """One line of a file of boxes.

    source, repeat: as of `training.data.Example`, which the file does not say.
    """

    image: str
    split: str
    found: Boxes
    source: str = ""
    repeat: float = 1


def write_boxes(path: Path, labelled: Iterable[Labelled], mode: str = "w") -> None:
    """Write, or with mode "a" append, a line of JSON an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open(mode, encoding="utf-8") as lines:
        for image, split, found, *_ in labelled:
            record = {
                "image": image,
                "split": split,
                "boxes": found.boxes.astype(float).round(4).tolist(),
                "labels": found.labels.tolist(),
                "scores": found.scores.astype(float).round(4).tolist(),
            }
            lines.write(json.dumps(record) + "\n")


def read_boxes(path: Path) -> list[Labelled]:
    """The lines of a file of `write_boxes`; one at the end that broke off is left out."""
    if not path.is_file():
        raise CaptionBotError(f"There are no boxes at {path}: make them with training.detector label.")
    labelled = []
    for number, line in enumerate(read_text(path).splitlines(keepends=True), 1):
        if not line.endswith("\n"):
            break
        try:
            record = json.loads(line)
            found = Boxes(
                np.array(record["boxes"], np.float32).reshape(-1, 4),
                np.array(record["labels"], np.int64),
                np.array(record["scores"], np.float32),
            )
            labelled.append(Labelled(record["image"], record["split"], found))
        except (ValueError, KeyError, TypeError) as error:
            raise CaptionBotError(
                f"Line {number} of {path} has no image with split, boxes, labels and scores: {error!r}."
            ) from error
    return labelled


def label_images(
    store: ImageStore,
    splits: Mapping[str, str],
    teachers: Sequence[Teacher],
    threshold: float,
    path: Path,
    mirror: bool = True,
) -> None:
    """Write what the teachers see in each photo of `splits`; a run that broke off goes on where it was."""
    done = read_boxes(path) if path.is_file() else []
    write_boxes(path, done)
    known = {labelled.image for labelled in done}
    rest = [name for name in splits if name not in known]
    labelled = (
        Labelled(name, splits[name], label(store.load(name), teachers, threshold, mirror))
        for name in tqdm(rest, desc="boxes", unit="photo", mininterval=1)
    )
    write_boxes(path, labelled, "a")


def average_precision(
    found: Sequence[Boxes], wanted: Sequence[Boxes], label: int, overlap: float = 0.5
) -> float:
    """Average precision of one class over images: the area under precision against recall.

    Precision is made to fall with recall, as PASCAL VOC does since 2010, and summed at every point.
    NaN where nothing of the class is wanted.

    overlap: IoU from which a found box is right; each wanted one can be found once.
    """
    scores, right, total = [], [], 0
    for f, w in zip(found, wanted, strict=True):
        f, w = f.where(f.labels == label), w.where(w.labels == label)
        total += len(w)
        overlaps = iou(f.boxes, w.boxes)
        for i in np.argsort(-f.scores, kind="stable"):
            best = int(overlaps[i].argmax()) if len(w) else -1
            hit = best >= 0 and overlaps[i, best] >= overlap
            if hit:
                overlaps[:, best] = -1  # taken
            scores.append(f.scores[i])
            right.append(hit)
    if not total:
        return float("nan")
    hits = np.array(right, bool)[np.argsort(-np.array(scores), kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(precision[hits].sum() / total)
