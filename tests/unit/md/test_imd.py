"""Walkers served by IMD: imdclient and MDAnalysis are the referees of what arrives."""

import signal
import socket
import struct
import time

import MDAnalysis
import numpy as np
import pytest
from imdclient.IMDClient import IMDClient

from ddmd_mpi.config import validate
from ddmd_mpi.config.dynamics import SimulationSection
from ddmd_mpi.config.schema import OutputSection
from ddmd_mpi.errors import ConfigError, EngineError
from ddmd_mpi.md.imd import protocol, server
from ddmd_mpi.md.imd.follow import Follower
from ddmd_mpi.md.imd.protocol import Frame, Kind, Session, greeting, header, pack
from ddmd_mpi.md.imd.server import WAITING_FRAMES, Server
from ddmd_mpi.md.prepared import Particles
from ddmd_mpi.md.trajectory import Trajectory
from ddmd_mpi.roles.audience import check_ports, serve

N_ATOMS = 5
TIMESTEP_PS = 0.002


@pytest.fixture(autouse=True)
def handlers():
    """imdclient sets handlers of signals."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def frame(index, n_atoms=N_ATOMS, box=True):
    rng = np.random.default_rng(index)
    vectors = np.array([[3, 0, 0], [0.5, 3, 0], [-0.5, 0.25, 3]], np.float32) if box else np.zeros((3, 3), np.float32)
    return Frame(
        100 * index,
        100 * index * TIMESTEP_PS,
        TIMESTEP_PS,
        rng.normal(size=(n_atoms, 3)).astype(np.float32),
        rng.normal(size=(n_atoms, 3)).astype(np.float32),
        vectors,
        -42.5 - index,
    )


@pytest.fixture
def serving():
    """Makes a server of walkers 0 and 7."""
    made = []

    def serving(**options):
        made.append(Server("127.0.0.1", {0: 0, 7: 0}, **options))
        return made[-1]

    yield serving
    for one in made:
        one.free()


def client(serving, walker=7, **options):
    return IMDClient("127.0.0.1", serving.ports[walker], N_ATOMS, **options)


def wait_for(reached, seconds=30):
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def connected(one, walker=7):
    """A socket that has read the greeting."""
    connection = socket.create_connection(("127.0.0.1", one.ports[walker]))
    connection.settimeout(30)
    return connection, greeting(read(connection, protocol.GREETING_BYTES))


def read(connection, n_bytes):
    found = b""
    while len(found) < n_bytes:
        found += connection.recv(n_bytes - len(found))
    return found


def closes(connection):
    """Whether the other end closes it, whatever it still sends."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def check(found, expected):
    assert (found.step, found.time, found.dt) == (expected.step, expected.time_ps, expected.timestep_ps)
    assert found.energies["potential_energy"] == np.float32(expected.potential_energy)
    np.testing.assert_allclose(found.positions, 10 * expected.positions, rtol=1e-6)
    np.testing.assert_allclose(found.velocities, 10 * expected.velocities, rtol=1e-6)
    np.testing.assert_allclose(found.box, 10 * expected.box, rtol=1e-6)


def test_imdclient_gets_every_frame_from_the_newest_on(serving):
    one = serving()
    one.publish(7, frame(0))
    one.publish(7, frame(1))
    with client(one) as referee:
        check(referee.get_imdframe(), frame(1))
        for index in (2, 3):
            one.publish(7, frame(index))
            check(referee.get_imdframe(), frame(index))
    wait_for(lambda: not one.watched)
    with client(one) as referee:
        check(referee.get_imdframe(), frame(3))


@pytest.mark.parametrize("box", [True, False])
def test_mdanalysis_reads_it_as_a_trajectory(serving, box):
    one = serving()
    one.publish(7, frame(1, box=box))
    universe = MDAnalysis.Universe.empty(N_ATOMS, trajectory=False)
    universe.load_new(f"imd://127.0.0.1:{one.ports[7]}")
    stream = iter(universe.trajectory)
    for index in (1, 2):
        found = next(stream)
        one.publish(7, frame(index + 1, box=box))
        expected = frame(index, box=box)
        assert found.time == pytest.approx(expected.time_ps)
        np.testing.assert_allclose(found.positions, 10 * expected.positions, rtol=1e-5)
        np.testing.assert_allclose(found.velocities, 10 * expected.velocities, rtol=1e-5)
        if box:
            np.testing.assert_allclose(found.triclinic_dimensions, 10 * expected.box, rtol=1e-4, atol=1e-4)
        else:
            assert found.dimensions is None or not found.dimensions.any()
        if index == 1:
            np.testing.assert_allclose(found.data["potential_energy"], expected.potential_energy)
    universe.trajectory.close()


def test_version_two_is_for_programs_that_know_no_other(serving):
    one = serving(version=2)
    one.publish(7, frame(1))
    with client(one) as referee:
        found = referee.get_imdframe()
        np.testing.assert_allclose(found.positions, 10 * frame(1).positions, rtol=1e-6)
        assert found.energies["potential_energy"] == np.float32(frame(1).potential_energy)


