"""The Streamlit page as a person meets it: a real server, a real browser, a real photo."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsers import ARTEFACTS, on_a_laptop
from playwright.sync_api import Browser, Locator, Page, expect

from benchmarks.servers import CHROMIUM, served
from captionbot.pages.samples import sample_photos

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")
LION, TOWER, CHEETAH = sample_photos().values()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served("streamlit", protected=True) as (address, _):
        yield f"http://{address}"


@pytest.fixture
def page(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page with its sample, or at the address that a test asks for."""
    with on_a_laptop(browser, address, getattr(request, "param", "")) as page:
        settled(page)
        yield page


def settled(page: Page) -> None:
    """Wait until the server has nothing more to say."""
    expect(page.get_by_role("heading").first).to_be_visible()
    expect(page.locator("[data-testid=stStatusWidget]")).to_have_count(0)
    expect(page.locator("[data-testid=stSpinner], [data-testid=stSkeleton]")).to_have_count(0)


def headline(page: Page) -> str:
    return page.get_by_role("heading", level=2).inner_text()


def files(page: Page) -> Locator:
    """Where photos are uploaded; the sidebar takes files too."""
    return page.get_by_test_id("stMain").locator("input[type=file]")


def chips(page: Page) -> list[str]:
    words = page.get_by_role("radiogroup", name="Click a word").get_by_role("radio")
    return [word.replace("\u2060", "") for word in words.all_inner_texts()]


