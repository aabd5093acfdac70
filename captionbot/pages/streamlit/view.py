"""The few ways in which all views show what presenters say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import streamlit as st
from PIL import Image
from streamlit.runtime.scriptrunner import add_script_run_ctx, get_script_run_ctx

from captionbot.pages.lessons import Lesson
from captionbot.pages.presenters.seen import SAME, Column, Seen, Side, Sides, Table
from captionbot.pages.presenters.share import File
from captionbot.text.display import plain


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


def choose_one_word(seen: Seen, label: str, key: str) -> int:
    """A word of the caption, by default the one that is chosen above."""
    words = labels(seen.words)
    return st.selectbox(
        label,
        range(len(words)),
        index=seen.word,
        format_func=words.__getitem__,
        key=f"{key} of {seen.caption.text} {seen.t}",
    )


def side_by_side(sides: Sides) -> None:
    for column, side in zip(st.columns(2), (sides.before, sides.after), strict=True):
        with column, st.container(border=True):
            st.caption(side.title)
            st.markdown(f"##### {marked(side)}")
            st.caption(side.measures)
    if not sides.changed:
        st.caption(SAME)


def marked(side: Side) -> str:
    """The sentence in Markdown, its changed words on a coloured ground."""
    words = [(plain(word), changed) for word, changed in side.words]
    words[0] = words[0][0][:1].upper() + words[0][0][1:], words[0][1]
    return " ".join(f":violet-background[**{word}**]" if changed else word for word, changed in words)


def downloads(files: Sequence[File], **options: Any) -> None:
    """Files that are made once they are asked for."""
    for file in files:
        st.download_button(
            file.label,
            _in_this_session(file.make),
            file.name,
            file.mime,
            icon=":material/download:",
            on_click="ignore",
            key=f"download {file.mime}",
            **options,
        )


def _in_this_session(make: Callable[[], Any]) -> Callable[[], Any]:
    """Streamlit makes files in a thread of no session, where a visitor's own captioner is unknown."""
    context = get_script_run_ctx()

    def made() -> Any:
        with ThreadPoolExecutor(1, initializer=add_script_run_ctx, initargs=(None, context)) as threads:
            return threads.submit(make).result()

    return made


def table(table: Table) -> None:
    """A table of values, which can be sorted and searched."""
    titles = labels(table.titles)
    st.dataframe(
        {
            title: [100 * row[i] if column.share and row[i] is not None else row[i] for row in table.rows]
            for i, (title, column) in enumerate(zip(titles, table.columns, strict=True))
        },
        hide_index=True,
        column_config={title: _config(column) for title, column in zip(titles, table.columns, strict=True)},
        alt=table.text,
    )


def _config(column: Column) -> Any:
    if column.picture:
        return st.column_config.ImageColumn(width="small")
    if not column.share and column.digits is None:
        return st.column_config.Column()
    form = f"%.{column.digits}f" if column.digits is not None else "%.0f%%"
    if column.bar is None:
        return st.column_config.NumberColumn(format=form)
    top = 100 * column.bar if column.share else column.bar
    return st.column_config.ProgressColumn(format=form, min_value=0, max_value=top, width="small")


def lesson(lesson: Lesson | None) -> None:
    """An explanation, where there is one."""
    if lesson is not None:
        with st.expander(lesson.title, icon=":material/school:"):
            st.markdown(lesson.text)
            st.latex(lesson.maths)
            if lesson.source:
                st.caption(lesson.source)
