"""The Streamlit page as a person meets it: a real server, a real browser, a real photo."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import walks
from browsers import ARTEFACTS, on_a_laptop
from playwright.sync_api import Browser, Page, expect
from walks import photo, words

from benchmarks.servers import CHROMIUM, served
from captionbot.pages.samples import sample_photos

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")
CAT, DOG, HORSE = [sample_photos()[name] for name in ("A kitten", "A dog", "A horse")]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("server") / "log"
    with served("streamlit", protected=True, log=log) as (address, _):
        yield f"http://{address}"
    walks.find_no_complaint(log)


@pytest.fixture
def page(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page with its sample, or at the address that a test asks for."""
    with on_a_laptop(browser, address, getattr(request, "param", "")) as page:
        settled(page)
        yield page


def settled(page: Page) -> None:
    """Wait until the server has nothing more to say."""
    expect(words(page).first.or_(page.get_by_test_id("stHeading").first).first).to_be_visible()
    expect(page.locator("[data-testid=stStatusWidget]")).to_have_count(0)
    expect(page.locator("[data-testid=stSpinner], [data-testid=stSkeleton]")).to_have_count(0)


def at(view: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", [view], indirect=True)


def test_upload_point_at_a_word_and_say_something_else(page: Page, tmp_path: Path) -> None:
    first = str(photo(page).get_attribute("src"))
    drag_a_rectangle(page)
    walks.upload_one(page, CAT)
    walks.point_at_words(page)
    page.screenshot(path=ARTEFACTS / "streamlit.png")
    walks.say_something_else(page)
    (tmp_path / "notes.jpg").write_text("Dear diary")
    walks.upload(page, tmp_path / "notes.jpg")
    expect(page.get_by_role("alert").filter(has_text="notes.jpg")).to_be_visible()
    expect(words(page).first).to_be_visible()  # the last result stays
    page.get_by_role("link", name="Results").click()
    expect(page.get_by_text("Scores of coco-caption")).to_be_visible()
    page.get_by_role("link", name="Explore").click()
    settled(page)
    assert str(photo(page).get_attribute("src")) != first  # and so does the photo


def drag_a_rectangle(page: Page) -> None:
    page.get_by_role("button", name="Hide a rectangle").click()
    box = page.locator(".cb-frame").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.8 * box["height"], steps=3)
    page.mouse.up()
    expect(page.locator(".cb-edits")).to_contain_text("Part of the photo is hidden")
    page.screenshot(path=ARTEFACTS / "streamlit-ask.png")
    page.get_by_role("button", name="Whole photo again").click()
    expect(page.locator(".cb-edits")).to_be_hidden()


def test_the_keyboard_reaches_the_photo_first_and_all_is_on_one_screen(page: Page) -> None:
    walks.find_the_photo_by_tab(page)
    assert page.evaluate("document.scrollingElement.scrollHeight <= innerHeight")
    for control in (photo(page), words(page).last, page.get_by_role("tab", name="Share")):
        expect(control).to_be_in_viewport(ratio=1)
    expect(page.get_by_text(re.compile("log-probability|beam size|nats", re.IGNORECASE))).to_have_count(0)
    words(page).first.focus()
    page.keyboard.press("ArrowRight")
    expect(words(page).nth(1)).to_be_focused()
    expect(page.locator(".cb-heat")).to_have_attribute("data-word", words(page).nth(1).inner_text())
    walks.hide_by_the_keyboard(page)
    page.get_by_text("How it decides where to look").click()  # with this photo's own numbers
    expect(page.locator(".katex").first).to_be_visible()
    page.screenshot(path=ARTEFACTS / "streamlit-learn.png", full_page=True)


@at("?model=top-down&sample=Musicians")
def test_a_box_that_is_clicked_is_left_out(page: Page) -> None:
    box = page.locator(".cb-box").first
    box.dispatch_event("click")
    expect(box).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".cb-edits")).to_contain_text("hidden")
    page.screenshot(path=ARTEFACTS / "streamlit-regions.png")


