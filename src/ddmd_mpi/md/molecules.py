"""A molecule and what acts between its atoms: the files of AMBER, CHARMM, GROMACS and OpenMM, or a force field.

Nothing here knows of a run: one :class:`MoleculeFiles` gives one :class:`Molecule`, and :func:`build_molecule` its
OpenMM system under the settings of a simulation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openmm
from openmm import app, unit

from ..errors import InputError
from ..sections import SimulationSection, SystemSection
from ..structure.periodic import make_whole
from .coordinates import Coordinates, box_array, read_coordinates
from .foreign import GromacsTopology, check_file, load_force_field, reading, system_xml

Solvent = Literal["auto", "explicit", "implicit", "vacuum"]
#: A format's own way to make an OpenMM system, given the settings and the keyword arguments that formats share.
Maker = Callable[[SimulationSection, dict[str, Any]], openmm.System]
PERIODIC_CUTOFF_NM = 1.0
BAROSTAT_STEPS = 25
BAROSTATS = (openmm.MonteCarloBarostat, openmm.MonteCarloAnisotropicBarostat, openmm.MonteCarloMembraneBarostat)


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
        explicit: periodic, with a box; implicit: OBC (of a force field: what its files say); auto: as the files say.
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
            system.start, system.topology, tuple(system.parameters), tuple(system.force_field), system.solvent,
            system.box_nm and tuple(system.box_nm))

    @property
    def said_by(self) -> str:
        """The files that say what acts between the atoms, for messages."""
        return " + ".join(self.force_field) if self.topology is None else str(self.topology)


@dataclass(frozen=True)
class Molecule:
    """Topology, positions and box of a molecule, and its recipe.

    Parameters
    ----------
    files
        Where it comes from.
    topology
        OpenMM topology; it has box vectors if the molecule is periodic.
    positions_nm
        nm, shape (n_atoms, 3), float64; molecules are whole.
    box_nm
        Box vectors, nm, shape (3, 3), in OpenMM's reduced form; None if the molecule is not periodic.
    maker
        Makes the system; None for a force field.
    """

    files: MoleculeFiles
    topology: app.Topology
    positions_nm: np.ndarray
    box_nm: np.ndarray | None
    maker: Maker | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Parsed:
    """What a topology file says: its topology, the maker of its system, whether it is of a periodic system."""

    topology: app.Topology
    maker: Maker | None
    periodic: bool
    n_atoms: int


def load_molecule(files: MoleculeFiles) -> Molecule:
    """Read a molecule and check its files against each other.

    Raises
    ------
    InputError
        A file is missing or unreadable, files hold different numbers of atoms, or there is no box where one is needed.
    """
    kind = kind_of(files.topology)
    for path in files.parameters:
        if not path.exists():
            raise InputError(f"{path} does not exist: correct the parameters of {files.topology}")
    found = read_coordinates(files.coordinates, charmm=kind == "CHARMM")
    box = _box(files, found)
    parsed = READERS[kind](files, found, box)
    n_atoms = len(found.positions_nm)
    if n_atoms != parsed.n_atoms:
        raise InputError(
            f"{files.topology} has {parsed.n_atoms} atoms and {files.coordinates} has {n_atoms}: give the coordinates "
            "that were written with it"
        )
    periodic = parsed.periodic if files.solvent == "auto" else files.solvent == "explicit"
    if not periodic:
        parsed.topology.setPeriodicBoxVectors(None)
        return Molecule(files, parsed.topology, found.positions_nm, None, parsed.maker)
    box = box if box is not None else box_array(parsed.topology.getPeriodicBoxVectors())
    if box is None:
        raise InputError(f"{files.coordinates} has no box, and explicit solvent needs one: set box_nm, or solvent to "
                         "implicit")
    parsed.topology.setPeriodicBoxVectors(box * unit.nanometer)
    whole = make_whole(found.positions_nm, bonds_of(parsed.topology), box)
    return Molecule(files, parsed.topology, whole, box, parsed.maker)


def build_molecule(molecule: Molecule, simulation: SimulationSection) -> openmm.System:
    """The system of a molecule: bonds to hydrogen constrained; PME and a barostat where it is periodic.

    Raises
    ------
    InputError
        If its files cannot be combined with each other or with the settings, or the box is too small for the cutoff.
    """
    files, mass, box = molecule.files, simulation.hydrogen_mass_amu, molecule.box_nm
    options = {"constraints": app.HBonds, "hydrogenMass": mass and mass * unit.amu,
               **nonbonded(simulation.nonbonded_cutoff_nm, box)}
    try:
        system = (molecule.maker or _force_field(molecule))(simulation, options)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - OpenMM's builders raise bare exceptions, too
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{files.said_by} cannot be applied to {files.coordinates}: {reason}") from error
    if box is not None:
        _check_width(system, box, files.coordinates)
        system.setDefaultPeriodicBoxVectors(*box)
        add_barostat(system, simulation)
    return system


def nonbonded(cutoff_nm: float | None, box_nm: np.ndarray | None) -> dict[str, Any]:
    """Method and cutoff: all pairs, a plain cutoff, or, in a box, PME (with 1 nm unless the settings say another)."""
    if box_nm is not None:
        return {"nonbondedMethod": app.PME, "nonbondedCutoff": (cutoff_nm or PERIODIC_CUTOFF_NM) * unit.nanometer}
    if cutoff_nm is None:
        return {"nonbondedMethod": app.NoCutoff}
    return {"nonbondedMethod": app.CutoffNonPeriodic, "nonbondedCutoff": cutoff_nm * unit.nanometer}


def _check_width(system: openmm.System, box_nm: np.ndarray, path: Path) -> None:
    """Raise an InputError if the box is narrower than two cutoffs."""
    forces = [f for f in system.getForces() if isinstance(f, openmm.NonbondedForce | openmm.CustomNonbondedForce)]
    cutoff = max((f.getCutoffDistance().value_in_unit(unit.nanometer) for f in forces), default=0.0)
    width = np.diag(box_nm).min()
    if width < 2.0 * cutoff:
        raise InputError(
            f"the box of {path} is {width:.2f} nm wide, too small for a cutoff of {cutoff:g} nm: make a larger one, or "
            f"set simulation.nonbonded_cutoff_nm below {width / 2.0:.2f}"
        )


def add_barostat(system: openmm.System, simulation: SimulationSection) -> None:
    """Keep the pressure at the temperature of the run, by the system's own barostat where it has one."""
    kelvin = simulation.temperature_kelvin
    own = [force for force in system.getForces() if isinstance(force, BAROSTATS)]
    for force in own:
        force.setDefaultTemperature(kelvin)
    if not own and simulation.pressure_bar > 0:
        system.addForce(openmm.MonteCarloBarostat(simulation.pressure_bar, kelvin, BAROSTAT_STEPS))


