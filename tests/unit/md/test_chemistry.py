"""``init --pdb`` keeps the chemistry of its input, or says what it changes."""

import io

import numpy as np
import pytest
from Bio.PDB import PDBIO
from openmm import app, unit
from PeptideBuilder import PeptideBuilder

from ddmd_mpi.errors import InputError
from ddmd_mpi.md.complexes import read_protein
from ddmd_mpi.md.coordinates import read_pdb, write_pdb
from ddmd_mpi.md.links import check_links
from ddmd_mpi.md.repair import repair
from ddmd_mpi.md.residues import is_ligand

FIELD = ["amber99sbildn.xml"]
SEQUENCE = "AHHHDEKCA"
#: Residue number -> its name.
AMBER = {2: "HID", 3: "HIE", 4: "HIP", 5: "ASH", 6: "GLH", 7: "LYN", 8: "CYM"}
CHARMM = {2: "HSD", 3: "HSE", 4: "HSP", 5: "ASPP", 6: "GLUP", 7: "LSN", 8: "CYM"}
GROMACS = {2: "HISD", 3: "HISE", 4: "HISH", 5: "ASPH", 6: "GLUH", 7: "LYN", 8: "CYM"}
#: Hydrogens that tell the states.
SHOWN = {2: {"HD1"}, 3: {"HE2"}, 4: {"HD1", "HE2"}, 5: {"HD2"}, 6: {"HE2"}, 7: {"HZ1", "HZ2"}, 8: set()}
TELLING = {"HIS": {"HD1", "HE2"}, "ASP": {"HD2"}, "GLU": {"HE2"}, "LYS": {"HZ1", "HZ2", "HZ3"}, "CYS": {"HG"}}


def peptide(sequence=SEQUENCE):
    """Lines of the heavy atoms of a stretched peptide."""
    n = len(sequence) - 1
    text, writer = io.StringIO(), PDBIO()
    writer.set_structure(PeptideBuilder.make_structure(sequence, [-120.0] * n, [140.0] * n))
    writer.save(text)
    return [line for line in text.getvalue().splitlines(keepends=True) if line.startswith("ATOM")]


def named(lines, names):
    """The lines with other names of residues, four characters at most."""
    return [line[:17] + f"{names.get(int(line[22:26]), line[17:20]):<4s}"[:4] + line[21:] for line in lines]


def saved(tmp_path, lines):
    (tmp_path / "x.pdb").write_text("".join([*lines, "END\n"]))
    return tmp_path / "x.pdb"


def shown(topology):
    """By number of a residue, which of the telling hydrogens it has."""
    return {int(r.id): {a.name for a in r.atoms()} & TELLING[r.name] for r in topology.residues() if r.name in TELLING}


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """The peptide with all hydrogens in unusual states, under standard names."""
    path = tmp_path_factory.mktemp("complete") / "x.pdb"
    found = repair(saved(path.parent, named(peptide(), AMBER)), FIELD)
    write_pdb(found.topology, found.positions_nm, path)
    return [line for line in path.read_text().splitlines(keepends=True) if line.startswith("ATOM")]


@pytest.mark.parametrize("names", [AMBER, CHARMM, GROMACS], ids=["AMBER", "CHARMM", "GROMACS"])
def test_states_that_only_names_say_are_kept_and_said(tmp_path, names):
    lines = named(peptide(), names)
    assert {line[17:21].strip() for line in lines} >= set(names.values())
    found = repair(saved(tmp_path, lines), FIELD)
    assert shown(found.topology) == SHOWN
    assert "kept the states HID2, HIE3, HIP4, ASH5, GLH6, LYN7, CYM8" in found.notes


def test_states_that_hydrogens_show_are_kept_through_the_written_start(tmp_path, complete):
    assert {line[17:20] for line in complete} <= {"ALA", *TELLING}
    found = repair(saved(tmp_path, complete), FIELD)
    assert shown(found.topology) == SHOWN
    assert len(found.positions_nm) == len(complete)
    write_pdb(found.topology, found.positions_nm, tmp_path / "start.pdb")
    topology, _ = read_pdb(tmp_path / "start.pdb")
    assert shown(topology) == SHOWN
    assert app.ForceField(*FIELD).createSystem(topology).getNumParticles() == len(complete)


