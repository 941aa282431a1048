"""The strategy that the settings name: built in, an entry point of ``ddmd_mpi.strategies``, or ``module:function``.

Its code may do anything, so its verdict is checked, and whatever is wrong becomes one sentence: the run goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..config import imports
from ..config.imports import described
from ..config.schema import Config, SteeringSection
from ..config.strategies import BUILT_IN, GROUP, NEEDS
from ..errors import ConfigError
from .candidates import Candidates, Choice, Ranking, Strategy
from .strategies import STRATEGIES

#: A decision that takes longer, s, is worth a sentence.
SLOW_SECONDS = 1.0


def find(name: str) -> tuple[Strategy, frozenset[str]]:
    """A strategy of the user's own, and what it says that it needs.

    Raises
    ------
    ConfigError
        If there is no such strategy, or it cannot be imported.
    """
    found = imports.find("steering.strategy", name, GROUP, tuple(BUILT_IN), ConfigError)
    needs: frozenset[str] = getattr(found, "needs", frozenset())
    if not callable(found) or isinstance(found, type):
        raise ConfigError(f"steering.strategy {name} is no function (got {found!r}): see docs/steering.md")
    if not isinstance(needs, frozenset) or not needs <= NEEDS:
        raise ConfigError(f"steering.strategy {name} needs {needs!r}: mark it with ddmd_mpi.steering.needs")
    return found, needs


def check_own(config: Config) -> None:
    """Refuse, before a run starts, a strategy of the user's own that cannot be had, or whose needs cannot be met.

    Raises
    ------
    ConfigError
    """
    name = config.steering.strategy
    _, needs = find(name)
    if config.training.model == "none" and needs & {"latents", "outliers"}:
        raise ConfigError(f"strategy {name} needs a model: set training.model to pca or cvae")
    if "coordinate" in needs and config.system.target is None and config.coordinate is None:
        raise ConfigError(f"strategy {name} needs a target: set system.target, or steering.coordinate")
    if "contacts" in needs and config.features.ligand_contacts is None:
        raise ConfigError(f"strategy {name} needs an order parameter of the kind ligand_contacts: add one to features")
    if "order_parameters" in needs and not config.features.order_parameters:
        raise ConfigError(f"strategy {name} needs order parameters: add some to features")


class GuardedStrategy:
    """A strategy whose verdict can be relied on.

    Parameters
    ----------
    settings
        ``strategy`` and ``options``.

    Attributes
    ----------
    needs
        What it needs, some of :data:`.config.strategies.NEEDS`.
    complaint
        What was wrong with the last verdict, one sentence; None for nothing.

    Raises
    ------
    ConfigError
        If a strategy of the user's own cannot be had.
    """

    def __init__(self, settings: SteeringSection):
        self.name = settings.strategy
        self.complaint: str | None = None
        self._function: Strategy | None = STRATEGIES.get(self.name)
        self.options: Mapping[str, Any] = settings.options
        self.needs = settings.needs
        if self.name in BUILT_IN:
            self.options = {**BUILT_IN[self.name].options, **settings.options}
        else:
            self._function, self.needs = find(self.name)

    def __bool__(self) -> bool:
        """Whether it decides anything."""
        return self._function is not None

    def verdict(self, candidates: Candidates) -> Ranking | Choice | None:
        """The strategy's verdict; None if it decides nothing, or cannot be used: `complaint` says why."""
        self.complaint = None
        if self._function is None:
            return None
        clock = time.perf_counter()
        try:
            verdict = _with_arrays(self._function(candidates))
        except Exception as error:  # noqa: BLE001 - foreign code
            self.complaint = f"strategy {self.name} failed: {described(error)}"
            return None
        spent = time.perf_counter() - clock
        wrong = what_is_wrong(verdict, candidates)
        if wrong is not None:
            self.complaint = f"strategy {self.name} {wrong}"
            return None
        if spent > SLOW_SECONDS:
            self.complaint = (
                f"strategy {self.name} took {spent:.1f} s on {len(candidates)} frames, more than {SLOW_SECONDS:g} s: "
                "its verdict is used, but restarts come later"
            )
        return verdict


def _with_arrays(verdict: Ranking | Choice) -> Ranking | Choice:
    """The verdict with arrays in place of lists; what is no verdict stays as it is."""
    if isinstance(verdict, Ranking):
        return verdict._replace(score=np.asarray(verdict.score), eligible=np.asarray(verdict.eligible))
    return verdict._replace(frames=np.asarray(verdict.frames)) if isinstance(verdict, Choice) else verdict


def what_is_wrong(verdict: object, candidates: Candidates) -> str | None:
    """Why a verdict cannot be used, the rest of a sentence; None if it can."""
    if isinstance(verdict, Ranking):
        wrong = _wrong_ranking(verdict, len(candidates))
    elif isinstance(verdict, Choice):
        wrong = _wrong_choice(verdict, candidates)
    else:
        return f"gave {verdict!r:.100}: a Ranking or a Choice of ddmd_mpi.steering is expected"
    return wrong or _wrong_memory(verdict.memory)


def _wrong_ranking(ranking: Ranking, n: int) -> str | None:
    score, eligible, _ = ranking
    if score.shape != (n,) or score.dtype.kind not in "fiu":
        return f"gave scores of shape {score.shape}, {score.dtype}: one number for each of the {n} frames is expected"
    if eligible.shape != (n,) or eligible.dtype != bool:
        return (
            f"gave eligible of shape {eligible.shape}, {eligible.dtype}: a bool for each of the {n} frames is expected"
        )
    if eligible.any() and not np.isfinite(score[eligible]).any():
        return f"gave no finite score: all of the {eligible.sum()} eligible frames have NaN or infinity"
    return None


def _wrong_choice(choice: Choice, candidates: Candidates) -> str | None:
    frames, n = choice.frames, len(candidates)
    if frames.shape != (candidates.n_walkers,) or frames.dtype.kind not in "iu":
        return (
            f"chose frames of shape {frames.shape}, {frames.dtype}: one index for each of the {candidates.n_walkers} "
            "walkers is expected"
        )
    outside = frames[(frames < -1) | (frames >= n)]
    return f"chose frame {outside[0]}, which is not in the window of {n} frames" if len(outside) else None


def _wrong_memory(memory: object) -> str | None:
    try:
        json.dumps(memory, allow_nan=False)
    except (TypeError, ValueError) as error:
        return f"gave a memory that JSON cannot hold: {error}"
    return None if memory is None or isinstance(memory, Mapping) else f"gave a memory that is no dict: {memory!r:.100}"
