"""For which words is the heatmap true? Tested over many photos, by part of speech.

    python -m training.faithfulness --images DIR|TAR
    python -m training.faithfulness --images DIR|TAR --captioner NAME --out weights/faithfulness.json
    python -m training.faithfulness --images DIR|TAR --by-chance

Every word of each photo's best caption goes through `captionbot.explain.faithfulness.faithfulness`. The last
form puts random patches in the place of the heatmaps: the test should then believe about 1 word in 20.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from captionbot.captioner import Captioner
from captionbot.cli.commands import Parser, command
from captionbot.errors import CaptionBotError
from captionbot.explain.faithfulness import Faithfulness, Share, by_part_of_speech, faithfulness, random_maps
from training.data import ImageStore, open_images
from training.data.files import read_json
from training.run.checkpoints import check_outputs
from training.run.config import check_least


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(
        "python -m training.faithfulness",
        description="For which words is the heatmap true? Tested over many photos, by part of speech.",
    )
    parser.add_argument("--images", type=Path, required=True, help="folder or tar of photos")
    parser.add_argument("--captioner", help="name, folder or card (default: the one that ships)")
    parser.add_argument("--limit", type=int, default=0, help="only the first so many photos")
    parser.add_argument("--seed", type=int, default=0, help="of the random orders (default: %(default)s)")
    parser.add_argument("--by-chance", action="store_true", help="test random patches, not the heatmaps")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--out", type=Path, help="file to put the table into (the pages show weights/faithfulness.json)"
    )
    given = parser.parse_args(arguments)
    check_least(given, {"limit": 0, "seed": 0})
    captioner = Captioner.from_pretrained(given.captioner, given.device)
    if given.out:
        check_outputs([given.out], [])
        others = _others(given.out, captioner.name)
    store = open_images(given.images)
    names = store.names()[: given.limit or None]
    tested = test_photos(captioner, store, names, given.seed, given.by_chance)
    shares = by_part_of_speech(tested)
    if given.out:
        write(given.out, captioner, len(names), shares, others)
    print(table(shares))
    return 0


def test_photos(
    captioner: Captioner, store: ImageStore, names: Sequence[str], seed: int = 0, by_chance: bool = False
) -> list[tuple[Faithfulness, ...]]:
    """Every word of every photo's best caption, tested."""
    tested = []
    for i, name in enumerate(tqdm(names, desc="photos", unit="photo")):
        image = store.load(name)
        caption = captioner.caption([image])[0].captions[0]
        # Other seeds than the test's own, or its random orders would be tested against themselves.
        maps = random_maps(caption, seed + 1 + i) if by_chance else None
        tested.append(faithfulness(captioner, image, caption, maps=maps, steps=1, seed=seed))
    return tested


def table(shares: Sequence[Share]) -> str:
    """Markdown: a line for each part of speech."""
    lines = ["| part of speech | words | heatmap true | share | 95 % interval |", "|---|---|---|---|---|"]
    for row in shares:
        low, high = row.interval
        lines.append(f"| {row.part} | {row.words} | {row.true} | {row.share:.0%} | {low:.0%} to {high:.0%} |")
    return "\n".join(lines)


def _others(path: Path, name: str) -> list[Any]:
    """What a file of tables says of other captioners than that of the name."""
    try:
        return [row for row in (read_json(path) if path.exists() else []) if row["name"] != name]
    except (KeyError, TypeError):
        raise CaptionBotError(f"{path} is no file of such tables; give another --out.") from None


def write(
    path: Path, captioner: Captioner, photos: int, shares: Sequence[Share], others: Sequence[Any] = ()
) -> None:
    """Write a captioner's table, beside those of others that the file had."""
    row = {
        "name": captioner.name,
        "sha256": captioner.card.sha256,
        "photos": photos,
        "parts": [asdict(share) for share in shares],
    }
    path.write_text(json.dumps([*others, row], indent=1) + "\n", encoding="utf-8")
