"""Latents before the first version of the model: principal components of the window's own contact maps.

A model needs seconds to minutes until its first version: its library starts, frames gather, a round of training runs.
Principal components of a window take milliseconds and need NumPy alone, so restarts need not wait.
"""

from __future__ import annotations

import numpy as np

from ..frames.block import FrameBlock

#: What records call this model.
INSTANT = "pca (until the first version)"
N_LATENT = 10
#: Frames that are fitted, and pairs that are looked at, at most: bounds the time for large windows.
FIT_FRAMES, MAX_PAIRS = 1000, 1000
#: Contacts that are looked at together, at most: bounds the memory for large maps.
MAX_CONTACTS = 4_000_000


def instant_latents(block: FrameBlock) -> np.ndarray:
    """Coordinates along the principal components of the contact maps, fitted to the window itself.

    Looks at the pairs i < j whose contact varies most, one or zero each.

    Parameters
    ----------
    block
        The window, features hop.

    Returns
    -------
    ndarray
        Shape (n_frames, n_latent), float32; all zero if all maps are equal.
    """
    n, contacts = len(block), max(1, len(block["contact_columns"]) // len(block))
    at_once = int(np.clip(MAX_CONTACTS // contacts, 2 * N_LATENT, FIT_FRAMES))
    fitted = block.take(np.unique(np.linspace(0, n - 1, at_once).astype(int)))
    pairs, counts = np.unique(contacts_of(fitted)[1], return_counts=True)
    share = counts / len(fitted)
    chosen = np.argsort(-share * (1 - share), kind="stable")[:MAX_PAIRS]
    chosen = np.sort(chosen[counts[chosen] < len(fitted)])
    if not len(chosen):
        return np.zeros((n, N_LATENT), np.float32)
    pairs, share = pairs[chosen], share[chosen]
    maps = maps_of(fitted, pairs) - share
    _, axes = np.linalg.eigh(maps.T @ maps)  # in ascending order of the variance
    axes = axes[:, : -N_LATENT - 1 : -1]
    starts = range(0, n, at_once)
    parts = (maps_of(block.take(np.arange(start, min(start + at_once, n))), pairs) - share for start in starts)
    return np.concatenate([part @ axes for part in parts]).astype(np.float32)


def maps_of(block: FrameBlock, pairs: np.ndarray) -> np.ndarray:
    """Ones and zeros: which of the `pairs`, by ascending number, each frame has in contact, shape (n, n_pairs)."""
    frame, pair = contacts_of(block)
    place = np.searchsorted(pairs, pair).clip(max=len(pairs) - 1)
    known = pairs[place] == pair
    maps = np.zeros((len(block), len(pairs)), np.float32)
    maps[frame[known], place[known]] = 1
    return maps


def contacts_of(block: FrameBlock) -> tuple[np.ndarray, np.ndarray]:
    """The contacts of all frames: index of the frame, and number of the pair, both of shape (n_contacts,)."""
    counts = block["contact_counts"]
    n_frames, n = counts.shape
    frame = np.repeat(np.arange(n_frames), counts.sum(axis=1, dtype=np.int64))
    row = np.repeat(np.tile(np.arange(n), n_frames), counts.ravel())
    return frame, row * n + block["contact_columns"]
