"""Photos by captioners: what each says of each, where they differ, how long it takes, where they look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from html import escape

from PIL import Image

from captionbot.draw.files import data_url
from captionbot.draw.overlays import LOOK, Look, fit, word_overlay
from captionbot.errors import CaptionBotError, shortened
from captionbot.explain.maps import WordMaps
from captionbot.pages.presenters.results import PEOPLE
from captionbot.pages.presenters.seen import Picture, Seen, are_nouns, where
from captionbot.pages.results import written_of
from captionbot.pages.samples import sample_photos
from captionbot.pages.work import Photo, PhotoFile, Settings, Work, display
from captionbot.text.display import sentence
from captionbot.text.judgement import NAMES, measure, said
from captionbot.text.parts_of_speech import parts_of_speech
from captionbot.types import Caption

TITLE = "Compare"
LEAST, MOST, FIRST = 2, 4, 3
MORE_PHOTOS = 3  # beside the visitor's own
CAPTIONERS = f"Captioners, {LEAST} to {MOST}"
CAPTIONERS_HELP = (
    "Each searches as its own card says. They are loaded one after the other, so that they need the memory "
    "of one."
)
PHOTOS, PHOTOS_HELP = "Samples beside your photo", f"Up to {MORE_PHOTOS}, each by all these captioners."
BUTTON = "Compare"
WORD = "Attention map for"
ALONE = "Only one captioner is here. Put another one's card and weights into the folder of weights."
WHOLE = "Without attention of its own: where hiding a piece makes the word less likely."
MARKS = "that no other captioner says of this photo", "that some do"
WARM = "Seconds are from a photo's bytes to its captions, of a captioner that is loaded and warm."
NOT_ASKED = "Not asked"
YOURS = "Your photo"
WIDTH = 320  # pixels of a photo in a card
_STYLE = """<style>
.compared { display: grid; gap: 0.75rem; }
.compared h4 { font-size: 1rem; margin: 0; padding: 0; }
.compared .row { display: grid; gap: 0.75rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 9rem), 1fr)); }
.compared article { border: 1px solid color-mix(in srgb, currentColor 22%, transparent);
  border-radius: 0.7rem; padding: 0.7rem; min-width: 0; }
