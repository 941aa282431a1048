"""Finding a model by name: a built-in one, an entry point of the group ``ddmd_mpi.models``, or ``module:Class``."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from ..config import imports
from ..config.schema import TrainingSection
from ..errors import ModelError
from . import architecture
from .foreign import Guarded
from .interface import Model, Setup

GROUP = "ddmd_mpi.models"


def cvae(setup: Setup) -> Model:
    """The convolutional variational autoencoder (TensorFlow)."""
    from .tensorflow_backend import start

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


def tica(setup: Setup) -> Model:
    """Time-lagged independent components of distances (SciPy)."""
    from .tica import Tica

    return Tica(setup)


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
    "tica": BuiltIn(tica, architecture.tica, "scipy", "make install"),
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
    return _checked(name, imports.find("training.model", name, GROUP, (*BUILT_IN, "none"), ModelError))


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
    return built_in(setup) if found is None else Guarded(found, setup)


def built_in(setup: Setup) -> Model:
    """A new built-in model.

    Raises
    ------
    ModelError
        Also where its library is broken or memory is short.
    """
    name = setup.settings.model
    try:
        return BUILT_IN[name].make(setup)
    except (ImportError, MemoryError, RuntimeError) as error:
        raise ModelError(
            f"training.model {name} cannot be made: {type(error).__name__}: {error}; "
            f"install it again ({BUILT_IN[name].cure}), or give it more memory"
        ) from error
