"""The Gradio page: a real server and Gradio's own client; `test_gradio_browser` has the browser."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

import gradio as gr
import numpy as np
import pytest
import requests
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from tiny import build_region_captioner, build_tiny_captioner

from captionbot import CaptionBotError
from captionbot.explain import counterfactuals as explore
from captionbot.pages import resident as pages
from captionbot.pages import results
from captionbot.pages.presenters import beam as says_beam
from captionbot.pages.presenters import regions as says_regions
from captionbot.pages.presenters import results as says_results
from captionbot.pages.presenters import share as says_share
from captionbot.pages.samples import sample_photos
from captionbot.pages.work import Asked, Settings
from captionbot.types import Size

if TYPE_CHECKING:
    from captionbot.pages.gradio.app import Explorer

CACHE_SECONDS = 600


class Page(NamedTuple):
    """app: the page itself; work: how it runs captioners."""

    app: Explorer
    work: ModuleType
    url: str
    client: Client
    temporary: Path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    weights, temporary = tmp_path_factory.mktemp("weights"), tmp_path_factory.mktemp("gradio")
    build_tiny_captioner(weights)
    build_tiny_captioner(weights, "other", default=False)
    build_region_captioner(weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTIONBOT_WEIGHTS", str(weights))
        patch.setenv("GRADIO_TEMP_DIR", str(temporary))
        from captionbot.pages.gradio import work
        from captionbot.pages.gradio.app import build, launch_options

        app = build()
        _, url, _ = app.demo.launch(
            prevent_thread_lock=True,
            quiet=True,
            mcp_server=find_spec("mcp") is not None,
            **launch_options(),
        )
        client = Client(url, verbose=False, httpx_kwargs={"timeout": 300})  # the cores may be others'
        yield Page(app, work, url, client, temporary)
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
    return looked_at(page, photo, "tiny")


def looked_at(page: Page, photo: Path, model: str) -> Any:
    from captionbot.pages.gradio.view import Seen

    work = page.work.WORK
    options = replace(work.usual(model), num_return=2)
    asked = Asked(page.work.Uploaded("seen.png", str(photo)), Settings(model, options))
    captioned, evidence = work.look(asked)
    return Seen(work, asked, Image.open(photo), captioned, t=0, evidence=evidence)


def test_the_endpoint_answers_with_the_command_line_s_record(page, photo):
    from captionbot.images.load import load_image

    answer = page.client.predict(image=handle_file(photo), beam_size=4, num_return=2, api_name="/caption")
    assert (answer["image"], answer["model"]) == ("photo.png", "tiny")
    captioner = page.work.WORK.captioner("tiny")
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
        assert len(word["needs"]["cells"]) == 64
        assert word["holds"] == (word["needs"]["p"] <= 0.05)
        assert word["needs"]["verdict"] in ("place", "little", "photo", "sentence")
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
    numbers = [node["log_prob"] for node in answer["nodes"]] + [s["log_prob"] for s in answer["sentences"]]
    assert {type(number) for number in [*scores, *numbers]} == {float}
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
    from captionbot.explain.counterfactuals import cover, hide
    from captionbot.images.load import load_image

    answer = page.client.predict(image=handle_file(photo), box=[0, 0, 0.5, 1], api_name="/ask")
    image = load_image(photo)
    covered = hide(image, cover(image.size, [(0, 0, 60, 90)]))
    captioner = page.work.WORK.captioner("tiny")
    (expected,) = captioner.caption([covered])
    assert answer["after"]["text"] == expected.captions[0].text
    only = page.client.predict(image=handle_file(photo), word=0, show_only=True, api_name="/ask")
    assert only["before"]["text"] == answer["before"]["text"]


def test_compare_asks_one_captioner_after_the_other(page, photo):
    answer = page.client.predict(image=handle_file(photo), api_name="/compare")
    assert [line["model"] for line in answer] == ["tiny", "other", "regions"]
    assert all(line["seconds"] > 0 for line in answer)
    assert [card.stem for card in pages._held] == ["regions"]


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
        ({"model": "../tiny"}, "choose one of tiny, other, regions"),
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


def test_the_queues_have_limits_and_neither_batches_nor_programs_stand_in_the_way(page):
    assert page.app.demo._queue.max_size == 64
    names: dict[str, set[str]] = {}
    for fn in page.app.demo.fns.values():
        if fn.fn:
            names.setdefault(fn.concurrency_id, set()).add(fn.fn.__name__)
    assert names["captioner"] == {
        *("on_photo", "on_caption", "on_did", "on_expert", "on_regions"),
        *("on_test", "on_compare", "on_own"),
    }
    assert names["programs"] == {"caption", "explain", "beam", "steer", "ask", "compare"}
    assert names["batch"] == {"on_batch", "on_photos", "batch"}


def test_a_caption_is_shown_word_by_word(page, view):
    app, heroes = page.app, page.app.heroes
    shown = app.show("caption", view)
    assert set(shown) <= set(app.outputs("caption"))
    caption = view.captioned.captions[0]
    assert caption.text.capitalize() in shown[heroes.headline].replace("\\", "")
    record = shown[heroes.sentence]
    assert [word["text"] for word in record["words"]] == [word.text for word in caption.words]
    assert {len(word["looked"]) for word in record["words"]} == {16}
    assert shown[app.canvas]["photo"]["width"] == view.shown.width
    assert "log-probability" not in shown[heroes.headline] + str(record)
    words = app.views["words"].table
    assert shown[words]["headers"] == ["Caption"]
    expert = app.on_expert(view, True)
    assert "log-probability" in expert[heroes.headline]
    assert "log-probability" in expert[heroes.sentence]["number"]
    assert expert[words]["headers"][:3] == ["Caption", "Likelihood", "Log-probability"]
    assert expert[app.settings.more]["visible"]
    assert app.on_expert(None, False) == {app.settings.more: gr.update(visible=False)}


def test_files_to_take_along(page, view):
    paths = page.app.views["share"].on_share(view)["value"]
    assert [Path(path).name for path in paths] == [
        f"seen.{form}" for form in ("html", "png", "gif", "webp", "json")
    ]
    assert all(page.temporary in Path(path).parents for path in paths)
    assert view.caption.text.capitalize() in Path(paths[0]).read_text()


def test_the_captioner_is_woken_before_a_gpu_is_lent_to_a_copy_of_this_process(page, monkeypatch):
    work, lent = page.work, []

    def gpu(function):
        return lambda *args: lent.append([card.stem for card in pages._held]) or function(*args)

    monkeypatch.setattr(work, "spaces", SimpleNamespace(GPU=gpu))
    run = work.on_gpu(lambda self, model, word: f"{model} {word}")
    assert run(work.WORK, "other", "runs") == "other runs"
    assert lent == [["other"]]


def test_boxes_that_are_unticked_or_unsure_are_left_out(page, photo):
    regions = page.app.views["regions"]
    seen = looked_at(page, photo, "regions")
    caption, every = seen.caption, list(range(6))
    shown = regions.show_caption(seen)
    assert (shown[regions.found]["visible"], shown[regions.none]["visible"]) == (True, False)
    names = [name for name, _ in shown[regions.kept]["choices"]]
    assert names == says_regions.names(caption)
    assert caption.labels[3] in names[3]
    assert rows_of(shown[regions.leaning]) == names

    bot = page.work.WORK.captioner("regions")
    least = float(caption.scores[4])  # boxes come best first
    for (most, score, kept), gone in (
        ((6, 0, [0, 1, 3, 4, 5]), [2]),
        ((4, 0, every), [4, 5]),
        ((6, least, every), [5]),
    ):
        left = explore.without_places(bot.encode([Image.open(photo)]), gone)
        (expected,) = bot.caption_features(left, [Size(120, 90)], seen.options)
        answer = regions.on_regions(seen, most, score, kept)
        assert len(rows_of(answer[regions.leaning])) == 6 - len(gone)
        drawn = [name for _, name in answer[regions.picture][1]]
        assert len(drawn) == 5 - len(gone)  # the whole image would cover the others
        assert not any("whole image" in name for name in drawn)
        said = [text.strip() for text, _ in answer[regions.said.after]["value"]]
        assert said == [word.text for word in expected.captions[0].words]
    assert "Nothing changed" in regions.on_regions(seen, 6, 0, every)[regions.said.note]["value"]
    with pytest.raises(gr.Error, match="leave at least one"):
        regions.on_regions(seen, 6, 0, [])


def rows_of(grid: str) -> list[str]:
    """The boxes whose attention is told in numbers."""
    return re.findall("<tr><td>(.*?)</td>", grid)


def test_captioners_without_a_detector_say_that_they_have_no_boxes(page, view):
    regions = page.app.views["regions"]
    shown = regions.show_caption(view)
    assert (shown[regions.found]["visible"], shown[regions.none]["visible"]) == (False, True)


def test_the_address_of_the_page_restores_what_was_set(page, view):
    app, settings = page.app, page.app.settings
    sample, path = next(iter(sample_photos().items()))
    values = {control: control.value for control in settings.controls.values()}
    values |= {settings.model: "other", settings.prefix: "a dog", settings.options["max_length"]: 9}
    values |= {settings.options["sample"]: True, settings.options["top_p"]: 0.35, app.link: ""}
    asked = replace(view.asked, photo=page.work.Uploaded("giraffes.jpg", str(path)))
    values[app.seen] = replace(view, asked=asked)
    query = app.on_address(values)
    shown = app.on_open(SimpleNamespace(query_params=dict(parse_qsl(query.removeprefix("?")))))
    assert shown[app.photo] == str(sample_photos()[sample])
    for control in settings.controls.values():
        assert shown.get(control, control.value) == values[control], control.label
    own = app.on_address(values | {app.seen: view})  # a photo of one's own cannot be linked to
    assert "photo" not in own


@pytest.mark.parametrize(
    "query", [{"model": "../x"}, {"beam_size": "99"}, {"top_p": "x"}, {"sample": "?", "photo": "?"}]
)
def test_an_address_that_cannot_be_changes_nothing(page, query):
    assert page.app.on_open(SimpleNamespace(query_params=query)) == {page.app.link: ""}


def test_alt_texts_are_cards_and_files_of_what_was_edited(page, photo, broken):
    batch = page.app.views["batch"]
    values = {control: control.value for control in page.app.settings.controls.values()}
    values |= {
        batch.files: [{"path": str(path)} for path in (photo, broken)],
        batch.style: "plain",
        batch.kept: None,
    }
    *_, last = batch.on_batch(values)
    good, bad = last[batch.gallery]["cards"]
    assert good["thumbnail"].startswith("data:image/jpeg;base64,")
    assert (good["name"], good["error"], bad["name"], bad["thumbnail"]) == ("photo.png", "", "broken.jpg", "")
    assert last[batch.note] == "1 captioned, 1 could not be read."

    kept = last[batch.kept]
    sent = {"batch": kept.bench.batch, "edits": {"0": ["Mine.", True]}, "open": 0}
    written = {Path(path).name: Path(path) for path in batch.on_files(kept, sent)["value"]}
    assert list(written)[:3] == ["alt-text.zip", "alt-text.csv", "alt-text.jsonl"]
    assert "photo.png,Mine.,accepted" in written["alt-text.csv"].read_text()
    opened, address, tabs = batch.on_open(kept, sent)
    assert (opened, address, tabs["selected"]) == (str(photo), "", "words")
    for hostile in (None, [], "x", {}, {"batch": kept.bench.batch, "open": -1, "edits": 5}):
        with pytest.raises(gr.Error, match="There are no alt texts here"):
            batch.on_open(kept, hostile)
    with pytest.raises(gr.Error, match="There are no alt texts here"):
        batch.on_files(None, sent)

    # What was stopped is gone on with: nothing is captioned twice.
    *_, again = batch.on_batch({**values, batch.kept: kept})
    assert again[batch.kept].bench.batch == kept.bench.batch
    assert again[batch.kept].bench.entries[0].alt == "Mine."


def test_a_word_that_the_model_does_not_know_is_told_at_its_field(page):
    settings = page.app.settings
    shown = settings.on_words("tiny", "a quokka", "dog")
    assert shown[settings.prefix]["info"].startswith("⚠ This captioner does not know the word 'quokka'")
    assert shown[settings.banned]["info"] == "Separated by commas or spaces."
    shown = settings.on_words("tiny", "a dog", "quokka")
    assert shown[settings.prefix]["info"] == "The model finishes your sentence."
    assert "quokka" in shown[settings.banned]["info"]


def test_an_address_without_a_photo_is_a_sentence_and_changes_no_other_setting(page):
    app, bad = page.app, "http://127.0.0.1:9/photo.jpg?<b>"
    shown = app.on_open(SimpleNamespace(query_params={"url": bad, "beam_size": "2"}))
    with pytest.warns(UserWarning, match=r"127\.0\.0\.1") as warned:
        assert asyncio.run(app.on_link(bad)) == (gr.skip(), "")  # which no link to the page then names
    assert "<b>" not in str(warned[0].message)  # messages are HTML
    assert (shown[app.link], shown[app.settings.options["beam_size"]]) == (bad, 2)


def test_results_are_those_of_the_leaderboard(page, monkeypatch):
    work = page.work.WORK
    assert says_results.leaderboard(work).rows == []  # tiny ones were never measured
    line = {"name": "other", "beam_size": 5, "CIDEr": 0.5, "parameters": 2_140_000, "images_per_second": 20.5}
    monkeypatch.setattr(results, "leaderboard", lambda: [line])
    title = "Show, Attend and Tell · other"  # tiny is one too
    written = [title, "beam 5", "0.500", "", "", "", "", "2.1", "20.5"]
    assert says_results.leaderboard(work).written == [written]


def test_best_worst_and_most_different_captions(page, photo, tmp_path, monkeypatch):
    monkeypatch.delenv("CAPTIONBOT_VAL", raising=False)
    from captionbot.pages.gradio import results as draw

    assert draw.gallery()[0] is None
    assert draw.shots("Best", "one") == []
    # A choice among none is an error to Gradio.
    assert "shots" not in {fn.fn.__name__ for fn in page.app.demo.fns.values() if fn.fn}
    captions = {"one": {"text": "a dog", "CIDEr": 0.25}, "two": {"text": "a cat", "CIDEr": 0.5}}
    shots = [
        {"photo": name, "references": ["a fox"], "captions": captions} for name in (photo.name, "no.png")
    ]
    found = {"images": str(tmp_path), "split": "val", "captioners": ["two", "one"], "shots": shots}
    file = tmp_path / "val.json"
    file.write_text(json.dumps(found))
    monkeypatch.setenv("CAPTIONBOT_VAL", str(file))
    assert draw.gallery()[0].captioners == ("two", "one")
    [(picture, text)] = draw.shots("Best", "one")  # the other photo is not there
    assert picture.size == Image.open(photo).size
    assert text == "A dog. (one · CIDEr 0.25)\nA person: A fox."
    [(_, text)] = draw.shots("Most different", "one")
    assert text.count("CIDEr") == 2
    file.write_text("{}")
    assert "write it again" in draw.gallery()[1]


def test_explanations_have_the_photo_s_own_numbers(page, view):
    about_attention = page.app.views["words"].show_caption(view)[page.app.views["words"].lesson]
    beam = page.app.views["beam"]
    about_beam = beam.show_photo(view)[beam.lesson]
    assert "**16 places**" in about_attention
    assert "$$" in about_attention
    best = view.captioned.search.hypotheses[0][0]
    assert f"**{best.score:.2f}**" in about_beam
    options = replace(view.options, sample=True)
    drawn = replace(view, asked=replace(view.asked, settings=Settings("tiny", options)))
    tree = beam.on_tree(drawn, False)
    assert beam.show_photo(drawn)[beam.lesson] == tree["says"]["none"] == says_beam.SAMPLING
    assert tree["svg"] == ""


def test_a_language_model_finds_the_endpoints_as_tools(page):
    pytest.importorskip("mcp")
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def tools() -> dict[str, str]:
        async with (
            streamablehttp_client(f"{page.url}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return {tool.name: tool.description or "" for tool in (await session.list_tools()).tools}

    found = asyncio.run(tools())
    assert {name.rsplit("_", 1)[-1] for name in found} == {
        *("caption", "explain", "beam", "steer", "ask", "compare", "batch"),
    }
    assert any("Caption one photo: what" in text for text in found.values())


def test_what_words_need_streams_in_and_is_kept(page, view, monkeypatch):
    truth, work = page.app.views["truth"], page.work.WORK
    measured: list[int] = []
    more = work.more
    monkeypatch.setattr("captionbot.pages.work._SOON", 0)  # as on a slow machine
    monkeypatch.setattr(work, "more", lambda *asked: measured.append(1) or more(*asked), False)
    shown = list(truth.on_test(view, ""))
    assert len(shown) == 5  # after 32, 48, 64 and 83 copies, and with the places hidden
    assert "32 of 83" in shown[0][truth.verdict]["value"]
    assert not shown[0][truth.verdicts]["visible"]
    assert "→" in shown[-1][truth.verdict]["value"]
    titles = [text.partition(":")[0] for _, text in shown[-1][truth.pictures]]
    assert titles == ["What the word needs", "Where it looked", "With the place hidden"]
    words = [word.text for word in view.caption.words]
    assert [row[0] for row in shown[-1][truth.verdicts]["value"]] == words
    assert len(page.app.heroes.show_sentence(view)["spots"]["says"]) == 64  # for clicks on the photo
    count = len(measured)
    (again,) = truth.on_test(replace(view, t=1), "")
    assert len(measured) == count
    assert f"“{words[1]}”" in again[truth.verdict]["value"]
    *_, own = truth.on_test(view, "dog dog")
    assert [row[0] for row in own[truth.verdicts]["value"]] == ["dog", "dog"]
    with pytest.raises(gr.Error, match="does not know the word 'qwertz'"):
        list(truth.on_test(view, "a qwertz"))


def test_a_new_caption_puts_the_old_answers_out_of_sight(page, view):
    app = page.app
    shown = app.show("caption", view)
    answers = [
        *(app.views["truth"].verdict, app.views["truth"].row, app.views["truth"].verdicts),
        *(app.views["regions"].said.row, app.views["regions"].said.note),
    ]
    assert [shown[answer]["visible"] for answer in answers] == [False] * len(answers)
    word = app.show("word", view)
    assert not set(word) & set(answers)
    compared = app.views["compare"].cards
    assert app.show("photo", view)[compared]["visible"] is False
    assert compared not in shown


def uploaded(page: Page, folder: Path, name: str) -> list[dict[str, str]]:
    """The files of a captioner like "tiny", by another name."""
    shipped = page.work.find_card("tiny")
    card = folder / f"{name}.json"
    card.write_text(json.dumps(json.loads(shipped.read_text()) | {"name": name}))
    shutil.copy(shipped.with_suffix(".safetensors"), card.with_suffix(".safetensors"))
    return sent(card, card.with_suffix(".safetensors"))


def sent(*paths: Path) -> list[dict[str, str]]:
    """Files as events are sent them."""
    return [{"path": str(path)} for path in paths]


def test_a_captioner_of_one_s_own_is_used_by_its_session_alone(page, photo, tmp_path):
    app, files = page.app, uploaded(page, tmp_path, "mine")
    answer = app.on_own(files, "")
    own = answer[app.own_captioner]
    assert not any(Path(file["path"]).exists() for file in files)
    assert ("mine (yours)", own) in answer[app.settings.model]["choices"]
    seen = looked_at(page, photo, own)
    assert seen.caption.text == looked_at(page, photo, "tiny").caption.text  # the same random weights
    shared = "".join(
        Path(path).read_text(errors="ignore") for path in app.views["share"].on_share(seen)["value"]
    )
    assert own not in shared  # its name is the session's secret
    assert says_share.numbers(seen)["model"] == "mine"
    assert says_share.numbers(looked_at(page, photo, "other"))["model"] == "other"  # programs read no titles
    assert "mine" in shared
    values = {control: control.value for control in app.settings.controls.values()}
    values |= {app.settings.model: own, app.seen: seen, app.link: ""}
    assert "model" not in dict(parse_qsl(app.on_address(values).removeprefix("?")))
    with pytest.raises(AppError, match="choose one of tiny, other, regions"):
        page.client.predict(image=handle_file(photo), model="mine", api_name="/caption")
    page.work.let_go(own)
    with pytest.raises(CaptionBotError, match="Your captioner 'mine' was let go"):
        page.work.WORK.captioner(own)


def test_few_uploads_are_kept_and_a_second_one_takes_the_place_of_the_first(page, tmp_path, monkeypatch):
    app = page.app
    monkeypatch.setattr(page.work, "MOST_OWN", 2)
    owns = [app.on_own(uploaded(page, tmp_path, f"mine{i}"), "")[app.own_captioner] for i in range(3)]
    assert list(page.work._own) == owns[1:]
    last = app.on_own(uploaded(page, tmp_path, "mine3"), owns[2])[app.own_captioner]
    assert list(page.work._own) == [owns[1], last]
    for own in (owns[1], last):
        page.work.let_go(own)


def test_an_upload_that_is_no_captioner_is_a_sentence(page, broken):
    with pytest.raises(gr.Error, match="found here: none of these"):
        page.app.on_own(sent(broken), "")
    assert not broken.exists()


def test_a_photo_that_is_too_large_is_a_sentence(page, tmp_path):
    large = tmp_path / "large.jpg"
    with large.open("wb") as file:
        file.truncate(30_000_000)
    answer = page.client.predict(image=handle_file(large), api_name="/caption")
    assert answer["error"] == "This photo is larger than 20 MB: make it smaller."


def test_a_photo_that_cannot_be_read_is_named_on_an_empty_page(page, broken):
    app = page.app
    controls = {control: control.value for control in app.settings.controls.values()}
    file = {"path": str(broken), "orig_name": "diary.jpg"}
    shown = app.on_photo({app.photo: file, app.seen: None, **controls})
    assert "diary.jpg is empty or not an image" in shown[app.heroes.headline]
    assert shown[app.heroes.sentence] is None
    assert shown[app.canvas]["photo"]["alt"] == ""
    words, beam = (app.views[name] for name in ("words", "beam"))
    assert shown[words.table] is shown[beam.tree] is None
    assert shown[app.seen] is None


def did(event, value):
    """What a browser tells of."""
    return gr.EventData(None, {"event": event, "value": value})


def test_a_sentence_is_edited_in_place_and_a_part_of_the_photo_hidden(page, view):
    heroes, canvas = page.app.heroes, page.app.canvas
    rival = next(word.text for word in view.rivals[0] if word.text != explore.END)
    shown = heroes.on_did(view, did("edit", {"t": 0, "text": rival}))
    edited = shown[heroes.sentence]
    assert edited["words"][0]["text"] == rival
    assert edited["before"].lower().startswith(view.caption.text)
    hidden = heroes.on_did(shown[page.app.seen], did("hide", {"boxes": [[0, 0, 0.5, 1]], "only": False}))
    assert hidden[canvas]["hidden"] == [[0, 0, 0.5, 1]]
    again = heroes.on_did(hidden[page.app.seen], did("undo", True))
    assert again[page.app.seen].caption.text == view.caption.text
    assert again[canvas]["hidden"] == []
    with pytest.raises(gr.Error, match="quokka"):
        heroes.on_did(view, did("edit", {"t": 0, "text": "quokka"}))


@pytest.mark.parametrize(
    ("event", "value"),
    [
        ("hide", {"boxes": [[0, 0, 2, 1]], "only": False}),
        ("hide", {"boxes": [[0, 0, 0.001, 0.001]] * 2000, "only": False}),
        ("hide", {"boxes": [["a", 0, 1, float("nan")]], "only": False}),
        ("edit", {"t": 99, "text": "dog"}),
        ("drop", [10**9]),
        ("never", None),
        ("length", "endless"),
        ("sudo", {}),
    ],
)
def test_what_no_browser_of_this_page_tells_is_a_sentence(page, view, event, value):
    with pytest.raises(gr.Error, match="never sends"):
        page.app.heroes.on_did(view, did(event, value))


def test_other_photos_come_from_samples_uploads_and_public_addresses_alone(page, photo):
    app, (name, path) = page.app, next(iter(sample_photos().items()))
    assert asyncio.run(app.on_source(did("sample", name))) == (str(path), "")
    assert asyncio.run(app.on_source(did("sample", "/etc/passwd"))) == (gr.skip(), gr.skip())
    with pytest.raises(gr.Error, match="uploaded here"):
        asyncio.run(app.on_source(did("file", {"path": str(photo)})))
    with pytest.warns(UserWarning, match=r"127\.0\.0\.1"):
        asyncio.run(app.on_source(did("link", "http://127.0.0.1:9/photo.jpg")))


def test_an_abandoned_page_says_so(page):
    with pytest.raises(gr.Error, match="left alone"):
        page.app.heroes.on_chosen(None, 0)


def test_photos_leave_the_disk_when_the_server_stops(page, photo):
    page.client.predict(image=handle_file(photo), api_name="/caption")
    kept = [path for path in page.temporary.rglob("*") if path.is_file()]
    assert kept
    assert page.app.demo.delete_cache == (60, CACHE_SECONDS)
    page.app.demo.close()
    assert not [path for path in page.temporary.rglob("photo.png") if path.is_file()]
