"""A page of captioned projections, tables and charts: one self-contained HTML file, or one contact sheet."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from napari_vqldm.pictures import Gray, Panel, contact_sheet, png_bytes


@dataclass(frozen=True)
class Picture:
    """Projections of one volume: a title, facts as (name, value), the file it was written to."""

    image: Gray
    title: str
    facts: tuple[tuple[str, str], ...] = ()
    file: str = ""


@dataclass(frozen=True)
class Table:
    """A small table under the pictures of a section; the first column names the row.

    Lines of a cell after the first one are set smaller, below it.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Section:
    """One part of the page. ``missing`` are lines that stand out: why pictures are not there, or what
    makes numbers worth less; ``charts`` are SVG of ours.
    """

    title: str
    text: str
    pictures: tuple[Picture, ...] = ()
    table: Table | None = None
    missing: tuple[str, ...] = ()
    charts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """All of it. ``facts`` are (name, value) about the run, ``notes`` the honest small print."""

    title: str
    lead: str
    sections: tuple[Section, ...]
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = field(default=())


MOST_COLUMNS = 5

STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --ink: #1c1f23; --soft: #5c636b; --line: #dcdee0; --card: #ffffff;
  --accent: #1f6f78; --warn: #8a4b08; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15171a; --ink: #e4e6e8; --soft: #9aa1a9; --line: #2d3136; --card: #1b1e22; --accent: #6fc3cc;
    --warn: #e0a458; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 0 0 .25rem; }
p { max-width: 78ch; margin: .25rem 0 .9rem; }
.lead { font-size: 1.06rem; }
.run { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; margin: 1rem 0 0; padding: .7rem 0; font-size: .86rem;
  border-top: 1px solid var(--line); border-bottom: 1px solid var(--line); }
.run div, .facts div { display: flex; gap: .45em; }
dt { color: var(--soft); white-space: nowrap; } dd { margin: 0; font-variant-numeric: tabular-nums; }
section { margin-top: 2.6rem; }
section > p { color: var(--soft); }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 260px), 1fr)); gap: 18px;
  align-items: start; }
@media (min-width: 1000px) { .grid { grid-template-columns: repeat(var(--columns), 1fr); } }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 6px; overflow: hidden; }
figure img { display: block; width: 100%; height: auto; background: #000; }
figcaption { padding: .6rem .75rem .7rem; }
figcaption strong { display: block; font-size: .95rem; font-weight: 600; }
.facts { margin: .25rem 0 0; font-size: .82rem; line-height: 1.45; }
.file { display: block; margin-top: .3rem; font-size: .76rem; overflow-wrap: anywhere; }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
.missing { color: var(--warn); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; margin-top: 1rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; color: var(--soft); white-space: normal; vertical-align: bottom; }
.more { display: block; font-size: .76rem; color: var(--soft); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 18px; }
.chart { width: 100%; height: auto; background: var(--card); border: 1px solid var(--line); border-radius: 6px; }
.chart text { font-size: 11.5px; fill: var(--soft); } .chart .rule { stroke: var(--line); }
.note { font-size: .82rem; color: var(--soft); margin-top: .4rem; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem; overflow-x: auto;
  font-size: .84rem; line-height: 1.5; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); font-size: .86rem;
  color: var(--soft); }
footer ul { padding-left: 1.1rem; max-width: 82ch; }
"""


def render_html(page: Page) -> str:
    """Return the page as one HTML text with its pictures inside."""
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(page.title)}</title>",
        f"<style>{STYLE}</style>",
        "</head>",
        "<body>",
        "<main>",
        f"<header><h1>{escape(page.title)}</h1>",
        f'<p class="lead">{escape(page.lead)}</p>',
        f'<dl class="run">{_facts(page.facts)}</dl></header>',
        *(_section(section) for section in page.sections),
        "<footer>",
    ]
    if page.notes:
        parts.append(
            "<h2>How to read this page</h2><ul>" + "".join(f"<li>{escape(n)}</li>" for n in page.notes) + "</ul>"
        )
    if page.commands:
        parts.append("<h2>The same by hand</h2><pre>" + escape("\n".join(page.commands)) + "</pre>")
    return "\n".join([*parts, "</footer>", "</main>", "</body>", "</html>", ""])


def render_sheet(page: Page) -> Gray:
    """Return the same pictures as one contact sheet, uint8 (H, W)."""
    rows = []
    for section in page.sections:
        panels = [
            Panel(picture.image, picture.title, tuple(f"{name}: {value}" for name, value in picture.facts))
            for picture in section.pictures
        ]
        heading = section.title if not section.missing else f"{section.title} ({'; '.join(section.missing)})"
        rows.append((heading, panels))
    return contact_sheet(rows, title=page.title)


def _section(section: Section) -> str:
    parts = [f"<section><h2>{escape(section.title)}</h2>", f"<p>{escape(section.text)}</p>"]
    parts += [f'<p class="missing">{escape(line)}</p>' for line in section.missing]
    if section.pictures:
        columns = max(3, min(MOST_COLUMNS, len(section.pictures)))
        figures = "\n".join(_figure(picture) for picture in section.pictures)
        parts.append(f'<div class="grid" style="--columns: {columns}">{figures}</div>')
    if section.charts:
        parts.append('<div class="charts">' + "".join(section.charts) + "</div>")
    if section.table is not None:
        parts.append(_table(section.table))
    return "\n".join([*parts, "</section>"])


def _figure(picture: Picture) -> str:
    height, width = picture.image.shape
    data = base64.b64encode(png_bytes(picture.image)).decode("ascii")
    link = f'<a class="file" href="{escape(picture.file)}">{escape(picture.file)}</a>' if picture.file else ""
    return (
        f'<figure><img src="data:image/png;base64,{data}" width="{width}" height="{height}" '
        f'alt="Maximum projections along z, x and y: {escape(picture.title)}">'
        f"<figcaption><strong>{escape(picture.title)}</strong>"
        f'<dl class="facts">{_facts(picture.facts)}</dl>{link}</figcaption></figure>'
    )


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{note}'


def _cell(text: str) -> str:
    first, *more = text.split("\n")
    return f"<td>{escape(first)}" + "".join(f' <span class="more">{escape(line)}</span>' for line in more) + "</td>"
