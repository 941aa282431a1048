"""The last checkpoint of a run that has lost a rank: by the parts that are on the disk."""

import logging
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from ddmd_mpi.config.schema import RanksSection
from ddmd_mpi.layout.plan import plan
from ddmd_mpi.monitor.events import EventLog
from ddmd_mpi.monitor.status import STATUS_DTYPE
from ddmd_mpi.roles import emergency_checkpoint
from ddmd_mpi.roles.checkpoint import Checkpoints
from ddmd_mpi.roles.emergency_checkpoint import write_emergency_checkpoint
from ddmd_mpi.rundir.checkpoints import Part, Store

#: Three simulations of two walkers each, then aggregation (3), training (4) and inference (5).
PLACES = plan([0] * 6, [0], RanksSection(), 2)


class Run:
    """Six ranks in one process, all with a part of checkpoint 1; rank 4 is lost."""

    def __init__(self, directory, after=0):
        self.directory, self.store = directory, Store(directory)
        self.store.directory.mkdir()
        self.info = SimpleNamespace(
            last_checkpoint=after, session=1, about={"n_walkers": 6}, carried={}, elapsed_s=5.0, started=0.0
        )
        self.records = np.zeros(6, STATUS_DTYPE)
        self.records["bytes"] = 7.0
        self.records["best_rmsd"] = np.nan

    def part(self, rank, number):
        self.store.write_part(PLACES.roles[rank], rank, number, Part({"rank": rank, "number": number}))

    def rank(self, rank, *, speaks, leads=False, left=(0, 1, 2, 3, 5)):
        control = SimpleNamespace(checkpoint=1)
        context = SimpleNamespace(
            info=self.info,
            store=self.store,
            stop_on_disk_error=nullcontext,
            layout=PLACES,
            role=PLACES.roles[rank],
            rank=rank,
            leads=leads,
            detector=SimpleNamespace(speaks=speaks, alive=left),
            control=control,
            events=EventLog(None, "", rank),
            board=SimpleNamespace(get=lambda slot: (1, self.records[slot])),
            log=logging.getLogger("ddmd_mpi.test"),
        )
        return context, Checkpoints(context, lambda: Part({"rank": rank, "number": 2}))

    def parts(self, manifest):
        return {entry.rank: self.store.read_part(entry).values["number"] for entry in manifest.parts}


@pytest.fixture
def run(tmp_path):
    found = Run(tmp_path)
    for rank in range(6):
        found.part(rank, 1)
    return found


@pytest.mark.parametrize("leads", [True, False])
def test_the_newest_part_of_each_rank_makes_the_checkpoint(run, leads):
    for rank in (0, 1, 2, 5):
        write_emergency_checkpoint(*run.rank(rank, speaks=False))
    assert run.store.numbers() == []
    write_emergency_checkpoint(*run.rank(3, speaks=True, leads=leads))
    manifest = run.store.newest(pytest.fail)
    assert run.parts(manifest) == {0: 2, 1: 2, 2: 2, 3: 2, 4: 1, 5: 2}
    assert manifest.number == 2
    assert sorted(w for entry in manifest.parts for w in entry.walkers) == list(range(6))
    assert manifest.carried["aggregation"]["bytes"] == (7.0 if leads else 0.0), "the board is its first aggregator's"


def test_a_rank_that_is_slow_is_not_waited_for_long(run, monkeypatch):
    monkeypatch.setattr(emergency_checkpoint, "PARTS_SECONDS", 0.05)
    write_emergency_checkpoint(*run.rank(3, speaks=True, leads=True))
    assert run.parts(run.store.newest(pytest.fail)) == {0: 1, 1: 1, 2: 1, 3: 2, 4: 1, 5: 1}


def test_parts_of_an_earlier_session_do_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(emergency_checkpoint, "PARTS_SECONDS", 0.05)
    run = Run(tmp_path, after=1)
    for rank in range(6):
        run.part(rank, 1)
    write_emergency_checkpoint(*run.rank(3, speaks=True, leads=True))
    assert run.store.numbers() == [], "walkers may have been on other ranks then"


def test_a_rank_that_had_come_to_its_end_writes_no_other_part(run):
    context, checkpoints = run.rank(0, speaks=False)
    context.heartbeat = SimpleNamespace(expect_silence=lambda what, on_disk: nullcontext())
    context.plane = SimpleNamespace(announcements=SimpleNamespace(put=lambda *_: None))
    checkpoints.last()
    write_emergency_checkpoint(context, checkpoints)
    assert sorted(p.name for p in run.store.directory.glob("simulation-0000-*")) == [
        "simulation-0000-000001.npz",
        "simulation-0000-000002.npz",
    ]


def test_before_the_work_has_begun_there_is_nothing_to_keep(run):
    context, _ = run.rank(3, speaks=True)
    write_emergency_checkpoint(context, None)
    assert run.store.numbers() == []
