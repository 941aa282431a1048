"""A run directory has its own copies of all input files, and is read like the files it was made from."""

import shutil

import pytest
from toy_table import write_table

from ddmd_mpi import config
from ddmd_mpi.errors import InputError
from ddmd_mpi.md import input_files
from ddmd_mpi.md.input_files import check_packages, keep_inputs, processed
from ddmd_mpi.md.molecule_files import kind_of
from ddmd_mpi.md.topologies import check_topologies
from ddmd_mpi.md.trusted_files import GromacsTopology, load_force_field
from ddmd_mpi.rundir.files import sha256_of


def kept(settings, directory):
    """The settings as a run directory has them, loaded again from its config."""
    found, records = keep_inputs(settings, directory)
    (directory / "config.toml").write_text(config.to_toml(found, directory))
    return config.load(settings.run.usecase, directory / "config.toml"), records


def test_copies_are_named_by_relative_paths_and_have_digests(tmp_path):
    settings = config.load("cln025")
    directory = tmp_path / "run"
    directory.mkdir()
    found, records = kept(settings, directory)
    assert found.system.start == directory / "inputs" / "cln025-start.pdb"
    assert found.system.start.read_bytes() == settings.system.start.read_bytes()
    assert 'start = "inputs/cln025-start.pdb"' in (directory / "config.toml").read_text()
    record = records["inputs/cln025-target.pdb"]
    assert record == {
        "sha256": sha256_of(settings.system.target),
        "source": str(settings.system.target),
        "setting": "system.target",
    }
    assert found.system.force_field == settings.system.force_field
    assert records["package:amber99_obc.xml"]["setting"] == "system.force_field"
    again, same = keep_inputs(found, directory, records)
    assert (again, same) == (found, records), "what lies in the directory stays"


def test_files_of_the_same_name_stay_apart_and_what_openmm_brings_is_copied(tmp_path):
    settings = config.load("cln025")
    (tmp_path / "a.pdb").write_bytes(settings.system.start.read_bytes())
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.pdb").write_bytes(settings.system.target.read_bytes())
    settings = config.load(
        "cln025", assignments=(f"system.start={tmp_path}/a.pdb", f"system.target={tmp_path}/b/a.pdb")
    )
    found, _ = kept(settings, tmp_path / "b")
    assert [found.system.start, found.system.target] == [tmp_path / "b/inputs/a.pdb", tmp_path / "b/inputs/2/a.pdb"]
    assert sha256_of(found.system.target) == sha256_of(settings.system.target)
    villin = config.load("cln025", assignments=("system.start=openmm:test.pdb",))
    assert kept(villin, tmp_path)[0].system.start == tmp_path / "inputs" / "test.pdb"


def test_a_systems_table_moves_with_its_directory(tmp_path):
    (tmp_path / "table").mkdir()
    settings = config.load("toy", write_toy(tmp_path / "table"), ("steering.strategy=none",))
    before = [t.system.getNumParticles() for t in check_topologies(settings)]
    run = tmp_path / "run"
    run.mkdir()
    kept(settings, run)
    shutil.rmtree(tmp_path / "table")
    moved = run.rename(tmp_path / "moved")
    found = config.load("toy", moved / "config.toml")
    assert found.system.complexes[1].coordinates == moved / "inputs" / "complexes" / "ligand-1" / "ligand-1.pdb"
    assert [t.system.getNumParticles() for t in check_topologies(found)] == before


def write_toy(directory):
    path = write_table(directory, [1.0, 2.0])
    path.write_text(
        path.read_text()
        .replace("[run]", '[run]\nusecase = "toy"')
        .replace("[features]", '[system]\nname = "toy"\n[features]', 1)
    )
    return path


TYPE = '<ForceField>{}<AtomTypes><Type name="{}" class="{}" element="C" mass="12.0"/></AtomTypes></ForceField>'


