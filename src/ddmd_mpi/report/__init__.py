"""From a run directory to tables, plots and a page; the only room that imports matplotlib."""

from .write import write_report

__all__ = ["write_report"]
