"""The command line: `python -m captionbot caption|explain|models|download|import`.

Torch is imported only after the arguments are known to be sound, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import urlsplit

from captionbot.bulk.folder import BATCH, caption_each, load_ahead, try_options, workers_for
from captionbot.bulk.records import (
    Result,
    as_written,
    csv_columns,
    free_name,
    record,
    records,
    write_csv,
    write_jsonl,
    written,
)
from captionbot.cli.commands import Parser, complain, exit_code, on_one_line, program, robust
from captionbot.errors import CaptionBotError
from captionbot.files import hold, utf8
from captionbot.images.archives import is_archive, is_file
from captionbot.progress import progress

if TYPE_CHECKING:
    from PIL.Image import Image

    from captionbot.captioner import Captioner
    from captionbot.images.load import ImageSource
    from captionbot.types import Caption

_PREFIX = "captionbot: "  # of complaints
_SEARCH_OPTIONS: dict[str, tuple[Callable[[str], Any], str, str]] = {
    "beam_size": (
        int,
        "N",
        "hypotheses kept at every word; 1 is greedy (default: the model's own, mostly 5)",
    ),
    "max_length": (int, "N", "words at most"),
    "min_length": (int, "N", "words at least"),
    "length_penalty": (float, "X", "0 ranks by probability alone; the more, the longer the captions"),
    "no_repeat_ngram_size": (int, "N", "say no N words in a row twice"),
    "num_groups": (int, "N", "groups that the beams are split into, for captions that differ"),
    "diversity_penalty": (float, "X", "what a group pays for a word that another group just took"),
    "temperature": (float, "X", "of --sample: below 1 is safer, above 1 bolder"),
    "top_k": (int, "N", "of --sample: draw from the N likeliest words"),
    "top_p": (float, "X", "of --sample: draw from the likeliest words that hold this much probability"),
    "seed": (int, "N", "of --sample: the same seed gives the same captions"),
    "prefix": (str, "TEXT", "words that every caption starts with"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code: 0, 2 after one clear line on stderr, or 130 after Ctrl-C."""
    if not sys.warnoptions:  # of Pillow and torch, about photos and files that get a sentence, or captions
        warnings.simplefilter("ignore")
    return exit_code(lambda: _run(argv), _PREFIX)


def _run(argv: list[str] | None) -> int:
    args = _parser().parse_args(argv)
    code: int = args.run(args)
    return code


def _complain(message: str) -> None:
    complain(message, _PREFIX)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=program(), description="Caption photos, and see why, word by word.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(run=run)
        return added

    caption = command("caption", _caption, "Caption photos, a line or a record each.")
    caption.add_argument(
        "paths", nargs="+", metavar="PATH", help="image, folder, .zip or .tar of images, or URL"
    )
    caption.add_argument(
        "--format",
        choices=[*_WRITERS, "txt-files", "parquet"],
        help="(default: text; parquet with --engine ray)",
    )
    caption.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="file to write instead of the screen; with txt-files the folder (default: captions), where "
        "sub/dog.jpg becomes sub/dog.txt; with --engine ray the folder of the shards",
    )
    caption.add_argument(
        "--resume",
        action="store_true",
        help="go on with --out, jsonl or csv: what is in it already, failed images too, is not done again",
    )
    caption.add_argument(
        "--batch-size",
        type=_positive,
        metavar="N",
        help=f"photos at once (default: {BATCH['cpu']}, on a GPU {BATCH['cuda']})",
    )
    caption.add_argument(
        "--engine",
        choices=["threads", "ray"],
        default="threads",
        help="threads of this machine, or Ray for collections on many (see docs/collections.md); then PATH "
        "may also be a .parquet of paths or URLs, and --out is needed (default: threads)",
    )
    caption.add_argument(
        "--ray-address", metavar="ADDRESS", help="a running Ray cluster (default: one of this machine alone)"
    )
    _add_model_arguments(caption).add_argument(
        "--num-return",
        type=int,
        default=argparse.SUPPRESS,
        metavar="N",
        help="captions of a photo (default: 1)",
    )

    explain = command(
        "explain", _explain, "Draw where the model looked for every word of one photo's caption."
    )
    explain.add_argument("image", metavar="IMAGE", help="image file or URL")
    explain.add_argument(
        "--out", type=Path, required=True, metavar="FIGURE", help=f"{'|'.join(_FIGURES)} to write"
    )
    _add_model_arguments(explain)

    models = command("models", _models, "List the captioners that ship and those that can be downloaded.")
    models.add_argument("--format", choices=["text", "json"], default="text", help="(default: text)")

    download = command(
        "download", _download, "Fetch weights, import those of captioners, and print where they lie."
    )
    download.add_argument(
        "name", metavar="NAME", help="a name of weights/table.json; for any other they are listed"
    )
    download.add_argument("--folder", type=Path, metavar="DIR", help="where to (default: the cache folder)")

    imported = command("import", _import, "Make a captioner of another project's weights.")
    imported.add_argument("kind", metavar="KIND", help="the project: seed004, sgrvinod or seed003")
    imported.add_argument("files", nargs="+", metavar="FILE", help="its files, in any order")
    imported.add_argument(
        "--out",
        required=True,
        metavar="NAME",
        help="what `--model` will call it; or, with a slash, a folder to put it in",
    )
    return parser