def at(view: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", [view], indirect=True)


def test_upload_a_photo_and_click_a_word(page: Page) -> None:
    hero = page.get_by_role("img").first
    sample = str(hero.get_attribute("src"))
    files(page).set_input_files(CHEETAH)
    expect(hero).not_to_have_attribute("src", sample)
    settled(page)

    expect(hero).to_have_attribute("alt", headline(page))
    assert " ".join(chips(page)).capitalize() + "." == headline(page)
    shown = str(hero.get_attribute("src"))
    page.get_by_role("radiogroup", name="Click a word").get_by_role("radio").nth(1).click()
    expect(hero).not_to_have_attribute("src", shown)
    expect(page.get_by_text(f"“{chips(page)[1]}” had a probability of")).to_be_visible()
    chosen = page.get_by_role("radiogroup", name="Click a word").get_by_role("radio", checked=True)
    expect(chosen).to_have_css("background-color", "rgb(79, 70, 229)")  # the pointer is still on it
    page.wait_for_function("document.querySelector('[data-testid=stImage] img').naturalWidth > 200")
    page.screenshot(path=ARTEFACTS / "streamlit.png")


@at("?view=Steer")
def test_the_sentence_is_finished_again_from_a_word_of_one_s_own(page: Page) -> None:
    page.get_by_label("Or type words of your own").fill("two dogs")
    page.get_by_label("Or type words of your own").press("Enter")
    expect(page.get_by_text("Original", exact=True)).to_be_visible()
    steered = page.get_by_role("heading", level=5).nth(1)
    expect(steered).to_contain_text("dogs")
    page.screenshot(path=ARTEFACTS / "streamlit-steer.png", full_page=True)


@at("?view=Regions&model=top-down-flickr8k&photo=A+lion")
def test_a_box_that_is_unticked_is_left_out(page: Page) -> None:
    boxes = page.get_by_role("button").filter(has_text="%").filter(has_not_text="whole image")
    expect(boxes.first).to_be_visible()
    picture = page.get_by_role("img", name="boxes.")
    drawn = re.compile(re.escape(headline(page)) + r" With its (\d+) boxes\.")
    expect(picture).to_have_attribute("alt", drawn)
    found = int(drawn.fullmatch(picture.get_attribute("alt") or "")[1])  # type: ignore[index]
    boxes.first.click()
    expect(page.get_by_text(f"Without 1 of {found}")).to_be_visible()
    expect(picture).to_have_attribute("alt", re.compile(f"With its {found - 1} boxes"))
    page.screenshot(path=ARTEFACTS / "streamlit-regions.png", full_page=True)


@at("?view=Compare")
def test_captioners_side_by_side(page: Page) -> None:
    page.get_by_role("button", name="Compare", exact=True).click()
    said = page.get_by_role("heading", level=5)
    expect(said).to_have_count(4)
    expect(page.get_by_text("s · Likelihood")).to_have_count(4)
    assert all(text.endswith(".") for text in said.all_inner_texts())
    page.screenshot(path=ARTEFACTS / "streamlit-compare.png", full_page=True)


@at("many")
def test_alt_texts_are_accepted_by_a_key_and_taken_along(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_text("Dear diary")
    files(page).set_input_files([CHEETAH, broken, TOWER, LION])
    page.get_by_role("button", name="Propose alt texts for 4 files").click()
    expect(page.get_by_text("3 captioned, 1 could not be read.")).to_be_visible()
    expect(page.get_by_role("article", name="broken.jpg")).to_be_hidden()  # it waits for nobody's review
    page.get_by_role("button", name="Not read (1)").click()
    expect(page.get_by_role("article", name="broken.jpg")).to_contain_text("not an image that can be read")
    page.get_by_role("button", name="To review (3)").click()
    texts = page.get_by_role("article").get_by_role("textbox")
    texts.first.fill("A person   wrote this.")
    named = re.compile(str(texts.first.get_attribute("aria-label")).removeprefix("Alt text of "))
    page.keyboard.press("Enter")
    expect(texts.first).to_be_focused()  # the next one
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Accepted (2)")).to_be_visible()
    expect(page.get_by_role("button", name="To review (1)")).to_be_visible()
    expect(texts.filter(visible=True)).to_have_count(1)
    page.screenshot(path=ARTEFACTS / "streamlit-alt.png", full_page=True)

    page.get_by_role("link", name="Results").click()
    expect(page.get_by_text("Scores of coco-caption")).to_be_visible()
    page.get_by_role("link", name="Alt text").click()  # nothing is lost on the way
    expect(page.get_by_role("button", name="Accepted (2)")).to_be_visible()
    page.get_by_role("button", name="Accepted (2)").click()
    expect(page.get_by_role("article", name=named).get_by_role("textbox")).to_have_value(
        "A person wrote this."
    )
    with page.expect_download() as download:
        page.get_by_role("button", name="Everything (.zip)").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert {f"txt/{path.stem}.txt" for path in (CHEETAH, TOWER, LION)} <= set(archive.namelist())
        rows = archive.read("alt-text.csv").decode().splitlines()
        assert [row.split(",")[1] for row in rows if named.match(row)] == ["A person wrote this."]
        assert sum(",accepted," in row for row in rows) == 2
    page.get_by_role("article", name=named).get_by_role("button", name="Explore").click()
    expect(page.get_by_role("link", name="Explore")).to_be_visible()
    expect(page.get_by_role("article")).to_have_count(0)


@at("?model=show-and-tell-gru-flickr8k&beam_size=2&source=Samples&sample=A+tower&view=Share")
def test_a_link_restores_captioner_settings_and_photo(page: Page) -> None:
    expect(page.get_by_role("slider", name="Beam size")).to_have_value("2")
    expect(page.get_by_role("radio", name="A tower")).to_be_checked()
    link = page.get_by_text("?model=show-and-tell-gru-flickr8k").inner_text()
    assert {"beam_size=2", "sample=A+tower"} <= set(link.split("?")[1].split("&"))
    page.get_by_role("link", name="Alt text").click()  # the captioner goes along
    expect(page.get_by_role("combobox", name="Captioner")).to_have_value("Show and Tell (GRU)")


@at("?model=top-down-flickr8k&boxes=false&view=Share")
def test_a_link_restores_that_no_boxes_are_drawn(page: Page) -> None:
    page.get_by_role("button", name="Heatmap").click()
    expect(page.get_by_role("switch", name="Boxes")).not_to_be_checked()
    link = page.get_by_text("boxes=false").inner_text()
    assert "view=" not in link


@at("?view=Share")
def test_downloads(page: Page) -> None:
    for label, ending, magic in (
        ("Every word (PNG)", ".png", b"\x89PNG"),
        ("Word by word (GIF)", ".gif", b"GIF8"),
        ("Captions and attention (JSON)", ".json", b'{"image"'),
    ):
        with page.expect_download() as download:
            page.get_by_role("button", name=label).click()
        assert download.value.suggested_filename.endswith(ending)
        assert Path(download.value.path()).read_bytes().startswith(magic)
    page.screenshot(path=ARTEFACTS / "streamlit-share.png", full_page=True)


@at("?view=Faithfulness")
def test_a_verdict_on_the_heatmap_of_a_word(page: Page) -> None:
    expect(page.get_by_test_id("stMetric").filter(has_text="→")).to_be_visible(timeout=600_000)
    expect(page.get_by_role("img", name="where hiding the photo makes it less likely")).to_be_visible()
    expect(page.get_by_role("img", name="The photo with the place hidden")).to_be_visible()
    expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible()
    page.screenshot(path=ARTEFACTS / "streamlit-truth.png", full_page=True)


@at("results")
def test_results_of_all_that_ship(page: Page) -> None:
    expect(page.get_by_text("Scores of coco-caption")).to_be_visible()
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()
    page.screenshot(path=ARTEFACTS / "streamlit-results.png", full_page=True)


@at("?view=Words")
def test_a_lesson_with_this_photo_s_own_numbers(page: Page) -> None:
    page.get_by_text("How it decides where to look").click()
    expect(page.locator(".katex").first).to_be_visible()
    page.screenshot(path=ARTEFACTS / "streamlit-learn.png", full_page=True)


def test_words_are_stepped_through_with_the_arrow_keys(page: Page) -> None:
    words = page.get_by_role("radiogroup", name="Click a word").get_by_role("radio")
    for key, chosen in (("ArrowRight", 0), ("ArrowRight", 1), ("ArrowLeft", 0)):
        page.keyboard.press(key)
        expect(words.nth(chosen)).to_be_checked()


@at("?view=Share")
def test_the_report_opens_offline(page: Page, tmp_path: Path) -> None:
    with page.expect_download() as download:
        page.get_by_role("button", name="opens offline").click()
    download.value.save_as(tmp_path / "report.html")
    report = page.context.new_page()
    report.context.set_offline(True)
    report.goto((tmp_path / "report.html").as_uri())
    photo, words = report.locator("#photo"), report.locator(".words button")
    whole = photo.get_attribute("src")
    words.first.click()
    assert photo.get_attribute("src") == words.first.get_attribute("data-map") != whole
    report.keyboard.press("ArrowRight")
    assert photo.get_attribute("src") == words.nth(1).get_attribute("data-map")
    expect(report.locator(".rivals:visible")).to_have_count(1)
    report.screenshot(path=ARTEFACTS / "report.png")
    report.keyboard.press("Escape")
    assert photo.get_attribute("src") == whole
    report.context.set_offline(False)


@at("?view=Beam")
def test_a_click_in_the_tree_says_what_became_of_a_word(page: Page) -> None:
    end = page.locator(".beam-tree g.won").last
    expect(end).to_be_visible()
    end.click()
    expect(page.locator(".note")).to_contain_text("The winner: a score of")
    page.screenshot(path=ARTEFACTS / "streamlit-beam.png")


def test_drag_a_rectangle_over_the_photo(page: Page) -> None:
    page.get_by_role("tab", name="Ask the picture").click()
    expect(page.get_by_text("16% of the photo is hidden.")).to_be_visible()
    frame = page.locator(".frame")
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.8 * box["height"], steps=3)
    page.mouse.up()
    expect(page.get_by_text("30% of the photo is hidden.")).to_be_visible()
    page.screenshot(path=ARTEFACTS / "streamlit-ask.png")


def test_a_text_file_is_answered_with_a_sentence(page: Page, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("Dear diary")
    files(page).set_input_files(tmp_path / "notes.jpg")
    expect(page.get_by_role("alert").filter(has_text="notes.jpg")).to_be_visible()
    expect(page.get_by_text("Traceback")).to_have_count(0)


def test_the_page_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    hero = page.get_by_role("img").first
    expect(hero).to_be_visible()
    box = hero.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.screenshot(path=ARTEFACTS / "streamlit-phone.png")
    sample = str(hero.get_attribute("src"))
    files(page).set_input_files(TOWER)  # an upright photo leaves room for its caption
    expect(hero).not_to_have_attribute("src", sample)
    settled(page)
    expect(page.get_by_role("heading", level=2)).to_be_in_viewport(ratio=1)
