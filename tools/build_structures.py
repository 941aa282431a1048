"""Regenerate the structures of the embedded use cases: ``python tools/build_structures.py [NAME ...] [--output DIR]``.

Targets are the C-alpha tables below, and for spike a chain that is made up. All-atom starts are chains built from the
sequence (PeptideBuilder, needed here only), protonated at pH 7, collapsed by 100 ps at 500 K with a fixed seed, and
minimised. Dynamics is chaotic: another processor or version of OpenMM gives another unfolded start.
"""

from __future__ import annotations

import argparse
import io
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm
from Bio.PDB import PDBIO
from Bio.SeqUtils import seq3
from compact_chain import compact_chain
from openmm import app, unit
from PeptideBuilder import PeptideBuilder

from ddmd_mpi.md.go_model import go_system
from ddmd_mpi.md.prepare import hot_run
from ddmd_mpi.structure.rmsd import superposed_rmsd

INPUTS = Path(__file__).resolve().parents[1] / "inputs"


@dataclass(frozen=True)
class Molecule:
    """A chain: its reference entry, its C-alpha table (one-letter code, x, y, z in angstrom), its number of atoms."""

    entry: str
    table: str
    n_atoms: int
    seed: int

    @property
    def sequence(self) -> str:
        """One-letter codes."""
        return "".join(row.split()[0] for row in self.table.split("|"))

    @property
    def positions(self) -> np.ndarray:
        """C-alpha positions, angstrom, shape (n_residues, 3)."""
        return np.array([[float(x) for x in row.split()[1:]] for row in self.table.split("|")])


CLN025 = Molecule(
    entry="CHIGNOLIN CLN025, PDB ENTRY 5AWL, C-ALPHA ATOMS (HONDA ET AL., J. AM. CHEM. SOC. 130, 15327 (2008))",
    table="""Y 24.935 20.652 10.774 | Y 21.801 19.381 9.017 | D 18.477 20.539 10.432 | P 16.223 17.660 11.537 |
    E 13.040 19.289 10.212 | T 14.200 20.806 6.941 | G 17.256 18.676 6.039 | T 19.242 21.760 5.125 |
    W 22.762 22.680 6.241 | Y 23.135 25.467 8.794""",
    n_atoms=166,
    seed=4,
)
BBA = Molecule(
    entry="FSD-EY (BBA), PDB ENTRY 1FME MODEL 1, C-ALPHA ATOMS (SARISKY, MAYO, J. MOL. BIOL. 307, 1411 (2001))",
    table="""E -13.829 6.504 3.488 | Q -10.613 7.221 1.531 | Y -9.515 5.226 -1.559 | T -9.557 1.419 -1.196 |
    A -6.376 0.662 -3.210 | K -5.621 -3.082 -3.057 | Y -2.198 -4.652 -3.679 | K -1.617 -8.034 -1.979 |
    G -5.080 -8.789 -0.537 | R -4.842 -5.602 1.571 | T -6.793 -2.394 0.833 | F -4.864 0.839 1.567 |
    R -6.647 3.755 3.277 | N -3.569 5.905 3.992 | E -0.800 7.354 1.778 | K 1.753 6.619 4.545 |
    E 1.030 2.887 4.218 | L 0.963 2.712 0.391 | R 4.129 4.857 0.190 | D 5.785 2.188 2.395 |
    F 4.159 -0.951 0.898 | I 4.937 -0.668 -2.861 | E 8.304 0.776 -1.772 | K 9.014 -2.402 0.232 |
    F 7.279 -5.066 -1.891 | K 8.638 -3.621 -5.173 | G 8.835 -7.203 -6.505 | R 12.235 -8.961 -6.575""",
    n_atoms=504,
    seed=1,
)


def calpha_pdb(sequence: str, positions: np.ndarray, remarks: list[str]) -> str:
    """PDB text of a C-alpha chain of one-letter codes; `positions` in angstrom."""
    lines = [f"REMARK   1 {text}" for remark in remarks for text in wrapped(remark)]
    for i, (code, (x, y, z)) in enumerate(zip(sequence, positions, strict=True), start=1):
        residue = seq3(code).upper()
        lines.append(f"ATOM  {i:5d}  CA  {residue} A{i:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C  ")
    return "\n".join([*lines, "TER", "END", ""])


