"""Writes an OpenMM system as the files of AMBER, CHARMM and GROMACS: what reads them can be compared with it."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

KCAL = 4.184
AMBER_CHARGE = 18.2223
MD = unit.md_unit_system


#: Edges of the box of :func:`nine_waters`, nm.
EDGES = (2.1, 2.2, 2.3)


def nine_waters(name: str = "HOH") -> tuple[app.Topology, np.ndarray, openmm.System]:
    """Nine molecules of water, 0.7 nm apart, in a box: topology, positions, a system without constraints."""
    topology, positions = app.Topology(), []
    chain = topology.addChain()
    for i in range(9):
        residue = topology.addResidue(name, chain)
        atoms = [topology.addAtom(a, app.element.get_by_symbol(a[0]), residue) for a in ("O", "H1", "H2")]
        topology.addBond(atoms[0], atoms[1])
        topology.addBond(atoms[0], atoms[2])
        at = 0.3 + 0.7 * np.array([i % 3, i // 3, 0.5 * (i % 2)])
        positions += [at, at + [0.09572, 0.0, 0.0], at + [-0.02399872, 0.09266272, 0.0]]
    topology.setUnitCellDimensions(EDGES * unit.nanometer)
    system = app.ForceField("tip3p.xml").createSystem(topology, rigidWater=False, constraints=None)
    return topology, np.array(positions), system


def terms(system: openmm.System, kind: type) -> list[list]:
    """Parameters of every term of the force of a kind, numbers in OpenMM's units."""
    force = next((f for f in system.getForces() if isinstance(f, kind)), None)
    if force is None:
        return []
    one, n = {
        openmm.HarmonicBondForce: ("getBondParameters", "getNumBonds"),
        openmm.HarmonicAngleForce: ("getAngleParameters", "getNumAngles"),
        openmm.PeriodicTorsionForce: ("getTorsionParameters", "getNumTorsions"),
        openmm.NonbondedForce: ("getParticleParameters", "getNumParticles"),
    }[kind]
    return [
        [x.value_in_unit_system(MD) if unit.is_quantity(x) else x for x in getattr(force, one)(i)]
        for i in range(getattr(force, n)())
    ]


def pairs_14(system: openmm.System) -> set[tuple[int, int]]:
    """Pairs with scaled interactions."""
    force = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    found = [force.getExceptionParameters(i) for i in range(force.getNumExceptions())]
    return {(min(i, j), max(i, j)) for i, j, charge, _, epsilon in found if charge._value or epsilon._value}


def section(name: str, form: str, values: list, per_line: int) -> str:
    """A section of a prmtop file."""
    code = {"I": "{:8d}", "E": "{:16.8E}", "a": "{:<4.4s}"}[form]
    texts = [code.format(v) for v in values]
    lines = ["".join(texts[i : i + per_line]) for i in range(0, len(texts), per_line)] or [""]
    says = {"I": "10I8", "E": "5E16.8", "a": "20a4"}[form]
    return "\n".join([f"%FLAG {name}", f"%FORMAT({says})", *lines]) + "\n"


