"""Tests under mpiexec. The process that collects them needs no MPI of its own."""

import mpi4py
import pytest

mpi4py.rc.initialize = False

from on_ranks import Jobs, kind  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--ranks", type=int, help="run the functions of tests/mpi on so many ranks instead of their own")


def pytest_generate_tests(metafunc):
    """Each function runs on its numbers of ranks, or on the one asked for unless that is too small."""
    if sizes := getattr(metafunc.function, "sizes", ()):
        wanted = metafunc.config.getoption("ranks", None)
        metafunc.parametrize("n", [n for n in (wanted,) if n >= min(sizes)] if wanted else sizes)


def pytest_collection_modifyitems(items):
    """Tests of one kind follow each other, in place of the first of them."""
    kinds = [kind(item) for item in items]
    first = {id(item): kinds.index(k) if k else i for i, (item, k) in enumerate(zip(items, kinds, strict=True))}
    items.sort(key=lambda item: first[id(item)])


@pytest.fixture(scope="module")
def jobs(request, tmp_path_factory):
    """The jobs of ranks of a module."""
    jobs = Jobs(tmp_path_factory.mktemp("ranks"), request.session.items)
    yield jobs
    jobs.free()
