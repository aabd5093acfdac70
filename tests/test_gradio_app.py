"""The Gradio page: a real server, Gradio's own client, and a real browser."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
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
    build_tiny_captioner(weights, "other", default=False)
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
    work, draw = page.app.work, page.app.draw
    options = replace(work.usual("tiny"), num_return=2)
    captioned, evidence = work.look("tiny", image, options, "", "")
    return draw.View(str(photo), "seen.png", "tiny", options, "", "", image, captioned, evidence)


def test_the_endpoint_answers_with_the_command_line_s_record(page, photo):
    from captionbot.images import load_image

    answer = page.client.predict(image=handle_file(photo), beam_size=4, num_return=2, api_name="/caption")
    assert (answer["image"], answer["model"]) == ("photo.png", "tiny")
    captioner = page.app.work.captioner("tiny")
    (captioned,) = captioner.caption([load_image(photo)], beam_size=4, num_return=2)
    assert [caption["text"] for caption in answer["captions"]] == [c.text for c in captioned.captions]
    assert set(answer["captions"][0]) == {"text", "log_prob", "words"}


def test_the_endpoint_takes_a_prefix_and_banned_words(page, photo):
    answer = page.client.predict(
        image=handle_file(photo), prefix="dog", banned="plays, on", api_name="/caption"
    )
    words = answer["captions"][0]["text"].split()
    assert words[0] == "dog"
    assert not {"plays", "on"} & set(words)


def test_the_endpoints_are_those_that_are_documented(page):
    public = set(page.client.view_api(return_format="dict")["named_endpoints"])
    assert public == {"/caption", "/explain", "/beam", "/steer", "/ask", "/compare", "/batch"}


def test_explain_says_what_every_word_rests_on(page, photo, view):
    answer = page.client.predict(image=handle_file(photo), test=True, api_name="/explain")
    (caption,) = answer["captions"]
    assert caption["text"] == view.captioned.captions[0].text
    for word in caption["words"]:
        assert sum(word["alphas"]) == pytest.approx(1, abs=1e-3)
        assert len(word["alphas"]) == len(caption["boxes"]) == 16
        assert len(word["rivals"]) == 5
        assert word["text"] not in {rival["text"] for rival in word["rivals"]}
        assert word["holds"] == (word["effect"] > word["threshold"])
    occluded = page.client.predict(image=handle_file(photo), method="occlusion", api_name="/explain")
    assert len(occluded["captions"][0]["boxes"]) == 64
    assert "hidden" in occluded["label"]


def test_beam_hands_out_all_that_was_weighed(page, photo):
    answer = page.client.predict(image=handle_file(photo), beam_size=2, api_name="/beam")
    scores = [sentence["score"] for sentence in answer["sentences"]]
    assert scores == sorted(scores, reverse=True)
    roots = [node for node in answer["nodes"] if node["parent"] is None]
    assert len(roots) == 4  # the 2 K best first words
    assert sum("The winner" in node["why"] for node in answer["nodes"]) == 1
    assert answer["svg"].startswith("<svg")


def test_steer_begins_bans_and_shortens(page, photo):
    first = page.client.predict(image=handle_file(photo), begin="dog runs", api_name="/steer")
    assert first["after"]["text"].startswith("dog runs")
    said = [word["text"] for word in first["before"]["words"]]
    steered = page.client.predict(
        image=handle_file(photo), banned=said[0], length="shorter", api_name="/steer"
    )
    words = [word["text"] for word in steered["after"]["words"]]
    assert said[0] not in words
    assert len(words) < len(said)
    assert steered["before"]["changed"][0] is True


def test_ask_captions_what_is_left_of_the_photo(page, photo):
    from captionbot.explore import cover, hide
    from captionbot.images import load_image

    answer = page.client.predict(image=handle_file(photo), box=[0, 0, 0.5, 1], api_name="/ask")
    image = load_image(photo)
    covered = hide(image, cover(image.size, [(0, 0, 60, 90)]))
    captioner = page.app.work.captioner("tiny")
    (expected,) = captioner.caption([covered])
    assert answer["after"]["text"] == expected.captions[0].text
    only = page.client.predict(image=handle_file(photo), word=0, show_only=True, api_name="/ask")
    assert only["before"]["text"] == answer["before"]["text"]


def test_compare_asks_one_captioner_after_the_other(page, photo):
    answer = page.client.predict(image=handle_file(photo), api_name="/compare")
    assert [line["model"] for line in answer] == ["other", "tiny"]
    assert all(line["seconds"] > 0 for line in answer)
    assert list(page.app.work._resident) == ["tiny"]


def test_batch_keeps_the_order_and_names_the_bad_file(page, photo, broken, tmp_path):
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(photo, "inside/one.png")
    files = [handle_file(path) for path in (photo, broken, archive)]
    answer = page.client.predict(files=files, api_name="/batch")
    assert [line["image"] for line in answer] == ["photo.png", "broken.jpg", "photos.zip/inside/one.png"]
    assert answer[0]["captions"] == answer[2]["captions"]
    assert "broken.jpg" in answer[1]["error"]
    assert str(page.temporary) not in answer[1]["error"]


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
        ({"model": "../tiny"}, "choose one of other, tiny"),
    ],
)
def test_bad_options_are_a_sentence(page, photo, options, sentence):
    with pytest.raises(AppError, match=sentence):
        page.client.predict(image=handle_file(photo), **options, api_name="/caption")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "one of box, word and places"),
        ({"box": [0.5, 0, 0.2, 1]}, "is no box"),
        ({"word": 99}, "There is no word 99"),
    ],
)
def test_what_cannot_be_hidden_is_a_sentence(page, photo, options, sentence):
    with pytest.raises(AppError, match=sentence):
        page.client.predict(image=handle_file(photo), **options, api_name="/ask")


@pytest.mark.parametrize("endpoint", ["caption", "batch"])
def test_files_that_were_not_uploaded_are_not_read(page, photo, endpoint):
    file = {"path": str(photo), "meta": {"_type": "gradio.FileData"}}
    data = [[file] if endpoint == "batch" else file]
    started = requests.post(f"{page.url}gradio_api/call/{endpoint}", json={"data": data}, timeout=60)
    event = started.json()["event_id"]
    answer = requests.get(f"{page.url}gradio_api/call/{endpoint}/{event}", timeout=60).text
    assert answer.startswith("event: error")
    assert "captions" not in answer


def test_the_queue_has_a_limit_and_one_photo_is_captioned_at_a_time(page):
    assert page.app.demo._queue.max_size == 32
    shared = [fn for fn in page.app.demo.fns.values() if fn.concurrency_id == "captioner"]
    assert {fn.concurrency_limit for fn in shared} == {1}
    public = {fn.fn.__name__ for fn in shared if fn.api_visibility == "public"}
    assert public == {"caption", "explain", "beam", "steer", "ask", "compare", "batch"}
    assert {fn.fn.__name__ for fn in shared} - public == {
        *("on_photo", "on_caption", "on_rival", "on_steer", "on_ask", "on_test", "on_test_all"),
        *("on_compare", "on_batch"),
    }


def test_a_caption_is_shown_word_by_word(page, view):
    app = page.app
    shown = app.show_caption(view)
    caption = view.captioned.captions[0]
    assert caption.text.capitalize() in shown[app.headline].replace("\\", "")
    assert [text for text, _ in shown[app.words]] == [word.text for word in caption.words]
    assert shown[app.heatmap]["value"].size == view.photo.size
    assert len(shown[app.gallery]) == len(caption.words)


def test_a_word_is_shown_by_its_heatmap_its_places_and_its_rivals(page, view):
    draw = page.app.draw
    for t, word in enumerate(view.caption.words):
        # Shown at half the size it was captioned at.
        small = view._replace(photo=view.photo.resize((60, 45)), t=t)
        heatmap, (photo, annotations) = draw.heatmap(small), draw.places(small)
        assert heatmap["value"].size == photo.size == (60, 45)
        assert word.text in heatmap["label"]
        (mask, label), *places = annotations
        assert (mask.shape, label) == ((45, 60), word.text)
        assert 0 <= mask.min() <= mask.max() == 1
        assert len(places) == draw.PLACES
        most = view.caption.alphas[t].argmax()
        assert places[0][0] == tuple((view.caption.boxes[most] / 2).round().astype(int))
        rivals = draw.rivals(small)
        assert len(rivals) == 5
        assert word.text not in rivals


def test_what_is_painted_becomes_a_mask_of_the_photo(page):
    layer = Image.new("RGBA", (40, 30))
    layer.paste((1, 2, 3, 255), (0, 0, 20, 30))
    mask = np.asarray(page.app.painted({"layers": [layer]}, (80, 60), others=False))
    assert (mask[:, :38] == 255).all()
    assert (mask[:, 42:] == 0).all()
    inverse = np.asarray(page.app.painted({"layers": [layer]}, (80, 60), others=True))
    assert (inverse == 255 - mask).all()
    with pytest.raises(page.app.CaptionBotError, match="Nothing is painted"):
        page.app.painted({"layers": []}, (80, 60), others=False)


def test_files_to_take_along(page, view):
    paths = page.app.draw.share_files(view)
    assert [Path(path).name for path in paths] == ["seen.html", "seen.png", "seen.gif", "seen.json"]
    assert all(page.temporary in Path(path).parents for path in paths)
    assert view.caption.text.capitalize() in Path(paths[0]).read_text()


def test_the_captioner_before_is_let_go(page):
    work = page.app.work
    other = work.captioner("other")
    assert work.captioner("other") is other
    work.captioner("tiny")
    assert list(work._resident) == ["tiny"]


@pytest.mark.parametrize(
    ("probability", "start"), [(1, "sure"), (0.6, "sure"), (0.59, "likely"), (0.2, "likely"), (0, "a guess")]
)
def test_colours_follow_confidence(page, probability, start):
    assert page.app.draw.sureness(probability).startswith(start)


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
            tab.locator("#heatmap").get_by_text(f"“{word}”").wait_for()
        tab.locator("#heatmap img").wait_for()
        tab.get_by_role("tab", name="Places").click()
        tab.locator("#places img").first.wait_for()
        tab.locator("#rivals button").first.click()  # the sentence is finished again from a rival
        tab.locator("#steered .token").first.wait_for()
        tab.get_by_role("tab", name="Ask the picture").click()
        tab.get_by_label("A rectangle").click()
        tab.get_by_role("button", name="Caption it again").click()
        tab.locator("#asked img").wait_for()
        tab.locator("#photo").get_by_label("Remove Image").click()
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