def write_amber(
    topology: app.Topology,
    system: openmm.System,
    positions_nm: np.ndarray,
    prmtop: Path,
    inpcrd: Path,
    box_nm: tuple[float, float, float] | None = None,
) -> None:
    """prmtop and inpcrd: every atom and every term is a type of its own."""
    atoms, residues = list(topology.atoms()), list(topology.residues())
    hydrogen = {a.index for a in atoms if a.element is app.element.hydrogen}
    bonds, angles = terms(system, openmm.HarmonicBondForce), terms(system, openmm.HarmonicAngleForce)
    torsions = terms(system, openmm.PeriodicTorsionForce)
    torsions += [[*path, 1, 0.0, 0.0] for path in chains_of_four(bonds)]  # a pair that no term spans is scaled, too
    particles, open_pairs = terms(system, openmm.NonbondedForce), pairs_14(system)
    bonded = {(min(b[:2]), max(b[:2])) for b in bonds}
    rows: dict[str, list[int]] = defaultdict(list)
    for kind, found, n in (("BONDS", bonds, 2), ("ANGLES", angles, 3)):
        for number, term in enumerate(found, start=1):
            which = "INC" if hydrogen & set(term[:n]) else "WITHOUT"
            rows[f"{kind}_{which}_HYDROGEN"] += [3 * i for i in term[:n]] + [number]
    for number, (i, j, k, m, *_) in enumerate(torsions, start=1):
        if 0 in (k, m):
            i, j, k, m = m, k, j, i
        pair, proper = (min(i, m), max(i, m)), all((min(e), max(e)) in bonded for e in ((i, j), (j, k), (k, m)))
        scaled = proper and pair in open_pairs
        open_pairs.discard(pair if scaled else None)
        which = "INC" if hydrogen & {i, j, k, m} else "WITHOUT"
        rows[f"DIHEDRALS_{which}_HYDROGEN"] += [
            3 * i,
            3 * j,
            3 * k if scaled else -3 * k,
            3 * m if proper else -3 * m,
            number,
        ]
    excluded = excluded_atoms(system, len(atoms))
    n, lists = len(atoms), [x for one in excluded for x in one]
    count = {
        key: len(found) // size
        for key, found, size in (
            ("bh", rows["BONDS_INC_HYDROGEN"], 3),
            ("b", rows["BONDS_WITHOUT_HYDROGEN"], 3),
            ("ah", rows["ANGLES_INC_HYDROGEN"], 4),
            ("a", rows["ANGLES_WITHOUT_HYDROGEN"], 4),
            ("th", rows["DIHEDRALS_INC_HYDROGEN"], 5),
            ("t", rows["DIHEDRALS_WITHOUT_HYDROGEN"], 5),
        )
    }
    pointers = [
        n,
        n,
        count["bh"],
        count["b"],
        count["ah"],
        count["a"],
        count["th"],
        count["t"],
        0,
        0,
        len(lists),
        len(residues),
        count["b"],
        count["a"],
        count["t"],
        len(bonds),
        len(angles),
        len(torsions),
        n,
        *[0] * 8,
        int(box_nm is not None),
        max(len(list(r.atoms())) for r in residues),
        0,
        0,
    ]
    index, a_coefficients, b_coefficients = lennard_jones(particles)
    text = "%VERSION  VERSION_STAMP = V0001.000  DATE = 01/01/26  00:00:00\n"
    text += section("TITLE", "a", [], 20) + section("POINTERS", "I", pointers, 10)
    text += section("ATOM_NAME", "a", [a.name for a in atoms], 20)
    text += section("CHARGE", "E", [p[0] * AMBER_CHARGE for p in particles], 5)
    text += section("ATOMIC_NUMBER", "I", [a.element.atomic_number for a in atoms], 10)
    text += section("MASS", "E", [a.element.mass._value for a in atoms], 5)
    text += section("ATOM_TYPE_INDEX", "I", list(range(1, n + 1)), 10)
    text += section("NUMBER_EXCLUDED_ATOMS", "I", [len(one) for one in excluded], 10)
    text += section("NONBONDED_PARM_INDEX", "I", index, 10)
    text += section("RESIDUE_LABEL", "a", [r.name for r in residues], 20)
    text += section("RESIDUE_POINTER", "I", [next(r.atoms()).index + 1 for r in residues], 10)
    text += section("BOND_FORCE_CONSTANT", "E", [b[3] / (2 * KCAL * 100) for b in bonds], 5)
    text += section("BOND_EQUIL_VALUE", "E", [10 * b[2] for b in bonds], 5)
    text += section("ANGLE_FORCE_CONSTANT", "E", [a[4] / (2 * KCAL) for a in angles], 5)
    text += section("ANGLE_EQUIL_VALUE", "E", [a[3] for a in angles], 5)
    text += section("DIHEDRAL_FORCE_CONSTANT", "E", [t[6] / KCAL for t in torsions], 5)
    text += section("DIHEDRAL_PERIODICITY", "E", [float(t[4]) for t in torsions], 5)
    text += section("DIHEDRAL_PHASE", "E", [t[5] for t in torsions], 5)
    text += section("SCEE_SCALE_FACTOR", "E", [1.2] * len(torsions), 5)
    text += section("SCNB_SCALE_FACTOR", "E", [2.0] * len(torsions), 5)
    text += section("LENNARD_JONES_ACOEF", "E", a_coefficients, 5)
    text += section("LENNARD_JONES_BCOEF", "E", b_coefficients, 5)
    for name in ("HBOND_ACOEF", "HBOND_BCOEF", "HBCUT"):
        text += section(name, "E", [], 5)
    for kind in ("BONDS", "ANGLES", "DIHEDRALS"):
        for which in ("INC", "WITHOUT"):
            text += section(f"{kind}_{which}_HYDROGEN", "I", rows[f"{kind}_{which}_HYDROGEN"], 10)
    text += section("EXCLUDED_ATOMS_LIST", "I", lists, 10)
    text += section("AMBER_ATOM_TYPE", "a", [a.element.symbol for a in atoms], 20)
    text += section("RADII", "E", [1.3 if a.index in hydrogen else 1.7 for a in atoms], 5)
    text += section("SCREEN", "E", [0.85 if a.index in hydrogen else 0.75 for a in atoms], 5)
    if box_nm is not None:
        text += section("SOLVENT_POINTERS", "I", [0, len(residues), 1], 10)
        text += section("BOX_DIMENSIONS", "E", [90.0, *(10 * edge for edge in box_nm)], 5)
    prmtop.write_text(text)
    numbers = [f"{x:12.7f}" for x in 10 * positions_nm.ravel()]
    lines = ["".join(numbers[i : i + 6]) for i in range(0, len(numbers), 6)]
    cell = [] if box_nm is None else ["".join(f"{x:12.7f}" for x in (*(10 * e for e in box_nm), 90.0, 90.0, 90.0))]
    inpcrd.write_text("\n".join(["title", f"{n:5d}", *lines, *cell, ""]))


