"""Data sets from where their authors keep them: `python -m training.data download NAME`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from captionbot.errors import CaptionBotError
from captionbot.files import aside
from captionbot.images.archives import Member, is_archive, members
from captionbot.store.downloads import DELAYS, Progress, download_file


@dataclass(frozen=True)
class Remote:
    """One file of a data set. Its size is the server's to tell, see `announced_size`.

    photos: whether it holds photos, which `--captions-only` leaves out.
    members: names of the files of the archive that are wanted; none stands for all.
    sha256: in hex, or empty where none is published.
    """

    url: str
    photos: bool = False
    members: tuple[str, ...] = ()
    sha256: str = ""

    @property
    def name(self) -> str:
        return PurePosixPath(urlsplit(self.url).path).name


@dataclass(frozen=True)
class Dataset:
    """What `download` fetches by one name.

    title: what it is, with its splits.
    licence: what its authors allow.
    source: the page of the data set.
    note: what else a person should know or do, perhaps nothing.
    """

    title: str
    licence: str
    source: str
    files: tuple[Remote, ...]
    note: str = ""


_KARPATHY = "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"
_COCO = "http://images.cocodataset.org"  # its https has no certificate of its own
_COCO_2014_PHOTOS = tuple(Remote(f"{_COCO}/zips/{name}2014.zip", photos=True) for name in ("train", "val"))
_FLICKR8K = "https://github.com/jbrownlee/Datasets/releases/download/Flickr8k"
_GENOME = "http://visualgenome.org/static/data/dataset"
_GENOME_PHOTOS = "https://cs.stanford.edu/people/rak248/VG_100K_2"

_FLICKR_LICENCE = "photos under Flickr's terms, for non-commercial research and education only"
_COCO_LICENCE = "annotations CC BY 4.0, each photo under its own licence at Flickr"

DATASETS = {
    "flickr8k": Dataset(
        "Flickr8k: photos with 5 captions each; 6,000 train, 1,000 val, 1,000 test",
        _FLICKR_LICENCE,
        "https://hockenmaier.cs.illinois.edu/8k-pictures.html",
        (Remote(f"{_FLICKR8K}/Flickr8k_text.zip"), Remote(f"{_FLICKR8K}/Flickr8k_Dataset.zip", photos=True)),
    ),
    "flickr30k": Dataset(
        "Flickr30k: captions in Karpathy's split, 29,000 train, 1,014 val, 1,000 test",
        _FLICKR_LICENCE,
        "https://shannon.cs.illinois.edu/DenotationGraph/",
        (Remote(_KARPATHY, members=("dataset_flickr30k.json",)),),
        "Its authors give the photos to those who fill in the form on that page; put them there too.",
    ),
    "coco2014": Dataset(
        "COCO 2014: photos with 5 captions each; 82,783 train, 40,504 val",
        _COCO_LICENCE,
        "https://cocodataset.org",
        (Remote(f"{_COCO}/annotations/annotations_trainval2014.zip"), *_COCO_2014_PHOTOS),
    ),
    "coco2017": Dataset(
        "COCO 2017: photos with 5 captions each; 118,287 train, 5,000 val, which is not Karpathy's split",
        _COCO_LICENCE,
        "https://cocodataset.org",
        (
            Remote(f"{_COCO}/annotations/annotations_trainval2017.zip"),
            Remote(f"{_COCO}/zips/train2017.zip", photos=True),
            Remote(f"{_COCO}/zips/val2017.zip", photos=True),
        ),
    ),
    "coco-karpathy": Dataset(
        "COCO 2014 in Karpathy's split: 113,287 train, 5,000 val, 5,000 test",
        _COCO_LICENCE,
        "https://cs.stanford.edu/people/karpathy/deepimagesent/",
        (Remote(_KARPATHY, members=("dataset_coco.json",)), *_COCO_2014_PHOTOS),
    ),
    "visual-genome": Dataset(
        "Visual Genome: 108,077 photos with descriptions of regions, objects and attributes; no splits",
        "CC BY 4.0",
        "https://homes.cs.washington.edu/~ranjay/visualgenome/",
        (
            Remote(f"{_GENOME}/region_descriptions.json.zip"),
            Remote(f"{_GENOME}/objects.json.zip"),
            Remote(f"{_GENOME}/attributes.json.zip"),
            Remote(f"{_GENOME}/image_data.json.zip"),
            Remote(f"{_GENOME_PHOTOS}/images.zip", photos=True),
            Remote(f"{_GENOME_PHOTOS}/images2.zip", photos=True),
        ),
    ),
    "coco-captioning": Dataset(
        "CS231n's COCO 2014: captions as word ids, VGG16 features, no photos; 82,783 train, 40,504 val",
        _COCO_LICENCE,
        "https://cs231n.github.io",
        (Remote("http://cs231n.stanford.edu/coco_captioning.zip"),),
    ),
}


def find_dataset(name: str) -> Dataset:
    if name not in DATASETS:
        raise CaptionBotError(
            f"There is no data set '{name}' to download; choose one of {', '.join(DATASETS)}."
        )
    return DATASETS[name]


def announced_size(remote: Remote, folder: Path) -> int | None:
    """Bytes that are still to come, as the server tells, None where it does not; 0 for what is there."""
    import requests

    if (folder / remote.name).is_file():
        return 0
    try:
        with requests.get(
            remote.url, stream=True, timeout=20, headers={"Accept-Encoding": "identity"}
        ) as answer:
            answer.raise_for_status()
            length = answer.headers.get("Content-Length", "")
    except requests.RequestException as error:
        raise CaptionBotError(
            f"{remote.url} does not answer ({type(error).__name__}): check the network, or ask again later."
        ) from error
    return int(length) if length.isdigit() else None


def describe(dataset: Dataset, sizes: Mapping[Remote, int | None], folder: Path) -> str:
    """What is about to happen, for a person to agree to. sizes: as of `announced_size`."""
    lines = [dataset.title, f"Licence: {dataset.licence}; see {dataset.source}"]
    for remote, size in sizes.items():
        told = "size unknown" if size is None else f"{size / 1e6:,.1f} MB" if size else "is there"
        lines.append(f"{told:>14}  {remote.url}")
    total = sum(size or 0 for size in sizes.values())
    lines.append(f"{total / 1e6:>11,.1f} MB  in all to {folder}, and about as much again once unpacked")
    if not all(remote.sha256 for remote in sizes):
        lines.append("No hashes are published: lengths and the archives' own checksums are verified.")
    return "\n".join([*lines, dataset.note] if dataset.note else lines)


def download_dataset(
    sizes: Mapping[Remote, int | None],
    folder: Path,
    progress: Progress | None = None,
    delays: Sequence[float] = DELAYS,
) -> list[Path]:
    """What the remote files hold, in the folder, downloaded as of `download_file` and unpacked.

    sizes: as of `announced_size`; nothing begins unless the disk has room for all.
    Raises CaptionBotError, whatever went wrong; the next call goes on where this one stopped.
    """
    _check_room(folder, sum(size or 0 for size in sizes.values()))
    paths: list[Path] = []
    for remote in sizes:
        path = download_file(
            remote.url, folder / remote.name, digest=remote.sha256, progress=progress, delays=delays
        )
        paths += unpack(path, folder, remote.members) if is_archive(path) else [path]
    return paths


def unpack(archive: Path, folder: Path, wanted: Sequence[str] = ()) -> list[Path]:
    """The files of an archive under a folder; those that are there at their full size are left as they are.

    A file appears under its name once it is whole, and never outside the folder: an archive with a name
    that leads out is refused as a whole.
    wanted: names of the files to unpack, wherever in the archive; none stands for all.
    """
    with _disk_errors(folder):
        targets = {
            path: member.size for member in members(archive) if (path := _target(member, folder, wanted))
        }
        missing = {
            path for path, size in targets.items() if not (path.is_file() and path.stat().st_size == size)
        }
        _check_room(folder, sum(targets[path] for path in missing))
        for member in members(archive):
            path = _target(member, folder, wanted)
            if path in missing:
                path.parent.mkdir(parents=True, exist_ok=True)
                with aside(path) as partial, partial.open("wb") as file:
                    file.writelines(member.pieces())
    return list(targets)


def _target(member: Member, folder: Path, wanted: Sequence[str]) -> Path | None:
    """Where a member goes, None for what is not wanted and for what macOS adds."""
    path = PurePosixPath(member.name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or any(":" in part for part in path.parts):
        raise CaptionBotError(f"{member} would be written outside of {folder}: do not trust this archive.")
    if "__MACOSX" in path.parts or path.name.startswith("._") or (wanted and path.name not in wanted):
        return None
    return folder / path


def _check_room(folder: Path, needed: int) -> None:
    with _disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    if free < needed:
        raise CaptionBotError(
            f"{folder} has room for {free / 1e9:,.1f} GB, and {needed / 1e9:,.1f} GB are needed: "
            "make room, or choose another folder."
        )


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CaptionBotError(
            f"{folder} cannot be written to ({error.strerror or error}): make room, or choose another folder."
        ) from error
