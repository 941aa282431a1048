"""The page: one HTML file with everything in it, plain and printable, light and dark."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from .tables import Rows, cell

STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --soft: #52606d; --line: #d9e0e6; --page: #ffffff; --card: #f5f7f9;
  --warn: #fff4d6; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaee; --soft: #a3b0bc; --line: #38434e; --page: #151a1f;
  --card: #1f262d; --warn: #3b3013; --accent: #6cb8e6; } }
body { font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--ink); background: var(--page);
  max-width: 62rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.5rem; margin-bottom: .4rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .3rem; }
p, figcaption, li { max-width: 46rem; } figcaption, .none { color: var(--soft); font-size: .93rem; }
a { color: var(--accent); } code { font-size: .92em; }
.warning { background: var(--warn); border-radius: 6px; padding: .6rem .9rem; max-width: 46rem; margin: .8rem 0; }
.numbers { display: flex; flex-wrap: wrap; gap: .7rem; margin: 1rem 0; }
.numbers div { background: var(--card); border-radius: 6px; padding: .5rem .9rem; }
.numbers b { display: block; font-size: 1.25rem; } .numbers span { color: var(--soft); font-size: .85rem; }
figure { margin: .4rem 0 0; } img { width: 100%; height: auto; background: #fff; border-radius: 6px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--soft); font-weight: 600; } th, td { padding: .2rem .9rem .2rem 0;
  border-bottom: 1px solid var(--line); white-space: nowrap; } td.n, th.n { text-align: right; }
@media print { body { margin: 0; max-width: none; font-size: 11pt; } figure, table, .warning { break-inside: avoid; }
  h2 { break-after: avoid; } details > * { display: block; } }
"""


@dataclass(frozen=True)
class Picture:
    """A figure of the page; without a path it says that there is no data."""

    heading: str
    caption: str
    path: Path | None


@dataclass(frozen=True)
class Table:
    """A table of the page, and the file that holds all of it."""

    heading: str
    rows: Rows
    link: str


@dataclass(frozen=True)
class Page:
    """What the page says, in its order."""

    title: str
    sentences: Sequence[str]
    numbers: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    pictures: Sequence[Picture]
    tables: Sequence[Table]
    links: Sequence[str]

    def html(self) -> str:
        """The page as one HTML document that needs no other file."""
        numbers = "".join(f"<div><b>{escape(v)}</b><span>{escape(n)}</span></div>" for n, v in self.numbers)
        body = [
            f"<h1>{escape(self.title)}</h1>",
            f"<p>{escape(' '.join(self.sentences))}</p>",
            f'<div class="numbers">{numbers}</div>' if numbers else "",
            *(f'<p class="warning">{escape(w)}</p>' for w in self.warnings),
            *(_picture(p) for p in self.pictures),
            *(_table(t) for t in self.tables),
            "<h2>Files</h2><ul>" + "".join(f'<li><a href="{escape(x)}"><code>{escape(x)}</code></a></li>' for x in
                                           self.links) + "</ul>",
        ]  # fmt: skip
        head = (
            '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>{escape(self.title)}</title><style>{STYLE}</style>"
        )
        top = f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n'
        return top + "\n".join(body) + "\n</body></html>\n"


def _picture(picture: Picture) -> str:
    heading = f"<h2>{escape(picture.heading)}</h2>"
    if picture.path is None:
        return heading + '<p class="none">no data</p>'
    data = base64.b64encode(picture.path.read_bytes()).decode("ascii")
    image = f'<img alt="{escape(picture.heading)}" src="data:image/png;base64,{data}">'
    return f"{heading}<figure><figcaption>{escape(picture.caption)}</figcaption>{image}</figure>"


def _table(table: Table) -> str:
    heading = f"<h2>{escape(table.heading)}</h2>"
    if not table.rows:
        return heading + '<p class="none">no data</p>'
    numeric = {k for k in table.rows[0] if all(isinstance(r[k], int | float | None) for r in table.rows)}
    mark = {k: ' class="n"' if k in numeric else "" for k in table.rows[0]}
    head = "".join(f"<th{mark[k]}>{escape(k.replace('_', ' '))}</th>" for k in table.rows[0])
    rows = "".join(
        "<tr>" + "".join(f"<td{mark[k]}>{escape(short(v))}</td>" for k, v in r.items()) + "</tr>" for r in table.rows
    )
    link = f'<p class="none">All of it: <a href="{escape(table.link)}"><code>{escape(table.link)}</code></a></p>'
    return f'{heading}<div class="wide"><table><tr>{head}</tr>{rows}</table></div>{link}'


def short(value: object) -> str:
    """One value for the eye: four digits."""
    return f"{value:.4g}" if isinstance(value, float) and value == value else cell(value)
