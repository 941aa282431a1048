"""The routes in docs/architecture.md are those of the code: short, and every step where the table says."""

import re
from pathlib import Path

import pytest

import ddmd_mpi

SOURCE = Path(ddmd_mpi.__file__).parent
PAGE = Path(__file__).parents[3] / "docs" / "architecture.md"


def steps(title):
    """(files, functions) of each row of the table under a heading that names a file."""
    section = PAGE.read_text().split(f"### {title}\n")[1].split("\n#")[0]
    rows = [row.split("|")[2:4] for row in section.splitlines() if row.startswith("|") and ".py" in row]
    return [(re.findall("`(.+?)`", files), re.findall("`(.+?)`", functions)) for files, functions in rows]


@pytest.mark.parametrize(("title", "most"), [("The route of a frame block", 12), ("The route of a restart command", 8)])
def test_a_route_is_short_and_true(title, most):
    route = steps(title)
    assert 6 <= len({files[0] for files, _ in route}) <= most
    for files, functions in route:
        for file in files:
            source = (SOURCE / file).read_text()
            for function in functions:
                owner, _, name = function.rpartition(".")
                assert f"def {name}(" in source, (file, function)
                assert len(files) > 1 or not owner or f"class {owner}" in source, (file, function)