def seed_barostat(system: openmm.System, seed: int) -> None:
    """Make the barostat of the contexts that are made from now on repeat itself."""
    for force in system.getForces():
        if isinstance(force, BAROSTATS):
            force.setRandomNumberSeed(seed)


def bonds_of(topology: app.Topology) -> np.ndarray:
    """Pairs of bonded atoms, shape (n_bonds, 2)."""
    return np.array([(a.index, b.index) for a, b in topology.bonds()], int).reshape(-1, 2)


def kind_of(topology: Path | None) -> str:
    """Which program a topology file is of, by what it begins with; "force field" for none.

    Raises
    ------
    InputError
        If the file is missing or none that is known.
    """
    if topology is None:
        return "force field"
    what = "a topology (AMBER prmtop, CHARMM PSF, GROMACS top or OpenMM System XML)"
    with reading(topology, what):
        head = topology.open(errors="replace").read(4096).lstrip()
    if head.startswith("%VERSION"):
        return "AMBER"
    if head.split(maxsplit=1)[:1] == ["PSF"]:
        return "CHARMM"
    if head.startswith("<"):
        return "OpenMM"
    if topology.suffix.lower() in (".top", ".itp") and ("[" in head or "#include" in head):
        return "GROMACS"
    raise InputError(f"{topology} cannot be used: {what} is expected")


def _amber(files: MoleculeFiles, found: Coordinates, box: np.ndarray | None) -> Parsed:
    with reading(files.topology, "an AMBER topology (prmtop)"):
        prmtop = app.AmberPrmtopFile(str(files.topology))
    periodic = prmtop.topology.getPeriodicBoxVectors() is not None
    maker = _with(prmtop.createSystem, implicitSolvent=_obc(files, periodic))
    return Parsed(prmtop.topology, maker, periodic, prmtop.topology.getNumAtoms())


def _charmm(files: MoleculeFiles, found: Coordinates, box: np.ndarray | None) -> Parsed:
    if not files.parameters:
        raise InputError(f"{files.topology} names no parameters: set parameters to its CHARMM files (prm, rtf, str)")
    with reading(files.topology, "a CHARMM topology (PSF)"):
        psf = app.CharmmPsfFile(str(files.topology), periodicBoxVectors=_vectors(box))
    for path in files.parameters:
        check_file(path, "a CHARMM parameter file (prm, rtf, str)")
    with reading(files.parameters[0], "CHARMM parameter files (prm, rtf, str)"):
        parameters = app.CharmmParameterSet(*map(str, files.parameters))
    periodic = box is not None
    maker = _with(psf.createSystem, params=parameters, implicitSolvent=_obc(files, periodic))
    return Parsed(psf.topology, maker, periodic, psf.topology.getNumAtoms())


