"""The drawing of a beam search: read back as XML, and measured."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from PIL import Image
from tiny import build_observant_captioner

from captionbot import Captioner, load_image
from captionbot.draw.beam_tree import draw, layout, why
from captionbot.pages.samples import sample_photos
from captionbot.search.beam import Node, tree
from captionbot.types import Fate, Search

PHOTO = Image.effect_noise((60, 40), 80).convert("RGB")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    folder = tmp_path_factory.mktemp("weights")
    build_observant_captioner(folder)
    return Captioner.from_pretrained(folder, device="cpu")


@pytest.fixture(scope="module", params=[(1, 1, 6), (3, 1, 8), (5, 6, 12), (10, 20, 20)], ids=str)
def search(request: pytest.FixtureRequest, captioner: Captioner) -> Search:
    beam, shortest, longest = request.param
    options = {"beam_size": beam, "min_length": shortest, "max_length": longest, "num_return": beam}
    return captioner.caption(PHOTO, **options)[0].search


def drawn(captioner: Captioner, search: Search, *, cut: bool) -> ElementTree.Element:
    vocabulary = captioner.vocabulary
    return ElementTree.fromstring(draw(search, lambda i: vocabulary.tokens[i], vocabulary.eos_id, cut=cut))


@pytest.mark.parametrize("cut", [True, False])
def test_every_continuation_is_drawn_once(captioner: Captioner, search: Search, cut: bool) -> None:
    nodes = [node for node in tree(search) if cut or node.fate != Fate.PRUNED]
    svg = drawn(captioner, search, cut=cut)
    assert len(svg.findall(f"{SVG}g")) == len(svg.findall(f"{SVG}path")) == len(nodes)


def test_the_winner_is_marked_word_by_word(captioner: Captioner, search: Search) -> None:
    svg = drawn(captioner, search, cut=True)
    won = [box for box in svg.findall(f"{SVG}g") if box.get("class") == "won"]
    said = [box.findall(f"{SVG}text")[0].text for box in won]
    best = search.hypotheses[0][0]
    assert said == [*captioner.vocabulary.pieces(best.token_ids), "■ end"]
    shares = [box.find(f"{SVG}text/{SVG}tspan").text for box in won]
    assert all(
        share == "<1%" or int(share[:-1]) == round(100 * math.exp(p))
        for share, p in zip(shares, best.log_probs, strict=True)
    )
    assert "The winner" in won[-1].find(f"{SVG}title").text


def test_everything_lies_inside_the_drawing_and_nothing_overlaps(
    captioner: Captioner, search: Search
) -> None:
    svg = drawn(captioner, search, cut=True)
    width, height = float(svg.get("width")), float(svg.get("height"))
    boxes = []
    for rect in svg.iter(f"{SVG}rect"):
        x, y, w, h = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
        assert x >= 0
        assert y >= 0
        assert x + w <= width
        assert y + h <= height
        boxes.append((x, y, x + w, y + h))
    for i, (left, top, right, bottom) in enumerate(boxes):
        for other in boxes[i + 1 :]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


@pytest.mark.parametrize("cut", [True, False])
def test_lines_cross_neither_boxes_nor_each_other(search: Search, cut: bool) -> None:
    nodes = tree(search)
    shown = [i for i, node in enumerate(nodes) if cut or node.fate != Fate.PRUNED]
    places = layout(nodes, ["word"] * len(nodes), shown)
    for i in shown:
        node, place = nodes[i], places[i]
        if node.parent is None:
            continue
        above = places[node.parent]
        assert place.row >= above.row  # lines run down, in the gutter after the parent's column
        assert place.left > above.right
        for j in shown:
            other = places[j]
            if (
                nodes[j].step == nodes[node.parent].step
                and j != node.parent
                and above.row < other.row <= place.row
            ):
                assert all(nodes[k].parent != j for k in shown)  # no line starts in its way


def test_a_beam_of_10_over_20_words_stays_readable() -> None:
    captioner = Captioner.from_pretrained(device="cpu")  # the one that ships: noise has no likely words
    photo = load_image(next(iter(sample_photos().values())))
    (found,) = captioner.caption(photo, beam_size=10, min_length=20, max_length=20)
    svg = drawn(captioner, found.search, cut=False)
    assert float(svg.get("width")) < 2600
    assert float(svg.get("height")) < 2000


def test_why_says_what_became_of_every_node(search: Search) -> None:
    nodes = tree(search)
    sentences = [why(search, nodes, i) for i in range(len(nodes))]
    for node, sentence in zip(nodes, sentences, strict=True):
        assert sentence.endswith(".")
        if node.fate == Fate.ENDED and node.rank:
            assert sentence.startswith(f"Finished as number {node.rank + 1}:")
            assert f"{search.hypotheses[0][node.rank].score:.2f}" in sentence
        elif node.fate == Fate.KEPT:
            assert sentence.startswith("Kept")
        elif node.fate == Fate.PRUNED:
            assert sentence.startswith(("Cut:", "Given up"))
    assert sum(sentence.startswith("The winner") for sentence in sentences) == 1


def test_why_names_the_last_word_of_a_beam_that_died() -> None:
    nodes = [
        Node(0, 7, None, -0.1, -0.1, Fate.KEPT, 0, 0),
        Node(0, 8, None, -0.2, -0.2, Fate.KEPT, 1, None),
        Node(1, 9, 1, -0.3, -0.5, Fate.KEPT, 0, None),
        Node(1, 5, 1, -9.0, -9.2, Fate.PRUNED, -1, None),
    ]
    search = Search(((),), *[None] * 7)  # type: ignore[arg-type]
    assert "Kept up to word 2:" in why(search, nodes, 1)
    assert why(search, nodes, 3) == (
        "Cut: number 2 of the 2 continuations weighed here, with a log-probability of -9.20; "
        "the last one that was kept has -0.50."
    )


def test_why_an_end_was_cut_that_is_likelier_than_what_was_kept() -> None:
    nodes = [
        Node(0, 7, None, -0.1, -0.1, Fate.KEPT, 0, 0),
        Node(0, 8, None, -0.2, -0.2, Fate.KEPT, 1, None),
        Node(1, 2, 0, -0.1, -0.2, Fate.ENDED, -1, 0),
        Node(1, 9, 0, -0.3, -0.4, Fate.KEPT, 0, None),
        Node(1, 2, 1, -0.5, -0.7, Fate.PRUNED, -1, None),
        Node(1, 9, 1, -2.0, -2.2, Fate.KEPT, 1, None),
    ]
    search = Search(((),), *[None] * 7)  # type: ignore[arg-type]
    assert why(search, nodes, 4) == (
        "Cut: number 3 of the 4 continuations weighed here, with a log-probability of -0.70; "
        "a sentence may end only among the very best, as many as there are beams."
    )


def test_words_are_escaped(captioner: Captioner, search: Search) -> None:
    svg = ElementTree.fromstring(draw(search, lambda i: "<&>", captioner.vocabulary.eos_id))
    assert any(text.text == "<&>" for text in svg.iter(f"{SVG}text"))


def test_columns_stand_in_the_order_of_words(captioner: Captioner, search: Search) -> None:
    heads = [
        text for text in drawn(captioner, search, cut=True).iter(f"{SVG}text") if text.get("class") == "step"
    ]
    assert [head.text for head in heads] == ["word 1", *map(str, range(2, len(heads) + 1))]
    assert all(float(a.get("x")) < float(b.get("x")) for a, b in pairwise(heads))


def test_lines_run_down_right_of_all_boxes_of_their_column(captioner: Captioner, search: Search) -> None:
    svg = drawn(captioner, search, cut=True)
    boxes = [tuple(float(rect.get(name)) for name in ("x", "y", "width")) for rect in svg.iter(f"{SVG}rect")]
    runs = [re.findall(r"^M\S+ (\S+)H(\S+)V(\S+)Q", path.get("d")) for path in svg.iter(f"{SVG}path")]
    assert any(runs)
    for start, x, end in (map(float, run[0]) for run in runs if run):
        assert not [box for box in boxes if start < box[1] < end and box[0] <= x <= box[0] + box[2]]
