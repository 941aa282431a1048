"""What a residue is, by its name and its atoms: the one table of residue names.

Names are those of the PDB and of AMBER, CHARMM and GROMACS. Water and ions are also recognised by their atoms, since
force fields invent names for them.
"""

from __future__ import annotations

from collections import Counter

from openmm import app
from openmm.app.topology import Atom, Residue

STANDARD_NAMES = (
    "ALA",
    "ARG",
    "ASN",
    "ASP",
    "CYS",
    "GLN",
    "GLU",
    "GLY",
    "HIS",
    "ILE",
    "LEU",
    "LYS",
    "MET",
    "PHE",
    "PRO",
    "SER",
    "THR",
    "TRP",
    "TYR",
    "VAL",
)
#: Names that say a protonation state or a disulfide -> the standard residue, and AMBER's name of the state.
STATES = {
    **dict.fromkeys(("ASH", "ASPH", "ASPP"), ("ASP", "ASH")),
    **dict.fromkeys(("GLH", "GLUH", "GLUP"), ("GLU", "GLH")),
    **dict.fromkeys(("HID", "HSD", "HISD", "HISA", "HIS1"), ("HIS", "HID")),
    **dict.fromkeys(("HIE", "HSE", "HISE", "HISB"), ("HIS", "HIE")),
    **dict.fromkeys(("HIP", "HSP", "HISP", "HISH", "HIH", "HSH"), ("HIS", "HIP")),
    **dict.fromkeys(("LYN", "LSN", "LYSN"), ("LYS", "LYN")),
    **dict.fromkeys(("LYP", "LYSH"), ("LYS", "LYS")),
    **dict.fromkeys(("CYM", "CYSD"), ("CYS", "CYM")),
    **dict.fromkeys(("CYX", "CYS2", "CYS1"), ("CYS", "CYX")),
    **dict.fromkeys(("CYN", "CYSH"), ("CYS", "CYS")),
    **dict.fromkeys(("TYM", "TYD"), ("TYR", "TYM")),
    **dict.fromkeys(("ARN", "ARGN"), ("ARG", "ARN")),
}
#: Every name of an amino acid -> the standard one. AMBER marks the ends of chains by N and C: NALA, CGLU.
STANDARD = {name: name for name in STANDARD_NAMES} | {name: of for name, (of, _) in STATES.items()} | {"MSE": "MET"}
STANDARD |= {end + name: of for name, of in STANDARD.items() if len(name) == 3 for end in "NC" if name != "MSE"}
#: Caps of a chain's ends, and the names that OpenMM has for them.
CAPS = {
    "ACE": "ACE",
    "FOR": "FOR",
    "NME": "NME",
    "NMA": "NME",
    "NAC": "NME",
    "CT3": "NME",
    "NH2": "NH2",
    "NHE": "NH2",
    "CT2": "NH2",
}
WATER = frozenset({
    "HOH", "WAT", "H2O", "SOL", "DOD", "TIP", "TIP2", "TIP3", "TIP4", "TIP5", "TIP3P", "TIP4P", "TIP5P", "T3P", "T4P",
    "T4E", "T5P", "TP2", "TP3", "TP4", "TP5", "TP3M", "SPC", "SPCE", "SPE", "OPC", "OPC3", "OP3", "OP4", "T3H", "W",
})  # fmt: skip
#: Salt: ions of one charge, which are in a solution and in no fold.
SALT = frozenset({
    "NA", "NA+", "SOD", "NIP", "K", "K+", "POT", "KAL", "CL", "CL-", "CLA", "CIM", "CIO", "LI", "LI+", "LIT", "RB",
    "RB+", "RUB", "CS", "CS+", "CES", "BR", "BR-", "IOD", "I-", "F-", "F", "NA1", "CL1",
})  # fmt: skip
METALS = frozenset({
    "MG", "MG2", "MG2+", "CA", "CA2", "CA2+", "CAL", "ZN", "ZN2", "ZN2+", "MN", "MN2", "CO", "3CO", "NI", "CU", "CU1",
    "CU2", "FE", "FE2", "FE3", "CD", "CD2", "HG", "BA", "BAR", "SR", "AL", "AG", "PT", "PB", "CE", "GD", "YB",
})  # fmt: skip
IONS = SALT | METALS
#: Elements that a residue of one atom has if it is an ion.
SALT_ELEMENTS = frozenset({"Li", "Na", "K", "Rb", "Cs", "F", "Cl", "Br", "I"})
ION_ELEMENTS = SALT_ELEMENTS | {
    "Mg",
    "Ca",
    "Sr",
    "Ba",
    "Zn",
    "Mn",
    "Co",
    "Ni",
    "Cu",
    "Fe",
    "Cd",
    "Hg",
    "Al",
    "Ag",
    "Pt",
    "Pb",
}
#: What crystals are grown from.
ADDITIVES = frozenset({
    "ACT", "ACY", "BME", "BOG", "CIT", "DMS", "DTT", "EDO", "EOH", "EPE", "FMT", "GOL", "IPA", "MES", "MPD", "NH4",
    "NO3", "PEG", "PG4", "PGE", "PO4", "SCN", "SO4", "TRS",
})  # fmt: skip
#: Lipids of CHARMM36, of AMBER's Lipid14 to Lipid21 (tails and heads are residues of their own) and of Slipids.
LIPIDS = frozenset({
    *(tails + head for tails in ("DL", "DM", "DP", "DS", "DO", "PO", "SO", "SD", "PL", "DA", "DY", "DE", "LP")
      for head in ("PC", "PE", "PG", "PS", "PA")),
    "CHL1", "CHL", "CLR", "CHOL", "ERG", "PSM", "SSM", "DPP", "LPPC", "POPI", "SAPI", "TOCL", "TMCL",
    "PC", "PE", "PS", "PA", "PGR", "PH-", "OL", "MY", "ST", "LAL", "AR", "DHA", "SPM", "SA", "LEO",
})  # fmt: skip


