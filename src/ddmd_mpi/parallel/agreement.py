"""What the ranks of one communicator know together, asked again and again without anyone waiting for another."""

from __future__ import annotations

from typing import Any

import numpy as np


class Agreement:
    """Sums over the ranks of `comm`, in rounds.

    All ranks are given the same sums in the same order; a rank that acts on them alone acts as all others do.

    Parameters
    ----------
    comm
        The ranks' communicator; nothing else may use it at the same time.
    """

    def __init__(self, comm: Any):
        self._comm, self._request = comm, None

    def ask(self, *values: float) -> np.ndarray | None:
        """The sums of one round, or None while a rank has not said its `values` yet; a later round takes later ones."""
        if self._request is None:
            self._mine, self._sums = np.array(values, np.float64), np.empty(len(values))
            self._request = self._comm.Iallreduce(self._mine, self._sums)
        if not self._request.Test():
            return None
        self._request = None
        return self._sums
