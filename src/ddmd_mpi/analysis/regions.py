"""Regions of the coordinates, such as ``rmsd_angstrom<3``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
FORMS = (
    re.compile(rf"(?:(?P<low>{NUMBER})\s*<\s*)?(?P<column>[A-Za-z_]\w*)\s*<\s*(?P<high>{NUMBER})"),
    re.compile(rf"(?P<column>[A-Za-z_]\w*)\s*>\s*(?P<low>{NUMBER})"),
)


@dataclass(frozen=True)
class Region:
    """The frames whose column lies between two limits."""

    column: str
    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        below = f"{self.low:g} < " if self.low > -math.inf else ""
        above = f" < {self.high:g}" if self.high < math.inf else ""
        return f"{below}{self.column}{above}" if above else f"{self.column} > {self.low:g}"

    def holds(self, values: np.ndarray) -> np.ndarray:
        """Whether each value of the column is in the region."""
        return (values > self.low) & (values < self.high)


def parse_region(text: str) -> Region:
    """The region that a text names: ``COLUMN<VALUE``, ``COLUMN>VALUE`` or ``LOW<COLUMN<HIGH``.

    Raises
    ------
    InputError
        If it is something else.
    """
    for form in FORMS:
        if found := form.fullmatch(text.strip()):
            limits = {name: float(value) for name, value in found.groupdict().items() if value and name != "column"}
            region = Region(found["column"], **limits)
            if region.low >= region.high:
                raise InputError(f"the region {text} is empty: its lower limit is not below the upper one")
            return region
    raise InputError(f"a region is COLUMN<VALUE, COLUMN>VALUE or LOW<COLUMN<HIGH (got {text!r})")