def chains_of_four(bonds: list[list]) -> list[tuple[int, int, int, int]]:
    """Every four atoms that are bonded in a row."""
    near = defaultdict(set)
    for i, j, *_ in bonds:
        near[i].add(j)
        near[j].add(i)
    return [(i, j, k, m) for j, k, *_ in bonds for i in sorted(near[j] - {k}) for m in sorted(near[k] - {j}) if i != m]


def excluded_atoms(system: openmm.System, n_atoms: int) -> list[list[int]]:
    """Per atom the later atoms that its nonbonded interactions leave out, counted from 1; [0] for none."""
    force = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    found: list[list[int]] = [[] for _ in range(n_atoms)]
    for e in range(force.getNumExceptions()):
        i, j = sorted(force.getExceptionParameters(e)[:2])
        found[i].append(j + 1)
    return [sorted(one) or [0] for one in found]


def lennard_jones(particles: list[list]) -> tuple[list[int], list[float], list[float]]:
    """Index of each pair of types, and their coefficients, kcal/mol and angstrom."""
    n, a, b = len(particles), [], []
    index = np.zeros((n, n), int)
    for i in range(n):
        for j in range(i + 1):
            sigma = 5.0 * (particles[i][1] + particles[j][1])
            epsilon = np.sqrt(particles[i][2] * particles[j][2]) / KCAL
            index[i, j] = index[j, i] = len(a) + 1
            a.append(4 * epsilon * sigma**12)
            b.append(4 * epsilon * sigma**6)
    return index.ravel().tolist(), a, b


