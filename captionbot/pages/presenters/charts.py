"""Measurements as pictures, each with its text and with its numbers as a table, in HTML for both pages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from captionbot.draw.files import data_url
from captionbot.pages.presenters.seen import Table

NUMBERS = "The numbers"
_STYLE = """<style>
.charts { display: grid; gap: 1.5rem 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
.charts figure { margin: 0; max-width: 36rem; min-width: 0; }
.charts figcaption { font-size: 1.1rem; font-weight: 600; margin-bottom: 0.35rem; }
.charts img { width: 100%; margin: 0; border-radius: 0; }
.charts p { font-size: 0.875rem; margin: 0.35rem 0; }
.charts summary { cursor: pointer; font-size: 0.875rem; }
.charts details > div { overflow-x: auto; }
.charts table { border-collapse: collapse; font-size: 0.8125rem; margin: 0.35rem 0; }
.charts :is(td, th) { border: 0; padding: 0.15rem 0.75rem 0.15rem 0; text-align: left; white-space: nowrap; }
</style>"""


class Chart(NamedTuple):
    """text: what a screen reader says of the picture; note: how it is to be read; table: its numbers."""

    title: str
    svg: str
    text: str
    note: str
    table: Table


def html(charts: Sequence[Chart]) -> str:
    """Pictures side by side, or one below the other where that is too narrow."""
    return f'{_STYLE}<div class="charts">{"".join(map(_figure, charts))}</div>' if charts else ""


def _figure(chart: Chart) -> str:
    return (
        f"<figure><figcaption>{escape(chart.title)}</figcaption>"
        f'<img src="{data_url(chart.svg)}" alt="{escape(chart.text)}">'
        f"<p>{escape(chart.note)}</p>"
        f"<details><summary>{NUMBERS}</summary><div>{_table(chart.table)}</div></details></figure>"
    )


def _table(table: Table) -> str:
    heads = "".join(f'<th scope="col">{escape(title)}</th>' for title in table.titles)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.written)
    return f"<table><tr>{heads}</tr>{rows}</table>"
