"""One photo's captions as one HTML file: its words with their maps, what else was weighed, and the tree.

It is the canvas of the pages (`canvas.js`) with all that it shows inside the file, so that it asks no server
for anything, opens offline and can be sent along.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from string import Template
from typing import Any

from PIL import Image

from captionbot.draw import canvas
from captionbot.draw.overlays import LOOK, Look, fit
from captionbot.text.display import percent, sentence
from captionbot.text.judgement import NAMES, general, measure, said, why
from captionbot.types import Caption, Captioned, Judgement, Word

HINT = "Point at a word to see its map on the photo. Click it for what else the model weighed there."
_WIDTH = 640  # pixels of the photo
_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title><style>
:root{color-scheme:light dark;--st-text-color:#1f2430;--st-background-color:#fff;--st-primary-color:#4f46e5}
@media (prefers-color-scheme:dark){:root{--st-text-color:#eceef5;--st-background-color:#12131a;
--st-primary-color:#8b85ff}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--st-text-color);background:var(--st-background-color);
max-width:1180px;margin:0 auto;padding:1.5rem}
main{display:grid;grid-template-columns:minmax(0,1.1fr) minmax(0,1fr);gap:2rem;align-items:start}
#photo{position:sticky;top:0;z-index:1;background:var(--st-background-color);padding:.5rem 0}
@media (max-width:760px){body{padding:.75rem}main{grid-template-columns:minmax(0,1fr);gap:.5rem}}
h1{font-size:1rem;font-weight:500;margin:0 0 .75rem;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:1.5rem 0 .5rem}
.band{border-left:.3rem solid #16a34a;padding:.2rem .8rem}
.band.unsure{border-color:#d97706}.band.unknown{border-color:#dc2626}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem .3rem 0}
td+td,th+th{text-align:right;white-space:nowrap}
$style
</style></head><body>
<main><div id="photo"><noscript><img alt="$alt" src="$photo"></noscript></div>
<div><h1>$note</h1>
<div id="sentence"><noscript><p>$alt</p></noscript></div>
$judgement
$beam
<h2>Sentences, best first</h2>
<table><tr><th>Sentence</th><th>Likelihood</th><th>Log-probability</th></tr>$captions</table>
</div></main>
<script type="application/json" id="parts">$parts</script>
<script>
$script
for (const part of JSON.parse(document.getElementById("parts").textContent))
  CaptionBot.mount(document.getElementById(part.part), part);
</script></body></html>
""")


def html(
    name: str,
    model: str,
    image: Image.Image,
    captioned: Captioned,
    rank: int = 0,
    rivals: Sequence[Sequence[Word]] = (),
    tree: str = "",
    look: Look = LOOK,
    words: Mapping[str, Any] | None = None,
) -> str:
    """The page, under a megabyte for a usual caption.

    image: the photo, best at display size.
    rank: the caption to show, 0 the best.
    rivals: of `explore.rivals`, for every word of that caption.
    tree: of `beam_tree.draw`.
    words: the record of the sentence as a page has it, of `canvas.words`; it may hold what words need beside
        where the model looked. None: it is made of the caption.
    """
    caption = captioned.captions[rank]
    photo = fit(image, _WIDTH)
    title = said(caption)
    record = dict(words) if words is not None else _words(caption, rivals, look)
    record |= {"says": canvas.SENTENCE | {"hint": HINT}, "band": None, "expert": True}
    parts = [canvas.photo(photo, title), record]
    if tree:
        parts.append(canvas.beam(tree, captioned.search, canvas.BEAM))
    return _PAGE.substitute(
        title=escape(f"{title} – {name}"),
        style=canvas.style(),
        alt=escape(title),
        photo=parts[0]["photo"]["src"],
        note=escape(f"{name} · {model} · {measure(caption)}"),
        judgement=_judgement(caption.judgement),
        beam='<h2>What the beam search weighed</h2><div id="beam"></div>' if tree else "",
        captions="".join(map(_row, captioned.captions)),
        parts=json.dumps(parts, ensure_ascii=False).replace("<", "\\u003c"),
        script=canvas.script(),
    )


def _words(caption: Caption, rivals: Sequence[Sequence[Word]], look: Look) -> dict[str, Any]:
    """The record of a caption of which no more is known."""
    told = [
        f"Where the model looked for “{word.text}”. Its probability was {percent(math.exp(word.log_prob))}."
        for word in caption.words
    ]
    return canvas.words(caption, told, rivals) | {"said": said(caption), "look": canvas.look(look)}


def _judgement(judged: Judgement | None) -> str:
    """The band with its reason and what is known all the same, as a paragraph; nothing without one."""
    if judged is None:
        return ""
    parts = f"<b>{escape(NAMES[judged.band])}.</b>", escape(why(judged)), escape(general(judged))
    return f'<p class="band {judged.band}">{" ".join(filter(None, parts))}</p>'


def _row(caption: Caption) -> str:
    cells = sentence(caption.text), percent(caption.confidence), f"{caption.log_prob:.1f}"
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
