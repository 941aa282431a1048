"""Which addresses streams use between hosts that have several, and what is said if hosts do not reach each other."""

import sys
from pathlib import Path

import pytest
from box import open_mpi

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(180)]

HERE = Path(__file__).parent
TWO_HOSTS = ("host1", "host2")
#: Bridges of a host that lead nowhere: one with the same address on every host, and one network that is not connected.
BRIDGES = {"docker0": "172.17.0.1/16", "apart0": "10.78.0.{}/24"}
#: MPI must not use them either. FI_TCP_IFACE, of libfabric, which is not used here, makes docker0 the favourite.
MPI_USES = {"OMPI_MCA_btl_tcp_if_exclude": "lo,docker0,apart0"} if open_mpi() else {"UCX_NET_DEVICES": "eth0"}


def configure(box, *commands):
    """Run `ip` on both hosts; {} is the number of the host."""
    for host in TWO_HOSTS:
        lines = " && ".join(f"ip {command}" for command in commands).format(*[host[-1]] * 10)
        job = box.start(host, "sh", "-c", lines)
        _, err = job.communicate(timeout=30)
        assert job.returncode == 0, err


@pytest.fixture(scope="module")
def told(module_box, tmp_path_factory):
    """What ranks say on hosts with interfaces that lead nowhere, by the first word of each line."""
    configure(
        module_box,
        *(
            f"{command} {name} {rest}"
            for name, address in BRIDGES.items()
            for command, rest in (("link add", "type bridge"), (f"address add {address} dev", ""), ("link set", "up"))
        ),
    )
    try:
        done = module_box.run(
            TWO_HOSTS,
            2,
            sys.executable,
            HERE / "addresses_ranks.py",
            tmp_path_factory.mktemp("s"),
            "docker0",
            "apart0",
            "ib7",
            "10.99.0.0/16",
            FI_TCP_IFACE="docker0",
            **MPI_USES,
        )
    finally:
        configure(module_box, *(f"link delete {name}" for name in BRIDGES))
    return dict(line.split(": ", 1) for line in done.out.splitlines() if ": " in line)


def test_an_interface_that_leads_nowhere_is_not_chosen_and_streams_pass(told):
    assert told["published"] == "10.77.0.1 10.77.0.1 10.77.0.2 10.77.0.2"
    assert told["passed"] == "True"
    for host, address in (("host1", "10.77.0.1"), ("host2", "10.77.0.2")):
        assert f"('address of {host}', True, '{address} (eth0), reached from 1 other host')" in told["check"]


def test_hosts_that_cannot_reach_each_other_are_named_with_the_cure(told):
    said = told["apart0"]
    assert said.startswith("host1 cannot be reached from host2 at 10.78.0.1 (apart0: ")
    assert all(cure in said for cure in ("streams.interface", "TCP", "streams.engine=BP5", "streams.first_hop=mpi"))


def test_two_hosts_with_one_address_are_named(told):
    assert told["docker0"].startswith("host1 and host2 have the same address, 172.17.0.1, ")


@pytest.mark.parametrize("interface", ["ib7", "10.99.0.0/16"])
def test_an_interface_that_does_not_exist_is_named_with_what_there_is(told, interface):
    said = told[interface]
    assert said.startswith("host1 (like 1 other host) has no ")
    assert all(word in said for word in (interface, "eth0 10.77.0.1/24", "docker0 172.17.0.1/16", "set streams.inter"))


def test_a_run_is_refused_in_one_sentence_and_no_rank_hangs(box, tmp_path):
    done = box.run(
        TWO_HOSTS,
        2,
        sys.executable,
        "-m",
        "ddmd_mpi",
        "--usecase",
        "bba-go",
        "--output",
        tmp_path / "run",
        "--set",
        "streams.interface=ib7",
        "--set",
        "training.model=pca",
        check=False,
    )
    said = [line for line in done.err.splitlines() if "ddmd-mpi: " in line]  # a zero byte may come first
    assert done.code == 2, done.err
    assert len(said) == 1, done.err
    assert "host1 (like 1 other host) has no IPv4 address on an interface ib7" in said[0]
    assert not (tmp_path / "run").exists()
