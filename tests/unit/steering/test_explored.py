"""States open where a frame is far from all others, and never close."""

import json

import numpy as np
import pytest

from ddmd_mpi.steering.explored import Explored, distances


def stretched(*lengths: float) -> np.ndarray:
    """Straight chains of 8 atoms with steps of these lengths, angstrom, as frames hold them."""
    steps = np.arange(8)[:, None] * np.array([1.0, 0, 0])
    return np.rint(100 * np.array(lengths)[:, None, None] * steps).astype(np.int16)


def test_distances_do_not_depend_on_where_the_molecule_is():
    x = stretched(3.0)[0]
    turned = np.stack([x, x[:, [1, 2, 0]] + 50])
    first, second = distances(turned)
    assert first.shape == (28,)
    assert first == pytest.approx(second)
    assert first.max() == pytest.approx(21.0)


def test_a_frame_far_from_all_opens_a_state_and_a_near_one_does_not():
    # Two chains of steps a and b differ by |a - b| times the root mean square of 1 .. 7 as often as they occur.
    unit = np.sqrt(np.mean([(j - i) ** 2 for i in range(8) for j in range(i + 1, 8)]))
    explored = Explored(resolution_angstrom=0.5 * unit)
    assert explored.add(stretched(2.0, 2.4, 2.6, 3.4)).tolist() == [True, False, True, True]
    assert explored.add(stretched(2.1, 3.0, 9.0)).tolist() == [False, False, True]
    assert (len(explored), explored.opened) == (4, 4)


def test_too_many_states_become_fewer_and_coarser():
    explored = Explored(resolution_angstrom=0.1, most=5)
    assert explored.add(stretched(*np.linspace(2, 6, 40))).all()
    assert explored.opened == 40
    assert 1 < len(explored) <= 5
    assert explored.resolution > 0.1


def test_a_resumed_run_knows_what_was_found():
    explored, later = Explored(1.0), Explored(1.0)
    explored.add(stretched(2.0, 4.0))
    later.restore(json.loads(json.dumps(explored.state())))
    assert later.add(stretched(2.0, 4.0, 8.0)).tolist() == [False, False, True]
    assert later.opened == 3


def test_a_run_without_a_frame_has_a_state_as_well():
    later = Explored(1.0)
    later.restore(json.loads(json.dumps(Explored(1.0).state())))
    assert later.add(stretched(2.0)).tolist() == [True]
