"""``ddmd-mpi watch``: serves a walker of a running simulation to programs that show or analyse it."""

from __future__ import annotations

import time
import tomllib
from contextlib import suppress
from pathlib import Path

import click

from ..errors import RunDirectoryError
from ..md.imd.follow import Follower
from ..md.imd.protocol import Session
from ..md.imd.server import WAITING_FRAMES, Server
from ..rundir.files import reason
from .status import SILENT_SECONDS, read_status

#: Between two checks for a frame: while somebody watches, and while nobody does.
WATCHED_SECONDS, ALONE_SECONDS = 0.003, 0.2
#: Between two checks whether the run has ended.
STATUS_SECONDS = 1.0


def watch(directory: Path, walker: int, address: str, port: int, version: int) -> None:
    """Serve the newest frames of a walker, which its files show, until the run ends."""
    check_walker(read_status(directory), directory, walker)
    stem = directory / "trajectories" / f"sim-{walker:04d}"
    follower = Follower(stem, timestep_ps(directory))
    server = Server(address, {walker: port}, Session(velocities=False), version)
    try:
        click.echo(f"walker {walker} of {directory}: imd://{address}:{server.ports[walker]}")
        follow(follower, server, directory, walker)
    finally:
        server.free()


def follow(follower: Follower, server: Server, directory: Path, walker: int) -> None:
    """Hand over the frames until the run ends; says why it does no more."""
    looked = time.monotonic()
    while True:
        try:
            time.sleep(hand_over(follower, server, walker))
        except (OSError, ValueError) as error:
            raise RunDirectoryError(f"walker {walker} of {directory} cannot be followed: {reason(error)}") from error
        if time.monotonic() - looked > STATUS_SECONDS:
            looked = time.monotonic()
            view = read_status(directory)
            silent = time.time() - view["time"]
            if view["done"] or silent > SILENT_SECONDS:
                click.echo("The run has ended." if view["done"] else f"The run has said nothing for {silent:.0f} s.")
                return


def hand_over(follower: Follower, server: Server, walker: int) -> float:
    """Hand over what is new; seconds until the next look."""
    watched = walker in server.watched
    # The walker has not started, or a network file system does not show its newest frame yet.
    with suppress(FileNotFoundError, IndexError):
        for frame in follower.news(WAITING_FRAMES if watched else 1):
            server.publish(walker, frame)
    return WATCHED_SECONDS if watched else ALONE_SECONDS


def check_walker(view: dict, directory: Path, walker: int) -> None:
    """Raise a RunDirectoryError if there is nothing to watch."""
    if view["done"]:
        raise RunDirectoryError(f"the run in {directory} has ended: read its trajectories instead")
    n_walkers = view["walkers"]
    if walker >= n_walkers:
        raise RunDirectoryError(f"{directory} has no walker {walker}: its walkers are 0 to {n_walkers - 1}")


def timestep_ps(directory: Path) -> float:
    """The time step of a run, ps."""
    path = directory / "config.toml"
    try:
        return float(tomllib.loads(path.read_text())["simulation"]["timestep_fs"]) * 1e-3
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise RunDirectoryError(f"{path} does not say simulation.timestep_fs: name a run directory") from error
