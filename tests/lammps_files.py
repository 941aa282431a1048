"""LAMMPS's data file and input of an AMBER topology, by way of OpenMM: what users of LAMMPS have."""

from __future__ import annotations

from pathlib import Path

from openmm import HarmonicAngleForce, HarmonicBondForce, NonbondedForce, PeriodicTorsionForce, app, unit

KCAL = 4.184
VACUUM = "boundary s s s\npair_style lj/cut/coul/cut 100.0\n"
BOX = "pair_style lj/cut/coul/long 8.0\nkspace_style pppm 1.0e-6\n"
INPUT = """\
# alanine dipeptide
units real
atom_style full
{pair}bond_style harmonic
angle_style harmonic
dihedral_style charmm
special_bonds amber
read_data system.data
pair_modify mix arithmetic tail {tail}
fix constraints all shake 1.0e-6 100 0 &
  b {constrained}
"""


def lammps(directory: Path, prmtop: Path, inpcrd: Path) -> tuple[Path, Path, Path]:
    """Write the PDB file, the data file and the input of a system; ff14SB has only what `INPUT` names."""
    top, coordinates = app.AmberPrmtopFile(str(prmtop)), app.AmberInpcrdFile(str(inpcrd))
    system = top.createSystem(rigidWater=False)
    forces = {type(force): force for force in system.getForces()}
    atoms = list(top.topology.atoms())
    nonbonded, bonds = forces[NonbondedForce], forces[HarmonicBondForce]
    particles = [tuple(map(_value, nonbonded.getParticleParameters(i))) for i in range(len(atoms))]
    masses = [_value(system.getParticleMass(i)) for i in range(len(atoms))]
    atom_types = _Types((mass, p[1], p[2]) for mass, p in zip(masses, particles, strict=True))
    bond_list = [_bond(bonds, i, atoms) for i in range(bonds.getNumBonds())]
    angles = [_plain(forces[HarmonicAngleForce].getAngleParameters(i)) for i in range(_n_angles(forces))]
    torsions = [_plain(forces[PeriodicTorsionForce].getTorsionParameters(i)) for i in range(_n_torsions(forces))]
    bond_types = _Types(b[2:] for b in bond_list)
    angle_types, torsion_types = _Types(a[3:] for a in angles), _Types(t[4:] for t in torsions)
    x = coordinates.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
    molecule = {a.index: number for number, chain in enumerate(top.topology.chains(), 1) for a in chain.atoms()}
    box = coordinates.boxVectors
    edges = [_value(box[i][i]) * 10 for i in range(3)] if box is not None else None
    low, high = (x.min(axis=0) - 1, x.max(axis=0) + 1) if edges is None else ([0, 0, 0], edges)
    counts = (("atoms", atoms), ("bonds", bond_list), ("angles", angles), ("dihedrals", torsions))
    kinds = (("atom", atom_types), ("bond", bond_types), ("angle", angle_types), ("dihedral", torsion_types))
    out = ["written by tests", "", *(f"{len(found)} {name}" for name, found in counts)]
    out += [f"{len(found)} {name} types" for name, found in kinds]
    out += [f"{a:.6f} {b:.6f} {n}lo {n}hi" for n, a, b in zip("xyz", low, high, strict=True)]
    out += ["", "Masses", "", *(f"{i} {t[0]:.8g}" for i, t in atom_types)]
    out += ["", "Pair Coeffs", "", *(f"{i} {t[2] / KCAL:.10g} {t[1] * 10:.10g}" for i, t in atom_types)]
    out += ["", "Bond Coeffs", "", *(f"{i} {t[1] / 2 / KCAL / 100:.10g} {t[0] * 10:.10g}" for i, t in bond_types)]
    out += ["", "Angle Coeffs", ""]
    out += [f"{i} {t[1] / 2 / KCAL:.10g} {t[0] * 57.29577951308232:.10g}" for i, t in angle_types]
    out += ["", "Dihedral Coeffs", ""]
    out += [f"{i} {t[2] / KCAL:.10g} {t[0]} {round(t[1] * 57.29577951308232)} 0.0" for i, t in torsion_types]
    out += ["", "Atoms # full", ""]
    for i, (mass, p) in enumerate(zip(masses, particles, strict=True)):
        kind = atom_types.of((mass, p[1], p[2]))
        out += [f"{i + 1} {molecule[i]} {kind} {p[0]:.10g} {x[i][0]:.7f} {x[i][1]:.7f} {x[i][2]:.7f}"]
    for name, found, types, n in (
        ("Bonds", bond_list, bond_types, 2),
        ("Angles", angles, angle_types, 3),
        ("Dihedrals", torsions, torsion_types, 4),
    ):
        out += ["", name, ""]
        for number, row in enumerate(found, 1):
            out += [" ".join(map(str, [number, types.of(row[n:]), *(int(a) + 1 for a in row[:n])]))]
    data, script, pdb = directory / "system.data", directory / "system.in", directory / "system.pdb"
    data.write_text("\n".join([*out, ""]))
    constrained = " ".join(str(i) for i, t in bond_types if t[2])
    pair, tail = (VACUUM, "no") if edges is None else (BOX, "yes")
    script.write_text(INPUT.format(pair=pair, tail=tail, constrained=constrained))
    if box is not None:
        top.topology.setPeriodicBoxVectors(box)
    with pdb.open("w") as file:
        app.PDBFile.writeFile(top.topology, coordinates.positions, file)
    return pdb, data, script


class _Types:
    """Different parameters, numbered from 1."""

    def __init__(self, parameters):
        self._known = {}
        for found in parameters:
            self._known.setdefault(tuple(found), len(self._known) + 1)

    def of(self, parameters):
        return self._known[tuple(parameters)]

    def __iter__(self):
        return ((number, found) for found, number in self._known.items())

    def __len__(self):
        return len(self._known)


def _value(quantity):
    return quantity.value_in_unit_system(unit.md_unit_system) if unit.is_quantity(quantity) else quantity


def _plain(row):
    return [_value(found) for found in row]


def _bond(bonds, index, atoms):
    """A bond, and whether SHAKE keeps its length: one of a hydrogen, but not that between the hydrogens of a water."""
    a, b, length, constant = _plain(bonds.getBondParameters(index))
    hydrogens = sum(atoms[i].element.symbol == "H" for i in (a, b))
    return [a, b, length, constant, hydrogens == 1]


def _n_angles(forces):
    return forces[HarmonicAngleForce].getNumAngles()


def _n_torsions(forces):
    return forces[PeriodicTorsionForce].getNumTorsions()
