"""Program of ranks: test functions of a module, one after the other.

Arguments: MODULE DIRECTORY. ``calls.json`` in the directory says what is to be called; ``passed`` there names what has
passed.
"""

import faulthandler
import importlib
import inspect
import json
import sys
from pathlib import Path

from mpi4py import MPI

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(sys.argv[1]).parent)]
comm = MPI.COMM_WORLD


def play(function, parameters, directory):
    """Call a function with what it wants."""
    if "directory" in inspect.signature(function).parameters:
        if comm.rank == 0:
            directory.mkdir()
        comm.Barrier()
        parameters = {**parameters, "directory": directory}
    function(comm, **parameters)


def main():
    module, directory = importlib.import_module(Path(sys.argv[1]).stem), Path(sys.argv[2])
    calls = json.loads((directory / "calls.json").read_text())
    for number, call in enumerate(calls):
        faulthandler.dump_traceback_later(call["seconds"], exit=True)
        play(getattr(module, call["function"]).function, call["parameters"], directory / str(number))
        comm.Barrier()
        if comm.rank == 0:
            with (directory / "passed").open("a") as passed:
                passed.write(call["name"] + "\n")
    faulthandler.cancel_dump_traceback_later()


main()