def test_the_bytes_read_back_are_those_sent():
    session = Session(forces=False)
    found = greeting(protocol.handshake(session))
    assert found == (("<"), session)
    data = pack(frame(3), session)
    assert found.frame_bytes(N_ATOMS) == len(data)
    packets = found.unpack(data, N_ATOMS)
    np.testing.assert_allclose(packets[Kind.COORDINATES], 10 * frame(3).positions, rtol=1e-6)
    assert packets[Kind.TIME] == (TIMESTEP_PS, frame(3).time_ps, 300)
    with pytest.raises(EngineError, match="a packet 2 of 4 was expected by IMD, and 2 of 5 came"):
        found.unpack(data, N_ATOMS - 1)
    with pytest.raises(EngineError, match="version 3 is needed"):
        greeting(protocol.handshake(session, 2) + bytes(20))
    with pytest.raises(EngineError, match="no greeting of IMDv3"):
        greeting(b"HTTP/1.1 400 Bad Request")


def test_walkers_have_a_client_each_and_a_second_one_is_sent_away(serving):
    one = serving()
    first, _ = connected(one)
    wait_for(lambda: one.watched == {7})
    second = socket.create_connection(("127.0.0.1", one.ports[7]))
    assert closes(second)
    other, _ = connected(one, walker=0)
    wait_for(lambda: one.watched == {0, 7})
    first.close()
    wait_for(lambda: one.watched == {0})
    third, _ = connected(one)
    wait_for(lambda: one.watched == {0, 7})


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\xff" * 64, header(Kind.KILL), header(Kind.FORCES_TO_APPLY, -1)],
    ids=["HTTP", "noise", "kill", "negative"],
)
def test_garbage_and_kill_close_that_client_alone(serving, said):
    one = serving()
    bad, _ = connected(one)
    good, said_of_it = connected(one, walker=0)
    good.sendall(header(Kind.GO))
    bad.sendall(said)
    assert closes(bad)
    one.publish(0, frame(1))
    n_bytes = said_of_it.frame_bytes(N_ATOMS)
    found = said_of_it.unpack(read(good, n_bytes), N_ATOMS)
    np.testing.assert_allclose(found[Kind.COORDINATES], 10 * frame(1).positions, rtol=1e-6)
    wait_for(lambda: one.watched == {0})


def test_commands_hold_for_the_client_and_not_for_the_walker(serving):
    """Pause and rate; forces are skipped, in however many parts they come."""
    one = serving()
    connection, said = connected(one)
    n_bytes = said.frame_bytes(N_ATOMS)

    def next_step():
        return said.unpack(read(connection, n_bytes), N_ATOMS)[Kind.TIME][2]

    forces = header(Kind.FORCES_TO_APPLY, 2) + struct.pack("<2i6f", 0, 1, *range(6))
    connection.sendall(header(Kind.WAIT, 1) + forces[:13])
    time.sleep(0.02)
    one.publish(7, frame(1))
    connection.sendall(forces[13:] + header(Kind.GO))
    assert next_step() == 100
    connection.sendall(header(Kind.PAUSE) + header(Kind.PAUSE))
    of_walker = one._clients[7]
    wait_for(lambda: not of_walker.ready)
    one.publish(7, frame(2))
    connection.sendall(header(Kind.RATE, 3) + header(Kind.RESUME))
    wait_for(lambda: of_walker.ready)
    for index in range(3, 7):
        one.publish(7, frame(index))
    assert (next_step(), next_step()) == (300, 600)


def test_a_frame_that_is_taken_at_once_does_not_wait_for_the_thread(serving, monkeypatch):
    one = serving()
    connection, said = connected(one)
    connection.sendall(header(Kind.GO))
    wait_for(lambda: one._clients[7].ready)
    with monkeypatch.context() as patch:
        patch.setattr(one, "_ring", lambda: pytest.fail("the thread was needed"))
        for index in range(3):
            one.publish(7, frame(index))
            found = said.unpack(read(connection, said.frame_bytes(N_ATOMS)), N_ATOMS)
            assert found[Kind.TIME][2] == frame(index).step


def test_a_client_that_reads_nothing_delays_nobody_and_gets_the_newest_frames(serving, monkeypatch):
    one, large = serving(), 100_000
    connection, said = connected(one)
    connection.sendall(header(Kind.GO))
    wait_for(lambda: one._clients[7].ready)
    frames = [frame(index, large) for index in range(WAITING_FRAMES + 12)]
    clock = time.thread_time()
    for one_frame in frames:
        one.publish(7, one_frame)
    spent = time.thread_time() - clock
    assert spent < 0.5 * sum(time_of(pack, one_frame, said.session) for one_frame in frames)
    steps = []
    while frames[-1].step not in steps:
        steps.append(said.unpack(read(connection, said.frame_bytes(large)), large)[Kind.TIME][2])
    assert steps == sorted(set(steps))
    assert len(steps) < len(frames)
    monkeypatch.setattr(server, "PATIENCE_SECONDS", 0.2)
    for one_frame in frames:
        one.publish(7, one_frame)
    wait_for(lambda: not one.watched)


