"""The Streamlit page on a tiny untrained captioner, without a browser."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import streamlit as st
from PIL import Image
from streamlit.testing.v1 import AppTest
from tiny import WORDS, build_observant_captioner, build_tiny_captioner

from captionbot.explain.faithfulness import Faithfulness, Share
from captionbot.pages.presenters import batch
from captionbot.pages.presenters.canvas import Touched
from captionbot.pages.samples import sample_photos
from captionbot.store.card import Card

PAGE = Path(__file__).parents[2] / "streamlit_app.py"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("weights")
    build_observant_captioner(folder)
    yield folder
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture
def page(weights: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The page as a newcomer sees it."""
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(weights))
    return run(AppTest.from_file(str(PAGE), default_timeout=300))


def run(page: AppTest) -> AppTest:
    page.run()
    assert not page.exception
    return page


def picture(colour: str, size: tuple[int, int] = (60, 40), kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


def upload(page: AppTest, name: str, data: bytes) -> AppTest:
    page.file_uploader(key="upload").upload(name, data)
    return run(page)


def part(page: AppTest, name: str) -> dict[str, Any]:
    """What a part of the canvas is given: "photo", "sentence" or "beam"."""
    data = [json.loads(part.proto.json) for part in page.get("bidi_component")]
    return next(given for given in data if given["part"] == name)


def photo(page: AppTest) -> str:
    return str(part(page, "photo")["photo"]["src"])


def alts(page: AppTest) -> list[str]:
    """What a screen reader says of the pictures of a view."""
    return [image.proto.imgs[0].alt for image in page.get("image")]


def urls(page: AppTest) -> list[str]:
    """Addresses of the pictures of a view, which are made of their content."""
    return [image.value[0] for image in page.get("image")]


def headline(page: AppTest) -> str:
    return str(part(page, "sentence")["said"])


def words(page: AppTest) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = part(page, "sentence")["words"]
    return found


def said(page: AppTest) -> list[str]:
    return [word["text"] for word in words(page)]


def expert(page: AppTest) -> AppTest:
    page.toggle(key="expert").set_value(True)
    return run(page)


def choice(page: AppTest, label: str) -> Any:
    """The pills or segments with a label that begins so."""
    return next(group for group in page.get("button_group") if group.label.startswith(label))


def captions(page: AppTest) -> list[str]:
    """All captions, best first; a single one is the headline alone."""
    return page.radio[0].options if page.radio else [headline(page)]


def open_view(page: AppTest, name: str) -> AppTest:
    page.session_state["view"] = name
    return run(page)


def test_the_first_page_shows_a_sample_with_its_caption(page: AppTest) -> None:
    assert page.title[0].value == "CaptionBot"
    assert headline(page)[0].isupper()
    assert headline(page).endswith(".")
    assert " ".join(said(page)) == headline(page).strip(".").lower()
    assert set(said(page)) <= set(WORDS)
    assert part(page, "photo")["photo"]["alt"] == headline(page)
    assert not page.error


def test_numbers_are_for_experts(page: AppTest) -> None:
    def shown() -> str:
        texts = [*page.caption, *page.markdown, *page.slider, *page.radio]
        return " ".join(str(getattr(text, "value", "")) + str(getattr(text, "label", "")) for text in texts)

    assert not re.search(r"log-prob|[Bb]eam size|nats|seed", shown())
    [listed] = page.radio
    assert len(listed.options) == 3
    assert listed.options[0] == headline(page)
    assert not listed.proto.captions
    expert(page)
    assert "Beam size" in shown()
    [listed] = page.radio
    assert all("Likelihood" in c and "log-probability -" in c for c in listed.proto.captions)
    assert "log-probability" in part(page, "sentence")["number"]
    assert [block.value for block in open_view(page, "Share").code][:-1] == listed.options


def test_an_upload_takes_the_place_of_the_sample_and_stays(page: AppTest) -> None:
    before = photo(page)
    first = photo(upload(page, "red.png", picture("red")))
    second = photo(upload(page, "blue.webp", picture("blue", kind="WEBP")))
    assert len({before, first, second}) == 3
    page.file_uploader(key="upload").set_value(None)
    assert photo(run(page)) == second


@pytest.mark.parametrize(
    ("name", "data"),
    [("notes.jpg", b"Dear diary"), ("empty.png", b""), ("half.png", picture("red", (300, 300))[:120])],
)
def test_what_is_no_photo_gets_one_sentence_and_the_last_result_stays(
    page: AppTest, name: str, data: bytes
) -> None:
    before = photo(page), headline(page)
    upload(page, name, data)
    [error] = page.error
    assert name in error.value
    assert error.value.endswith(".")
    assert (photo(page), headline(page)) == before
    upload(page, "red.png", picture("red"))
    assert not page.error


def test_every_word_has_a_map_its_alternatives_and_what_is_said_of_it(page: AppTest) -> None:
    assert part(page, "sentence")["places"] == {"grid": [4, 4]}
    for word in words(page):
        assert len(word["looked"]) == 16
        assert max(word["looked"]) == 255
        assert word["says"] == f"Where the model looked for “{word['text']}”."
        assert 4 <= len(word["rivals"]) <= 5
        assert word["text"] not in [text for text, _ in word["rivals"]]
    assert len({str(word["looked"]) for word in words(page)}) > 1


@pytest.mark.parametrize(
    "change",
    [
        lambda page: page.slider(key="strength").set_value(0.9),
        lambda page: page.selectbox(key="colormap").set_value("spotlight"),
        lambda page: choice(page, "Shape").set_value("Cells"),
        lambda page: choice(page, "Shape").set_value("Contour"),
    ],
    ids=["strength", "colours", "cells", "contour"],
)
def test_the_look_of_heatmaps_changes_all_of_them(page: AppTest, change: Any) -> None:
    before = part(expert(page), "sentence")["look"]
    change(page)
    after = part(run(page), "sentence")["look"]
    assert sum(after[name] != before[name] for name in before) == 1


def did(page: AppTest, event: str, value: Any) -> AppTest:
    """The page once its browser told of an event, which `AppTest` has no way to do."""
    asked, seen = page.session_state["seen"]
    whose = asked.photo.key, asked.settings
    kept, touched = page.session_state["touched"] if "touched" in page.session_state else (None, Touched())
    before = touched if kept == whose else Touched()
    page.session_state["touched"] = whose, before.after(event, value, seen)
    return run(page)


def test_a_word_is_changed_in_place_and_the_sentence_goes_on(page: AppTest) -> None:
    before, rival = headline(page), words(page)[0]["rivals"][0][0]
    did(page, "edit", {"t": 0, "text": rival})
    assert said(page)[0] == rival
    assert part(page, "sentence")["before"] == before
    assert words(page)[0]["changed"]
    did(page, "never", 0)
    assert said(page)[0] != rival
    did(page, "undo", True)
    assert headline(page) == before
    did(page, "edit", {"t": 0, "text": "quokka"})
    [warning] = page.warning
    assert "quokka" in warning.value
    assert headline(page) == before


def test_a_part_of_the_photo_is_hidden_and_shown_again(page: AppTest) -> None:
    before = headline(page)
    did(page, "hide", {"boxes": [[0, 0, 1, 0.5]], "only": False})
    assert part(page, "photo")["hidden"] == [[0, 0, 1, 0.5]]
    assert part(page, "sentence")["before"] == before
    did(page, "undo", True)
    assert part(page, "photo")["hidden"] == []
    assert headline(page) == before


def test_another_caption_becomes_the_headline(page: AppTest) -> None:
    second = page.radio[0].options[1]
    page.radio[0].set_value(1)
    run(page)
    assert headline(page) == second


@pytest.mark.parametrize("beam_size", [1, 2, 10])
def test_there_are_at_most_as_many_captions_as_beams(page: AppTest, beam_size: int) -> None:
    expert(page)
    page.slider(key="captions").set_value(10)
    page.slider(key="beam_size").set_value(beam_size)
    run(page)
    assert len(captions(page)) == beam_size
    assert len(page.radio) == (beam_size > 1)


def test_a_caption_starts_as_it_is_told_to(page: AppTest) -> None:
    page.text_input(key="prefix").input("Red child")
    assert headline(run(page)).startswith("Red child")


def test_words_to_avoid_are_avoided(page: AppTest) -> None:
    avoided = headline(page).strip(".").lower().split()
    page.text_input(key="banned").input(", ".join(avoided))
    run(page)
    for caption in captions(page):
        assert not set(avoided) & set(caption.strip(".").lower().split())


def test_a_word_that_the_model_does_not_know_gets_one_sentence(page: AppTest) -> None:
    page.text_input(key="prefix").input("red child")
    before = headline(run(page))
    page.text_input(key="prefix").input("quokka")
    run(page)
    [error] = page.error
    assert "quokka" in error.value
    assert [warning.value for warning in page.warning] == [error.value]  # beside the caption too
    assert headline(page) == before
    assert before.startswith("Red child")
    page.text_input(key="prefix").input("")
    run(page)
    assert not [*page.error, *page.warning]
    assert not headline(page).startswith("Red child")


def test_captions_that_differ(page: AppTest) -> None:
    page.toggle(key="different").set_value(True)
    assert len(captions(run(page))) == 3
    asked, _ = page.session_state["seen"]
    assert asked.settings.options.num_groups == 3


def test_length_is_kept(page: AppTest) -> None:
    expert(page)
    page.slider(key="length").set_value((6, 7))
    run(page)
    assert {len(caption.split()) for caption in captions(page)} <= {6, 7}


def test_sampling_draws_again(page: AppTest) -> None:
    expert(page)
    page.toggle(key="sampling").set_value(True)
    run(page)
    drawn = captions(page)
    assert captions(run(page)) == drawn
    page.button(key="draw_again").click()
    assert captions(run(page)) != drawn
    linked = AppTest.from_file(str(PAGE), default_timeout=300)
    linked.query_params.update(
        {"expert": "true", "sampling": "true", "seed": str(page.number_input(key="seed").value)}
    )
    assert captions(run(linked)) == captions(page)


def test_samples_and_addresses_of_a_link(page: AppTest) -> None:
    offered = [sample["name"] for sample in part(page, "photo")["samples"]]
    assert offered == list(sample_photos())
    linked = AppTest.from_file(str(PAGE), default_timeout=300)
    linked.query_params["sample"] = offered[1]
    assert photo(run(linked)) != photo(page)
    inside = AppTest.from_file(str(PAGE), default_timeout=300)
    inside.query_params["url"] = "http://127.0.0.1:9/photo.jpg"
    [error] = run(inside).error
    assert "127.0.0.1" in error.value
    assert headline(inside)


def test_two_captioners_can_be_chosen_between(
    page: AppTest, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any(box.key == "model" for box in page.selectbox)
    build_tiny_captioner(tmp_path, "first")
    build_tiny_captioner(tmp_path, "second", default=False)
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(tmp_path))
    run(page)
    assert page.selectbox(key="model").label == "Captioner"
    assert page.selectbox(key="model").options == [
        "Show, Attend and Tell · first",
        "Show, Attend and Tell · second",
    ]
    assert page.selectbox(key="model").value == "first"
    page.selectbox(key="model").set_value("second")
    run(page)
    assert headline(page)
    assert page.query_params["model"] == "second"
    page.selectbox(key="model").set_value("first")
    assert "model" not in run(page).query_params


def test_what_is_known_of_a_captioner_is_said_with_its_name(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build_tiny_captioner(tmp_path, "measured")
    replace(Card.load(path), scores={"Bleu_4": 0.25, "CIDEr": 0.5, "split": "val"}).write(path)
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(tmp_path))
    page = run(AppTest.from_file(str(PAGE), default_timeout=300))
    [facts] = [note.value for note in page.caption if "million parameters" in note.value]
    assert facts.startswith("measured · ")
    assert facts.endswith(" · CIDEr 0.500 · BLEU-4 0.250 · MIT")


@pytest.mark.parametrize(("asked", "chosen"), [("second", "second"), ("third", "first")])
def test_a_link_names_the_captioner(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, chosen: str
) -> None:
    build_tiny_captioner(tmp_path, "first")
    build_tiny_captioner(tmp_path, "second", default=False)
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(tmp_path))
    linked = AppTest.from_file(str(PAGE), default_timeout=300)
    linked.query_params.update({"model": asked, "beam_size": "2", "view": "Share", "expert": "true"})
    assert run(linked).selectbox(key="model").value == chosen
    link = dict(parse_qsl(linked.code[-1].value.partition("?")[2]))
    assert link == {"beam_size": "2", "expert": "true", **({"model": "second"} if chosen == "second" else {})}


