"""From a run directory to tables, plots and a page: :func:`.write.write_report`. Only here: matplotlib, jinja2.

A run needs neither of them: they are the extra ``report``.
"""

from importlib.util import find_spec

EXTRA = ("jinja2", "matplotlib")
CURE = "pip install 'ddmd-mpi[report]'"


def lacking() -> list[str]:
    """What is not installed of the libraries that a report needs."""
    return [name for name in EXTRA if find_spec(name) is None]
