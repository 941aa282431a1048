"""Reading a user's start and target: what is accepted, and the sentence that refuses the rest."""

import os
from pathlib import Path

import numpy as np
import pytest
from openmm import app, unit

from ddmd_mpi.config import inputs, load
from ddmd_mpi.config.dynamics import SystemSection
from ddmd_mpi.errors import InputError
from ddmd_mpi.md.coordinates import read_pdb
from ddmd_mpi.md.structures import load_structures
from ddmd_mpi.structure.rmsd import superposed_rmsd

DATA = Path(os.environ.get("DDMD_MPI_TEST_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no test data: set DDMD_MPI_TEST_DATA")
START, TARGET = inputs() / "cln025-start.pdb", inputs() / "cln025-target.pdb"


def section(start=START, target=TARGET, **settings):
    return SystemSection(name="test", start=start, target=target, **settings)


def rewrite(path, text, old, new):
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_a_full_atom_target_gives_its_descriptor_atoms(tmp_path):
    topology, positions = read_pdb(START)
    moved = positions + np.random.default_rng(0).normal(scale=0.1, size=positions.shape)
    with (tmp_path / "target.pdb").open("w") as file:
        app.PDBFile.writeFile(topology, moved * unit.nanometer, file)
    structures = load_structures(section(target=tmp_path / "target.pdb"))
    np.testing.assert_allclose(structures.target_nm, moved[structures.descriptor], atol=1e-4)


def test_of_several_models_the_first_counts(tmp_path):
    atoms = [line for line in TARGET.read_text().splitlines() if line.startswith("ATOM")]
    other = [line[:30] + line[38:46] + line[30:38] + line[46:] for line in atoms]
    lines = ["MODEL        1", *atoms, "ENDMDL", "MODEL        2", *other, "ENDMDL", "END", ""]
    (tmp_path / "models.pdb").write_text("\n".join(lines))
    expected = load_structures(section()).target_nm
    np.testing.assert_array_equal(load_structures(section(target=tmp_path / "models.pdb")).target_nm, expected)


def test_other_descriptor_atoms(tmp_path):
    topology, positions = read_pdb(START)
    with (tmp_path / "target.pdb").open("w") as file:
        app.PDBFile.writeFile(topology, 1.5 * positions * unit.nanometer, file)
    structures = load_structures(section(target=tmp_path / "target.pdb", descriptor=["CA", "CB"]))
    assert len(structures.descriptor) == 19  # glycine has no CB


def test_names_of_protonation_states_are_the_same_residue(tmp_path):
    target = rewrite(tmp_path / "target.pdb", TARGET.read_text(), "ASP", "ASH")
    assert len(load_structures(section(target=target)).target_nm) == 10


def test_a_missing_file():
    with pytest.raises(InputError, match="nowhere.pdb does not exist"):
        load_structures(section(start=Path("nowhere.pdb")))


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", b"ATOM  what is this line supposed to be, then? no\n", b"\xff\xfe\x00"]
)
def test_a_file_that_is_no_pdb(tmp_path, content):
    (tmp_path / "bad.pdb").write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.pdb"):
        load_structures(section(target=tmp_path / "bad.pdb"))


def test_a_file_without_descriptor_atoms(tmp_path):
    target = rewrite(tmp_path / "target.pdb", TARGET.read_text(), " CA ", " CB ")
    with pytest.raises(InputError, match="holds no CA atoms of a protein"):
        load_structures(section(target=target))


def test_calcium_is_no_descriptor_atom(tmp_path):
    ion = "HETATM   11 CA    CA A  11       0.000   0.000   0.000  1.00  0.00          CA  \n"
    target = rewrite(tmp_path / "target.pdb", TARGET.read_text(), "TER\n", "TER\n" + ion)
    assert len(load_structures(section(target=target)).target_nm) == 10


def test_different_residues_are_named(tmp_path):
    target = rewrite(tmp_path / "target.pdb", TARGET.read_text(), "ASP A   3", "ASN A   3")
    with pytest.raises(InputError, match=r"descriptor atom 3 is CA of ASP3 .* CA of ASN3"):
        load_structures(section(target=target))


def test_different_numbers_of_residues(tmp_path):
    lines = TARGET.read_text().splitlines(keepends=True)
    (tmp_path / "target.pdb").write_text("".join(line for line in lines if " A  10 " not in line))
    with pytest.raises(InputError, match=r"10 descriptor atoms .*, 9 in"):
        load_structures(section(target=tmp_path / "target.pdb"))


def test_a_target_that_equals_the_start_is_refused():
    with pytest.raises(InputError, match="equals the start"):
        load_structures(section(target=START))


@needs_data
def test_published_nmr_models_of_bba():
    structures = load_structures(section(inputs() / "bba-start.pdb", DATA / "bba" / "1FME-folded.pdb"))
    ours = load_structures(load("bba").system)
    assert superposed_rmsd(structures.target_nm, ours.target_nm) < 1e-3


@needs_data
@pytest.mark.parametrize(("start", "target"), [("bba/1FME-unfolded.pdb", "bba/1FME-folded.pdb"),
                                               ("cln025/unfolded.pdb", "cln025/ref.pdb")])  # fmt: skip
def test_published_starts_and_targets(start, target):
    structures = load_structures(section(DATA / start, DATA / target, solvent="implicit"))
    assert superposed_rmsd(structures.positions_nm[structures.descriptor], structures.target_nm) > 0.3
