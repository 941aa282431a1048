"""``ddmd-mpi init --pdb``: a config and its structures for a system of the user's own."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import config as configuration
from .errors import ConfigError, InputError, RunDirectoryError

IMPLICIT = ["amber99sbildn.xml", "amber99_obc.xml"]
EXPLICIT = ["amber14-all.xml", "amber14/tip3p.xml"]
SEED = 1
#: Up to so many atoms: report_interval_ps and segment_ps. On one core, segments then take some tens of seconds.
PACES = ((250, 0.24, 9.6), (800, 0.2, 4.0), (10**9, 0.2, 2.0))
LARGE_PROTEIN = 1500
FEW_RESIDUES = 100
MINIMAL_CALPHA = 4
SMALL_RING_MB, RING_FRAMES, BYTES_PER_ATOM = 24.0, 400, 24


@dataclass(frozen=True)
class Request:
    """What the user gives; see the options of ``ddmd-mpi init``."""

    pdb: Path | None = None
    target: Path | None = None
    topology: Path | None = None
    coordinates: Path | None = None
    parameters: tuple[Path, ...] = ()
    solvent: str | None = None
    drop: tuple[str, ...] = ()
    name: str | None = None

    @property
    def system_name(self) -> str:
        """The name of the system, fit for file names."""
        stem = (self.pdb or self.topology).stem
        return self.name or re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")


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
        If the system cannot be read or mended; nothing is left in the directory then.
    RunDirectoryError
        If the directory holds anything already, or cannot be written.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise RunDirectoryError(f"the directory {directory} is not empty: name a new one")
    _check(request)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            system, n_atoms, notes = (_of_pdb if request.pdb is not None else _of_topology)(directory, request)
            file = directory / "config.toml"
            file.write_text(config_text(request.system_name, system, n_atoms, notes))
            _try(file, request.system_name)
        except (InputError, ConfigError):
            shutil.rmtree(directory)
            raise
    except OSError as error:
        raise RunDirectoryError(f"cannot write into {directory}: {error.strerror}") from error
    return sorted(directory.iterdir()), notes


def config_text(name: str, system: dict[str, Any], n_atoms: int, notes: list[str]) -> str:
    """The text of the config of a system of so many atoms; every choice is a setting, with its reason."""
    explicit, descriptor = system.pop("periodic"), system.pop("n_descriptor")
    finished = system.get("topology", "").endswith(".xml")
    report, segment = next((r, s) for most, r, s in PACES if n_atoms <= most)
    value = configuration.toml_value
    lines = ["# Written by ddmd-mpi init; paths are relative to this file. Further settings: docs/configuration.md.",
             *(f"# {note[0].upper()}{note[1:]}." for note in notes), "",
             "[run]", f"usecase = {value(name)}", 'duration = "3min"', "",
             "[system]", *(f"{key} = {value(v)}" for key, v in {"name": name, **system}.items()), "",
             "[simulation]"]
    if finished:
        lines.append("timestep_fs = 2.0")
    else:
        lines += ["# Heavy hydrogens allow 4 fs.", "timestep_fs = 4.0", "hydrogen_mass_amu = 3.0"]
    if explicit and not finished:
        lines.append("nonbonded_cutoff_nm = 1.0")
    lines += [
        f"# For {n_atoms} atoms on one core; on a GPU rather the paper's 50 and 10000.",
        f"report_interval_ps = {report}", f"segment_ps = {segment}", "",
        "[streams]", "block_frames = 8", 'block_delay = "0.25s"', "",
        "[training]", "first_frames = 64"]
    if descriptor <= FEW_RESIDUES:
        lines += ["# A quarter of the paper's filters: rounds on small maps take seconds on one core.", "filters = 16"]
    ring_mb = max(SMALL_RING_MB, round(RING_FRAMES * BYTES_PER_ATOM * n_atoms / 1e6, 1))
    lines += ["", "[steering]", "# A round of inference when every walker has reported so often.", "round_reports = 8"]
    lines += ["", "[aggregation]", "# Shared memory for the newest coordinates: a container has 64 MB by default."]
    lines += [f"ring_mb = {ring_mb}", ""]
    return "\n".join(lines)


def _check(request: Request) -> None:
    """Raise a ConfigError if the options do not go together."""
    if request.pdb is None and request.coordinates is None:
        raise ConfigError(f"the topology {request.topology} comes without coordinates: add --coordinates with the file "
                          "of the same atoms (.inpcrd or .rst7 of AMBER, .crd of CHARMM, .gro, or .pdb)")
    if request.pdb is not None and (request.coordinates is not None or request.parameters):
        raise ConfigError("--coordinates and --parameters go with --topology: leave them out, or leave --pdb out")
    if request.pdb is None and (request.solvent is not None or request.drop):
        raise ConfigError("--solvent and --drop go with --pdb: a topology says itself what there is")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", request.system_name):
        raise ConfigError(f"the name {request.system_name!r} cannot be a file's: give letters and digits with --name")
    for path in (request.pdb, request.target, request.topology, request.coordinates, *request.parameters):
        if path is not None and not path.exists():
            raise InputError(f"the file {path} does not exist: correct its name")


def _of_pdb(directory: Path, request: Request) -> tuple[dict[str, Any], int, list[str]]:
    """Mend a protein, make its start and target; the settings of [system], the number of atoms, notes."""
    from .md import prepare
    from .md.repair import repair

    explicit = request.solvent == "explicit"
    mended = repair(request.pdb, IMPLICIT, request.drop)
    topology, positions, notes = mended.topology, mended.positions_nm, list(mended.notes)
    n_protein = len(positions)
    if request.target is None:
        prepare.write_pdb(topology, positions, directory / "target.pdb")
        molecule = prepare.molecule_of(topology, positions, IMPLICIT, request.pdb)
        positions = prepare.unfold(molecule, SEED)
        notes.append(_unfolded(request.pdb, n_protein))
    else:
        shutil.copy(request.target, directory / f"target{request.target.suffix}")
    if explicit:
        topology, positions = prepare.in_water(topology, positions, EXPLICIT)
        notes.append(f"put the start into a box of TIP3P water: {len(positions)} atoms")
    elif n_protein > LARGE_PROTEIN:
        notes.append(f"{n_protein} atoms in implicit solvent are slow on a CPU: use a GPU, or --solvent explicit")
    prepare.write_pdb(topology, positions, directory / "start.pdb")
    target = f"target{'.pdb' if request.target is None else request.target.suffix}"
    n_residues = sum(any(a.name == "CA" for a in r.atoms()) for r in topology.residues())
    return {
        "start": "start.pdb", "target": target, "descriptor": ["CA"], "force_field": EXPLICIT if explicit else IMPLICIT,
        "solvent": "explicit" if explicit else "auto", "periodic": explicit, "n_descriptor": n_residues,
    }, len(positions), notes


def _of_topology(directory: Path, request: Request) -> tuple[dict[str, Any], int, list[str]]:
    """Take over a topology; the settings of [system], the number of atoms, notes."""
    from .md import prepare
    from .md.molecules import MoleculeFiles, kind_of, load_molecule
    from .md.selection import select

    molecule = load_molecule(MoleculeFiles(request.coordinates, request.topology, request.parameters))
    n_atoms, notes = len(molecule.positions_nm), []
    kept = kind_of(request.topology) == "GROMACS"  # it includes files that lie beside it
    parameters = [str(p.resolve()) if kept else shutil.copy(p, directory / p.name).name for p in request.parameters]
    topology = str(request.topology.resolve()) if kept else _copied(request.topology, directory)
    given = _copied(request.coordinates, directory)
    if request.target is None:
        positions = prepare.unfold(molecule, SEED)
        start, target = "unfolded.pdb" if given == "start.pdb" else "start.pdb", given
        prepare.write_pdb(molecule.topology, positions, directory / start)
        notes.append(_unfolded(request.coordinates, n_atoms))
    else:
        start, target = given, f"target-{request.target.name}"
        shutil.copy(request.target, directory / target)
    carbons = select(molecule.topology, "protein and name CA")
    chosen = carbons if len(carbons) >= MINIMAL_CALPHA else select(molecule.topology, "heavy and not water")
    return {
        "start": start, "target": target, "topology": topology, **({"parameters": parameters} if parameters else {}),
        "descriptor": ["CA"] if chosen is carbons else "heavy and not water", "solvent": "auto",
        "periodic": molecule.box_nm is not None, "n_descriptor": len(chosen),
    }, n_atoms, notes


def _copied(path: Path, directory: Path) -> str:
    shutil.copy(path, directory / path.name)
    return path.name


def _unfolded(path: Path, n_atoms: int) -> str:
    from .md.prepare import HOT_KELVIN, unfolding_ps

    ps = unfolding_ps(n_atoms)
    return f"the target is {path.name}, the start an unfolded one: {ps:g} ps at {HOT_KELVIN:g} K from it, seed {SEED}"


def _try(file: Path, name: str) -> None:
    """Load what was written as a run does, to find out now what cannot be run."""
    from .md.structures import load_structures
    from .md.systems import build_system

    settings = configuration.load(name, file)
    build_system(load_structures(settings.system), settings.simulation, settings.system)
