"""What the site has beyond docs/: references generated from the code, and pages of the root. A hook of mkdocs.yml."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_type_hints

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import TypeAdapter

from ddmd_mpi import config as settings
from ddmd_mpi.cli.commands import cli
from ddmd_mpi.config.dynamics import ComplexRow
from ddmd_mpi.config.values import MOST, Duration

ROOT = Path(__file__).parents[1]
#: Pages of the site that are files outside docs/.
OUTSIDE = {
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "plc-inputs.md": "inputs/plc/README.md",
}
SIGNS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
UNITS = {
    "per_ps": "ps⁻¹",
    "ps": "ps",
    "fs": "fs",
    "ns": "ns",
    "nm": "nm",
    "angstrom": "Å",
    "kelvin": "K",
    "bar": "bar",
    "amu": "u",
    "mb": "MB",
    "seconds": "s",
}
API = """# Python API

This page is generated from the docstrings of `ddmd_mpi.analysis`. [Working with a run](analysis.md) shows how its parts
are used together.

::: ddmd_mpi.analysis

## Markov models

::: ddmd_mpi.analysis.markov_model
"""
ROW = re.compile(r"^\| `(\w+)` \| (.*?) \| (.*) \|$")
HEADING = re.compile(r"^#+ \[+([\w.]+)\]")
LOADS = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?https?:|<link\b(?![^>]*canonical)[^>]*\bhref=["']?https?:"""
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {name: (ROOT / path).read_text() for name, path in OUTSIDE.items()}
    for name, text in {**pages, "command-line.md": command_line(), "api.md": API}.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links lead to pages of the site, and settings say which values they take."""
    markdown = markdown.replace("](docs/", "](").replace("](../docs/", "](")
    for name, path in OUTSIDE.items():
        markdown = markdown.replace(f"](../{path}", f"]({name}").replace(f"]({path}", f"]({name}")
    return with_values(markdown) if page.file.src_uri == "configuration.md" else markdown


def on_page_content(html: str, **_: Any) -> str:
    """Leave out the roles of Sphinx that docstrings have."""
    return re.sub(r":(?:attr|class|data|func|meth|mod):\s*<code>[.~]*", "<code>", html)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site that needs a network."""
    for path in Path(config.site_dir).rglob("*.html"):
        if found := LOADS.search(path.read_text()):
            raise PluginError(f"{path} loads {found[0]}...: the site must need no network")


def command_line() -> str:
    """The page of all commands and their options."""
    parts = ["# Command line", "This page is generated from the program: all commands, with their options."]
    top = click.Context(cli, info_name="ddmd-mpi")
    parts += described(cli, top, "ddmd-mpi")
    for name in cli.list_commands(top):
        command = cli.commands[name]
        parts += described(command, click.Context(command, parent=top, info_name=name), f"ddmd-mpi {name}")
    return "\n\n".join(parts)


def described(command: click.Command, context: click.Context, title: str) -> list[str]:
    """One command: what it does, how it is called, its options."""
    text = (command.help or "").partition("\b")[0].strip()
    usage = " ".join([title, *command.collect_usage_pieces(context)])
    records = [record for p in command.params if (record := p.get_help_record(context))]
    rows = [f"| `{option}` | {cell(meaning)} |" for option, meaning in records]
    return [f"## {title}", text, f"    {usage}", "\n".join(["| option | meaning |", "|---|---|", *rows])]


def with_values(page: str) -> str:
    """The page of all settings, whose tables also have the unit and the range of each, from the schema."""
    lines, section = [], ""
    for line in page.splitlines():
        heading, row = HEADING.match(line), ROW.match(line)
        section = heading[1] if heading else section
        if line == "| key | default | meaning |":
            line = "| key | default | values | meaning |"
        elif lines and lines[-1] == "| key | default | values | meaning |":
            line = "|---|---|---|---|"
        elif row:
            line = f"| `{row[1]}` | {row[2]} | {cell(values(section, row[1]))} | {row[3]} |"
        lines.append(line)
    return "\n".join(lines)


def values(section: str, key: str) -> str:
    """Which values a setting takes, with their unit."""
    kind = ComplexRow if section == "system.complexes" else get_type_hints(settings.Config)[section]
    hint = get_type_hints(kind, include_extras=True)[key]
    if Duration in (hint, *getattr(hint, "__args__", ())):
        return "a duration"
    unit = next((unit for suffix, unit in UNITS.items() if key.endswith(f"_{suffix}")), "")
    return taken(TypeAdapter(kind).json_schema()["properties"][key], f" {unit}" if unit else "")


def taken(schema: dict[str, Any], unit: str = "") -> str:
    """A JSON schema in words."""
    if "anyOf" in schema:
        return " or ".join(taken(s, unit) for s in schema["anyOf"] if s.get("type") != "null")
    if choices := schema.get("enum", [schema["const"]] if "const" in schema else None):
        return ", ".join(f"`{choice}`" for choice in choices)
    kind = schema.get("type", "table")
    if kind in ("integer", "number"):
        return f"{kind} {bounds(schema)}".strip() + unit
    if kind == "array":
        n = schema.get("maxItems")
        return f"list of {f'{n} × ' if n == schema.get('minItems') and n else ''}{taken(schema['items'], unit)}"
    names = {"boolean": "`true` or `false`", "object": "table", "string": "text"}
    return schema.get("format", names.get(kind, kind))


def bounds(schema: dict[str, Any]) -> str:
    """The range of a number, without limits that no number reaches."""
    known = {name: schema[name] for name in SIGNS if abs(schema.get(name, MOST)) < MOST}
    if known.keys() == {"minimum", "maximum"}:
        low, high = known["minimum"], known["maximum"]
        return f"{low:g} to {high:g}" if low != high else f"{low:g}"
    return ", ".join(f"{SIGNS[name]} {limit:g}" for name, limit in known.items())


def cell(text: str) -> str:
    """Text in one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
