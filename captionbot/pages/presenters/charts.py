"""A measurement as a picture, with its text and with its numbers as a table, in HTML for both pages."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

from captionbot.draw.files import data_url
from captionbot.pages.presenters.seen import Table

NUMBERS = "The numbers"
_STYLE = """<style>
.chart { margin: 0; max-width: 44rem; min-width: 0; }
.chart figcaption { font-size: 1.1rem; font-weight: 600; margin-bottom: 0.35rem; }
.chart img { width: 100%; margin: 0; border-radius: 0; }
.chart p { font-size: 0.875rem; margin: 0.35rem 0; }
.chart summary { cursor: pointer; font-size: 0.875rem; }
.chart details > div { overflow-x: auto; }
.chart table { border-collapse: collapse; font-size: 0.8125rem; margin: 0.35rem 0; }
.chart :is(td, th) { border: 0; padding: 0.15rem 0.75rem 0.15rem 0; text-align: left; white-space: nowrap; }
</style>"""


class Chart(NamedTuple):
    """text: what a screen reader says of the picture; note: how it is to be read; table: its numbers."""

    title: str
    svg: str
    text: str
    note: str
    table: Table


def html(chart: Chart) -> str:
    return (
        f'{_STYLE}<figure class="chart"><figcaption>{escape(chart.title)}</figcaption>'
        f'<img src="{data_url(chart.svg)}" alt="{escape(chart.text)}">'
        f"<p>{escape(chart.note)}</p>"
        f"<details><summary>{NUMBERS}</summary><div>{_table(chart.table)}</div></details></figure>"
    )


def _table(table: Table) -> str:
    heads = "".join(f'<th scope="col">{escape(title)}</th>' for title in table.titles)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.written)
    return f"<table><tr>{heads}</tr>{rows}</table>"
