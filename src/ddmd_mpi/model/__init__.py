"""The models that embed frames: rounds of training, latents, versioned weights.

The only package with TensorFlow, PyTorch and Horovod.
Importing it imports NumPy alone; :func:`create` imports what the model needs.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ..config import validate_section
from ..config.imports import described
from ..config.schema import TrainingSection
from ..errors import ConfigError, ModelError
from . import plugins
from .interface import Epoch, Losses, Model, Round, Setup, Supervisor
from .ranks import Ranks
from .weights import ModelWeights

#: Residues that the table of frames has room for.
MAX_RESIDUES = 65_535

__all__ = [
    "Epoch",
    "Losses",
    "Model",
    "ModelWeights",
    "Ranks",
    "Round",
    "Setup",
    "Supervisor",
    "check",
    "create",
    "revive",
]


def check(settings: TrainingSection, n_residues: int, n_ranks: int = 1) -> None:
    """Refuse, before a run starts, what is known to fail: a model that cannot be imported, weights of another one.

    Parameters
    ----------
    n_ranks
        Ranks that are to train together.

    Raises
    ------
    ModelError
    """
    architecture = plugins.describe(settings, n_residues)
    if n_ranks > 1 and settings.data_parallel == "horovod" and find_spec("horovod") is None:
        raise ModelError(
            "training.data_parallel horovod needs Horovod, which is not installed: run make horovod, or "
            "set it to auto or mpi"
        )
    if settings.initial_weights is not None:
        weights = ModelWeights.read(settings.initial_weights)
        if architecture is not None:
            weights.check(architecture, settings.initial_weights)


def create(setup: Setup) -> Model:
    """A new model. Imports its library: seconds, and 500 MB. Collective over the ranks that train together.

    Raises
    ------
    ModelError
        If the model cannot be made, or ``initial_weights`` are those of another architecture.
    """
    model = plugins.make(setup)
    if setup.settings.initial_weights is not None:
        weights = ModelWeights.read(setup.settings.initial_weights)
        weights.check(model.architecture, setup.settings.initial_weights)
        model.load(weights.arrays)
    return model


def revive(weights: ModelWeights, path: Path, threads: int = 1, trusted: str | None = None) -> Model:
    """The model that the `weights` of the directory `path` are of, ready to embed on the CPU.

    Parameters
    ----------
    trusted
        The ``module:Class`` that the directory may name: nobody else's code is imported at its word.

    Raises
    ------
    ModelError
        If they do not say what model they are of, it cannot be made here, or they do not fit it.
    """
    try:
        settings = validate_section(TrainingSection, {**weights.metadata["settings"], "initial_weights": None})
        n_residues = int(weights.metadata["n_residues"])
        if not 0 < n_residues <= MAX_RESIDUES:
            raise ValueError(f"its residues cannot be {n_residues}")
        setup = Setup(settings, n_residues, threads=threads)
    except (ConfigError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ModelError(f"{path} does not say what its model is made from: {described(error)}") from error
    if ":" in settings.model and settings.model != trusted:
        raise ModelError(
            f"{path} wants the code of {settings.model} to run: if you trust it, allow it with "
            f"open_model(path, model={settings.model!r})"
        )
    architecture = plugins.describe(settings, n_residues)
    if architecture is not None:
        weights.check(architecture, path)
    model = create(setup)
    weights.check(model.architecture, path)
    model.load(weights.arrays)
    return model
