"""What the views say, without a page: presenters asked of a tiny captioner."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import build_observant_captioner, build_region_captioner, build_tiny_captioner

from captionbot.draw import canvas as drawn_canvas
from captionbot.draw.overlays import Look
from captionbot.errors import CaptionBotError
from captionbot.explain import counterfactuals as explore
from captionbot.explain.needs import Needs
from captionbot.pages import presenters
from captionbot.pages.presenters import (
    beam,
    canvas,
    compare,
    learn,
    regions,
    results,
    settings,
    share,
    truth,
)
from captionbot.pages.presenters.seen import Column, Seen, Table, sharpest, side_by_side
from captionbot.pages.samples import sample_photos
from captionbot.pages.work import Asked, Decoded, Settings, Work
from captionbot.search.options import SearchOptions
from captionbot.text.display import percent
from captionbot.types import Caption, Judgement, Size, Word


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
    folder = tmp_path_factory.mktemp("weights")
    build_observant_captioner(folder)
    build_tiny_captioner(folder, "other", default=False)
    build_region_captioner(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTIONBOT_WEIGHTS", str(folder))
        yield Work()


def looked_at(work: Work, model: str, **options: int) -> Seen:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    photo = Decoded("photo.png", Image.fromarray(pixels))
    asked = Asked(photo, Settings(model, replace(work.usual(model), num_return=2, **options)))
    return Seen(work, asked, photo.image.resize((60, 45)), work.caption(asked))


@pytest.fixture(scope="module")
def seen(work: Work) -> Seen:
    return looked_at(work, "tiny", min_length=4)


def test_the_browser_is_given_every_map_and_the_places_of_it(seen: Seen) -> None:
    record = canvas.words(seen, expert=True)
    assert record["places"] == {"grid": list(seen.caption.grid or ())}
    for t, word in enumerate(record["words"]):
        alphas = seen.caption.alphas[t]
        np.testing.assert_allclose(np.array(word["looked"]) / 255, alphas / alphas.max(), atol=0.003)
        assert seen.words[t] not in [text for text, _ in word["rivals"]]
        assert word["says"].startswith(f"Where the model looked for “{seen.words[t]}”.")
    assert "needs" not in record["words"][0]


def test_the_beam_is_a_tree_and_its_sentences_with_why_they_lost(seen: Seen) -> None:
    assert beam.tree(seen, cut=False).startswith("<svg")
    assert len(beam.tree(seen, cut=True)) > len(beam.tree(seen, cut=False))
    finished = beam.finished(seen)
    assert finished.rows[0][0] == share.captions(seen)[0]
    scores = [row[2] for row in finished.rows]
    assert scores == sorted(scores, reverse=True)
    assert finished.rows[0][-1] == "the best score"
    assert finished.rows[1][-1] == f"its score is {scores[0] - scores[1]:.2f} lower"


def test_a_drawn_sentence_has_no_tree(work: Work) -> None:
    drawn = looked_at(work, "tiny", sample=True, seed=1)
    assert beam.tree(drawn, cut=True) == ""
    assert learn.beam(drawn) is None


def test_a_sentence_is_edited_from_a_word_on(seen: Seen) -> None:
    untouched = canvas.UNTOUCHED
    rival = canvas.words(seen)["words"][1]["rivals"][0][0]
    edited = canvas.after(seen, untouched.after("edit", {"t": 1, "text": rival}, seen))
    assert edited.words[:2] == [seen.words[0], rival]
    typed = canvas.after(seen, untouched.after("edit", {"t": 0, "text": "Red ball"}, seen))
    assert typed.words[:2] == ["red", "ball"]
    banned = canvas.after(seen, untouched.after("never", 0, seen))
    assert seen.words[0] not in banned.words
    shorter, longer = (untouched.after("length", length, seen) for length in ("shorter", "longer"))
    assert len(canvas.after(seen, shorter).words) < len(seen.words) < len(canvas.after(seen, longer).words)
    assert canvas.words(seen, seen.caption, shorter)["edits"] == canvas.EDITED
    assert shorter.after("length", "as it is", seen) == shorter.after("undo", True, seen) == untouched
    for event, value, sentence in (
        ("edit", {"t": 0, "text": "zebra"}, "zebra"),
        ("length", "endless", "never sends"),
        ("length", [], "never sends"),
    ):
        with pytest.raises(CaptionBotError, match=sentence):
            canvas.after(seen, untouched.after(event, value, seen))


def test_no_sentence_ends_before_its_first_word(seen: Seen) -> None:
    with_end = replace(seen)
    object.__setattr__(with_end, "work", _EndsEverywhere())
    rivals = [word["rivals"] for word in canvas.words(with_end)["words"]]
    assert rivals == [[], *[[[explore.END, 0.5]]] * (len(seen.words) - 1)]


class _EndsEverywhere(Work):
    def rivals(self, asked: Asked, token_ids: tuple[int, ...]) -> tuple[tuple[Word, ...], ...]:
        return ((Word(explore.END, np.log(0.5)),),) * (len(token_ids) + 1)


def test_what_is_hidden_is_asked_again(work: Work, seen: Seen) -> None:
    half = {"boxes": [[0, 0, 0.5, 1]], "only": False}
    hidden = canvas.after(seen, canvas.UNTOUCHED.after("hide", half, seen))
    photo = seen.photo.decode()
    covered = explore.hide(photo, explore.cover(photo.size, [(0, 0, 60, 90)]))
    (expected,) = work.captioner("tiny").caption([covered], seen.options)
    assert hidden.words == [word.text for word in expected.captions[0].words]
    other = {"boxes": [[0.5, 0, 1, 1]], "only": True}
    assert canvas.after(seen, canvas.UNTOUCHED.after("hide", other, seen)).words == hidden.words


def test_what_a_word_looked_at_is_half_of_its_attention(seen: Seen) -> None:
    places = canvas.words(seen)["words"][0]["places"]
    order = np.sort(seen.caption.alphas[0])[::-1]
    assert order[: len(places)].sum() >= 0.5 > order[: len(places) - 1].sum()


@pytest.mark.parametrize(
    ("look", "shape", "colours"),
    [
        (Look(), "smooth", None),
        (Look(smooth=False, colormap="spotlight"), "cells", []),
        (Look(contour=True, colormap="viridis"), "contour", [(68, 1, 84), (253, 231, 37)]),
    ],
)
def test_the_browser_is_told_how_maps_are_drawn(
    look: Look, shape: str, colours: list[tuple[int, int, int]] | None
) -> None:
    told = drawn_canvas.look(look)
    assert (told["shape"], told["strength"]) == (shape, 0.6)
    given = told["colours"]
    assert (given and [given[0], given[-1]]) == colours


@pytest.mark.parametrize(("soon", "copies"), [(0.0, [16, 32, 48, 64, 83, 83]), (1e9, [16, 83, 83])])
def test_what_words_need_is_shown_in_stages_where_it_takes_long(
    seen: Seen, monkeypatch: pytest.MonkeyPatch, soon: float, copies: list[int]
) -> None:
    monkeypatch.setattr("captionbot.pages.work._SOON", soon)
    caption = replace(seen.caption, token_ids=(*seen.caption.token_ids[::-1], int(soon > 0)))  # of its own
    stages = list(seen.needs(caption))
    assert [stage.copies for stage in stages] == copies
    assert [stage.done for stage in stages] == [False] * (len(copies) - 1) + [True]


def test_a_word_is_tested_and_so_are_all(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captionbot.pages.work._SOON", 0)  # as on a slow machine
    first, *_, last = truth.stages(seen)
    assert first.copies == 32
    assert not first.done
    early, told = truth.word(seen, first, 0), truth.word(seen, last, 0)
    assert early.verdict == early.change == ""
    assert {marked.mark for marked in truth.marked(first)} == {""}
    assert told.looked is not None
    assert told.looked.text == f"Where the model looked for “{seen.words[0]}”."
    assert told.needed.image.size == told.hidden.image.size == seen.shown.size
    assert told.change == f"{percent(last.before[0])} → {percent(last.after[0])}"
    assert sum(point[truth.COUNT] for point in told.chance[:-1]) == 999
    assert told.chance[-1][truth.KIND] == truth.OWN
    every = truth.every_word(last)
    assert [row[0] for row in every.rows] == seen.words
    assert [row[1] for row in every.rows] == [verdict.value for verdict in last.verdicts]
    assert all(mark.says in truth.marked_html(last) for mark in truth.marked(last))


def test_which_words_need_a_place_of_the_photo(seen: Seen) -> None:
    """By hand: “dog” needs the corner above on the left, “ball” less of that below on the right."""
    maps = np.zeros((3, 8, 8))
    maps[0, :2, :2], maps[1, 6:, 6:], maps[2] = 0.5, 0.1, 1
    found = Needs(("dog", "ball", "a"), np.full(3, 0.9), np.zeros((83, 3)), np.full(3, 0.1))
    object.__setattr__(found, "maps", maps)
    object.__setattr__(found, "p", np.array([0.01, 0.05, 0.2]))
    assert truth.place(found, (0, 0, 1, 1)) == [
        (0, pytest.approx(np.exp(2))),
        (1, pytest.approx(np.exp(0.4))),
    ]
    caption = replace(seen.caption, grid=(4, 4))
    spots = truth.spots(found, caption)
    assert (spots["grid"], spots["area"]) == ([8, 8], [0.0, 0.0, 1.0, 1.0])
    assert spots["words"][0] == [0]
    assert spots["says"][0] == "Without this part of the photo: “dog” 7.4 times less likely."
    assert spots["words"][63] == [1]
    assert spots["says"][28] == "No word needs this part of the photo."
    middle = replace(caption, boxes=caption.boxes / 2 + np.array([*caption.image_size] * 2) / 4)
    assert truth.spots(found, middle)["area"] == pytest.approx([0.25, 0.25, 0.75, 0.75])


@pytest.mark.parametrize(
    ("p", "after", "verdict", "reason"),
    [
        (0.01, 0.01, "“dog” needs this place.", "with 1% instead of 92%"),
        (0.01, 0.8, "“dog” leans on this place a little.", "with 80% instead of 92%"),
        (0.5, 0.3, "“dog” needs the photo, but no one place of it.", "from 92% to as little as 30%"),
        (0.5, 0.9, "“dog” comes from the sentence: the words before it are enough.", "stayed at 90% or more"),
    ],
)
def test_verdicts_in_plain_words(seen: Seen, p: float, after: float, verdict: str, reason: str) -> None:
    found = Needs(("dog",), np.array([0.92]), np.zeros((83, 1)), np.array([after]))
    object.__setattr__(found, "p", np.array([p]))
    word = (Word("dog", -0.1),)
    caption = Caption("dog", word, -1, -1, 0.5, np.ones((1, 1)), np.ones((1, 4)), None, Size(9, 9))
    told = truth.word(seen, found, 0, caption)
    assert told.verdict == verdict
    assert reason in told.reason
    assert told.change == f"92% → {percent(after)}"


def test_boxes_that_are_taken_away(work: Work, seen: Seen) -> None:
    boxes = looked_at(work, "regions")
    assert "regions" in presenters.views_of(boxes.caption)
    assert "regions" not in presenters.views_of(seen.caption)
    least = float(boxes.caption.scores[4])
    for (most, score, kept), count in (
        ((6, 0, range(6)), 6),
        ((6, 0, [0, 1, 3, 4, 5]), 5),
        ((4, 0, range(6)), 4),
        ((6, least, range(6)), 5),
    ):
        said, sides = regions.present(boxes, most, score, kept)
        assert len(said.boxes) == count
        assert (said is boxes.caption) == (count == 6)
        assert sides.after.title == f"Without {6 - count} of 6"
        chart = regions.attention(said)
        np.testing.assert_allclose(np.array([row[1:] for row in chart.table.rows]).sum(0), 1, atol=1e-4)
        assert len(chart.table.rows) == count
        assert f"With its {count} boxes and" in regions.picture(boxes, said).text
    with pytest.raises(CaptionBotError, match="leave at least one"):
        regions.present(boxes, 6, 0, [])


def test_the_heat_grid_has_the_boxes_that_words_looked_at_most() -> None:
    alphas = np.full((2, 20), 0.01)
    alphas[0, 3], alphas[1, 18] = 0.81, 0.81
    words = (Word("dog", -0.1), Word("runs", -0.1))
    caption = Caption("dog runs", words, -1, -1, 0.5, alphas, np.ones((20, 4)), None, Size(9, 9))
    caption = replace(caption, labels=tuple(f"thing{n}" for n in range(20)))
    chart = regions.attention(caption)
    assert chart.text == "“dog” looked most at 4 thing3, with 81% of its attention."
    assert len(chart.table.rows) == 20
    assert "the 8 boxes that got less" in chart.note


def test_captioners_are_compared_one_after_the_other(work: Work, seen: Seen) -> None:
    assert compare.to_compare(work, ["tiny", "other", "tiny"]) == ["tiny", "other"]
    with pytest.raises(CaptionBotError, match="choose 2 to 4 of tiny, other, regions"):
        compare.to_compare(work, ["tiny", "tiny"])
    first, second, done = compare.present(seen, ["tiny", "other"])
    assert (first.doing, first.share, len(first.answers)) == (f"Asking {work.title('tiny')}…", 0, 0)
    assert (second.doing, second.share, len(second.answers)) == (f"Asking {work.title('other')}…", 0.5, 1)
    assert compare.html(first).count('aria-busy="true"') == 2
    answers = list(done.answers.values())
    assert [answer.title for answer in answers] == [work.title("tiny"), work.title("other")]
    assert all(answer.seconds > 0 and answer.attends for answer in answers)
    assert answers[0].picture(seen.shown, answers[0].words[0]).image is not seen.shown
    missing = answers[0].picture(seen.shown, "quokka")
    assert missing == (seen.shown, f"{work.title('tiny')} does not say “quokka”.")
    page = compare.html(done, answers[0].words[0])
    assert "progress" not in page.split("</style>")[1]
    said = [re.sub("<[^>]*>", "", text) for text in re.findall('class="said">(.*?)</p>', page)]
    assert said == [answer.headline for answer in answers]


def test_samples_are_compared_beside_the_photo_and_maps_come_last(work: Work, seen: Seen) -> None:
    sample = next(iter(sample_photos()))
    for samples, why in ((["nothing"], "'nothing' was chosen"), ([sample] * 4, "4 were chosen")):
        with pytest.raises(CaptionBotError, match=why):
            next(compare.present(seen, ["tiny", "other"], samples))
    blind = replace(seen, work=Blind())
    *_, before, done = compare.present(blind, ["tiny", "other"], [sample])
    assert [name for name, _ in done.photos] == ["Your photo", sample]
    assert before.doing.startswith("Hiding pieces of the photo")
    assert [(place, answer.maps is None) for place, answer in before.answers.items()] == [
        *(((0, 0), False), ((1, 0), False), ((0, 1), False), ((1, 1), True)),
    ]
    assert before.share == 7 / 8
    assert not any(answer.attends for answer in done.answers.values())
    assert compare.html(done).count(compare.WHOLE) == 4


class Blind(Work):
    """Captioners that are taken for ones without attention."""

    def attends(self, model: str, caption: Caption) -> bool:
        return False


def test_words_that_differ_are_marked_and_articles_are_not() -> None:
    said = [["a", "dog", "runs"], ["the", "dog", "sits"], ["a", "man", "runs"]]
    assert compare.differing(said) == [["", "u", "u"], ["", "u", "mark"], ["", "mark", "u"]]
    assert compare.differing([["a", "dog"]]) == [["", ""]]
    word = (Word("dog", -0.1), Word("<b>", -0.1))
    judged = Judgement(0.5, "unsure")
    caption = Caption("dog <b>", word, -1, -1, 0.5, np.ones((2, 1)), np.ones((1, 4)), None, Size(9, 9))
    answer = compare.Answer("it", replace(caption, judgement=judged), 0.1)
    shown = compare.Compared(
        (("x", Image.new("RGB", (4, 4))),), ("it", "other"), (("a dog & I .",),), {(0, 0): answer}
    )
    assert '<p class="said">Perhaps dog &lt;b&gt;.</p>' in compare.html(shown)
    both = shown.with_answer(0, 1, compare.Answer("other", caption, 0.1))
    assert "Perhaps dog &lt;b&gt;." in compare.html(both)
    assert "Not asked" in compare.html(shown)
    assert "<h5>What people wrote</h5><ul><li>A dog &amp; I.</li></ul>" in compare.html(shown)
    assert "What people wrote" not in compare.html(replace(shown, people=((),)))


def test_files_to_export(seen: Seen) -> None:
    files = {Path(file.name).suffix: file for file in share.files(seen)}
    assert {file.name for file in files.values()} == {f"photo{ending}" for ending in files}
    assert files[".html"].make().startswith(b"<!doctype html>")
    assert files[".png"].make().startswith(b"\x89PNG")
    assert files[".gif"].make().startswith(b"GIF8")
    assert files[".webp"].make()[8:12] == b"WEBP"
    assert b'"alphas"' in files[".json"].make()
    assert "alphas" not in str(share.numbers(seen))


def test_a_table_is_written_as_people_read_it() -> None:
    columns = Column("a"), Column("b", 2), Column("c", share=True), Column("d", 1, share=True), Column("e")
    table = Table(columns, [["x", 1.234, 0.5, 0.25, True], [None, None, None, None, False]])
    assert table.written == [["x", "1.23", "50%", "25.0", "yes"], ["", "", "", "", "no"]]


def test_the_same_caption_twice_says_so(seen: Seen) -> None:
    sides = side_by_side(("a", "b"), seen.caption, seen.caption)
    assert not sides.changed
    assert sides.note == "Nothing changed: the model says the same."


def test_a_search_has_only_options_that_have_a_use_in_it() -> None:
    usual = SearchOptions(beam_size=3, repeat_nouns=False)
    given = {name: settings.first(name, usual) for name in settings.SETTINGS}
    assert settings.search(given | {"captions": 5}, usual) == replace(usual, num_return=3)
    drawn = settings.search(given | {"sample": True, "seed": 7}, usual)
    assert (drawn.sample, drawn.seed, drawn.num_return, drawn.top_p) == (True, 7, 3, 0.9)
    assert not drawn.repeat_nouns  # as the card says: no widget asks
    assert settings.first("beam_size", SearchOptions(beam_size=50)) == 10  # as far as its slider goes


def test_what_is_known_of_a_captioner(work: Work) -> None:
    card = replace(work.card("tiny"), scores={"Bleu_4": 0.25, "CIDEr": 0.5, "split": "val"})
    name, size, *scores, licence = results.facts(card)
    assert (name, scores, licence) == ("tiny", ["CIDEr 0.500", "BLEU-4 0.250"], "MIT")
    assert size.endswith(" million parameters")


def test_presenters_know_no_toolkit_and_wake_no_model() -> None:
    names = [f"captionbot.pages.presenters.{name}" for name in (*presenters.VIEWS, *presenters.PAGES)]
    script = f"import sys, {', '.join(names)}; print({{'streamlit', 'gradio', 'torch'}} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_words_that_most_say_come_first_and_of_these_nouns_and_the_longest() -> None:
    said = [["a", "dog", "runs"], ["a", "brown", "dog"], ["the", "dog", "runs"]]
    assert compare.shared_words(said) == ["dog", "runs", "a", "brown", "the"]
    assert compare.shared_words([["standing", "by", "water"], ["standing", "near", "water"]])[0] == "water"


@pytest.mark.parametrize(
    ("sentence", "chosen"), [("a dog on rocks", 3), ("two rocks by a dog", 1), ("is on a", 1)]
)
def test_views_begin_with_the_noun_that_was_looked_at_most_sharply(sentence: str, chosen: int) -> None:
    most = {"dog": 0.7, "rocks": 0.8, "on": 0.95}
    alphas = np.array([[share := most.get(word, 0.5), 1 - share] for word in sentence.split()])
    words = tuple(Word(word, -1.0) for word in sentence.split())
    caption = Caption(sentence, words, -1.0, -1.0, 0.5, alphas, np.zeros((2, 4)), (1, 2), Size(2, 1))
    assert sharpest(caption) == chosen


def test_what_is_measured_is_a_second_map_with_a_mark(seen: Seen) -> None:
    *_, found = seen.needs()
    record = canvas.words(seen)
    for word, mark in zip(record["words"], truth.marked(found), strict=True):
        assert word["mark"] == mark.mark
        assert len(word["needs"]) == 64
        assert word["says_needs"].startswith(f"“{word['text']}” ")
    assert record["spots"] == truth.spots(found, seen.caption)
