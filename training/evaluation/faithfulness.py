"""For which words is the map of what they need true? Tested over many photos, for one captioner or several.

    python -m training.faithfulness --images DIR|TAR
    python -m training.faithfulness --images DIR|TAR --captioner NAME NAME --out weights/faithfulness.json
    python -m training.faithfulness --images DIR|TAR --captioner all --keep cache/needs

Every word of each photo's best caption goes through `captionbot.explain.needs`. Captioners that share a CNN
have each hidden copy go through it once. With --keep what was measured of a photo lies in a folder, and a
run that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from captionbot.captioner import Captioner
from captionbot.cli.commands import Parser, command
from captionbot.draw import plots
from captionbot.errors import CaptionBotError
from captionbot.explain.copies import Copies
from captionbot.explain.faithfulness import Faithfulness, Measured, measured, over
from captionbot.explain.needs import COPIES, SEED, Needs, kept_of, needs
from captionbot.store.registry import list_cards
from training.data import ImageStore, open_images
from training.data.files import read_json
from training.run.checkpoints import check_outputs
from training.run.config import check_least


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(
        "python -m training.faithfulness",
        description="For which words is the map of what they need true? Tested over many photos.",
    )
    parser.add_argument("--images", type=Path, required=True, help="folder or tar of photos")
    parser.add_argument(
        "--captioner",
        nargs="+",
        metavar="NAME",
        help="names, folders or cards; all: those that are here (default: the one that ships)",
    )
    parser.add_argument("--limit", type=int, default=0, help="only the first so many photos")
    parser.add_argument(
        "--copies",
        type=int,
        default=COPIES,
        help="of each photo, a quarter of it hidden (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=SEED, help="of the hidden quarters (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--keep", type=Path, help="folder for what was measured of each photo, to go on later"
    )
    parser.add_argument(
        "--out", type=Path, help="file to put the figures into (the pages show weights/faithfulness.json)"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="PNG", help="picture of the shares by part of speech, with intervals"
    )
    given = parser.parse_args(arguments)
    check_least(given, {"limit": 0, "seed": 0, "copies": 16})
    names: list[Any] = given.captioner or [None]
    if names == ["all"]:
        names = [path.stem for path in list_cards()]
    captioners = [Captioner.from_pretrained(name, given.device) for name in names]
    check_outputs([path for path in (given.out, given.plot) if path], [])
    if given.out:
        others = _others(given.out, {captioner.name for captioner in captioners})
    store = open_images(given.images)
    photos = store.names()[: given.limit or None]
    found = test_photos(captioners, store, photos, given.copies, given.seed, given.keep)
    figures = [over(captions) for captions in found]
    if given.out:
        write(given.out, captioners, figures, others)
    if given.plot:
        plot(given.plot, [captioner.name for captioner in captioners], figures)
    print(table([captioner.name for captioner in captioners], figures))
    return 0


def test_photos(
    captioners: Sequence[Captioner],
    store: ImageStore,
    names: Sequence[str],
    copies: int = COPIES,
    seed: int = SEED,
    keep: Path | None = None,
) -> list[list[Measured]]:
    """Every word of each captioner's best caption of each photo, tested; in the order of the captioners."""
    found: list[list[Measured]] = [[] for _ in captioners]
    for name in tqdm(names, desc="photos", unit="photo"):
        image, kept = store.load(name), kept_of()
        for captioner, captions in zip(captioners, found, strict=True):
            captions.append(_test(captioner, image, copies, seed, kept, keep))
    return found


def _test(
    captioner: Captioner, image: Image.Image, copies: int, seed: int, kept: Copies, keep: Path | None
) -> Measured:
    """keep: a folder with a file for each photo, captioner and seed."""
    if keep is None:
        return _measured(captioner, image, copies, seed, kept)
    of = f"{captioner.card.sha256} {copies} {seed} ".encode() + image.tobytes()
    path = keep / f"{captioner.name}-{hashlib.sha256(of).hexdigest()[:24]}.npz"
    if path.is_file():
        with np.load(path) as held:
            found = Needs(tuple(map(str, held["words"])), held["before"], held["drops"], held["after"], seed)
            return Measured(found, held.get("attention"))
    found, attention = _measured(captioner, image, copies, seed, kept)
    arrays: dict[str, Any] = {} if attention is None else {"attention": attention}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        words=np.array(found.words),
        before=found.before,
        drops=found.drops,
        after=found.after,
        **arrays,
    )
    return Measured(found, attention)


def _measured(captioner: Captioner, image: Image.Image, copies: int, seed: int, kept: Copies) -> Measured:
    caption = captioner.caption([image])[0].captions[0]
    attends = captioner.decoder.attends and len(caption.boxes) > 1
    return measured(needs(captioner, image, caption, copies, seed, kept), caption, attends)


def table(names: Sequence[str], figures: Sequence[Faithfulness]) -> str:
    """Markdown: nouns, a line for each captioner; then parts of speech, of each."""
    lines = [
        "| captioner | nouns | map true | also half as likely or less | without its hottest quarter | r | "
        "attention true | own map best (by chance) | random patches | shuffled |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in zip(names, figures, strict=True):
        if (nouns := found.of("noun")) is not None:
            attention = "" if nouns.attention is None else f"{nouns.attention / nouns.words:.0%}"
            lines.append(
                f"| {name} | {nouns.words} | {nouns.true} | {nouns.halved} | "
                f"{nouns.quarter / nouns.words:.0%} | {nouns.r:.2f} | {attention} | "
                f"{found.own.share:.0%} ({found.own_by_chance:.0%}) | {found.patches.share:.1%} | "
                f"{found.shuffled.share:.1%} |"
            )
    for name, found in zip(names, figures, strict=True):
        lines += [
            *("", f"{name}, {found.photos} photos:", ""),
            "| part of speech | words | map true | needs this place | a little | no one place | sentence |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in found.shares:
            shares = (f"{n / row.words:.0%}" for n in (row.place, row.little, row.photo, row.sentence))
            lines.append(f"| {row.part} | {row.words} | {row.true} | {' | '.join(shares)} |")
    return "\n".join(lines)


def plot(path: Path, names: Sequence[str], figures: Sequence[Faithfulness]) -> None:
    """Draw the share of words whose map is true by part of speech, a colour for each captioner."""
    plots.parts_of_speech(dict(zip(names, figures, strict=True))).savefig(path)


def _others(path: Path, names: set[str]) -> list[Any]:
    """What a file of figures says of other captioners than those of the names."""
    try:
        return [row for row in (read_json(path) if path.exists() else []) if row["name"] not in names]
    except (KeyError, TypeError):
        raise CaptionBotError(f"{path} is no file of such figures; give another --out.") from None


def write(
    path: Path, captioners: Sequence[Captioner], figures: Sequence[Faithfulness], others: Sequence[Any] = ()
) -> None:
    """Write captioners' figures, behind those of others that the file had."""
    rows = [
        {"name": captioner.name, "sha256": captioner.card.sha256, **found.to_json()}
        for captioner, found in zip(captioners, figures, strict=True)
    ]
    path.write_text(json.dumps([*others, *rows], indent=1) + "\n", encoding="utf-8")
