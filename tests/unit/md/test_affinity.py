"""A rank binds itself to one core, and leaves alone what the launcher has bound."""

import os
import threading

import pytest

from ddmd_mpi.md.affinity import my_cores, on_cores, stay_on_one_core

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot bind threads")


def in_a_thread(function):
    """Result of `function` in a thread of its own, whose binding ends with it."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_ranks_take_their_cores_in_turn():
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        pytest.skip("one core only")

    def bound(index):
        return stay_on_one_core(index), os.sched_getaffinity(0)

    for index in range(len(cores) + 1):
        core = cores[index % len(cores)]
        assert in_a_thread(lambda index=index: bound(index)) == (core, {core})
    assert os.sched_getaffinity(0) == set(cores)


def test_a_bound_rank_stays_where_it_is():
    first = min(os.sched_getaffinity(0))

    def twice():
        os.sched_setaffinity(0, {first})
        return stay_on_one_core(1), os.sched_getaffinity(0)

    assert in_a_thread(twice) == (None, {first})


def test_a_bound_rank_may_borrow_all_cores():
    cores = my_cores()

    def borrowed():
        stay_on_one_core(0)
        bound = my_cores()
        with on_cores(cores):
            inside = my_cores()
        with on_cores(None):
            pass
        return len(bound), inside, my_cores() == bound

    assert in_a_thread(borrowed) == (1, cores, True)
