"""The programs that watch the walkers of a rank while they move: each walker is served at a port of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..config.dynamics import SimulationSection
from ..config.schema import OutputSection
from ..errors import ConfigError
from ..md.imd.protocol import Frame
from ..md.imd.server import Server

LAST_PORT = 65_535


class Audience:
    """Serves the frames of walkers as they are reported.

    Parameters
    ----------
    server
        Has a port for each of the walkers.
    timestep_ps
        Of the integrator.
    """

    def __init__(self, server: Server, timestep_ps: float):
        self._server, self._timestep_ps = server, timestep_ps

    def show(self, row: Mapping[str, Any]) -> None:
        """A frame, as a row of the frames' table; returns at once."""
        frame = Frame(
            round(row["time"] / self._timestep_ps),
            row["time"],
            self._timestep_ps,
            row["positions"],
            row["velocities"],
            row["box"],
            row["potential_energy"],
        )
        self._server.publish(row["walker"], frame)

    def free(self) -> None:
        """Send away those who watch."""
        self._server.free()


def serve(output: OutputSection, simulation: SimulationSection, walkers: Iterable[int]) -> Audience | None:
    """Serve these walkers at ``output.imd_port`` + their index; None if nobody may watch.

    Raises
    ------
    ConfigError
        If a port is in use.
    """
    if output.imd_port is None:
        return None
    server = Server(output.imd_address, {walker: output.imd_port + walker for walker in walkers})
    return Audience(server, simulation.timestep_fs * 1e-3)


def check_ports(output: OutputSection, n_walkers: int) -> None:
    """Raise a ConfigError if there are not this many ports from ``output.imd_port`` on."""
    if output.imd_port is not None and output.imd_port + n_walkers - 1 > LAST_PORT:
        raise ConfigError(
            f"output.imd_port = {output.imd_port} leaves no port for each of {n_walkers} walkers: set it to "
            f"{LAST_PORT + 1 - n_walkers} or less"
        )
