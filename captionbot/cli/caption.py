"""`captionbot caption`: captions of photos, a line or a record each."""

from __future__ import annotations

import argparse
import errno
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TextIO
from urllib.parse import urlsplit

from captionbot.bulk.folder import BATCH, caption_each, load_ahead, try_options, workers_for
from captionbot.bulk.records import (
    Result,
    as_written,
    csv_columns,
    free_name,
    records,
    write_csv,
    write_jsonl,
    written,
)
from captionbot.cli.arguments import (
    add_batch_size,
    add_model_arguments,
    add_photos,
    add_search_argument,
    check_spares,
    load_captioner,
    search_options,
)
from captionbot.cli.commands import Commands, add_command, on_one_line, robust, warn
from captionbot.errors import CaptionBotError
from captionbot.files import hold
from captionbot.images.archives import is_file
from captionbot.progress import progress
from captionbot.search.options import ABOUT
from captionbot.text.judgement import in_brief

if TYPE_CHECKING:
    from captionbot.images.load import ImageSource


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "caption", run, "Caption photos, a line or a record each.")
    add_photos(parser, nargs="+")
    parser.add_argument(
        "--format",
        choices=[*_WRITERS, "txt-files", "parquet"],
        help="(default: text; parquet with --engine ray)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="file to write instead of the screen; with txt-files the folder (default: captions), where "
        "sub/dog.jpg becomes sub/dog.txt; with --engine ray the folder of the shards",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with --out, jsonl or csv: what is in it already, failed images too, is not done again",
    )
    add_batch_size(parser)
    parser.add_argument(
        "--engine",
        choices=["threads", "ray"],
        default="threads",
        help="threads of this machine, or Ray for collections on many (see docs/collections.md); then PATH "
        "may also be a .parquet of paths or URLs, and --out is needed (default: threads)",
    )
    parser.add_argument(
        "--ray-address", metavar="ADDRESS", help="a running Ray cluster (default: one of this machine alone)"
    )
    add_search_argument(add_model_arguments(parser), "num_return", ABOUT["num_return"])


def run(args: argparse.Namespace) -> int:
    _check_caption(args)
    if args.engine == "ray":
        return _caption_collection(args)

    from captionbot.images.load import count_images, find_images

    captioner = load_captioner(args)
    if args.out and args.out.is_file() and not args.resume:
        try_options(captioner, search_options(args))  # before earlier captions are overwritten
    outcomes: Counter[str] = Counter()
    size = args.batch_size or BATCH[captioner.device.type]
    with _opened(args, captioner.name) as (out, done, whole):
        images = load_ahead(_left(find_images(args.paths), done.copy()), size, captioner.preprocessing)
        results = caption_each(captioner, images, size, search_options(args), workers_for(captioner))
        results = _counted(results, outcomes)
        if sys.stderr.isatty() and (args.out or not sys.stdout.isatty()):
            results = progress(results, count_images(args.paths), done.total())
        if args.format == "txt-files":
            _write_files(results, args.paths, args.out or Path("captions"), outcomes)
        elif args.format == "csv":
            write_csv(results, captioner.name, out, csv_columns(args.out) if whole else None)
        else:
            _WRITERS[args.format](results, captioner.name, out)
    return 0 if outcomes["captioned"] or (done and not outcomes) else 2


def _check_caption(args: argparse.Namespace) -> None:
    """CaptionBotError for options that do not go together; a format where none was given."""
    from captionbot.images.formats import image_extensions

    if args.out is not None:
        if args.out.suffix.lower() in image_extensions():
            raise CaptionBotError(
                f"--out is {args.out}, the name of an image; give another, such as captions.csv."
            )
        check_spares(args.out, args.paths)
    ray = args.engine == "ray"
    args.format = args.format or ("parquet" if ray else "text")
    if ray and args.out is None:
        raise CaptionBotError("--engine ray writes a folder of shards; name it with --out.")
    if ray and args.format not in _COLLECTION_FORMATS:
        raise CaptionBotError(
            f"--engine ray does not write {args.format}; choose {' or '.join(_COLLECTION_FORMATS)}."
        )
    if not ray and args.format == "parquet":
        raise CaptionBotError("Only --engine ray writes parquet; choose jsonl or csv, or that engine.")
    if not ray and args.ray_address:
        raise CaptionBotError("--ray-address is of --engine ray; give both or neither.")
    if not ray and args.resume and (args.out is None or args.format not in ("jsonl", "csv")):
        raise CaptionBotError("--resume goes on with a file; give --out and --format jsonl or csv with it.")


