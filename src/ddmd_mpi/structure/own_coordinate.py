"""Order parameters of the user's own: a function by entry point or ``module:function``; its code may do anything."""

from __future__ import annotations

import numpy as np

from ..config import imports
from ..config.imports import described
from ..errors import ConfigError

GROUP = "ddmd_mpi.order_parameters"


class OwnCoordinate:
    """A function of the positions whose value can be relied on.

    Parameters
    ----------
    name
        Of the order parameter.
    function
        What the settings name: a function of the positions of the descriptor atoms and of those in the target, nm,
        shape (n, 3) each, that gives one number.

    Raises
    ------
    ConfigError
        If there is no such function, or it cannot be imported.
    """

    def __init__(self, name: str, function: str):
        self._name = f"order parameter {name}: {function}"
        found = imports.find("features.order_parameters.function", function, GROUP, (), ConfigError)
        if not callable(found):
            raise ConfigError(f"{self._name} is no function (got {found!r})")
        self._function = found

    def check(self, target_nm: np.ndarray) -> None:
        """Raise a ConfigError if the function fails on the target."""
        try:
            self.value(target_nm, target_nm)
        except ValueError as error:
            raise ConfigError(f"{error}; it was called with the target") from error

    def value(self, positions_nm: np.ndarray, target_nm: np.ndarray) -> float:
        """The function's value.

        Raises
        ------
        ValueError
            If it raises anything, or gives no finite number.
        """
        try:
            number = float(self._function(positions_nm.copy(), target_nm.copy()))
        except Exception as error:
            raise ValueError(f"{self._name} failed: {described(error)}") from error
        if not np.isfinite(number):
            raise ValueError(f"{self._name} gave {number}: a finite number is expected")
        return number
