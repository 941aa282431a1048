"""Programs of other engines for tests: where they are, and files for them, made by AMBER's tleap and by GROMACS."""

from __future__ import annotations

import fcntl
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: ``make programs`` installs them here.
BIN = ROOT / ".venv-programs" / "bin"
SANDER, TLEAP, GMX, LMP = BIN / "sander", BIN / "tleap", BIN / "gmx", BIN / "lmp"
#: A short minimisation: molecules of water that gmx solvate puts next to others would fly apart.
MINIMISATION = (
    "integrator = steep\nnsteps = 100\nrcoulomb = 0.7\nrvdw = 0.7\nrlist = 0.7\nverlet-buffer-tolerance = -1\n"
)
#: Heavy atoms of alanine dipeptide.
ALANINE = """\
ATOM      1  CH3 ACE A   1       2.000   2.090   0.000
ATOM      2  C   ACE A   1       3.427   2.641   0.000
ATOM      3  O   ACE A   1       4.391   1.877   0.000
ATOM      4  N   ALA A   2       3.555   3.970   0.000
ATOM      5  CA  ALA A   2       4.853   4.614   0.000
ATOM      6  CB  ALA A   2       5.661   4.221  -1.232
ATOM      7  C   ALA A   2       4.713   6.129   0.000
ATOM      8  O   ALA A   2       3.601   6.653   0.000
ATOM      9  N   NME A   3       5.846   6.835   0.000
ATOM     10  CH3 NME A   3       5.846   8.284   0.000
END
"""


def install() -> None:
    """Install the programs if they are not here; a test that needs them fails if that fails."""
    with (Path(tempfile.gettempdir()) / "ddmd-mpi-programs.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (SANDER.exists() and GMX.exists() and LMP.exists()):
            subprocess.run(["make", "programs"], cwd=ROOT, check=True)


def leap(directory: Path, *lines: str) -> tuple[Path, Path]:
    """Make an AMBER topology and its coordinates of the unit that `lines` call m."""
    install()
    commands = ["source leaprc.protein.ff14SB", "set default PBRadii mbondi2", *lines]
    (directory / "leap.in").write_text("\n".join([*commands, "saveamberparm m m.prmtop m.inpcrd", "quit", ""]))
    done = subprocess.run([TLEAP, "-f", "leap.in"], cwd=directory, capture_output=True, text=True, check=False)
    assert (directory / "m.prmtop").stat().st_size, done.stdout
    return directory / "m.prmtop", directory / "m.inpcrd"


def alanine(directory: Path) -> tuple[Path, Path]:
    """Alanine dipeptide, 22 atoms."""
    return leap(directory, "m = sequence { ACE ALA NME }")


def alanine_in_water(directory: Path) -> tuple[Path, Path]:
    """Alanine dipeptide in a box of water, some hundred molecules."""
    return leap(directory, "source leaprc.water.tip3p", "m = sequence { ACE ALA NME }", "solvatebox m TIP3PBOX 7.0 iso")


def chignolin(directory: Path) -> tuple[Path, Path]:
    """CLN025 from its start, 166 atoms; tleap adds the hydrogens, whose names it knows otherwise."""
    lines = (ROOT / "inputs" / "cln025-start.pdb").read_text().splitlines()
    heavy = [line for line in lines if not (line.startswith("ATOM") and line[76:78].strip() == "H")]
    (directory / "heavy.pdb").write_text("\n".join([*heavy, ""]))
    return leap(directory, "m = loadpdb heavy.pdb")


def gmx() -> Path:
    """GROMACS; a test that needs it is skipped where there is no apt-get to install it."""
    install()
    if not GMX.exists():
        pytest.skip("GROMACS is not on PATH, and without apt-get make programs cannot install it")
    return GMX


def gromacs_alanine(directory: Path, water: bool = False, box: str = "cubic") -> tuple[Path, Path]:
    """Alanine dipeptide for GROMACS, 22 atoms; in a box of water some hundred molecules more."""
    (directory / "heavy.pdb").write_text(ALANINE)
    return pdb2gmx(directory, directory / "heavy.pdb", water, box)


def pdb2gmx(directory: Path, pdb: Path, water: bool = False, box: str = "cubic") -> tuple[Path, Path]:
    """Make a GROMACS topology, which includes files of :func:`force_fields`, and coordinates of a protein."""
    files = ("-f", pdb, "-o", "m.gro", "-p", "m.top", "-i", "posre.itp")
    run_gmx(directory, "pdb2gmx", *files, "-ff", "amber99sb-ildn", "-water", "tip3p", "-ignh")
    run_gmx(directory, "editconf", "-f", "m.gro", "-o", "m.gro", "-bt", box, "-d", "0.8" if box == "cubic" else "1.0")
    if water:
        run_gmx(directory, "solvate", "-cp", "m.gro", "-p", "m.top", "-o", "m.gro")
        (directory / "minimisation.mdp").write_text(MINIMISATION)
        files = ("-f", "minimisation.mdp", "-c", "m.gro", "-p", "m.top", "-o", "m.tpr")
        run_gmx(directory, "grompp", *files, "-maxwarn", "9")
        run_gmx(directory, "mdrun", "-deffnm", "m", "-ntmpi", "1", "-ntomp", "1", "-pin", "off")
    return directory / "m.top", directory / "m.gro"


def force_fields() -> Path:
    """The directory of GROMACS's force fields."""
    said = subprocess.run([gmx(), "--version"], capture_output=True, text=True, check=True).stdout
    (prefix,) = re.findall(r"^Data prefix:\s*(\S+)", said, re.MULTILINE)
    return Path(prefix) / "share" / "gromacs" / "top"


def run_gmx(directory: Path, *arguments: object) -> None:
    """Run one of GROMACS's tools."""
    command = [str(gmx()), "-quiet", "-nobackup", *map(str, arguments)]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
