"""The Gradio page as a person meets it: a real server, a real browser, a real photo."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import walks
from browsers import ARTEFACTS, on_a_laptop
from playwright.sync_api import Browser, Locator, Page, expect
from tiny import build_tiny_captioner
from walks import words

from benchmarks.servers import CHROMIUM, served
from captionbot.pages.samples import sample_photos

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")
CAT, DOG = [sample_photos()[name] for name in ("A kitten", "A dog")]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("server") / "log"
    with served("gradio", protected=True, log=log) as (address, _):
        yield f"http://{address}"
    walks.find_no_complaint(log)


@pytest.fixture
def page(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page with its sample, or at the address that a test asks for."""
    with on_a_laptop(browser, address, getattr(request, "param", "")) as page:
        expect(words(page).first).to_be_visible()
        yield page


def headline(page: Page) -> Locator:
    return page.locator("#headline h2")


def at(query: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", [query], indirect=True)


def view(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def test_upload_point_at_a_word_and_say_something_else(page: Page, tmp_path: Path) -> None:
    walks.upload_one(page, CAT)
    walks.point_at_words(page)
    page.screenshot(path=ARTEFACTS / "gradio.png")
    walks.say_something_else(page)
    walks.hide_by_the_keyboard(page)
    (tmp_path / "notes.jpg").write_text("Dear diary")
    walks.upload(page, tmp_path / "notes.jpg")
    expect(page.get_by_text("not an image that can be read").first).to_be_visible()


@at("?model=top-down&photo=Musicians")
def test_a_box_that_is_unticked_is_left_out(page: Page) -> None:
    view(page, "Regions")
    boxes = page.locator("#kept input[type=checkbox]")
    expect(page.locator("#leaning").get_by_role("img")).to_be_visible()
    page.locator("#leaning summary").click()
    expect(page.locator("#leaning").get_by_text("whole image")).to_be_visible()
    found = page.locator("#boxes .legend-item").count()
    assert found > 1
    expect(boxes).to_have_count(found + 1)  # the whole image is not drawn
    boxes.nth(1).uncheck()
    expect(page.locator("#without .token, #without .textspan").first).to_be_visible()
    expect(page.locator("#boxes .legend-item")).to_have_count(found - 1)
    page.screenshot(path=ARTEFACTS / "gradio-regions.png", full_page=True)


def test_a_captioner_of_one_s_own_is_uploaded_and_chosen(page: Page, tmp_path: Path) -> None:
    card = build_tiny_captioner(tmp_path, "mine", default=False)
    before = headline(page).inner_text()
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="A captioner of your own").click()
    page.locator("#own input[type=file]").set_input_files([card, card.with_suffix(".safetensors")])
    expect(page.get_by_text("Using “mine”.")).to_be_visible()
    expect(page.locator("#model input")).to_have_value("mine (yours)")
    expect(headline(page)).not_to_have_text(before)


def test_compare_and_results(page: Page) -> None:
    view(page, "Compare")
    walks.watch_progress(page)
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_label("Attention map for")).to_be_visible()
    expect(page.locator(".compared .said")).to_have_count(3)
    assert "Asking Show, Attend and Tell…" in walks.progressed(page)
    expect(page.locator(".compared mark").first).to_be_visible()
    page.screenshot(path=ARTEFACTS / "gradio-compare.png", full_page=True)
    view(page, "Results")
    expect(page.locator("#results").get_by_text("Show, Attend and Tell").first).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("^CIDEr of"))).to_be_visible()
    page.screenshot(path=ARTEFACTS / "gradio-results.png", full_page=True)


def test_alt_texts_are_accepted_by_a_key_and_taken_along(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_text("Dear diary")
    view(page, "Alt text")
    page.locator("#files input[type=file]").set_input_files([CAT, broken, DOG])
    expect(page.locator("#files a")).to_have_count(3)  # names are there before the files are
    page.get_by_role("button", name="Propose alt texts").click()
    expect(page.get_by_text("2 captioned, 1 could not be read.")).to_be_visible()
    texts = page.get_by_role("article").get_by_role("textbox")
    texts.first.fill("A person wrote this.")
    named = str(texts.first.get_attribute("aria-label")).removeprefix("Alt text of ")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Accepted (1)")).to_be_visible()
    expect(texts.filter(visible=True)).to_be_focused()
    page.screenshot(path=ARTEFACTS / "gradio-alt.png", full_page=True)
    page.reload()  # nothing is lost
    view(page, "Alt text")
    expect(page.get_by_role("button", name="Accepted (1)")).to_be_visible()
    page.get_by_role("button", name="Make the files").click()
    with page.expect_download() as download:
        page.locator("a[download='alt-text.zip']").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert {f"txt/{path.stem}.txt" for path in (CAT, DOG)} <= set(archive.namelist())
        assert archive.read(f"txt/{Path(named).stem}.txt") == b"A person wrote this.\n"
    before = headline(page).inner_text()
    page.get_by_role("button", name=re.compile("^Explore .*jpg")).filter(visible=True).first.click()
    expect(headline(page)).to_be_visible()
    expect(headline(page)).not_to_have_text(before)


@at("?model=gpt2-prefix&beam_size=2&photo=Musicians&prefix=a+tall&expert=True")
def test_a_link_restores_captioner_settings_and_photo(page: Page, address: str) -> None:
    expect(headline(page)).to_contain_text(re.compile(r"\b[Aa] tall "))  # which a guess has before it
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="More options").click()
    expect(page.get_by_label("number input for Beam size")).to_have_value("2")
    view(page, "Share")
    page.get_by_role("button", name="Make the files").click()
    for ending in ("html", "png", "gif", "json"):
        expect(page.locator(f"#shared a[download='musicians.{ending}']")).to_be_visible()
    link = page.locator("#address textarea, #address input")
    expect(link).to_have_value(
        f"{address}/?model=gpt2-prefix&prefix=a+tall&expert=True&beam_size=2&photo=Musicians"
    )


def test_on_a_phone_the_photo_stays_in_sight(page: Page) -> None:
    before = headline(page).inner_text()
    page.get_by_role("button", name="A dog").click()
    expect(headline(page)).not_to_have_text(before)
    walks.stand_on_a_phone(page, "gradio", open_beam=lambda: view(page, "Beam"))


def test_nothing_bars_the_way_and_the_keyboard_finds_the_photo_first(browser: Browser, address: str) -> None:
    with on_a_laptop(browser, address, reduced_motion="reduce") as page:
        expect(words(page).first).to_be_visible()
        walks.find_the_photo_by_tab(page)
        for expert in (False, True):
            if expert:
                page.get_by_label("Expert").check()
                expect(page.locator(".cb-number")).to_contain_text("log-probability")
            for name in ("Captions", "Beam", "Faithfulness", "Compare", "Share", "Alt text", "Results"):
                view(page, name)
                page.wait_for_timeout(500)  # until what follows the click has begun
                expect(page.locator("#views .pending")).to_have_count(0)
                within = "html" if name == "Captions" else "#views"
                walks.meet_no_barrier(page, f"{name}, {'expert' if expert else 'plain'}", expert, within)
            page.get_by_role("button", name="Settings").click()
            expect(page.get_by_label("Start the caption with…")).to_be_visible()
            walks.meet_no_barrier(page, "Settings", dark=expert)
            page.get_by_role("button", name="Settings").click()


def test_a_first_visit_has_a_tour(browser: Browser, address: str) -> None:
    walks.be_shown_around(browser, address)
