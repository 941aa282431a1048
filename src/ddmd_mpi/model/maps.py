"""The contact maps of a window: dense while that is small, else made batch by batch from the compressed rows."""

from __future__ import annotations

import numpy as np

from ..frames.block import FrameBlock
from ..structure import contacts

#: A window of dense uint8 maps up to this size is kept: 300,000 frames of 28 residues, 2,600 of 309.
DENSE_BYTES = 2**28


class ContactMaps:
    """Contact maps of the frames of `block`, padded with zeros to `size` residues.

    Attributes
    ----------
    slow
        Whether batches are made from compressed rows.
    """

    def __init__(self, block: FrameBlock, size: int, dense_bytes: int | None = None):
        self._size = size
        self._counts, self._columns = block["contact_counts"], block["contact_columns"]
        self._offsets = block.contact_offsets
        self.slow = len(block) * size**2 > (DENSE_BYTES if dense_bytes is None else dense_bytes)
        self._dense = None if self.slow else self._make(self._counts, self._columns)

    def __len__(self) -> int:
        return len(self._counts)

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """Dense maps of the frames at `indices`, shape (n, size, size), uint8."""
        if self._dense is not None:
            return self._dense[indices]
        rows = [self._columns[self._offsets[i] : self._offsets[i + 1]] for i in indices]
        return self._make(self._counts[indices], np.concatenate(rows) if rows else self._columns[:0])

    def _make(self, counts: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return contacts.dense(counts, columns, size=self._size, dtype=np.uint8)
