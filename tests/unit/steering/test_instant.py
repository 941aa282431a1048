"""The instant model: principal components of a window's contact maps, by NumPy alone."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.steering import instant
from ddmd_mpi.steering.instant import instant_latents


def block(maps):
    """Frames with these contact maps, shape (n_frames, n, n), of which the upper triangle counts."""
    upper = np.triu(np.asarray(maps, bool), 1)
    return FrameBlock(
        {
            "walker": np.zeros(len(upper), "<i4"),
            "contact_counts": upper.sum(axis=2).astype("<u2"),
            "contact_columns": np.nonzero(upper)[2].astype("<u2"),
        }
    )


def random_maps(n_frames, n, seed=0):
    """Maps of a chain that has two states, with noise; and the state of each frame."""
    generator = np.random.default_rng(seed)
    centres, state = generator.random((2, n, n)) < 0.3, generator.integers(0, 2, n_frames)
    noise = generator.random((n_frames, n, n)) < 0.02
    return centres[state] ^ noise, state


def test_distances_are_those_of_the_leading_principal_components():
    maps, _ = random_maps(60, 8)
    found = instant_latents(block(maps))
    pairs = maps[:, *np.triu_indices(8, 1)].astype(float)
    centred = pairs - pairs.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ axes[: instant.N_LATENT].T
    np.testing.assert_allclose(pdist(found), pdist(expected), atol=1e-4)


def test_states_part_along_the_first_component():
    maps, state = random_maps(200, 30)
    first = instant_latents(block(maps))[:, 0]
    assert first[state == 0].max() < first[state == 1].min() or first[state == 1].max() < first[state == 0].min()


@pytest.mark.parametrize(("limit", "most"), [("FIT_FRAMES", 40), ("MAX_PAIRS", 40), ("MAX_CONTACTS", 6000)])
def test_states_part_with_a_part_of_the_frames_or_pairs_too(monkeypatch, limit, most):
    monkeypatch.setattr(instant, limit, most)
    maps, state = random_maps(200, 30)
    latents = instant_latents(block(maps))
    assert latents.shape == (200, instant.N_LATENT)
    first = latents[:, 0]
    assert first[state == 0].max() < first[state == 1].min() or first[state == 1].max() < first[state == 0].min()


@pytest.mark.parametrize("contact", [False, True])
def test_equal_maps_have_equal_latents(contact):
    latents = instant_latents(block(np.full((20, 4, 4), contact)))
    assert latents.shape[0] == 20
    assert not np.ptp(latents, axis=0).any()
