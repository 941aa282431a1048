"""GAFF2/AM1-BCC parameters of small molecules as OpenMM force fields: development time only, see inputs/plc/README.md.

Needs RDKit, ParmEd, and the binaries antechamber, sqm, parmchk2 and teLeap of AmberTools below $AMBERHOME.
"""

from __future__ import annotations

import math
import os
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import parmed
from rdkit import Chem
from rdkit.Chem import AllChem

KCAL, ANGSTROM = 4.184, 0.1
SIGMA_OF_RMIN = 2.0 ** (-1.0 / 6.0)
#: Still's radii (nm) as OpenMM's amber99_obc.xml has them, by element and number of bonds; H by the atom that bears it.
GB_RADIUS = {"C3": 0.1875, "C4": 0.19, "N3": 0.1706, "O1": 0.148, "O2": 0.1535, "HN": 0.115, "HO": 0.105, "HC": 0.125}
GB_SCALE = {"H": 0.85, "C": 0.72, "N": 0.79, "O": 0.85}


@dataclass(frozen=True)
class Molecule:
    """A small molecule with its atoms, charges and bonds (`residue`) and the terms of the force field (`terms`)."""

    residue: parmed.modeller.ResidueTemplate
    terms: parmed.amber.AmberParameterSet
    prmtop: Path


def parametrise(code: str, smiles: str, directory: Path) -> Molecule:
    """Conformer, charges, types and terms of a neutral molecule, and LEaP's own prmtop of it; files in `directory`."""
    conformer = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(conformer, randomSeed=1)
    AllChem.MMFFOptimizeMolecule(conformer)
    Chem.MolToMolFile(conformer, str(directory / f"{code}.mol"))
    charges = f"-c bcc -nc 0 -at gaff2 -rn {code} -pf y -s 0"
    amber(f"antechamber -i {code}.mol -fi mdl -o {code}.mol2 -fo mol2 {charges}", directory)
    residue = parmed.load_file(str(directory / f"{code}.mol2"))
    residue.fix_charges(precision=6)
    residue.save(str(directory / f"{code}.mol2"))
    for option, name in (("Y", "all"), ("N", "missing")):
        amber(f"parmchk2 -a {option} -s 2 -i {code}.mol2 -f mol2 -o {code}-{name}.frcmod", directory)
    prmtop = (
        leap(
            f"source leaprc.gaff2\nm = loadmol2 {code}.mol2\nloadamberparams {code}-missing.frcmod\n"
            f"saveamberparm m {code}.prmtop {code}.inpcrd\nquit\n",
            directory,
        )
        / f"{code}.prmtop"
    )
    terms = parmed.amber.AmberParameterSet(str(directory / f"{code}-all.frcmod"))
    return Molecule(residue, unrounded(terms), prmtop)


def unrounded(terms: parmed.amber.AmberParameterSet) -> parmed.amber.AmberParameterSet:
    """The terms with the bonds and angles of gaff2.dat where it has them: parmchk2 rounds what it writes."""
    gaff = parmed.amber.AmberParameterSet(str(Path(os.environ["AMBERHOME"]) / "dat" / "leap" / "parm" / "gaff2.dat"))
    for ours, theirs in ((terms.bond_types, gaff.bond_types), (terms.angle_types, gaff.angle_types)):
        ours.update({kinds: theirs[kinds] for kinds in ours if kinds in theirs})
    return terms


def leap(script: str, directory: Path) -> Path:
    """Run LEaP; the directory that holds what it wrote."""
    (directory / "leap.in").write_text(script)
    data = Path(os.environ["AMBERHOME"]) / "dat" / "leap"
    folders = " ".join(f"-I{data / name}" for name in ("cmd", "parm", "lib", "prep"))
    amber(f"teLeap {folders} -f leap.in", directory)
    return directory


def amber(command: str, directory: Path) -> None:
    """Run a program of AmberTools."""
    program, *arguments = command.split()
    path = Path(os.environ["AMBERHOME"]) / "bin" / program
    subprocess.run([str(path), *arguments], cwd=directory, check=True, stdout=subprocess.DEVNULL)


