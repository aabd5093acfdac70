"""Several data sets as one: a YAML list that names each, and how much of it an epoch sees.

    - data: ../shared/data/flickr8k
      repeat: 0.25
    - data: ../shared/data/coco/captions.jsonl
      images: [../shared/data/coco/images-captioned.tar]
      repeat: 2
    - images: [../shared/data/coco/images-uncaptioned.tar]

Paths are as in a configuration: from where the command runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import yaml

from captionbot.errors import CaptionBotError
from captionbot.fields import as_type
from training.data import Example, ImageStore, open_images, photos_beside
from training.data.files import read_text

SUFFIX = ".mixture.yaml"


@dataclass(frozen=True)
class Part:
    """One of the data sets.

    data, format: as of `formats.load_dataset`; data is "" for photos without captions, for training.
    images: folders or tars of its photos; none where they lie with data.
    limit: so many of its training photos, drawn by chance; 0 for all.
    val: the first so many of its val photos; 0 for all.
    repeat: how often an epoch sees each of them; of 0.25 it sees a quarter, drawn anew in each epoch.
    name: what scores on its val photos are called by.
    """

    data: str = ""
    format: str = "auto"
    images: tuple[str, ...] = ()
    limit: int = 0
    val: int = 0
    repeat: float = 1
    name: str = ""

    def examples(self, load: Callable[[str, str], list[Example]]) -> list[Example]:
        """load: `formats.load_dataset`, to which a mixture is a format like any other."""
        if self.data:
            examples = load(self.data, self.format)
        else:
            examples = [Example(name, (), "train") for name in self.store().names()]
        trained = [example for example in examples if example.split == "train"]
        if self.limit:
            np.random.default_rng(0).shuffle(trained)  # type: ignore[arg-type]
            trained = trained[: self.limit]
        val = [example for example in examples if example.split == "val"][: self.val or None]
        source = self.data or self.images[0]
        return [
            dataclasses.replace(example, source=self.name or Path(source).stem, repeat=self.repeat)
            for example in sorted([*trained, *val], key=lambda example: example.name)
        ]

    def store(self) -> ImageStore:
        return ImageStore.joined([open_images(p) for p in self.images or (photos_beside(self.data),)])


def is_mixture(path: str | Path) -> bool:
    return Path(path).name.endswith(SUFFIX)


def read_mixture(path: Path, load: Callable[[str, str], list[Example]]) -> list[Example]:
    """The examples of all data sets, one set after the other; load: as of `Part.examples`."""
    return [example for part in parts(path) for example in part.examples(load)]


def mixture_images(path: str | Path) -> ImageStore:
    """The photos of all data sets; CaptionBotError where two of them have one name."""
    return ImageStore.joined([part.store() for part in parts(Path(path))])


def images_of(data: str | Path, images: str | Path | None) -> ImageStore:
    """The photos of a data set, or of all of a mixture; images: where they lie, if not beside it."""
    if is_mixture(data) and not images:
        return mixture_images(data)
    return open_images(images or photos_beside(data))


def parts(path: Path) -> list[Part]:
    try:
        listed = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise CaptionBotError(f"{path} is not YAML ({' '.join(str(error).split())}); mend it.") from None
    if not isinstance(listed, list) or not listed:
        raise CaptionBotError(f"{path} is no mixture; give a YAML list of data sets, each with `data: PATH`.")
    return [_part(fields, f"Data set {number} of {path}") for number, fields in enumerate(listed, 1)]


def _part(fields: Any, where: str) -> Part:
    hints = get_type_hints(Part)
    if not isinstance(fields, dict) or not (fields.get("data") or fields.get("images")):
        raise CaptionBotError(f"{where} has neither `data: PATH` nor `images: [PATH]`.")
    if unknown := sorted(set(map(str, fields)) - set(hints)):
        raise CaptionBotError(f"{where} has no field '{unknown[0]}'; its fields are {', '.join(hints)}.")
    part = Part(**{name: as_type(f"{where}: {name}", hints[name], value) for name, value in fields.items()})
    if min(part.limit, part.val) < 0 or part.repeat <= 0:
        raise CaptionBotError(
            f"{where}: give a limit and a number of val photos of 0 or more, and a repeat above 0."
        )
    return part


def an_epoch(repeats: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Numbers of the images that an epoch sees, each as often as it sees it, shuffled.

    repeats: how often each is seen; of images with 1.25 a quarter, drawn by rng, is seen a second time. Their
        number is the same in every epoch.
    """
    often = np.asarray(repeats, float)
    seen = [np.repeat(np.arange(len(often)), often.astype(int))]
    for repeat in np.unique(often[often % 1 > 0]):
        alike = np.flatnonzero(often == repeat)
        seen.append(rng.choice(alike, round(len(alike) * float(repeat % 1)), replace=False))
    return rng.permutation(np.concatenate(seen))
