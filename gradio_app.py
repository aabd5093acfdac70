"""The Gradio page and Hugging Face Space: `python gradio_app.py`. Widgets only; `gradio_views` has the rest.

GRADIO_MCP_SERVER=true makes the endpoints tools of an MCP server too; it needs `pip install "gradio[mcp]"`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read as gradio is imported

from gradio_views import api, draw, work  # before gradio: it imports ZeroGPU's spaces, which must be first

# isort: split
import gradio as gr
import numpy as np
from PIL import Image, ImageChops, ImageOps

from captionbot import CaptionBotError, SearchOptions, explore, learn
from captionbot.explore import LENGTHS
from captionbot.images import load_url
from captionbot.pages import shared_words
from captionbot.render import fit, percent, sentence, word_overlay
from captionbot.results import WAYS
from captionbot.samples import sample_photos
from captionbot.tokenizer import tokenize
from captionbot.types import Caption
from captionbot.uploads import MAX_MEGABYTES
from gradio_views.draw import CHANGED, SURENESS, View
from gradio_views.work import DEFAULT, MODELS, MOST_COMPARED, told

CACHE_SECONDS = 600
PICTURES = "jpeg"  # Gradio's own choice, WebP, takes several times as long to write
SAMPLES = sample_photos()
USUAL = work.usual(DEFAULT)
GALLERY, GALLERY_NOTE = draw.gallery()

INTRODUCTION = """# CaptionBot
Give it a photo. It says what it sees, and shows where it looked for every word."""
ABOUT = f"""Captions can be wrong, and a confidence is how sure the model is of its wording, not the chance
that it is right. Photos are used for nothing but your caption: Gradio keeps them and the pictures drawn
from them in a temporary folder of the server, which is emptied of everything older than
{CACHE_SECONDS // 60} minutes."""
NO_PHOTO = "There is no photo yet: upload one, take one, paste one, or click a sample."
STALE = "This page was left alone for too long: caption the photo again."

BEAM_OPTIONS = ("beam_size",)
SAMPLING_OPTIONS = ("temperature", "top_k", "top_p", "seed")
COMMON_OPTIONS = ("min_length", "max_length", "length_penalty", "no_repeat_ngram_size")
PAINTED, RECTANGLE, LOOKED = "What I paint over", "A rectangle", "What the chosen word rests on"

CSS = """
#words .token { cursor: pointer; font-size: 1.1rem; }
#rivals button { cursor: pointer; }
#rivals h2 { display: none; }
#rivals .container { padding-top: 2.4rem; }
.caption-label { white-space: pre-line !important; max-width: 100% !important; }
#views [role=grid] *, #rivals * { font-family: var(--font); }
.dark #words button, .dark .token, .dark .token * { color: white !important; }
#heatmap img, #places img, #boxes img, #asked img { width: 100%; height: 100%; object-fit: contain; }
@media (max-width: 700px) {  /* what is said stands right under the photo */
  #given { display: contents; }
  #given > * { order: 1; }
  #said { order: 2; }
  #asked-for { order: 3; }
  #heatmap, #places { height: auto !important; }
  .grid-container { grid-template-columns: repeat(3, 1fr) !important; }
}
#views .grid-wrap { max-height: none !important; }
#boxes img.mask:not(.active):not(.inactive) { opacity: 0.45; }
.act { align-self: center; max-height: 3rem; min-width: fit-content !important; white-space: nowrap; }
#many img { max-height: 4.5rem; border-radius: 0.4rem; margin: 0; }
.tree { overflow-x: auto; --st-text-color: var(--body-text-color);
        --st-background-color: var(--background-fill-primary); --st-primary-color: var(--primary-500); }
"""
LAUNCH: dict[str, Any] = {
    # Fonts of the visitor's own system: nothing is fetched from elsewhere to show the page.
    "theme": gr.themes.Soft(
        primary_hue="indigo",
        font=("system-ui", "sans-serif"),
        font_mono=("ui-monospace", "monospace"),
    ),
    "css": CSS,
    "max_file_size": f"{MAX_MEGABYTES}mb",  # of a captioner; photos have a limit of their own
    "run_history": False,
    # Gradio would ask its own page for an answer within 3 seconds and give up where the machine is busy.
    "_frontend": False,
    "footer_links": ["api"],
    "state_session_capacity": 200,
}

# What the page's events do. Each returns a value for every component that it changes.

Shown = dict[Any, Any]


def on_open(request: gr.Request) -> Shown:
    """What the address of the page says: the captioner, its settings, and a photo that others can see too."""
    asked = dict(request.query_params)
    shown: Shown = {link: asked.get("url", "")}  # Gradio takes an empty one for no dictionary
    if asked.get("model") in MODELS:
        shown |= dict(zip(searching, on_model(asked["model"]), strict=True))
    for name, control in settings.items():
        if name in asked:
            try:
                shown[control] = given(control, asked[name])
            except (ValueError, KeyError, CaptionBotError):
                gr.Warning(f"The link has {name}={asked[name][:40]}, which cannot be: it is left out.")
    if asked.get("photo") in SAMPLES:
        shown[photo] = str(SAMPLES[asked["photo"]])
    elif "url" in asked:
        shown[photo] = on_link(asked["url"])
    return shown


def given(control: Any, text: str) -> Any:
    """The value of a setting in an address; an error where the control could not have it."""
    if isinstance(control, gr.Checkbox):
        return {"True": True, "False": False}[text]
    if isinstance(control, gr.Dropdown):
        if text not in MODELS:
            raise ValueError
        return text
    if not isinstance(control, gr.Slider | gr.Number):
        return text
    number = int(text) if control.step == 1 or isinstance(control, gr.Number) else float(text)
    if isinstance(control, gr.Slider) and not control.minimum <= number <= control.maximum:
        raise ValueError
    return number


def on_address(values: Shown) -> str:
    """What `on_open` reads, of all settings that are not as they were, and of the photo."""
    said = {
        name: values[control]
        for name, control in settings.items()
        if name in ("model", "beam_size") or values[control] != control.value
    }
    if said["model"] not in MODELS:
        del said["model"]  # an upload is its session's alone
    seen, url = values[view], (values[link] or "").strip()
    if seen:
        data = Path(seen.file).read_bytes() if Path(seen.file).is_file() else b""
        own = next((name for name, path in SAMPLES.items() if path.read_bytes() == data), None)
        said |= {"photo": own} if own else {"url": url} if url else {}
    return f"?{urlencode(said)}"


def on_link(url: str) -> Image.Image:
    with told():
        return fit(load_url(url.strip()))


def on_model(model: str) -> list[Any]:
    """The captioner's own search settings."""
    with told():
        options = work.usual(model)
    return [getattr(options, name) for name in ("beam_size", *COMMON_OPTIONS)]


def on_own(uploaded: list[str] | None, before: str) -> Shown:
    """A captioner that a visitor uploads, chosen at once; its files leave the disk."""
    paths = [Path(path) for path in uploaded or []]
    try:
        with told():
            own = work.adopt([(path.name, path.read_bytes()) for path in paths], before)
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
    choices = work.choices(own)
    return {
        own_captioner: own,
        own_files: None,
        model: gr.update(choices=choices, value=own),
        rivalling: gr.update(choices=choices, value=[*work.first_compared()[: work.MOST_COMPARED - 1], own]),
        own_note: f"“{work.title(own)}” is at work. It is kept for this visit alone.",
        **dict(zip(searching, on_model(own), strict=True)),
    }


def on_photo(values: Shown) -> Shown:
    """Caption the photo and show the best caption; an empty page where the photo was taken away."""
    if values[photo] is None:
        emptied = dict.fromkeys([words, *word_pictures, *caption_views])
        return {view: None, headline: NO_PHOTO, **emptied, **hidden(*answers, regions_tab)}
    with told():
        file, before = values[photo], values[view]
        asked = values[model], chosen_options(values), values[prefix], values[banned]
        if before and before.asked == (file["path"], *asked):
            return {view: before}  # a link's photo comes twice: with the page, and as it changes
        image = work.read_upload(file["path"])
        captioned, evidence = work.look(asked[0], image, *asked[1:])
    name = file.get("orig_name") or "photo"
    seen = View(file["path"], name, *asked, fit(image), captioned, evidence)
    return {
        table: draw.table(captioned),
        tree: draw.beam(seen, False),
        finished: draw.finished(seen),
        beam_lesson: draw.about_beam(seen),
        parts: draw.parts_of_speech(seen.model),
        ask_picture: None,
        **hidden(compare_table, compare_word, compare_pictures),
        painting: {"background": fit(image, 720), "layers": [], "composite": None},
        **show_caption(seen),
    }


def on_caption(seen: View | None, event: gr.SelectData) -> Shown:
    seen = present(seen)._replace(rank=event.index[0])
    found = work.evidence(seen.model, original(seen), seen.caption)
    return show_caption(seen._replace(evidence=found, missed=None))


def on_word(seen: View | None, event: gr.SelectData) -> Shown:
    return show_word(present(seen)._replace(t=event.index))


def on_chosen(seen: View | None, t: int) -> Shown:
    return show_word(present(seen)._replace(t=t))


def on_tree(seen: View | None, cut: bool) -> str:
    return draw.beam(present(seen), cut)


def on_rival(seen: View | None, event: gr.SelectData) -> Shown:
    """The sentence finished again from a rival of the chosen word."""
    seen = present(seen)
    said = [word.text for word in seen.caption.words[: seen.t]]
    return {views: gr.Tabs(selected="steer"), **steered(seen, seen.options, [*said, event.value], [])}


def on_steer(seen: View | None, instead: str, never: bool, length: str) -> Shown:
    seen = present(seen)
    said = [word.text for word in seen.caption.words]
    typed = tokenize(instead)
    begun = [*said[: seen.t], *typed] if typed else []
    with told():
        options = explore.of_length(seen.options, length, len(said), len(begun))
    return steered(seen, options, begun, [said[seen.t]] if never else [])


def on_way(way: str) -> list[Any]:
    return [gr.update(visible=visible) for visible in (way != LOOKED, way == PAINTED, way == RECTANGLE)]


def on_regions(seen: View | None, most: int, least: float, kept: list[int]) -> Shown:
    """The photo captioned again from the boxes that are left."""
    seen = present(seen)
    caption = seen.caption
    scores = np.ones(len(caption.boxes)) if caption.scores is None else caption.scores
    gone = [p for p in range(len(scores)) if p >= most or p not in kept or scores[p] < least]
    said = caption
    if gone:
        with told():
            said = work.ask(seen.model, original(seen), seen.options, seen.prefix, seen.banned, gone)
    return {
        region_picture: draw.boxed(seen.photo, said),
        leaning: draw.leaning(said),
        **both(region_views[2:], caption, said),
    }


def on_ask(values: Shown) -> Shown:
    """Hide a part of the photo, caption it again, and mark what changed."""
    seen = present(values[view])
    asked, way, others = original(seen), values[ways], values[only]
    with told():
        if way == PAINTED:
            asked = explore.hide(asked, painted(values[painting], asked.size, others))
        elif way == RECTANGLE:
            box = [values[edge] / 100 for edge in edges]
            asked = work.hidden(asked, [api.checked(box)], others)
        else:
            asked = work.hidden(asked, work.boxes_looked_at(seen.looked, seen.t), others)
        after = work.ask(seen.model, asked, seen.options, seen.prefix, seen.banned)
    return {ask_picture: fit(asked), **both(ask_views, seen.captioned.captions[0], after)}


def on_test(seen: View | None) -> Shown:
    """Whether the chosen word rests on its heatmap; what it misses is worked out once a caption."""
    seen = present(seen)
    image, caption = original(seen), seen.caption
    with told():
        (tested,) = work.test(seen.model, image, caption, seen.evidence.maps, [seen.t])
        if seen.missed is None and seen.evidence.attends:
            seen = seen._replace(missed=work.evidence(seen.model, image, caption, "occlusion"))
    word = caption.words[seen.t].text
    return {
        view: seen,
        verdict: gr.update(visible=True, value=draw.verdict(tested)),
        truth_shown: gr.update(visible=True),
        curves: draw.curves(tested),
        truth_pictures: [
            (word_overlay(seen.photo, shown.looked, seen.t), f"“{word}”: {shown.label}")
            for shown in (seen.evidence, seen.missed)
            if shown is not None
        ],
    }


def on_test_all(seen: View | None) -> Shown:
    seen = present(seen)
    with told():
        words = range(len(seen.caption.words))
        tested = work.test(seen.model, original(seen), seen.caption, seen.evidence.maps, words)
    holds = sum(word.holds for word in tested)
    note = f"The heatmap holds for {holds} of {len(tested)} words."
    return {verdicts: gr.update(visible=True, value=draw.verdicts(tested), label=note)}


def on_compare(seen: View | None, models: list[str]) -> Iterator[Shown]:
    """One captioner after the other, each shown as soon as it has spoken."""
    seen = present(seen)
    image = original(seen)
    rows: list[list[Any]] = []
    found: list[tuple[str, Caption, str]] = []
    with told():
        for name in work.compared(models):
            captioned, seconds = work.timed(name, image)
            best = captioned.captions[0]
            rows.append([work.title(name), sentence(best.text), percent(best.confidence), f"{seconds:.2f}"])
            yield {compare_table: gr.update(visible=True, value=rows)}
            evidence = work.evidence(name, image, best)
            found.append((work.title(name), evidence.looked, evidence.label))
    shared = shared_words([[word.text for word in caption.words] for _, caption, _ in found])
    yield {
        compared: (seen.photo, found),
        compare_word: gr.update(choices=shared, value=shared[0], visible=True),
        compare_pictures: gr.update(
            visible=True, value=where_they_looked((seen.photo, found), shared[0]), columns=len(found)
        ),
    }


def where_they_looked(results: tuple[Image.Image, list[tuple[str, Caption, str]]] | None, word: str) -> Any:
    """The heatmap of one word by every captioner that says it."""
    if results is None:
        raise gr.Error(STALE, print_exception=False)
    picture, found = results
    pictures = []
    for name, caption, label in found:
        said = [own.text for own in caption.words]
        if word in said:
            drawn = word_overlay(picture, caption, said.index(word))
            pictures.append((drawn, f"{name}: {label}"))
        else:
            pictures.append((picture, f"{name} does not say “{word}”"))
    return pictures


def on_batch(values: Shown) -> Iterator[Shown]:
    """The table as it grows, then the files to take along."""
    if not values[files]:
        raise gr.Error("There are no photos yet: upload some, or a .zip of them.", print_exception=False)
    results, rows = [], []
    with told():
        options = chosen_options(values)
        paths = [file["path"] for file in values[files]]
        asked = values[model], paths, options, values[prefix], values[banned]
        for result, thumbnail in work.caption_files(*asked):
            results.append(result)
            rows.append(draw.batch_row(result, thumbnail))
            if len(rows) % work.AT_ONCE == 0:
                yield {
                    batch_note: f"{len(rows)} photos so far…",
                    batch_table: gr.update(visible=True, value=rows),
                }
    bad = sum(isinstance(found, CaptionBotError) for _, found in results)
    yield {
        batch_note: f"{len(results) - bad} captioned, {bad} could not be read.",
        batch_table: gr.update(visible=True, value=rows),
        batch_files: draw.batch_files(results, values[model]),
    }


def on_share(seen: View | None) -> list[str]:
    return draw.share_files(present(seen))


def steered(seen: View, options: SearchOptions, begun: list[str], never: list[str]) -> Shown:
    with told():
        after = work.steer(
            seen.model, original(seen), replace(options, num_return=1), begun, [seen.banned, *never]
        )
    return both(steer_views, seen.caption, after)


def both(components: list[Any], before: Caption, after: Caption) -> Shown:
    """Two captions side by side, and a sentence on how they differ; components: their row, them, and it."""
    row, *texts, note = components
    *marked, sentence = draw.marked(before, after)
    return {
        row: gr.update(visible=True),
        **dict(zip(texts, marked, strict=True)),
        note: gr.update(visible=True, value=sentence),
    }


def present(seen: View | None) -> View:
    if seen is None:
        raise gr.Error(STALE, print_exception=False)
    return seen


def original(seen: View) -> Image.Image:
    """The photo at its own size, from Gradio's temporary folder."""
    try:
        return work.read_upload(seen.file)
    except FileNotFoundError:
        raise gr.Error(STALE, print_exception=False) from None


def chosen_options(values: Shown) -> SearchOptions:
    given = {name: values[control] for name, control in controls.items()}
    names = COMMON_OPTIONS + (SAMPLING_OPTIONS if given["sample"] else BEAM_OPTIONS)
    captions = given["captions"] if given["sample"] else min(given["captions"], given["beam_size"])
    return SearchOptions(sample=given["sample"], num_return=captions, **{name: given[name] for name in names})


def painted(value: dict[str, Any] | None, size: tuple[int, int], others: bool) -> Image.Image:
    """What was painted over, as a mask (mode L) of the photo."""
    mask = Image.new("L", size)
    for layer in (value or {}).get("layers", []):
        mask = ImageChops.lighter(mask, layer.getchannel("A").resize(size))
    if not np.asarray(mask).any():
        raise CaptionBotError("Nothing is painted yet: paint over a part of the photo first.")
    mask = mask.point([0] * 128 + [255] * 128)
    return ImageOps.invert(mask) if others else mask


def show_caption(seen: View) -> Shown:
    """All that changes with the caption."""
    caption = seen.caption
    return {
        headline: draw.headline(caption),
        words: draw.chips(caption),
        gallery: draw.tiles(seen),
        attention_lesson: draw.about_attention(seen),
        word: gr.update(choices=draw.choices(caption)),
        numbers: draw.numbers(seen),
        **hidden(*answers),
        **show_regions(seen),
        **show_word(seen._replace(t=draw.sharpest(seen.looked))),
    }


def show_regions(seen: View) -> Shown:
    """The view of detected boxes, which captioners without a detector do not have."""
    caption = seen.caption
    if not draw.has_boxes(caption):
        return {regions_tab: gr.update(visible=False)}
    boxes = [(text, place) for place, text in enumerate(draw.box_names(caption))]
    many = len(boxes)
    return {
        regions_tab: gr.update(visible=True),
        most_boxes: gr.update(maximum=max(many, 2), value=many),
        least_score: 0,
        kept: gr.update(choices=boxes, value=[place for _, place in boxes]),
        region_picture: draw.boxed(seen.photo, caption),
        leaning: draw.leaning(caption),
        **hidden(region_said, region_note),
    }


def hidden(*components: Any) -> Shown:
    """What belongs to another caption is out of sight."""
    return {component: gr.update(visible=False) for component in components}


def show_word(seen: View) -> Shown:
    """All that changes with the chosen word."""
    text = seen.caption.words[seen.t].text
    return {
        view: seen,
        word: gr.update(choices=draw.choices(seen.caption), value=seen.t),
        heatmap: draw.heatmap(seen),
        places: draw.places(seen),
        rivals: draw.rivals(seen),
        instead: gr.update(label=f"Instead of “{text}” say"),
        never: gr.update(label=f"Never say “{text}”"),
        test_button: gr.update(value=f"Test “{text}”"),
    }


with gr.Blocks(title="CaptionBot", analytics_enabled=False, delete_cache=(60, CACHE_SECONDS)) as demo:
    gr.Markdown(INTRODUCTION)
    view = gr.State(time_to_live=CACHE_SECONDS)
    compared = gr.State(time_to_live=CACHE_SECONDS)
    own_captioner = gr.State("", delete_callback=work.let_go)
    with gr.Row(elem_id="heroes"):
        with gr.Column(scale=2, min_width=320, elem_id="given"):
            photo = gr.Image(
                next((str(path) for path in SAMPLES.values()), None),
                label="Photo",
                sources=["upload", "webcam", "clipboard"],
                type="filepath",
                format="png",
                height=300,
                elem_id="photo",
            )
            link = gr.Textbox(label="Or the address of one", placeholder="https://…", submit_btn="Fetch")
            gr.Examples([str(path) for path in SAMPLES.values()], photo, label="Or a sample")
            with gr.Column(elem_id="asked-for"):
                model = gr.Dropdown(MODELS, value=DEFAULT, label="Captioner", elem_id="model")
                with gr.Accordion("A captioner of your own", open=False):
                    own_files = gr.File(
                        label="Its card (.json) and weights (.safetensors) together, or a .zip of both",
                        file_count="multiple",
                        file_types=[".json", ".safetensors", ".zip"],
                        height=140,
                        elem_id="own",
                    )
                    own_note = gr.Markdown(
                        f"What `python -m training.train` writes, {MAX_MEGABYTES} MB at most. It is kept in "
                        "memory for this visit, and used by you alone."
                    )
                with gr.Row():
                    beam_size = gr.Slider(1, 10, USUAL.beam_size, step=1, label="Beam size", min_width=120)
                    captions = gr.Slider(1, 10, 3, step=1, label="Captions", min_width=120)
                button = gr.Button("Generate captions", variant="primary")
                with gr.Accordion("More options", open=False):
                    prefix = gr.Textbox("", label="Start the caption with", placeholder="two children")
                    banned = gr.Textbox("", label="Words to avoid", placeholder="man, shirt")
                    controls = {
                        "beam_size": beam_size,
                        "captions": captions,
                        "min_length": gr.Slider(1, 40, USUAL.min_length, step=1, label="Words at least"),
                        "max_length": gr.Slider(1, 40, USUAL.max_length, step=1, label="Words at most"),
                        "length_penalty": gr.Slider(
                            0,
                            2,
                            USUAL.length_penalty,
                            label="Length penalty",
                            info="more favours long sentences",
                        ),
                        "no_repeat_ngram_size": gr.Slider(
                            0,
                            5,
                            USUAL.no_repeat_ngram_size,
                            step=1,
                            label="No repeat of so many words",
                            info="0 allows it",
                        ),
                        "sample": gr.Checkbox(False, label="Sampling", info="draw words, don't search"),
                        "temperature": gr.Slider(0.1, 2, 1, label="Temperature", info="lower is safer"),
                        "top_k": gr.Slider(0, 100, 0, step=1, label="Top k", info="0 is all words"),
                        "top_p": gr.Slider(0.05, 1, 0.9, label="Top p"),
                        "seed": gr.Number(0, precision=0, label="Seed"),
                    }
        with gr.Column(scale=3, min_width=320, elem_id="said"):
            headline = gr.Markdown(elem_id="headline")
            words = gr.HighlightedText(
                label="Click a word to see what it rests on",
                color_map={name: colour for name, _, colour in SURENESS},
                show_legend=True,
                elem_id="words",
            )
            with gr.Tab("Heatmap"):
                heatmap = gr.Image(
                    label="Heatmap",
                    height=460,
                    buttons=["download", "fullscreen"],
                    elem_id="heatmap",
                    format=PICTURES,
                )
            with gr.Tab("Places"):
                places = gr.AnnotatedImage(show_label=False, height=460, elem_id="places", format=PICTURES)
            with gr.Row():
                word = gr.Dropdown([], label="The chosen word", min_width=140)
                rivals = gr.Label(
                    label="Nearly said: click to hear it", elem_id="rivals", scale=2, min_width=280
                )
    with gr.Tabs(elem_id="views") as views:
        with gr.Tab("Words"):
            gr.Markdown("Every word, and how likely it was. Click one.")
            gallery = gr.Gallery(
                format=PICTURES,
                show_label=False,
                columns=6,
                fit_columns=False,
                height="auto",
                object_fit="contain",
                allow_preview=False,
                buttons=["download_all"],
            )
            table = gr.Dataframe(
                headers=["caption", "confidence", "log-prob"],
                column_widths=["46%", "31%", "23%"],
                label="Captions, best first: click one",
                interactive=False,
                wrap=True,
                elem_id="captions",
            )
            with gr.Accordion("How it decides where to look", open=False):
                attention_lesson = gr.Markdown()
        marks: dict[str, Any] = {"color_map": {CHANGED: "#8b5cf6"}, "show_inline_category": False}
        with gr.Tab("Regions", id="regions", visible=False) as regions_tab:
            with gr.Row():
                region_picture = gr.AnnotatedImage(
                    label="What the detector found; rest on a name to see its box",
                    height=420,
                    elem_id="boxes",
                    format=PICTURES,
                )
                with gr.Column():
                    most_boxes = gr.Slider(1, 2, 2, step=1, label="Boxes at most")
                    least_score = gr.Slider(0, 1, 0, step=0.05, label="Score at least")
                    kept = gr.CheckboxGroup(
                        [],
                        label="Boxes",
                        info="Untick one: the photo is captioned again without it.",
                        elem_id="kept",
                    )
            with gr.Row(visible=False) as region_said:
                region_before = gr.HighlightedText(label="With all boxes", **marks)
                region_after = gr.HighlightedText(
                    label="With those that are left", elem_id="without", **marks
                )
            region_note = gr.Markdown(visible=False)
            leaning = gr.Dataframe(
                label="Which word leaned on which box: how much of its attention every box got, in %",
                interactive=False,
                elem_id="leaning",
            )
        with gr.Tab("Beam"):
            gr.Markdown(
                "All that the search kept, from left to right, the winner in colour. Rest on a word to read "
                "what became of it."
            )
            cut = gr.Checkbox(False, label="Also what was cut at once")
            tree = gr.HTML(elem_id="beam")
            finished = gr.Dataframe(
                headers=["sentence", "score", "log-prob", "word evidence", "lost because"],
                label="The sentences that were finished; the score is log-prob and word evidence (what the "
                "photo as a whole says for the words), divided by the length to the power of its penalty",
                interactive=False,
                wrap=True,
            )
            with gr.Accordion("How beam search works", open=False):
                beam_lesson = gr.Markdown()
        with gr.Tab("Steer", id="steer"):
            with gr.Row(equal_height=True):
                instead = gr.Textbox(label="Instead say", placeholder="running through the snow", scale=3)
                never = gr.Checkbox(False, label="Never say it")
                length = gr.Radio(LENGTHS, value="as it is", label="Length", scale=2)
                steer_button = gr.Button("Finish the sentence again", variant="primary", elem_classes="act")
            with gr.Row(visible=False) as steer_said:
                steer_before = gr.HighlightedText(label="The model's own", **marks)
                steer_after = gr.HighlightedText(label="Steered", elem_id="steered", **marks)
            steer_note = gr.Markdown(visible=False)
        with gr.Tab("Ask the picture"):
            with gr.Row(equal_height=True):
                ways = gr.Radio([PAINTED, RECTANGLE, LOOKED], value=PAINTED, label="Hide", scale=3)
                only = gr.Checkbox(False, label="Show only that instead")
                ask_button = gr.Button("Caption it again", variant="primary", elem_classes="act")
            with gr.Row():
                with gr.Column() as drawing:
                    painting = gr.ImageEditor(
                        label="Paint over what to hide",
                        type="pil",
                        sources=[],
                        transforms=[],
                        layers=False,
                        brush=gr.Brush(default_size=40, colors=["#8b5cf6"], color_mode="fixed"),
                        buttons=[],
                        height=420,
                        elem_id="painting",
                    )
                    with gr.Group(visible=False) as rectangle:
                        edges = [
                            gr.Slider(0, 100, value, step=1, label=f"{edge}, %")
                            for edge, value in (("Left", 30), ("Top", 30), ("Right", 70), ("Bottom", 70))
                        ]
                with gr.Column():
                    ask_picture = gr.Image(
                        label="What the model is shown", height=420, elem_id="asked", format=PICTURES
                    )
            with gr.Row(visible=False) as ask_said:
                ask_before = gr.HighlightedText(label="The whole photo", **marks)
                ask_after = gr.HighlightedText(label="With that hidden", **marks)
            ask_note = gr.Markdown(visible=False)
        with gr.Tab("Is it true?"):
            gr.Markdown("Does the word rest on what its heatmap shows? Hide that, and see what it costs.")
            with gr.Row():
                test_button = gr.Button("Test the chosen word", variant="primary")
                test_all = gr.Button("Test every word")
            verdict = gr.Markdown(elem_id="verdict", visible=False)
            with gr.Row(visible=False) as truth_shown:
                truth_pictures = gr.Gallery(
                    format=PICTURES,
                    show_label=False,
                    columns=2,
                    height=320,
                    object_fit="contain",
                    allow_preview=False,
                )
                curves = gr.LinePlot(
                    x="share of the photo, %",
                    y="log-probability",
                    color="what",
                    color_title=" ",
                    height=320,
                    show_label=False,
                )
            verdicts = gr.Dataframe(
                headers=["word", "rests on its heatmap", "lost, nats", "must be above"],
                interactive=False,
                visible=False,
            )
            parts = gr.Dataframe(
                headers=["part of speech", "words", "heatmap true", "95 % interval"],
                interactive=False,
                visible=False,
            )
            with gr.Accordion(learn.HEATMAP_TEST.title, open=False):
                gr.Markdown(draw.lesson(learn.HEATMAP_TEST))
        with gr.Tab("Compare"):
            with gr.Row(equal_height=True):
                rivalling = gr.Dropdown(
                    MODELS,
                    value=work.first_compared(),
                    multiselect=True,
                    max_choices=MOST_COMPARED,
                    label=f"Captioners, 2 to {MOST_COMPARED}",
                    info="One after the other, each searching as its own card says.",
                    scale=3,
                )
                compare_button = gr.Button(
                    "Compare", variant="primary", interactive=len(MODELS) > 1, elem_classes="act"
                )
            compare_table = gr.Dataframe(
                headers=["captioner", "caption", "confidence", "seconds"],
                column_widths=["28%", "44%", "15%", "13%"],
                visible=False,
                show_label=False,
                interactive=False,
                wrap=True,
            )
            compare_word = gr.Dropdown([], label="Where they looked for", visible=False)
            compare_pictures = gr.Gallery(
                format=PICTURES,
                visible=False,
                show_label=False,
                columns=MOST_COMPARED,
                height="auto",
                allow_preview=False,
            )
        with gr.Tab("Many photos"):
            files = gr.File(
                label="Photos, or .zip files of them",
                file_count="multiple",
                file_types=["image", ".zip"],
                elem_id="files",
            )
            batch_button = gr.Button("Caption them all", variant="primary")
            batch_note = gr.Markdown()
            batch_table = gr.Dataframe(
                visible=False,
                headers=["photo", "name", "caption", "confidence"],
                datatype=["html", "str", "str", "str"],
                column_widths=["14%", "22%", "50%", "14%"],
                show_label=False,
                interactive=False,
                wrap=True,
                elem_id="many",
            )
            batch_files = gr.File(
                label="CSV, JSONL, one .txt a photo", file_count="multiple", interactive=False
            )
        with gr.Tab("Results") as results_tab:
            gr.Markdown(
                "Scores of coco-caption on photos of Flickr8k that no captioner was trained on, higher is "
                "better. CIDEr counts the phrases that a caption shares "
                "with what people wrote, rare ones more; BLEU-4 counts runs of four words. Photos a second "
                "are from a file's bytes to its caption, on the machine that measured them."
            )
            gr.Dataframe(
                draw.leaderboard(),
                headers=[
                    "captioner",
                    "search",
                    *draw.SCORES,
                    "million parameters",
                    "photos a second",
                ],
                show_label=False,
                interactive=False,
                wrap=True,
                elem_id="results",
            )
            with gr.Accordion("About these captioners", open=False):
                gr.Markdown(draw.descriptions())
            with gr.Accordion("Best, worst, most different captions", open=GALLERY is not None):
                gr.Markdown(GALLERY_NOTE, visible=GALLERY is None)
                with gr.Row(visible=GALLERY is not None):
                    way = gr.Radio(GALLERY.ways if GALLERY else (), value=WAYS[0], label="Captions")
                    way_of = gr.Dropdown(GALLERY.captioners if GALLERY else (), label="Captioner")
                shots = gr.Gallery(
                    format=PICTURES,
                    label="Photos that people described",
                    columns=3,
                    visible=GALLERY is not None,
                    elem_id="shots",
                )
        with gr.Tab("Share") as share_tab:
            address = gr.Textbox(
                label="Link",
                info="It restores the captioner and every setting, and the photo too where that is a sample "
                "or came from an address. Photos of your own are not kept, so they cannot be linked to.",
                interactive=False,
                buttons=["copy"],
                elem_id="address",
            )
            share_button = gr.Button("Make the files", variant="primary")
            shared = gr.File(
                label="A page that opens offline, every word as PNG and GIF, captions and attention as JSON",
                file_count="multiple",
                interactive=False,
                elem_id="shared",
            )
            with gr.Accordion("JSON", open=False):
                numbers = gr.JSON(show_label=False)
    gr.Markdown(ABOUT)

    settings = {"model": model, "prefix": prefix, "banned": banned, **controls}
    searching = [controls[name] for name in ("beam_size", *COMMON_OPTIONS)]
    word_pictures = [heatmap, places, rivals]
    word_views = [view, word, *word_pictures, instead, never, test_button]
    region_views = [region_picture, leaning, region_said, region_before, region_after, region_note]
    steer_views = [steer_said, steer_before, steer_after, steer_note]
    ask_views = [ask_said, ask_before, ask_after, ask_note]
    answers = [steer_said, steer_note, ask_said, ask_note, verdict, truth_shown, verdicts]
    caption_views = [gallery, attention_lesson, numbers]
    caption_outputs = [headline, words, *caption_views, *word_views]
    caption_outputs += [*answers, regions_tab, most_boxes, least_score, kept, *region_views]
    asking = {*settings.values()}
    private: dict[str, Any] = {"api_visibility": "private"}
    quiet: dict[str, Any] = {**private, "show_progress": "hidden"}
    busy: dict[str, Any] = {
        "concurrency_limit": 1,
        "concurrency_id": "captioner",
    }  # the model uses every core as it is
    caption_photo: dict[str, Any] = {
        "fn": on_photo,
        "inputs": {view, photo, *asking},
        "outputs": [
            *(*caption_outputs, table, tree, finished, beam_lesson, parts, painting),
            *(ask_picture, compare_table, compare_word, compare_pictures),
        ],
        "preprocess": False,
        "show_progress_on": headline,
        "trigger_mode": "always_last",  # a photo that comes while another is captioned is not forgotten
        **private,
        **busy,
    }
    demo.load(on_open, None, [*settings.values(), photo, link], **private).then(**caption_photo)
    gr.on([photo.change, button.click, prefix.submit, banned.submit], **caption_photo)
    model.input(on_model, model, searching, **quiet).then(**caption_photo)
    own_files.upload(
        on_own,
        [own_files, own_captioner],
        [own_captioner, own_files, model, rivalling, own_note, *searching],
        **private,
        **busy,
    ).success(**caption_photo)
    link.submit(on_link, link, photo, **private)
    photo.input(lambda: "", None, link, **quiet)  # the photo is no longer that of the address
    table.select(on_caption, view, caption_outputs, **quiet, **busy)
    gr.on([results_tab.select, way.input, way_of.input], draw.shots, [way, way_of], shots, **quiet)
    gr.on([words.select, gallery.select], on_word, view, word_views, **quiet)
    word.input(on_chosen, [view, word], word_views, **quiet)
    cut.input(on_tree, [view, cut], tree, **private)

    rivals.select(on_rival, view, [views, *steer_views], **private, **busy)
    gr.on(
        [steer_button.click, instead.submit],
        on_steer,
        [view, instead, never, length],
        steer_views,
        **private,
        **busy,
    )
    gr.on(
        [most_boxes.release, least_score.release, kept.input],
        on_regions,
        [view, most_boxes, least_score, kept],
        region_views,
        trigger_mode="always_last",
        **private,
        **busy,
    )
    ways.change(on_way, ways, [drawing, painting, rectangle], **quiet)
    ask_button.click(
        on_ask,
        {view, ways, only, painting, *edges},
        [*ask_views, ask_picture],
        **private,
        **busy,
    )
    test_button.click(on_test, view, [view, verdict, truth_shown, curves, truth_pictures], **private, **busy)
    test_all.click(on_test_all, view, verdicts, **private, **busy)
    compare_button.click(
        on_compare,
        [view, rivalling],
        [compare_table, compared, compare_word, compare_pictures],
        **private,
        **busy,
    )
    compare_word.input(where_they_looked, [compared, compare_word], compare_pictures, **quiet)
    batch_button.click(
        on_batch,
        {files, *asking},
        [batch_note, batch_table, batch_files],
        preprocess=False,
        **private,
        **busy,
    )
    share_tab.select(on_address, {view, link, *asking}, address, **quiet).then(
        None, address, address, js="(query) => location.origin + location.pathname + query"
    )
    share_button.click(on_share, view, shared, **private)
    for endpoint in api.ENDPOINTS:
        gr.api(endpoint, api_name=endpoint.__name__, **busy)

demo.queue(max_size=32)

if __name__ == "__main__":
    demo.launch(**LAUNCH)
