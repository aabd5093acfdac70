"""Both pages fetch a captioner: with progress, stopped, resumed, refused; from a server on this machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import streamlit as st
from hub_server import publish
from local_server import Exchange, LocalServer
from PIL import Image
from streamlit.testing.v1 import AppTest

from benchmarks.hub_pages import PAGES, captioner_of_true_size, peak
from benchmarks.raw import Visitor
from benchmarks.servers import CHROMIUM
from captionbot.cli.main import main
from captionbot.errors import CaptionBotError
from captionbot.pages import offers
from captionbot.pages.offers import DOWNLOADS, Offer, State
from captionbot.pages.presenters import hub as says
from captionbot.store.importers.hub import address_of
from captionbot.store.registry import find_card

STREAMLIT = Path(__file__).parents[2] / "streamlit_app.py"
SOURCE = address_of("blip-base")
WEIGHTS = f"/{SOURCE.id}/resolve/{SOURCE.revision}/model.safetensors"


@pytest.fixture
def hub(server: LocalServer, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    """A Hub that has a tiny captioner under the name of BLIP (base), and a host that offers it."""
    publish(server, repository, SOURCE.id, SOURCE.revision)
    monkeypatch.setenv("CAPTIONBOT_HUB", "1")
    monkeypatch.setattr(offers, "STRENGTH", ("blip-base",))
    yield server
    DOWNLOADS.stop()
    until(lambda: not DOWNLOADS.state.running)
    st.cache_data.clear()
    st.cache_resource.clear()


def until(true: Callable[[], Any]) -> None:
    for _ in range(1200):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it never came")


def slowly(server: LocalServer, whole: bytes) -> Event:
    """Have the server send half of the weights, and the rest once it is told to go on."""
    go_on, tag = Event(), '"model.safetensors"'

    def answer(exchange: Exchange) -> None:
        start = int(exchange.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        part, left = whole[start : start + len(whole) // 2], len(whole) - start
        told = {"Content_Range": f"bytes {start}-{len(whole) - 1}/{len(whole)}"} if start else {}
        exchange.answer(part, 206 if start else 200, length=left, ETag=tag, **told)
        go_on.wait(60)
        exchange.wfile.write(whole[start + len(part) :])

    server.answers[WEIGHTS] = answer
    return go_on


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """A photo that no captioner knows."""
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)).save(path)
    return path


def run(page: AppTest) -> AppTest:
    page.run()
    assert not page.exception
    return page


def keys(page: AppTest) -> set[str]:
    return {button.key for button in page.button if button.key}


def test_a_visitor_of_streamlit_has_a_captioner_fetched_and_asks_it(
    hub: LocalServer, repository: Path, noise: Path
) -> None:
    whole = (repository / "model.safetensors").read_bytes()
    go_on = slowly(hub, whole)
    page = run(AppTest.from_file(str(STREAMLIT), default_timeout=300))
    page.file_uploader(key="upload").upload(noise.name, noise.read_bytes())
    run(page)
    offered = page.button(key="ask a stronger one")
    assert offered.label == "Download BLIP (base) (990 MB)"
    assert any("990 MB to download, 1.2 GB of memory" in text.value for text in page.markdown)
    offered.click()
    run(page)
    until(lambda: DOWNLOADS.state.total == len(whole) and DOWNLOADS.state.done)
    assert "stop" in keys(run(page))
    stranger = run(AppTest.from_file(str(STREAMLIT), default_timeout=300))
    assert "stop" not in keys(stranger)
    page.button(key="stop").click()
    run(page)
    go_on.set()
    until(lambda: not DOWNLOADS.state.running)
    # Below the sentence, and where it was asked for, since settings lie over the sentence.
    assert sum("goes on there" in text.value for text in run(page).warning) == 2
    page.button(key="fetch").click()
    run(page)
    until(lambda: not DOWNLOADS.state.running)
    assert find_card("blip-base").with_suffix(".safetensors").read_bytes() == whole
    assert [headers["Range"] for path, headers in hub.requests if path == WEIGHTS][1].startswith("bytes=")
    assert any("is here" in text.value for text in run(page).success)
    page.button(key="ask a stronger one").click()
    run(page)
    assert page.selectbox(key="model").value == "blip-base"
    assert "ask a stronger one" not in keys(page)


def test_a_visitor_of_gradio_has_a_captioner_fetched_and_asks_it(
    hub: LocalServer, repository: Path, noise: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    from captionbot.pages.gradio.app import build, launch_options

    go_on = slowly(hub, (repository / "model.safetensors").read_bytes())
    app = build()
    _, url, _ = app.demo.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    try:
        visitor = Visitor(url.removeprefix("http://").rstrip("/"))
        fetching = app.fetching

        def did(component: Any, *data: Any) -> dict[str, Any]:
            """What one event answers: the components that change, by their numbers."""
            event = next(e for e in visitor.events() if e["targets"][0][0] == component._id)
            answer = visitor.ask(event, list(data))
            assert answer["success"], answer
            return dict(zip(event["outputs"], answer["output"]["data"], strict=True))

        photo = visitor.upload(noise)[0]
        captioned = next(
            e for e in visitor.events() if fetching.ask._id in e["outputs"] and app.photo._id in e["inputs"]
        )
        sent = [
            photo if number == app.photo._id else value
            for number, value in zip(captioned["inputs"], visitor.values(captioned), strict=True)
        ]
        shown = dict(zip(captioned["outputs"], visitor.ask(captioned, sent)["output"]["data"], strict=True))
        assert shown[fetching.ask._id]["value"] == "Download BLIP (base) (990 MB)"
        began = did(fetching.fetch, "blip-base")
        assert began[fetching.stop._id]["visible"] and began[fetching.timer._id]["active"]
        until(lambda: "of" in did(fetching.timer, "blip-base", "")[fetching.progress._id])
        go_on.set()
        until(lambda: not DOWNLOADS.state.running)
        ended = did(fetching.timer, "blip-base", "")
        assert ended[fetching.here._id] == ended[fetching.progress._id]
        assert "is here" in ended[fetching.progress._id] and not ended[fetching.timer._id]["active"]
        assert "blip-base" in [name for _, name in ended[app.settings.model._id]["choices"]]
        asked = did(fetching.ask, "blip-base")
        assert asked[app.settings.model._id] in ("blip-base", {"value": "blip-base", "__type__": "update"})
        for name in ("../etc", "no-such", None, 7):
            event = next(e for e in visitor.events() if e["targets"][0][0] == fetching.fetch._id)
            assert not visitor.ask(event, [name])["success"]
    finally:
        app.demo.close()


def test_what_breaks_off_is_one_sentence_and_goes_on_later(hub: LocalServer, repository: Path) -> None:
    whole = (repository / "model.safetensors").read_bytes()
    honest = hub.answers[WEIGHTS]
    hub.answers[WEIGHTS] = lambda exchange: exchange.answer(
        whole[:99_999], length=len(whole), ETag='"model.safetensors"'
    )
    DOWNLOADS.start("blip-base")
    until(lambda: not DOWNLOADS.state.running)
    assert "goes on where it stopped" in DOWNLOADS.state.problem
    hub.answers[WEIGHTS] = honest
    DOWNLOADS.start("blip-base")
    until(lambda: not DOWNLOADS.state.running)
    assert DOWNLOADS.state.problem == "" and find_card("blip-base")
    assert says.progress(DOWNLOADS.state) == "BLIP (base) is here: choose it as the captioner."
    with pytest.raises(CaptionBotError, match="cannot be fetched here"):
        DOWNLOADS.start("blip-base")


def test_a_host_that_does_not_say_so_offers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAPTIONBOT_HUB", raising=False)
    assert offers.offers() == []
    with pytest.raises(CaptionBotError, match="cannot be fetched here"):
        DOWNLOADS.start("blip-base")
    monkeypatch.setattr("captionbot.cli.app.runpy.run_path", lambda *args, **kwargs: None)
    main(["app", "--gradio", "--host", "0.0.0.0"])
    assert offers.offers() == []
    main(["app", "--gradio"])
    assert [offer.name for offer in offers.offers()][:2] == list(offers.STRENGTH[:2])
    monkeypatch.delenv("CAPTIONBOT_HUB")


def test_what_a_machine_lacks_is_said_and_a_smaller_one_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONBOT_HUB", "1")
    monkeypatch.setattr(offers, "available", lambda: 1_300_000_000)
    monkeypatch.setattr(offers, "seconds_of_a_product", lambda: 0.001)  # patience for each of them
    listed = offers.offers()
    lacking = {offer.name for offer in listed if offer.lacks}
    assert lacking >= {"blip-large", "git-large-coco"} and "blip-base" not in lacking
    strongest = offers.strongest(listed)
    assert strongest is not None and strongest.name == next(o.name for o in listed if not o.lacks)
    (large,) = [offer for offer in listed if offer.name == "blip-large"]
    assert "**This machine has too little memory.**" in says.facts(large)
    with pytest.raises(CaptionBotError, match=r"BLIP \(large\) cannot be fetched: this machine has too"):
        DOWNLOADS.start("blip-large")
    monkeypatch.setattr(offers, "seconds_of_a_product", lambda: 0.05)
    quick, slow = (Offer("blip-base", "BLIP", None, 1, products, "MIT", "") for products in (90, 400))
    assert offers.strongest([slow]) is None and offers.strongest([slow, quick]) is quick
    assert "about 20 s a photo on this machine" in says.facts(slow)
    assert all(offer.seconds for offer in listed)
    monkeypatch.delitem(sys.modules, "torch")
    assert slow.seconds is None


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")
def test_the_pages_hold_blip_at_its_true_size() -> None:
    pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with captioner_of_true_size():
        assert all(0 < peak(page) < 2_200 for page in PAGES)  # MB; Community Cloud has 2,700


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (State(), ""),
        (State("x", "X", 1_500_000, 3_000_000, running=True), "X: 2 MB of 3 MB"),
        (State("x", "X", 1_500_000, None, running=True), "X: 2 MB"),
        (State("x", "X", 3, 3, running=True), "X: checking what was fetched…"),
        (State("x", "X", 1, 3, running=True, stopping=True), "X: stopping…"),
        (State("x", "X", problem="It broke."), "It broke."),
    ],
)
def test_how_far_it_is(state: State, said: str) -> None:
    assert says.progress(state) == said
