"""One photo's captions as one HTML file: words to click, heatmaps, rivals and the tree, all inside it.

It asks no server for anything, so it opens offline and can be sent along. Its script is plain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from string import Template

from PIL import Image

from captionbot.draw.files import data_url
from captionbot.draw.overlays import LOOK, Look, fit, word_overlay
from captionbot.text.display import percent, sentence
from captionbot.text.judgement import NAMES, general, measure, said, why
from captionbot.types import Caption, Captioned, Judgement, Word

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title><style>
:root{color-scheme:light dark;--st-text-color:#1f2430;--st-background-color:#fff;--st-primary-color:#4f46e5;
--side:#f5f5f8}
@media (prefers-color-scheme:dark){:root{--st-text-color:#eceef5;--st-background-color:#12131a;
--st-primary-color:#8b85ff;--side:#1c1e28}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--st-text-color);background:var(--st-background-color);
max-width:1120px;margin:0 auto;padding:1.5rem}
main{display:grid;grid-template-columns:minmax(0,1.3fr) minmax(0,1fr);gap:2rem}
@media (max-width:760px){main{grid-template-columns:minmax(0,1fr)}}
figure{margin:0;position:relative;line-height:0}img{width:100%;border-radius:12px}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .3rem}h2{font-size:1.15rem;margin:2rem 0 .5rem}
.note{opacity:.7;font-size:.9rem}
.band{border-left:.3rem solid #16a34a;padding:.2rem .8rem;background:var(--side)}
.band.unsure{border-color:#d97706}.band.unknown{border-color:#dc2626}
.words{display:flex;flex-wrap:wrap;gap:.4rem;margin:1rem 0}
.words button{font:inherit;color:inherit;border:1px solid transparent;border-radius:99px;padding:.15rem .8rem;
cursor:pointer;background:color-mix(in srgb,var(--st-primary-color) calc(var(--sure)*.42),var(--side))}
.words button[aria-pressed=true]{border-color:var(--st-primary-color);
box-shadow:0 0 0 1px var(--st-primary-color)}
.rivals div{display:grid;grid-template-columns:7rem 1fr 3rem;gap:.6rem;align-items:center}
.rivals i{background:var(--side);border-radius:4px;height:.6rem}
.rivals b{display:block;height:100%;border-radius:4px;background:var(--st-primary-color)}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem .3rem 0}
td+td,th+th{text-align:right;white-space:nowrap}.tree{overflow-x:auto}
</style></head><body>
<main><figure><img id="photo" alt="$alt" src="$photo"></figure>
<div><h1>$alt</h1><p class="note">$note</p>
$judgement
<div class="words" role="group" aria-label="Words: click one to see where the model looked">$words</div>
<p class="note" id="said" aria-live="polite">Click a word, or step with the arrow keys.</p>
$rivals</div></main>
<h2>Sentences, best first</h2>
<table><tr><th>Sentence</th><th>Likelihood</th><th>Log-probability</th></tr>$captions</table>
$tree
<script>
const photo = document.getElementById("photo"), said = document.getElementById("said");
const whole = [photo.src, photo.alt], buttons = [...document.querySelectorAll(".words button")];
let chosen = -1;
function choose(t) {
  chosen = t;
  buttons.forEach((button, i) => button.setAttribute("aria-pressed", i === t));
  document.querySelectorAll(".rivals").forEach((list, i) => (list.hidden = i !== t));
  const data = t < 0 ? null : buttons[t].dataset;
  [photo.src, photo.alt] = data ? [data.map, data.alt] : whole;
  said.textContent = data ? data.said : "Click a word, or step with the arrow keys.";
}
buttons.forEach((button, i) => (button.onclick = () => choose(i === chosen ? -1 : i)));
document.onkeydown = (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) choose((chosen + step + buttons.length) % buttons.length);
  if (event.key === "Escape") choose(-1);
};
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
) -> str:
    """The page, under a megabyte for a usual caption.

    image: the photo, best at display size.
    rank: the caption to show, 0 the best.
    rivals: of `explore.rivals`, for every word of that caption.
    tree: of `beam_tree.draw`.
    """
    caption = captioned.captions[rank]
    photo = fit(image, 640)
    title = said(caption)
    heading = "<h2>What the beam search weighed</h2>"
    return _PAGE.substitute(
        title=escape(f"{title} – {name}"),
        alt=escape(title),
        photo=data_url(photo),
        note=escape(f"{name} · {model} · {measure(caption)}"),
        judgement=_judgement(caption.judgement),
        words="".join(_button(photo, caption, t, look) for t in range(len(caption.words))),
        rivals="".join(map(_rivals, rivals[: len(caption.words)])),
        captions="".join(map(_row, captioned.captions)),
        tree=f'{heading}<div class="tree">{tree}</div>' if tree else "",
    )


def _button(photo: Image.Image, caption: Caption, t: int, look: Look) -> str:
    word = caption.words[t]
    probability = math.exp(word.log_prob)
    data = {
        "alt": f"{sentence(caption.text)} Brighter: where the model looked for “{word.text}”.",
        "said": f"“{word.text}” had a probability of {percent(probability)} here.",
        "map": data_url(word_overlay(photo, caption, t, look)),
    }
    attributes = " ".join(f'data-{name}="{escape(value)}"' for name, value in data.items())
    shade = f"--sure:{100 * probability**0.5:.0f}%"
    return f'<button aria-pressed="false" style="{shade}" {attributes}>{escape(word.text)}</button>'


def _rivals(words: Sequence[Word]) -> str:
    rows = "".join(
        f"<div><span>{escape(word.text)}</span>"
        f'<i><b style="width:{100 * math.exp(word.log_prob):.1f}%"></b></i>'
        f"<span>{percent(math.exp(word.log_prob)).replace('<', '&lt;')}</span></div>"
        for word in words
    )
    return f'<div class="rivals" hidden><p class="note">Alternatives:</p>{rows}</div>'


def _judgement(judged: Judgement | None) -> str:
    """The band with its reason and what is known all the same, as a paragraph; nothing without one."""
    if judged is None:
        return ""
    parts = f"<b>{escape(NAMES[judged.band])}.</b>", escape(why(judged)), escape(general(judged))
    return f'<p class="band {judged.band}">{" ".join(filter(None, parts))}</p>'


def _row(caption: Caption) -> str:
    cells = sentence(caption.text), percent(caption.confidence), f"{caption.log_prob:.1f}"
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
