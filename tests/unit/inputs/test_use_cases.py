"""The embedded structures hold what their sources say, and load."""

import numpy as np
import pytest
from openmm import app

from ddmd_mpi.config import inputs, load
from ddmd_mpi.md.coordinates import read_pdb
from ddmd_mpi.md.structures import load_structures
from ddmd_mpi.structure.rmsd import superposed_rmsd

SEQUENCES = {
    "cln025": "TYR TYR ASP PRO GLU THR GLY THR TRP TYR",
    "bba": (
        "GLU GLN TYR THR ALA LYS TYR LYS GLY ARG THR PHE ARG ASN "
        "GLU LYS GLU LEU ARG ASP PHE ILE GLU LYS PHE LYS GLY ARG"
    ),
}
NAMES = ["cln025", "bba", "bba-go"]


def target_angstrom(name):
    return 10.0 * read_pdb(inputs() / f"{name}-target.pdb")[1]


def native_contacts(x, separation):
    distance = np.linalg.norm(x[:, None] - x[None], axis=-1)
    return int((distance[np.triu_indices(len(x), separation)] < 8.0).sum())


def radius_of_gyration(x):
    return np.sqrt(np.square(x - x.mean(axis=0)).sum(axis=1).mean())


@pytest.mark.parametrize("name", ["bba", "bba-go"])
def test_the_target_of_bba_is_model_1_of_1fme(name):
    x = target_angstrom(name)
    assert x.shape == (28, 3)
    assert np.linalg.norm(np.diff(x, axis=0), axis=1).mean() == pytest.approx(3.829, abs=5e-4)
    assert np.linalg.norm(x[0] - x[-1]) == pytest.approx(31.93, abs=5e-3)
    assert radius_of_gyration(x) == pytest.approx(9.07, abs=5e-3)
    assert native_contacts(x, 3) == 42
    assert native_contacts(x, 4) == 28


def test_the_mirror_image_of_bba_is_as_far_as_the_source_says():
    x = target_angstrom("bba")
    assert superposed_rmsd(x * [1, 1, -1], x) == pytest.approx(4.05, abs=5e-3)


def test_the_target_of_cln025_is_5awl():
    x = target_angstrom("cln025")
    assert x.shape == (10, 3)
    assert np.linalg.norm(x[0] - x[-1]) == pytest.approx(5.51, abs=5e-3)
    assert radius_of_gyration(x) == pytest.approx(4.85, abs=5e-3)
    assert native_contacts(x, 3) == 12


@pytest.mark.parametrize(("name", "n_atoms"), [("cln025", 166), ("bba", 504), ("bba-go", 28)])
def test_starts_are_whole_and_unfolded(name, n_atoms):
    structures = load_structures(load(name).system)
    assert structures.positions_nm.shape == (n_atoms, 3)
    assert " ".join(structures.residue_names) == SEQUENCES[name.removesuffix("-go")]
    assert 10 * superposed_rmsd(structures.positions_nm[structures.descriptor], structures.target_nm) > 4.0


@pytest.mark.parametrize("name", ["cln025", "bba"])
def test_starts_are_proteins_of_left_handed_amino_acids_in_trans(name):
    structures = load_structures(load(name).system)
    x = structures.positions_nm
    residues = [{a.name: x[a.index] for a in r.atoms()} for r in structures.topology.residues()]
    for r in residues:
        if "CB" in r:
            assert np.linalg.det([r["N"] - r["CA"], r["C"] - r["CA"], r["CB"] - r["CA"]]) > 0
    for r, following in zip(residues, residues[1:], strict=False):
        assert np.linalg.norm(r["C"] - following["N"]) == pytest.approx(0.133, abs=0.01)
        assert np.linalg.norm(r["CA"] - following["CA"]) > 0.36


@pytest.mark.parametrize("name", NAMES)
def test_targets_and_starts_name_their_source(name):
    assert "PDB ENTRY" in (inputs() / f"{name}-target.pdb").read_text().replace("\nREMARK   1", "")
    assert (inputs() / f"{name}-start.pdb").read_text().startswith("REMARK   1 UNFOLDED START")


def test_bba_keeps_the_settings_of_the_paper():
    config = load("bba")
    assert config.system.force_field == ["amber99sbildn.xml", "amber99_obc.xml"]
    simulation = config.simulation
    assert (simulation.timestep_fs, simulation.temperature_kelvin) == (2.0, 300.0)
    assert (simulation.segment_ps, simulation.report_interval_ps) == (10_000.0, 50.0)
    assert simulation.hydrogen_mass_amu is None


def test_bba_go_says_what_it_is_not():
    assert "not BBA's biophysics" in load("bba-go").system.note


def test_the_force_field_is_applied_to_every_atom():
    structures = load_structures(load("bba").system)
    system = app.ForceField("amber99sbildn.xml", "amber99_obc.xml").createSystem(structures.topology)
    assert system.getNumParticles() == 504
