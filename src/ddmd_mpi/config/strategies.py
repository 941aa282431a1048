"""The built-in strategies of restarts: what each needs of a run, and its options with their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .imports import place_of

#: The group of entry points that ``steering.strategy`` may name.
GROUP = "ddmd_mpi.strategies"
#: What a strategy may need: latents of the window; the rare frames among them, and so latents; a coordinate to rank
#: by, the RMSD to a target or an order parameter; contacts with a ligand; declared order parameters.
NEEDS = frozenset({"latents", "outliers", "coordinate", "contacts", "order_parameters"})


@dataclass(frozen=True)
class BuiltIn:
    """A strategy of this program.

    Parameters
    ----------
    needs
        Some of :data:`NEEDS`.
    options
        Its settings in ``steering.options``; "auto" where the number depends on the window. All are > 0.
    """

    needs: frozenset[str] = frozenset()
    options: Mapping[str, float | str] = field(default_factory=dict)


def _needs(*names: str, **options: float | str) -> BuiltIn:
    return BuiltIn(frozenset(names), options)


BUILT_IN = {
    "ml": _needs("outliers"),
    "ml_rmsd": _needs("outliers", "coordinate"),
    "ml_lof": _needs("outliers"),
    "ml_contacts": _needs("outliers", "contacts"),
    "greedy": _needs("coordinate"),
    "random": _needs(),
    "least_counts": _needs("latents", clusters="auto"),
    "fast": _needs("latents", "coordinate", clusters="auto", alpha=1.0),
    "knn": _needs("latents", clusters="auto", neighbours=5),
    "reap": _needs("order_parameters", clusters="auto", candidates=10, delta=0.05, agents=1),
    "auto": _needs(period=2, patience=8, least=0.1),
    "published": _needs("outliers", "coordinate"),
    "none": _needs(),
}


def check_strategy(name: str, options: Mapping[str, Any]) -> None:
    """Raise a ValueError if there is no such strategy, or a built-in one has no such option."""
    if name not in BUILT_IN:
        if place_of(name, GROUP) is None:
            raise ValueError(
                f"unknown steering.strategy {name}: choose one of {', '.join(BUILT_IN)}, or give an entry point or "
                "module:function"
            )
        return
    known = BUILT_IN[name].options
    for option, value in options.items():
        if option not in known:
            cure = f"known are {', '.join(known)}" if known else "leave options out"
            raise ValueError(f"strategy {name} has no option {option}: {cure}")
        whole = isinstance(value, int) and not isinstance(value, bool)
        default = known[option]
        number = whole or (isinstance(value, float) and isinstance(default, float))
        if not (number and 0 < value <= 1e6) and value != default:
            kind = "number" if isinstance(default, float) else "whole number"
            raise ValueError(f"option {option} of strategy {name} is a {kind} above 0 (got {value!r})")
