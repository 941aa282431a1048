"""Environment variables and files that are meant for other programs: corrected before any library reads them."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
TEMPORARY = ("TMPDIR", "TEMP", "TMP")
#: Set by the processes that this program has started again in UTF-8.
UTF8 = "PYTHONUTF8"
#: What a launcher with PMIx says of its server.
PMIX_SERVER = "PMIX_SERVER_URI"
#: Network adapters that UCX is made for, by the first letters of their names.
ADAPTERS, MELLANOX = Path("/sys/class/infiniband"), "mlx"


def settle(variables: MutableMapping[str, str], adapters: Path = ADAPTERS) -> None:
    """Change what would break this program, in its own environment and that of what it starts.

    Parameters
    ----------
    variables
        The environment.
    adapters
        Directory with a name for every network adapter of this host.
    """
    if not any(name.startswith(PMIX_SERVER) for name in variables):
        variables.pop("PMIX_NAMESPACE", None)  # of a launcher that is out of reach: Open MPI would crash
    variables["MPLBACKEND"] = "agg"  # that of a notebook may not be installed here
    variables.pop("PYTHONWARNINGS", None)  # "error" would make an end of a run of what a library deprecates
    for name in THREAD_VARIABLES:
        if name in variables and not _is_count(variables[name]):
            variables[name] = "1"
    for name in TEMPORARY:
        if name in variables and not _is_directory(variables[name]):
            del variables[name]
    if "OMPI_MCA_osc" not in variables and not any(p.name.startswith(MELLANOX) for p in _entries(adapters)):
        # Open MPI: without such an adapter, its windows over UCX are never used, and print an error line on every rank.
        variables["OMPI_MCA_osc"] = "^ucx"


def soften_warnings() -> None:
    """Downgrade warnings that are set to be errors: this program's libraries deprecate things in each other."""
    warnings.filters = [("default" if f[0] == "error" else f[0], *f[1:]) for f in warnings.filters]
    # Of mpi4py, on every rank: launch() names the launcher and the cure, once.
    warnings.filterwarnings("ignore", "suspicious MPI execution environment", RuntimeWarning)


def use_utf8() -> None:
    """Start this program again in Python's UTF-8 mode if the locale has another encoding.

    Then all paths have the same bytes for Python and for the C++ libraries, which take UTF-8 whatever the locale says.
    """
    if sys.getfilesystemencoding().lower() == "utf-8" or os.environ.get(UTF8) == "1" or not sys.executable:
        return
    os.environ[UTF8] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def check_paths(arguments: Sequence[str]) -> None:
    """Refuse names that the C++ libraries cannot be given.

    Raises
    ------
    InputError
        If an argument, or the working directory, is not UTF-8, or the latter is gone.
    """
    for argument in arguments:
        if not _is_utf8(argument):
            raise InputError(f"the argument {argument} is not UTF-8, as all paths must be: rename what it names")
    try:
        here = os.getcwd()
    except FileNotFoundError as error:
        raise InputError("the working directory no longer exists: change to one that does") from error
    if not _is_utf8(here):
        raise InputError(
            f"the path of the working directory {here} is not UTF-8, as all paths must be: rename it, or "
            "change to another one"
        )


def _is_count(text: str) -> bool:
    return text.strip().isdigit() and int(text) > 0


def _is_directory(name: str) -> bool:
    return _is_utf8(name) and os.path.isdir(name) and os.access(name, os.W_OK | os.X_OK)


def _is_utf8(text: str) -> bool:
    """Whether a text has no bytes that stood for no character."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Let imports of `names` fail inside the block, unless they are imported already."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None stops an import: no type says so
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
