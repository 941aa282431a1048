"""The ligand diversity rule: a floor and a cap of walkers per ligand, and the strategy that ranks by contacts."""

import numpy as np
import pytest

from ddmd_mpi.config.schema import SteeringSection
from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.steering.ligand_quota import LigandCensus, first_topology
from ddmd_mpi.steering.outliers import Outliers
from ddmd_mpi.steering.policy import Policy

#: Walkers 0 to 3 hold ligand 0, 0, 1, 1; the best frames are old ones of walker 2.
ROWS = [(2, 0, 1, 1.0), (2, 1, 1, 2.0), (2, 2, 1, 3.0), (0, 5, 0, 9.0), (1, 5, 0, 8.0), (2, 5, 1, 4.0), (3, 5, 1, 5.0)]


def window(rows=ROWS):
    """Frames of (simulation, frame, topology, rmsd); each frame is a segment of its own, with 10 - rmsd contacts."""
    simulation, frame, topology, rmsd = (np.array(c) for c in zip(*rows, strict=True))
    n = len(rows)
    return FrameBlock(
        {
            "walker": simulation,
            "segment": frame,
            "frame": frame,
            "topology": topology,
            "rmsd": rmsd,
            "order_parameters": np.stack([np.zeros(n), 10.0 - rmsd], axis=1),
            "slot_generation": np.ones(n, int),
            "contact_counts": np.zeros((n, 1), np.uint16),
            "contact_columns": np.zeros(0, np.uint16),
        }
    )


def policy(strategy="greedy", **rule):
    settings = SteeringSection(strategy=strategy, min_latent_distance=0.0, **rule)
    return Policy(settings, 4, 1, contacts=1, census=LigandCensus(np.array([0, 0, 1, 1]), 2, settings))


def choose(chooser, block, outliers=None, may_restart=(True,) * 4):
    restarts = chooser.choose(block, None, outliers, np.array(may_restart))
    return [(r.walker, int(block["topology"][r.index]), int(block["frame"][r.index])) for r in restarts]


def test_walkers_are_spread_evenly():
    begins = [first_topology(w, 3) for w in range(8)]
    assert np.bincount(begins).tolist() == [3, 3, 2]


def test_without_a_rule_a_ligand_may_lose_all_its_walkers():
    chooser = policy()
    assert choose(chooser, window()) == [(0, 1, 0), (1, 1, 1)]
    assert chooser.census.counts.tolist() == [0, 4]


def test_the_floor_keeps_the_last_walkers_of_a_ligand():
    chooser = policy(walkers_per_ligand_min=1)
    assert choose(chooser, window()) == [(0, 1, 0)]
    assert chooser.census.counts.tolist() == [1, 3]


def test_the_cap_lets_no_more_walkers_in():
    chooser = policy(walkers_per_ligand_max=3)
    assert choose(chooser, window()) == [(0, 1, 0)]
    assert chooser.census.counts.tolist() == [1, 3]


def test_a_restart_within_a_ligand_is_no_change():
    rows = [(0, 0, 0, 1.0), *ROWS[3:]]
    assert choose(policy(walkers_per_ligand_min=2, walkers_per_ligand_max=2), window(rows)) == [(0, 0, 0)]


def test_a_frame_that_the_worst_walker_may_not_take_goes_to_the_next():
    rows = [(2, 0, 1, 1.0), (0, 5, 0, 9.0), (1, 5, 0, 4.0), (2, 5, 1, 8.0), (3, 5, 1, 3.0)]
    chooser = policy(walkers_per_ligand_max=2)
    assert choose(chooser, window(rows)) == [(2, 1, 0), (0, 0, 5)]


def test_a_walker_is_counted_where_it_is_found_and_where_it_is_sent_until_then():
    chooser = policy()
    choose(chooser, window())
    later = [(w, 6, 0, 9.0) for w in range(4)]
    choose(chooser, window(later), may_restart=[False, True, True, True])
    assert chooser.census.topologies.tolist() == [1, 0, 0, 0], "walker 0 has not answered yet"


def test_contacts_rank_the_outliers_only():
    block = window([*ROWS, (3, 1, 1, 0.5)])
    mask = np.array([False, True, True, False, False, False, False, False])
    nothing = np.zeros(len(block))
    outliers = Outliers(mask, 1.0, nothing, nothing, "dbscan")
    assert choose(policy("ml_contacts"), block, outliers) == [(0, 1, 1), (1, 1, 2)]


def test_a_floor_above_the_cap_is_refused():
    with pytest.raises(ValueError, match="must not exceed"):
        SteeringSection(walkers_per_ligand_min=3, walkers_per_ligand_max=2)
