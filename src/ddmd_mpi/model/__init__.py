"""The models that embed frames: rounds of training, latents, versioned weights. The only room with TensorFlow,
PyTorch and Horovod.

Importing it imports NumPy alone; :func:`create` imports what the model needs.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import ModelError
from ..sections import TrainingSection
from . import plugins
from .interface import Epoch, Losses, Model, Round, Setup, Supervisor
from .ranks import Ranks
from .weights import ModelWeights

__all__ = [
    "Epoch", "Losses", "Model", "ModelWeights", "Ranks", "Round", "Setup", "Supervisor", "check", "create",
    "open_model",
]


def check(settings: TrainingSection, n_residues: int) -> None:
    """Refuse, before a run starts, what is known to fail: a model that cannot be imported, weights of another one.

    Raises
    ------
    ModelError
    """
    architecture = plugins.describe(settings, n_residues)
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


def open_model(path: Path | str) -> Model:
    """The trained model of one version's directory, ``RUN/models/v000012``, ready to embed.

    Raises
    ------
    ModelError
        If there is none that can be read.
    """
    weights = ModelWeights.read(Path(path))
    try:
        settings = TrainingSection(**{**weights.metadata["settings"], "initial_weights": None})
        setup = Setup(settings, weights.metadata["n_residues"])
    except (KeyError, ValueError) as error:
        raise ModelError(f"{path} does not say what its model is made from: {error}") from error
    model = create(setup)
    weights.check(model.architecture, Path(path))
    model.load(weights.arrays)
    return model
