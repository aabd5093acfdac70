"""The files of Stanford's CS231n, `coco_captioning.zip`: COCO 2014 as word ids and VGG16 features.

Its captions are of 15 words at most, lower-cased, of 1,000 words; others are `<UNK>`. They are given as
they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from captionbot.errors import CaptionBotError
from training.data import Example
from training.data.files import read_json, read_text

CAPTIONS, VOCABULARY = "coco2014_captions.h5", "coco2014_vocab.json"


@dataclass(frozen=True)
class Cs231nSplit:
    """One split of the files as they are.

    captions: (n, 17) ids of words, `<START>` first, `<END>`, then `<NULL>`.
    image_indices: (n,) the image of each caption: a row of features, names and urls.
    words: by id.
    features: (images, 512) float32, VGG16's fc7 after PCA, or (images, 4096) without; None if not asked for.
    names: file names of the images, of `{split}2014_images.txt`, else the last part of their urls.
    urls: where Flickr had the images.
    """

    captions: np.ndarray
    image_indices: np.ndarray
    words: tuple[str, ...]
    features: np.ndarray | None
    names: tuple[str, ...]
    urls: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.names)
        if self.captions.ndim != 2 or self.image_indices.shape != self.captions.shape[:1]:
            raise ValueError(f"captions {self.captions.shape} and images {self.image_indices.shape} differ")
        if self.captions.size and not 0 <= self.captions.min() <= self.captions.max() < len(self.words):
            raise ValueError(f"a caption has a word that is none of the {len(self.words)}")
        if self.image_indices.size and not 0 <= self.image_indices.min() <= self.image_indices.max() < count:
            raise ValueError(f"a caption is of an image that is none of the {count}")
        if self.features is not None and len(self.features) != count:
            raise ValueError(f"there are features of {len(self.features)} images, and {count} images")

    def text(self, caption: np.ndarray) -> str:
        """The words of one row of captions between `<START>` and `<END>`."""
        words = [self.words[i] for i in caption]
        if "<END>" in words:
            words = words[: words.index("<END>")]
        return " ".join(word for word in words if word not in ("<START>", "<NULL>"))


def load_cs231n(folder: str | Path, split: str = "train", features: str | None = "pca") -> Cs231nSplit:
    """One split of a folder that holds the files of `coco_captioning.zip`.

    split: "train" or "val".
    features: "pca" for 512 numbers an image, "fc7" for 4,096, None for none.
    """
    import h5py

    folder = Path(folder)
    feature_files = {"pca": f"{split}2014_vgg16_fc7_pca.h5", "fc7": f"{split}2014_vgg16_fc7.h5"}
    if split not in ("train", "val") or features not in (*feature_files, None):
        raise CaptionBotError(
            f"CS231n's files have no split '{split}' with features '{features}'; the splits are train and "
            "val, the features pca and fc7."
        )
    try:
        with h5py.File(folder / CAPTIONS) as file:
            captions, images = file[f"{split}_captions"][:], file[f"{split}_image_idxs"][:]
        vectors = None
        if features:
            with h5py.File(folder / feature_files[features]) as file:
                vectors = file["features"][:]
        words: Any = read_json(folder / VOCABULARY)["idx_to_word"]
        urls = _lines(folder / f"{split}2014_urls.txt")
        return Cs231nSplit(captions, images, tuple(words), vectors, image_names(folder, split), urls)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CaptionBotError(
            f"{folder} does not hold CS231n's coco_captioning files as they are published ({error}): "
            "unpack the whole of coco_captioning.zip there."
        ) from error


def read_cs231n(path: Path) -> list[Example]:
    """Examples of both splits in order of name, beside the given `coco2014_captions.h5`."""
    examples = []
    for split in ("train", "val"):
        content = load_cs231n(path.parent, split, features=None)
        captions: dict[int, list[str]] = {}
        for image, caption in zip(content.image_indices.tolist(), content.captions, strict=True):
            captions.setdefault(image, []).append(content.text(caption))
        examples += [Example(content.names[i], tuple(found), split) for i, found in captions.items()]
    return sorted(examples, key=lambda example: example.name)


def image_names(folder: Path, split: str) -> tuple[str, ...]:
    """File names of a split's images in the order of its features."""
    lines = _lines(folder / f"{split}2014_images.txt") or _lines(folder / f"{split}2014_urls.txt")
    return tuple(PurePosixPath(line).name for line in lines)


def _lines(path: Path) -> tuple[str, ...]:
    """The lines of a file, none where it is missing."""
    return tuple(read_text(path).split()) if path.is_file() else ()
