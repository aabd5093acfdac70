"""Visual Genome (arXiv 1602.07332) as dataframes, and as boxes for a detector.

`python -m training.data.visual_genome FOLDER --vocabulary DIR --out FILE.jsonl` reads `attributes.json` or
`objects.json`, and `image_data.json`. The 1,600 objects and 400 attributes are those of bottom-up attention
(arXiv 1707.07998, section 3.1): files with a class a line, its synonyms behind commas. A captioner learns
from `region_descriptions.json` as it is: formats visual-genome and visual-genome-joined.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from captionbot.cli.commands import Parser, command
from captionbot.errors import CaptionBotError
from training.data.files import read_json, read_text, split_by_name
from training.detector.data import Boxes, Labelled, write_boxes

if TYPE_CHECKING:
    import pandas as pd

BOX = ["x0", "y0", "x1", "y1"]


def read_vocabulary(path: Path) -> dict[str, int]:
    """Each synonym of a file of classes and the number of its class, from 0."""
    return {
        synonym.strip().lower(): number
        for number, line in enumerate(read_text(path).split("\n"))
        for synonym in line.split(",")
        if synonym.strip()
    }


def read_objects(path: Path, objects: dict[str, int], attributes: dict[str, int]) -> pd.DataFrame:
    """One row an object of `attributes.json`, or of `objects.json`, which has no attributes.

    image_id, object_id, name (the first that is a class, else the first of all), object_class (the
    number of classes, 1,600 in the paper's list, stands for any other thing), attribute_classes (a tuple
    of numbers without repeats), and the box x0, y0, x1, y1 in pixels of the image.
    """
    other = max(objects.values()) + 1

    def rows() -> Iterator[tuple[Any, ...]]:
        for image in _images(path):
            for thing in image["attributes"] if "attributes" in image else image["objects"]:
                names = [" ".join(name.lower().split()) for name in thing["names"]]
                name = next((n for n in names if n in objects), names[0])
                said = (" ".join(a.lower().split()) for a in thing.get("attributes") or ())
                known = dict.fromkeys(attributes[a] for a in said if a in attributes)
                yield (
                    image["image_id"],
                    thing["object_id"],
                    name,
                    objects.get(name, other),
                    tuple(known),
                    *_corners(thing, "w", "h"),
                )

    columns = ["image_id", "object_id", "name", "object_class", "attribute_classes", *BOX]
    return _frame(rows(), columns, path, "attributes.json or objects.json")


def read_phrases(path: Path) -> pd.DataFrame:
    """One row a region of `region_descriptions.json`: image_id, region_id, phrase and the box in pixels."""
    rows = (
        (image["id"], region["region_id"], " ".join(region["phrase"].split()), *_corners(region))
        for image in _images(path)
        for region in image["regions"]
    )
    return _frame(rows, ["image_id", "region_id", "phrase", *BOX], path, "region_descriptions.json")


def read_sizes(path: Path) -> pd.DataFrame:
    """One row an image of `image_data.json`: image_id, width and height in pixels."""
    rows = ((image["image_id"], image["width"], image["height"]) for image in _images(path))
    return _frame(rows, ["image_id", "width", "height"], path, "image_data.json")


def detector_boxes(objects: pd.DataFrame, sizes: pd.DataFrame, classes: int) -> list[Labelled]:
    """What a detector learns from, an image each, splits by name.

    classes: outputs of the detector; with one more than the vocabulary has, all other things are its last
        class, as in detectors of 1,601 outputs; otherwise they are left out.
    """
    rows = objects[objects["object_class"] < classes].merge(sizes, on="image_id", validate="many_to_one")
    boxes = (rows[BOX].to_numpy() / rows[["width", "height", "width", "height"]].to_numpy()).clip(0, 1)
    real = (boxes[:, 2:] > boxes[:, :2]).all(1)
    rows, boxes = rows[real], boxes[real].astype(np.float32)
    labels = rows["object_class"].to_numpy(np.int64)
    images = {_file(image): own for image, own in rows.groupby("image_id").indices.items()}
    splits = split_by_name(images)
    labelled = []
    for name, own in images.items():
        found = Boxes(boxes[own], labels[own], np.ones(len(own), np.float32))
        labelled.append(Labelled(name, splits[name], found))
    return labelled


def _file(image_id: int) -> str:
    return f"{image_id}.jpg"


def _corners(thing: dict[str, Any], width: str = "width", height: str = "height") -> tuple[float, ...]:
    x, y = thing["x"], thing["y"]
    return x, y, x + thing[width], y + thing[height]


def _images(path: Path) -> list[dict[str, Any]]:
    images = read_json(path)
    if not isinstance(images, list):
        raise CaptionBotError(f"{path} is not a file of Visual Genome, which are lists of images.")
    return images


def _frame(rows: Iterable[tuple[Any, ...]], columns: Sequence[str], path: Path, form: str) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.DataFrame(list(rows), columns=list(columns))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise CaptionBotError(f"{path} is not in the form of Visual Genome's {form}: {error!r}.") from error


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(
        "python -m training.data.visual_genome",
        description="Visual Genome (arXiv 1602.07332) as dataframes, and as boxes for a detector.",
    )
    parser.add_argument("folder", type=Path, help="with the JSON files of Visual Genome")
    parser.add_argument(
        "--vocabulary", type=Path, required=True, help="folder of objects_vocab.txt, attributes_vocab.txt"
    )
    parser.add_argument("--out", type=Path, required=True, help="file of boxes, .jsonl")
    parser.add_argument(
        "--other", action="store_true", help="a last class for all that is not in the vocabulary"
    )
    given = parser.parse_args(arguments)
    prepare(given.folder, given.vocabulary, given.out, given.other)
    return 0


def prepare(folder: Path, vocabulary: Path, out: Path, other: bool = False) -> None:
    """Write the file of boxes that training.detector.train learns from."""
    objects, attributes = (read_vocabulary(vocabulary / f"{n}_vocab.txt") for n in ("objects", "attributes"))
    path = next((p for p in (folder / "attributes.json", folder / "objects.json") if p.is_file()), None)
    if path is None:
        raise CaptionBotError(f"There is no attributes.json or objects.json of Visual Genome in {folder}.")
    frame = read_objects(path, objects, attributes)
    classes = max(objects.values()) + 1 + other
    boxes = detector_boxes(frame, read_sizes(folder / "image_data.json"), classes)
    write_boxes(out, boxes)


if __name__ == "__main__":
    sys.exit(main())