def force_field(molecules: list[Molecule]) -> tuple[ET.Element, ET.Element]:
    """The molecules' force field, and its part for implicit solvent; atom types are CODE-atom, classes CODE-type."""
    root, implicit = ET.Element("ForceField"), ET.Element("ForceField")
    tags = [
        *("AtomTypes", "Residues", "HarmonicBondForce", "HarmonicAngleForce"),
        *("PeriodicTorsionForce", "NonbondedForce"),
    ]
    sections = {tag: ET.SubElement(root, tag) for tag in tags}
    sections["PeriodicTorsionForce"].set("ordering", "amber")
    sections["NonbondedForce"].attrib.update(coulomb14scale="0.833333", lj14scale="0.5")  # as amber99sbildn.xml
    sections["GBSAOBCForce"] = ET.SubElement(implicit, "GBSAOBCForce")
    for molecule in molecules:
        _atoms(molecule, sections)
        _valence(molecule, sections)
        _torsions(molecule, sections["PeriodicTorsionForce"])
    return root, implicit


def _atoms(molecule: Molecule, sections: dict[str, ET.Element]) -> None:
    code = molecule.residue.name
    template = ET.SubElement(sections["Residues"], "Residue", name=code)
    for atom in molecule.residue.atoms:
        kind = molecule.terms.atom_types[atom.type]
        element, partners = atom.element_name, atom.bond_partners
        near = partners[0].element_name if element == "H" else str(len(partners))
        named = {"type": f"{code}-{atom.name}"}
        mass = {"class": f"{code}-{atom.type}", "element": element, "mass": f"{kind.mass:.4g}"}
        charge = {**named, "charge": f"{atom.charge:.6f}"}
        lennard_jones = _written(sigma=2.0 * SIGMA_OF_RMIN * ANGSTROM * kind.rmin, epsilon=KCAL * kind.epsilon)
        born = _written(radius=GB_RADIUS[element + near], scale=GB_SCALE[element])
        ET.SubElement(sections["AtomTypes"], "Type", name=named["type"], **mass)
        ET.SubElement(template, "Atom", name=atom.name, **named)
        ET.SubElement(sections["NonbondedForce"], "Atom", {**charge, **lennard_jones})
        ET.SubElement(sections["GBSAOBCForce"], "Atom", {**charge, **born})
    for bond in molecule.residue.bonds:
        ET.SubElement(template, "Bond", atomName1=bond.atom1.name, atomName2=bond.atom2.name)


def _valence(molecule: Molecule, sections: dict[str, ET.Element]) -> None:
    """Bonds and angles: Amber's k x^2 is OpenMM's (2 k) x^2 / 2."""
    code, terms = molecule.residue.name, molecule.terms
    for kinds, bond in _once(terms.bond_types):
        k, length = 2.0 * KCAL * bond.k / ANGSTROM**2, ANGSTROM * bond.req
        ET.SubElement(sections["HarmonicBondForce"], "Bond", _classes(code, kinds), **_written(length=length, k=k))
    for kinds, angle in _once(terms.angle_types):
        values = _written(angle=math.radians(angle.theteq), k=2.0 * KCAL * angle.k)
        ET.SubElement(sections["HarmonicAngleForce"], "Angle", _classes(code, kinds), **values)


def _torsions(molecule: Molecule, section: ET.Element) -> None:
    """Proper torsions, and impropers with the central atom, Amber's third, first as OpenMM wants it."""
    code, terms = molecule.residue.name, molecule.terms
    for kinds, series in _once(terms.dihedral_types):
        series = [term for term in series if term.phi_k != 0.0]
        if series:
            ET.SubElement(section, "Proper", {**_classes(code, kinds), **_series(series)})
    for (a, b, centre, c), term in _once(terms.improper_periodic_types):
        ET.SubElement(section, "Improper", {**_classes(code, (centre, a, b, c)), **_series([term])})


def _series(terms: list) -> dict[str, str]:
    found: dict[str, str] = {}
    for i, term in enumerate(terms, start=1):
        found[f"periodicity{i}"] = str(int(term.per))
        found |= _written(**{f"phase{i}": math.radians(term.phase), f"k{i}": KCAL * term.phi_k})
    return found


def _once(types: dict) -> list:
    """Each term once: ParmEd keeps it under its key and the key's reverse."""
    found: dict = {}
    for kinds, term in types.items():
        if kinds not in found and kinds[::-1] not in found:
            found[kinds] = term
    return sorted(found.items(), key=lambda item: item[0])


def _classes(code: str, kinds: tuple[str, ...]) -> dict[str, str]:
    return {f"class{i}": f"{code}-{kind}" for i, kind in enumerate(kinds, start=1)}


def _written(**values: float) -> dict[str, str]:
    return {name: f"{value:.8g}" for name, value in values.items()}
