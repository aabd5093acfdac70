"""The Streamlit page on a tiny untrained captioner, without a browser."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from PIL import Image
from streamlit.testing.v1 import AppTest
from tiny import WORDS, build_tiny_captioner

from captionbot.card import load, save

PAGE = Path(__file__).parents[1] / "streamlit_app.py"


def build_observant_captioner(folder: Path) -> None:
    """An untrained captioner looks everywhere alike; this one looks elsewhere for every word."""
    card, encoder, decoder = load(build_tiny_captioner(folder))
    weights = dict(decoder.named_parameters())
    weights["annotate.weight"] *= 30_000  # features of an untrained encoder are tiny
    weights["attend_hidden.weight"] *= 3
    weights["attend_score.weight"] *= 20
    save(folder, card, encoder, decoder)


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


def alts(page: AppTest) -> list[str]:
    """What a screen reader says of the pictures: the photo, then a tile for every word."""
    return [image.proto.imgs[0].alt for image in page.get("image")]


def urls(page: AppTest) -> list[str]:
    """Addresses of the pictures, which are made of their content."""
    return [image.value[0] for image in page.get("image")]


def headline(page: AppTest) -> str:
    return page.header[0].value


def words(page: AppTest) -> Any:
    return next(group for group in page.get("button_group") if "Click a word" in group.label)


def said(page: AppTest) -> list[str]:
    """The words to click; repeated ones differ by characters that nobody sees."""
    assert len(set(words(page).options)) == len(words(page).options)
    return [option.strip("\u2060") for option in words(page).options]


def source(page: AppTest) -> Any:
    return page.get("button_group")[0]


def test_the_first_page_shows_a_sample_with_its_caption(page: AppTest) -> None:
    assert page.title[0].value == "CaptionBot"
    assert headline(page)[0].isupper()
    assert headline(page).endswith(".")
    assert " ".join(said(page)) == headline(page).strip(".").lower()
    assert set(said(page)) <= set(WORDS)
    assert alts(page)[0] == headline(page)
    assert len(alts(page)) == 1 + len(said(page))
    assert not page.error


def test_captions_are_listed_best_first_with_what_they_are_worth(page: AppTest) -> None:
    [listed] = page.radio
    assert len(listed.options) == 3
    assert listed.options[0] == headline(page)
    assert all("Confidence" in c and "log-probability -" in c for c in listed.proto.captions)
    assert [block.value for block in page.code] == listed.options


def test_an_upload_takes_the_place_of_the_sample(page: AppTest) -> None:
    before = urls(page)[0]
    first = urls(upload(page, "red.png", picture("red")))[0]
    second = urls(upload(page, "blue.webp", picture("blue", kind="WEBP")))[0]
    assert len({before, first, second}) == 3
    page.file_uploader(key="upload").set_value(None)
    assert urls(run(page))[0] == before


@pytest.mark.parametrize(
    ("name", "data"),
    [("notes.jpg", b"Dear diary"), ("empty.png", b""), ("half.png", picture("red", (300, 300))[:120])],
)
def test_what_is_no_photo_gets_one_sentence(page: AppTest, name: str, data: bytes) -> None:
    upload(page, name, data)
    [error] = page.error
    assert name in error.value
    assert error.value.endswith(".")
    assert not page.header
    upload(page, "red.png", picture("red"))
    assert not page.error
    assert page.header


def test_a_word_shows_where_the_model_looked(page: AppTest) -> None:
    photo, *tiles = urls(page)
    last = said(page)[-1]
    words(page).set_value(len(tiles) - 1)
    run(page)
    drawn, *after = urls(page)
    assert drawn != photo
    assert after == tiles
    assert f"looked for “{last}”" in alts(page)[0]
    assert any(f"“{last}” had a probability of" in note.value for note in page.caption)
    words(page).set_value(None)
    assert urls(run(page))[0] == photo


@pytest.mark.parametrize(
    "change",
    [
        lambda page: page.slider(key="strength").set_value(0.9),
        lambda page: page.selectbox(key="colormap").set_value("spotlight"),
        lambda page: page.get("button_group")[-1].set_value("Cells"),
    ],
    ids=["strength", "colours", "cells"],
)
def test_the_look_of_heatmaps_changes_all_of_them(page: AppTest, change: Any) -> None:
    words(page).set_value(0)
    before = urls(run(page))
    change(page)
    after = urls(run(page))
    assert len(after) == len(before)
    assert not set(after) & set(before)


def test_a_word_that_is_said_twice_is_two_words(page: AppTest) -> None:
    page.text_input(key="prefix").input("a dog on a man")
    run(page)
    seen = set()
    for t in (0, 3):
        assert said(page)[t] == "a"
        words(page).set_value(t)
        seen.add(urls(run(page))[0])
        assert words(page).value == t
    assert len(seen) == 2


def test_another_caption_becomes_the_headline(page: AppTest) -> None:
    second = page.radio[0].options[1]
    page.radio[0].set_value(1)
    run(page)
    assert headline(page) == second
    assert alts(page)[0] == second


@pytest.mark.parametrize("beam_size", [1, 2, 10])
def test_there_are_at_most_as_many_captions_as_beams(page: AppTest, beam_size: int) -> None:
    page.slider(key="captions").set_value(10)
    page.slider(key="beam_size").set_value(beam_size)
    run(page)
    assert len(page.code) == beam_size
    assert len(page.radio) == (beam_size > 1)


def test_a_caption_starts_as_it_is_told_to(page: AppTest) -> None:
    page.text_input(key="prefix").input("Red child")
    assert headline(run(page)).startswith("Red child")


def test_words_to_avoid_are_avoided(page: AppTest) -> None:
    avoided = headline(page).strip(".").lower().split()
    page.text_input(key="banned").input(", ".join(avoided))
    run(page)
    assert page.code
    for block in page.code:
        assert not set(avoided) & set(block.value.strip(".").lower().split())


def test_a_word_that_the_model_does_not_know_gets_one_sentence(page: AppTest) -> None:
    page.text_input(key="prefix").input("quokka")
    run(page)
    [error] = page.error
    assert "quokka" in error.value


def test_length_is_kept(page: AppTest) -> None:
    page.slider(key="length").set_value((6, 7))
    run(page)
    assert {len(block.value.split()) for block in page.code} <= {6, 7}


def test_sampling_draws_again(page: AppTest) -> None:
    page.toggle(key="sampling").set_value(True)
    run(page)
    drawn = [block.value for block in page.code]
    assert [block.value for block in run(page).code] == drawn
    page.button(key="draw_again").click()
    assert [block.value for block in run(page).code] != drawn


def test_every_sample_can_be_chosen(page: AppTest) -> None:
    source(page).set_value("Samples")
    run(page)
    names = page.get("button_group")[1].options
    seen = set()
    for name in names:
        page.get("button_group")[1].set_value(name)
        seen.add(urls(run(page))[0])
        assert not page.error
    assert len(seen) == len(names) > 1


def test_a_link_into_this_machine_is_refused(page: AppTest) -> None:
    source(page).set_value("Link")
    run(page)
    assert page.header
    page.text_input(key="url").input("http://127.0.0.1:9/photo.jpg")
    run(page)
    [error] = page.error
    assert "127.0.0.1" in error.value


def test_the_camera_is_on_the_page_only_when_it_is_asked_for(page: AppTest) -> None:
    assert not page.get("camera_input")
    source(page).set_value("Camera")
    run(page)
    assert len(page.get("camera_input")) == 1


def test_two_captioners_can_be_chosen_between(
    page: AppTest, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any(box.key == "model" for box in page.selectbox)
    build_tiny_captioner(tmp_path, "first")
    build_tiny_captioner(tmp_path, "second", default=False)
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(tmp_path))
    run(page)
    assert page.selectbox(key="model").label == "Captioner"
    assert page.selectbox(key="model").options == ["first", "second"]
    assert page.selectbox(key="model").value == "first"
    page.selectbox(key="model").set_value("second")
    run(page)
    assert page.header


def test_without_weights_there_is_one_sentence(
    page: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTIONBOT_WEIGHTS", str(tmp_path))
    run(page)
    assert len(page.error) == 1
    assert not page.header


def test_sessions_share_one_captioner_and_no_photo(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    from captionbot import Captioner

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a second captioner was loaded")

    monkeypatch.setattr(Captioner, "from_pretrained", never)
    upload(page, "red.png", picture("red"))
    other = run(AppTest.from_file(str(PAGE), default_timeout=300))
    assert urls(other)[0] != urls(page)[0]


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
    words(page).set_value(0)
    run(page)
    assert opened == []
