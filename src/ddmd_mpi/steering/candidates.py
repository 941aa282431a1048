"""Arguments and result of a strategy; see docs/steering.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..config.strategies import NEEDS
from ..frames.block import FrameBlock
from .outliers import Outliers


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The window of n frames as the strategies see it.

    Parameters
    ----------
    block
        Every column of the window: ``walker``, ``segment``, ``frame``, ``rmsd`` (angstrom), ``order_parameters``,
        ``ca_positions``, contacts; see :data:`ddmd_mpi.frames.block.FIELDS`.
    coordinate
        What to rank by, lower is better, shape (n,): the RMSD to the target, angstrom, or the order parameter
        ``steering.coordinate`` as ``coordinate_goal`` says. NaN where there is none.
    usable
        Whether a walker can restart from the frame: its coordinates are kept, its latents are finite; shape (n,) bool.
    n_walkers
        Walkers of the run.
    generator
        The only source of random numbers, so that a run can be repeated.
    outliers
        The rare frames; none of them unless the strategy needs ``outliers``.
    latents
        Shape (n, d); None unless the strategy needs ``latents`` or ``outliers``.
    contacts
        Contacts between protein and ligand, shape (n,); NaN if they are not counted.
    options
        ``steering.options``.
    memory
        What the strategy gave back as its memory in the last round; empty in the first.
    """

    block: FrameBlock
    coordinate: np.ndarray
    usable: np.ndarray
    n_walkers: int
    generator: np.random.Generator
    outliers: Outliers
    latents: np.ndarray | None = None
    contacts: np.ndarray
    options: Mapping[str, Any] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.coordinate)


class Ranking(NamedTuple):
    """The verdict on every frame of the window; the restart policy decides which walkers restart."""

    score: np.ndarray  # (n,) lower is better; a frame without a finite score is no restart point
    eligible: np.ndarray  # (n,) bool: may be a restart point
    memory: Mapping[str, Any] | None = None  # for the next round, and in checkpoints: what JSON can hold


class Choice(NamedTuple):
    """The frames to restart from, chosen outright: no rule of the restart policy applies."""

    frames: np.ndarray  # (n_walkers,) index in the window for each walker, -1 to let it continue
    memory: Mapping[str, Any] | None = None  # as in a Ranking


Strategy = Callable[[Candidates], Ranking | Choice]
S = TypeVar("S", bound=Strategy)


def needs(*names: str) -> Callable[[S], S]:
    """Say what a strategy of one's own needs: ``latents``, ``outliers``, ``coordinate``, ``contacts``.

    Raises
    ------
    ValueError
        If nothing of that name can be had.
    """
    unknown = sorted(set(names) - NEEDS)
    if unknown:
        raise ValueError(f"a strategy cannot need {', '.join(unknown)}: choose from {', '.join(sorted(NEEDS))}")

    def mark(strategy: S) -> S:
        strategy.needs = frozenset(names)  # type: ignore[attr-defined]
        return strategy

    return mark
