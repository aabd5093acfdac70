"""Every captioner over the photos of a split, in one table: scores, sizes and speed.

    python -m training.leaderboard
    python -m training.leaderboard --models NAME NAME
    python -m training.leaderboard --limit 50

It writes weights/leaderboard.json and, between the lines `<!-- leaderboard -->` and `<!-- /leaderboard -->`,
the table in docs/families.md and a shorter one in docs/use.md. Rows of other captioners are kept as long as
those have not changed. A try with --limit prints the table, and writes --out alone.

Everything is as users get it, from a photo's bytes to its caption: the precision that a card asks for too.
The data sets of a mixture are scored apart, and stand side by side in the table.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from captionbot.captioner import Captioner
from captionbot.cli.commands import Parser, command
from captionbot.errors import CaptionBotError
from captionbot.files import utf8
from captionbot.store.card import Card
from captionbot.store.folders import weights_folder
from captionbot.store.registry import find_card, list_cards
from captionbot.types import Size
from training.compress.export import SCORES
from training.data import Example, ImageStore
from training.data.files import read_json, read_text
from training.data.mixture import images_of
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
BRIEF = _ROOT / "docs" / "use.md"
DOCS = (BRIEF, _ROOT / "docs" / "families.md")
_METRICS = [name for name in SCORES if name not in ("split", "images", "beam_size")]
_SIDE_BY_SIDE = ("Bleu_4", "METEOR", "CIDEr")  # of several data sets


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(
        "python -m training.leaderboard",
        description="Every captioner over the photos of a split, in one table: scores, sizes and speed.",
    )
    add_common_flags(parser, "--data", "training/configs/data/val.mixture.yaml")
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


def add_common_flags(
    parser: argparse.ArgumentParser, annotations: str, default: str = "../shared/data/flickr8k"
) -> None:
    """Which captioners, and which photos; annotations: the flag that says where people's captions are."""
    parser.add_argument("--models", nargs="+", help="names, folders or cards (default: all that ship)")
    parser.add_argument(
        annotations,
        type=Path,
        default=Path(default),
        help="what people wrote, any that training.evaluate reads (default: %(default)s)",
    )
    parser.add_argument("--images", type=Path, help="folder or tar of the photos (default: beside that)")
    parser.add_argument("--split", default="val", help="of the annotations (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=0, help="only the first so many photos: a try")
    parser.add_argument("--device", default="auto")


def chosen_cards(models: Sequence[str] | None) -> list[Path]:
    return [find_card(name) for name in models] if models else list_cards()


def leaderboard(given: argparse.Namespace) -> list[Row]:
    """The rows of all captioners, best first; files are written anew as each captioner is done."""
    check_least(given, {"limit": 0})
    examples, _ = load_split(given.data, "auto", given.split)
    examples = examples[: given.limit or None]
    store = images_of(given.data, given.images)
    out, docs = given.out, given.docs or []
    if not given.out and not given.limit:
        out = weights_folder() / "leaderboard.json"
        docs = DOCS if given.docs is None else given.docs
    if out:
        check_outputs([out], [given.data])
    rows = _kept(out, given.split, _counts(examples)) if out and out.exists() else []
    for card in chosen_cards(given.models):
        measured = _measure(card, store, examples, given)
        rows = _ranked([row for row in rows if row["name"] != measured[0]["name"]] + measured)
        if out:
            out.write_bytes(utf8(json.dumps(rows, indent=1, ensure_ascii=False) + "\n"))
        for path in docs:
            write_table(path, brief_table(rows) if path == BRIEF else table(rows))
        if given.cards:
            _score_card(card, measured[-1])
    return rows


def _measure(
    path: Path, store: ImageStore, examples: Sequence[Example], given: argparse.Namespace
) -> list[Row]:
    """A row for each beam size of the captioner of a card."""
    captioner = Captioner.from_pretrained(path, given.device)
    card = captioner.card
    captions, speeds = _captions(captioner, store, examples)
    return [
        {
            "name": captioner.name,
            "family": card.family,
            "split": given.split,
            "beam_size": beam_size,
            **scores_of(captions[beam_size], examples, meteor=not given.no_meteor),
            "images_per_second": round(speeds[beam_size], 2),
            "device": captioner.device.type,
            "threads": torch.get_num_threads(),
            "parameters": card.parameters,
            "size_bytes": card.size_bytes,
            "shared_bytes": path.with_name(card.shared["file"]).stat().st_size if card.shared else 0,
            **_version(card),
        }
        for beam_size in BEAM_SIZES
    ]


def _captions(
    captioner: Captioner, store: ImageStore, examples: Sequence[Example]
) -> tuple[dict[int, dict[str, str]], dict[int, float]]:
    """By beam size, the caption of every photo by its name, and photos a second.

    A photo is encoded once for all beam sizes. On a CPU the seconds are the processor's own, so that other
    work on the machine does not count.
    """
    seconds_of: Callable[[], float] = (
        time.process_time if captioner.device.type == "cpu" else time.perf_counter
    )
    names = [example.name for example in examples]
    captioner.caption([store.load(name) for name in names[:WARM_UP]], captioner.options(beam_size=1))
    captions: dict[int, dict[str, str]] = {beam_size: {} for beam_size in BEAM_SIZES}
    seconds = dict.fromkeys(BEAM_SIZES, 0.0)
    for start in tqdm(range(0, len(names), BATCH), desc=captioner.name, unit="batch"):
        batch, started = names[start : start + BATCH], seconds_of()
        photos = [store.load(name) for name in batch]
        features, encoding = captioner.encode(photos), seconds_of() - started
        sizes = [Size(*photo.size) for photo in photos]
        for beam_size in BEAM_SIZES:
            started = seconds_of()
            found = captioner.caption_features(features, sizes, captioner.options(beam_size=beam_size))
            seconds[beam_size] += encoding + seconds_of() - started
            captions[beam_size] |= {n: f.captions[0].text for n, f in zip(batch, found, strict=True)}
    return captions, {beam_size: len(names) / total for beam_size, total in seconds.items()}


def scores_of(captions: Mapping[str, str], examples: Sequence[Example], *, meteor: bool) -> Row:
    """How many images, and their scores; of a mixture those of the first data set, and under "others" those
    of each of the others by its name."""
    sets: dict[str, Row] = {}
    for source in dict.fromkeys(example.source for example in examples):
        references = {e.name: e.captions for e in examples if e.source == source}
        own = {name: captions[name] for name in references}
        measured = measure(own, references, meteor=meteor, spice=False)
        sets[source] = {"images": len(own), **measured.corpus(), "intervals": intervals(measured.tallies)}
    (source, first), *others = sets.items()
    return first | ({"data": source, "others": dict(others)} if others else {})


def _version(card: Card) -> Row:
    """What a captioner's scores hang on: when any of it is another, they say nothing of it."""
    return {"sha256": card.sha256, "shared": card.shared, "search": card.search, "precision": card.precision}


def _counts(examples: Sequence[Example]) -> list[int]:
    """How many photos there are of each data set."""
    return list(Counter(example.source for example in examples).values())


def _kept(out: Path, split: str, images: list[int]) -> list[Row]:
    """The rows of an earlier run that are of the same photos and of captioners that are as they were."""
    try:
        rows = {(row["name"], row["beam_size"]): row for row in read_json(out)}
        counts = {
            key: [row["images"], *(other["images"] for other in row.get("others", {}).values())]
            for key, row in rows.items()
        }
        same = {key: row["split"] == split and counts[key] == images for key, row in rows.items()}
    except (KeyError, TypeError):
        raise CaptionBotError(
            f"{out} is not a leaderboard; give another --out, or delete the file."
        ) from None
    kept = []
    for (name, beam_size), row in rows.items():
        if same[name, beam_size] and _is_current(row):
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
    machines = {_machine(row) for row in rows if "images_per_second" in row}
    scores = _columns(rows)
    head = ["captioner", "search", *scores, "million parameters", "MiB", "images a second"]
    lines = [head, ["---"] * len(head)]
    for i, row in enumerate(rows):
        search = "greedy" if row["beam_size"] == 1 else f"beam {row['beam_size']}"
        sizes = [f"{row['parameters'] / 1e6:.1f}", f"{row['size_bytes'] / 2**20:.1f}"]
        lines.append([row["name"], search, *(of[i] for of in scores.values()), *sizes, _speed(row, 1)])
    return (
        f"{_photos(first)} of the split `{first['split']}`, scores of coco-caption, by "
        f"`python -m training.leaderboard`. MiB: a captioner's own file{beside}. Images a second: from a "
        f"photo's bytes to its caption, {BATCH} at once, {' or '.join(sorted(machines))}.\n\n"
        + "\n".join(f"| {' | '.join(line)} |" for line in lines)
    )


def _columns(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Titles of scores, with what each row has; of several data sets the same few scores of each."""
    sets = [(rows[0].get("data", ""), list(rows))] + [
        (name, [row.get("others", {}).get(name, {}) for row in rows]) for name in rows[0].get("others", {})
    ]
    metrics = _METRICS if len(sets) == 1 else _SIDE_BY_SIDE
    return {
        f"{data} {name.replace('_', '-').replace('Bleu', 'BLEU')}".strip(): [
            f"{row[name]:.3f}" if name in row else "" for row in of
        ]
        for data, of in sets
        for name in metrics
        if any(name in row for row in of)
    }


def _photos(row: Row) -> str:
    others = "".join(f" and {other['images']} of {name}" for name, other in row.get("others", {}).items())
    return f"{row['images']} photos" + (f" of {row['data']}{others}" if others else "")


def _machine(row: Row) -> str:
    threads = "one thread" if row["threads"] == 1 else f"{row['threads']} threads"
    return f"{row['device'].upper()}, {threads}"


def brief_table(rows: Sequence[Row]) -> str:
    """Markdown for people who look around: of each captioner its best row by CIDEr, with few columns."""
    best: dict[str, Row] = {}
    for row in rows:
        best[row["name"]] = max(best.get(row["name"], row), row, key=lambda row: row["CIDEr"])
    scores = _columns(list(best.values()))
    if "BLEU-1" in scores:  # one data set, with all of its scores
        scores = {name: scores[name] for name in ("BLEU-4", "METEOR", "CIDEr") if name in scores}
    lines = [["captioner", *scores, "million parameters", "photos a second"]]
    lines.append(["---"] * len(lines[0]))
    for i, row in enumerate(best.values()):
        size, speed = f"{row['parameters'] / 1e6:.1f}", _speed(row, 1)
        lines.append([f"`{row['name']}`", *(of[i] for of in scores.values()), size, speed])
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
    common = {"split": row["split"], "beam_size": row["beam_size"]}
    card["scores"] = {key: row[key] for key in SCORES if key in row} | {
        name: common | {key: other[key] for key in SCORES if key in other}
        for name, other in row.get("others", {}).items()
    }
    path.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
