"""The contact maps of a window: dense while that is small, else made batch by batch from the compressed rows."""

from __future__ import annotations

import numpy as np

from ..frames import FrameBlock
from ..structure import contacts

#: A window of dense uint8 maps up to this size is kept: 300,000 frames of 28 residues, 2,600 of 309.
DENSE_BYTES = 2**28


class ContactMaps:
    """Contact maps of the frames of `block`, padded with zeros to `size` residues."""

    def __init__(self, block: FrameBlock, size: int, dense_bytes: int = DENSE_BYTES):
        self._size = size
        self._rows = FrameBlock({n: block[n] for n in ("simulation", "contact_counts", "contact_columns")})
        self._dense = self._make(self._rows) if len(block) * size**2 <= dense_bytes else None

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """Dense maps of the frames at `indices`, shape (n, size, size), uint8."""
        return self._make(self._rows.take(indices)) if self._dense is None else self._dense[indices]

    def _make(self, rows: FrameBlock) -> np.ndarray:
        return contacts.dense(rows["contact_counts"], rows["contact_columns"], size=self._size, dtype=np.uint8)
