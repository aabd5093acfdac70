"""The alt texts of a visitor's photos: what a browser is given, what it may send, what is handed out."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import build_tiny_captioner

from captionbot.bulk.review import entry_of, parse
from captionbot.errors import CaptionBotError
from captionbot.images.load import ImageSource
from captionbot.images.metadata import described
from captionbot.pages import workbench
from captionbot.pages.presenters import batch
from captionbot.pages.presenters.seen import Seen
from captionbot.pages.work import Asked, Decoded, Settings, Work
from captionbot.pages.workbench import RESUMABLE, Bench, Card, Shelf, propose, reviewed, styled
from captionbot.search.options import SearchOptions
from captionbot.text.alt_text import STYLES


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("weights")
    build_tiny_captioner(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTIONBOT_WEIGHTS", str(folder))
        work = Work()
        pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
        asked = Asked(Decoded("photo.png", Image.fromarray(pixels)), Settings("tiny", work.usual("tiny")))
        yield Seen(work, asked, asked.photo.decode(), work.caption(asked))


def test_a_bench_tells_what_could_not_be_read_and_hands_out_one_caption_a_photo(seen: Seen) -> None:
    captioned = replace(seen.captioned, captions=(seen.caption, replace(seen.caption, text="a cat")))
    bad = CaptionBotError("no.png is not an image.")
    bench = Bench("tiny", 2)
    bench.cards = [
        Card(entry_of(("photo.png", captioned), "tiny"), "data:image/jpeg;base64,"),
        Card(entry_of(("no.png", bad), "tiny"), ""),
    ]
    assert batch.note(bench) == "1 captioned, 1 could not be read."
    assert batch.unread(bench) == ["no.png is not an image."]
    good, broken = batch.gallery(bench)["cards"]
    assert (good["id"], good["rank"], good["others"], good["accepted"]) == (0, 0, ["A cat."], False)
    assert (broken["name"], broken["error"], broken["alt"]) == ("no.png", "no.png is not an image.", "")

    files = {file.name: file.make for file in batch.files(bench)}
    # What a browser sends may be anything.
    bench.edit(
        {"0": ["  My   own. ", True], "1": ["x", True], "7": ["x", True], "-1": ["x", True], "x": 5, "0.0": 1}
    )
    bench.edit({"0": ["x" * 9_999, True]})
    for nothing in (None, [], "x", {"0": None}, {"0": ["x", 1]}, {"0": [5, True]}):
        bench.edit(nothing)
    for place in (None, -1, 2, "²", True, [0], "9" * 99):
        with pytest.raises(CaptionBotError, match="There are no alt texts"):
            batch.chosen(bench, place)
    assert batch.chosen(bench, 0).alt == "My own."
    (row, failed) = parse(files["alt-text.csv"](), "alt-text.csv")
    assert (row.alt, row.state, failed.state) == ("My own.", "accepted", "error")
    assert len(json.loads(files["alt-text.jsonl"]().splitlines()[0])["captions"]) == 2
    assert b'alt="My own."' in files["alt-text.html"]()
    with zipfile.ZipFile(io.BytesIO(files["alt-text.zip"]())) as archive:
        assert archive.namelist() == [
            *("alt-text.csv", "alt-text.jsonl", "alt-text.html", "txt/photo.txt", "xmp/photo.png.xmp"),
        ]
        assert archive.read("txt/photo.txt") == b"My own.\n"
        assert described(archive.read("xmp/photo.png.xmp")) == "My own."


def test_an_earlier_review_is_gone_on_with(seen: Seen) -> None:
    asked: list[str] = []

    def caption(some: list[Any]) -> list[Any]:
        asked.extend(name for name, _ in some)
        return [(name, seen.captioned) for name, _ in some]

    known = reviewed(
        [("mine.csv", b"image,alt,state\nat/home/a.png,Mine.,accepted\nb/c.png,1,\nd/c.png,2,\n")]
    )
    sources = [ImageSource(name, lambda at_least=None: seen.shown) for name in ("in.zip/a.png", "c.png")]
    wanted = seen.work.captioner("tiny").preprocessing
    first, second = propose(sources, wanted, caption, "tiny", known)
    assert asked == ["c.png"]  # a name that two photos of the review have is no sign
    assert (first.entry.image, first.entry.alt, first.entry.accepted) == ("in.zip/a.png", "Mine.", True)
    assert first.thumbnail.startswith("data:image/jpeg")
    assert second.entry.state == "to review"
    with pytest.raises(CaptionBotError, match="larger than 20 MB"):
        reviewed([("mine.csv", b"x" * 20_000_001)])


@pytest.mark.parametrize(
    "options",
    [{}, {"sample": True}, {"num_groups": 3, "diversity_penalty": 0.5}, {"beam_size": 12, "num_return": 12}],
)
def test_every_style_goes_with_all_that_is_asked(options: dict[str, Any]) -> None:
    beams = {"beam_size": 6} if "num_groups" in options else {}
    for style in STYLES:
        assert styled(SearchOptions(**beams, **options), style)
    with pytest.raises(CaptionBotError, match="no such style"):
        styled(SearchOptions(), "x")


def test_benches_wait_for_a_reload_by_their_secret_names_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, bench, now = Shelf(), Bench("tiny", 3), [0.0]
    monkeypatch.setattr(workbench.time, "monotonic", lambda: now[0])
    shelf.keep(bench, "its settings")
    assert shelf.get(bench.batch) == (bench, "its settings")
    assert [shelf.get(other) for other in ("", None, 5, [bench.batch], Bench("tiny").batch)] == [None] * 5
    now[0] = workbench.KEPT + 1
    assert shelf.get(bench.batch) is None
    others = [Bench("tiny") for _ in range(RESUMABLE + 1)]
    for other in others:
        shelf.keep(other)
    assert [shelf.get(other.batch) is None for other in others] == [True, *[False] * RESUMABLE]
    shelf.drop(others[-1])
    assert shelf.get(others[-1].batch) is None
    assert batch.rest(bench).startswith("3 were not captioned yet")
    assert batch.rest(Bench("tiny", 0)) == ""


def test_copies_of_photos_have_their_descriptions_inside(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    pyexiv2 = pytest.importorskip("pyexiv2", reason="needs pyexiv2")
    photos = {}
    for name, kind in (("a.jpg", "JPEG"), ("in.zip/../a.jpg", "JPEG"), ("b.png", "PNG"), ("c.bmp", "BMP")):
        seen.shown.save(buffer := io.BytesIO(), kind)
        photos[name] = buffer.getvalue()
    photos["broken.jpg"] = photos["a.jpg"][:100]
    bench = Bench("tiny", len(photos))
    bench.cards = [Card(entry_of((name, seen.captioned), "tiny"), "") for name in photos]
    bench.edit({"0": ["Mine.", True]})
    [file] = batch.embedding(bench, photos.get)
    with zipfile.ZipFile(io.BytesIO(file.make())) as archive:
        assert archive.namelist() == ["a.jpg", "in.zip/a.jpg", "b.png", "left-out.txt"]
        left_out = archive.read("left-out.txt").decode()
        with pyexiv2.ImageData(archive.read("a.jpg")) as image:
            assert image.read_xmp()["Xmp.dc.description"] == {'lang="x-default"': "Mine."}
            assert image.read_iptc()["Iptc.Application2.Caption"] == "Mine."
        again = batch.embedding(bench, {**photos, "a.jpg": archive.read("a.jpg")}.get)[0].make
        bench.edit({"0": ["Another.", True]})
    assert "c.bmp has no room for a description" in left_out
    assert "broken.jpg cannot be given a description" in left_out
    with zipfile.ZipFile(io.BytesIO(again())) as archive:
        assert "a.jpg has another description: it stays." in archive.read("left-out.txt").decode()
    with pytest.raises(CaptionBotError, match="There are no alt texts here"):
        batch.embedding(bench, {}.get)[0].make()
    monkeypatch.setattr(batch, "MAX_EMBED_MEGABYTES", 0.001)
    with pytest.raises(CaptionBotError, match=r"larger than 0\.001 MB together"):
        file.make()
