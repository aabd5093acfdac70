"""The endpoints for programs, and the tools of the MCP server. Gradio makes their signatures and docstrings
the documentation that a program, or a language model, reads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, cast

import gradio as gr
from PIL import Image

from captionbot import CaptionBotError
from captionbot.bulk.records import caption_fields, error_record, record, records
from captionbot.draw import beam_tree
from captionbot.errors import shortened
from captionbot.explain import counterfactuals as explore
from captionbot.explain.needs import SIGNIFICANT, to_json
from captionbot.pages.gradio import work
from captionbot.pages.gradio.door import Upload, told
from captionbot.pages.gradio.work import WORK
from captionbot.pages.presenters.compare import FIRST, to_compare
from captionbot.pages.turns import turn
from captionbot.pages.work import Asked, Box, Decoded, Settings, boxes_looked_at
from captionbot.search.beam import tree
from captionbot.search.options import SearchOptions
from captionbot.types import Caption

DEFAULT = work.default()
USUAL = WORK.usual(DEFAULT)


def caption(
    image: gr.FileData,
    beam_size: int = USUAL.beam_size,
    num_return: int = 1,
    prefix: str = "",
    banned: str = "",
    model: str = DEFAULT,
) -> dict[str, Any]:
    """Caption one photo: what `python -m captionbot caption --format jsonl` writes about it.

    Args:
        image: the photo.
        beam_size: how many sentences are kept in play.
        num_return: captions to return, best first; at most beam_size.
        prefix: words that every caption starts with.
        banned: words that no caption has, separated by spaces or commas.
        model: the captioner's name.
    """
    with told(), turn():
        options = replace(WORK.usual(model), beam_size=beam_size, num_return=num_return)
        try:
            photo = read(image)
        except CaptionBotError as error:
            return error_record(name_of(image), str(error))
        captioned = WORK.caption(asked(model, photo, options, prefix, banned))
        return record(name_of(image), model, captioned)


def explain(
    image: gr.FileData,
    model: str = DEFAULT,
    method: Literal["auto", "attention", "needs", "occlusion", "gradient"] = "auto",
    beam_size: int = USUAL.beam_size,
    test: bool = False,
) -> dict[str, Any]:
    """Caption one photo and say what each word rests on.

    Each word has "alphas", one number for each of "boxes" (pixels), and "rivals", the words that nearly came.

    Args:
        image: the photo.
        model: the captioner's name.
        method: how to find out; auto is attention where the captioner has it, else needs: what each word
            loses where places are hidden.
        beam_size: how many sentences are kept in play.
        test: also find out what each word needs of the photo, and test whether that "holds": "effect" are the
            nats that it loses without the place, and under "needs" are a map of 8 x 8
            "cells", how well it foretold what hiding would do ("r", "p"), the word's probability "before" and
            "after" the place is hidden, and a "verdict".
    """
    with told(), turn():
        photo = read(image)
        question = asked(model, photo, replace(WORK.usual(model), beam_size=beam_size))
        captioned, evidence = WORK.look(question)
        said = captioned.captions[0]
        if method != "auto":
            evidence = WORK.evidence(question, said, method)
        best = replace(captioned, captions=(evidence.looked,))
        found = record(name_of(image), model, best, with_alphas=True) | {"label": evidence.maps.label}
        words = found["captions"][0]["words"]
        for word, rivals in zip(words, evidence.rivals, strict=False):  # the end has rivals too
            word["rivals"] = [{"text": rival.text, "log_prob": rival.log_prob} for rival in rivals]
        if test:
            *_, measured = WORK.needs(model, question.photo, said)
            for t, (word, own) in enumerate(zip(words, to_json(measured)["words"], strict=True)):
                holds, effect = bool(measured.p[t] <= SIGNIFICANT), float(measured.effect[t])
                word |= {"holds": holds, "effect": effect, "needs": own}
        return found


def beam(
    image: gr.FileData, model: str = DEFAULT, beam_size: int = USUAL.beam_size, cut: bool = True
) -> dict[str, Any]:
    """Caption one photo and hand out all that the beam search weighed: "sentences", best first, "nodes", each
    with its "parent" among them and why it lost, and the tree as an "svg".

    Args:
        image: the photo.
        model: the captioner's name.
        beam_size: how many sentences are kept in play.
        cut: draw also the words that were cut as soon as they were weighed.
    """
    with told(), turn():
        options = replace(WORK.usual(model), beam_size=beam_size)
        captioned = WORK.caption(asked(model, read(image), options))
        vocabulary, search = WORK.vocabulary(model), captioned.search
        nodes = tree(search)
        return {
            "image": name_of(image),
            "model": model,
            "sentences": [
                {"text": vocabulary.text(h.token_ids), "score": float(h.score), "log_prob": float(h.log_prob)}
                for h in search.hypotheses[0]
            ],
            "nodes": [
                {
                    "word": explore.END
                    if node.token_id == vocabulary.eos_id
                    else vocabulary.pieces([node.token_id])[0],
                    "parent": node.parent,
                    "log_prob": node.log_prob,
                    "fate": node.fate.name.lower(),
                    "why": beam_tree.why(search, nodes, i),
                }
                for i, node in enumerate(nodes)
            ],
            "svg": WORK.beam_svg(model, search, cut),
        }


def steer(
    image: gr.FileData,
    begin: str = "",
    banned: str = "",
    length: Literal["shorter", "as it is", "longer"] = "as it is",
    model: str = DEFAULT,
) -> dict[str, Any]:
    """Caption one photo as the captioner likes, then as it is told to, and mark the words that differ.

    Args:
        image: the photo.
        begin: words that the new caption begins with.
        banned: words that it must not have, separated by spaces or commas.
        length: how long it is to be, against the first caption.
        model: the captioner's name.
    """
    with told(), turn():
        photo, options, words = read(image), replace(WORK.usual(model), num_return=1), begin.split()
        before = WORK.caption(asked(model, photo, options)).captions[0]
        wanted = explore.of_length(options, length, len(before.words), len(words))
        return two(image, model, before, WORK.steer(asked(model, photo, wanted, "", banned), tuple(words)))


def ask(
    image: gr.FileData,
    box: list[float] | None = None,
    word: int | None = None,
    places: list[int] | None = None,
    show_only: bool = False,
    model: str = DEFAULT,
) -> dict[str, Any]:
    """Caption one photo whole and with a part of it hidden, and mark the words that differ.

    Args:
        image: the photo.
        box: left, top, right and bottom of what is hidden, as fractions of the photo.
        word: or hide what this word of the caption looked at, counted from 0.
        places: or take away these detected boxes, counted from 0, of captioners that describe boxes.
        show_only: hide everything else instead.
        model: the captioner's name.
    """
    with told(), turn():
        if sum(given is not None for given in (box, word, places)) != 1:
            raise CaptionBotError("Say what to hide by one of box, word and places.")
        photo, options = read(image), replace(WORK.usual(model), num_return=1)
        question = asked(model, photo, options)
        captioned, evidence = WORK.look(question)
        before = captioned.captions[0]
        if places is not None:
            question = replace(question, places=tuple(places))
        else:
            boxes = (checked(box),) if box is not None else looked_at(evidence.looked, cast(int, word))
            question = replace(question, boxes=boxes, others=show_only)
        return two(image, model, before, WORK.caption(question).captions[0])


def compare(image: gr.FileData, models: list[str] | None = None) -> list[dict[str, Any]]:
    """What two to four captioners say about one photo, each with the seconds that it took.

    Args:
        image: the photo.
        models: the captioners' names; by default the default one and up to two others.
    """
    with told():
        names = to_compare(WORK, [work.known(model) for model in models or work.names()[:FIRST]])
        found = []
        for model in names:
            with turn():
                captioned, seconds = WORK.timed(asked(model, read(image), WORK.usual(model)))
            found.append(record(name_of(image), model, captioned) | {"seconds": round(seconds, 3)})
        return found


def batch(
    files: list[gr.FileData], num_return: int = 1, prefix: str = "", banned: str = "", model: str = DEFAULT
) -> list[dict[str, Any]]:
    """Caption many photos in the order given: a record for each, with its error where it could not be read.

    Args:
        files: photos, or .zip and .tar archives of them.
        num_return: captions to return of each photo, best first.
        prefix: words that every caption starts with.
        banned: words that no caption has, separated by spaces or commas.
        model: the captioner's name.
    """
    with told():
        options = replace(WORK.usual(model), num_return=num_return)
        paths = [fields(file).path for file in files]
        settings = Settings(model, options, prefix, (banned,))
        return list(records(work.caption_files(paths, settings), model))


ENDPOINTS = (caption, explain, beam, steer, ask, compare, batch)


def asked(
    model: str, photo: Image.Image, options: SearchOptions, prefix: str = "", banned: str = ""
) -> Asked:
    return Asked(Decoded("photo", photo), Settings(model, options, prefix, (banned,)))


def read(file: gr.FileData) -> Image.Image:
    return work.read_upload(fields(file).path)


def name_of(file: gr.FileData) -> str:
    return fields(file).name


def fields(file: gr.FileData) -> Upload:
    """Gradio shows the type to clients; what a client sends comes through the door as an upload."""
    return cast(Upload, file)


def checked(box: list[float]) -> Box:
    if len(box) == 4 and 0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1:
        return box[0], box[1], box[2], box[3]
    raise CaptionBotError(
        f"{shortened(box)} is no box: give left, top, right and bottom as fractions of the photo, from 0 "
        "to 1."
    )


def looked_at(caption: Caption, t: int) -> tuple[Box, ...]:
    if 0 <= t < len(caption.words):
        return boxes_looked_at(caption, t)
    raise CaptionBotError(
        f"There is no word {shortened(t)} in “{caption.text}”: choose one of 0 to {len(caption.words) - 1}."
    )


def two(image: gr.FileData, model: str, before: Caption, after: Caption) -> dict[str, Any]:
    """Two captions of one photo, and for each of their words whether the other one lacks it there."""
    change = explore.compare(*([word.text for word in caption.words] for caption in (before, after)))
    first, second = (caption_fields(caption) for caption in (before, after))
    return {
        "image": name_of(image),
        "model": model,
        "before": first | {"changed": change.before},
        "after": second | {"changed": change.after},
    }
