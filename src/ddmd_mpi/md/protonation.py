"""Protonation states of a protein's file: states given by names and hydrogens are kept, or the change is reported."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from openmm import app
from openmm.app.internal.pdbx.reader.PdbxReader import PdbxReader
from openmm.app.topology import Residue

from ..errors import InputError
from .residues import CAPS, STANDARD, STATES, standard

#: Where a residue stands: name of the chain, number, insertion code.
Place = tuple[str, str, str]
CIF_SUFFIXES = (".cif", ".mmcif", ".pdbx")
#: Names of the oxygens at a chain's end.
END_OXYGENS = {"OXT", "OT1", "OT2", "O1", "O2"}
#: Acids: the standard name -> the oxygen and its hydrogen that OpenMM knows, and those of the other oxygen.
ACIDS = {"ASP": (("OD2", "HD2"), ("OD1", "HD1")), "GLU": (("OE2", "HE2"), ("OE1", "HE1"))}
#: States that differ from those of pH 7.
UNUSUAL = {"ASH", "GLH", "HIP", "LYN", "CYM"}
#: States without a template in the force fields of `init`.
UNKNOWN = {"TYM", "ARN"}
#: OpenMM's name of a state, if it is another.
VARIANTS = {"CYM": "CYX"}


class States(NamedTuple):
    """What a state each residue is to have: OpenMM's variants, one a residue, and sentences on what was kept."""

    variants: list[str | None]
    notes: list[str]


def place(residue: Residue) -> Place:
    """Where a residue stands."""
    return residue.chain.id.strip(), residue.id.strip(), residue.insertionCode.strip()


def names_in(path: Path) -> dict[Place, str]:
    """Names of residues as the file has them: OpenMM turns HIP into HIS, and others alike."""
    with path.open() as file:
        if path.suffix.lower() in CIF_SUFFIXES:
            return _names_in_cif(file)
        found: dict[Place, str] = {}
        for line in file:
            if line.startswith(("ATOM  ", "HETATM")):
                found.setdefault((line[21].strip(), line[22:26].strip(), line[26].strip()), line[17:21].strip())
    return found


def _names_in_cif(file: Iterable[str]) -> dict[Place, str]:
    data: list[Any] = []
    PdbxReader(file).read(data)
    atoms = data[0].getObj("atom_site")

    def column(*names: str) -> int:
        return next((i for i in map(atoms.getAttributeIndex, names) if i >= 0), -1)

    chain, number = column("auth_asym_id", "label_asym_id"), column("auth_seq_id", "label_seq_id")
    code, name = column("pdbx_PDB_ins_code"), column("auth_comp_id", "label_comp_id")
    found: dict[Place, str] = {}
    for row in atoms.getRowList():
        inserted = "" if code < 0 or row[code] in (".", "?") else row[code]
        found.setdefault((row[chain], row[number], inserted), row[name])
    return found


def normalise(topology: app.Topology, names: dict[Place, str], templates: dict[str, Any]) -> tuple[list, list, list]:
    """Give residues and hydrogens standard names, in place.

    Parameters
    ----------
    names
        Of residues in the file.
    templates
        PDBFixer's, by standard name.

    Returns
    -------
    states
        Per residue the state that its name says, or None.
    surplus
        Atoms to be deleted.
    notes
        A sentence on each change.
    """
    states, surplus, notes = [], [], []
    for residue in topology.residues():
        raw = names.get(place(residue), residue.name)
        if standard(raw) != standard(residue.name) and CAPS.get(raw, raw) != CAPS.get(residue.name, residue.name):
            raw = residue.name  # the name is that of another residue with this number: numbers wrap at 9999
        states.append(STATES[_core(raw)][1] if _core(raw) in STATES and _is_like(residue, raw, templates) else None)
        if raw in STANDARD and _is_like(residue, raw, templates):
            residue.name = STANDARD[raw]
        elif raw in CAPS:
            residue.name = CAPS[raw]
            notes += [f"{raw}{residue.id} became {CAPS[raw]}"] if raw != CAPS[raw] else []
        else:
            residue.name = raw
        surplus += _name_hydrogens(residue, notes)
    n_heavy = _deuterium(topology, surplus)
    return states, surplus, [*notes, *([f"{n_heavy} atoms of deuterium became hydrogen"] if n_heavy else [])]


def _core(name: str) -> str:
    """A name without AMBER's mark of a chain's end."""
    return name[1:] if len(name) == 4 and name not in STATES and name[1:] in STATES else name


def _is_like(residue: Residue, name: str, templates: dict[str, Any]) -> bool:
    """Whether a residue has no heavy atoms but those of its standard twin: HIP is phosphohistidine in the PDB."""
    if STANDARD.get(name) not in templates or name == "MSE":
        return False
    known = {a.name for a in templates[STANDARD[name]].topology.atoms()} | END_OXYGENS
    known |= {"CD"} if STANDARD[name] == "ILE" else set()
    return all(a.name in known for a in residue.atoms() if a.element is not None and a.element.symbol not in ("H", "D"))


