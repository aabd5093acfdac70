"""The Gradio page: a real server, Gradio's own client, and a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import requests
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from tiny import build_tiny_captioner

PATIENCE = 120_000  # milliseconds that a browser may wait on a busy machine


class Page(NamedTuple):
    app: ModuleType
    url: str
    client: Client
    temporary: Path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    weights, temporary = tmp_path_factory.mktemp("weights"), tmp_path_factory.mktemp("gradio")
    build_tiny_captioner(weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTIONBOT_WEIGHTS", str(weights))
        patch.setenv("GRADIO_TEMP_DIR", str(temporary))
        import gradio_app as app

        _, url, _ = app.demo.launch(prevent_thread_lock=True, quiet=True, **app.LAUNCH)
        yield Page(app, url, Client(url, verbose=False), temporary)
        app.demo.close()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.jpg"
    path.write_text("not a photo")
    return path


@pytest.fixture
def view(page: Page, photo: Path) -> Any:
    image = Image.open(photo)
    return page.app.View(image, page.app.CAPTIONER.caption([image], num_return=2)[0])


def test_the_endpoint_answers_with_the_command_line_s_record(page, photo):
    from captionbot.images import load_image

    answer = page.client.predict(image=handle_file(photo), beam_size=4, num_return=2, api_name="/caption")
    assert (answer["image"], answer["model"]) == ("photo.png", "tiny")
    (captioned,) = page.app.CAPTIONER.caption([load_image(photo)], beam_size=4, num_return=2)
    assert [caption["text"] for caption in answer["captions"]] == [c.text for c in captioned.captions]
    assert set(answer["captions"][0]) == {"text", "log_prob", "words"}


def test_the_endpoint_takes_a_prefix_and_banned_words(page, photo):
    answer = page.client.predict(
        image=handle_file(photo), prefix="dog", banned="plays, on", api_name="/caption"
    )
    words = answer["captions"][0]["text"].split()
    assert words[0] == "dog"
    assert not {"plays", "on"} & set(words)


def test_only_the_endpoint_is_public(page):
    assert list(page.client.view_api(return_format="dict")["named_endpoints"]) == ["/caption"]


def test_a_bad_image_is_an_error_record(page, broken):
    answer = page.client.predict(image=handle_file(broken), api_name="/caption")
    assert set(answer) == {"image", "error"}
    assert "not an image" in answer["error"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"beam_size": 0}, "beam_size is 0"),
        ({"beam_size": 2, "num_return": 3}, "num_return is 3"),
        ({"prefix": "zebra"}, "zebra"),
        ({"banned": "zebra"}, "zebra"),
    ],
)
def test_bad_options_are_a_sentence(page, photo, options, sentence):
    with pytest.raises(AppError, match=sentence):
        page.client.predict(image=handle_file(photo), **options, api_name="/caption")


def test_files_that_were_not_uploaded_are_not_read(page, photo):
    data = [{"path": str(photo), "meta": {"_type": "gradio.FileData"}}]
    started = requests.post(f"{page.url}gradio_api/call/caption", json={"data": data}, timeout=60)
    event = started.json()["event_id"]
    answer = requests.get(f"{page.url}gradio_api/call/caption/{event}", timeout=60).text
    assert answer.startswith("event: error")
    assert "captions" not in answer


def test_the_queue_has_a_limit_and_one_photo_is_captioned_at_a_time(page):
    assert page.app.demo._queue.max_size == 32
    shared = [fn for fn in page.app.demo.fns.values() if fn.concurrency_id == "captioner"]
    assert {fn.concurrency_limit for fn in shared} == {1}
    assert {fn.fn.__name__ for fn in shared} == {"on_photo", "caption"}


def test_a_caption_is_shown_word_by_word(page, view):
    shown, headline, words, heatmap, _, tiles = page.app.show_caption(view)
    caption = view.captioned.captions[0]
    assert shown == view
    assert caption.text.capitalize() in headline.replace("\\", "")
    assert [text for text, _ in words] == [word.text for word in caption.words]
    assert heatmap["value"].size == view.photo.size
    assert len(tiles) == len(caption.words)


def test_a_word_is_shown_by_its_heatmap_and_its_three_places(page, view):
    small = view._replace(photo=view.photo.resize((60, 45)))  # shown at half the size it was captioned at
    for t, word in enumerate(view.caption.words):
        heatmap, (photo, annotations) = page.app.show_word(small, t)
        assert heatmap["value"].size == photo.size == (60, 45)
        assert word.text in heatmap["label"]
        (mask, label), *places = annotations
        assert (mask.shape, label) == ((45, 60), word.text)
        assert 0 <= mask.min() <= mask.max() == 1
        assert len(places) == page.app.PLACES
        most = view.caption.alphas[t].argmax()
        assert places[0][0] == tuple((view.caption.boxes[most] / 2).round().astype(int))


@pytest.mark.parametrize(
    ("probability", "start"), [(1, "sure"), (0.6, "sure"), (0.59, "likely"), (0.2, "likely"), (0, "a guess")]
)
def test_colours_follow_confidence(page, probability, start):
    assert page.app.sureness(probability).startswith(start)


def test_an_abandoned_page_says_so(page):
    with pytest.raises(page.app.gr.Error, match="left alone"):
        page.app.on_word(None, None)


def test_a_browser_captions_a_photo_and_explains_a_word(page, photo, broken):
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium, as of apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1360, "height": 1000})
        tab.set_default_timeout(PATIENCE)
        faults: list[str] = []
        strangers: list[str] = []
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on(
            "request",
            lambda r: strangers.append(r.url) if not r.url.startswith((page.url, "data:", "blob:")) else 0,
        )
        tab.goto(page.url)
        words, headline = tab.locator("#words .token"), tab.locator("#headline h2")
        words.first.wait_for()  # a sample is there before anything is given
        tab.get_by_label("Remove Image").click()
        tab.get_by_text("There is no photo yet").wait_for()
        tab.locator("#photo input[type=file]").set_input_files(photo)
        headline.wait_for()
        tab.get_by_role("button", name="More options").click()
        tab.get_by_label("Start the caption with").fill("a dog runs")
        tab.get_by_label("Start the caption with").press("Enter")
        tab.get_by_role("heading", name="A dog runs").wait_for()
        for word in ("dog", "runs"):
            words.get_by_text(word, exact=True).first.click()
            tab.get_by_text(f"Where it looked for “{word}”").wait_for()
        tab.locator("#heatmap img").wait_for()
        tab.get_by_role("tab", name="Places").click()
        tab.locator("#places img").first.wait_for()
        tab.get_by_label("Remove Image").click()
        tab.locator("#photo input[type=file]").set_input_files(broken)
        tab.get_by_text("not an image that can be read").first.wait_for()
        browser.close()
    assert not faults
    assert not strangers


def test_photos_leave_the_disk_when_the_server_stops(page, photo):
    page.client.predict(image=handle_file(photo), api_name="/caption")
    kept = [path for path in page.temporary.rglob("*") if path.is_file()]
    assert kept
    assert page.app.demo.delete_cache == (60, page.app.CACHE_SECONDS)
    page.app.demo.close()
    assert not [path for path in page.temporary.rglob("photo.png") if path.is_file()]
