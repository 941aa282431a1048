"""Trained models outside the program: latents of a trajectory, of positions, or of an archive's frames.

from ddmd_mpi.analysis import open_model
model = open_model("RUN/models/v000012")
latents = model.embed_trajectory("RUN/trajectories/sim-0000.dcd", "RUN/topology/cln025.pdb")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import model
from ..errors import InputError, ModelError
from ..frames.block import FrameBlock
from ..rundir.files import parse_object, read_bytes
from ..structure.contacts import contact_csr, round_positions
from ..structure.periodic import bring_together
from .libraries import needed

#: Atoms of the frames that are read at a time: 120 MB of positions.
ATOMS_AT_A_TIME = 10_000_000
#: Names or indices of the atoms that stand for a conformation; see ``system.descriptor``.
Descriptor = list[str] | list[int] | str
#: Of the formats of MDTraj those that hold numbers only; the attributes of its HDF5 files are pickles.
TRAJECTORIES = (".dcd", ".xtc", ".trr", ".nc", ".ncdf", ".netcdf", ".pdb", ".xyz")


def open_model(path: Path | str, threads: int = 1, model: str | None = None) -> TrainedModel:
    """The model of one version's directory, ``RUN/models/v000012``.

    Parameters
    ----------
    threads
        Threads of the model's library, which are fixed when the first model is opened.
    model
        ``module:Class``, if it is one of these: the directory alone does not make its code run.

    Raises
    ------
    ModelError
        If there is no readable one.
    """
    return TrainedModel(Path(path), threads, model)


class TrainedModel:
    """One published version of a model.

    Attributes
    ----------
    version, n_latent
        Its number, and the dimensions of its latents.
    metadata
        What ``metadata.json`` says of it: losses, samples, settings, descriptor, cutoff.
    """

    def __init__(self, path: Path, threads: int = 1, trusted: str | None = None):
        weights = model.ModelWeights.read(path)
        self._model = model.revive(weights, path, threads, trusted)
        self.version, self.n_latent, self.metadata = weights.version, self._model.n_latent, weights.metadata
        try:
            self._n_residues, self._descriptor = int(self.metadata["n_residues"]), self.metadata["descriptor"]
            self._cutoff = float(self.metadata["cutoff_angstrom"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} does not say what features its model takes: {error!r}") from error

    def embed(self, block: FrameBlock) -> np.ndarray:
        """Latents of frames of the features hop, such as those of an archive: shape (n_frames, n_latent), float32."""
        return self._model.embed(block)

    def embed_positions(self, positions_nm: np.ndarray) -> np.ndarray:
        """Latents of frames whose descriptor atoms are given.

        Parameters
        ----------
        positions_nm
            Shape (n_frames, n_residues, 3), nm.

        Returns
        -------
        ndarray, float32, shape (n_frames, n_latent)

        Raises
        ------
        InputError
            If there are not as many atoms as the model knows, or a position is not finite or too far out.
        """
        positions = np.asarray(positions_nm)
        if positions.ndim != 3 or positions.shape[1:] != (self._n_residues, 3):
            raise InputError(
                f"positions of shape (n_frames, {self._n_residues}, 3) were expected "
                f"(got {positions.shape}): give the descriptor atoms of the system the model was made for"
            )
        return self.embed(features(positions, self._cutoff)) if len(positions) else self._no_latents()

    def embed_trajectory(self, trajectory: Path | str, topology: Path | str) -> np.ndarray:
        """Latents of the frames of a trajectory file.

        Parameters
        ----------
        trajectory
            DCD, XTC, TRR, NetCDF, PDB or XYZ.
        topology
            PDB file of all its atoms; ``RUN/topology/NAME.pdb`` for the trajectories of a run.

        Returns
        -------
        ndarray, float32, shape (n_frames, n_latent)

        Raises
        ------
        InputError
            If MDTraj is missing, a file cannot be read, or the files are of another system than the model.
        """
        latents = [self._no_latents()]
        for positions in read_trajectory(Path(trajectory), Path(topology), self._descriptor):
            if positions.shape[1] != self._n_residues:
                raise InputError(
                    f"{topology} has {positions.shape[1]} descriptor atoms, and the model was made for "
                    f"{self._n_residues}: give the topology of its run"
                )
            latents.append(self.embed(features(positions, self._cutoff, first=sum(map(len, latents)))))
        return np.concatenate(latents)

    def _no_latents(self) -> np.ndarray:
        return np.zeros((0, self.n_latent), np.float32)


def features(positions_nm: np.ndarray, cutoff_angstrom: float, first: int = 0) -> FrameBlock:
    """What models see of frames, of which the `first` has this index: rounded positions and contacts, as in a run."""
    rounded = np.empty(positions_nm.shape, np.int16)
    for i, positions in enumerate(positions_nm):
        try:
            rounded[i] = round_positions(positions)
        except ValueError as error:
            raise InputError(f"frame {first + i} cannot be embedded: {error}") from error
    rows = [contact_csr(positions, cutoff_angstrom) for positions in rounded]
    return FrameBlock({
        "walker": np.zeros(len(rounded), np.int32), "frame": np.arange(first, first + len(rounded)),
        "ca_positions": rounded,
        "contact_counts": np.array([counts for counts, _ in rows]),
        "contact_columns": np.concatenate([columns for _, columns in rows]),
    })  # fmt: skip


def read_trajectory(trajectory: Path, topology: Path, descriptor: Descriptor) -> Iterator[np.ndarray]:
    """Positions of the descriptor atoms, nm, shape (n, n_residues, 3), some frames after the other.

    Molecules lie as the features of a run have them, see :func:`.bring_together`.
    """
    from ..md.coordinates import molecules_in, read_pdb

    with needed("reading trajectories needs MDTraj"):
        import mdtraj
    if trajectory.suffix.lower() not in TRAJECTORIES:
        raise InputError(f"the trajectory {trajectory} has an unknown format: give one of {', '.join(TRAJECTORIES)}")
    for path in (trajectory, topology):
        if not path.is_file():
            raise InputError(f"the file {path} does not exist")
    atoms = read_pdb(topology)[0]
    chosen = descriptor_indices(atoms, topology, descriptor)
    molecules = molecules_in(atoms)[chosen]
    known = mdtraj.Topology.from_openmm(atoms)
    pieces = mdtraj.iterload(str(trajectory), top=known, chunk=max(1, ATOMS_AT_A_TIME // known.n_atoms))
    for piece in readable(pieces, trajectory, topology):
        frames, boxes = piece.xyz[:, chosen], piece.unitcell_vectors
        if boxes is not None:
            frames = np.stack([bring_together(x, molecules, box) for x, box in zip(frames, boxes, strict=True)])
        yield frames


def descriptor_of(topology: Path, descriptor: Descriptor) -> tuple[list[int], np.ndarray]:
    """Indices of the descriptor atoms in a PDB file, and of the molecule of each."""
    from ..md.coordinates import molecules_in, read_pdb

    atoms, _ = read_pdb(topology)
    chosen = descriptor_indices(atoms, topology, descriptor)
    return chosen, molecules_in(atoms)[chosen]


def descriptor_indices(atoms: Any, topology: Path, descriptor: Descriptor) -> list[int]:
    """Indices of the descriptor atoms in a topology of OpenMM that was read from the file `topology`."""
    from ..md.structures import descriptor_atoms

    noted = _of_complex(topology, atoms.getNumAtoms())
    return [atom.index for atom in descriptor_atoms(atoms, descriptor, topology)] if noted is None else noted


def _of_complex(topology: Path, n_atoms: int) -> list[int] | None:
    """The descriptor atoms that a run of many complexes notes beside a topology; None if there is no such note."""
    path = topology.with_suffix(".json")
    if not path.is_file():
        return None
    try:
        chosen = parse_object(read_bytes(path))["descriptor"]
        if all(isinstance(i, int) and 0 <= i < n_atoms for i in chosen):
            return chosen
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path} cannot be read: {error!r}") from error
    raise InputError(f"{path} has another topology: it names atoms that {topology} does not have")


def readable(pieces: Iterable[Any], trajectory: Path, topology: Path) -> Iterator[Any]:
    """The pieces of a trajectory, or one sentence on why it cannot be read."""
    try:
        yield from pieces
    except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise InputError(f"{trajectory} cannot be read with the atoms of {topology}: {error}") from error