def wrapped(text: str, width: int = 66) -> list[str]:
    """`text` in lines of at most `width` characters."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def built_chain(sequence: str) -> app.Modeller:
    """Extended all-atom chain with charged ends, protonated at pH 7."""
    phi, psi = [-120.0] * (len(sequence) - 1), [130.0] * (len(sequence) - 1)
    chain = PeptideBuilder.make_structure(sequence, phi, psi)
    PeptideBuilder.add_terminal_OXT(chain)
    text = io.StringIO()
    writer = PDBIO()
    writer.set_structure(chain)
    writer.save(text)
    pdb = app.PDBFile(io.StringIO(text.getvalue()))
    modeller = app.Modeller(pdb.topology, pdb.positions)
    random.seed(0)  # Modeller places hydrogens with Python's generator before it relaxes them
    reference = openmm.Platform.getPlatformByName("Reference")
    modeller.addHydrogens(app.ForceField("amber99sbildn.xml", "amber99_obc.xml"), pH=7.0, platform=reference)
    return modeller


def build_all_atom(output: Path, name: str, molecule: Molecule) -> None:
    """Write NAME-start.pdb and NAME-target.pdb."""
    (output / f"{name}-target.pdb").write_text(calpha_pdb(molecule.sequence, molecule.positions, [molecule.entry]))
    modeller = built_chain(molecule.sequence)
    found = modeller.topology.getNumAtoms()
    if found != molecule.n_atoms:
        raise ValueError(f"{name}: {molecule.n_atoms} atoms were expected, got {found}")
    force_field = app.ForceField("amber99sbildn.xml", "amber99_obc.xml")
    system = force_field.createSystem(
        modeller.topology, nonbondedMethod=app.NoCutoff, constraints=app.HBonds, hydrogenMass=3.0 * unit.amu
    )
    start = np.asarray(modeller.positions.value_in_unit(unit.nanometer))
    hot = hot_run(system, start, n_steps=25_000, timestep_fs=4.0, seed=molecule.seed)
    origin = f"BUILT FROM THE SEQUENCE {molecule.sequence}"
    write_start(output, name, origin, modeller.topology, hot, molecule.positions)


def write_start(
    output: Path, name: str, origin: str, topology: app.Topology, positions_nm: np.ndarray, target: np.ndarray
) -> None:
    """Write NAME-start.pdb with the distance to the target, angstrom, in a remark."""
    centred = 10.0 * (positions_nm - positions_nm.mean(axis=0))
    ca = [a.index for a in topology.atoms() if a.name == "CA"]
    text = io.StringIO()
    app.PDBFile.writeFile(topology, centred * unit.angstrom, text)
    body = [line for line in text.getvalue().splitlines() if not line.startswith("REMARK")]
    rmsd = superposed_rmsd(centred[ca], target)
    remark = f"UNFOLDED START, {origin}, {rmsd:.1f} A FROM THE TARGET (C-ALPHA RMSD)"
    lines = [f"REMARK   1 {line}" for line in wrapped(remark)]
    (output / f"{name}-start.pdb").write_text("\n".join([*lines, *body, ""]))


def build_go(output: Path, name: str, molecule: Molecule) -> None:
    """Write NAME-start.pdb and NAME-target.pdb of the structure-based model."""
    write_go(output, name, molecule.sequence, molecule.positions, molecule.entry, n_steps=100_000, seed=molecule.seed)


def build_compact(output: Path, name: str, n: int, seed: int) -> None:
    """Write NAME-start.pdb and NAME-target.pdb of a made-up chain of `n` beads."""
    entry = (
        f"MADE-UP COMPACT CHAIN OF {n} C-ALPHA ATOMS, SEED {seed}: NO PROTEIN, BUT ONE OF ITS SIZE, WRITTEN BY "
        "TOOLS/BUILD_STRUCTURES.PY"
    )
    write_go(output, name, "A" * n, compact_chain(n, seed), entry, n_steps=8_000, seed=seed)


def write_go(
    output: Path, name: str, sequence: str, positions: np.ndarray, entry: str, n_steps: int, seed: int
) -> None:
    """Write the target, angstrom, and a start that is its structure-based model after `n_steps` at 500 K."""
    target = calpha_pdb(sequence, positions, [entry])
    (output / f"{name}-target.pdb").write_text(target)
    topology = app.PDBFile(io.StringIO(target)).topology
    hot = hot_run(go_system(0.1 * positions), 0.1 * positions, n_steps, 20.0, seed)
    origin = f"BUILT FROM THE SEQUENCE {sequence}" if len(sequence) < 100 else f"OF {len(sequence)} MADE-UP RESIDUES"
    write_start(output, name, origin, topology, hot, positions)


BUILDERS = {
    "cln025": lambda output: build_all_atom(output, "cln025", CLN025),
    "bba": lambda output: build_all_atom(output, "bba", BBA),
    "bba-go": lambda output: build_go(output, "bba-go", BBA),
    "spike": lambda output: build_compact(output, "spike", 3375, seed=1),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BUILDERS))
    parser.add_argument("--output", type=Path, default=INPUTS)
    options = parser.parse_args()
    for chosen in options.names or BUILDERS:
        BUILDERS[chosen](options.output)
