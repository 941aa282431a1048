"""Who is where, and what all ranks agree on."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from ddmd_mpi.config.schema import RanksSection
from ddmd_mpi.errors import ConfigError, LayoutError
from ddmd_mpi.layout import gpus
from ddmd_mpi.layout.plan import plan
from ddmd_mpi.parallel.hosts import check_alike
from ddmd_mpi.parallel.launch import launch

RANK = int(os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK", "0")))


def agreement():
    """One rank decides, all get the result; a DDMDError is the same on all."""
    called = []

    def decide():
        called.append(world.rank)
        return {"answer": 42}

    def refuse():
        raise ConfigError(f"rank {world.rank} refuses")

    assert world.agree(decide) == {"answer": 42}
    assert called == ([0] if world.rank == 0 else [])
    with pytest.raises(ConfigError, match="^rank 0 refuses$"):
        world.agree(refuse)
    with pytest.raises(LayoutError, match="too few"):
        world.agree(lambda: plan(world.nodes[:3], world.gpus_per_node, RanksSection(), "auto"))


def roles():
    """Each role has a communicator of its ranks, with a name."""
    layout = world.agree(lambda: plan(world.nodes, world.gpus_per_node, RanksSection(), "auto"))
    role = layout.roles[world.rank]
    comm = world.split(layout)
    assert comm.Get_name() == f"ddmd-{role}"
    assert tuple(comm.allgather(world.rank)) == layout.ranks(role)
    comm.Free()
    return layout


def devices():
    """All ranks see both GPUs, or each the one it is bound to."""
    layout = roles()
    expected = layout.gpu[world.rank]
    if sys.argv[1] == "bound":
        expected = None if expected is None else 0
    assert world.gpu(layout) == expected


gpus.DEVICES = Path(tempfile.mkdtemp())
for name in ("nvidia0", "nvidia1"):
    (gpus.DEVICES / name).touch()
os.environ["CUDA_VISIBLE_DEVICES"] = {"none": "", "shared": "0,1", "bound": str(RANK % 2)}[sys.argv[1]]
world = launch()
assert world.rank == RANK
assert (world.node, set(world.nodes), len(world.hosts)) == (0, {0}, 1)
assert (world.node_comm.size, world.node_comm.rank) == (world.size, world.rank)
assert [world.comm.Get_name(), world.node_comm.Get_name()] == ["ddmd-world", "ddmd-node"]
assert world.gpus_per_node == {"none": (0,), "shared": (2,), "bound": (2,)}[sys.argv[1]]
assert len(world.peers) == world.size
check_alike(world.peers)
agreement()
if world.size >= 4:
    devices()
world.free()
shutil.rmtree(gpus.DEVICES)
sys.stdout.write(f"rank {RANK} is content\n")
