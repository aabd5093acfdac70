"""Turns at the captioner are fair, and what one visitor does keeps no other out."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from local_server import local_server
from PIL import Image
from tiny import build_tiny_captioner

from captionbot import CaptionBotError, Captioner
from captionbot.bulk.folder import caption_each
from captionbot.images.load import ImageSource
from captionbot.pages import batches, fetching, limits
from captionbot.pages.batches import caption_photos
from captionbot.pages.turns import Turns

PATIENCE = 60  # seconds, after which a test hangs


def test_turns_go_round_in_the_order_in_which_they_were_asked_for() -> None:
    turns, order = Turns(), []

    def work(name: str) -> None:
        with turns.turn():
            order.append(name)

    threads = []
    with turns.turn():
        for name in "abcdefgh":
            threads.append(threading.Thread(target=work, args=(name,)))
            threads[-1].start()
            while len(turns._waiting) < len(threads):
                time.sleep(0.01)
    for thread in threads:
        thread.join(PATIENCE)
    assert order == [*"abcdefgh"]


def test_a_long_job_gives_way_each_time_that_it_hands_on() -> None:
    turns, order = Turns(), []
    others = threading.Event()

    def batch() -> None:
        for number in range(3):
            with turns.turn():
                order.append(f"batch {number}")
                if not number:
                    assert others.wait(PATIENCE)

    def visitor() -> None:
        with turns.turn():
            order.append("visitor")

    first, second = threading.Thread(target=batch), threading.Thread(target=visitor)
    first.start()
    while not order:
        time.sleep(0.01)
    second.start()
    while not turns._waiting:
        time.sleep(0.01)
    others.set()
    first.join(PATIENCE)
    second.join(PATIENCE)
    assert order == ["batch 0", "visitor", "batch 1", "batch 2"]


def test_within_one_s_own_turn_it_is_there_already_and_errors_hand_it_on() -> None:
    turns = Turns()
    with pytest.raises(ValueError), turns.turn(), turns.turn():
        raise ValueError
    taken = []
    thread = threading.Thread(target=lambda: taken.append(turns._take()))
    thread.start()
    thread.join(PATIENCE)
    assert taken == [None]


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    return Captioner.from_pretrained(build_tiny_captioner(tmp_path_factory.mktemp("weights")))


def test_batches_hold_no_photo_at_its_own_size(captioner: Captioner) -> None:
    """All are small once they are read."""
    held: list[Any] = []

    def load(number: int, at_least: int | None = None) -> Image.Image:
        return Image.new("RGB", (3000, 2000), (number * 10, 0, 0))

    def caption(some: list[Any]) -> list[Any]:
        held.extend(image.size for _, image in some)
        return list(caption_each(captioner, some, len(some), {}))

    sources = [ImageSource(f"{i}.png", lambda at_least=None, i=i: load(i, at_least)) for i in range(20)]
    found = list(caption_photos(sources, captioner.preprocessing, caption, 96))
    assert [name for (name, _), _ in found] == [f"{i}.png" for i in range(20)]
    assert set(held) == {captioner.preprocessing.size[::-1]}
    assert all(small.startswith("data:image/jpeg") for _, small in found)


def test_batches_end_somewhere(captioner: Captioner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_BATCH_PHOTOS", 3)
    photo = Image.new("RGB", (40, 30))
    endless = (ImageSource(f"{i}\udce9.png", lambda at_least=None: photo) for i in iter(int, 1))

    def caption(some: list[Any]) -> list[Any]:
        return list(caption_each(captioner, some, len(some), {}))

    found = [result for result, _ in caption_photos(endless, captioner.preprocessing, caption, 96)]
    assert [isinstance(result, CaptionBotError) for _, result in found] == [False, False, False, True]
    assert "3 photos at most" in str(found[-1][1])
    assert found[0][0] == "0\ufffd.png"


def test_so_many_addresses_are_fetched_at_once_and_one_more_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "MAX_FETCH_WAIT", 0.1)
    with local_server() as server:
        server.answers["/slow"] = lambda exchange: server.drip(exchange, b"x" * 10_000)
        slow = server.url("/slow")
        fetch = fetching.fetch
        monkeypatch.setattr(fetching, "fetch", lambda url: fetch(url, timeout=3, allow=lambda address: True))
        ended: list[str] = []

        def visit() -> None:
            with pytest.raises(CaptionBotError) as told:
                fetching.fetch_photo(slow)
            ended.append(str(told.value))

        threads = [threading.Thread(target=visit) for _ in range(limits.MAX_FETCHES)]
        for thread in threads:
            thread.start()
        while len(server.requests) < limits.MAX_FETCHES:
            time.sleep(0.01)
        with pytest.raises(CaptionBotError, match="being fetched just now"):
            fetching.fetch_photo(slow)
        for thread in threads:
            thread.join(PATIENCE)
        assert len(ended) == limits.MAX_FETCHES
        server.says("/quick", b"photo")
        assert fetching.fetch_photo(server.url("/quick")) == b"photo"  # room is made again


@pytest.mark.parametrize("length", [limits.MAX_TEXT + 1, 1_000_000])
def test_texts_have_a_length(length: int) -> None:
    with pytest.raises(CaptionBotError, match="4,000 are allowed") as told:
        limits.checked_text("a-." * length)
    assert len(str(told.value)) < 300
    assert limits.checked_text("a" * limits.MAX_TEXT) == "a" * limits.MAX_TEXT


def test_photos_with_long_sides_are_worked_on_smaller(tmp_path: Path) -> None:
    from captionbot.pages.work import PhotoFile

    path = tmp_path / "long.png"
    Image.new("RGB", (8192, 64)).save(path)
    assert PhotoFile("long.png", path.read_bytes()).decode().size == (4096, 32)