def test_without_weights_there_is_one_sentence(
    page: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(tmp_path))
    run(page)
    assert len(page.error) == 1
    assert not page.get("bidi_component")


def test_sessions_share_one_captioner_and_no_photo(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    from captionbot import Captioner

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a second captioner was loaded")

    monkeypatch.setattr(Captioner, "from_pretrained", never)
    upload(page, "red.png", picture("red"))
    other = run(AppTest.from_file(str(PAGE), default_timeout=300))
    assert photo(other) != photo(page)


def test_nothing_is_written_to_disk(page: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = io.open

    def watched(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if set(mode) & set("wax+"):
            opened.append(str(file))
        return real(file, mode, *args, **kwargs)

    monkeypatch.setattr("builtins.open", watched)
    monkeypatch.setattr("io.open", watched)
    upload(page, "red.png", picture("red"))
    assert opened == []


def test_the_beam_lists_its_sentences_best_first(page: AppTest) -> None:
    [table] = open_view(expert(page), "Beam").table
    assert part(page, "beam")["svg"].startswith("<svg")
    assert table.value["Sentence"][0] == headline(page)
    scores = table.value["Score"].astype(float).tolist()
    assert scores == sorted(scores, reverse=True)
    assert table.value["Lost because"][0] == "the best score"
    before = len(table.value)
    page.slider(key="beam_size").set_value(8)
    assert len(run(page).table[0].value) > before


def test_a_verdict_on_the_heatmap(page: AppTest) -> None:
    open_view(page, "Faithfulness")
    [change] = page.metric
    assert "→" in change.value
    [table] = page.dataframe
    assert list(table.value["Word"]) == said(page)
    page.text_input(key="own sentence").set_value("dog dog")
    [table] = run(page).dataframe
    assert list(table.value["Word"]) == ["dog", "dog"]
    page.text_input(key="own sentence").set_value("a qwertz")
    assert "does not know the word" in run(page).warning[0].value
    assert not any("by part of speech" in expander.label for expander in page.expander)


def test_verdicts_over_many_photos_stand_beside_the_one(
    page: AppTest, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(weights, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(tmp_path))
    shares = (Share("noun", 8, 1, 1, 6, 0), Share("all", 10, 2, 2, 3, 3))
    sha256 = json.loads((tmp_path / "tiny.json").read_text())["sha256"]
    found = [{"name": "tiny", "sha256": sha256, **Faithfulness(3, shares).to_json()}]
    (tmp_path / "faithfulness.json").write_text(json.dumps(found))
    [expander] = [e for e in open_view(page, "Faithfulness").expander if "part of speech" in e.label]
    assert expander.label == "Over 3 photos, by part of speech"
    [chart] = expander.get("html")
    rows = re.findall(r"<tr><td>(\w+)</td><td>\d+</td><td>(\d+%)</td><td>([^<]*)", chart.proto.body)
    assert rows == [("noun", "25%", "7% to 59%"), ("all", "40%", "17% to 69%")]
    assert 'alt="Words whose map is true: noun 25%, all 40%."' in chart.proto.body


def test_one_captioner_has_nothing_to_be_compared_with(page: AppTest) -> None:
    [info] = open_view(page, "Compare").info
    assert "Only one captioner" in info.value


def test_two_captioners_side_by_side(page: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_tiny_captioner(tmp_path, "first")
    build_observant_captioner(tmp_path, "second")
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(tmp_path))
    open_view(run(page), "Compare")
    page.button(key="compare").click()
    [cards] = [part.proto.body for part in run(page).get("html") if "compared" in part.proto.body]
    titles = [f"Show, Attend and Tell · {name}" for name in ("first", "second")]
    assert re.findall("<h5>(.*?)</h5>", cards) == titles
    assert cards.count(" s · Likelihood") == 2
    assert page.selectbox(key="compared word").value in re.sub("<[^>]*>", "", cards)


def test_a_link_restores_the_settings(page: AppTest) -> None:
    linked = AppTest.from_file(str(PAGE), default_timeout=300)
    settings = {"beam_size": "2", "colormap": "Blue to yellow", "view": "Share", "expert": "true"}
    linked.query_params.update(settings)
    run(linked)
    assert linked.slider(key="beam_size").value == 2
    assert linked.selectbox(key="colormap").value == "cividis"
    del settings["view"]  # whoever follows it wants the caption, not the view that made the link
    assert dict(parse_qsl(linked.code[-1].value.partition("?")[2])) == settings


MANY = """
from captionbot.pages.streamlit import batch
from captionbot.pages.work import Settings
from captionbot.search.options import SearchOptions
batch.show(Settings("tiny", SearchOptions(beam_size=2, max_length=6)), lambda photo: None)
"""


def test_alt_texts_keep_their_order_and_what_is_edited(page: AppTest) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("sub/blue.png", picture("blue"))
        file.writestr("../up.png", picture("green"))
    many = AppTest.from_string(MANY, default_timeout=300).run()
    uploads = [("red.png", picture("red")), ("no.png", b"Dear diary"), ("two.zip", archive.getvalue())]
    uploads.append(("review.csv", b"image,alt\nblue.png,Mine.\n"))
    many.file_uploader(key="many").set_value([(name, data, "") for name, data in uploads])
    run(many)
    many.button(key="go").click()
    run(many)
    assert "3 captioned, 1 could not be read." in [note.value for note in many.caption]
    bench = many.session_state["job"].bench
    assert [entry.image for entry in bench.entries] == [
        *("red.png", "no.png", "two.zip/sub/blue.png", "two.zip/../up.png"),
    ]
    assert [bool(entry.alt) for entry in bench.entries] == [True, False, True, True]
    assert bench.entries[2].alt == "Mine."
    assert [bool(card.thumbnail) for card in bench.cards] == [True, False, True, True]
    files = {file.name: file.make for file in batch.files(bench)}
    with zipfile.ZipFile(io.BytesIO(files["alt-text-txt.zip"]())) as file:
        assert file.namelist() == ["red.txt", "two.zip/sub/blue.txt", "two.zip/up.txt"]
        assert file.read("red.txt").decode() == f"{bench.entries[0].alt}\n"
    many.button(key="again").click()
    run(many)
    assert "job" not in many.session_state


def test_results_are_those_of_the_cards(page: AppTest) -> None:
    script = "from captionbot.pages.streamlit import results; results.show()"
    empty = run(AppTest.from_string(script, default_timeout=300))
    assert "No captioner" in empty.info[0].value


GALLERY = "from captionbot.pages.streamlit import results; results.show()"


@pytest.fixture
def gallery(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven photos in a .tar beside their annotations, one of which is missing, captioned by two."""
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(weights))
    said = ["a dog runs", "a dog sits", "two men", "a cat", "a red ball", "snow", "a man in snow"]
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for number in range(6):
            data = picture("red", (40 + number, 30))
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    shots = [
        {
            "photo": f"{number}.png",
            "references": [f"a person says {number}"],
            "captions": {
                "one": {"text": text, "CIDEr": number / 10},
                "two": {"text": "a dog runs", "CIDEr": 1 - number / 10},
            },
        }
        for number, text in enumerate(said)
    ]
    found = {"images": str(tmp_path), "split": "val", "captioners": ["two", "one"], "shots": shots}
    (tmp_path / "val.json").write_text(json.dumps(found))
    monkeypatch.setenv("CAPTIONBOT_VAL", str(tmp_path / "val.json"))
    return tmp_path


def test_the_best_worst_and_most_different_captions(gallery: Path) -> None:
    page = run(AppTest.from_string(GALLERY, default_timeout=300))
    people = [f"A person says: a person says {number}" for number in range(7)]
    assert alts(page) == people[:6]  # by the captioner that is best
    page.selectbox(key="gallery of").set_value("one")
    assert alts(run(page)) == people[5:0:-1]  # the best one's photo is not there
    assert any(note.value == "6.png is not among the photos." for note in page.caption)
    choice(page, "Captions").set_value("Worst")
    assert alts(run(page)) == people[:6]
    choice(page, "Captions").set_value("Most different")
    run(page)
    sentences = [block.value for block in page.markdown if block.value.startswith("**")]
    assert sentences[:4] == ["**A dog runs.**", "**Two men.**", "**A dog runs.**", "**Snow.**"]
    assert "one · CIDEr 0.20" in [note.value for note in page.caption]


def test_results_without_or_with_a_broken_gallery(gallery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (gallery / "val.json").write_text("{}")
    [warning] = run(AppTest.from_string(GALLERY, default_timeout=300)).warning
    assert "write it again" in warning.value
    monkeypatch.delenv("CAPTIONBOT_VAL")
    page = run(AppTest.from_string(GALLERY, default_timeout=300))
    assert not page.warning
    assert "Best, worst, most different captions" not in [heading.value for heading in page.subheader]


def own(page: AppTest, name: str, data: bytes) -> AppTest:
    page.file_uploader(key="own files").upload(name, data)
    return run(page)


def test_a_captioner_of_one_s_own_is_uploaded_and_kept_for_the_visit(page: AppTest, tmp_path: Path) -> None:
    build_observant_captioner(tmp_path, "mine")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        for path in (tmp_path / "mine.json", tmp_path / "mine.safetensors"):
            out.write(path, path.name)
    own(page, "mine.zip", archive.getvalue())
    model = page.selectbox(key="model")
    assert model.options[-1] == model.value
    assert re.fullmatch(r"mine \(yours, [0-9a-f]{12}\)", model.value)
    assert said(page) == headline(page).lower().strip(".").split()
    assert not [warning.value for warning in page.warning]

    model.select("tiny")
    assert headline(run(page))
    stranger = run(AppTest.from_file(str(PAGE), default_timeout=300))
    assert not [name for box in stranger.selectbox for name in box.options if "yours" in str(name)]


def test_an_upload_that_is_no_captioner_gets_one_sentence(page: AppTest) -> None:
    own(page, "mine.json", b"Dear diary")
    assert "NAME.safetensors" in page.error[0].value
    assert headline(page)  # the captioner that ships goes on
