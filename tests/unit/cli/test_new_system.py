"""``ddmd-mpi init`` for systems of one's own: three proteins, what is mended, what is refused."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import pytest
from Bio.PDB import PDBIO
from openmm import app
from PeptideBuilder import PeptideBuilder

from ddmd_mpi import config
from ddmd_mpi.cli.new_config import config_text
from ddmd_mpi.cli.new_system import IMPLICIT, Request, _on_box, new_system
from ddmd_mpi.errors import ConfigError, InputError, RunDirectoryError
from ddmd_mpi.md import prepare
from ddmd_mpi.md.coordinates import write_pdb
from ddmd_mpi.md.molecule_files import MoleculeFiles
from ddmd_mpi.md.molecules import load_molecule
from ddmd_mpi.md.repair import repair
from ddmd_mpi.md.structures import load_structures
from ddmd_mpi.structure.rmsd import superposed_rmsd

VILLIN = Path(app.__file__).parent / "data" / "test.pdb"
CHIGNOLIN = config.inputs() / "cln025-start.pdb"
TRP_CAGE = "NLYIQWLKDGGPSSGRPPPS"
LINE = "HETATM 9001  {:<3s} {:3s} A 901      30.000  30.000  30.000  1.00  0.00          {:>2s}\n"


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """Unfolding takes a picosecond, and is not minimised before and after."""
    hot_run = prepare.hot_run

    def short_run(*given):
        with monkeypatch.context() as patch:
            patch.setattr(openmm.LocalEnergyMinimizer, "minimize", lambda context: None)
            return hot_run(*given)

    monkeypatch.setattr(prepare, "hot_run", short_run)
    monkeypatch.setattr(prepare, "unfolding_ps", lambda n_atoms: 1.0)


def heavy_lines(path):
    """Lines of the atoms that are no hydrogens."""
    return [
        line
        for line in path.read_text().splitlines(keepends=True)
        if line.startswith("ATOM") and line[76:78].strip() != "H"
    ]


@pytest.fixture
def trp_cage(tmp_path):
    chain = PeptideBuilder.make_structure(TRP_CAGE, [-60.0] * 19, [-45.0] * 19)
    text = io.StringIO()
    writer = PDBIO()
    writer.set_structure(chain)
    writer.save(text)
    (tmp_path / "trp.pdb").write_text(text.getvalue())
    return tmp_path / "trp.pdb"


@pytest.fixture
def crystal(tmp_path):
    """Chignolin as a crystal has it: no hydrogens, a lost side chain, two locations, water, sulfate."""
    lines = [
        line
        for line in heavy_lines(CHIGNOLIN)
        if not (line[22:26].strip() == "2" and line[12:16].strip() not in ("N", "CA", "C", "O", "CB"))
    ]
    at = next(i for i, line in enumerate(lines) if line[12:16] == " CB " and line[22:26].strip() == "5")
    line = lines[at]
    lines[at : at + 1] = [line[:16] + "A" + line[17:], line[:16] + "B" + line[17:30] + "  99.000" + line[38:]]
    (tmp_path / "crystal.pdb").write_text(
        "".join(
            [*lines, "TER\n", LINE.format("O", "HOH", "O"), LINE.format("S", "SO4", "S").replace("901", "902"), "END\n"]
        )
    )
    return tmp_path / "crystal.pdb"


def loaded(directory, name):
    settings = config.load(name, directory / "config.toml")
    return settings, load_structures(settings.system)


def test_villin_without_its_water(tmp_path):
    files, notes = new_system(tmp_path / "v", Request(pdb=VILLIN, name="villin"))
    assert [f.name for f in files] == ["config.toml", "start.pdb", "target.pdb"]
    settings, structures = loaded(tmp_path / "v", "villin")
    assert len(structures.positions_nm) == 582
    assert len(structures.descriptor) == 35
    assert settings.simulation.timestep_fs == 4.0
    assert settings.system.force_field == IMPLICIT
    assert any("left out 2761 molecules of water" in n for n in notes)
    text = (tmp_path / "v" / "config.toml").read_text()
    assert "# The target is test.pdb; the start was unfolded from it" in text
    assert superposed_rmsd(structures.positions_nm[structures.descriptor], structures.target_nm) > 0.05


def test_chignolin_as_a_crystal_has_it(tmp_path, crystal):
    _, notes = new_system(tmp_path / "c", Request(pdb=crystal))
    _, structures = loaded(tmp_path / "c", "crystal")
    assert len(structures.positions_nm) == 166
    assert any("added" in n and "heavy atoms to TYR2" in n for n in notes)
    assert any("SO4902" in n for n in notes)
    assert "left out 1 molecules of water" in notes
    target = app.PDBFile(str(tmp_path / "c" / "target.pdb"))
    assert np.abs(target.getPositions(asNumpy=True)._value).max() < 5.0  # the first location


def test_trp_cage_with_a_target(tmp_path, trp_cage):
    native = tmp_path / "native.pdb"
    write_pdb(*_stretched(trp_cage), native)
    _, notes = new_system(tmp_path / "t", Request(pdb=trp_cage, target=native, name="trp-cage"))
    _, structures = loaded(tmp_path / "t", "trp-cage")
    assert len(structures.positions_nm) == 304
    assert not any("unfolded" in n for n in notes)


def _stretched(path):
    pdb = app.PDBFile(str(path))
    return pdb.topology, 1.2 * pdb.getPositions(asNumpy=True)._value


def test_a_modified_residue_becomes_its_twin(tmp_path):
    lines = [line.replace("THR A   6", "TPO A   6") for line in heavy_lines(CHIGNOLIN)]
    (tmp_path / "m.pdb").write_text("".join([*lines, "END\n"]))
    found = repair(tmp_path / "m.pdb", IMPLICIT)
    assert len(found.positions_nm) == 166
    assert "TPO6 became THR" in found.notes


def test_repair_repeats_itself(crystal):
    first, second = (repair(crystal, IMPLICIT).positions_nm for _ in range(2))
    np.testing.assert_allclose(first, second, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: [*lines, LINE.format("C1", "LIG", "C")], r"LIG901: leave it out with --drop LIG"),
        (
            lambda lines: [x for x in lines if x[22:26].strip() not in ("4", "5")],
            "lacks residues between ASP3 and THR6",
        ),
        (
            lambda lines: [x for x in lines if (x[22:26].strip(), x[12:16]) != ("4", " CA ")],
            "lacks backbone atoms of PRO4",
        ),
        (lambda lines: [LINE.format("O", "HOH", "O")], "holds no protein"),
    ],
)
def test_what_cannot_be_mended_is_named(tmp_path, change, words):
    (tmp_path / "x.pdb").write_text("".join([*change(heavy_lines(CHIGNOLIN)), "END\n"]))
    with pytest.raises(InputError, match=words):
        new_system(tmp_path / "x", Request(pdb=tmp_path / "x.pdb"))
    assert not (tmp_path / "x").exists()


def test_a_ligand_is_dropped_by_name(tmp_path):
    (tmp_path / "x.pdb").write_text("".join([*heavy_lines(CHIGNOLIN), LINE.format("C1", "LIG", "C"), "END\n"]))
    assert "left out LIG901" in repair(tmp_path / "x.pdb", IMPLICIT, ("LIG",)).notes


def test_explicit_solvent_makes_a_box(tmp_path):
    new_system(tmp_path / "w", Request(pdb=CHIGNOLIN, name="wet", solvent="explicit"))
    settings, structures = loaded(tmp_path / "w", "wet")
    assert structures.molecule.box_nm is not None
    assert settings.simulation.nonbonded_cutoff_nm == 1.0
    assert len(structures.positions_nm) > 2000
    assert len(structures.descriptor) == 10


def test_an_amber_topology_is_taken_over(tmp_path):
    from molecule_files import write_amber

    from ddmd_mpi.md.coordinates import read_pdb

    topology, positions = read_pdb(CHIGNOLIN)
    system = app.ForceField("amber99sbildn.xml").createSystem(topology)
    write_amber(topology, system, positions, tmp_path / "a.prmtop", tmp_path / "a.inpcrd")
    new_system(tmp_path / "a", Request(topology=tmp_path / "a.prmtop", coordinates=tmp_path / "a.inpcrd", name="amber"))
    settings, structures = loaded(tmp_path / "a", "amber")
    assert settings.system.topology == tmp_path / "a" / "a.prmtop"
    assert settings.system.target.name == "a.inpcrd"
    assert MoleculeFiles.of(settings.system).coordinates.name == "start.pdb"
    assert len(structures.descriptor) == 10


def test_the_files_of_a_program_are_taken_over_for_its_engine(tmp_path, monkeypatch):
    """The program may be missing where the config is written."""
    monkeypatch.setenv("PATH", str(tmp_path))
    engines = config.inputs() / "engines"
    files = {"target": engines / "alanine-target.pdb", "solvent": "vacuum"}
    top = Request(topology=engines / "alanine.top", coordinates=engines / "alanine.gro", engine="gromacs", **files)
    _, notes = new_system(tmp_path / "a", top)
    settings, _ = loaded(tmp_path / "a", "alanine")
    assert settings.simulation.engine == "gromacs"
    assert [note for note in notes if note.startswith("the program gmx of the engine gromacs")]
    with pytest.raises(InputError, match="the engine amber needs an AMBER topology, which .*alanine.top is not"):
        new_system(tmp_path / "b", replace(top, engine="amber"))
    assert not (tmp_path / "b").exists()


def test_the_files_of_lammps_are_taken_over(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    engines = config.inputs() / "engines"
    given = tmp_path / "my.in"
    given.write_text((engines / "alanine.in").read_text())
    request = Request(
        topology=engines / "alanine.data",
        coordinates=engines / "alanine.pdb",
        target=engines / "alanine-target.pdb",
        input=given,
        engine="lammps",
        solvent="vacuum",
    )
    _, notes = new_system(tmp_path / "a", request)
    settings, structures = loaded(tmp_path / "a", "alanine")
    assert settings.engine.input == tmp_path / "a" / "my.in"
    assert settings.simulation.timestep_fs == 2.0
    assert settings.simulation.hydrogen_mass_amu is None
    assert len(structures.positions_nm) == 22
    assert [note for note in notes if note.startswith("the program lmp of the engine lammps")]
    given.write_text(given.read_text().partition("fix")[0])
    new_system(tmp_path / "b", request)
    assert loaded(tmp_path / "b", "alanine")[0].simulation.timestep_fs == 1.0
    given.write_text("run 100\n")
    with pytest.raises(InputError, match="the line 'run 100' does what the settings decide"):
        new_system(tmp_path / "c", request)
    assert not (tmp_path / "c").exists()


def test_what_becomes_of_a_box_of_the_files_is_said(tmp_path):
    engines = config.inputs() / "engines"
    gro = tmp_path / "a.gro"
    gro.write_text("\n".join([*(engines / "alanine.gro").read_text().splitlines()[:-1], "2.5 2.6 2.7", ""]))
    files = Request(topology=engines / "alanine.top", coordinates=gro, target=engines / "alanine-target.pdb")

    def notes(name, **given):
        return [note for note in new_system(tmp_path / name, replace(files, **given))[1] if "box" in note]

    assert notes("a", solvent="explicit", box=(3.0, 3.1, 3.2)) == [
        "the box of --box (3.00 x 3.10 x 3.20 nm) replaces that of a.gro (2.50 x 2.60 x 2.70 nm)"
    ]
    assert notes("b", solvent="vacuum") == [
        "left out the box of a.gro (2.50 x 2.60 x 2.70 nm): the system is not periodic"
    ]
    assert notes("c", solvent="explicit") == []


def test_charmms_cutoff_is_said_and_no_other_is_written(tmp_path):
    from molecule_files import nine_waters, write_charmm

    psf, prm, crd = (tmp_path / f"w.{suffix}" for suffix in ("psf", "prm", "crd"))
    topology, positions, system = nine_waters()
    write_charmm(topology, system, positions, psf, prm, crd)
    molecule = load_molecule(MoleculeFiles(crd, psf, (prm,), box_nm=(2.5, 2.5, 2.5)))
    (note,) = _on_box(molecule)
    assert note.startswith("the cutoff is CHARMM's: 1.2 nm, with a switch from 1.0 nm on")
    system = {"topology": "w.psf", "periodic": True, "n_descriptor": 9}
    text = [config_text("w", {**system, "charmm": charmm}, 27, []) for charmm in (True, False)]
    assert ["nonbonded_cutoff_nm = 1.0" in found for found in text] == [False, True]


def test_a_modified_residue_of_the_target_is_named(tmp_path):
    modified = CHIGNOLIN.read_text().replace("THR A   6", "TPO A   6")
    (tmp_path / "t.pdb").write_text(modified)
    with pytest.raises(InputError, match=r"TPO6 of .*target.pdb is a modified residue, which is not in the descriptor"):
        new_system(tmp_path / "a", Request(pdb=CHIGNOLIN, target=tmp_path / "t.pdb"))


def test_namd_gets_the_masses_of_a_psf_and_openmm_heavier_ones():
    text = {
        engine: config_text("x", {"topology": "a.psf", "periodic": True, "n_descriptor": 9}, 99, [], engine)
        for engine in ("namd", "openmm")
    }
    assert ["hydrogen_mass_amu" in found for found in text.values()] == [False, True]


def test_a_molecule_without_four_calphas_has_the_heavy_atoms_of_the_solute(tmp_path):
    """Alanine dipeptide stays near its start at 500 K: another seed is tried, and nobody is told of a target."""
    _, notes = new_system(tmp_path / "a", Request(pdb=config.inputs() / "plc" / "ace-leu-nme.pdb", name="capped"))
    settings, structures = loaded(tmp_path / "a", "capped")
    assert settings.system.descriptor == "solute and heavy"
    assert len(structures.descriptor) == 13
    assert any("there are 1 C-alpha atoms, and 4 are needed" in note for note in notes)


def test_a_structure_that_does_not_unfold_asks_for_a_target(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "unfold", lambda molecule, seed: molecule.positions_nm)
    with pytest.raises(InputError, match="keeps its structure at 500 K.*--target"):
        new_system(tmp_path / "a", Request(pdb=CHIGNOLIN, name="stiff"))


def test_the_box_of_an_amber_system_is_used_wherever_it_is(tmp_path):
    from molecule_files import EDGES, nine_waters, write_amber

    topology, positions, system = nine_waters()
    write_amber(topology, system, positions, tmp_path / "b.prmtop", tmp_path / "b.rst7", EDGES)
    write_amber(topology, system, positions, tmp_path / "a.prmtop", tmp_path / "a.rst7")  # IFBOX = 0, no box
    moved = positions + np.repeat(np.random.default_rng(0).normal(scale=0.1, size=(9, 3)), 3, axis=0)
    write_amber(topology, system, moved, tmp_path / "c.prmtop", tmp_path / "target.rst7", EDGES)
    files = {"topology": tmp_path / "a.prmtop", "target": tmp_path / "target.rst7", "name": "wet"}
    for coordinates, box in (("b.rst7", None), ("a.rst7", EDGES)):
        request = Request(coordinates=tmp_path / coordinates, box=box, **files)
        with pytest.raises(InputError, match="no atoms that are 'solute and heavy'"):  # water alone is no solute
            new_system(tmp_path / coordinates.removesuffix(".rst7"), request)
    with pytest.raises(InputError, match="9 molecules of water and no box: set box_nm"):
        new_system(tmp_path / "x", Request(coordinates=tmp_path / "a.rst7", **files))


def test_a_file_called_like_a_use_case_gives_another_name(tmp_path):
    start = tmp_path / "spike.pdb"
    start.write_text(CHIGNOLIN.read_text())
    _, notes = new_system(tmp_path / "s", Request(pdb=start, target=config.inputs() / "cln025-target.pdb"))
    settings, _ = loaded(tmp_path / "s", "my-spike")
    assert (settings.system.name, settings.system.model) == ("my-spike", "all-atom")
    assert any("my-spike" in note for note in notes)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"pdb": VILLIN, "name": "spike"}, "spike is an embedded use case: give another --name"),
        ({"pdb": VILLIN, "box": (3.0, 3.0, 3.0)}, "go with --topology"),
        ({"pdb": VILLIN, "solvent": "vacuum"}, "go with --topology"),
        ({"pdb": Path("nowhere.pdb")}, r"nowhere\.pdb does not exist"),
        ({"topology": Path("a.prmtop")}, "add --coordinates"),
        ({"pdb": VILLIN, "coordinates": VILLIN}, "go with --topology"),
        ({"topology": VILLIN, "coordinates": VILLIN, "engine": "lammps"}, "--input goes with --engine lammps, which"),
        ({"pdb": VILLIN, "input": VILLIN}, "--input goes with --engine lammps, which needs it"),
        (
            {"topology": VILLIN, "coordinates": VILLIN, "engine": "lammps", "input": VILLIN},
            "--engine lammps needs --target: no start is unfolded from a data file",
        ),
        ({"pdb": VILLIN, "engine": "gromacs"}, "--engine gromacs runs files of its own, not --pdb: give --topology"),
        ({"pdb": VILLIN, "name": "a/b"}, "cannot be used for files"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, request_, words):
    with pytest.raises((InputError, ConfigError), match=words):
        new_system(tmp_path / "x", Request(**request_))


def test_a_full_directory_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(RunDirectoryError, match="not empty"):
        new_system(tmp_path, Request(pdb=VILLIN))


def test_an_unknown_use_case_needs_its_own_file(tmp_path):
    (tmp_path / "c.toml").write_text("[run]\nusecase = 'mine'\n")
    with pytest.raises(ConfigError, match="unknown use case 'mine'"):
        config.load("mine", tmp_path / "c.toml")


def test_how_long_unfolding_takes(monkeypatch):
    monkeypatch.undo()
    assert [prepare.unfolding_ps(n) for n in (100, 200, 400, 5000)] == [100.0, 100.0, 25.0, 5.0]
