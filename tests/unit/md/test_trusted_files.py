"""Files of molecules from elsewhere: code in them is not executed, absurd sizes take neither time nor memory."""

import os
import pickle
import re
import struct
import subprocess
import sys
from pathlib import Path

import openmm
import pytest
from openmm import app

from ddmd_mpi.config import inputs, load
from ddmd_mpi.errors import InputError
from ddmd_mpi.md import prepare
from ddmd_mpi.md.coordinates import read_coordinates, read_pdb
from ddmd_mpi.md.emulated.recorded import read_frames
from ddmd_mpi.md.molecule_files import MoleculeFiles
from ddmd_mpi.md.molecules import force_field, load_molecule
from ddmd_mpi.md.repair import repair
from ddmd_mpi.md.selection import parse
from ddmd_mpi.md.structures import descriptor_atoms
from ddmd_mpi.md.topologies import load_topology
from ddmd_mpi.md.trusted_files import load_force_field

PEPTIDE = inputs() / "plc" / "ace-leu-nme.pdb"


class Canary:
    """Pickled, it makes the file `path` as soon as somebody loads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def canary(tmp_path):
    """A file that must not be there in the end."""
    yield tmp_path / "canary"
    assert not (tmp_path / "canary").exists(), "code of the file was executed"


def field(path, body):
    path.write_text(f"<ForceField>{body}</ForceField>")
    return path


SCRIPT = "<{0}>import pathlib; pathlib.Path(r'{1}').touch()</{0}>"


@pytest.mark.parametrize("body", [
    SCRIPT.replace("{0}", "InitializationScript"), SCRIPT.replace("{0}", "Script"),
    "<Deep>" + SCRIPT.replace("{0}", "Script") + "</Deep>",
    "<NonbondedForce coulomb14scale='1' lj14scale='1' "
    "useDispersionCorrection='__import__(&quot;pathlib&quot;).Path(r&quot;{1}&quot;).touch()'/>",
], ids=["at once", "later", "within", "evaluated"])  # fmt: skip
def test_a_force_field_executes_nothing(tmp_path, canary, body):
    evil = field(tmp_path / "evil.xml", body.replace("{1}", str(canary)))
    outer = field(tmp_path / "outer.xml", "<Include file='evil.xml'/>")
    for path in (evil, outer):
        with pytest.raises(InputError, match=r"evil\.xml (holds a|says useDisp).* which OpenMM would execute"):
            force_field(MoleculeFiles(PEPTIDE, force_field=(str(path),)))


def test_a_force_field_beside_the_run_does_not_stand_in_for_openmms(tmp_path, canary, monkeypatch):
    """OpenMM itself would look into the working directory first."""
    field(tmp_path / "amber99sbildn.xml", SCRIPT.format("InitializationScript", canary))
    field(tmp_path / "mine.xml", "<Include file='amber99sbildn.xml'/>")
    monkeypatch.chdir(tmp_path)
    load_force_field(("amber99sbildn.xml",)).createSystem(read_pdb(PEPTIDE)[0])
    assert repair(PEPTIDE, ["amber99sbildn.xml"], ()).notes == ()
    with pytest.raises(InputError, match="would execute"):
        load_force_field((str(tmp_path / "mine.xml"),))
    with pytest.raises(InputError, match="would execute"):
        prepare.in_water(*read_pdb(PEPTIDE), [str(tmp_path / "amber99sbildn.xml")])


def test_force_fields_of_numbers_are_read(tmp_path):
    own = field(tmp_path / "own.xml", "<Include file='amber99sbildn.xml'/><Include file='own.xml'/>")
    load_force_field((str(own),)).createSystem(read_pdb(PEPTIDE)[0])
    assert load_force_field(("charmm36.xml",)).getGenerators(), "which has scripts, and comes with OpenMM"


def compute(state):  # what a PythonForce calls
    return 0.0, None


def test_a_system_unpickles_nothing(tmp_path, canary):
    system, inner = openmm.System(), openmm.PythonForce(compute)
    for _ in range(read_pdb(PEPTIDE)[0].getNumAtoms()):
        system.addParticle(12.0)
    harmless, evil = tmp_path / "harmless.xml", tmp_path / "evil.xml"
    harmless.write_text(openmm.XmlSerializer.serialize(system))
    assert load_molecule(MoleculeFiles(PEPTIDE, harmless)).maker(load("bba").simulation, {}).getNumParticles()
    outer = openmm.CustomCVForce("x")
    outer.addCollectiveVariable("x", inner)
    for force in (inner.__copy__(), outer):
        changed = openmm.XmlSerializer.clone(system)
        changed.addForce(force)
        text = openmm.XmlSerializer.serialize(changed)
        payload = pickle.dumps(Canary(canary)).hex()
        evil.write_text(re.sub(r' function="\w+"', f' function="{payload}"', text))
        assert payload in evil.read_text()
        with pytest.raises(InputError, match=r"evil\.xml holds a PythonForce, which could run code"):
            load_molecule(MoleculeFiles(PEPTIDE, evil))


@pytest.mark.parametrize("name", ["x.pdb", "x.cif", "x.gro", "x.inpcrd"])
@pytest.mark.parametrize("kind", ["pipe", "device", "directory", "loop"])
def test_what_never_ends_is_not_read(tmp_path, name, kind):
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(path)
    with pytest.raises(InputError, match=rf"{name} cannot be used"):
        read_coordinates(path)
    for files in (MoleculeFiles(PEPTIDE, path), MoleculeFiles(PEPTIDE, force_field=(str(path),))):
        with pytest.raises(InputError, match=rf"{name} cannot be used"):
            load_force_field(files.force_field) if files.topology is None else load_molecule(files)


def test_a_file_beyond_measure_is_not_read(tmp_path):
    path = tmp_path / "long.pdb"
    with path.open("wb") as file:
        file.truncate(8_000_000_000)
    with pytest.raises(InputError, match=r"long\.pdb cannot be used \(it has 8000000000 bytes"):
        read_coordinates(path)


@pytest.mark.parametrize(("value", "words"), [
    ("     nan", "not finite"), ("     inf", "not finite"), ("   1e300", "more than"), ("********", "cannot be read"),
    ("\0\0\0\0\0\0\0\0", "cannot be read"),
])  # fmt: skip
def test_positions_that_are_none(tmp_path, value, words):
    path = tmp_path / "x.pdb"
    line = next(x for x in PEPTIDE.read_text().splitlines() if x.startswith(("ATOM", "HETATM")))
    path.write_text(line[:30] + value + line[38:] + "\nEND\n")
    with pytest.raises(InputError, match=words) as caught:
        read_coordinates(path)
    assert "\n" not in str(caught.value)


#: Small files that announce a great deal.
ABSURD = {
    "x.gro": "absurd\n1000000000000\n    1ALA     CA    1   0.000   0.000   0.000\n",
    "x.inpcrd": "absurd\n1000000000000\n  0.0  0.0  0.0\n",
    "x.crd": "* absurd\n*\n1000000000000\n    1    1 ALA  CA     0.0 0.0 0.0 A 1 0.0\n",
    "x.prmtop": "%VERSION  VERSION_STAMP = V0001.000\n%FLAG POINTERS\n%FORMAT(10I8)\n" + ("99999999" * 10 + "\n") * 4,
    "x.psf": "PSF\n\n       1 !NTITLE\n absurd\n\n1000000000000 !NATOM\n",
    "x.top": "[ defaults ]\n1 2 yes 0.5 0.5\n[ atomtypes ]\nC C 6 12.0 0.0 A 0.3 0.3\n"
    "[ moleculetype ]\nX 3\n[ atoms ]\n1 C 1 X C 1 0.0 12.0\n"
    "[ system ]\nX\n[ molecules ]\nX 1000000000000\n",
    "laughs.top": "#define a0 x x x x x x x x\n"
    + "".join(f"#define a{i + 1} " + f"a{i} " * 8 + "\n" for i in range(12))
    + "[ defaults ]\na12\n",
    "x.xml": "<!DOCTYPE x [<!ENTITY a0 'xxxxxxxxxx'>"
    + "".join(f"<!ENTITY a{i + 1} '{f'&a{i};' * 10}'>" for i in range(12))
    + "]><System type='System'>&a12;</System>",
}
BOUNDED = """
import resource, sys
from pathlib import Path
from ddmd_mpi.errors import InputError
from ddmd_mpi.md.coordinates import read_coordinates
from ddmd_mpi.md.molecules import MoleculeFiles, load_molecule
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 500_000_000,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
*paths, peptide = map(Path, sys.argv[1:])
for path in paths:
    try:
        if path.suffix in (".gro", ".inpcrd", ".crd"):
            read_coordinates(path, charmm=path.suffix == ".crd")
        else:
            load_molecule(MoleculeFiles(peptide, path, (path.parent,) if path.suffix == ".top" else (path,)))
    except InputError as error:
        print(path.name, "refused:", error)