@at("?view=Compare")
def test_captioners_side_by_side(page: Page) -> None:
    walks.watch_progress(page)
    page.get_by_role("button", name="Compare", exact=True).click()
    said = page.locator(".compared .said")
    expect(said).to_have_count(3)
    assert "Asking Show, Attend and Tell…" in walks.progressed(page)
    expect(page.get_by_text(re.compile(r"\d s · "))).to_have_count(3)
    assert all(text.endswith(".") for text in said.all_inner_texts())
    expect(page.locator(".compared mark").first).to_be_visible()
    expect(page.get_by_role("combobox", name="Attention map for")).to_be_visible()
    page.screenshot(path=ARTEFACTS / "streamlit-compare.png", full_page=True)


@at("many")
def test_alt_texts_are_accepted_by_a_key_and_taken_along(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_text("Dear diary")
    uploader = page.get_by_test_id("stMain").locator("input[type=file]").first
    uploader.set_input_files([CAT, broken, DOG, HORSE])
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
        assert {f"txt/{path.stem}.txt" for path in (CAT, DOG, HORSE)} <= set(archive.namelist())
        rows = archive.read("alt-text.csv").decode().splitlines()
        assert [row.split(",")[1] for row in rows if named.match(row)] == ["A person wrote this."]
        assert sum(",accepted," in row for row in rows) == 2
    page.get_by_role("article", name=named).get_by_role("button", name="Explore").click()
    expect(page.get_by_role("link", name="Explore")).to_be_visible()
    expect(page.get_by_role("article")).to_have_count(0)
    page.get_by_role("link", name="Alt text").click()
    expect(page.get_by_role("button", name="Accepted (2)")).to_be_visible()
    page.reload()  # after which the texts are there, and the photos are not
    expect(page.get_by_role("button", name="Accepted (2)")).to_be_visible()
    page.get_by_role("button", name="Accepted (2)").click()
    page.get_by_role("article", name=named).get_by_role("button", name="Explore").click()
    expect(page.get_by_text("The photos are not here any more, only their texts")).to_be_visible()


@at("?model=show-and-tell&expert=true&beam_size=2&sample=A+horse&view=Share")
def test_a_link_restores_captioner_settings_and_photo(page: Page) -> None:
    expect(page.get_by_role("button", name="A horse")).to_have_class("cb-on")
    link = page.get_by_text("?model=show-and-tell").inner_text()
    assert {"beam_size=2", "sample=A+horse"} <= set(link.split("?")[1].split("&"))
    page.get_by_role("link", name="Results").click()  # which has no settings
    expect(page.get_by_text("Scores of coco-caption")).to_be_visible()
    page.get_by_role("link", name="Alt text").click()  # all goes along
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_role("combobox", name="Captioner")).to_have_value("Show and Tell (GRU)")
    expect(page.get_by_role("slider", name="Beam size")).to_have_value("2")


@at("?view=Share")
def test_downloads_of_which_the_report_opens_offline(page: Page, tmp_path: Path) -> None:
    for label, ending, magic in (
        ("Every word (PNG)", ".png", b"\x89PNG"),
        ("5 seconds to send (GIF)", ".gif", b"GIF8"),
        ("Captions and attention (JSON)", ".json", b'{"image"'),
    ):
        with page.expect_download() as download:
            page.get_by_role("button", name=label).click()
        assert download.value.suggested_filename.endswith(ending)
        assert Path(download.value.path()).read_bytes().startswith(magic)
    page.screenshot(path=ARTEFACTS / "streamlit-share.png", full_page=True)
    with page.expect_download() as download:
        page.get_by_role("button", name="opens offline").click()
    download.value.save_as(tmp_path / "report.html")
    report = page.context.new_page()
    report.context.set_offline(True)
    report.goto((tmp_path / "report.html").as_uri())
    words, heat = report.locator(".cb-word"), report.locator(".cb-heat")
    words.nth(1).hover()
    expect(heat).to_have_attribute("data-word", words.nth(1).inner_text())
    expect(words.nth(1)).to_have_attribute("data-mark", re.compile("[●◐◇○]"))  # what it needs was measured
    expect(report.get_by_role("button", name="What it needs")).to_have_attribute("aria-pressed", "true")
    report.get_by_role("button", name="Where it looked").click()
    report.screenshot(path=ARTEFACTS / "report.png")
    expect(report.locator(".cb-tree svg")).to_be_visible()
    report.context.set_offline(False)