def is_amino_acid(residue: Residue) -> bool:
    """Whether a residue is an amino acid of a protein, in any protonation state."""
    return residue.name in STANDARD


def is_protein(residue: Residue) -> bool:
    """Whether a residue is an amino acid or the cap of a chain."""
    return residue.name in STANDARD or residue.name in CAPS


def is_water(residue: Residue) -> bool:
    """Whether a residue is water: by its name, or because it is an oxygen with two hydrogens and virtual sites."""
    if residue.name.upper() in WATER:
        return True
    if residue.name in STANDARD or not 3 <= len(residue) <= 6:
        return False
    found = Counter(_symbol(atom) for atom in residue.atoms())
    hydrogens = found.pop("H", 0) + found.pop("D", 0)
    found.pop("", None)
    return found == {"O": 1} and hydrogens == 2


def is_ion(residue: Residue) -> bool:
    """Whether a residue is a single ion."""
    return _is_single(residue, ION_ELEMENTS, IONS)


def is_salt(residue: Residue) -> bool:
    """Whether a residue is a single ion of one charge."""
    return _is_single(residue, SALT_ELEMENTS, SALT)


def is_lipid(residue: Residue) -> bool:
    """Whether a residue is a lipid, or a part of one."""
    return residue.name in LIPIDS and len(residue) > 1


def is_solute(residue: Residue) -> bool:
    """Whether a residue is what a simulation is about: no water, no single ion, no lipid."""
    return not (is_water(residue) or is_ion(residue) or is_lipid(residue))


def is_ligand(residue: Residue) -> bool:
    """Whether a residue of a complex can be its ligand."""
    return is_solute(residue) and not is_protein(residue)


def standard(name: str) -> str:
    """The standard name of an amino acid; any other name as it is."""
    return STANDARD.get(name, name)


def _is_single(residue: Residue, elements: frozenset[str], names: frozenset[str]) -> bool:
    known = _symbol(next(residue.atoms())) in elements or residue.name.upper() in names
    return len(residue) == 1 and residue.name not in STANDARD and known


def _symbol(atom: Atom) -> str:
    return "" if atom.element is None else atom.element.symbol


def count(topology: app.Topology) -> Counter[str]:
    """Numbers of molecules of water, of ions, and of those that are salt."""
    found: Counter[str] = Counter()
    for residue in topology.residues():
        if is_water(residue):
            found["water"] += 1
        elif is_ion(residue):
            found["ions"] += 1
            found["salt"] += is_salt(residue)
    return found