"""


def test_absurd_sizes_are_refused_without_the_memory_for_them(tmp_path):
    for name, text in ABSURD.items():
        (tmp_path / name).write_text(text)
    paths = [str(tmp_path / name) for name in ABSURD]
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, *paths, str(PEPTIDE)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    refused = [line for line in done.stdout.splitlines() if " refused: " in line]
    assert [line.split()[0] for line in refused] == list(ABSURD)
    for line in refused:
        assert "MemoryError" not in line
    assert "more than 5000000 molecules" in refused[list(ABSURD).index("x.top")]
    assert "#define of a4 is too long" in refused[list(ABSURD).index("laughs.top")]


def test_a_box_of_water_has_an_end():
    topology, positions = read_pdb(PEPTIDE)
    positions[0] += 900.0
    with pytest.raises(InputError, match="nm wide, and 50 nm at most"):
        prepare.in_water(topology, positions, ["amber14-all.xml", "amber14/tip3p.xml"])


@pytest.mark.parametrize("name", ["openmm:../../../../etc/passwd", "openmm:..", "openmm:/etc/passwd"])
def test_a_systems_table_does_not_lead_out_of_openmms_data(name):
    config = load("plc", assignments=(f'system.start="{name}"',))
    with pytest.raises(InputError, match="does not exist|cannot be used"):
        load_topology(config, 0)


def test_a_trajectory_of_absurd_frames_is_refused(tmp_path):
    def record(body):
        return struct.pack("<i", len(body)) + body + struct.pack("<i", len(body))

    path = tmp_path / "x.dcd"
    for n_atoms in (2**31 - 1, -1):
        path.write_bytes(
            record(struct.pack("<4s20i", b"CORD", *[0] * 20)) + record(b" " * 84) + record(struct.pack("<i", n_atoms))
        )
        with pytest.raises(InputError, match="cannot be replayed"):
            read_frames(path, 10)


def test_more_descriptor_atoms_than_frames_have_room_for(tmp_path):
    topology = app.Topology()
    residue = topology.addResidue("XXX", topology.addChain())
    for _ in range(65_536):
        topology.addAtom("C", None, residue)
    with pytest.raises(InputError, match="have room for 65535"):
        descriptor_atoms(topology, "all", tmp_path)


@pytest.mark.parametrize("selection", ["not " * 5000 + "all", "(" * 5000 + "all" + ")" * 5000])
def test_a_selection_within_bounds(selection):
    with pytest.raises(InputError, match="may be used 100 times"):
        parse(selection)


def test_what_openmm_brings_is_what_is_trusted():
    data = Path(app.__file__).parent / "data"
    assert load_force_field((str(data / "charmm36.xml"),)).getGenerators()
