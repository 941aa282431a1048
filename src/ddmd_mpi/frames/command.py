"""What goes back to a walker: a restart command, and its receipt."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypeVar, get_type_hints

import numpy as np


class CommandKind(IntEnum):
    """What a command asks of a walker."""

    CONTINUE = 0
    RESTART = 1
    STOP = 2


class Outcome(IntEnum):
    """What became of a command."""

    APPLIED = 1  # the walker took its first step from the commanded frame
    STALE = 2  # the slot's generation had moved on: refused
    FAILED = 3  # the engine would not take the frame: the walker continued


class RestartCommand(NamedTuple):
    """One command to one walker; every field is a number, so that it fits a fixed record of window memory."""

    kind: int
    decision: int  # id of the decision, counted from 0
    decided: float  # Unix time, s
    model_version: int = 0  # 0: no model was used
    topology: int = 0
    source_walker: int = -1
    source_segment: int = -1
    source_frame: int = -1
    aggregator: int = -1  # index of the aggregator whose ring holds the frame
    ring_slot: int = -1
    slot_generation: int = 0
    velocity_seed: int = -1  # seed of drawn velocities; -1: copy the frame's velocities


class Receipt(NamedTuple):
    """A walker's answer to one command."""

    decision: int
    outcome: int
    segment: int  # the segment that the command started, -1 for none
    received: float  # Unix time the command was seen, s
    first_step: float  # Unix time the first step from it was done, s; 0 for none


def record_dtype(record: type) -> np.dtype:
    """Structured dtype of a named tuple of numbers: int64 for int, float64 for float."""
    codes = {int: "<i8", float: "<f8"}
    return np.dtype([(name, codes[kind]) for name, kind in get_type_hints(record).items()])


R = TypeVar("R", RestartCommand, Receipt)

COMMAND_DTYPE = record_dtype(RestartCommand)
RECEIPT_DTYPE = record_dtype(Receipt)


def to_record(value: RestartCommand | Receipt) -> np.ndarray:
    """The value as a 0-d structured array."""
    return np.array(tuple(value), dtype=record_dtype(type(value)))


def from_record(record_type: type[R], record: np.ndarray) -> R:
    """The inverse of :func:`to_record`."""
    return record_type(*record.tolist())
