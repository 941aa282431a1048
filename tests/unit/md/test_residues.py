"""Residues are what their names and atoms say, the same in every reader."""

import pytest
from molecule_files import nine_waters
from openmm import app

from ddmd_mpi.md import residues
from ddmd_mpi.md.selection import default_descriptor, select

ELEMENTS = {
    "Na": app.element.sodium,
    "Ca": app.element.calcium,
    "C": app.element.carbon,
    "O": app.element.oxygen,
    "H": app.element.hydrogen,
    "M": None,
    "P": app.element.phosphorus,
}


def residue(name, *atoms, topology=None):
    """A residue of these atoms, which are NAME or NAME:ELEMENT."""
    topology = topology or app.Topology()
    made = topology.addResidue(name, topology.addChain())
    for atom in atoms:
        label, _, symbol = atom.partition(":")
        topology.addAtom(label, ELEMENTS[symbol or label[0]], made)
    return made


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (residue("T4X", "OW", "HW1", "HW2", "MW"), "water"),
        (residue("TIP4", "OH2:O", "H1", "H2", "M"), "water"),
        (residue("HOH", "O"), "water"),
        (residue("DOD", "O"), "water"),
        (residue("SOD", "SOD:Na"), "salt"),
        (residue("XYZ", "Na:Na"), "salt"),
        (residue("CA", "CA:Ca"), "ion"),
        (residue("POPC", "P", "C1"), "lipid"),
        (residue("NMA", "N:C", "CA:C"), "cap"),
        (residue("HSP", "CA:C"), "amino acid"),
        (residue("NGLU", "CA:C"), "amino acid"),
        (residue("ASPP", "CA:C"), "amino acid"),
        (residue("GLY", "CA:C"), "amino acid"),
        (residue("MOH", "O", "H1", "C"), "ligand"),
    ],
    ids=lambda x: x if isinstance(x, str) else x.name,
)
def test_what_a_residue_is(found, kind):
    kinds = {
        "water": residues.is_water(found),
        "salt": residues.is_salt(found),
        "ion": residues.is_ion(found) and not residues.is_salt(found),
        "lipid": residues.is_lipid(found),
        "cap": residues.is_protein(found) and not residues.is_amino_acid(found),
        "amino acid": residues.is_amino_acid(found),
        "ligand": residues.is_ligand(found),
    }
    assert {name for name, true in kinds.items() if true} == {kind}


def test_the_default_descriptor_has_neither_water_nor_ions_nor_lipids():
    topology = nine_waters("T4X")[0]
    residue("NA", "NA:Na", topology=topology)
    residue("POPE", "P", "C1", topology=topology)
    residue("ALA", "CA:C", "HA:H", topology=topology)
    residue("G", "P", "C1'", topology=topology)
    descriptor, n, reason = default_descriptor(topology)
    assert [a.name for a in select(topology, descriptor)] == ["CA", "P", "C1'"]
    assert n == 3
    assert "1 C-alpha" in reason


def test_four_calphas_are_enough():
    topology = app.Topology()
    for name in ("HSD", "CYX", "GLH", "ALA"):
        residue(name, "CA:C", "CB:C", topology=topology)
    assert default_descriptor(topology)[:2] == (["CA"], 4)
