"""What the ligands of a run are: their structures, drawn by RDKit where it is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..analysis.records import table
from ..analysis.run import Run
from .tables import Rows

MOST, IN_A_ROW, WIDTH, HEIGHT = 40, 4, 330, 260
CAPTION = (
    "The ligands that the run has files of. Bond orders are inferred from the geometry for neutral molecules; where "
    "that fails, all bonds are drawn as single ones. Ligands that are part of a complex's coordinates are not drawn."
)
CURE = "RDKit is not installed: pip install rdkit"
UNREADABLE = "RDKit can read none of the ligands' files"


def ligand_files(run: Run) -> dict[str, Path]:
    """PDB files of ligands that were given alone, by the name of their complex."""
    declared = table(run.settings.get("system")).get("complexes")
    rows = [table(row) for row in declared] if isinstance(declared, list) else []
    files = {str(row.get("name")): run.directory / str(row["ligand"]) for row in rows if row.get("ligand")}
    return {name: path for name, path in files.items() if path.is_file()}


def molecules(run: Run) -> dict[str, Any]:
    """The ligands as molecules of RDKit, without hydrogens; none without RDKit."""
    if find_spec("rdkit") is None:
        return {}
    from rdkit import rdBase

    with rdBase.BlockLogs():
        return _read(ligand_files(run))


def _read(files: dict[str, Path]) -> dict[str, Any]:
    from rdkit import Chem
    from rdkit.Chem import rdDepictor, rdDetermineBonds

    found = {}
    for name, path in files.items():
        molecule = Chem.MolFromPDBFile(str(path), removeHs=False)
        if molecule is None:
            continue
        try:
            rdDetermineBonds.DetermineBondOrders(molecule, charge=0)
        except ValueError:
            molecule = Chem.MolFromPDBFile(str(path), removeHs=False)
        molecule = Chem.RemoveHs(molecule, sanitize=False)
        rdDepictor.Compute2DCoords(molecule)
        found[name] = molecule
    return found


def reason() -> str:
    """Why there is no structure of a ligand that has a file."""
    return CURE if find_spec("rdkit") is None else UNREADABLE


def structure_table(run: Run) -> Rows:
    """One row per ligand: its name and SMILES."""
    found = molecules(run)
    if not found:
        return []
    from rdkit import Chem

    return [
        {"complex": name, "smiles": Chem.MolToSmiles(molecule), "heavy_atoms": molecule.GetNumHeavyAtoms()}
        for name, molecule in found.items()
    ]


def draw_ligands(run: Run, path: Path) -> bool:
    """The structures with their names. False: no data."""
    found = dict(list(molecules(run).items())[:MOST])
    if not found:
        return False
    from rdkit.Chem.Draw import rdMolDraw2D

    columns = min(IN_A_ROW, len(found))
    n_rows = -(-len(found) // columns)
    canvas = rdMolDraw2D.MolDraw2DCairo(columns * WIDTH, n_rows * HEIGHT, WIDTH, HEIGHT)
    canvas.DrawMolecules(list(found.values()), legends=list(found))
    canvas.FinishDrawing()
    path.write_bytes(canvas.GetDrawingText())
    return True
