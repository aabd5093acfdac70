"""What was measured of captioners, as pictures: scores, speed, training, and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any

from captionbot.draw import plots
from captionbot.draw.files import svg
from captionbot.draw.plots import Dot, Mark
from captionbot.errors import CaptionBotError, shortened
from captionbot.pages import results
from captionbot.pages.presenters.charts import Chart
from captionbot.pages.presenters.results import METRICS, search_title, speed
from captionbot.pages.presenters.seen import Column, Table
from captionbot.pages.resident import cards_here
from captionbot.pages.work import Work
from captionbot.store.card import Card

_Epoch = tuple[int, str, int, float]  # stage, its loss, epochs until then, CIDEr
_AS_ITS_CARD = "as its card says"
SPEED, TRAINING = "Quality against speed", "Training"
SURE, RISK = "Is it as sure as it is right?", "What leaving out the unsure ones is worth:"


def titles(work: Work) -> list[str]:
    """The pictures that there are of the captioners that are here."""
    return list(_pictures(work))


def picture(work: Work, title: str) -> Chart:
    """One of `titles`; CaptionBotError where it is none of them."""
    return _drawn(work, title, results.stamp())


@lru_cache(maxsize=32)  # drawing takes a third of a second
def _drawn(work: Work, title: str, stamp: object) -> Chart:
    """stamp: changes as the files do."""
    found = _pictures(work)
    if title not in found:
        raise CaptionBotError(f"There is no picture “{shortened(title)}”; choose one of {', '.join(found)}.")
    return found[title]()


def _pictures(work: Work) -> dict[str, Callable[[], Chart]]:
    """What draws each picture, by its title."""
    rows, cards = results.leaderboard(), {work.title(name): card for name, card in _cards(work)}
    found: dict[str, Callable[[], Chart]] = {
        metric: partial(_scores, work, metric)
        for metric, key in METRICS.items()
        if any(row.get(key) is not None for row in rows)
    }
    if any(row.get("CIDEr") is not None and row.get("images_per_second") for row in rows):
        found[SPEED] = partial(_speeds, work)
    if told := {title: epochs for title, card in cards.items() if (epochs := list(_epochs(card)))}:
        found[TRAINING] = partial(_training, told)
    for title, card in cards.items():
        if photos := _held_out(card):
            level = card.confidence["measured"].get("level", 0)
            found[f"{SURE} {title}"] = partial(_sure, title, photos, level)
            found[f"{RISK} {title}"] = partial(_risk, title, photos)
    return found


def _scores(work: Work, metric: str) -> Chart:
    """The scores of all captioners by one metric, a dot for each way to search."""
    key = METRICS[metric]
    rows = [row for row in results.leaderboard() if row.get(key) is not None]
    names = list(dict.fromkeys(row["name"] for row in rows))
    searches = dict.fromkeys(search_title(row.get("beam_size")) or _AS_ITS_CARD for row in rows)
    found = {(row["name"], search_title(row.get("beam_size")) or _AS_ITS_CARD): row for row in rows}

    def dot(row: dict[str, Any] | None) -> Dot | None:
        return Dot(row[key], row.get("intervals", {}).get(key)) if row else None

    series = {search: [dot(found.get((name, search))) for name in names] for search in searches}
    figure = plots.dots(list(map(work.title, names)), series, metric)
    known = [row.get("intervals", {}).get(key) for row in rows]
    columns = Column("Captioner"), Column("Search"), Column(metric, 3), Column("95 % interval")
    table = Table(
        columns,
        [[*_named(work, row), row[key], _range(interval)] for row, interval in zip(rows, known, strict=True)],
    )
    best = max(rows, key=lambda row: row[key])
    lines = "Lines hold 95 % of 1,000 scores of as many photos, drawn with replacement."
    without = "No interval where the captions of single photos were not kept."
    return Chart(
        metric,
        svg(figure),
        f"{metric} of {len(names)} captioners: from {min(row[key] for row in rows):.3f} to {best[key]:.3f}, "
        f"which {work.title(best['name'])} has.",
        " ".join([*[lines] * any(known), *[without] * (not all(known))]),
        table,
    )


def _cards(work: Work) -> Iterator[tuple[str, Card]]:
    """Of captioners that anybody may see; not of those that a visitor uploaded."""
    here = {path.stem for path in cards_here()}
    for name in work.captioners():
        with suppress(CaptionBotError):  # a damaged one says so once it is chosen
            if name in here:
                yield name, work.card(name)


def _speeds(work: Work) -> Chart:
    """CIDEr against photos a second, greedy and beam search of a captioner joined by a line."""
    rows = [row for row in results.leaderboard() if row.get("CIDEr") is not None]
    timed = [row for row in rows if row.get("images_per_second")]
    series: dict[str, list[Mark]] = {work.title(row["name"]): [] for row in rows}  # all, for their colours
    for row in timed:
        series[work.title(row["name"])].append(Mark(row["images_per_second"], row["CIDEr"]))
    figure = plots.lines(series, ("Photos a second", "CIDEr"))
    columns = Column("Captioner"), Column("Search"), Column("Photos a second", 1), Column("CIDEr", 3)
    table = Table(
        columns,
        [[*_named(work, row), row["images_per_second"], row["CIDEr"]] for row in timed],
    )
    fastest, best = (max(timed, key=itemgetter(by)) for by in ("images_per_second", "CIDEr"))
    left_out = dict.fromkeys(work.title(row["name"]) for row in rows if row not in timed)
    return Chart(
        SPEED,
        svg(figure),
        f"The fastest, {work.title(fastest['name'])}, captions {fastest['images_per_second']:.0f} photos a "
        f"second with CIDEr {fastest['CIDEr']:.3f}; the best of those that were timed, "
        f"{work.title(best['name'])}, has {best['CIDEr']:.3f} at {best['images_per_second']:.0f}.",
        " ".join(
            [
                "Greedy search and beam search of a captioner are joined by a line.",
                speed(),
                *[f"Not timed: {', '.join(left_out)}."] * bool(left_out),
            ]
        ),
        table,
    )


def _training(told: Mapping[str, Sequence[_Epoch]]) -> Chart:
    """CIDEr on val over the epochs that the weights have seen, stage after stage. told: of `_epochs`, by the
    titles of captioners."""
    series = {title: [Mark(row[2], row[3]) for row in rows] for title, rows in told.items()}
    figure = plots.lines(series, ("Epochs", "CIDEr on val"))
    columns = Column("Captioner"), Column("Stage"), Column("Loss"), Column("Epochs"), Column("CIDEr", 3)
    table = Table(columns, [[title, *row] for title, rows in told.items() for row in rows])
    said = [f"{title} from {rows[0][3]:.3f} to {rows[-1][3]:.3f}" for title, rows in told.items()]
    return Chart(
        TRAINING,
        svg(figure),
        f"CIDEr on val from the first stage of training to the last: {', '.join(said)}.",
        "As the cards tell it: every epoch of a stage where they keep them, its best one otherwise. Scored "
        "during training, with smaller beams and without word evidence; stages differ in their photos.",
        table,
    )


def _epochs(card: Card) -> Iterator[_Epoch]:
    """Stage, its loss, epochs until then and CIDEr, of what a card says of training."""
    before = 0
    for number, stage in enumerate(card.training.get("stages", ()), 1):
        best = stage.get("best", {})
        curve = stage.get("curve") or [best]
        first = int(best.get("epoch", 1)) - len(curve) + 1
        for epoch, scores in enumerate(curve, first):
            if "CIDEr" in scores:
                yield number, str(stage.get("stage", "")), before + epoch, float(scores["CIDEr"])
        before += int(best.get("epoch", 0))  # the next stage goes on from there


def _held_out(card: Card) -> dict[str, Any]:
    """What was measured of a captioner's judgement, by the kind of photos; nothing where it was not."""
    photos = dict(card.confidence.get("measured", {}).get("held out", {}))
    if len(photos) > 1:
        photos.pop("all", None)
    return photos


