"""How tests that run side by side are dealt out to the workers of pytest-xdist."""

import re
from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

TESTS = Path(__file__).parent


class Deal(LoadScopeScheduling):
    """One test at a time, but together those of a module that share what its fixtures have made, and those first.

    Tests on ranks share a job with those of the same module and number of ranks.
    """

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def scope_of(nodeid: str) -> str:
    """What a test has in common with those that must run on the same worker."""
    module = nodeid.partition("::")[0]
    text = text_of(TESTS.parent / module)
    if "from on_ranks import" in text:
        n_ranks = re.search(r"\[(\d+)[-\]]", nodeid)
        return f"{module} on {n_ranks[1]} ranks" if n_ranks else module
    return module if 'scope="module"' in text else nodeid


@cache
def text_of(module: Path) -> str:
    """The source of a module."""
    return module.read_text()
