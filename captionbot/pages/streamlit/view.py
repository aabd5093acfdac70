"""What every view is shown, and the few ways in which all of them show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import streamlit as st
from PIL import Image

from captionbot.draw import render
from captionbot.draw.render import Look, plain
from captionbot.explain import counterfactuals as explore
from captionbot.pages.resident import sharpest
from captionbot.pages.streamlit import work
from captionbot.pages.streamlit.work import Asked, Photo
from captionbot.types import Caption, Captioned

CONFIDENCE_HELP = (
    "How sure the model is of its wording: the geometric mean of the probabilities of the words. "
    "It is not the chance that the caption is true."
)


@dataclass(frozen=True)
class View:
    """A photo with its captions, and what of them was chosen.

    shown: the photo at display size.
    rank: the place of the chosen caption, 0 the best.
    t: the chosen word, None where there is none.
    """

    asked: Asked
    shown: Image.Image
    captioned: Captioned
    rank: int
    t: int | None
    look: Look

    @property
    def caption(self) -> Caption:
        return self.captioned.captions[self.rank]

    @cached_property
    def attends(self) -> bool:
        """Whether the captioner tells places of the photo apart by itself."""
        decoder = work.load_captioner(self.asked.settings.model).decoder
        return decoder.attends and len(self.caption.boxes) > 1

    @property
    def looked(self) -> Caption:
        """The caption whose alphas are drawn: its own, or the occlusion maps of one without attention."""
        if self.attends:
            return self.caption
        return work.occlusion(self.photo, self.asked.settings.model, self.caption)

    def where(self, t: int) -> str:
        """What the drawing of word t shows."""
        word = self.caption.words[t].text
        if self.attends:
            return f"Where the model looked for “{word}”."
        return f"Where hiding a piece makes “{word}” less likely."

    @property
    def photo(self) -> Photo:
        return self.asked.photo

    @property
    def words(self) -> list[str]:
        return [word.text for word in self.caption.words]


def show(picture: Image.Image | bytes | str, alt: str, width: Any) -> None:
    """A photo, sent as JPEG, or the bytes of an animation or a data URL as they are."""
    kind: Literal["auto", "JPEG"] = "JPEG" if isinstance(picture, Image.Image) else "auto"
    st.image(picture, width=width, output_format=kind, alt=alt)


def within(picture: Image.Image, height: int = 420) -> int:
    """The width at which a picture is at most so many pixels high; a narrow page makes it smaller."""
    return max(1, round(height * picture.width / picture.height))


def labels(texts: Sequence[str]) -> list[str]:
    """Texts as labels of choices. Streamlit tells choices apart by their labels, and a sentence may well
    say a word twice, so every repetition carries one more invisible word joiner."""
    return [plain(text) + "\u2060" * list(texts[:index]).count(text) for index, text in enumerate(texts)]


def choose_one_word(view: View, label: str, key: str) -> int:
    """A word of the caption, by default the one that is chosen above, else `sharpest`."""
    words = labels(view.words)
    return st.selectbox(
        label,
        range(len(words)),
        index=sharpest(view.caption) if view.t is None else view.t,
        format_func=words.__getitem__,
        key=f"{key} of {view.caption.text} {view.t}",
    )


def side_by_side(before: Caption, after: Caption, titles: tuple[str, str]) -> None:
    """Two captions with the words marked in which they differ."""
    change = explore.compare(*([word.text for word in caption.words] for caption in (before, after)))
    flags = change.before, change.after
    for column, title, caption, changed in zip(st.columns(2), titles, (before, after), flags, strict=True):
        with column, st.container(border=True):
            st.caption(title)
            st.markdown(f"##### {marked(caption, changed)}")
            st.caption(
                f"Confidence {render.percent(caption.confidence)} · log-probability {caption.log_prob:.1f}"
            )
    if not change:
        st.caption("Nothing changed: the model says the same.")


def marked(caption: Caption, changed: Sequence[bool]) -> str:
    """The sentence in Markdown, its changed words on a coloured ground."""
    words = [plain(word.text) for word in caption.words]
    words[0] = words[0][:1].upper() + words[0][1:]
    return " ".join(
        f":violet-background[**{word}**]" if flag else word for word, flag in zip(words, changed, strict=True)
    )
