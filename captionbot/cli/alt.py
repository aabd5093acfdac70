"""`captionbot alt`: an alt text a photo, to be reviewed, and written where other programs look for it."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from captionbot.bulk import alt_exports, review
from captionbot.bulk.alt_exports import written
from captionbot.bulk.folder import BATCH, caption_each, load_ahead, workers_for
from captionbot.bulk.records import as_written
from captionbot.bulk.review import Entry, counts, csv_bytes, entry_of, jsonl_bytes
from captionbot.cli.arguments import (
    add_batch_size,
    add_model_arguments,
    add_photos,
    add_search_argument,
    check_spares,
    load_captioner,
    positive,
    search_options,
)
from captionbot.cli.commands import Commands, add_command, on_one_line, program, warn
from captionbot.errors import CaptionBotError, shortened
from captionbot.files import aside, utf8
from captionbot.images import metadata
from captionbot.images.archives import is_file
from captionbot.progress import progress
from captionbot.search.options import ABOUT
from captionbot.text.alt_text import LIMIT, STYLES

REVIEW = Path("alt-text.csv")
_ENDINGS = (*review.SUFFIXES, ".html")


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "alt", run, "Write alt texts of photos, to be reviewed and put to use.")
    add_photos(parser, nargs="*")
    parser.add_argument(
        "--from",
        dest="review",
        type=Path,
        metavar="FILE",
        help="caption nothing, and write what this review says, a .csv or .jsonl that may have been edited; "
        "PATH is then where its photos are, if they were moved",
    )
    parser.add_argument("--style", choices=list(STYLES), default="plain", help="(default: plain)")
    parser.add_argument(
        "--max-chars",
        type=positive,
        default=LIMIT,
        metavar="N",
        help=f"longest alt text in characters (default: {LIMIT})",
    )
    add_batch_size(parser)
    out = parser.add_argument_group(
        "output",
        "Photos that are in a .csv or .jsonl already are not captioned again, and stay as they were edited.",
    )
    out.add_argument(
        "--out",
        type=Path,
        action="append",
        metavar="FILE",
        help=f"a .csv, .jsonl or .html; may be given again (default: {REVIEW}; with --from none)",
    )
    out.add_argument("--txt", action="store_true", help="dog.txt beside dog.jpg")
    out.add_argument("--txt-folder", type=Path, metavar="FOLDER", help="text files in a folder of their own")
    out.add_argument("--xmp", action="store_true", help="dog.jpg.xmp beside dog.jpg, a sidecar")
    out.add_argument(
        "--embed",
        action="store_true",
        help="change the photos' own files: XMP and IPTC descriptions, the picture as it is; needs pyexiv2, "
        "pip install 'captionbot[metadata]'",
    )
    out.add_argument(
        "--replace", action="store_true", help="overwrite texts and descriptions that are there already"
    )
    out.add_argument(
        "--accepted",
        action="store_true",
        help="but for --out, write only what was accepted or edited in the review",
    )
    add_search_argument(add_model_arguments(parser), "num_return", ABOUT["num_return"])


def run(args: argparse.Namespace) -> int:
    args.out = args.out if args.out or args.review else [REVIEW]
    args.out = args.out or []
    _check(args)
    entries = _reviewed(args.review) if args.review else _captioned(args)
    for path in args.out:
        if args.review or path != _review_file(args):
            _write(path, _page(entries, path) if path.suffix.lower() == ".html" else _bytes(entries, path))
    chosen = written(entries, args.accepted)
    failed = _beside(args, chosen) if chosen else 0
    if args.review is None:
        _summary(args, entries)
    return 0 if written(entries) and failed < max(1, len(chosen)) else 2


def _check(args: argparse.Namespace) -> None:
    """CaptionBotError for options that do not go together, before anything is captioned."""
    if not args.paths and not args.review:
        raise CaptionBotError("Name photos, a folder or an archive of them, or a review by --from.")
    for path in args.out:
        if path.suffix.lower() not in _ENDINGS:
            raise CaptionBotError(
                f"--out is {shortened(path)}: name a file that ends with {', '.join(_ENDINGS)}."
            )
        check_spares(path, args.paths)
    if args.review:
        review.check_name(args.review)
        outputs = (*args.out, args.txt, args.txt_folder, args.xmp, args.embed)
        if not any(outputs):
            raise CaptionBotError(
                "--from writes what a review says: add --out, --txt, --txt-folder, --xmp or --embed."
            )
    if args.embed:
        metadata.require_embedding()


def _review_file(args: argparse.Namespace) -> Path | None:
    """The file that is gone on with."""
    return next((path for path in args.out if path.suffix.lower() in review.SUFFIXES), None)


def _reviewed(path: Path) -> list[Entry]:
    try:
        entries = review.parse(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise CaptionBotError(f"{shortened(path)} does not exist: give the path of a review.") from None
    if not entries:
        raise CaptionBotError(f"{shortened(path)} holds no photos: give a review of some.")
    return entries


def _captioned(args: argparse.Namespace) -> list[Entry]:
    """All entries of the review file once every photo has one; those of this run without such a file."""
    path = _review_file(args)
    if path is None:
        return [entry for entries in _caption(args, {}) for entry in entries]
    with review.opened(path) as file:
        for other in args.out:
            if other != path and other.suffix.lower() in review.SUFFIXES and is_file(other):
                file.add([entry for entry in _reviewed(other) if _is_news(entry, file.entries)])
        for entries in _caption(args, file.entries):
            file.add(entries)
        return list(file.entries.values())


def _is_news(entry: Entry, known: dict[str, Entry]) -> bool:
    """Whether a person wrote it, and the review file does not have it."""
    there = known.get(entry.image)
    return entry.done and (there is None or not there.done)


def _caption(args: argparse.Namespace, known: dict[str, Entry]) -> Iterator[list[Entry]]:
    """The entries of photos that have none, a batch at a time."""
    from captionbot.images.load import count_images, find_images

    done = 0

    def left() -> Iterator[Any]:
        nonlocal done
        for source in find_images(args.paths):
            if as_written(source.name) in known:
                done += 1
            else:
                yield source

    sources = left()
    first = next(sources, None)
    if first is None:
        return
    captioner = load_captioner(args)
    size = args.batch_size or BATCH[captioner.device.type]
    images = load_ahead(_again(first, sources), size, captioner.preprocessing)
    results = caption_each(captioner, images, size, _options(args), workers_for(captioner))
    if sys.stderr.isatty():
        total = count_images(args.paths)
        results = progress(results, total, done)
    while some := list(islice(results, size)):
        entries = [entry_of(result, captioner.name, args.max_chars) for result in some]
        for entry in entries:
            if entry.error:
                warn(entry.error)
        yield entries


def _again(first: Any, others: Iterable[Any]) -> Iterator[Any]:
    yield first
    yield from others


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """The search options of the style, and what was asked for beside it."""
    asked = search_options(args)
    style = dict(STYLES[args.style])
    if asked.get("sample") or "num_groups" in asked:
        style.pop("beam_size", None)
    return style | asked


def _bytes(entries: Sequence[Entry], path: Path) -> bytes:
    return csv_bytes(entries) if path.suffix.lower() == ".csv" else jsonl_bytes(entries)


def _page(entries: Sequence[Entry], path: Path) -> bytes:
    folder = path.absolute().parent

    def address(entry: Entry) -> str:
        if "://" in entry.image:
            return entry.image
        try:
            relative = os.path.relpath(entry.image, folder)
        except ValueError:  # another drive of Windows
            return Path(entry.image).absolute().as_uri()
        return quote(PurePath(relative).as_posix())

    return utf8(alt_exports.html(written(entries), address=address))


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with aside(path) as partial:
        partial.write_bytes(data)


# -- beside the photos


def _beside(args: argparse.Namespace, entries: Sequence[Entry]) -> int:
    """Text files, sidecars and descriptions; how many photos could not be given one."""
    failed: set[str] = set()
    if args.txt_folder:
        for name, data in alt_exports.texts(entries):
            if not _text(args.txt_folder / name, data, args.replace):
                failed.add(name)
    ways: list[Callable[[Path, Entry], bool]] = []
    if args.txt:
        ways.append(lambda photo, entry: _text(_beside_name(photo), utf8(f"{entry.alt}\n"), args.replace))
    if args.xmp:
        ways.append(lambda photo, entry: _described(metadata.write_sidecar, photo, entry, args.replace))
    if args.embed:
        ways.append(lambda photo, entry: _described(metadata.embed, photo, entry, args.replace))
    if not ways:
        return len(failed)
    found = _Photos(args.paths if args.review else ())
    shown = progress(entries, len(entries)) if sys.stderr.isatty() else entries
    for entry in shown:
        photo = found.of(entry.image)
        worked = [way(photo, entry) for way in ways] if photo else [False]  # each of them is tried
        if not all(worked):
            failed.add(entry.image)
    return len(failed)


def _beside_name(photo: Path) -> Path:
    """dog.jpg -> dog.txt; where there is a dog.png too, dog.jpg.txt."""
    twins = [path for path in photo.parent.glob(f"{_escaped(photo.stem)}.*") if path != photo]
    from captionbot.images.formats import is_photo

    return photo.with_name(f"{photo.name}.txt") if any(map(is_photo, twins)) else photo.with_suffix(".txt")


def _escaped(stem: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in stem)


def _text(path: Path, data: bytes, replace: bool) -> bool:
    if is_file(path) and not replace:
        if path.read_bytes() == data:
            return True
        warn(f"{path} is there already and stays as it is; --replace overwrites it.")
        return False
    try:
        _write(path, data)
    except (OSError, ValueError) as error:
        warn(f"{path} cannot be written ({getattr(error, 'strerror', None) or error}).")
        return False
    return True


def _described(write: Callable[[Path, str, bool], bool], photo: Path, entry: Entry, replace: bool) -> bool:
    if not entry.alt:  # a decorative picture
        return True
    try:
        if write(photo, entry.alt, replace):
            return True
        warn(f"{photo} has a description already, which stays as it is; --replace overwrites it.")
    except CaptionBotError as error:
        warn(str(error))
    except OSError as error:
        warn(f"{photo} cannot be given a description ({error.strerror}).")
    return False


class _Photos:
    """The photos of a review: where it says that they are, or of the same name among others."""

    def __init__(self, paths: Sequence[str]) -> None:
        from captionbot.images.load import find_images

        names = [Path(source.name) for source in find_images(paths)] if paths else []
        self._by_name: dict[str, list[Path]] = {}
        for path in names:
            if is_file(path):
                self._by_name.setdefault(as_written(path.name), []).append(path)

    def of(self, image: str) -> Path | None:
        """The file, or None after a word on why there is none."""
        name = on_one_line(image)
        near = self._by_name.get(PurePath(image).name, [])
        parts = PurePath(image).parts[::-1]

        def alike(path: Path) -> int:
            both = zip(parts, map(as_written, path.parts[::-1]), strict=False)
            return next((i for i, (one, other) in enumerate(both) if one != other), len(parts))

        best = [path for path in near if alike(path) == max(map(alike, near))]
        if len(best) == 1:
            return best[0]
        if best:
            warn(f"{name} may be {best[0]} or {best[1]}: name the folder that it is in.")
        elif is_file(Path(os.fsdecode(image))):
            return Path(image)
        else:
            warn(f"{name} is no file here, so nothing can be written beside it or into it.")
        return None


def _summary(args: argparse.Namespace, entries: Sequence[Entry]) -> None:
    """What there is to do now, in one or two lines."""
    of = counts(entries)
    bands = Counter(entry.band for entry in entries if entry.state == review.TO_REVIEW)
    unsure = ", ".join(f"{bands[band]} {band}" for band in review.BANDS if bands[band])
    print(
        f"{len(entries):,} photos: {of[review.TO_REVIEW]:,} to review{f' ({unsure})' if unsure else ''}, "
        f"{of[review.ACCEPTED]:,} accepted or edited, {of[review.FAILED]:,} could not be read."
    )
    path = _review_file(args)
    if path is not None:
        print(
            f"Edit the column or field “alt” in {on_one_line(str(path))}, then put it to use: "
            f"{program()} alt --from {on_one_line(str(path))} --xmp (or --embed, --txt, --out page.html)"
        )
