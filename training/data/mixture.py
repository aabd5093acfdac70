"""Several data sets as one: a YAML list that names each, and how much of it an epoch sees.

    - data: ../shared/data/flickr8k
      limit: 3000
    - data: ../shared/data/coco/captions.jsonl
      images: [../shared/data/coco/images-captioned.tar]
      repeat: 2

Paths are as in a configuration: from where the command runs.
"""

from __future__ import annotations

import dataclasses
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

    data, format: as of `load_dataset`. images: folders or tars of its photos; none where they lie with data.
    limit: so many of its training photos, drawn by chance; 0 for all.
    val: the first so many of its val photos; 0 for all.
    repeat: how often an epoch sees each of them.
    name: what scores on its val photos are called by.
    """

    data: str
    format: str = "auto"
    images: tuple[str, ...] = ()
    limit: int = 0
    val: int = 0
    repeat: int = 1
    name: str = ""

    def examples(self) -> list[Example]:
        from training.data.formats import load_dataset  # which reads mixtures too

        examples = load_dataset(self.data, self.format)
        trained = [example for example in examples if example.split == "train"]
        if self.limit:
            np.random.default_rng(0).shuffle(trained)  # type: ignore[arg-type]
            trained = trained[: self.limit]
        val = [example for example in examples if example.split == "val"][: self.val or None]
        return [
            dataclasses.replace(example, source=self.name or Path(self.data).stem, repeat=self.repeat)
            for example in sorted([*trained, *val], key=lambda example: example.name)
        ]

    def store(self) -> ImageStore:
        return ImageStore.joined([open_images(p) for p in self.images or (photos_beside(self.data),)])


def is_mixture(path: str | Path) -> bool:
    return Path(path).name.endswith(SUFFIX)


def read_mixture(path: Path) -> list[Example]:
    """The examples of all data sets, one set after the other."""
    return [example for part in parts(path) for example in part.examples()]


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
    if not isinstance(fields, dict) or "data" not in fields:
        raise CaptionBotError(f"{where} has no `data: PATH`.")
    if unknown := sorted(set(map(str, fields)) - set(hints)):
        raise CaptionBotError(f"{where} has no field '{unknown[0]}'; its fields are {', '.join(hints)}.")
    part = Part(**{name: as_type(f"{where}: {name}", hints[name], value) for name, value in fields.items()})
    if min(part.limit, part.val) < 0 or part.repeat < 1:
        raise CaptionBotError(
            f"{where}: give a limit and a number of val photos of 0 or more, and a repeat of 1 or more."
        )
    return part