@at("?view=Faithfulness")
def test_a_verdict_on_the_heatmap_of_a_word(page: Page) -> None:
    expect(page.get_by_test_id("stMetric").filter(has_text="→")).to_be_visible(timeout=600_000)
    expect(page.get_by_role("img", name="where hiding the photo makes it less likely")).to_be_visible()
    expect(page.get_by_role("img", name="The photo with the place hidden")).to_be_visible()
    expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible()
    page.screenshot(path=ARTEFACTS / "streamlit-truth.png", full_page=True)
    told = re.compile("^(Without this part of the photo: “|No word needs this part)")
    photo, ring, badge = (page.locator(f".cb-{part}") for part in ("frame", "ring", "badge"))
    photo.click()
    expect(badge).to_have_text(told)
    expect(ring).to_be_visible()
    before = ring.bounding_box()
    photo.press("ArrowRight")
    expect(badge).to_have_text(told)
    assert before is not None
    assert ring.bounding_box()["x"] > before["x"]
    page.locator(".cb-word").first.hover()
    expect(ring).to_be_hidden()
    expect(badge).to_be_empty()


@at("results")
def test_results_of_all_that_ship(page: Page) -> None:
    expect(page.get_by_text("Scores of coco-caption")).to_be_visible()
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("^CIDEr of"))).to_be_visible()
    page.get_by_role("combobox", name="Picture").click()
    page.get_by_role("option", name="Training").click()
    expect(page.get_by_role("img", name=re.compile("^CIDEr on val from"))).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("^CIDEr of"))).to_have_count(0)  # one at a time
    page.screenshot(path=ARTEFACTS / "streamlit-results.png", full_page=True)


@at("?view=Beam")
def test_the_tree_fits_grows_shows_where_a_branch_looked_and_has_room_on_a_phone(page: Page) -> None:
    tree, end = page.locator(".cb-tree"), page.locator(".beam-tree g.won").last
    expect(end).to_be_in_viewport()
    end.click()
    expect(page.locator(".cb-beam .cb-note")).to_contain_text("The winner: a score of")
    expect(page.locator(".cb-heat")).to_have_css("opacity", "1")
    page.get_by_label("Words so far").fill("2")
    expect(end).to_be_hidden()
    tree.focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".beam-tree g.cb-on")).to_have_count(1)
    page.screenshot(path=ARTEFACTS / "streamlit-beam.png")
    walks.stand_on_a_phone(page, "streamlit")


def test_nothing_bars_the_way(browser: Browser, address: str) -> None:
    with on_a_laptop(browser, address, reduced_motion="reduce") as page:
        settled(page)
        for expert in (False, True):
            if expert:
                page.get_by_text("Expert", exact=True).click()
                expect(page.locator(".cb-number")).to_contain_text("log-probability")
            within = "html"
            for tab in page.get_by_role("tab").all():
                tab.click()
                settled(page)
                where = f"{tab.inner_text()}, {'expert' if expert else 'plain'}"
                walks.meet_no_barrier(page, where, expert, within)
                within = ".st-key-panel"
            page.get_by_role("button", name="Settings").click()
            expect(page.get_by_role("combobox", name="Captioner")).to_be_visible()
            walks.meet_no_barrier(page, "Settings", dark=expert)
            page.keyboard.press("Escape")
        for name in ("Alt text", "Results"):
            page.get_by_role("link", name=name).click()
            expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
            settled(page)
            walks.meet_no_barrier(page, name, dark=True)


def test_a_first_visit_has_a_tour(browser: Browser, address: str) -> None:
    walks.be_shown_around(browser, address)
