"""GROMACS as a program: its files, its settings, and what is refused before a run starts."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from openmm import app
from programs import GMX, force_fields, gmx, gromacs_alanine

from ddmd_mpi.config import validate
from ddmd_mpi.config.dynamics import EngineSection, SimulationSection
from ddmd_mpi.config.schema import FaultsSection
from ddmd_mpi.errors import ConfigError, EngineError, InputError
from ddmd_mpi.md.engines import check_engine, check_molecule, keep_topology
from ddmd_mpi.md.molecule_files import MoleculeFiles
from ddmd_mpi.md.molecules import build_molecule, load_molecule
from ddmd_mpi.md.prepared import Particles
from ddmd_mpi.md.programs import gromacs, mdp, mdrun, trr
from ddmd_mpi.md.programs.child import Tail
from ddmd_mpi.md.programs.engine import ProgramEngine
from ddmd_mpi.md.programs.gromacs_top import gro, with_masses
from ddmd_mpi.md.programs.mdp import Settings
from ddmd_mpi.md.programs.mdrun import Energies, Files, Images, Mdrun, Output

BOX = np.diag([3.0, 4.0, 5.0])
TOP = """\
[ moleculetype ]
; name nrexcl
one 1
[ atoms ]
1 A 1 RES A1 1 0.5 12.0 ; heavy
2 A 1 RES H1 1 -0.5
[ moleculetype ]
two 1
[ atoms ]
#ifdef X
1 A 1 RES B1 1 0.0 2.0
#endif
[ system ]
some
[ molecules ]
one 2
two 1
one 1
"""
LOG = """\
Potential shift: LJ r^-12: 0.000e+00
           Step           Time
             {step}        1.00000

   Energies (kJ/mol)
           Bond          Angle    Proper Dih.          LJ-14     Coulomb-14
    1.92120e+01    9.28408e+01    2.71465e+02    1.61683e+02    2.28770e+03
        LJ (SR)   Coulomb (SR)      Potential    Kinetic En.   Total Energy
   -1.80619e+02   -2.64850e+03{energy:>15}    5.31366e+02    5.36457e+02

