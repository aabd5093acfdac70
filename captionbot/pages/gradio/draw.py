"""What one visitor looks at, and how it is shown: values for Gradio's components."""

from __future__ import annotations

import io
import json
import math
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from gradio.utils import get_upload_folder
from PIL import Image

from captionbot import CaptionBotError, Captioned, SearchOptions
from captionbot.bulk.folder import zip_of_texts
from captionbot.bulk.records import Result, record, write_csv, write_jsonl
from captionbot.draw import render, report
from captionbot.draw.render import fit, percent, plain, sentence, word_overlay
from captionbot.explain import counterfactuals as explore
from captionbot.explain.maps import Faithfulness, attention_map
from captionbot.files import utf8
from captionbot.pages import lessons as learn
from captionbot.pages import results
from captionbot.pages.gradio import work
from captionbot.pages.gradio.work import Evidence
from captionbot.pages.lessons import Lesson
from captionbot.types import Caption

PLACES = 3  # boxes drawn for a word
CHANGED = "changed"
SHOTS = 6
SCORES = {"CIDEr": "CIDEr", "BLEU-4": "Bleu_4", "METEOR": "METEOR", "ROUGE-L": "ROUGE_L"}

SURENESS = (  # name, least probability of a word, colour
    ("sure, 60% or more", 0.6, "#16a34a"),
    ("likely, 20% or more", 0.2, "#eab308"),
    ("a guess, below 20%", 0.0, "#f87171"),
)


class View(NamedTuple):
    """What one visitor looks at.

    file: the upload in Gradio's temporary folder; name: what the visitor calls it.
    model, options, prefix, banned: what was asked for.
    photo: at display size.
    evidence: of the caption that was chosen; rank: its place, 0 the best; t: its word that was chosen.
    missed: what the caption misses where pieces are hidden, once that was asked.
    """

    file: str
    name: str
    model: str
    options: SearchOptions
    prefix: str
    banned: str
    photo: Image.Image
    captioned: Captioned
    evidence: Evidence
    rank: int = 0
    t: int = 0
    missed: Evidence | None = None

    @property
    def asked(self) -> tuple[str, str, SearchOptions, str, str]:
        """What captions follow from."""
        return self.file, self.model, self.options, self.prefix, self.banned

    @property
    def caption(self) -> Caption:
        return self.captioned.captions[self.rank]

    @property
    def looked(self) -> Caption:
        return self.evidence.looked


def headline(caption: Caption) -> str:
    return f"## {plain(sentence(caption.text))}\n{measures(caption)}"


def measures(caption: Caption) -> str:
    return f"Confidence {percent(caption.confidence)} · log-probability {caption.log_prob:.1f}"


def chips(caption: Caption) -> list[tuple[str, str]]:
    return [(word.text, sureness(math.exp(word.log_prob))) for word in caption.words]


def sureness(probability: float) -> str:
    return next(name for name, least, _ in SURENESS if probability >= least)


def table(captioned: Captioned) -> list[list[Any]]:
    return [[sentence(c.text), percent(c.confidence), round(c.log_prob, 2)] for c in captioned.captions]


def choices(caption: Caption) -> list[tuple[str, int]]:
    """Words as labels of choices, numbered, since a sentence may well say a word twice."""
    return [(f"{t + 1} {word.text}", t) for t, word in enumerate(caption.words)]


def heatmap(view: View) -> Any:
    word = view.caption.words[view.t]
    label = f"“{word.text}” · {percent(math.exp(word.log_prob))} · {view.evidence.label}"
    return gr.update(value=word_overlay(view.photo, view.looked, view.t), label=label)


def places(view: View) -> tuple[Image.Image, list[tuple[Any, str]]]:
    """The heatmap of the chosen word, and the boxes that it rests on most."""
    caption, photo, t = view.looked, view.photo, view.t
    scale = np.array([photo.width, photo.height] * 2) / np.array([*caption.image_size] * 2)
    boxes = (caption.boxes * scale).round().astype(int)
    most = np.argsort(-caption.alphas[t])[:PLACES]
    total = max(float(caption.alphas[t].sum()), 1e-9)
    boxed = [
        (tuple(boxes[p]), f"{render.box_name(caption, int(p))} · {percent(caption.alphas[t, p] / total)}")
        for p in most
    ]
    return photo, [(attention_map(caption, t, photo.size), caption.words[t].text), *boxed]


def rivals(view: View) -> dict[str, float]:
    return {rival.text: math.exp(rival.log_prob) for rival in view.evidence.rivals[view.t]}