def _gromacs(files: MoleculeFiles, found: Coordinates, box: np.ndarray | None) -> Parsed:
    if files.solvent == "implicit":
        raise InputError(f"{files.topology} is of GROMACS, and OpenMM reads no implicit solvent from such files: set "
                         "solvent to vacuum, or make an AMBER topology")
    include = str(files.parameters[0]) if files.parameters else None
    with reading(files.topology, "a GROMACS topology (top)"):
        top = GromacsTopology(str(files.topology), periodicBoxVectors=_vectors(box), includeDir=include)
    return Parsed(top.topology, _with(top.createSystem), box is not None, top.topology.getNumAtoms())


def _openmm(files: MoleculeFiles, found: Coordinates, box: np.ndarray | None) -> Parsed:
    if found.topology is None:
        raise InputError(f"{files.topology} does not name its atoms: give the PDB file that goes with it, not "
                         f"{files.coordinates}")
    with reading(files.topology, "an OpenMM System (XML)"):
        text = system_xml(files.topology)
        system = openmm.XmlSerializer.deserialize(text)
        if not isinstance(system, openmm.System):
            raise InputError(f"{files.topology} holds no System: write one with openmm.XmlSerializer.serialize(system)")
    periodic = system.usesPeriodicBoundaryConditions()
    if files.solvent != "auto" and periodic != (files.solvent == "explicit"):
        raise InputError(f"{files.topology} is {'' if periodic else 'not '}periodic: leave solvent = "
                         f'"{files.solvent}" out')
    if periodic and found.box_nm is None:
        found.topology.setPeriodicBoxVectors(system.getDefaultPeriodicBoxVectors())

    def maker(simulation: SimulationSection, options: dict[str, Any]) -> openmm.System:  # noqa: ARG001
        for key in ("hydrogen_mass_amu", "nonbonded_cutoff_nm"):
            if getattr(simulation, key) is not None:
                raise InputError(f"{files.topology} is a finished System: leave simulation.{key} out")
        return openmm.XmlSerializer.deserialize(text)

    return Parsed(found.topology, maker, periodic, system.getNumParticles())


def _of_force_field(files: MoleculeFiles, found: Coordinates, box: np.ndarray | None) -> Parsed:
    if found.topology is None:
        raise InputError(f"{files.coordinates} holds no topology: give the one that goes with it, or a PDB file")
    return Parsed(found.topology, None, False, len(found.positions_nm))


def _force_field(molecule: Molecule) -> Maker:
    return _with(force_field(molecule.files).createSystem, topology=molecule.topology)


def force_field(files: MoleculeFiles) -> app.ForceField:
    """The force field of a molecule's files.

    Raises
    ------
    InputError
        If one of them cannot be read.
    """
    try:
        return _read_force_field(files.force_field)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - OpenMM raises bare exceptions for files that are no force field
        reason = str(error).splitlines()[0]
        raise InputError(f"{files.said_by} is no force field that OpenMM reads: {reason}") from error


@lru_cache(maxsize=4)
def _read_force_field(names: tuple[str, ...]) -> app.ForceField:
    """Read once for all molecules of a run."""
    return load_force_field(names)


#: kind of topology -> function(files, coordinates, box or None) -> Parsed
READERS: dict[str, Callable[[MoleculeFiles, Coordinates, np.ndarray | None], Parsed]] = {
    "AMBER": _amber, "CHARMM": _charmm, "GROMACS": _gromacs, "OpenMM": _openmm, "force field": _of_force_field,
}


def _with(function: Callable[..., openmm.System], **given: Any) -> Maker:
    return lambda simulation, options: function(**given, **options)


def _obc(files: MoleculeFiles, periodic: bool) -> Any:
    """OBC2 where the solvent is implicit: by the settings, or because the files are of no periodic system."""
    return app.OBC2 if files.solvent == "implicit" or (files.solvent == "auto" and not periodic) else None


def _box(files: MoleculeFiles, found: Coordinates) -> np.ndarray | None:
    """The box of the coordinates, or the one that the settings have in its place; none where there shall be none."""
    if files.solvent in ("implicit", "vacuum"):
        return None
    return found.box_nm if files.box_nm is None else np.diag(np.array(files.box_nm, np.float64))


def _vectors(box: np.ndarray | None) -> unit.Quantity | None:
    return None if box is None else [openmm.Vec3(*row) for row in box] * unit.nanometer
