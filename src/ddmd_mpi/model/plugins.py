"""Finding a model by name: a built-in one, an entry point of the group ``ddmd_mpi.models``, or ``module:Class``."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np

from ..errors import ModelError
from ..frames import FrameBlock
from ..sections import TrainingSection
from . import architecture
from .interface import Model, Round, Setup, Supervisor

GROUP = "ddmd_mpi.models"


def cvae(setup: Setup) -> Model:
    """The convolutional variational autoencoder (TensorFlow)."""
    from .backend import start

    start(setup.threads, setup.gpu)
    from .cvae import Cvae

    return Cvae(setup)


def aae(setup: Setup) -> Model:
    """The adversarial autoencoder of point clouds (PyTorch)."""
    from .aae import Aae

    return Aae(setup)


def pca(setup: Setup) -> Model:
    """Principal components of the contact map (scikit-learn)."""
    from .pca import Pca

    return Pca(setup)


class BuiltIn(NamedTuple):
    """How a built-in model is made and described, and what it needs."""

    make: Callable[[Setup], Model]
    describe: Callable[[TrainingSection, int], dict[str, Any]]
    library: str
    cure: str


BUILT_IN = {
    "cvae": BuiltIn(cvae, architecture.cvae, "tensorflow", "make install"),
    "aae": BuiltIn(aae, architecture.aae, "torch", "make torch"),
    "pca": BuiltIn(pca, architecture.pca, "sklearn", "make install"),
}


def find(name: str) -> type[Model] | None:
    """The class of a third party's model; None for a built-in one, whose library is not imported.

    Raises
    ------
    ModelError
        If there is no such model, or it lacks something.
    """
    if name in BUILT_IN:
        _, _, library, cure = BUILT_IN[name]
        if importlib.util.find_spec(library) is None:
            raise ModelError(f"training.model {name} needs {library}, which is not installed: {cure}")
        return None
    module, colon, attribute = name.partition(":")
    if not colon:
        entries = {entry.name: entry.value for entry in metadata.entry_points(group=GROUP)}
        if name not in entries:
            known = ", ".join([*BUILT_IN, "none", *sorted(entries)])
            raise ModelError(f"unknown training.model {name}: choose one of {known}, or give module:Class")
        module, _, attribute = entries[name].partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ModelError(f"training.model {name} cannot be imported: {error}; is it in PYTHONPATH?") from error
    return _checked(name, found)


def describe(settings: TrainingSection, n_residues: int) -> dict[str, Any] | None:
    """The architecture of the model that the settings name; None for a third party's, which must be made to know it.

    Raises
    ------
    ModelError
        If there is no such model, or it cannot be imported.
    """
    return BUILT_IN[settings.model].describe(settings, n_residues) if find(settings.model) is None else None


def _checked(name: str, found: object) -> type[Model]:
    if not (inspect.isclass(found) and issubclass(found, Model)):
        raise ModelError(f"training.model {name} must be a subclass of ddmd_mpi.model.Model (got {found!r})")
    missing = sorted(found.__abstractmethods__)
    if missing:
        raise ModelError(f"training.model {name} lacks {', '.join(missing)}: see docs/models.md")
    return found


def make(setup: Setup) -> Model:
    """A new model of the kind that the settings name."""
    found = find(setup.settings.model)
    return BUILT_IN[setup.settings.model].make(setup) if found is None else Guarded(found, setup)


class Guarded(Model):
    """A third party's model: whatever it raises becomes a ModelError, and its latents are looked at.

    A fault of foreign code must not end a run whose simulations are sound, so everything is caught here.
    """

    def __init__(self, found: type[Model], setup: Setup):
        self._name = setup.settings.model
        self._model = self._call(found, setup)
        try:
            self.n_latent, self.architecture = int(self._model.n_latent), dict(self._model.architecture)
        except (AttributeError, TypeError, ValueError) as error:
            raise ModelError(f"training.model {self._name} must set n_latent and architecture: {error}") from error
        self.data_parallel = self._model.data_parallel

    def train(self, block: FrameBlock, supervisor: Supervisor) -> Round:
        result = self._call(self._model.train, block, supervisor)
        if not isinstance(result, Round):
            raise ModelError(f"training.model {self._name}: train must return a Round (got {type(result).__name__})")
        return result

    def embed(self, block: FrameBlock) -> np.ndarray:
        latents = np.asarray(self._call(self._model.embed, block))
        if latents.shape != (len(block), self.n_latent):
            raise ModelError(f"training.model {self._name}: latents of shape {(len(block), self.n_latent)} were "
                             f"expected (got {latents.shape})")
        if not np.isfinite(latents).all():
            raise ModelError(f"training.model {self._name}: its latents are not finite")
        return latents.astype(np.float32, copy=False)

    def weights(self) -> list[np.ndarray]:
        return self._call(self._model.weights)

    def load(self, arrays: list[np.ndarray]) -> None:
        self._call(self._model.load, arrays)

    def state(self) -> list[np.ndarray]:
        return self._call(self._model.state)

    def restore(self, arrays: list[np.ndarray]) -> None:
        self._call(self._model.restore, arrays)

    def free(self) -> None:
        self._call(self._model.free)

    def _call(self, function, *arguments):
        try:
            return function(*arguments)
        except ModelError:
            raise
        except Exception as error:  # noqa: BLE001 - foreign code may raise anything
            raise ModelError(f"training.model {self._name} failed in {function.__name__}: "
                             f"{type(error).__name__}: {error}") from error
