"""The cluster in a box is one: hosts of their own names and memories, joined by nothing but links."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from box import require, until

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(120)]

HERE = Path(__file__).parent
TWO_HOSTS = ("host1", "host2")


@pytest.fixture(scope="module")
def told(module_box):
    """What two ranks on two hosts have found: words by their names."""
    done = module_box.run(TWO_HOSTS, 1, sys.executable, HERE / "box_ranks.py")
    return dict(re.findall(r"(\w+)=(\S.*?)(?= \w+=|$)", done.out, re.MULTILINE)), done


def test_ranks_on_two_hosts_are_on_two_nodes(told):
    words, _ = told
    assert words["hosts"] == "host1,host2"
    assert (words["nodes"], words["ranks_per_node"]) == ("(0, 1)", "1")


def test_a_message_goes_over_the_wire_and_not_through_memory(told):
    words, done = told
    assert 2_000_000 < int(words["n_bytes"]) < 2_600_000
    assert min(done.n_bytes.values()) > 5_000_000, "each host has passed on three messages of 2, 2 and 1 MB"


def test_a_link_has_a_rate(told):
    """2 MB take 0.8 s at 20 Mbit/s, whatever else the machine does."""
    words, _ = told
    assert float(words["slow"]) > 0.6
    assert float(words["quick"]) < 0.5 * float(words["slow"])


def test_nothing_passes_a_link_that_is_cut_until_it_is_mended(told):
    words, _ = told
    assert (words["cut"], words["mended"]) == ("False", "True")


def test_hosts_share_files_but_no_memory(box, tmp_path):
    script = "hostname; pwd; echo here >/dev/shm/mine; echo here >$TMPDIR/mine; ls /dev/shm $TMPDIR; hostname -i"
    box.start("host2", "sh", "-c", "echo there >/dev/shm/yours; echo there >$TMPDIR/yours").communicate(timeout=30)
    out, err = box.start("host1", "sh", "-c", script).communicate(timeout=30)
    assert out.split()[:2] == ["host1", os.getcwd()], err
    assert out.count("mine") == 2
    assert "yours" not in out
    assert out.split()[-1] == "10.77.0.1"


def test_all_processes_of_a_host_are_killed_and_those_of_others_are_not(box):
    jobs = [box.start(host, "sleep", "100") for host in TWO_HOSTS]
    until(lambda: all(box.processes(host) for host in TWO_HOSTS))
    box.kill("host2")
    assert box.processes("host2") == []
    assert jobs[1].wait(10) != 0
    assert jobs[0].poll() is None


def test_nothing_is_left_of_a_box_whose_test_was_killed():
    require()
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]; from box import Box; box = Box(2);"
        "box.start('host1', 'setsid', 'sleep', '1000'); print(box.first_process, box.directory, flush=True);"
        "import time; time.sleep(100)"
    )
    command = [sys.executable, "-c", program, HERE, HERE.parent]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        first, directory = owner.stdout.readline().split()
        until(lambda: _children(first) >= 2)
        namespace = os.readlink(f"/proc/{first}/ns/pid")
        assert len(_processes_in(namespace)) >= 3
        owner.send_signal(signal.SIGKILL)
    until(lambda: not _processes_in(namespace) and not Path(directory).exists(), 20)


def _children(pid):
    return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def _processes_in(namespace):
    found = []
    for path in Path("/proc").glob("[0-9]*/ns/pid"):
        try:
            found += [path] if os.readlink(path) == namespace else []
        except OSError:
            continue
    return found
