"""The hosts of the tests in this directory: one box for all of a process, as good as new for each test."""

import pytest
from box import box_of


@pytest.fixture(scope="session")
def hosts():
    """Three hosts; take `box`, which cleans up."""
    with box_of(3) as made:
        yield made


@pytest.fixture(scope="module")
def module_box(hosts):
    """Three hosts for jobs that several tests look at."""
    yield hosts
    hosts.clear()


@pytest.fixture
def box(hosts):
    """Three hosts: ``box.run(("host1", "host2"), 3, "program")``, ``box.cut("host2")`` ..."""
    yield hosts
    hosts.clear()
