"""The errors a user can meet: each message says what, where and the cure in one sentence."""

from __future__ import annotations

MAX_CHARACTERS = 2000

#: Exit code for bad input.
BAD_INPUT = 2


class DDMDError(Exception):
    """Base of every error that ends a run with one sentence and exit code 2."""

    #: Whether the other ranks do not learn of it, because they wait inside MPI for the rank that has met it.
    alone = False


def sentence(error: Exception) -> str:
    """What an error says, on one line that any terminal can show: names and texts of files may hold anything."""
    text = "".join(c if c.isprintable() else "?" for c in " ".join(str(error).split()))
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]} ..."


class ConfigError(DDMDError):
    """A setting is unknown, ill-typed or contradicts another."""


class InputError(DDMDError):
    """A structure or another input file cannot be used."""


class LayoutError(DDMDError):
    """The ranks cannot be given to the roles."""


class LauncherError(DDMDError):
    """The launcher and MPI do not fit, so that every process is alone."""


class StreamError(DDMDError):
    """A stream cannot be opened, written or read."""


class EngineError(DDMDError):
    """A molecular-dynamics engine cannot be made, or failed during a segment."""


class ModelError(DDMDError):
    """A model or its weights cannot be used."""


class NothingToLearnError(ModelError):
    """A window holds nothing that a model could learn; all ranks that train together find it out together."""


class LostRankError(DDMDError):
    """A rank that the run cannot do without has ended or hangs."""


class RunDirectoryError(DDMDError):
    """A run directory cannot be created, read or written."""


class DiskError(DDMDError):
    """A file of the run cannot be written."""


class CheckpointError(DDMDError):
    """A checkpoint cannot be written, read or resumed from."""
