"""The photo as a canvas and its sentence: what the browser's part of the pages is given, and what it tells.

What a visitor does there comes back as an event and a value, which is a stranger's word for it:
`Touched.after` checks both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar

from PIL import Image

from captionbot.draw import canvas
from captionbot.draw.canvas import SENTENCE
from captionbot.draw.files import data_url
from captionbot.draw.overlays import fit
from captionbot.errors import CaptionBotError, shortened
from captionbot.explain import counterfactuals as explore
from captionbot.explain.counterfactuals import END, LENGTHS, of_length
from captionbot.images.load import load_image
from captionbot.pages.limits import checked_text
from captionbot.pages.presenters import truth
from captionbot.pages.presenters.judgement import band
from captionbot.pages.presenters.seen import Seen, probability
from captionbot.pages.samples import FAILS, sample_photos
from captionbot.pages.work import Asked, Box, PartlyHidden, boxes_looked_at
from captionbot.search.options import SearchOptions
from captionbot.text.display import percent, sentence
from captionbot.text.tokenizer import tokenize
from captionbot.types import Caption

Looked = TypeVar("Looked", bound=Seen)  # a page's own kind of it

MOST_BOXES = 1_024  # of one question: a brush makes a box of every run of cells
THUMBNAIL = 128  # pixels
PHOTO = {
    "tools": "Hide a part of the photo",
    "rectangle": "Hide a rectangle",
    "brush": "Hide with a brush",
    "only": "Show only this",
    "whole": "Whole photo again",
    "how": "Drag over the photo. With the keyboard: arrows, Shift with arrows, Enter.",
    "drop": "Leave out",
    "upload": "Upload a photo",
    "camera": "Camera",
    "take": "Take the photo",
    "link": "Link",
    "address": "https://…",
    "fetch": "Open",
    "samples": "Samples",
    "fails": "where it fails",
    "nocamera": "There is no camera here, or it may not be used.",
    "skip": "Skip to the photo",
}
TOUR = {
    "title": "A tour of the page",
    "next": "Next",
    "skip": "Skip the tour",
    "done": "Done",
    "again": "Tour",
    "steps": [
        {
            "at": ".cb-frame",
            "text": "A minute’s tour. The light on the photo is where the model looked as it said a word.",
        },
        {
            "at": ".cb-words",
            "text": "Point at a word, or tap it: its light comes on. Click it to say something else, and the "
            "sentence goes on from there.",
        },
        {
            "at": ".cb-photo [role=toolbar]",
            "text": "Hide a part of the photo, and see which words leave the sentence.",
        },
        {
            "at": ".cb-sources",
            "text": "Drop in a photo of your own, or try a sample. One of them shows where the model fails.",
        },
        {
            "at": "[role=tablist]",
            "text": "There is more: other captions, the search for the sentence, what each word needs of the "
            "photo, other captioners, and a short clip to share.",
        },
    ],
}
GIVEN = "Given as the beginning, not chosen by the model."
EDITED, HIDDEN = "Edited. Before:", "Part of the photo is hidden. Before:"
USUAL = LENGTHS[1]
STRANGE = "The page sent something that it never sends: reload it and try again."


@dataclass(frozen=True)
class Touched:
    """What a visitor did to a photo and its caption.

    boxes, only: what of the photo is hidden, as of `PartlyHidden`. gone: detected boxes that are left out.
    begun: words that the sentence begins with; never: words that it avoids; length: one of LENGTHS.
    """

    boxes: tuple[Box, ...] = ()
    only: bool = False
    gone: tuple[int, ...] = ()
    begun: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    length: str = USUAL

    @property
    def edited(self) -> bool:
        return bool(self.begun or self.never or self.length != USUAL)

    @property
    def hides(self) -> bool:
        return bool(self.boxes or self.gone)

    def asked(self, asked: Asked) -> Asked:
        """The question with what is hidden."""
        photo = PartlyHidden(asked.photo, self.boxes, self.only) if self.boxes else asked.photo
        return replace(asked, photo=photo, places=self.gone)

    def after(self, event: str, value: Any, seen: Seen) -> Touched:
        """The same once a visitor did something; CaptionBotError where no page sends that."""
        try:
            if event == "hide":
                boxes = tuple(_box(box) for box in value["boxes"][: MOST_BOXES + 1])
                if len(boxes) > MOST_BOXES:
                    raise ValueError
                return Touched(boxes, bool(value["only"]))
            if event == "drop":
                places = tuple(sorted({_place(place, len(seen.caption.boxes)) for place in value}))
                return Touched(gone=places)
            if event == "edit":
                t, text = _place(value["t"], len(seen.words)), checked_text(value["text"], "Your words")
                words = (END,) if text == END else tuple(tokenize(text))
                return replace(self, begun=(*seen.words[:t], *words))
            if event == "never":
                t = _place(value, len(seen.words))
                return replace(self, begun=tuple(seen.words[:t]), never=(*self.never, seen.words[t])[-8:])
            if event == "length" and value in LENGTHS:
                return replace(self, length=value)
            if event == "undo":
                return replace(self, begun=(), never=(), length=USUAL) if self.edited else Touched()
        except (KeyError, IndexError, TypeError, ValueError):
            pass
        raise CaptionBotError(STRANGE)


UNTOUCHED = Touched()


def _box(given: Any) -> Box:
    left, top, right, bottom = (float(edge) for edge in given)
    if not (0 <= left < right <= 1.001 and 0 <= top < bottom <= 1.001):
        raise ValueError
    return left, top, min(right, 1.0), min(bottom, 1.0)


def _place(given: Any, among: int) -> int:
    if isinstance(given, bool) or int(given) != given or not 0 <= given < among:
        raise ValueError
    return int(given)


def after(seen: Looked, touched: Touched) -> Looked:
    """What a visitor looks at once that was done; CaptionBotError where a word is not known."""
    asked = touched.asked(seen.asked)
    if touched.hides:
        seen = replace(seen, asked=asked, captioned=seen.work.caption(asked), rank=0, edited=None)
    if touched.edited:
        asked = replace(asked, settings=replace(asked.settings, options=_options(seen, touched)))
        seen = replace(seen, edited=seen.work.steer(asked, touched.begun, touched.never))
    return seen


def _options(seen: Seen, touched: Touched) -> SearchOptions:
    """The search for a sentence of the length that is asked for."""
    vocabulary = seen.work.vocabulary(seen.model)
    begun = vocabulary.ids_of(vocabulary.join(word for word in touched.begun if word != END))
    return of_length(seen.options, touched.length, len(seen.caption.token_ids), len(begun))


def empty(**sources: Any) -> dict[str, Any]:
    """The canvas without a photo."""
    return canvas.photo(Image.new("RGB", (3, 2), "#8884"), "", PHOTO, **sources)


def photo(seen: Seen, touched: Touched, **sources: Any) -> dict[str, Any]:
    """The photo with what is hidden of it, and the boxes of a captioner that describes boxes.

    seen: of the whole photo, before anything was hidden. sources: as of `canvas.photo`.
    """
    return canvas.photo(
        seen.shown,
        sentence(seen.caption.text),
        PHOTO,
        tour=TOUR,
        boxes=touched.boxes,
        only=touched.only,
        places=_boxes(seen.captioned.captions[0], touched.gone),
        **sources,
    )


def _boxes(caption: Caption, gone: tuple[int, ...]) -> list[dict[str, Any]]:
    """The detected boxes, without the one that is the whole photo: it would cover all others."""
    from captionbot.encoders.regions import WHOLE_IMAGE  # with torch, which the first caption has loaded

    found = canvas.detected(caption, gone)
    shown = [label != WHOLE_IMAGE for label in caption.labels or ()]
    return [box | {"place": place} for place, box in enumerate(found) if shown[place]]


def words(
    seen: Seen, before: Caption | None = None, touched: Touched = UNTOUCHED, expert: bool = False
) -> dict[str, Any]:
    """The sentence with a map for each word, and what stands beside it.

    before: the caption without what the visitor did, which is `touched`.
    """
    caption, looked = seen.caption, seen.looked
    judged = band(caption, seen.work.captioners())
    said = [_said(seen, t, expert) for t in range(len(seen.words))]
    changed = explore.compare([word.text for word in before.words], seen.words).after if before else ()
    found = seen.work.known_needs(seen.model, seen.photo, caption)
    needed: dict[str, Any] = {}
    if found is not None:
        needed["marks"] = [sign.mark for sign in truth.marked(found)]
        if seen.attends:
            needed["needs"] = found.on(caption)
            needed["need_sentences"] = [truth.says(found, t) for t in range(len(seen.words))]
    record = canvas.words(looked, said, seen.rivals, changed=changed, **needed)
    number = judged.number if expert else ""
    if expert:
        number = f"{number} · log-probability {caption.log_prob:.2f}"
    given = _given(seen)
    for t, one in enumerate(record["words"]):
        if t < given:
            one |= {"given": True, "says": f"{GIVEN} {one['says']}"}
        one["rivals"] = [pair for pair in one["rivals"] if t or pair[0] != END]
        one["places"] = [[round(edge, 4) for edge in box] for box in boxes_looked_at(looked, t)]
    record |= {
        "says": SENTENCE,
        "said": judged.sentence,
        "lead": _lead(judged.sentence, caption),
        "band": {
            "kind": judged.kind,
            "name": judged.name,
            "note": " ".join(filter(None, (judged.reason, judged.general, judged.stronger))),
        }
        if judged.kind
        else None,
        "doubtful": judged.doubtful_word,
        "number": number,
        "help": judged.help,
        "expert": expert,
        "length": touched.length,
        "look": canvas.look(seen.look),
    }
    if found is not None:
        record["spots"] = truth.spots(found, caption)
    if before is not None:
        record |= {"edits": HIDDEN if touched.hides else EDITED, "before": sentence(before.text)}
    return record


def _given(seen: Seen) -> int:
    """How many of the first words the model was told to begin with, and so did not choose."""
    if not seen.asked.settings.prefix:
        return 0
    return len(seen.work.vocabulary(seen.model).split(seen.asked.settings.prefix))


def _lead(said: str, caption: Caption) -> str:
    """What stands before the caption's own words, such as "Perhaps"."""
    text = caption.text.strip()
    return said[: said.lower().rindex(text.lower())].strip() if text and text.lower() in said.lower() else ""


def _said(seen: Seen, t: int, expert: bool) -> str:
    """What is said of word t as its map is shown."""
    if not expert:
        return seen.where(t)
    return f"{seen.where(t)} Its probability was {percent(probability(seen.caption.words[t]))}."


def sources(uploader: str, sample: str = "", url: str = "") -> dict[str, Any]:
    """Where other photos come from. uploader: a CSS selector of the page's own input for files."""
    return {"uploader": uploader, "samples": _samples(), "sample": sample, "url": url}


@cache
def _samples() -> list[dict[str, Any]]:
    found = []
    for name, path in sample_photos().items():
        image = load_image(path)
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        small = fit(image.crop((left, top, left + side, top + side)), THUMBNAIL)
        fails = name == FAILS
        label = f"{name}, {PHOTO['fails']}" if fails else name
        found.append({"name": name, "src": data_url(small), "label": label, "fails": fails})
    return found


def event(given: Any) -> tuple[str, Any]:
    """An event of a browser, as its name and value."""
    if isinstance(given, Mapping) and isinstance(given.get("event"), str):
        return given["event"], given.get("value")
    raise CaptionBotError(f"{shortened(given)} is no event of this page: reload it and try again.")
