"""A run over two hosts that a signal ends, and that is resumed on three."""

import pytest
from checker import lines, problems
from over_hosts import LIMIT, QUICK, Job, Run, begun, good, restarted_on, run_over

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(280)]

TWO_HOSTS, THREE_HOSTS = ("host1", "host2"), ("host1", "host2", "host3")


@pytest.fixture(scope="module")
def sessions(module_box, tmp_path_factory):
    """A run over two hosts that a signal ends, and that is resumed on three: what there was after each session."""
    directory = tmp_path_factory.mktemp("resumed") / "run"
    first = run_over(
        module_box, directory, TWO_HOSTS, 3, "--usecase", "bba-go", sets=QUICK, enough=restarted_on(*TWO_HOSTS)
    )
    found = [(first.summary, problems(directory), len(first.lines("decisions.jsonl")))]
    second = Job(module_box, directory, THREE_HOSTS, 2, "--resume", directory, "--duration", LIMIT)
    second.until(
        lambda: (
            Run(directory).shows("session") == 1
            and begun(directory)
            and len(lines(directory / "decisions.jsonl")) > found[0][2]
        )
    )
    second.signal("simulation", "TERM")
    ended = good(second.ended())
    found.append((ended.summary, problems(directory), len(ended.lines("decisions.jsonl"))))
    return ended, found


def test_a_signal_on_one_host_stops_the_run_on_all(sessions):
    summary, wrong, _ = sessions[1][0]
    assert wrong == []
    assert (summary["stop_reason"], summary["sessions"]) == ("SIGTERM", 1)


def test_a_run_is_resumed_on_another_number_of_hosts(sessions):
    ended, ((before, _, _), (after, wrong, _)) = sessions
    assert wrong == []
    assert (after["stop_reason"], after["sessions"]) == ("SIGTERM", 2)
    assert ended.hosts("simulation") == ["host1", "host2"]
    assert after["simulation"]["frames"] > before["simulation"]["frames"]
