"""Blocks of frames as a simulation makes them, with every number different."""

import numpy as np

from ddmd_mpi.frames.block import FIELDS, FrameBlock, Hop

ATOMS, RESIDUES, ORDER_PARAMETERS = 5, 4, 2


def block(walker, n_frames=3, first=0, seed=0):
    """Frames `first` ... of a walker, on the hop that carries coordinates; the last residue has no contacts."""
    generator = np.random.default_rng([seed, walker, first])
    counts = generator.integers(0, 3, (n_frames, RESIDUES)).astype("<u2")
    counts[:, -1] = 0
    shapes = {
        "order_parameters": (n_frames, ORDER_PARAMETERS),
        "ca_positions": (n_frames, RESIDUES, 3),
        "positions": (n_frames, ATOMS, 3),
        "velocities": (n_frames, ATOMS, 3),
        "box": (n_frames, 3, 3),
        "contact_columns": (int(counts.sum()),),
    }
    columns = {}
    for field in FIELDS:
        if Hop.COORDINATES in field.hops:
            numbers = generator.normal(scale=1000, size=shapes.get(field.name, (n_frames,)))
            columns[field.name] = (
                np.abs(numbers).astype(field.dtype) if "u" in field.dtype else numbers.astype(field.dtype)
            )
    columns |= {
        "walker": np.full(n_frames, walker, "<i4"),
        "frame": first + np.arange(n_frames, dtype="<i8"),
        "contact_counts": counts,
        "contact_columns": columns["contact_columns"] % RESIDUES,
    }
    columns["rmsd"][0] = np.nan
    return FrameBlock(columns)


def same(found, expected, names):
    """Asserts that the columns `names` are the same bits."""
    for name in names:
        assert found[name].dtype == expected[name].dtype, name
        assert found[name].tobytes() == expected[name].tobytes(), name
