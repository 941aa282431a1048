"""Regenerate the ligands of the protein-ligand complexes: ``AMBERHOME=... python tools/build_ligands.py``.

Development time only. Writes one PDB file per ligand, ligands.xml and ligands_obc.xml; before that, the energies of the
small molecules are compared, term by term, with those of LEaP's own prmtop files as ParmEd reads them.
"""

from __future__ import annotations

import io
import logging
import tempfile
import xml.etree.ElementTree as ET
from importlib.metadata import version
from pathlib import Path

import numpy as np
import openmm
import parmed
from openmm import app, unit
from parametrise import Molecule, force_field, leap, parametrise

LIGANDS = Path(__file__).resolve().parents[1] / "inputs" / "plc"
#: name -> residue name and SMILES of the small molecules
MOLECULES = {
    "benzene": ("BNZ", "c1ccccc1"),
    "phenol": ("IPH", "Oc1ccccc1"),
    "p-xylene": ("PXY", "Cc1ccc(C)cc1"),
    "n-methylbenzamide": ("NMB", "CNC(=O)c1ccccc1"),
}
#: name -> residues of the capped amino acids, which the protein's force field knows
PEPTIDES = {"ace-leu-nme": "ACE LEU NME", "ace-trp-nme": "ACE TRP NME"}
TERMS = ("HarmonicBondForce", "HarmonicAngleForce", "PeriodicTorsionForce", "NonbondedForce")
TOOLS = (
    f"RDKit {version('rdkit')}; antechamber 22.0, parmchk2 and LEaP of AmberTools as in acpype {version('acpype')} "
    f"(GAFF 2.2.20, AM1-BCC by sqm 19); ParmEd {version('parmed')}"
)
log = logging.getLogger("build_ligands")


def write_xml(root: ET.Element, path: Path, what: str) -> None:
    """Write a force field with a comment that says what it is, of which molecules, and which tools made it."""
    ET.indent(root, " ")
    smiles = "".join(f"\n  {code} {name}: {text}" for name, (code, text) in MOLECULES.items())
    text = ET.tostring(root, encoding="unicode")
    path.write_text(f"<!-- {what}, written by tools/build_ligands.py.\n  {TOOLS}{smiles}\n-->\n{text}\n")


def write_ligand(name: str, remark: str, topology: app.Topology, positions: np.ndarray) -> None:
    """Write NAME.pdb, chain L: minimised in vacuum, at the origin, its longest axis along x, its shortest along z."""
    files = ["amber99sbildn.xml", str(LIGANDS / "ligands.xml")]
    x = minimised(app.ForceField(*files).createSystem(topology), positions)
    x -= x.mean(axis=0)
    axes = np.linalg.svd(x)[2]
    x = (x @ (axes * np.sign(np.linalg.det(axes))).T).round(4) + 0.0  # no -0.000
    for residue in topology.residues():
        residue.id, residue.chain.id = str(residue.index + 1), "L"
    text = io.StringIO()
    app.PDBFile.writeFile(topology, x * unit.nanometer, text, keepIds=True)
    body = [line for line in text.getvalue().splitlines() if not line.startswith("REMARK")]
    (LIGANDS / f"{name}.pdb").write_text("\n".join([f"REMARK   1 {name}, {remark}", *body, ""]))


def minimised(system: openmm.System, positions: np.ndarray) -> np.ndarray:
    """Positions, nm, of the nearest minimum."""
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    openmm.LocalEnergyMinimizer.minimize(context, 0.1)
    return np.array(context.getState(getPositions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer))


def energies(system: openmm.System, positions: np.ndarray) -> dict[str, float]:
    """Energy of each force, kJ/mol."""
    for group, force in enumerate(system.getForces()):
        force.setForceGroup(group)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    states = [context.getState(getEnergy=True, groups={group}) for group in range(system.getNumForces())]
    values = [state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) for state in states]
    return {force.getName(): value for force, value in zip(system.getForces(), values, strict=True)}


def compare(name: str, molecule: Molecule) -> None:
    """Log both energies of the distorted ligand.

    Raises
    ------
    ValueError
        If a term differs by more than 0.1 %, or 0.01 kJ/mol where that is more.
    """
    pdb = app.PDBFile(str(LIGANDS / f"{name}.pdb"))
    x = np.array(pdb.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
    x += 0.01 * np.sin(1.0 + np.arange(x.size)).reshape(x.shape)
    prmtop = parmed.load_file(str(molecule.prmtop))
    ours_field = app.ForceField(str(LIGANDS / "ligands.xml"), str(LIGANDS / "ligands_obc.xml"))
    ours_system = ours_field.createSystem(pdb.topology)
    _copy_radii(ours_system, prmtop)
    ours, theirs = energies(ours_system, x), energies(prmtop.createSystem(), x)
    implicit = prmtop.createSystem(implicitSolvent=app.OBC2, useSASA=True, solventDielectric=78.3)
    theirs["GBSAOBCForce"] = energies(implicit, x)["CustomGBForce"]
    for term in (*TERMS, "GBSAOBCForce"):
        log.info("%s %s: %.4f here, %.4f in the prmtop", name, term, ours[term], theirs[term])
        if abs(ours[term] - theirs[term]) > max(1e-3 * abs(theirs[term]), 0.01):
            raise ValueError(f"{name} {term}: {theirs[term]} was expected, got {ours[term]}")


def _copy_radii(system: openmm.System, prmtop: parmed.amber.AmberParm) -> None:
    """Give the prmtop our radii: LEaP has other ones."""
    force = next(f for f in system.getForces() if f.getName() == "GBSAOBCForce")
    for i, atom in enumerate(prmtop.atoms):
        _, radius, atom.screen = force.getParticleParameters(i)
        atom.solvent_radius = radius.value_in_unit(unit.angstrom)


def build(scratch: Path) -> None:
    """Write everything; intermediate files into `scratch`."""
    molecules = {name: parametrise(*what, scratch) for name, what in MOLECULES.items()}
    for root, file, what in zip(
        force_field(list(molecules.values())),
        ("ligands.xml", "ligands_obc.xml"),
        ("GAFF2/AM1-BCC parameters for amber99sbildn.xml", "Their implicit solvent for amber99_obc.xml"),
        strict=True,
    ):
        write_xml(root, LIGANDS / file, what)
    for name, molecule in molecules.items():
        found = parmed.load_file(str(molecule.prmtop), str(molecule.prmtop.with_suffix(".inpcrd")))
        smiles = MOLECULES[name][1]
        write_ligand(name, f"SMILES {smiles}, minimised in vacuum (GAFF2)", found.topology, 0.1 * found.coordinates)
        compare(name, molecule)
    for name, residues in PEPTIDES.items():
        leap(f"source leaprc.protein.ff14SB\nm = sequence {{ {residues} }}\nsavepdb m {name}.pdb\nquit\n", scratch)
        pdb = app.PDBFile(str(scratch / f"{name}.pdb"))
        positions = np.array(pdb.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
        write_ligand(name, "minimised in vacuum (amber99sbildn)", pdb.topology, positions)


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO)
    with tempfile.TemporaryDirectory() as directory:
        build(Path(directory))
