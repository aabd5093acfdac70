"""The beam search of one image as a drawing: an SVG of all that it kept and cut, and why each one lost.

Time runs from left to right, one column a word. A sentence runs on along its row as long as its best
continuation lives, and what branches off is set below it, so that no line crosses another.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from captionbot.search.beam import Node, tree
from captionbot.text.display import percent
from captionbot.types import Fate, Search

_ROW, _GUTTER, _PAD, _TOP = 27, 21, 9, 22  # pixels: height of a row, between columns, in a node, above all
_CHARACTER, _SMALL = 7.7, 7.2  # mean advance of the two sizes of letters, 13 and 11 pixels
_STYLE = """
.beam-tree{--ink:var(--st-text-color,#1f2430);--paper:var(--st-background-color,#fff);
--accent:var(--st-primary-color,#4f46e5);--faint:color-mix(in srgb,var(--ink) 65%,var(--paper));
--line:color-mix(in srgb,var(--ink) 28%,var(--paper));font-family:system-ui,sans-serif}
.beam-tree text{font-size:13px;fill:var(--ink);dominant-baseline:central}
.beam-tree .p,.beam-tree .step{font-size:11px;fill:var(--faint)}
.beam-tree rect{fill:color-mix(in srgb,var(--ink) 8%,var(--paper))}
.beam-tree path{fill:none;stroke:var(--line)}
.beam-tree .cut text{fill:var(--faint)}
.beam-tree .cut rect{fill:var(--paper);stroke:var(--line);stroke-dasharray:2 3}
.beam-tree .other rect{fill:color-mix(in srgb,var(--accent) 16%,var(--paper))}
.beam-tree path.other{stroke:color-mix(in srgb,var(--accent) 50%,var(--paper))}
.beam-tree .won rect{fill:var(--accent)}
.beam-tree .won text,.beam-tree .won .p{fill:var(--paper)}
.beam-tree path.won{stroke:var(--accent)}
.beam-tree g:hover rect{stroke:var(--ink);stroke-dasharray:none}
"""


class Place(NamedTuple):
    """Where a node stands: its row from above, and the left and right edge of its box in pixels."""

    row: int
    left: float
    right: float

    @property
    def middle(self) -> float:
        return _TOP + (self.row + 0.5) * _ROW


def draw(search: Search, text_of: Callable[[int], str], eos_id: int, *, cut: bool = True) -> str:
    """An SVG that stands alone: the tree of one image's record (B = 1), the winner in colour.

    Every node has its word and that word's probability and, for a mouse to rest on, its sentence so far
    and `why` it lost. Lines are the thicker, the likelier the word.

    text_of: the text of a word's id.
    cut: also the words that were cut as soon as they were weighed.
    """
    nodes = tree(search)
    texts = ["■ end" if node.token_id == eos_id else text_of(node.token_id) for node in nodes]
    shown = [i for i, node in enumerate(nodes) if cut or node.fate != Fate.PRUNED]
    places = layout(nodes, texts, shown)
    lines, boxes = [], []
    for i in sorted(shown, key=lambda i: nodes[i].rank == 0):  # the winner's lines on top
        node, place = nodes[i], places[i]
        start = (_PAD, places[shown[0]].middle) if node.parent is None else _end_of(places[node.parent])
        kind = _kind(node)
        beam = 0 if node.parent is None else nodes[node.parent].slot
        # By these `canvas.js` lets the tree grow, and finds where the model looked.
        data = f'data-step="{node.step}" data-map="{node.step}-{beam}"'
        lines.append(_line(start, place, math.exp(node.log_prob), kind, data))
        title = f"{_sentence(nodes, texts, i)}\n{why(search, nodes, i)}"
        boxes.append(_box(place, texts[i], math.exp(node.log_prob), kind, title, data))
    width = max(place.right for place in places.values()) + _PAD
    height = _TOP + (max(place.row for place in places.values()) + 1) * _ROW + _PAD
    steps = {node.step: places[i].left for i, node in enumerate(nodes) if i in places}
    heads = [
        f'<text class="step" x="{x:.0f}" y="12">{"word 1" if step == 0 else step + 1}</text>'
        for step, x in steps.items()
    ]
    label = (
        f"The beam search as a tree: {len(nodes)} continuations weighed, "
        f"{sum(node.fate == Fate.KEPT for node in nodes)} of them kept, "
        f"{len(search.hypotheses[0])} sentences finished."
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="beam-tree" role="img" aria-label={quoteattr(label)} '
        f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">'
        f"<style>{_STYLE}</style>{''.join(heads)}{''.join(lines)}{''.join(boxes)}</svg>"
    )


def why(search: Search, nodes: Sequence[Node], index: int) -> str:
    """One sentence on what became of a node of `tree`, and why."""
    node = nodes[index]
    hypotheses = search.hypotheses[0]
    if node.fate == Fate.ENDED and node.rank is not None:
        score = f"{hypotheses[node.rank].score:.2f}"
        if node.rank == 0:
            return f"The winner: a score of {score}, the best of {len(hypotheses)} finished sentences."
        best = hypotheses[0].score
        return f"Finished as number {node.rank + 1}: a score of {score}, the winner's is {best:.2f}."
    if node.fate == Fate.KEPT:
        if node.rank is not None:
            return f"Kept, and part of the finished sentence number {node.rank + 1}."
        return f"Kept up to word {_last(nodes, index)}: then none of its continuations was among the best."
    same = [other for other in nodes if other.step == node.step]
    place = same.index(node) + 1
    kept = [other.total for other in same if other.fate == Fate.KEPT]
    if not kept:
        return "Given up: it could not beat the finished sentences any more."
    if node.total <= min(kept):
        reason = f"the last one that was kept has {min(kept):.2f}"
    elif any(other.token_id == node.token_id for other in nodes if other.fate == Fate.ENDED):
        reason = "a sentence may end only among the very best, as many as there are beams"
    else:
        reason = "the other groups of beams are weighed apart"
    return (
        f"Cut: number {place} of the {len(same)} continuations weighed here, with a log-probability of "
        f"{node.total:.2f}; {reason}."
    )


def layout(nodes: Sequence[Node], texts: Sequence[str], shown: Sequence[int]) -> dict[int, Place]:
    """The place of every node that is shown, so that no box covers another and no line crosses another."""
    children: defaultdict[int | None, list[int]] = defaultdict(list)
    for i in sorted(shown, key=lambda i: _order(nodes[i])):
        children[nodes[i].parent].append(i)
    lefts, x = [], 2.0 * _PAD + _GUTTER
    for step in range(nodes[-1].step + 1):
        lefts.append(x)
        widths = [_width(texts[i], nodes[i]) for i in shown if nodes[i].step == step]
        x += max(widths, default=0) + _GUTTER
    # The lowest row that is taken, by boxes in each column and by lines in the gutter after it.
    boxes, gutters = [-1] * len(lefts), [-1] * len(lefts)
    places: dict[int, Place] = {}

    def set_down(i: int, row: int) -> None:
        chain = [i]  # of best continuations, which go on along the row if they can
        while children[chain[-1]]:
            chain.append(children[chain[-1]][0])
        for link in chain:
            step = nodes[link].step
            row = max(row, boxes[step] + 1, gutters[step] + 1 if children[link] else 0)
        step = nodes[i].step
        places[i] = Place(row, lefts[step], lefts[step] + _width(texts[i], nodes[i]))
        boxes[step] = row
        for child in children[i]:
            set_down(child, row)
            gutters[step] = max(gutters[step], places[child].row)

    for i in children[None]:
        set_down(i, 0)
    return places


def _order(node: Node) -> tuple[float, bool, float]:
    """The best continuation first: on the way to the best sentence, else alive, else likeliest."""
    return math.inf if node.rank is None else node.rank, node.fate == Fate.PRUNED, -node.total


def _last(nodes: Sequence[Node], index: int) -> int:
    """How many words the longest continuation of a node that was kept has."""
    alive = {index}
    for i, node in enumerate(nodes):
        if node.parent in alive and node.fate == Fate.KEPT:
            alive.add(i)
    return nodes[max(alive)].step + 1


def _kind(node: Node) -> str:
    if node.rank is not None:
        return "won" if node.rank == 0 else "other"
    return "cut" if node.fate == Fate.PRUNED else "kept"


def _sentence(nodes: Sequence[Node], texts: Sequence[str], index: int) -> str:
    words: list[str] = []
    step: int | None = index
    while step is not None:
        words.insert(0, texts[step])
        step = nodes[step].parent
    return " ".join(words)


def _width(text: str, node: Node) -> float:
    return 2 * _PAD + 5 + _CHARACTER * len(text) + _SMALL * len(percent(math.exp(node.log_prob)))


def _end_of(place: Place) -> tuple[float, float]:
    return place.right, place.middle


def _line(start: tuple[float, float], place: Place, probability: float, kind: str, data: str) -> str:
    """A line that goes down beside its start and then along the row, so that rows stay readable."""
    (x, y), end = start, place.middle
    turn = place.left - _GUTTER + 9  # right of all boxes of the column before
    bend = f"H{turn:.1f}V{end - 8:.1f}Q{turn:.1f} {end:.1f} {turn + 8:.1f} {end:.1f}" if end - y > 8 else ""
    knee = f"M{x:.1f} {y:.1f}{bend}"
    return (
        f'<path class="{kind}" {data} stroke-width="{1 + 3 * probability:.1f}" d="{knee}H{place.left:.1f}"/>'
    )


def _box(place: Place, text: str, probability: float, kind: str, title: str, data: str) -> str:
    x, y = place.left, place.middle
    return (
        f'<g class="{kind}" {data}><title>{escape(title)}</title>'
        f'<rect x="{x:.1f}" y="{y - 11:.1f}" width="{place.right - x:.1f}" height="22" rx="7"/>'
        f'<text x="{x + _PAD:.1f}" y="{y:.1f}">{escape(text)}'
        f'<tspan class="p" dx="5">{escape(percent(probability))}</tspan></text></g>'
    )