def tiles(view: View) -> list[tuple[Image.Image, str]]:
    small = fit(view.photo, 320)
    return [
        (word_overlay(small, view.looked, t), f"{word.text} · {percent(math.exp(word.log_prob))}")
        for t, word in enumerate(view.caption.words)
    ]


def boxed(photo: Image.Image, caption: Caption) -> tuple[Image.Image, list[tuple[Any, str]]]:
    """The detected boxes over a photo, best score last, so that it lies on top. The whole image would cover
    the others."""
    from captionbot.encoders.regions import WHOLE_IMAGE  # with torch, which the first caption has loaded

    scale = np.array([*photo.size] * 2) / np.array([*caption.image_size] * 2)
    boxes = (caption.boxes * scale).round().astype(int)
    named = zip(boxes, box_names(caption), caption.labels or (), strict=True)
    return photo, [(tuple(box), name) for box, name, label in named if label != WHOLE_IMAGE][::-1]


def leaning(caption: Caption) -> Any:
    """The table of detected boxes and words: the share of each word's attention that every box got, in %."""
    rows = [
        [name, *(f"{100 * alpha:.1f}" for alpha in alphas)]
        for name, alphas in zip(box_names(caption), caption.alphas.T, strict=True)
    ]
    return gr.update(headers=["box", *(word.text for word in caption.words)], value=rows)


def box_names(caption: Caption) -> list[str]:
    return [f"{place + 1} {render.box_name(caption, place)}" for place in range(len(caption.boxes))]


def has_boxes(caption: Caption) -> bool:
    """Whether the captioner describes boxes that a detector found."""
    return caption.labels is not None


def about_attention(view: View) -> str:
    if not view.evidence.attends:
        return "This captioner sees the photo as a whole: pieces of it are hidden to draw the heatmaps."
    kind = work.card_of(view.model).decoder["kind"]
    return lesson(learn.attention(view.caption, kind, view.evidence.gates))


def about_beam(view: View) -> str:
    return "" if view.options.sample else lesson(learn.beam(view.captioned.search, view.options))


def lesson(lesson: Lesson) -> str:
    return f"{lesson.text}\n\n$$ {lesson.maths} $$\n\n{lesson.source}"


def beam(view: View, cut: bool) -> str:
    if view.options.sample:
        return "Words are being drawn by chance: turn Sampling off to see the beam search."
    return f'<div class="tree" tabindex="0">{work.beam_svg(view.model, view.captioned, cut)}</div>'


def finished(view: View) -> list[list[Any]]:
    """All sentences that the search finished, and why they lost."""
    vocabulary, hypotheses = work.vocabulary_of(view.model), view.captioned.search.hypotheses[0]
    best = hypotheses[0].score
    return [
        [
            sentence(vocabulary.text(h.token_ids)),
            round(h.score, 3),
            round(h.log_prob, 2),
            round(h.evidence, 2),
            f"its score is {best - h.score:.2f} lower" if rank else "it won",
        ]
        for rank, h in enumerate(hypotheses)
    ]


def marked(before: Caption, after: Caption) -> tuple[Any, Any, str]:
    """Two captions as highlighted words, those marked in which they differ, and a sentence on it."""
    said = [[word.text for word in caption.words] for caption in (before, after)]
    change = explore.compare(*said)
    first, second = (
        [(text, CHANGED) if flag else (f"{text} ", None) for text, flag in zip(words, flags, strict=True)]
        for words, flags in zip(said, (change.before, change.after), strict=True)
    )
    note = (
        f"{measures(before)} → {measures(after)}" if change else "Nothing changed: the model says the same."
    )
    return first, second, note


def verdict(tested: Faithfulness) -> str:
    return f"### {'✔' if tested.holds else '✘'} {tested.verdict}\n{tested.reason}"


def verdicts(tested: Sequence[Faithfulness]) -> list[list[Any]]:
    return [[w.word, "yes" if w.holds else "no", round(w.effect, 2), round(w.threshold, 2)] for w in tested]


def curves(tested: Faithfulness) -> Any:
    """The word's log-probability as ever more of the photo is hidden or shown."""
    import pandas as pd

    return pd.DataFrame(
        [
            {"share of the photo, %": 100 * share, "log-probability": value, "what": name}
            for name, (shares, values) in tested.curves.items()
            for share, value in zip(shares, values, strict=True)
        ]
    )