def _add_model_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """--model, --device and the options of the search, whose group is returned."""
    parser.add_argument(
        "--model", metavar="NAME", help="name or folder of a captioner (default: the one that ships)"
    )
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="(default: auto)"
    )
    group = parser.add_argument_group("search")
    for name, (kind, metavar, text) in _SEARCH_OPTIONS.items():
        # What is not given stays away, so that the model's own choice holds.
        group.add_argument(
            f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text, default=argparse.SUPPRESS
        )
    group.add_argument(
        "--sample", action="store_true", default=argparse.SUPPRESS, help="draw words instead of searching"
    )
    group.add_argument(
        "--no-evidence",
        dest="evidence",
        action="store_false",
        default=argparse.SUPPRESS,
        help="rank captions by their probability alone",
    )
    group.add_argument(
        "--ban",
        dest="banned_words",
        action="append",
        metavar="WORD",
        default=argparse.SUPPRESS,
        help="a word never to say; may be given again",
    )
    return group


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _search_options(args: argparse.Namespace) -> dict[str, Any]:
    known = {*_SEARCH_OPTIONS, "num_return", "sample", "evidence", "banned_words"}
    return {name: value for name, value in vars(args).items() if name in known}


def _captioner(args: argparse.Namespace) -> Captioner:
    from captionbot import Captioner

    return Captioner.from_pretrained(args.model, device=args.device)


# caption


def _caption(args: argparse.Namespace) -> int:
    _check_caption(args)
    if args.engine == "ray":
        return _caption_collection(args)

    from captionbot.images.load import count_images, find_images

    captioner = _captioner(args)
    if args.out and args.out.is_file() and not args.resume:
        try_options(captioner, _search_options(args))  # before earlier captions are overwritten
    outcomes: Counter[str] = Counter()
    size = args.batch_size or BATCH[captioner.device.type]
    with _opened(args, captioner.name) as (out, done, whole):
        images = load_ahead(_left(find_images(args.paths), done.copy()), size, captioner.preprocessing)
        results = caption_each(captioner, images, size, _search_options(args), workers_for(captioner))
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
    from captionbot.images.load import image_extensions

    if args.out is not None:
        if args.out.suffix.lower() in image_extensions():
            raise CaptionBotError(
                f"--out is {args.out}, the name of an image; give another, such as captions.csv."
            )
        _check_spares(args.out, args.paths)
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


def _check_spares(out: Path, paths: list[str]) -> None:
    """CaptionBotError where writing the file would cost a photo, or an archive of them."""
    if not is_file(out):
        return
    asked = any(is_file(Path(path)) and out.samefile(path) for path in paths)
    if asked or is_archive(out):
        raise CaptionBotError(f"--out is {out}, which holds photos and would be overwritten; give another.")


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
        options=_search_options(args),
    )
    if sys.stderr.isatty():
        results = progress(results, None)
    for row in results:
        if "error" in row:
            _complain(row["error"])
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
            _complain(str(result))
        yield name, result


def _write_text(results: Iterable[Result], model: str, out: TextIO) -> None:
    """NAME, a tab, the caption; one line a caption, best first. What failed stands on stderr only."""
    for name, result in results:
        if not isinstance(result, CaptionBotError):
            for caption in result.captions:
                print(on_one_line(name), caption.text, sep="\t", file=out)


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
            _complain(f"{path} {why}; move it, or give another --out.")
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


# explain


