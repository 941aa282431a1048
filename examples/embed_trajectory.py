"""Embed a walker's trajectory by the newest model: ``embed_trajectory.py RUN [WALKER] > latents.csv``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from ddmd_mpi.analysis import open_model


def main(run: Path, walker: int = 0) -> None:
    """Write one row of latents per frame of the trajectory."""
    model = open_model(max(run.glob("models/v*")))
    topology = next(run.glob("topology/*.pdb"))
    trajectory = next(run.glob(f"trajectories/sim-{walker:04d}.[dx][ct][dc]"))
    latents = model.embed_trajectory(trajectory, topology)
    names = ",".join(f"z{i}" for i in range(model.n_latent))
    np.savetxt(sys.stdout, latents, fmt="%.5g", delimiter=",", header=names, comments="")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