def _sure(title: str, photos: Mapping[str, Any], level: float) -> Chart:
    """How often a captioner is right of what it says it is."""
    errors = [f"{said['expected calibration error']:.3f} on {of}" for of, said in photos.items()]
    columns = (
        Column("Photos of"),
        Column("Captions"),
        Column("It says", share=True),
        Column("Right", share=True),
        Column("95 % interval"),
    )
    return Chart(
        f"{SURE} {title}",
        svg(plots.reliability(photos)),
        f"The probability that {title} gives its captions against the share of them that are right; the "
        f"expected calibration error is {', '.join(errors)}.",
        f"On the dotted line it is right as often as it says. Lines are 95 % intervals. Right: it names the "
        f"subject as somebody did, with a CIDEr of {level} or more; photos that the fit had not seen.",
        Table(
            columns,
            [
                [of, row["photos"], row["said"], row["right"], _range(plots.calibrated(row).interval)]
                for of, said in photos.items()
                for row in said["bins"]
            ],
        ),
    )


def _risk(title: str, photos: Mapping[str, Any]) -> Chart:
    """How many wrong captions there are among the surest."""
    risks = {of: said["risk by coverage"] for of, said in photos.items()}
    half = [f"{of} {found['0.5']:.0%}" for of, found in risks.items() if "0.5" in found]
    columns = Column("Photos of"), Column("Shown", share=True), Column("Wrong", share=True)
    return Chart(
        f"{RISK} {title}",
        svg(plots.risk(photos)),
        f"The share of wrong captions against how many are shown, surest first; of the surer half: "
        f"{', '.join(half)}.",
        "Risk against coverage: at the right all captions are shown, at the left only the surest.",
        Table(
            columns,
            [[of, float(share), wrong] for of, found in risks.items() for share, wrong in found.items()],
        ),
    )


def _named(work: Work, row: Mapping[str, Any]) -> tuple[str, str]:
    """Captioner and search of a row of the leaderboard."""
    return work.title(row["name"]), search_title(row.get("beam_size"))


def _range(interval: Sequence[float] | None) -> str:
    return "{:.3f} to {:.3f}".format(*interval) if interval else ""
