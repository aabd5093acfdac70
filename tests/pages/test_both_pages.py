"""Both pages have the same views, and say the same in them."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from tiny import build_observant_captioner

from captionbot.pages import presenters
from captionbot.pages.samples import sample_photos

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "captionbot" / "pages"
FRAMES = {  # what is no view
    "streamlit": {"__init__", "app", "canvas", "hands", "hub", "room", "view", "work"},
    "gradio": {
        *("__init__", "api", "app", "canvas", "door", "events"),
        *("hub", "requests", "settings", "view", "work"),
    },
}
VIEWS = (*presenters.VIEWS, *presenters.PAGES)
SEEN = {"label", "help", "info", "placeholder", "title", "alt", "submit_btn"}  # arguments that visitors read
OF_ONE_PAGE = {  # what presenters say for a widget that the other toolkit lacks, or that is asked otherwise
    "words": {  # Streamlit colours heatmaps; Gradio has numbered words
        *("LOG_PROB_HELP", "SHAPE", "SHAPES", "STRENGTH", "COLOURS", "COLOURS_OF"),
        *("CHOSEN", "COLUMNS", "numbered", "captions", "ONE"),
    },
    "beam": {"COLUMNS", "SAMPLING"},
    "truth": {"WORD", "MAP", "MAPS", "RUN"},
    "regions": {"NOTHING", "ATTENTION", "picture", "PICTURE", "ALL", "boxed", "applies", "NONE"},
    "compare": {"ALONE", "to_compare"},
    "share": {"COPY", "captions", "BUTTON", "NUMBERS", "numbers"},
    "batch": {  # Gradio has the files made by buttons
        *("READING", "TITLE", "share", "AGAIN", "GO_ON", "GONE"),
        *("EXPORT", "MAKE", "WRITTEN", "LET_GO", "EMBED"),
    },
    "results": {"DRAWING", "PEOPLE", "TITLE", "chosen", "markdown", "written"},
}


def tree(page: str, name: str) -> ast.Module:
    return ast.parse((PAGES / page / f"{name}.py").read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", ["streamlit", "gradio"])
def test_a_page_has_the_views_that_there_are(page: str) -> None:
    modules = {path.stem for path in (PAGES / page).glob("*.py")} - FRAMES[page]
    assert modules == set(VIEWS)


@pytest.mark.parametrize("page", ["streamlit", "gradio"])
@pytest.mark.parametrize("name", [*VIEWS, "app"])
def test_pages_write_no_text_of_their_own(page: str, name: str) -> None:
    widgets = [
        node
        for node in ast.walk(tree(page, name))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in ("st", "gr")
        and node.func.attr not in ("html", "HTML", "State")  # markup
    ]
    assert widgets
    read = [
        value
        for call in widgets
        for value in (*call.args[:1], *(word.value for word in call.keywords if word.arg in SEEN))
    ]
    written = [
        part.value
        for value in read
        for part in (value.values if isinstance(value, ast.JoinedStr) else [value])
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]
    assert [text for text in written if any(letter.isalpha() for letter in text)] == []


@pytest.mark.parametrize("name", VIEWS)
def test_what_one_page_says_of_a_view_the_other_says_too(name: str) -> None:
    presenter = import_module(f"captionbot.pages.presenters.{name}")
    said = [
        {
            node.attr
            for node in ast.walk(tree(page, name))
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "says"
        }
        | {
            alias.name
            for node in ast.walk(tree(page, name))
            if isinstance(node, ast.ImportFrom) and node.module == f"captionbot.pages.presenters.{name}"
            for alias in node.names
            if not isinstance(getattr(presenter, alias.name), type)
        }
        for page in ("streamlit", "gradio")
    ]
    assert said[0] & said[1]
    assert said[0] ^ said[1] <= OF_ONE_PAGE[name]


class Pages:
    """Both pages with the same captioner and the sample photo that they begin with."""

    def __init__(self) -> None:
        from captionbot.pages.gradio.app import build

        self.streamlit = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=300)
        self.streamlit.query_params["expert"] = "true"
        self.streamlit.run()
        self.gradio: Any = build()
        photo = {"path": str(next(iter(sample_photos().values()))), "orig_name": "giraffes.jpg"}
        asked = {control: control.value for control in self.gradio.settings.controls.values()}
        asked[self.gradio.expert] = True
        self.shown = self.gradio.on_photo({**asked, self.gradio.photo: photo, self.gradio.seen: None})
        self.seen = self.gradio.show("word", self.shown[self.gradio.seen])[self.gradio.seen]

    def view(self, name: str) -> Any:
        """The Gradio view, with the Streamlit page at the same."""
        self.streamlit.session_state["view"] = presenters.title(name)
        self.streamlit.run()
        assert not self.streamlit.exception
        return self.gradio.views[name]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    if not sample_photos():
        pytest.skip("needs the samples")
    weights = tmp_path_factory.mktemp("weights")
    build_observant_captioner(weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTIONBOT_WEIGHTS", str(weights))
        yield Pages()
    st.cache_data.clear()
    st.cache_resource.clear()


def test_the_views_stand_in_the_same_order(pages: Pages) -> None:
    tabs = [tab.label for tab in pages.streamlit.tabs]
    titles = [view.tab.label for view in pages.gradio.views.values()]
    assert [title for title in titles if title in tabs] == tabs
    regions = presenters.title("regions")  # of captioners that describe boxes
    assert set(titles) - set(tabs) == {regions, *(presenters.title(name) for name in presenters.PAGES)}
    view = pages.gradio.views["regions"]  # whose tab Gradio cannot hide, so that it says why it is empty
    assert (pages.shown[view.none]["visible"], pages.shown[view.found]["visible"]) == (True, False)


def test_the_caption_is_the_same(pages: Pages) -> None:
    words = pages.view("words")
    title, measures = pages.shown[pages.gradio.heroes.headline].split("\n")
    parts = [json.loads(part.proto.json) for part in pages.streamlit.get("bidi_component")]
    [sentence] = [part for part in parts if part["part"] == "sentence"]
    assert title == f"## {sentence['said']}"
    assert [word["looked"] for word in pages.shown[pages.gradio.heroes.sentence]["words"]] == [
        word["looked"] for word in sentence["words"]
    ]
    [listed] = pages.streamlit.radio
    rows = pages.shown[words.table]["value"]
    assert [row[0] for row in rows] == listed.options
    assert listed.proto.captions[0] == measures
    assert listed.label == pages.shown[words.table]["label"]


def test_the_search_is_the_same(pages: Pages) -> None:
    beam = pages.view("beam")
    [table] = pages.streamlit.table
    finished = pages.shown[beam.finished]
    assert list(table.value.columns) == finished["headers"]
    assert table.value.astype(str).to_numpy().tolist() == finished["value"]
    said = [note.value for note in pages.streamlit.markdown if "This search weighed" in note.value]
    assert len(said) == 1
    assert pages.shown[beam.lesson].startswith(said[0])


def test_a_verdict_is_the_same(pages: Pages) -> None:
    truth = pages.view("truth")
    *_, tested = truth.on_test(pages.seen, "")
    title, said = tested[truth.verdict]["value"].split("\n")
    headings = [block.value for block in pages.streamlit.markdown if block.value.startswith("#####")]
    assert f"##### {title.removeprefix('### ')}" in headings
    [change] = pages.streamlit.metric
    reasons = [note.value for note in pages.streamlit.caption]
    assert said.startswith(f"**{change.value}** ")
    assert said.removeprefix(f"**{change.value}** ") in reasons
    [table] = [table.value for table in pages.streamlit.dataframe if "What it needs" in table.value]
    assert [row[1] for row in tested[truth.verdicts]["value"]] == list(table["What it needs"])
