"""Say whether a run of cln025 folded chignolin: by RMSD, native contacts and backbone hydrogen bonds together.

    python tools/chignolin.py RUN [--json FILE]

An RMSD of the Cα atoms alone does not make a fold. The crystal structure (PDB 5AWL) has three hydrogen bonds between
backbone atoms: Asp3 N to Thr8 O (2.87 Å), Gly7 N to Asp3 O (2.84 Å), Tyr10 N to Tyr1 O (2.85 Å).
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np

from ddmd_mpi.md.coordinates import read_pdb
from ddmd_mpi.md.emulated.recorded import DCDFrames

#: (residue of N, residue of O), counted from 1, and the longest N-O distance that counts, angstrom.
BONDS, LONGEST = ((3, 8), (7, 3), (10, 1)), 3.5
#: What counts as folded: RMSD, angstrom, at most; fraction of native contacts at least; all three bonds.
RMSD, NATIVE = 1.5, 0.8


def frames(run: Path) -> np.ndarray:
    """RMSD (angstrom), fraction of native contacts and hydrogen bonds of every frame of a run, shape (n_frames, 3)."""
    found = [np.empty((0, 3))]
    for path in sorted((run / "trajectories").glob("sim-*.dcd")):
        with path.with_name(f"{path.stem}.frames.csv").open(newline="") as file:
            rows = [(float(row["rmsd_angstrom"]), float(row["native_contacts"])) for row in csv.DictReader(file)]
        trajectory = DCDFrames(path)
        n = min(len(rows), len(trajectory))
        nitrogens, oxygens = bonded_atoms(next((run / "topology").glob("*.pdb")))
        counts = [bonds(trajectory[i][nitrogens], trajectory[i][oxygens]) for i in range(n)]
        found.append(np.column_stack([np.array(rows[:n]).reshape(n, 2), counts]))
    return np.concatenate(found)


def bonded_atoms(topology: Path) -> np.ndarray:
    """Indices of the N and of the O of each bond, shape (2, n_bonds)."""
    atoms = read_pdb(topology)[0].atoms()
    index = {(a.residue.index + 1, a.name): a.index for a in atoms}
    return np.array([[index[n, "N"], index[o, "O"]] for n, o in BONDS]).T


def bonds(nitrogens_nm: np.ndarray, oxygens_nm: np.ndarray) -> int:
    """How many of the bonds are formed, from the positions of their N and O, nm, shape (n_bonds, 3)."""
    return int((10 * np.linalg.norm(nitrogens_nm - oxygens_nm, axis=1) <= LONGEST).sum())


def verdict(found: np.ndarray) -> dict[str, float]:
    """The figures that are printed."""
    rmsd, native, bond = found.T
    best = int(np.argmin(rmsd))
    folded = (rmsd <= RMSD) & (native >= NATIVE) & (bond == len(BONDS))
    return {
        "frames": len(found),
        "lowest_rmsd_angstrom": rmsd[best],
        "its_native_contacts": native[best],
        "its_hydrogen_bonds": bond[best],
        "most_native_contacts": native.max(),
        "most_hydrogen_bonds": bond.max(),
        "frames_with_two_bonds": (bond >= 2).sum(),
        "folded_frames": folded.sum(),
    }


def main(run: str, *options: str) -> int:
    """Print the figures of the directory `run`."""
    found = frames(Path(run))
    if not len(found):
        sys.stderr.write(f"{run} has no frames of chignolin: name the directory of a run of cln025\n")
        return 2
    figures = {name: round(float(value), 2) for name, value in verdict(found).items()}
    said = (
        "{frames:.0f} frames. Lowest RMSD {lowest_rmsd_angstrom:.2f} Å, with {its_native_contacts:.2f} of the native "
        "contacts and {its_hydrogen_bonds:.0f} of 3 backbone hydrogen bonds.\n"
        "Any frame: at most {most_native_contacts:.2f} of the contacts, {most_hydrogen_bonds:.0f} of 3 hydrogen bonds; "
        "{frames_with_two_bonds:.0f} frames with two or more.\n"
        f"Folded (RMSD <= {RMSD} Å, contacts >= {NATIVE}, 3 hydrogen bonds): {{folded_frames:.0f}} frames.\n"
    )
    sys.stdout.write(said.format(**figures))
    if options[:1] == ("--json",):
        Path(options[1]).write_text(json.dumps(figures) + "\n")
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 4):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