def _name_hydrogens(residue: Residue, notes: list[str]) -> list:
    """Move an acid's hydrogen to the oxygen that OpenMM knows with one; atoms to be deleted."""
    atoms = {a.name: a for a in residue.atoms()}
    if residue.name in ACIDS:
        (oxygen, hydrogen), (other, named) = ACIDS[residue.name]
        named = named if named in atoms else "D" + named[1:]
        if named in atoms and hydrogen not in atoms and {oxygen, other} <= atoms.keys():
            atoms[oxygen].name, atoms[other].name = other, oxygen
            atoms[named].name = hydrogen
    gone = [atoms[name] for name in ("HXT", "DXT") if name in atoms and residue.name in STANDARD]
    if gone:
        notes.append(f"left out a hydrogen at the chain end {residue.name}{residue.id}: it is charged")
    return gone


def _deuterium(topology: app.Topology, surplus: list) -> int:
    """Make deuterium hydrogen, and delete what stands beside the hydrogen of the same site; how many there were."""
    n = 0
    for residue in topology.residues():
        names = {a.name for a in residue.atoms()}
        for atom in residue.atoms():
            if atom.element is app.element.deuterium:
                n += residue.name in STANDARD
                name = "H" + atom.name[1:] if atom.name.startswith("D") else atom.name
                if name in names and name != atom.name:
                    surplus.append(atom)
                atom.name, atom.element = name, app.element.hydrogen
    return n


def choose(topology: app.Topology, said: dict[Place, str | None], path: Path) -> States:
    """The state of each residue: what its hydrogens show, or else what its name says; None for that of pH 7.

    Raises
    ------
    InputError
        If a name says a state that no force field here knows.
    """
    bonded = {
        r
        for a, b in topology.bonds()
        if a.residue is not b.residue and a.name == b.name == "SG"
        for r in (a.residue, b.residue)
    }
    variants, kept, notes = [], [], []
    for residue in topology.residues():
        name = said.get(place(residue))
        if name in UNKNOWN:
            raise InputError(
                f"{path} has {name}{residue.id}, and no force field of init knows that state: rename it "
                f"to {residue.name}, or give parameters for all atoms with --topology and --coordinates"
            )
        state = _state(residue, name, residue in bonded)
        if name == "CYX" and residue not in bonded:
            notes.append(f"CYX{residue.id} has no other SG within 0.3 nm: it became {state or 'CYS'}")
        elif name is not None and state != name:
            notes.append(f"{name}{residue.id} has the hydrogens of {state}, which it stays")
        elif state is not None and (name is not None or state in UNUSUAL):
            kept.append(f"{state}{residue.id}")
        variants.append(None if state is None else VARIANTS.get(state, state))
    return States(variants, [*([f"kept the states {', '.join(kept)}"] if kept else []), *notes])


def _state(residue: Residue, said: str | None, in_disulfide: bool) -> str | None:
    """AMBER's name of the state that a residue's hydrogens show; `said` if they do not tell."""
    found = {a.name for a in residue.atoms() if a.element is app.element.hydrogen}
    has_all = any(name.startswith("HB") for name in found)  # the state of a residue without hydrogens is open
    if residue.name == "HIS" and found & {"HD1", "HE2"}:
        return "HIP" if found >= {"HD1", "HE2"} else "HID" if "HD1" in found else "HIE"
    if residue.name in ACIDS and ACIDS[residue.name][0][1] in found:
        return {"ASP": "ASH", "GLU": "GLH"}[residue.name]
    if residue.name == "LYS" and has_all:
        return "LYN" if sum(name.startswith("HZ") for name in found) == 2 else "LYS"
    if residue.name == "CYS":
        if in_disulfide:
            return "CYX"
        if has_all:
            return "CYS" if "HG" in found else "CYM"
        return None if said == "CYX" else said
    return said


def own_hydrogens(topology: app.Topology) -> dict[Place, set[str]]:
    """Names of the hydrogens of the residues that have those of their side chains."""
    found = {place(r): {a.name for a in r.atoms() if a.element is app.element.hydrogen} for r in topology.residues()}
    return {where: names for where, names in found.items() if any(name.startswith("HB") for name in names)}


def completed(
    topology: app.Topology, before: dict[Place, set[str]], actual: list[str | None], variants: list[str | None]
) -> list[str]:
    """Sentences on what adding hydrogens has decided: histidines, and residues that had hydrogens but not all."""
    chosen, added = [], []
    for residue, made, asked in zip(topology.residues(), actual, variants, strict=True):
        if residue.name == "HIS" and asked is None:
            chosen.append(f"{made}{residue.id}")
        names = {a.name for a in residue.atoms() if a.element is app.element.hydrogen}
        new = sorted(names - before.get(place(residue), names))
        added += [f"{' '.join(new)} to {residue.name}{residue.id}"] if new and asked is None else []
    notes = [f"chose {', '.join(chosen)} for histidines without a state in the file"] if chosen else []
    return [*notes, *([f"added hydrogens missing from the file: {', '.join(added[:8])}"] if added else [])]