def _explain(args: argparse.Namespace) -> int:
    draw = _FIGURES.get(args.out.suffix.lower())
    if draw is None:
        raise CaptionBotError(f"--out is {args.out}; give a file name that ends in {', '.join(_FIGURES)}.")
    from captionbot.explain.attribution import word_maps
    from captionbot.images.load import load_image

    _check_spares(args.out, [args.image])
    image = load_image(args.image)
    captioner = _captioner(args)
    captioned = captioner.caption([image], **_search_options(args))[0]
    maps = [word_maps(captioner, image, caption) for caption in captioned.captions]
    looked = tuple(own.on(caption) for own, caption in zip(maps, captioned.captions, strict=True))
    numbers = record(args.image, captioner.name, replace(captioned, captions=looked), with_alphas=True)
    args.out.write_bytes(draw(image, looked[0], numbers | {"label": maps[0].label}))
    if maps[0].method != "attention":
        _complain(f"{captioner.name} looks at the photo as a whole; {args.out} shows {maps[0].label}.")
    print(captioned.captions[0].text)
    return 0


def _sheet(image: Image, caption: Caption, numbers: dict[str, Any]) -> bytes:
    from captionbot.draw.files import png
    from captionbot.draw.sheets import contact_sheet

    return png(contact_sheet(image, caption))


def _animation(image: Image, caption: Caption, numbers: dict[str, Any]) -> bytes:
    from captionbot.draw.files import gif
    from captionbot.draw.sheets import animation

    return gif(animation(image, caption))


def _json(image: Image, caption: Caption, numbers: dict[str, Any]) -> bytes:
    return utf8(json.dumps(numbers, ensure_ascii=False))


_FIGURES = {".png": _sheet, ".gif": _animation, ".json": _json}


# models, download and import


def _models(args: argparse.Namespace) -> int:
    listed = [*_here()]
    names = {model["name"] for model in listed}
    listed += [model for model in _downloadable() if model["name"] not in names]
    if args.format == "json":
        print(json.dumps(listed, ensure_ascii=False, indent=2))
        return 0
    width = max((len(model["name"]) for model in listed), default=0)
    for model in listed:
        origin = "default" if model["default"] else "ships" if model["ships"] else "downloads"
        if not model["ships"] and model["parameters"]:
            origin = "imported"
        size = f"{model['size_bytes'] / 1e6:.1f} MB" if model["size_bytes"] else ""
        scores = ", ".join(f"{name} {x:.3f}" for name, x in model["scores"].items() if isinstance(x, float))
        print(f"{model['name']:{width}}  {origin:9}  {model['family']:16}  {size:>9}  {scores}".rstrip())
    return 0


def _here() -> Iterator[dict[str, Any]]:
    """The captioners that ship, then those that were imported; a damaged card hides its own alone."""
    from captionbot.store.card import Card
    from captionbot.store.weights import imported_cards, list_cards

    told = ("name", "family", "default", "parameters", "size_bytes", "scores")
    for ships, paths in ((True, list_cards()), (False, imported_cards())):
        for path in paths:
            try:
                card = Card.load(path)
            except CaptionBotError as error:
                _complain(str(error))
            else:
                yield {"ships": ships, **{name: getattr(card, name) for name in told}}


def _downloadable() -> Iterator[dict[str, Any]]:
    from captionbot.store.weights import weight_files

    captioners = (file for file in weight_files() if file.family)
    for name, files in groupby(captioners, key=lambda file: file.name):
        parts = list(files)
        sizes = [file.size for file in parts if file.size is not None]
        yield {
            "name": name,
            "family": parts[0].family,
            "ships": False,
            "default": False,
            "parameters": None,
            "size_bytes": sum(sizes) if len(sizes) == len(parts) else None,
            "scores": {},
        }


def _download(args: argparse.Namespace) -> int:
    from captionbot.store.weights import download, verification, weight_files

    paths = download(args.name, args.folder, _show_progress if sys.stderr.isatty() else None)
    for file, path in zip(weight_files(args.name), paths, strict=True):
        print(verification(file, path), file=sys.stderr)
        print(path)
    if kind := weight_files(args.name)[0].importer:
        from captionbot.store.importers import import_captioner

        print(import_captioner(kind, paths, paths[0].parent, args.name))
    return 0


def _import(args: argparse.Namespace) -> int:
    from captionbot.store.importers import import_captioner
    from captionbot.store.weights import cache_folder

    is_folder = os.sep in args.out or "/" in args.out
    folder = Path(args.out) if is_folder else cache_folder() / args.out
    name = folder.resolve().name
    if not name or args.out in ("", ".", ".."):
        raise CaptionBotError(
            f"--out is {args.out!r}; give a name for the captioner, or a folder to put it in."
        )
    card = import_captioner(args.kind, args.files, folder, name)
    print(card)
    return 0


def _show_progress(done: int, total: int | None) -> None:
    amount = f"{done / 1e6:,.1f}" + (f" of {total / 1e6:,.1f}" if total else "") + " MB"
    print(f"\r{amount}", end="\n" if done == total else "", file=sys.stderr, flush=True)