def batch_row(result: Result, thumbnail: str) -> list[str]:
    """A row of the table of many photos; its first cell is HTML."""
    name, found = result
    if isinstance(found, CaptionBotError):
        return ["", name, str(found), ""]
    best = found.captions[0]
    return [f'<img src="{thumbnail}" alt="">', name, sentence(best.text), percent(best.confidence)]


def batch_files(found: Sequence[Result], model: str) -> list[str]:
    written = []
    for ending, write in (("csv", write_csv), ("jsonl", write_jsonl)):
        out = io.StringIO()
        write(found, work.public(model), out)
        written.append((f"captions.{ending}", utf8(out.getvalue())))
    return keep([*written, ("captions.zip", zip_of_texts(found))])


def leaderboard() -> list[list[Any]]:
    """What was measured of the captioners that are here."""
    rows = []
    for line in results.leaderboard():
        beam_size = line.get("beam_size")
        search = "greedy" if beam_size == 1 else f"beam {beam_size}" if beam_size else ""
        scores = [f"{line[name]:.3f}" if name in line else "" for name in SCORES.values()]
        speed = f"{line['images_per_second']:.1f}" if "images_per_second" in line else ""
        rows.append([work.title(line["name"]), search, *scores, f"{line['parameters'] / 1e6:.1f}", speed])
    return rows


def gallery() -> tuple[results.Gallery | None, str]:
    """What captioners said of the photos of a data set; None, and why, where there is none here."""
    file = results.gallery_file()
    try:
        return (results.Gallery.load(file), "") if file else (None, results.HINT)
    except CaptionBotError as error:
        return None, plain(str(error))


def shots(way: str, captioner: str) -> list[tuple[Image.Image, str]]:
    """Photos of `gallery` chosen in a way, each with its captions, their scores and what a person wrote."""
    found, _ = gallery()
    if found is None:
        return []
    chosen = found.chosen(way, captioner, SHOTS)
    photos = found.photos(chosen, render.DISPLAY)
    said = {captioner} if way != results.WAYS[-1] else set(found.captioners)
    return [
        (
            photos[shot.photo],
            "\n".join(
                [
                    *(
                        f"{sentence(text)} ({work.title(name)}, CIDEr {shot.scores[name]:.2f})"
                        for name, text in shot.captions.items()
                        if name in said
                    ),
                    f"A person: {sentence(shot.references[0].strip(' .'))}",
                ]
            ),
        )
        for shot in chosen
        if shot.photo in photos
    ]


def parts_of_speech(model: str) -> Any:
    """Over many photos, for which words the captioner's heatmaps are true, where that was measured."""
    found = results.heatmaps_true(work.known(model))
    if found is None:
        return gr.update(visible=False, value=None)
    photos, shares = found
    rows = [
        [share.part, share.words, percent(share.share), "{:.0%} to {:.0%}".format(*share.interval)]
        for share in shares
    ]
    return gr.update(visible=True, value=rows, label=f"Over {photos} photos, by part of speech")


def descriptions() -> str:
    return "\n\n".join(
        f"**{plain(title)}** · `{name}` · {plain(work.card_of(name).description)}"
        for name, title in work.TITLES.items()
    )


def share_files(view: View) -> list[str]:
    """The page that opens offline, every word as PNG and as GIF, and the numbers as JSON."""
    captions = list(view.captioned.captions)
    captions[view.rank] = view.looked
    captioned = replace(view.captioned, captions=tuple(captions))
    tree = "" if view.options.sample else work.beam_svg(view.model, view.captioned, False)
    title = work.title(view.model)
    page = report.html(view.name, title, view.photo, captioned, view.rank, view.evidence.rivals, tree)
    with_alphas = record(view.name, work.public(view.model), view.captioned, with_alphas=True)
    stem = Path(view.name).stem or "photo"
    return keep(
        [
            (f"{stem}.html", utf8(page)),
            (f"{stem}.png", render.png(render.contact_sheet(view.photo, view.looked))),
            (f"{stem}.gif", render.gif(render.animation(view.photo, view.looked))),
            (f"{stem}.json", utf8(json.dumps(with_alphas, ensure_ascii=False))),
        ]
    )


def numbers(view: View) -> dict[str, Any]:
    return record(view.name, work.public(view.model), view.captioned)


def keep(files: Sequence[tuple[str, bytes]]) -> list[str]:
    """Write files where Gradio's own temporary files are, which it deletes after a while; their paths."""
    folder = Path(get_upload_folder(), secrets.token_hex(16))
    folder.mkdir(parents=True)
    paths = []
    for name, data in files:
        (folder / name).write_bytes(data)
        paths.append(str(folder / name))
    return paths