def _caption_collection(args: argparse.Namespace) -> int:
    from captionbot.bulk.ray import caption_collection

    outcomes: Counter[str] = Counter()
    results = caption_collection(
        args.paths,
        args.out,
        format=args.format,
        model=args.model,
        device=args.device,
        address=args.ray_address,
        batch_size=args.batch_size,
        resume=args.resume,
        options=search_options(args),
    )
    if sys.stderr.isatty():
        results = progress(results, None)
    for row in results:
        if "error" in row:
            warn(row["error"])
        outcomes["failed" if "error" in row else "captioned"] += 1
    return 0 if outcomes["captioned"] or (args.resume and not outcomes) else 2


def _left(sources: Iterable[ImageSource], done: Counter[str]) -> Iterator[ImageSource]:
    """The images that no earlier run did; `done` is counted down."""
    for source in sources:
        name = as_written(source.name)
        if done[name] > 0:
            done[name] -= 1
        else:
            yield source


def _counted(results: Iterable[Result], outcomes: Counter[str]) -> Iterator[Result]:
    """Pass results on, report the bad ones on stderr, and keep count."""
    for name, result in results:
        failed = isinstance(result, CaptionBotError)
        outcomes["failed" if failed else "captioned"] += 1
        if failed:
            warn(str(result))
        yield name, result


def _write_text(results: Iterable[Result], model: str, out: TextIO) -> None:
    """NAME, a tab, the caption; one line a caption, best first. What failed stands on stderr only.

    Where the captioner judges its captions, a tab and the band follow, with the reason.
    """
    for name, result in results:
        if not isinstance(result, CaptionBotError):
            for caption in result.captions:
                judged = [in_brief(caption.judgement)] if caption.judgement else []
                print(on_one_line(name), caption.text, *judged, sep="\t", file=out)


def _write_json(results: Iterable[Result], model: str, out: TextIO) -> None:
    """One list of all records, so that nothing is written before the last image."""
    print(json.dumps(list(records(results, model)), ensure_ascii=False, indent=2), file=out)


_COLLECTION_FORMATS = ("parquet", "jsonl")


_WRITERS: dict[str, Callable[[Iterable[Result], str, TextIO], None]] = {
    "text": _write_text,
    "json": _write_json,
    "jsonl": write_jsonl,
    "csv": write_csv,
}


# A file of this name cannot be, and others can; a name with a null character is a ValueError.
_OF_ITS_NAME = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)


def _write_files(results: Iterable[Result], paths: list[str], folder: Path, outcomes: Counter[str]) -> None:
    """One text file an image at its relative path below the folder, a caption a line, best first.

    None is overwritten: beside photos they may be what people wrote.
    """
    taken: set[str] = set()
    for name, result in results:
        if isinstance(result, CaptionBotError):
            continue
        path = folder / free_name(_below(paths, name), taken)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.writelines(f"{caption.text}\n" for caption in result.captions)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno not in _OF_ITS_NAME:
                raise
            reason = getattr(error, "strerror", error)
            why = "is there already and stays as it is" if is_file(path) else f"cannot be written ({reason})"
            warn(f"{path} {why}; move it, or give another --out.")
            outcomes.update(captioned=-1, failed=1)


def _below(paths: list[str], name: str) -> PurePosixPath:
    """photos/sub/dog.jpg -> sub/dog.jpg where photos was asked for; of a single file or URL its last part.

    Never a path that leads out of a folder, whatever an archive calls its members.
    """
    path = Path(urlsplit(name).path if "://" in name else name)
    around = next((root for root in map(Path, paths) if root in path.parents), path.parent)
    parts = [part for part in path.relative_to(around).parts if part != ".."]
    return PurePosixPath(*parts or ["image"])


@contextmanager
def _opened(args: argparse.Namespace, model: str) -> Iterator[tuple[TextIO, Counter[str], int]]:
    """--out, or the screen; the images that an earlier run wrote to it, and the bytes of its whole records.

    What stands behind these is cut off. No other run writes to the file as long as this one does.
    """
    if args.out is None or args.format == "txt-files":
        yield sys.stdout, Counter(), 0
        return
    with args.out.open("a", encoding="utf-8") as file:
        hold(file.fileno(), args.out)  # before it is read, as another run may be about to end
        done, whole = written(args.out, model, args.format == "csv") if args.resume else (Counter(), 0)
        if is_file(args.out):
            file.truncate(whole)
        robust(file)
        yield file, done, whole