def time_of(function, *arguments):
    clock = time.thread_time()
    function(*arguments)
    return time.thread_time() - clock


def test_a_walker_that_gets_other_atoms_ends_the_session(serving):
    one = serving()
    one.publish(7, frame(1))
    connection, _ = connected(one)
    connection.sendall(header(Kind.GO))
    wait_for(lambda: one._clients[7].ready)
    one.publish(7, frame(2, N_ATOMS + 1))
    assert closes(connection)


def test_a_port_in_use_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"walker 3 cannot be served at 127.0.0.1:{port}: Address already in use"):
            Server("127.0.0.1", {3: port})
    with pytest.raises(ConfigError, match="cannot be served at no.such.host"):
        Server("no.such.host.invalid", {3: 0})


def test_only_this_host_is_served_unless_told():
    assert OutputSection(imd_port=8000).imd_address == "127.0.0.1"
    assert serve(OutputSection(), SimulationSection(), (0,)) is None


def test_there_must_be_a_port_for_each_walker():
    check_ports(OutputSection(imd_port=65_000), 536)
    with pytest.raises(ConfigError, match="leaves no port for each of 537 walkers: set it to 64999 or less"):
        check_ports(OutputSection(imd_port=65_000), 537)
    with pytest.raises(ConfigError, match="imd_port"):
        validate(
            {"run": {"usecase": "x"}, "system": {"name": "x", "start": "x", "target": "x"}, "output": {"imd_port": 80}}
        )


def particles(n_atoms, periodic):
    zeros = np.zeros((3, 3), np.float32)
    positions = np.zeros((n_atoms, 3))
    return Particles(
        positions, np.arange(3), zeros, np.zeros(3, int), zeros, periodic, np.ones(n_atoms), np.zeros(n_atoms)
    )


@pytest.mark.parametrize("suffix", ["dcd", "xtc"])
@pytest.mark.parametrize("box", [True, False])
def test_a_growing_trajectory_is_followed(tmp_path, suffix, box):
    settings = SimulationSection(trajectory_format=suffix, report_interval_ps=100 * TIMESTEP_PS, segment_ps=1.0)
    with Trajectory(tmp_path, 7, particles(12, box), settings) as trajectory:
        follower = Follower(tmp_path / "sim-0007", TIMESTEP_PS)
        assert follower.news(5) == []
        for index in range(1, 9):
            given = frame(index, 12, box)
            trajectory.append(given.positions, given.time_ps, 0, 1.0, given.potential_energy, box=given.box)
            if index in (1, 2, 8):
                (found,) = follower.news(1)
                assert found[:3] == (given.step, pytest.approx(given.time_ps), TIMESTEP_PS)
                assert found.potential_energy == given.potential_energy
                np.testing.assert_allclose(found.positions, given.positions, atol=6e-4 if suffix == "xtc" else 1e-6)
                np.testing.assert_allclose(found.box, given.box, atol=1e-5)
                assert follower.news(1) == []


def test_a_frame_whose_coordinates_are_not_seen_yet_comes_later(tmp_path):
    settings = SimulationSection(report_interval_ps=100 * TIMESTEP_PS, segment_ps=1.0)
    with Trajectory(tmp_path, 7, particles(4, False), settings) as trajectory:
        follower, path = Follower(tmp_path / "sim-0007", TIMESTEP_PS), tmp_path / "sim-0007.dcd"
        trajectory.append(frame(1, 4).positions, 1.0, 0, 1.0, 0.0)
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        with pytest.raises(IndexError):
            follower.news(1)
        path.write_bytes(whole)
        (found,) = follower.news(1)
        np.testing.assert_allclose(found.positions, frame(1, 4).positions, atol=1e-6)


def test_a_walker_that_changes_its_topology_is_followed(tmp_path):
    settings = SimulationSection(report_interval_ps=100 * TIMESTEP_PS, segment_ps=1.0)
    with Trajectory(tmp_path, 7, particles(4, False), settings, name="a") as trajectory:
        follower = Follower(tmp_path / "sim-0007", TIMESTEP_PS)
        for index, (name, n_atoms) in enumerate((("a", 4), ("b", 6), ("a", 4))):
            trajectory.change(name, particles(n_atoms, False))
            trajectory.append(frame(index, n_atoms).positions, index, 0, 1.0, 0.0)
        found = follower.news(3)
    for index, n_atoms in enumerate((4, 6, 4)):
        np.testing.assert_allclose(found[index].positions, frame(index, n_atoms).positions, atol=1e-6)