def test_an_acid_with_its_hydrogen_at_the_other_oxygen(tmp_path, complete):
    swap = {"OE1": "OE2", "OE2": "OE1", "HE2": "HE1"}
    lines = [
        line[:12] + f" {swap[line[12:16].strip()]:<3s}" + line[16:]
        if line[17:20] == "GLU" and line[12:16].strip() in swap
        else line
        for line in complete
    ]
    assert any(line[12:16].strip() == "HE1" and line[17:20] == "GLU" for line in lines)
    assert shown(repair(saved(tmp_path, lines), FIELD).topology) == SHOWN


def test_deuterium_is_hydrogen(tmp_path, complete):
    lines = []
    for line in complete:
        if line[76:78].strip() == "H":
            heavy = line[:12] + line[12:16].replace("H", "D", 1) + line[16:76] + " D" + line[78:]
            lines += [line, heavy] if line[22:26].strip() == "5" else [heavy]  # both at one site, as neutrons see them
        else:
            lines.append(line)
    found = repair(saved(tmp_path, lines), FIELD)
    assert shown(found.topology) == SHOWN
    assert len(found.positions_nm) == len(complete)
    assert any("atoms of deuterium became hydrogen" in note for note in found.notes)


def test_hydrogens_that_the_file_leaves_out_are_named(tmp_path, complete):
    lines = [line for line in complete if (line[12:16].strip(), line[17:20]) != ("HA", "LYS")]
    assert "added hydrogens missing from the file: HA to LYS7" not in repair(saved(tmp_path, complete), FIELD).notes
    lines = [line for line in complete if (line[12:16].strip(), line[22:26].strip()) != ("HA", "9")]
    notes = repair(saved(tmp_path, lines), FIELD).notes
    assert "added hydrogens missing from the file: HA to ALA9" in notes


def test_histidines_of_no_state_are_named(tmp_path):
    notes = repair(saved(tmp_path, peptide("AHA")), FIELD).notes
    assert any(note.startswith("chose H") and "histidines" in note for note in notes)


def between_caps(cap, carbon):
    """Lines of the heavy atoms of two alanines between ACE and a cap of this name, whose carbon has that name."""
    names = {(1, "CA"): "CH3", (1, "C"): "C", (1, "O"): "O", (4, "N"): "N", (4, "CA"): carbon}
    kept = []
    for line in peptide("GAAG"):
        number, atom = int(line[22:26]), line[12:16].strip()
        if number in (2, 3) and atom != "OXT":
            kept.append(line)
        elif (number, atom) in names:
            name = {1: "ACE", 4: cap}[number]
            kept.append(line[:12] + f" {names[number, atom]:<3s}" + line[16] + name + line[20:])
    return kept


@pytest.mark.parametrize("names", [("NMA", "CA"), ("NME", "CH3"), ("NAC", "CH3")])
def test_caps_under_all_their_names(tmp_path, names):
    found = repair(saved(tmp_path, between_caps(*names)), FIELD)
    assert [r.name for r in found.topology.residues()] == ["ACE", "ALA", "ALA", "NME"]
    assert found.topology.getNumAtoms() == 6 + 10 + 10 + 6