"""


def frames(path, n, n_atoms=3, velocities=True):
    """A trajectory as bytes, of frames that are told apart by their positions."""
    written = []
    for i in range(n):
        x = np.full((n_atoms, 3), 0.1 * (i + 1))
        trr.write_frame(path, x, x + 1 if velocities else None, BOX)
        written.append(path.read_bytes())
    return written


def test_frames_are_read_as_they_come(tmp_path):
    path = tmp_path / "frames.trr"
    first, second = frames(path, 2)
    reader = trr.Reader(path)
    path.unlink()
    assert reader.read() is None
    for end in (0, 10, 80, len(first) - 1):
        path.write_bytes(first[:end])
        assert reader.read() is None
    path.write_bytes(first + second[:100])
    found = reader.read()
    np.testing.assert_allclose(found.positions, 0.1)
    np.testing.assert_allclose(found.velocities, 1.1)
    np.testing.assert_allclose(found.box, BOX)
    assert reader.read() is None
    path.write_bytes(first + second)
    np.testing.assert_allclose(reader.read().positions, 0.2)


def test_frames_without_velocities_have_none(tmp_path):
    path = tmp_path / "frames.trr"
    frames(path, 1, velocities=False)
    assert trr.Reader(path).read().velocities is None


def test_a_run_that_writes_no_velocities_is_a_failure(tmp_path):
    frames(tmp_path / mdrun.FRAMES, 1, velocities=False)
    (tmp_path / mdrun.LOG).write_text(LOG.format(step=0, energy="5.00000e+00"))
    with pytest.raises(EngineError, match="frames.trr has no velocities"):
        Output(tmp_path, 10, Images(np.array([[0, 1]]), 3), periodic=False).frame(-1)


@pytest.mark.parametrize("place", [0, 12, 64])
def test_a_file_of_another_kind_is_a_failure(tmp_path, place):
    """The magic number, the version, and the number of atoms."""
    path = tmp_path / "frames.trr"
    (frame,) = frames(path, 1)
    path.write_bytes(frame[:place] + b"\xff\xff\xff\xff" + frame[place + 4 :])
    with pytest.raises(EngineError, match="at byte 0"):
        trr.Reader(path).read()


def test_a_frame_counts_with_its_energy(tmp_path):
    """The first frame of a run is its start."""
    path = tmp_path / mdrun.FRAMES
    start, first = frames(path, 2)
    step = np.array(10, ">i4").tobytes()
    at = len(start) - 3 * 3 * 8 - 36 - 8 - 8
    path.write_bytes(start + first[:at] + step + first[at + 4 :])
    output = Output(tmp_path, 10, Images(np.array([[0, 1], [1, 2]]), 3), periodic=True)
    assert output.begun()
    assert output.frame(0) is None
    text = LOG.format(step=0, energy="5.00000e+00") + LOG.format(step=10, energy="-7.00000e+00")
    (tmp_path / mdrun.LOG).write_text(text[:-60])
    assert output.frame(0) is None
    (tmp_path / mdrun.LOG).write_text(text + LOG.format(step=10, energy="1.00000e+00"))
    state = output.frame(0)
    assert state.potential_energy == -7
    np.testing.assert_allclose(state.positions, 0.2)
    np.testing.assert_allclose(state.box, BOX)


def test_a_frame_of_another_molecule_is_left_to_the_engine_to_refuse(tmp_path):
    frames(tmp_path / mdrun.FRAMES, 1, n_atoms=5)
    output = Output(tmp_path, 10, Images(np.array([[0, 1]]), 3), periodic=False)
    (tmp_path / mdrun.LOG).write_text(LOG.format(step=0, energy="5.00000e+00"))
    assert output.frame(-1).positions.shape == (5, 3)


@pytest.mark.parametrize(
    ("mdrun_does", "said"),
    [
        (
            "head -c 100 start.trr > frames.trr; echo no space left",
            "ended with exit code 0 after 0 reports.*no space left",
        ),
        ("cat start.gro > frames.trr; sleep 1000", "has no frame of TRR at byte 0"),
        ("cat start.trr start.trr > frames.trr; exit 3", "ended with exit code 3 after 0 reports"),
    ],
)
def test_a_program_that_goes_wrong_is_a_contained_failure(tmp_path, mdrun_does, said):
    """It stops in mid-frame, writes another file, or none of the frames that it should."""
    program = tmp_path / "gmx"
    program.write_text(f"#!/bin/sh\nprintf '%1000s' > start.gro\n[ $3 = grompp ] || {{ {mdrun_does}; }}\n")
    program.chmod(0o755)
    simulation = SimulationSection(minimize=False)
    files = Files(tmp_path / "m.top", tmp_path / "m.gro", np.array([[0, 1]]))
    moved = Mdrun(str(program), [], files, 3, simulation, Settings(False, 1.0))
    particles = Particles(
        np.eye(3), np.arange(3), np.eye(3), np.zeros(3, int), np.zeros((3, 3)), False, np.ones(3), np.zeros(3, int)
    )
    engine = ProgramEngine(moved, particles, simulation, FaultsSection(), 1, tmp_path / "scratch")
    engine.start(1)
    with pytest.raises(EngineError, match=said):
        engine.advance(simulation.steps_per_report)
    engine.set_state(np.eye(3), np.eye(3))
    assert engine._child is None
    engine.free()
    assert not list((tmp_path / "scratch").iterdir())


def test_energies_are_read_in_pieces(tmp_path):
    energies, text = Energies(), LOG.format(step=5, energy="-1.50000e+02") + LOG.format(step=6, energy="nan")
    path, log = tmp_path / "md.log", Tail(tmp_path / "md.log")
    energies.add(log.lines())
    for piece in (text[i : i + 7] for i in range(0, len(text), 7)):
        with path.open("a") as file:
            file.write(piece)
        energies.add(log.lines())
    assert energies.of_step[5] == -150
    assert np.isnan(energies.of_step[6])


def test_molecules_are_whole_and_stay_near_where_they_were():
    images, box = Images(np.array([[0, 1]]), 3), np.eye(3) * 2.0
    images.before = np.array([[2.3, 1, 1], [2.4, 1, 1], [0.1, 1, 1]])
    found = images.follow(np.array([[0.35, 1, 1], [0.45, 1, 1], [1.95, 1, 1]], np.float32), box)
    np.testing.assert_allclose(found[:, 0], [2.35, 2.45, -0.05], atol=1e-6)
    found = images.follow(np.array([[1.95, 1, 1], [0.05, 1, 1], [0.05, 1, 1]], np.float32), box)
    np.testing.assert_allclose(found[:, 0], [1.95, 2.05, 0.05], atol=1e-6)


def test_masses_are_those_of_every_molecule():
    found = with_masses(TOP, [11.0, 3.0, 11.0, 3.0, 5.0, 11.0, 3.0])
    assert [line.split()[7] for line in found.splitlines() if " RES " in line] == ["11.000000", "3.000000", "5.000000"]
    assert found.count("#ifdef X") == 1
    with pytest.raises(ValueError, match="depend on #if"):
        with_masses(TOP, [1.0] * 6)
    with pytest.raises(ValueError, match="has no charge"):
        with_masses(TOP.replace("1 -0.5", "1"), [1.0] * 7)


def test_coordinates_name_the_atoms(tmp_path):
    topology = app.Topology()
    residue = topology.addResidue("LONGNAME", topology.addChain())
    for name in ("CA", "HB2"):
        topology.addAtom(name, app.Element.getBySymbol("C"), residue)
    positions = np.array([[1.23456789, 2.0, 3.0], [-1.0, 0.5, 12.0]])
    (tmp_path / "x.gro").write_text(gro(topology, positions, BOX))
    read = app.GromacsGroFile(str(tmp_path / "x.gro"))
    np.testing.assert_allclose(np.array(read.positions._value), positions, atol=1e-8)
    assert read.atomNames == ["CA", "HB2"]


def test_extra_entries_take_the_place_of_ours():
    values = mdp.dynamics(SimulationSection(), Settings(True, 2.0), True, 1)
    text = mdp.mdp(values, ["nst_list = 5", "Tau_P = 2", "fourierspacing=0.1"])
    found = dict(line.split(" = ") for line in text.splitlines())
    assert (found["tau-p"], found["fourierspacing"], found["integrator"]) == ("2", "0.1", "sd")
    assert len(found) == text.count("\n")


def settings(tmp_path, engine=None, simulation=None, **system):
    """The config of files that are there, although they say nothing."""
    for name in ("m.top", "m.gro"):
        (tmp_path / name).write_text("[ defaults ]\n")
    files = {key: str(tmp_path / "m.gro") for key in ("start", "target")}
    return validate(
        {
            "run": {"usecase": "ala"},
            "system": {"name": "ala", **files, "topology": str(tmp_path / "m.top"), **system},
            "simulation": {"engine": "gromacs", **(simulation or {})},
            "engine": engine or {},
        }
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"simulation": {"precision": "double"}}, "cannot honour simulation.precision = double"),
        ({"simulation": {"platform": "Reference"}}, "cannot honour simulation.platform = Reference"),
        ({"solvent": "implicit"}, "cannot honour system.solvent = implicit"),
        ({"model": "go", "topology": None}, "cannot honour system.model = go"),
        ({"engine": {"options": {"a": 1}}}, "cannot honour engine.options"),
        ({"engine": {"arguments": ["-nsteps", "5"]}}, "engine.arguments has -nsteps"),
        ({"engine": {"extra_input": ["Ref_T = 5"]}}, "engine.extra_input sets ref-t"),
        ({"engine": {"extra_input": ["gen-seed = 5"]}}, "engine.extra_input sets gen-seed"),
        ({"engine": {"extra_input": ["nstlist"]}}, "give one entry of an mdp file"),
        ({"engine": {"extra_input": ["a = 1\nb = 2"]}}, "give one entry of an mdp file"),
    ],
)
def test_what_it_cannot_honour_is_refused(tmp_path, given, said):
    with pytest.raises(ConfigError, match=said):
        gromacs.check_settings(settings(tmp_path, **given))


def test_a_molecule_in_other_files_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"needs a GROMACS topology, which .*m.gro is not"):
        check_molecule(settings(tmp_path, topology=None), SimpleNamespace(box_nm=BOX))


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "the program .*/gmx of the engine gromacs is not found here: install GROMACS"),
        ("echo 5", "does not say a version of GROMACS"),
        ("echo 'GROMACS version:    2019.6'", "is GROMACS 2019.6: the engine gromacs needs 2021 or newer"),
    ],
)
def test_a_program_that_is_none_is_refused(tmp_path, script, said):
    path = tmp_path / "gmx"
    if script is not None:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    with pytest.raises(ConfigError, match=said):
        check_engine(settings(tmp_path, {"program": str(path)}), 3, None)


def test_arguments_are_those_of_the_build_and_the_rank():
    build, simulation = gromacs.Build("GROMACS", "2024.1", "gmx", ("gmx",), True, True), SimulationSection(threads=2)
    assert gromacs.arguments(build, simulation, 1, []) == ["-ntomp", "2", "-pin", "off", "-ntmpi", "1", "-gpu_id", "1"]
    assert gromacs.arguments(replace(build, gpu=False), simulation, 1, [])[-2:] == ["-nb", "cpu"]
    on_cpu = SimulationSection(platform="CPU")
    assert gromacs.arguments(build, on_cpu, 1, [])[-2:] == ["-nb", "cpu"]
    given = gromacs.arguments(replace(build, thread_mpi=False), simulation, None, ["-pin", "on"])
    assert given == ["-ntomp", "2", "-nb", "cpu", "-pin", "on"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return gromacs_alanine(tmp_path_factory.mktemp("alanine"))


def kept(tmp_path, files, faults=None, **engine):
    """Keep the topology of alanine dipeptide in a run directory."""
    top, coordinates = files
    config = validate(
        {
            "run": {"usecase": "ala"},
            "system": {
                "name": "ala",
                "start": str(coordinates),
                "target": str(coordinates),
                "topology": str(top),
                "parameters": [str(force_fields())],
                "solvent": "vacuum",
            },
            "simulation": {"engine": "gromacs", "hydrogen_mass_amu": 3.0},
            "engine": {"program": str(gmx()), **engine},
            "faults": faults or {},
        }
    )
    molecule = load_molecule(MoleculeFiles.of(config.system))
    structures = SimpleNamespace(
        topology=molecule.topology, positions_nm=molecule.positions_nm, box_nm=np.zeros((3, 3)), periodic=False
    )
    system = build_molecule(molecule, config.simulation)
    keep_topology(config, SimpleNamespace(name="ala", structures=structures, system=system), tmp_path)


def test_a_topology_is_kept_whole_with_its_masses(tmp_path, files):
    kept(tmp_path, files)
    text = (tmp_path / "ala.top").read_text()
    assert not [line for line in text.splitlines() if line.startswith("#include")]
    assert text.count(" 3.000000") == 12


def test_entries_that_grompp_does_not_know_are_refused(tmp_path, files):
    with pytest.raises(ConfigError, match="engine.extra_input sets nosuchentry, which grompp does not know"):
        kept(tmp_path, files, extra_input=["nosuchentry = 1"])


def test_what_grompp_refuses_is_one_sentence(tmp_path, files):
    with pytest.raises(InputError, match="^grompp cannot use .*m.top: With Verlet lists only .* supported$"):
        kept(tmp_path, files, extra_input=["vdwtype = user"])


def test_a_grompp_that_does_not_end_is_refused(tmp_path, files):
    path = tmp_path / "gmx"
    path.write_text("#!/bin/sh\n[ $1 = --version ] || exec sleep 1000\necho 'GROMACS version: 2024'\n")
    path.chmod(0o755)
    with pytest.raises(ConfigError, match="gmx grompp does not end within 1 s"):
        kept(tmp_path, files, {"start_within": 1}, program=str(path))


def test_the_installed_program_is_one(tmp_path):
    gmx()
    assert gromacs.find(EngineSection(program=str(GMX))).thread_mpi