def test_a_force_field_of_the_user_s_own_is_kept_with_what_it_includes(tmp_path):
    """Also files in other directories, of the same name, and OpenMM's."""
    texts = {
        "ff/mine.xml": TYPE.format(
            '<Include file="sub/types.xml"/><Include  file = \'../types.xml\'/><Include file="tip3p.xml"/>', "mine", "a"
        ),
        "ff/sub/types.xml": TYPE.format("", "below", "b"),
        "types.xml": TYPE.format("", "above", "c"),
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    settings = config.load("cln025", assignments=(f'system.force_field=["{tmp_path}/ff/mine.xml"]',))
    run = tmp_path / "run"
    run.mkdir()
    found, records = kept(settings, run)
    assert found.system.force_field == [str(run / "inputs" / "mine.xml")]
    assert {"inputs/mine.xml", "inputs/types.xml", "inputs/2/types.xml"} < set(records)
    before = set(load_force_field(tuple(settings.system.force_field))._atomTypes)
    for name in texts:
        (tmp_path / name).unlink()
    assert set(load_force_field(tuple(found.system.force_field))._atomTypes) == before > {"mine", "below", "above"}


TOP = """; comment
#include "ff/forcefield.itp"
#ifdef NOWHERE
#include "not/there.itp"
#endif
#include "molecule.itp"  ; the molecule
[ system ]
test
[ molecules ]
all 2
"""
PARTS = {
    "share/ff/forcefield.itp": '[ defaults ]\n1 2 yes 0.5 0.8\n#include "nonbonded.itp"\n',
    "share/ff/nonbonded.itp": "[ atomtypes ]\nT0 6 12.0 0.0 A 0.3 0.4",
    "own/molecule.itp": "[ moleculetype ]\nall 3\n[ atoms ]\n1 T0 1 ALA CA 1 \\\n0.25 12.0\n",
    "own/a.top": TOP,
}


def test_a_gromacs_topology_is_kept_with_its_includes_in_their_places(tmp_path):
    for name, text in PARTS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    settings = config.load(
        "cln025", assignments=(f"system.topology={tmp_path}/own/a.top", f'system.parameters=["{tmp_path}/share"]')
    )
    (tmp_path / "run").mkdir()
    found, _ = kept(settings, tmp_path / "run")
    file = found.system.topology
    assert (file, found.system.parameters) == (tmp_path / "run" / "inputs" / "a.top", [])
    before = GromacsTopology(str(tmp_path / "own/a.top"), includeDir=str(tmp_path / "share"))
    shutil.rmtree(tmp_path / "own")
    shutil.rmtree(tmp_path / "share")
    after = GromacsTopology(str(file), includeDir=str(tmp_path))
    assert kind_of(file) == "GROMACS"
    assert after.topology.getNumAtoms() == before.topology.getNumAtoms() == 2
    assert after._atomTypes == before._atomTypes
    assert [vars(m) for m in after._moleculeTypes.values()] == [vars(m) for m in before._moleculeTypes.values()]


def test_a_topology_that_includes_itself_is_refused(tmp_path):
    (tmp_path / "a.top").write_text('#include "a.top"\n')
    with pytest.raises(InputError, match="does it include itself"):
        processed(tmp_path / "a.top", [tmp_path])


def test_a_force_field_of_another_version_of_openmm_is_refused(tmp_path, monkeypatch):
    _, records = keep_inputs(config.load("cln025"), tmp_path)
    check_packages(records)
    monkeypatch.setattr(input_files, "package_digest", lambda _: "another")
    with pytest.raises(InputError, match=r"the force field amber99sbildn\.xml of this installation .* differs"):
        check_packages(records)


def test_a_file_that_cannot_be_read_is_named_by_its_setting(tmp_path):
    settings = config.load("cln025", assignments=(f"streams.adios2_xml={tmp_path}/none.xml",))
    with pytest.raises(InputError, match=r"streams\.adios2_xml .*none\.xml cannot be read: No such file"):
        keep_inputs(settings, tmp_path)
