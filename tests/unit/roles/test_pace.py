"""How far walkers may go before inference answers."""

from ddmd_mpi.roles.pace import Pace


def test_a_walker_makes_the_reports_of_a_round_and_waits_for_its_answer():
    pace = Pace(5)
    pace.count(0, 3)
    pace.count(1, 5)
    assert [pace.left(walker) for walker in (0, 1, 2)] == [2, 0, 5]
    pace.answer(1)
    assert [pace.left(walker) for walker in (0, 1)] == [2, 5]


def test_walkers_that_wait_for_nothing_may_make_any_number():
    pace = Pace(None)
    pace.count(0, 10**9)
    assert pace.left(0) > 10**9


def test_after_a_walker_is_retired_nobody_waits():
    pace = Pace(5)
    pace.count(0, 5)
    pace.lift()
    assert pace.left(0) > 10**9
