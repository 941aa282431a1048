"""The files of a molecule and their readers: AMBER, CHARMM, GROMACS and OpenMM, or a structure under a force field."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openmm
from openmm import app, unit
from openmm.app.internal.charmm.exceptions import MissingParameter

from ..config.dynamics import SimulationSection, SystemSection
from ..errors import InputError
from .coordinates import Coordinates
from .programs.lammps_files import n_atoms_of, read_data
from .programs.lammps_order import check_order
from .trusted_files import GromacsTopology, check_file, explaining, reading, system_xml

Solvent = Literal["auto", "explicit", "implicit", "vacuum"]
#: A format's own way to make an OpenMM system, given the settings and the keyword arguments that formats share.
Maker = Callable[[SimulationSection, dict[str, Any]], openmm.System]
#: Of what stands before the first line of a topology that says something.
MAX_LINES, MAX_CHARACTERS = 100_000, 4096

HYDROGEN_AMU = 1.008
#: Masses of hydrogens after repartitioning, from which they can be told; nothing else has one bond and such a mass.
HEAVY_HYDROGEN_AMU = (0.9, 4.7)
#: How far a mass may be from that of an element.
NEAR_AMU = 0.35


@dataclass(frozen=True)
class MoleculeFiles:
    """The files of one molecule.

    Parameters
    ----------
    coordinates
        PDB, mmCIF, inpcrd, rst7, gro or crd.
    topology
        prmtop, PSF, GROMACS top or OpenMM System XML; None for a PDB or mmCIF file under a force field.
    parameters
        Of a PSF: its parameter files; of a GROMACS top: the directory of its force fields.
    force_field
        OpenMM force-field files, for a molecule without a topology file.
    solvent
        explicit: periodic, with a box; implicit: OBC (of a force field: what its files say); auto: as the files say,
        see :mod:`.solvent`.
    box_nm
        Edges of the box in place of what the files say.
    """

    coordinates: Path
    topology: Path | None = None
    parameters: tuple[Path, ...] = ()
    force_field: tuple[str, ...] = ()
    solvent: Solvent = "auto"
    box_nm: tuple[float, ...] | None = None

    @staticmethod
    def of(system: SystemSection) -> MoleculeFiles:
        """The files that the section [system] names."""
        return MoleculeFiles(
            system.single[0],
            system.topology,
            tuple(system.parameters),
            tuple(system.force_field),
            system.solvent,
            tuple(system.box_nm) if system.box_nm else None,
        )

    @property
    def said_by(self) -> str:
        """The files that say what acts between the atoms, for messages."""
        return " + ".join(self.force_field) if self.topology is None else str(self.topology)


@dataclass(frozen=True)
class Parsed:
    """What a topology file says: its topology, the maker of its system, whether it is periodic (None: not said)."""

    topology: app.Topology
    maker: Maker | None
    periodic: bool | None
    n_atoms: int


def combining(files: MoleculeFiles) -> AbstractContextManager[None]:
    """Explain errors of OpenMM on files that do not fit each other by a sentence that names them."""
    return explaining(lambda reason: f"{files.said_by} cannot be applied to {files.coordinates}: {reason}")


def kind_of(topology: Path | None) -> str:
    """Which program a topology file is of, by what it starts with; "force field" for none.

    Raises
    ------
    InputError
        If the file is missing, or of an unknown kind.
    """
    if topology is None:
        return "force field"
    what = "a topology (AMBER prmtop, CHARMM PSF, GROMACS top, OpenMM System XML or LAMMPS data file)"
    with reading(topology, what):
        head = _first_line(topology)
    if head.startswith("%VERSION"):
        return "AMBER"
    if head.split(maxsplit=1)[:1] == ["PSF"]:
        return "CHARMM"
    if head.startswith("<"):
        return "OpenMM"
    if topology.suffix.lower() in (".top", ".itp") and head.startswith(("[", "#", "*")):
        return "GROMACS"
    if n_atoms_of(_head(topology)):
        return "LAMMPS"
    raise InputError(f"{topology} cannot be used: {what} is expected")


def _head(path: Path) -> str:
    """The first characters."""
    with path.open(errors="replace") as file:
        return file.read(MAX_CHARACTERS)


def _first_line(path: Path) -> str:
    """The first line that says something; comments of GROMACS and empty lines do not."""
    with path.open(errors="replace") as file:
        for _ in range(MAX_LINES):
            line = file.readline(MAX_CHARACTERS)
            if not line or (line.strip() and not line.lstrip().startswith(";")):
                return line.lstrip()
    return ""


def _amber(files: MoleculeFiles, topology: Path, _found: Coordinates, _box: np.ndarray | None) -> Parsed:
    with reading(topology, "an AMBER topology (prmtop)"):
        prmtop = app.AmberPrmtopFile(str(topology))
        raw = prmtop._prmtop._raw_data
        if "ATOMIC_NUMBER" not in raw:
            mend_elements(prmtop.topology, [float(mass) for mass in raw["MASS"]])
    periodic = prmtop.topology.getPeriodicBoxVectors() is not None
    return Parsed(prmtop.topology, _in_obc(files, prmtop.createSystem), periodic or None, prmtop.topology.getNumAtoms())


def _charmm(files: MoleculeFiles, topology: Path, _found: Coordinates, box: np.ndarray | None) -> Parsed:
    if not files.parameters:
        raise InputError(f"{topology} names no parameters: set parameters to its CHARMM files (prm, rtf, str)")
    with reading(topology, "a CHARMM topology (PSF)"):
        psf = app.CharmmPsfFile(str(topology), periodicBoxVectors=_vectors(box))
    for path in files.parameters:
        check_file(path, "a CHARMM parameter file (prm, rtf, str)")
    with reading(files.parameters[0], "CHARMM parameter files (prm, rtf, str)"):
        parameters = app.CharmmParameterSet(*map(str, files.parameters))
    with combining(files):  # Elements are those of the atom types: masses in a PSF may be repartitioned.
        try:
            psf.loadParameters(parameters)
        except MissingParameter as error:
            raise InputError(_missing(topology, str(error))) from error
    unknown = next((atom for atom in psf.atom_list if atom.type.epsilon is None), None)
    if unknown is not None:
        raise InputError(_missing(topology, f"Missing nonbonded type for [{unknown.name}: {unknown.type.name}]"))
    maker = _in_obc(files, psf.createSystem, params=parameters)
    return Parsed(psf.topology, maker, None, psf.topology.getNumAtoms())


def _missing(topology: Path, said: str) -> str:
    """A sentence on the parameters that OpenMM says are missing of a PSF."""
    kind = re.match(r"Missing (\S+)", said)
    atoms = ", ".join(f"{name} (type {of})" for name, of in re.findall(r"\[(\S+): ([^\]]+)\]", said))
    what = f"{kind[1]} parameters of {atoms}" if kind and atoms else f"parameters ({said})"
    return f"the parameter files of {topology} lack the {what}: add the CHARMM file that has them to parameters"


def _gromacs(files: MoleculeFiles, topology: Path, _found: Coordinates, box: np.ndarray | None) -> Parsed:
    if files.solvent == "implicit":
        raise InputError(
            f"{topology} is a GROMACS file, from which OpenMM reads no implicit solvent: set "
            "solvent to vacuum, or make an AMBER topology"
        )
    include = str(files.parameters[0]) if files.parameters else None
    with reading(topology, "a GROMACS topology (top)"):
        try:
            top = GromacsTopology(str(topology), periodicBoxVectors=_vectors(box), includeDir=include)
        except ValueError as error:
            if "#include" not in str(error):
                raise
            raise InputError(
                f"{topology}: {error}: set parameters to the directory of GROMACS's force fields "
                "(init: --parameters /usr/share/gromacs/top)"
            ) from error
    masses = top.masses_without_elements()
    if masses is not None:
        mend_elements(top.topology, masses)
    return Parsed(top.topology, _with(top.createSystem), None, top.topology.getNumAtoms())


def _openmm(files: MoleculeFiles, topology: Path, found: Coordinates, _box: np.ndarray | None) -> Parsed:
    if found.topology is None:
        raise InputError(
            f"{topology} does not name its atoms: give the PDB file that goes with it, not {files.coordinates}"
        )
    with reading(topology, "an OpenMM System (XML)"):
        text = system_xml(topology)
        system = openmm.XmlSerializer.deserialize(text)
        if not isinstance(system, openmm.System):
            raise InputError(f"{topology} holds no System: write one with openmm.XmlSerializer.serialize(system)")
    periodic = system.usesPeriodicBoundaryConditions()
    if files.solvent != "auto" and periodic != (files.solvent == "explicit"):
        raise InputError(f'{topology} is {"" if periodic else "not "}periodic: leave solvent = "{files.solvent}" out')
    if periodic and found.box_nm is None:
        found.topology.setPeriodicBoxVectors(system.getDefaultPeriodicBoxVectors())

    def maker(simulation: SimulationSection, options: dict[str, Any]) -> openmm.System:  # noqa: ARG001
        for key in ("hydrogen_mass_amu", "nonbonded_cutoff_nm"):
            if getattr(simulation, key) is not None:
                raise InputError(f"{topology} is a serialised System: leave simulation.{key} out")
        return openmm.XmlSerializer.deserialize(text)

    return Parsed(found.topology, maker, periodic, system.getNumParticles())


def _lammps(files: MoleculeFiles, topology: Path, found: Coordinates, _box: np.ndarray | None) -> Parsed:
    if found.topology is None:
        raise InputError(
            f"{topology} does not name its atoms: give the PDB file that goes with it, not {files.coordinates}"
        )
    try:
        data = read_data(topology)
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"{topology} cannot be used as a LAMMPS data file: {error}") from error
    n_atoms, atoms = len(data.masses), list(found.topology.atoms())
    if n_atoms == len(atoms):
        try:
            check_order(data, atoms, found.positions_nm, found.box_nm)
        except ValueError as error:
            raise InputError(
                f"{files.coordinates} has other atoms than {topology}, or in another order: {error}; give the PDB file "
                "with the atoms in the order of their ids"
            ) from error

    def maker(simulation: SimulationSection, options: dict[str, Any]) -> openmm.System:  # noqa: ARG001
        raise InputError(f"{topology} is a LAMMPS data file: set simulation.engine to lammps")

    return Parsed(found.topology, maker, None, n_atoms)


def of_force_field(files: MoleculeFiles, found: Coordinates) -> Parsed:
    """What a structure says that has a force field in place of a topology file."""
    if found.topology is None:
        raise InputError(f"{files.coordinates} holds no topology: give the one that goes with it, or a PDB file")
    return Parsed(found.topology, None, None, len(found.positions_nm))


#: kind of topology -> function(files, topology, coordinates, box or None) -> Parsed
READERS: dict[str, Callable[[MoleculeFiles, Path, Coordinates, np.ndarray | None], Parsed]] = {
    "AMBER": _amber,
    "CHARMM": _charmm,
    "GROMACS": _gromacs,
    "OpenMM": _openmm,
    "LAMMPS": _lammps,
}


def _with(function: Callable[..., openmm.System], **given: Any) -> Maker:
    return lambda _, options: function(**given, **options)


def _in_obc(files: MoleculeFiles, function: Callable[..., openmm.System], **given: Any) -> Maker:
    """In OBC2 if the solvent is implicit: by the settings, or because the system is not periodic."""

    def maker(simulation: SimulationSection, options: dict[str, Any]) -> openmm.System:  # noqa: ARG001
        periodic = options["nonbondedMethod"] is app.PME
        implicit = files.solvent in ("auto", "implicit") and not periodic
        return function(**given, **options, implicitSolvent=app.OBC2 if implicit else None)

    return maker


def _vectors(box: np.ndarray | None) -> unit.Quantity | None:
    return None if box is None else [openmm.Vec3(*row) for row in box] * unit.nanometer


def mend_elements(topology: app.Topology, masses_amu: Sequence[float]) -> None:
    """Correct elements that were guessed from the names of atoms, by their masses, in place.

    Hydrogen mass repartitioning takes from a heavy atom what it gives to its hydrogens, which is undone first. A mass
    of no element leaves the guess as it is.

    Parameters
    ----------
    masses_amu
        One an atom, amu.
    """
    bonded = defaultdict(list)
    for a, b in topology.bonds():
        bonded[a].append(b)
        bonded[b].append(a)
    low, high = HEAVY_HYDROGEN_AMU
    hydrogens = {a for a in topology.atoms() if len(bonded[a]) == 1 and low < masses_amu[a.index] < high}
    for atom in topology.atoms():
        if atom in hydrogens:
            atom.element = app.element.hydrogen
            continue
        mass = masses_amu[atom.index] + sum(masses_amu[h.index] - HYDROGEN_AMU for h in bonded[atom] if h in hydrogens)
        if mass <= 0:
            atom.element = None  # a virtual site
            continue
        found = app.Element.getByMass(mass)
        if abs(found.mass.value_in_unit(unit.dalton) - mass) < NEAR_AMU:
            atom.element = found


def system_of(xml: str) -> openmm.System:
    """The System that another rank of this run has serialised."""
    return openmm.XmlSerializer.deserialize(xml)
