"""The page: one HTML file with everything in it, plain and printable, light and dark."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from .structure import Viewer
from .tables import Rows, cell

#: The page with places for what it says.
TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class Picture:
    """A figure of the page; without a path it says that there is no data, and why if it is known."""

    heading: str
    caption: str
    path: Path | None
    reason: str = ""
    viewer: Viewer | None = None


@dataclass(frozen=True)
class Table:
    """A table of the page, and the file that holds all of it."""

    heading: str
    rows: Rows
    link: str
    note: str = ""

    @property
    def numeric(self) -> set[str]:
        """Columns of numbers."""
        return {k for k in self.rows[0] if all(isinstance(r[k], int | float | None) for r in self.rows)}


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
        environment = Environment(autoescape=True, undefined=StrictUndefined)
        environment.filters |= {"base64": _base64, "short": short}
        return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(page=self) + "\n"


def _base64(path: Path) -> str:
    """The content of a file as text."""
    return base64.b64encode(path.read_bytes()).decode("ascii")


def short(value: object) -> str:
    """One value for the eye: four digits."""
    return f"{value:.4g}" if isinstance(value, float) and value == value else cell(value)
