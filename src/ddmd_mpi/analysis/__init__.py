"""The public API on what a run leaves behind."""

from .coordinates import TrajectoryFile
from .lineage import Segment, Source
from .models import TrainedModel, features, open_model, read_trajectory
from .run import Run, open_run

__all__ = [
    "Run",
    "Segment",
    "Source",
    "TrainedModel",
    "TrajectoryFile",
    "features",
    "open_model",
    "open_run",
    "read_trajectory",
]
