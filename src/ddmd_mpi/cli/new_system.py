"""``ddmd-mpi init --pdb``: a config and its structures for a system of the user's own."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import config as configuration
from ..config.dynamics import PROGRAMS
from ..errors import ConfigError, InputError, RunDirectoryError
from .new_config import config_text

if TYPE_CHECKING:
    import numpy as np

    from ..md.molecules import Molecule

LAMMPS = "lammps"
IMPLICIT = ["amber99sbildn.xml", "amber99_obc.xml"]
EXPLICIT = ["amber14-all.xml", "amber14/tip3p.xml"]
SEED = 1
LARGE_PROTEIN = 1500
ATTEMPTS = 5


@dataclass(frozen=True)
class Request:
    """What the user gives; see the options of ``ddmd-mpi init``."""

    pdb: Path | None = None
    target: Path | None = None
    topology: Path | None = None
    coordinates: Path | None = None
    parameters: tuple[Path, ...] = ()
    solvent: Literal["explicit", "implicit", "vacuum"] | None = None
    box: tuple[float, float, float] | None = None
    drop: tuple[str, ...] = ()
    name: str | None = None
    engine: str = "openmm"
    input: Path | None = None

    @property
    def source(self) -> Path:
        """The file that says what the system is."""
        found = self.pdb or self.topology
        if found is None:
            raise ConfigError("there is no system: give --pdb, or --topology with --coordinates")
        return found

    @property
    def system_name(self) -> str:
        """The name of the system, fit for file names; a file called like an embedded use case gives another name."""
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", self.source.stem).strip("-._")
        return self.name or (f"my-{stem}" if stem in configuration.usecases() else stem)


def new_system(directory: Path, request: Request) -> tuple[list[Path], list[str]]:
    """Write config.toml and the structures of a new system into a new directory.

    Returns
    -------
    files : list of Path
    notes : list of str
        A sentence on everything that was changed or decided.

    Raises
    ------
    InputError
        If the system cannot be read or repaired; nothing is left in the directory then.
    RunDirectoryError
        If the directory holds anything already, or cannot be written.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise RunDirectoryError(f"the directory {directory} is not empty: name a new one")
    coordinates = _check(request)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            made = _of_pdb if request.pdb is not None else _of_topology
            system, n_atoms, notes = made(directory, request, coordinates)
            if request.name is None and request.source.stem in configuration.usecases():
                notes.append(f"the system is called {request.system_name}: without my- it is an embedded use case")
            file = directory / "config.toml"
            file.write_text(config_text(request.system_name, system, n_atoms, notes, request.engine))
            notes += _try(file, request.system_name)
        except (InputError, ConfigError):
            shutil.rmtree(directory)
            raise
    except OSError as error:
        raise RunDirectoryError(f"cannot write into {directory}: {error.strerror}") from error
    return sorted(directory.iterdir()), notes


def _check(request: Request) -> Path:
    """The file with the coordinates; a ConfigError if the options do not go together."""
    coordinates = request.pdb or request.coordinates
    if coordinates is None:
        raise ConfigError(
            f"the topology {request.topology} has no coordinates: add --coordinates with a file "
            "of the same atoms (.inpcrd or .rst7 of AMBER, .crd of CHARMM, .gro, or .pdb)"
        )
    if request.pdb is not None and (request.coordinates is not None or request.parameters):
        raise ConfigError("--coordinates and --parameters go with --topology: leave them out, or leave --pdb out")
    if request.pdb is None and request.drop:
        raise ConfigError("--drop goes with --pdb: a topology already defines what the system contains")
    if request.pdb is not None and (request.box is not None or request.solvent == "vacuum"):
        raise ConfigError("--box and --solvent vacuum go with --topology: --solvent explicit makes a box around --pdb")
    _check_engine(request)
    if request.name in configuration.usecases():
        raise ConfigError(f"{request.name} is an embedded use case: give another --name")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", request.system_name):
        raise ConfigError(
            f"the name {request.system_name!r} cannot be used for files: give --name with letters and digits"
        )
    given = (request.pdb, request.target, request.topology, request.coordinates, request.input, *request.parameters)
    for path in given:
        if path is not None and not path.exists():
            raise InputError(f"the file {path} does not exist: correct its name")
    return coordinates