def write_gromacs(
    topology: app.Topology,
    system: openmm.System,
    positions_nm: np.ndarray,
    top: Path,
    gro: Path,
    box_nm: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> None:
    """top and gro: every atom is a type of its own, and all are one molecule."""
    atoms, particles = list(topology.atoms()), terms(system, openmm.NonbondedForce)
    lines = ["[ defaults ]", "1 2 yes 0.5 0.83333333", "[ atomtypes ]"]
    for a, (charge, sigma, epsilon) in zip(atoms, particles, strict=True):
        mass = a.element.mass._value
        lines.append(f"T{a.index} {a.element.atomic_number} {mass} {charge:.9f} A {sigma:.9e} {epsilon:.9e}")
    lines += ["[ moleculetype ]", "all 3", "[ atoms ]"]
    for a, (charge, *_) in zip(atoms, particles, strict=True):
        r = a.residue
        lines.append(
            f"{a.index + 1} T{a.index} {r.index + 1} {r.name} {a.name} {a.index + 1} {charge:.9f} "
            f"{a.element.mass._value}"
        )
    lines.append("[ bonds ]")
    lines += [f"{i + 1} {j + 1} 1 {r:.9e} {k:.9e}" for i, j, r, k in terms(system, openmm.HarmonicBondForce)]
    lines.append("[ angles ]")
    lines += [
        f"{i + 1} {j + 1} {k + 1} 1 {np.degrees(t):.9e} {c:.9e}"
        for i, j, k, t, c in terms(system, openmm.HarmonicAngleForce)
    ]
    lines.append("[ dihedrals ]")
    lines += [
        f"{i + 1} {j + 1} {k + 1} {m + 1} 9 {np.degrees(phase):.9e} {c:.9e} {n}"
        for i, j, k, m, n, phase, c in terms(system, openmm.PeriodicTorsionForce)
    ]
    lines.append("[ pairs ]")
    lines += [f"{i + 1} {j + 1} 1" for i, j in sorted(pairs_14(system))]
    top.write_text("\n".join([*lines, "[ system ]", "test", "[ molecules ]", "all 1", ""]))
    rows = [
        f"{a.residue.index + 1:5d}{a.residue.name:<5s}{a.name:>5s}{a.index + 1:5d}{x:8.3f}{y:8.3f}{z:8.3f}"
        for a, (x, y, z) in zip(atoms, positions_nm, strict=True)
    ]
    gro.write_text("\n".join(["test", f"{len(atoms):5d}", *rows, "".join(f"{e:10.5f}" for e in box_nm), ""]))


def write_charmm(
    topology: app.Topology, system: openmm.System, positions_nm: np.ndarray, psf: Path, prm: Path, crd: Path
) -> None:
    """PSF, parameters and crd of molecules without torsions and 1-4 pairs: every atom is a type of its own."""
    atoms, particles = list(topology.atoms()), terms(system, openmm.NonbondedForce)
    bonds, angles = terms(system, openmm.HarmonicBondForce), terms(system, openmm.HarmonicAngleForce)

    def block(title: str, groups: list[list[int]], per_line: int) -> str:
        texts = ["".join(f"{i + 1:8d}" for i in group) for group in groups]
        body = ["".join(texts[i : i + per_line]) for i in range(0, len(texts), per_line)] or [""]
        return "\n".join([f"{len(groups):8d} !{title}", *body, "", ""])

    rows = [
        f"{a.index + 1:8d} S    {a.residue.index + 1:<4d} {a.residue.name:<4s} {a.name:<4s} T{a.index:<3d} "
        f"{charge:13.9f} {a.element.mass._value:13.4f}           0"
        for a, (charge, *_) in zip(atoms, particles, strict=True)
    ]
    text = "PSF\n\n       1 !NTITLE\n REMARKS test\n\n" + "\n".join([f"{len(atoms):8d} !NATOM", *rows, "", ""])
    text += block("NBOND: bonds", [b[:2] for b in bonds], 4) + block("NTHETA: angles", [a[:3] for a in angles], 3)
    for title in ("NPHI: dihedrals", "NIMPHI: impropers", "NDON: donors", "NACC: acceptors", "NNB"):
        text += block(title, [], 4)
    psf.write_text(text + "       1       0 !NGRP NST2\n       0       0       0\n\n")
    lines = ["* test", "*", "", "ATOMS", *(f"MASS {a.index + 1} T{a.index} {a.element.mass._value:.4f}" for a in atoms)]
    lines += ["", "BONDS", *(f"T{i} T{j} {k / (2 * KCAL * 100):.9f} {10 * r:.9f}" for i, j, r, k in bonds)]
    lines += ["", "ANGLES", *(f"T{i} T{j} T{k} {c / (2 * KCAL):.9f} {np.degrees(t):.9f}" for i, j, k, t, c in angles)]
    lines += [
        "",
        "NONBONDED",
        *(
            f"T{i} 0.0 {-epsilon / KCAL:.9f} {10 * sigma * 2 ** (1 / 6) / 2:.9f}"
            for i, (_, sigma, epsilon) in enumerate(particles)
        ),
        "",
        "END",
        "",
    ]
    prm.write_text("\n".join(lines))
    rows = []
    for a, (x, y, z) in zip(atoms, 10 * positions_nm, strict=True):
        residue = a.residue.index + 1
        rows.append(
            f"{a.index + 1:5d}{residue:5d} {a.residue.name:<4s} {a.name:<4s}{x:12.6f}{y:12.6f}{z:12.6f} S    "
            f"{residue:<4d}{0.0:10.5f}"
        )
    crd.write_text("\n".join(["* test", "*", f"{len(atoms):5d}", *rows, ""]))
