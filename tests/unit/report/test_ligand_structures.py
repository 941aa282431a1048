import html
import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from ddmd_mpi.analysis import open_run
from ddmd_mpi.report import ligand_structures
from ddmd_mpi.report.ligand_structures import draw_ligands, ligand_files, structure_table
from ddmd_mpi.report.write import write_report

LIGANDS = {"phenol": "Oc1ccccc1", "n-methylbenzamide": "CNC(=O)c1ccccc1"}


@pytest.fixture
def of_complexes(fresh):
    """A run with two ligands that were given alone, and one whose file is missing."""
    rows = "".join(
        f'[[system.complexes]]\nname = "{name}"\nligand = "inputs/{name}.pdb"\n' for name in [*LIGANDS, "gone"]
    )
    settings = (fresh / "config.toml").read_text()
    (fresh / "config.toml").write_text(settings.replace("[simulation]", f"{rows}[simulation]"))
    (fresh / "inputs").mkdir()
    for name in LIGANDS:
        shutil.copy(Path(str(files("ddmd_mpi.inputs"))) / "plc" / f"{name}.pdb", fresh / "inputs")
    return fresh


def test_ligands_are_the_molecules_of_their_files(of_complexes, tmp_path):
    pytest.importorskip("rdkit")
    run = open_run(of_complexes)
    assert {row["complex"]: row["smiles"] for row in structure_table(run)} == LIGANDS
    assert draw_ligands(run, tmp_path / "ligands.png")
    assert (tmp_path / "ligands.png").read_bytes().startswith(b"\x89PNG")
    assert "ligand_structures" in {path.stem for path in write_report(of_complexes)}


def test_a_ligand_of_unknown_bond_orders_is_drawn_all_the_same(of_complexes, tmp_path):
    pytest.importorskip("rdkit")
    path = of_complexes / "inputs" / "phenol.pdb"
    hydrogen = next(line for line in path.read_text().splitlines() if line.startswith("HETATM") and " H" in line)
    path.write_text(path.read_text().replace(hydrogen + "\n", ""))
    assert {row["complex"] for row in structure_table(open_run(of_complexes))} == set(LIGANDS)


def test_without_rdkit_the_page_says_how_to_get_it(of_complexes, monkeypatch):
    monkeypatch.setattr(ligand_structures, "find_spec", lambda _: None)
    write_report(of_complexes)
    assert "RDKit is not installed: pip install rdkit" in (of_complexes / "report.html").read_text()


def test_files_that_are_no_molecules_are_named(of_complexes):
    pytest.importorskip("rdkit")
    for name in LIGANDS:
        (of_complexes / "inputs" / f"{name}.pdb").write_text("END\n")
    write_report(of_complexes)
    assert ligand_structures.UNREADABLE in html.unescape((of_complexes / "report.html").read_text())


def test_a_run_of_one_molecule_has_no_ligands(steered):
    assert ligand_files(open_run(steered)) == {}