@pytest.mark.parametrize("water", ["HOH O H1 H2", "TIP4 O H1 H2 M", "TP4 O H1 H2 M"])
@pytest.mark.parametrize("cap", ["NME", "NMA"])
def test_caps_and_water_are_the_same_to_init_and_to_a_systems_table(tmp_path, cap, water):
    """Both keep the caps, whatever their names, and leave water of any model out; neither is a ligand."""
    found = repair(saved(tmp_path, between_caps("NME", "CH3")), FIELD)
    write_pdb(found.topology, found.positions_nm, tmp_path / "x.pdb")
    lines = [line for line in (tmp_path / "x.pdb").read_text().splitlines(True) if line.startswith(("ATOM", "HETATM"))]
    name, *atoms = water.split()
    lines = [line.replace("NME", cap) for line in lines] + [
        f"HETATM  900 {atom:<4s} {name:<4s}W 900    {90 + x:8.3f}{y:8.3f}   0.000  1.00  0.00          {atom[0]:>2s}\n"
        for atom, x, y in zip(atoms, (0, 0.96, -0.24, 0.1), (0, 0, 0.93, 0.12), strict=False)
    ]
    path = saved(tmp_path, lines)
    repaired, of_table = repair(path, FIELD), read_protein(path)
    assert "left out 1 molecules of water" in repaired.notes
    for topology in (repaired.topology, of_table.topology):
        assert [r.name for r in topology.residues()] == ["ACE", "ALA", "ALA", "NME"]
        assert topology.getNumAtoms() == 6 + 10 + 10 + 6
    assert not any(is_ligand(r) for r in read_pdb(path)[0].residues())


def moved(lines, atom, number, to, by):
    """The lines with one atom beside another."""
    at = next(i for i, line in enumerate(lines) if (line[12:16].strip(), int(line[22:26])) == (atom, number))
    other = next(line for line in lines if (line[12:16].strip(), int(line[22:26])) == to)
    x = np.array([float(other[c : c + 8]) for c in (30, 38, 46)]) + by
    return [*lines[:at], lines[at][:30] + "".join(f"{v:8.3f}" for v in x) + lines[at][54:], *lines[at + 1 :]]


LINK = "LINK         NZ  LYS A   2                 CG  ASP A   6     1555   1555  1.33\n"
SSBOND = "SSBOND   1 CYS A    3    CYS A    7                          1555   1555  2.03\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: moved(x, "NZ", 2, ("CG", 6), (0.0, 0.0, 1.33)), r"NZ of LYS2 .* of ASP6 .*nm\).*--topology"),
        (lambda x: moved(x, "N", 1, ("C", 8), (0.0, 0.0, 1.33)), r"N of GLY1 .* and C of GLY8"),
        (lambda x: moved(x, "CB", 4, ("CB", 5), (1.5, 0.0, 0.0)), r"CB of ALA4 .* and CB of ALA5"),
        (lambda x: [LINK, *x], r"NZ of LYS2 .* and CG of ASP6"),
        (lambda x: [SSBOND, *x], r"SG of CYS3 .* and SG of CYS7"),
        (lambda x: [*x, "CONECT    9   40\n"], "bond between"),
    ],
    ids=["lactam", "ring", "staple", "LINK", "SSBOND too far", "CONECT"],
)
def test_a_bond_that_would_be_opened_is_named(tmp_path, change, words):
    with pytest.raises(InputError, match=words):
        repair(saved(tmp_path, change(peptide("GKCAADCG"))), FIELD)


STRUCT_CONN = """loop_
_struct_conn.id
_struct_conn.conn_type_id
_struct_conn.ptnr1_label_asym_id
_struct_conn.ptnr1_label_seq_id
_struct_conn.ptnr1_label_atom_id
_struct_conn.ptnr2_label_asym_id
_struct_conn.ptnr2_label_seq_id
_struct_conn.ptnr2_label_atom_id
{} {} A {} {} A {} {}
#
"""


@pytest.mark.parametrize(
    ("link", "words"),
    [
        (("covale1", "covale", 2, "NZ", 6, "CG"), r"NZ of LYS2 .* and CG of ASP6"),
        (("disulf1", "disulf", 3, "SG", 7, "SG"), r"SG of CYS3 .* and SG of CYS7"),
        (("hydrog1", "hydrog", 2, "NZ", 6, "CG"), None),
    ],
)
def test_a_link_of_an_mmcif_file_is_one(tmp_path, link, words):
    topology, positions = read_pdb(saved(tmp_path, peptide("GKCAADCG")))
    path = tmp_path / "x.cif"
    with path.open("w") as file:
        app.PDBxFile.writeFile(topology, positions * unit.nanometer, file, keepIds=True)
        file.write(STRUCT_CONN.format(*link))
    if words is None:
        assert check_links(*read_pdb(path), path, lambda _: True) == set()
        return
    with pytest.raises(InputError, match=words):
        repair(path, FIELD)