def _check_engine(request: Request) -> None:
    """Raise a ConfigError if the options do not go with the engine."""
    if request.pdb is not None and request.engine in PROGRAMS:
        raise ConfigError(
            f"--engine {request.engine} runs files of its own, not --pdb: give --topology with --coordinates"
        )
    if (request.engine == LAMMPS) != (request.input is not None):
        raise ConfigError(
            f"--input goes with --engine {LAMMPS}, which needs it: its commands up to read_data and fixes"
        )
    if request.engine == LAMMPS and request.target is None:
        raise ConfigError(f"--engine {LAMMPS} needs --target: no start is unfolded from a data file")


def _of_pdb(directory: Path, request: Request, pdb: Path) -> tuple[dict[str, Any], int, list[str]]:
    """Repair a protein, make its start and target; the settings of [system], the number of atoms, notes."""
    from ..md import prepare
    from ..md.coordinates import write_pdb
    from ..md.repair import repair
    from ..md.selection import default_descriptor

    explicit = request.solvent == "explicit"
    mended = repair(pdb, IMPLICIT, request.drop)
    topology, positions, notes = mended.topology, mended.positions_nm, list(mended.notes)
    descriptor, n_descriptor, reason = default_descriptor(topology)
    notes.append(reason)
    n_protein = len(positions)
    if request.target is None:
        write_pdb(topology, positions, directory / "target.pdb")
        molecule = prepare.molecule_of(topology, positions, IMPLICIT, pdb)
        positions, note = _unfolded(molecule, descriptor)
        notes.append(note)
    else:
        shutil.copy(request.target, directory / f"target{request.target.suffix}")
    if explicit:
        topology, positions = prepare.in_water(topology, positions, EXPLICIT)
        notes.append(f"solvated the start in a box of TIP3P water: {len(positions)} atoms")
    elif n_protein > LARGE_PROTEIN:
        notes.append(f"{n_protein} atoms in implicit solvent are slow on a CPU: use a GPU, or --solvent explicit")
    write_pdb(topology, positions, directory / "start.pdb")
    target = f"target{'.pdb' if request.target is None else request.target.suffix}"
    return (
        {
            "start": "start.pdb",
            "target": target,
            "descriptor": descriptor,
            "force_field": EXPLICIT if explicit else IMPLICIT,
            "solvent": "explicit" if explicit else "implicit",
            "periodic": explicit,
            "n_descriptor": n_descriptor,
        },
        len(positions),
        notes,
    )


def _free(directory: Path, name: str) -> Path:
    """A path of this name in a directory, or of one like it: files of several directories may have the same."""
    path, number = directory / name, 2
    while path.exists():
        path, number = directory / f"{number}-{name}", number + 1
    return path


def _of_topology(directory: Path, request: Request, coordinates: Path) -> tuple[dict[str, Any], int, list[str]]:
    """Take over a topology; the settings of [system], the number of atoms, notes."""
    from ..md.coordinates import write_pdb
    from ..md.molecule_files import MoleculeFiles, Solvent, kind_of
    from ..md.molecules import load_molecule, of_charmm
    from ..md.programs.lammps_files import constrains
    from ..md.selection import default_descriptor

    solvent: Solvent = request.solvent or "auto"
    molecule = load_molecule(
        MoleculeFiles(coordinates, request.source, request.parameters, solvent=solvent, box_nm=request.box)
    )
    descriptor, n_descriptor, reason = default_descriptor(molecule.topology)
    n_atoms, notes = len(molecule.positions_nm), [reason, *_on_box(molecule)]
    kept = kind_of(request.source) == "GROMACS"  # it includes files that lie beside it
    parameters = [str(p.resolve()) if kept else _copied(p, directory) for p in request.parameters]
    topology = str(request.source.resolve()) if kept else _copied(request.source, directory)
    given = _copied(coordinates, directory)
    if request.target is None:
        positions, note = _unfolded(molecule, descriptor)
        start, target = "unfolded.pdb" if given == "start.pdb" else "start.pdb", given
        write_pdb(molecule.topology, positions, directory / start)
        notes.append(note)
    else:
        start, target = given, f"target-{request.target.name}"
        shutil.copy(request.target, directory / target)
    of_lammps: dict[str, Any] = {}
    if request.input is not None:
        constrained = constrains(request.input.read_text(errors="replace"))
        of_lammps = {"input": _copied(request.input, directory), "constrained": constrained}
    return (
        {
            **of_lammps,
            "start": start,
            "target": target,
            "topology": topology,
            **({"parameters": parameters} if parameters else {}),
            "descriptor": descriptor,
            "solvent": solvent,
            **({"box_nm": list(request.box)} if request.box else {}),
            "periodic": molecule.box_nm is not None,
            "charmm": of_charmm(molecule.files),
            "n_descriptor": n_descriptor,
        },
        n_atoms,
        notes,
    )