.compared h5 { font-size: 0.875rem; font-weight: 600; margin: 0 0 0.5rem; padding: 0; }
.compared img { width: 100%; max-height: 20rem; object-fit: contain; border-radius: 0.5rem; margin: 0; }
.compared p { margin: 0.4rem 0 0; }
.compared ul { margin: 0; padding-left: 1.1rem; font-size: 0.875rem; }
.compared .said { margin: 0 0 0.5rem; font-size: 1.05rem; font-weight: 600; line-height: 1.35; }
.compared .note { font-size: 0.8125rem; opacity: 0.8; }
.compared mark { color: inherit; border-radius: 0.25em; padding: 0 0.12em;
  background: color-mix(in srgb, #d97706 32%, transparent); }
.compared u { text-decoration: underline dotted #d97706 2px; text-underline-offset: 0.2em; }
.compared .coming { border-style: dashed; min-height: 7rem; }
.compared [aria-busy=true] { animation: compared 1s ease-in-out infinite alternate; }
.compared progress { width: 100%; height: 0.5rem; accent-color: #4f46e5; }
@keyframes compared { to { opacity: 0.55; } }
@media (prefers-reduced-motion: reduce) { .compared [aria-busy=true] { animation: none; } }
</style>"""


@dataclass(frozen=True)
class Answer:
    """What one captioner said of one photo.

    best: its best caption. seconds: from the photo's bytes to its captions, once it is warm.
    maps: what its words rest on, None until that is measured, of a captioner without attention.
    """

    title: str
    best: Caption
    seconds: float
    maps: WordMaps | None = None

    @property
    def attends(self) -> bool:
        """Whether what is drawn is its own attention."""
        return self.maps is not None and self.maps.method == "attention"

    @property
    def words(self) -> list[str]:
        return [word.text for word in self.best.words]

    @property
    def headline(self) -> str:
        return said(self.best)

    @property
    def measures(self) -> str:
        judged = NAMES[self.best.judgement.band] if self.best.judgement else ""
        return " · ".join(filter(None, (f"{self.seconds:.2f} s", judged, measure(self.best))))

    def picture(self, shown: Image.Image, word: str, look: Look = LOOK) -> Picture:
        """What the word rests on; the photo alone where the captioner does not say it."""
        if word not in self.words:
            return Picture(shown, f"{self.title} does not say “{word}”.")
        if self.maps is None:
            return Picture(shown, f"What “{word}” of {self.title} needs is not measured yet.")
        drawn = word_overlay(shown, self.maps.on(self.best), self.words.index(word), look)
        return Picture(drawn, f"{self.title}: {where(word, self.attends)}")


@dataclass(frozen=True)
class Compared:
    """Photos by captioners, as far as they have answered.

    photos: names, and the photos at the width of a card; titles: of the captioners.
    people: what people wrote of each photo, where that is known.
    answers: by the places of photo and captioner. doing: what is worked on, "" once all is done.
    share: how much is done.
    """

    photos: tuple[tuple[str, Image.Image], ...]
    titles: tuple[str, ...]
    people: tuple[tuple[str, ...], ...]
    answers: dict[tuple[int, int], Answer] = field(default_factory=dict)
    doing: str = ""
    share: float = 0.0

    def with_answer(self, photo: int, model: int, answer: Answer) -> Compared:
        return replace(self, answers=self.answers | {(photo, model): answer})

    def of_photo(self, photo: int) -> dict[int, Answer]:
        """The answers on a photo, by the place of the captioner."""
        return {model: answer for (of, model), answer in self.answers.items() if of == photo}

    @property
    def words(self) -> list[str]:
        return shared_words([answer.words for answer in self.answers.values()])


def to_compare(work: Work, models: Sequence[str]) -> list[str]:
    """Names, once they are known to be as many different ones as can be compared."""
    names = list(dict.fromkeys(models))
    if not LEAST <= len(names) <= MOST:
        raise CaptionBotError(
            f"{len(names)} captioners were named; choose {LEAST} to {MOST} of {', '.join(work.captioners())}."
        )
    return names


def photos(seen: Seen, samples: Sequence[str] = ()) -> list[tuple[str, Photo, Image.Image]]:
    """The visitor's photo and samples by their names, each as it is shown."""
    here = sample_photos()
    unknown = next((name for name in samples if name not in here), None)
    if unknown is not None or len(samples) > MORE_PHOTOS:
        given = f"'{shortened(unknown)}' was" if unknown is not None else f"{len(samples)} were"
        raise CaptionBotError(f"{given} chosen; choose up to {MORE_PHOTOS} of {', '.join(here)}.")
    found: list[tuple[str, Photo, Image.Image]] = [(YOURS, seen.photo, fit(seen.shown, WIDTH))]
    for name in dict.fromkeys(samples):
        photo = PhotoFile(here[name].name, here[name].read_bytes())
        found.append((name, photo, fit(display(photo), WIDTH)))
    return found


def present(seen: Seen, models: Sequence[str], samples: Sequence[str] = ()) -> Iterator[Compared]:
    """Photos by captioners, as one captioner after the other answers; last what words rest on, where a
    captioner has no attention of its own."""
    work, chosen = seen.work, photos(seen, samples)
    known = Compared(
        tuple((name, shown) for name, _, shown in chosen),
        tuple(map(work.title, models)),
        tuple(_written(photo) for _, photo, _ in chosen),
    )
    steps = [(p, m, photo, model) for m, model in enumerate(models) for p, (_, photo, _) in enumerate(chosen)]
    later: list[tuple[int, int, Photo, str]] = []
    for done, (p, m, photo, model) in enumerate(steps):
        yield replace(known, doing=asking(work.title(model)), share=done / (len(steps) + len(later)))
        asked = replace(seen.asked, photo=photo, settings=Settings(model, work.usual(model)))
        captioned, seconds = work.timed(asked, warm=p > 0)
        best = captioned.captions[0]
        own = work.maps(model, photo, best) if work.attends(model, best) else None
        if own is None:
            later.append((p, m, photo, model))
        known = known.with_answer(p, m, Answer(work.title(model), best, seconds, own))
    for done, (p, m, photo, model) in enumerate(later, len(steps)):
        yield replace(known, doing=measuring(work.title(model)), share=done / (len(steps) + len(later)))
        answer = known.answers[p, m]
        known = known.with_answer(p, m, replace(answer, maps=work.maps(model, photo, answer.best)))
    yield replace(known, share=1.0)


def _written(photo: Photo) -> tuple[str, ...]:
    with suppress(CaptionBotError):  # which Results tells
        return written_of(photo.name, photo.decode())
    return ()


def asking(title: str) -> str:
    return f"Asking {title}…"


def measuring(title: str) -> str:
    return f"Hiding pieces of the photo to find out what words of {title} need…"


def shared_words(sentences: Sequence[Sequence[str]]) -> list[str]:
    """The words of several sentences: those that most have first, of these nouns, then the longest."""
    nouns = {word: noun for words in sentences for word, noun in zip(words, are_nouns(words), strict=True)}
    common = Counter(word for words in sentences for word in set(words))
    return sorted(nouns, key=lambda word: (-common[word], not nouns[word], -len(word)))


def differing(sentences: Sequence[Sequence[str]]) -> list[list[str]]:
    """How each word of several sentences is marked: "mark" where no other has it, "u" where some have, ""
    where all have it or it is an article."""
    have = Counter(word for words in sentences for word in set(words))

    def kind(word: str, part: str) -> str:
        if part == "determiner" or have[word] == len(sentences):
            return ""
        return "mark" if have[word] == 1 else "u"

    return [
        [kind(word, part) for word, part in zip(words, parts_of_speech(words), strict=True)]
        for words in sentences
    ]


def html(compared: Compared, word: str = "", look: Look = LOOK) -> str:
    """A card for each answer, a row for each photo. word: whose maps are on the photos, "" of none."""
    rows = "".join(
        _row(compared, number, name, shown, word, look)
        for number, (name, shown) in enumerate(compared.photos)
    )
    alone, some = MARKS
    legend = f"Words <mark>marked</mark>: {alone}; <u>underlined</u>: {some}. {escape(WARM)}"
    return f'{_STYLE}<div class="compared">{_progress(compared)}{rows}<p class="note">{legend}</p></div>'


def _progress(compared: Compared) -> str:
    if not compared.doing:
        return ""
    label = escape(compared.doing)
    bar = f'<progress value="{compared.share:.3f}" max="1" aria-label="{label}"></progress>'
    return f'<div><p class="note" role="status">{label}</p>{bar}</div>'


def _row(compared: Compared, number: int, name: str, shown: Image.Image, word: str, look: Look) -> str:
    answers = compared.of_photo(number)
    kinds = dict(zip(answers, differing([answer.words for answer in answers.values()]), strict=True))
    cards = "".join(
        _card(answers[place], kinds[place], answers[place].picture(shown, word, look))
        if place in answers
        else _coming(title, bool(compared.doing))
        for place, title in enumerate(compared.titles)
    )
    heading = f"<h4>{escape(name)}</h4>" if len(compared.photos) > 1 else ""
    return f'{heading}<div class="row">{cards}{_people(compared.people[number])}</div>'


def _people(written: Sequence[str]) -> str:
    if not written:
        return ""
    said = "".join(f"<li>{escape(sentence(text.strip(' .')))}</li>" for text in written)
    return f'<article aria-label="{PEOPLE}"><h5>{PEOPLE}</h5><ul>{said}</ul></article>'


def _card(answer: Answer, kinds: Sequence[str], picture: Picture) -> str:
    title = escape(answer.title)
    whole = "" if answer.maps is None or answer.attends else f'<p class="note">{escape(WHOLE)}</p>'
    return (
        f'<article aria-label="{title}"><h5>{title}</h5>'
        f'<p class="said">{_marked(answer, kinds)}</p>'
        f'<img src="{data_url(picture.image)}" alt="{escape(picture.text)}">'
        f'<p class="note">{escape(answer.measures)}</p>{whole}</article>'
    )


def _coming(title: str, asked: bool) -> str:
    state = 'aria-busy="true"' if asked else ""
    said = "…" if asked else escape(NOT_ASKED)
    return f'<article class="coming" {state}><h5>{escape(title)}</h5><p class="note">{said}</p></article>'


def _marked(answer: Answer, kinds: Sequence[str]) -> str:
    """The sentence with the words that differ marked."""
    text, at, parts = answer.headline, 0, []
    for word, kind in zip(answer.words, kinds, strict=True):
        start = text.lower().find(word.lower(), at)
        if start >= 0:
            end = start + len(word)
            said = escape(text[start:end])
            parts += [escape(text[at:start]), f"<{kind}>{said}</{kind}>" if kind else said]
            at = end
    return "".join([*parts, escape(text[at:])])