def test_neutral_lysine_by_its_name_in_gromacs(tmp_path):
    found = repair(saved(tmp_path, named(peptide("AKA"), {2: "LYSN"})), FIELD)
    assert shown(found.topology) == {2: SHOWN[7]}
    assert "kept the states LYN2" in found.notes


def test_the_amide_of_charmms_patch_is_named(tmp_path):
    lines = peptide("AKA")
    lines.append(f"{lines[-1][:12]} NT {lines[-1][16:30]}   9.000   9.000   9.000{lines[-1][54:76]} N\n")
    with pytest.raises(InputError, match=r"has the amide of the end of its chain in ALA3 .*residue of its own"):
        repair(saved(tmp_path, lines), FIELD)


def test_a_state_that_no_force_field_knows(tmp_path):
    with pytest.raises(InputError, match=r"has TYM2, and no force field of init knows that state: rename it to TYR"):
        repair(saved(tmp_path, named(peptide("AYA"), {2: "TYM"})), FIELD)


@pytest.mark.parametrize(("ligand", "advised"), [((0.0, 0.0, 1.43), False), ((9.0, 0.0, 30.0), True)])
def test_leaving_out_is_advised_only_for_what_is_not_bonded(tmp_path, ligand, advised):
    lines = peptide("ANA")
    x = np.array([float(next(a for a in lines if a[12:16] == " ND2")[c : c + 8]) for c in (30, 38, 46)]) + ligand
    sugar = "HETATM  900  C1  NAG A 900    " + "".join(f"{v:8.3f}" for v in x) + "  1.00  0.00           C\n"
    with pytest.raises(InputError, match="holds what no force field here knows: NAG900") as caught:
        repair(saved(tmp_path, [*lines, "TER\n", sugar]), FIELD)
    assert ("--drop NAG" in str(caught.value)) == advised
    notes = repair(saved(tmp_path, [*lines, "TER\n", sugar]), FIELD, ("NAG",)).notes
    assert ("opened the bonds of NAG900 to the protein" in notes) != advised


def test_of_several_models_the_first_is_taken_and_that_is_said(tmp_path):
    lines = peptide("AAAA")
    several = [line for n in (1, 2, 3) for line in (f"MODEL {n:8d}\n", *lines, "ENDMDL\n")]
    assert "took the first of 3 models" in repair(saved(tmp_path, several), FIELD).notes
    assert not any("model" in note for note in repair(saved(tmp_path, lines), FIELD).notes)


def test_models_that_are_the_chains_of_an_assembly_are_refused(tmp_path):
    lines = peptide("AAAA")
    other = [f"{line[:21]}B{line[22:]}" for line in lines]
    parts = ["MODEL        1\n", *lines, "ENDMDL\n", "MODEL        2\n", *other, "ENDMDL\n"]
    with pytest.raises(InputError, match="has chain B in a later model only, as an assembly has: write all chains"):
        repair(saved(tmp_path, parts), FIELD)


def test_amino_acids_of_the_other_hand_are_named(tmp_path):
    lines = peptide("AGLA")
    assert not any("configuration" in note for note in repair(saved(tmp_path, lines), FIELD).notes)
    mirrored = [f"{line[:30]}{-float(line[30:38]):8.3f}{line[38:]}" for line in lines]
    notes = repair(saved(tmp_path, mirrored), FIELD).notes
    assert "ALA1, LEU3, ALA4 have the configuration of D-amino acids" in notes


def test_atoms_at_one_place_are_refused(tmp_path):
    lines = peptide("AKA")
    gone = [f"{line[:30]}  90.000  90.000  90.000{line[54:]}" if line[12:16].strip() in ("CD", "CE", "NZ") else line
            for line in lines]  # fmt: skip
    with pytest.raises(InputError, match=r"has 3 atoms at one place \(CD of LYS2, CE of LYS2, NZ of LYS2\): correct"):
        repair(saved(tmp_path, gone), FIELD)
