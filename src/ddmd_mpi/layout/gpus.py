"""GPUs that this process may use, by the environment and their device files; no GPU library is loaded."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path

#: The first of these that is set chooses among the GPUs of a vendor.
NVIDIA_VARIABLES = ("CUDA_VISIBLE_DEVICES",)
AMD_VARIABLES = ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
DEVICES = Path("/dev")
TOPOLOGY = Path("/sys/class/kfd/kfd/topology/nodes")
#: Of Windows' Linux subsystem, where the GPUs have no device files of their own.
SUBSYSTEM = "dxg"


def visible_gpus(
    variables: Mapping[str, str] = os.environ, devices: Path | None = None, topology: Path | None = None
) -> tuple[str, ...]:
    """Names of the GPUs that the environment leaves to this process and that are there.

    Parameters
    ----------
    variables
        The environment. What it names on a host without such a GPU counts for nothing, and of several names, as for
        CUDA, all from the first one that cannot be.
    devices, topology
        Directories of the device files and of AMD's topology.
    """
    devices, topology = devices or DEVICES, topology or TOPOLOGY
    nvidia = sorted((d.name for d in devices.glob("nvidia*") if re.fullmatch(r"nvidia\d+", d.name)), key=_number)
    if not nvidia and (devices / SUBSYSTEM).exists():
        nvidia = ["0"]
    amd = sorted((d.name for d in topology.glob("*") if _is_gpu(d)), key=_number)
    return _chosen(variables, NVIDIA_VARIABLES, nvidia) or _chosen(variables, AMD_VARIABLES, amd)


def _chosen(variables: Mapping[str, str], names: Sequence[str], there: Sequence[str]) -> tuple[str, ...]:
    given = next((variables[name] for name in names if name in variables), None)
    if given is None or not there:
        return tuple(there)
    listed = (name.strip() for name in given.split(","))
    return tuple(takewhile(lambda name: _can_be(name, len(there)), listed))


def _can_be(name: str, n_gpus: int) -> bool:
    """Whether a name is an index of a GPU, or an identifier, which starts with a letter (GPU-, MIG-)."""
    return int(name) < n_gpus if name.isdigit() else name[:1].isalpha() and name != "NoDevFiles"


def _number(name: str) -> int:
    return int(re.sub(r"\D", "", name))


def _is_gpu(node: Path) -> bool:
    """Whether a node of the AMD topology is a GPU: CPUs have the id 0."""
    try:
        return int((node / "gpu_id").read_text()) != 0
    except (OSError, ValueError):
        return False