def _on_box(molecule: Molecule) -> list[str]:
    """Sentences on a box of the files that is replaced or left out, and on CHARMM's cutoff."""
    import numpy as np

    from ..md.molecules import CHARMM_CUTOFF_NM, CHARMM_SWITCH_NM, of_charmm

    files, own, used, notes = molecule.files, molecule.file_box_nm, molecule.box_nm, []
    if own is not None and used is None:
        notes.append(f"left out the box of {files.coordinates.name} ({_edges(own)}): the system is not periodic")
    elif own is not None and used is not None and files.box_nm and not np.allclose(own, used, atol=1e-3):
        notes.append(f"the box of --box ({_edges(used)}) replaces that of {files.coordinates.name} ({_edges(own)})")
    if used is not None and of_charmm(files):
        notes.append(
            f"the cutoff is CHARMM's: {CHARMM_CUTOFF_NM} nm, with a switch from {CHARMM_SWITCH_NM} nm on; "
            "simulation.nonbonded_cutoff_nm sets a plain one"
        )
    return notes


def _edges(box_nm: np.ndarray) -> str:
    return " x ".join(f"{sum(vector**2) ** 0.5:.2f}" for vector in box_nm) + " nm"


def _copied(path: Path, directory: Path) -> str:
    copy = _free(directory, path.name)
    shutil.copy(path, copy)
    return copy.name


def _unfolded(molecule: Molecule, descriptor: list[str] | str) -> tuple[np.ndarray, str]:
    """Positions, nm, of an unfolded start that is not its target, and a sentence on it."""
    from ..md.prepare import HOT_KELVIN, unfold, unfolding_ps
    from ..md.structures import SAME_STRUCTURE_NM, descriptor_atoms
    from ..structure.rmsd import superposed_rmsd

    path, native, ps = molecule.files.coordinates, molecule.positions_nm, unfolding_ps(len(molecule.positions_nm))
    chosen = [a.index for a in descriptor_atoms(molecule.topology, descriptor, path)]
    for seed in range(SEED, SEED + ATTEMPTS):
        positions = unfold(molecule, seed)
        if superposed_rmsd(positions[chosen], native[chosen]) >= SAME_STRUCTURE_NM:
            return positions, (
                f"the target is {path.name}; the start was unfolded from it: {ps:g} ps at {HOT_KELVIN:g} K, seed {seed}"
            )
    raise InputError(
        f"{path} keeps its structure at {HOT_KELVIN:g} K, so no start can be made from it: give the "
        "target with --target"
    )


def _try(file: Path, name: str) -> list[str]:
    """Load what was written as a run does, to find out now what cannot be run; a sentence on what is missing here."""
    from ..md import engines
    from ..md.structures import build_system, load_structures

    settings = configuration.load(name, file)
    structures = load_structures(settings.system)
    if settings.simulation.engine != LAMMPS:
        build_system(structures, settings.simulation, settings.system)
    engines.check_molecule(settings, structures)
    try:
        engines.described(settings)
    except ConfigError as missing:
        # The run may be for another machine.
        return [str(missing)]
    return []
