"""The text of ``--dry-run``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..config import Config
    from ..prepare import Options


def planned(
    options: Options, n_ranks: int, ranks_per_node: int | None, gpus_per_node: int, cores_per_node: int | None
) -> str:
    """The text of --dry-run."""
    from types import SimpleNamespace

    from ..layout.describe import describe
    from ..layout.plan import machine
    from ..prepare import plan_layout

    resumed = options.resumed()
    settings = options.load() if resumed is None else resumed.config
    nodes, gpus = machine(n_ranks, ranks_per_node=ranks_per_node, gpus_per_node=gpus_per_node)
    planned = plan_layout(settings, SimpleNamespace(nodes=nodes, gpus_per_node=gpus), resumed)
    return describe(
        planned,
        ring_nbytes=int(settings.aggregation.ring_mb * 1e6),
        queue_nbytes=int(settings.streams.queue_mb * 1e6),
        windows=window_nbytes(settings, planned.n_walkers),
        n_threads=settings.simulation.threads,
        cores_per_node=cores_per_node,
        block_delay=settings.streams.block_delay,
    )


def window_nbytes(settings: Config, n_walkers: int) -> dict[str, int]:
    """Bytes of a full window of training and of inference, of frames like the start structure."""
    import numpy as np

    from ..frames.block import Extents, Hop, packed_nbytes
    from ..frames.window import inference_frames
    from ..md.topologies import check_topologies
    from ..structure.features import FeatureCalculator

    first, *_ = check_topologies(settings)  # all of them, so that any error is reported here
    structures = first.structures
    start = FeatureCalculator(structures.target_nm, settings.features, structures.molecules, first.pose).compute(
        structures.positions_nm[structures.descriptor], np.zeros((3, 3)), structures.positions_nm
    )
    one = Extents(1, 0, len(structures.descriptor), len(start["order_parameters"]), len(start["contact_columns"]))
    n_frames = {"inference": inference_frames(settings, n_walkers)[1]}
    if settings.training.model != "none":
        n_frames["training"] = settings.training.window_frames
    return {role: n * packed_nbytes(Hop.FEATURES, one) for role, n in n_frames.items()}
