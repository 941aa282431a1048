"""How far walkers may go before the round that they have given frames for is decided."""

from __future__ import annotations

from collections import Counter

#: Reports that a walker may make if it waits for nothing.
UNLIMITED = 1 << 62


class Pace:
    """Counts the reports of walkers since inference has last answered each of them.

    Parameters
    ----------
    reports
        That a walker may make until the next answer; None for any number.
    """

    def __init__(self, reports: int | None):
        self._reports = UNLIMITED if reports is None else reports
        self._made: Counter[int] = Counter()

    def left(self, walker: int) -> int:
        """Reports that a walker may make now."""
        return self._reports - self._made[walker]

    def count(self, walker: int, n_reports: int) -> None:
        """Count reports that a walker has made."""
        self._made[walker] += n_reports

    def answer(self, walker: int) -> None:
        """Let a walker continue: it is restarted, or told to continue as it is."""
        self._made[walker] = 0

    def lift(self) -> None:
        """Let all walkers move from now on, whatever inference says."""
        self._reports = UNLIMITED
