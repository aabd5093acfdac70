"""Every captioner over the photos of a split, in one table: scores, sizes and speed.

    python -m training.leaderboard
    python -m training.leaderboard --models NAME NAME
    python -m training.leaderboard --limit 50

It writes weights/leaderboard.json and, between the lines `<!-- leaderboard -->` and `<!-- /leaderboard -->`,
the table in docs/families.md and a shorter one in README.md. Rows of other captioners are kept as long as
those have not changed. A try with --limit prints the table, and writes --out alone.

Everything is as users get it, from a photo's bytes to its caption: the precision that a card asks for too.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from captionbot.captioner import Captioner
from captionbot.cli.commands import Parser, command
from captionbot.errors import CaptionBotError
from captionbot.files import utf8
from captionbot.store.card import Card
from captionbot.store.folders import weights_folder
from captionbot.store.registry import find_card, list_cards
from training.compress.export import SCORES
from training.data import Example, ImageStore, open_images
from training.data.files import read_json, read_text
from training.evaluation.evaluate import caption_all
from training.evaluation.predictions import load_split
from training.metrics import measure
from training.metrics.significance import intervals
from training.run.checkpoints import check_outputs
from training.run.config import check_least

Row = dict[str, Any]

BEAM_SIZES = (1, 5)
BATCH = 32
WARM_UP = 4
START, END = "<!-- leaderboard -->", "<!-- /leaderboard -->"
_ROOT = Path(__file__).resolve().parents[2]
README = _ROOT / "README.md"
DOCS = (README, _ROOT / "docs" / "families.md")
_METRICS = [name for name in SCORES if name not in ("split", "images", "beam_size")]


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(
        "python -m training.leaderboard",
        description="Every captioner over the photos of a split, in one table: scores, sizes and speed.",
    )
    add_common_flags(parser, "--data")
    parser.add_argument("--no-meteor", action="store_true", help="leave out METEOR, which needs Java")
    parser.add_argument("--out", type=Path, help="file (default: leaderboard.json among the weights)")
    parser.add_argument(
        "--docs", type=Path, nargs="*", help="files with a place for the table (default: only without --out)"
    )
    parser.add_argument("--cards", action="store_true", help="put each beam search's scores on its card too")
    given = parser.parse_args(arguments)
    rows = leaderboard(given)
    print(table(rows))
    return 0


def add_common_flags(parser: argparse.ArgumentParser, annotations: str) -> None:
    """Which captioners, and which photos; annotations: the flag that says where people's captions are."""
    parser.add_argument("--models", nargs="+", help="names, folders or cards (default: all that ship)")
    parser.add_argument(
        annotations,
        type=Path,
        default=Path("../shared/data/flickr8k"),
        help="what people wrote, any that training.evaluate reads (default: %(default)s)",
    )
    parser.add_argument("--images", type=Path, help="folder or tar of the photos (default: beside that)")
    parser.add_argument("--split", default="val", help="of the annotations (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=0, help="only the first so many photos: a try")
    parser.add_argument("--device", default="auto")


def chosen_cards(models: Sequence[str] | None) -> list[Path]:
    return [find_card(name) for name in models] if models else list_cards()


def photos_beside(annotations: Path) -> Path:
    return annotations if annotations.is_dir() else annotations.parent


def leaderboard(given: argparse.Namespace) -> list[Row]:
    """The rows of all captioners, best first; files are written anew as each captioner is done."""
    check_least(given, {"limit": 0})
    examples, _ = load_split(given.data, "auto", given.split)
    examples = examples[: given.limit or None]
    store = open_images(given.images or photos_beside(given.data))
    out, docs = given.out, given.docs or []
    if not given.out and not given.limit:
        out = weights_folder() / "leaderboard.json"
        docs = DOCS if given.docs is None else given.docs
    if out:
        check_outputs([out], [given.data])
    rows = _kept(out, given.split, len(examples)) if out and out.exists() else []
    for card in chosen_cards(given.models):
        measured = _measure(card, store, examples, given)
        rows = _ranked([row for row in rows if row["name"] != measured[0]["name"]] + measured)
        if out:
            out.write_bytes(utf8(json.dumps(rows, indent=1, ensure_ascii=False) + "\n"))
        for path in docs:
            write_table(path, brief_table(rows) if path == README else table(rows))
        if given.cards:
            _score_card(card, measured[-1])
    return rows


def _measure(
    path: Path, store: ImageStore, examples: Sequence[Example], given: argparse.Namespace
) -> list[Row]:
    """A row for each beam size of the captioner of a card."""
    captioner = Captioner.from_pretrained(path, given.device)
    card = captioner.card
    references = {example.name: example.captions for example in examples}
    rows = []
    for beam_size in BEAM_SIZES:
        options = captioner.options(beam_size=beam_size)
        caption_all(captioner, store, examples[:WARM_UP], options, BATCH)
        started = time.perf_counter()
        captions = caption_all(captioner, store, examples, options, BATCH)
        seconds = time.perf_counter() - started
        measured = measure(captions, references, meteor=not given.no_meteor, spice=False)
        rows.append(
            {
                "name": captioner.name,
                "family": card.family,
                "split": given.split,
                "images": len(examples),
                "beam_size": beam_size,
                **measured.corpus(),
                "intervals": intervals(measured.tallies),
                "images_per_second": round(len(examples) / seconds, 2),
                "device": captioner.device.type,
                "threads": torch.get_num_threads(),
                "parameters": card.parameters,
                "size_bytes": card.size_bytes,
                "shared_bytes": path.with_name(card.shared["file"]).stat().st_size if card.shared else 0,
                **_version(card),
            }
        )
    return rows


def _version(card: Card) -> Row:
    """What a captioner's scores hang on: when any of it is another, they say nothing of it."""
    return {"sha256": card.sha256, "shared": card.shared, "search": card.search, "precision": card.precision}


def _kept(out: Path, split: str, images: int) -> list[Row]:
    """The rows of an earlier run that are of the same photos and of captioners that are as they were."""
    try:
        rows = {(row["name"], row["beam_size"], row["split"], row["images"]): row for row in read_json(out)}
    except (KeyError, TypeError):
        raise CaptionBotError(
            f"{out} is not a leaderboard; give another --out, or delete the file."
        ) from None
    kept = []
    for (name, beam_size, *photos), row in rows.items():
        if photos == [split, images] and _is_current(row):
            kept.append(row)
        else:
            print(f"{name}, beam {beam_size}, is dropped: it or the photos are others now.", file=sys.stderr)
    return kept


def _is_current(row: Row) -> bool:
    try:
        version = _version(Card.load(find_card(row["name"])))
    except CaptionBotError:  # it is no longer there
        return False
    return all(row.get(key) == value for key, value in version.items())


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """The captioner with the best CIDEr first, its rows one below the other."""
    best: dict[str, float] = {}
    for row in rows:
        best[row["name"]] = max(row["CIDEr"], best.get(row["name"], 0.0))
    return sorted(rows, key=lambda row: (-best[row["name"]], row["name"], row["beam_size"]))


def table(rows: Sequence[Row]) -> str:
    """Markdown: what was measured and how, and a line for each captioner and beam size."""
    first = rows[0]
    shared = {row["shared"]["file"]: row["shared_bytes"] for row in rows if row["shared"]}
    beside = "".join(
        f", without `{file}` ({size / 2**20:.1f} MiB), which captioners share"
        for file, size in shared.items()
    )
    machines = {
        f"{row['device'].upper()}, {row['threads']} threads" for row in rows if "images_per_second" in row
    }
    metrics = [name for name in _METRICS if any(name in row for row in rows)]
    titles = [name.replace("_", "-").replace("Bleu", "BLEU") for name in metrics]
    head = ["captioner", "search", *titles, "million parameters", "MiB", "images a second"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        scores = [f"{row[name]:.3f}" if name in row else "" for name in metrics]
        search = "greedy" if row["beam_size"] == 1 else f"beam {row['beam_size']}"
        sizes = [f"{row['parameters'] / 1e6:.1f}", f"{row['size_bytes'] / 2**20:.1f}"]
        lines.append([row["name"], search, *scores, *sizes, _speed(row, 1)])
    return (
        f"{first['images']} photos of the split `{first['split']}`, scores of coco-caption, by "
        f"`python -m training.leaderboard`. MiB: a captioner's own file{beside}. Images a second: from a "
        f"photo's bytes to its caption, {BATCH} at once, {' or '.join(sorted(machines))}.\n\n"
        + "\n".join(f"| {' | '.join(line)} |" for line in lines)
    )


def brief_table(rows: Sequence[Row]) -> str:
    """Markdown for the README: of each captioner its best row by CIDEr, with few columns."""
    best: dict[str, Row] = {}
    for row in rows:
        best[row["name"]] = max(best.get(row["name"], row), row, key=lambda row: row["CIDEr"])
    lines = [["captioner", "BLEU-4", "METEOR", "CIDEr", "million parameters", "photos a second"], ["---"] * 6]
    for row in best.values():
        scores = [f"{row[name]:.3f}" if name in row else "" for name in ("Bleu_4", "METEOR", "CIDEr")]
        size, speed = f"{row['parameters'] / 1e6:.1f}", _speed(row, 0)
        lines.append([f"`{row['name']}`", *scores, size, speed])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _speed(row: Row, digits: int) -> str:
    """Nothing of one that was scored on a machine that had other work to do."""
    return f"{row['images_per_second']:.{digits}f}" if "images_per_second" in row else ""


def write_table(path: Path, text: str, start: str = START, end: str = END) -> None:
    """Put the table between the markers of a file; one without them, or that is not there, is left alone."""
    page = read_text(path) if path.is_file() else ""
    before, start, rest = page.partition(start)
    _, end, after = rest.partition(end)
    if end:
        path.write_text(f"{before}{start}\n{text}\n{end}{after}", encoding="utf-8")


def _score_card(path: Path, row: Row) -> None:
    card = read_json(path)
    card["scores"] = {key: row[key] for key in SCORES if key in row}
    path.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
