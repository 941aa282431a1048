"""The stages of file mode on real bba-go walkers: what they write, obey and pass on, and what they survive."""

import json
import logging
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from doubles import NullDetector

from ddmd_mpi import config as configuration
from ddmd_mpi.config.schema import FaultsSection
from ddmd_mpi.errors import EngineError, StreamError
from ddmd_mpi.faults.heartbeat import Heartbeat
from ddmd_mpi.file_mode.aggregation_stage import AggregationStage
from ddmd_mpi.file_mode.frame_files import FrameFiles
from ddmd_mpi.file_mode.inference_stage import InferenceStage
from ddmd_mpi.file_mode.restarts import InMemoryMailboxes, Order, Restarts
from ddmd_mpi.file_mode.simulation_stage import Best, SimulationStage
from ddmd_mpi.frames.command import CommandKind, Outcome, Receipt, RestartCommand
from ddmd_mpi.layout.file_mode import plan
from ddmd_mpi.monitor.events import EventLog
from ddmd_mpi.monitor.status import StatusPost
from ddmd_mpi.roles.context import RunInfo
from ddmd_mpi.rundir.disk import read_lines
from ddmd_mpi.steering.instant import INSTANT
from ddmd_mpi.steering.plugins import GuardedStrategy

N_WALKERS, N_REPORTS = 3, 4
SETTINGS = (
    "run.mode=file",
    "simulation.walkers_per_rank=3",
    "simulation.report_interval_ps=0.2",
    "simulation.segment_ps=0.8",
    "simulation.minimize=false",
    "training.model=none",
    "steering.strategy=greedy",
    "steering.restart_fraction=1",
    "file.newest_iterations=2",
)


class Clock:
    """A run that is over when a test has taken all of its time."""

    left_s = 1000.0

    def poll(self):
        return self.left_s <= 0


@pytest.fixture
def context(tmp_path):
    """A rank of its own."""
    (tmp_path / "trajectories").mkdir()
    config = configuration.load("bba-go", assignments=SETTINGS)
    log, events = logging.getLogger("ddmd_mpi.test"), EventLog(None, "simulation", 0)
    log.propagate = True
    status = StatusPost(lambda record: None, events)
    return SimpleNamespace(
        config=config,
        info=RunInfo(
            directory=tmp_path,
            started=0.0,
            n_atoms=28,
            n_residues=28,
            order_parameters=("radius_of_gyration", "native_contacts"),
        ),
        layout=plan([0], [0], config.ranks, config.simulation.walkers_per_rank),
        rank=0,
        gpu=None,
        control=Clock(),
        events=events,
        status=status,
        heartbeat=Heartbeat(status, NullDetector(), FaultsSection()),
        log=log,
        detector=NullDetector(),
        stop_on_disk_error=nullcontext,
    )


@pytest.fixture
def files(context):
    return FrameFiles(context)


@pytest.fixture
def restarts(context):
    return Restarts(context.info.directory, "bba-go")


@pytest.fixture
def simulation(context, files, restarts):
    stage = SimulationStage(context, files, restarts, lambda: None)
    stage.ensemble.begin()
    yield stage
    stage.end()


@pytest.fixture
def iterate(simulation, files):
    """``iterate(commanded=False)`` simulates the next iteration and notes its files."""

    def run(commanded=False):
        iteration = len(files.written) + 1
        result = simulation.run(iteration, commanded)
        files.written[iteration] = result.walkers
        return result

    return run


def frames(files, iteration, walker):
    block = files.segments.read(iteration, walker)
    return block["segment"].tolist(), block["frame"].tolist()


def attributes(files, iteration, walker):
    with h5py.File(files.segments.path(iteration, walker)) as file:
        return dict(file.attrs)


def order(walker, source, coordinates):
    return Order(
        walker,
        RestartCommand(
            CommandKind.RESTART,
            7,
            0.0,
            source_walker=source,
            source_segment=0,
            source_frame=2,
            ring_slot=1,
            slot_generation=1,
            velocity_seed=5,
        ),
        coordinates,
    )


def test_an_iteration_is_a_file_and_a_segment_of_every_walker(iterate, files, context):
    first, second = iterate(), iterate()
    assert first.walkers == second.walkers == (0, 1, 2)
    assert (first.n_frames, first.receipts, first.active, first.retired) == (N_WALKERS * N_REPORTS, {}, True, False)
    for walker in range(N_WALKERS):
        assert frames(files, 1, walker) == ([0] * 4, [1, 2, 3, 4])  # frame 0 is the start
        assert frames(files, 2, walker) == ([1] * 4, [5, 6, 7, 8])
    assert context.events.totals["segment"].count == 2 * N_WALKERS, "a segment ends with its iteration"
    about = attributes(files, 2, 1)
    assert [
        about[name].tolist()
        for name in (
            "segments",
            "source_walkers",
            "source_segments",
            "source_frames",
            "decisions",
            "velocity_seeds",
        )
    ] == [[1], [1], [0], [4], [-1], [-1]]
    rmsd = np.concatenate([files.segments.read(1, w)["rmsd"] for w in range(N_WALKERS)])
    assert first.best.rmsd == rmsd.min()


def test_a_restart_is_obeyed_at_the_begin_of_the_iteration(iterate, files, restarts, simulation):
    iterate()
    coordinates = files.segments.coordinates(1, 0, 1)
    restarts.write(2, [order(2, 0, coordinates)])
    result = iterate(commanded=True)
    ((walker, receipt),) = result.receipts.items()
    assert (walker, receipt.decision, receipt.outcome, receipt.segment) == (2, 7, Outcome.APPLIED, 1)
    assert receipt.received <= receipt.first_step
    assert frames(files, 2, 2) == ([1] * 4, [6, 7, 8, 9])  # frame 5 is the restart point
    assert frames(files, 2, 1) == ([1] * 4, [5, 6, 7, 8])
    about = attributes(files, 2, 2)
    sources = [about[name].tolist() for name in ("decisions", "source_walkers", "source_frames", "velocity_seeds")]
    assert sources == [[7], [0], [2], [5]]
    trajectory = (
        (simulation.ensemble.walkers[2].trajectory.path.with_suffix(".segments.jsonl")).read_text().splitlines()
    )
    assert json.loads(trajectory[1])["decision"] == 7


def test_unreadable_restart_points_let_all_walkers_go_on(iterate, files, restarts, caplog):
    iterate()
    restarts.path(2).parent.mkdir()
    restarts.path(2).write_bytes(b"half a file")
    with caplog.at_level("WARNING"):
        result = iterate(commanded=True)
    assert result.receipts is None
    assert result.n_frames == N_WALKERS * N_REPORTS
    assert "restarts/iteration-0002.h5" in caplog.text


def test_a_failed_walker_is_done_for_this_iteration_and_back_in_the_next(iterate, files, simulation):
    iterate()
    walker = simulation.ensemble.walkers[1]
    advance, calls = walker.engine.advance, []

    def breaks_in_its_third_report(n_steps):
        if walker.segments.complete or walker.segments.reports < 2 or calls:
            return advance(n_steps)
        calls.append(n_steps)
        raise EngineError("NaN")

    walker.engine.advance = breaks_in_its_third_report
    result = iterate()
    assert calls
    assert result.n_frames == 2 * N_REPORTS + 2
    assert frames(files, 2, 1) == ([1, 1], [5, 6])
    assert frames(files, 2, 2) == ([1] * 4, [5, 6, 7, 8])
    iterate()
    assert frames(files, 3, 1)[0] == [2] * 4


def test_when_the_time_is_up_the_frames_until_then_are_kept(iterate, files, simulation, context):

    def advance(walker, report=simulation.advance):
        context.control.left_s -= 200
        return report(walker)

    simulation.advance = advance
    result = iterate()
    assert context.control.poll()
    assert 0 < result.n_frames < N_WALKERS * N_REPORTS
    assert sum(len(files.segments.read(1, w)) for w in result.walkers) == result.n_frames


def test_the_window_leaves_out_what_is_damaged_and_says_so_once(iterate, files, context, caplog):
    for _ in range(3):
        iterate()
    for iteration in (1, 2, 3):
        files.aggregate(iteration)
    damaged = files.segments.path(3, 1)
    damaged.write_bytes(damaged.read_bytes()[:1000])
    with caplog.at_level("WARNING"):
        windows = [files.window(1000, context.events).block() for _ in range(2)]
    for block in windows:
        assert set(zip(block["slot_generation"].tolist(), block["walker"].tolist(), strict=True)) == {
            (2, 0),
            (2, 1),
            (2, 2),
            (3, 0),
            (3, 2),
        }
        assert len(block) == 5 * N_REPORTS
    for name in ("aggregated/iteration-0003.h5", "segments/iteration-0003/sim-0001.h5"):
        assert sum(name in record.getMessage().split(" cannot be read")[0] for record in caplog.records) == 1


def test_a_damaged_file_is_left_out_of_the_aggregated_one(iterate, files, context, caplog):
    iterate()
    files.segments.path(1, 2).write_text("foreign")
    with caplog.at_level("WARNING"):
        files.aggregate(1)
    assert files.segments.read_aggregated(1)["walker"].tolist() == [0] * 4 + [1] * 4
    assert len(caplog.records) == 1


def test_the_window_has_its_size_and_trainers_have_their_shares(iterate, files, context):
    for _ in range(3):
        iterate()
    assert len(files.window(5, context.events)) == 5
    assert files.window(5, context.events).block()["slot_generation"].tolist() == [3] * 5
    shares = [files.window(1000, context.events, share, 2).block()["walker"] for share in (0, 1)]
    assert sorted(np.unique(shares[0])) == [0, 2]
    assert np.unique(shares[1]) == [1]


def test_older_iterations_are_drawn_at_random(iterate, files, context):
    for _ in range(4):
        iterate()
    files.settings = replace(files.settings, random_older=1)
    block = files.window(1000, context.events).block()
    assert np.unique(block["slot_generation"])[-2:].tolist() == [3, 4]
    assert np.unique(block["slot_generation"])[0] in (1, 2)
    assert len(block) == 3 * N_WALKERS * N_REPORTS


def test_younger_files_count_and_those_whose_frames_are_lost_go(iterate, files, context):
    for _ in range(3):
        iterate()
    later = FrameFiles(context)
    assert later.resume(1, {0: 13, 1: 13, 2: 9}) == 5 * N_REPORTS, "walker 2 has lost the frames 9 to 12"
    assert later.written == {1: (0, 1, 2), 2: (0, 1, 2), 3: (0, 1)}
    assert not files.segments.path(3, 2).exists()
    assert np.unique(later.window(1000, context.events).block()["slot_generation"]).tolist() == [2, 3]


def test_the_books_hold_the_best_frame_of_all(context, files, iterate):
    results = [iterate(), iterate()]
    books = AggregationStage(context, files)
    better = results[0]._replace(best=Best(0.5, 2, 3))
    books.run(1, [results[0], better])
    books.run(2, [results[1]])
    record = context.status.record
    assert (record["best_rmsd"], record["best_walker"], record["best_frame"]) == (0.5, 2, 3)
    assert record["archived"] == 3 * N_WALKERS * N_REPORTS
    assert context.events.totals["block"].count == 2


@pytest.fixture
def inference(context, files, restarts):
    stage = InferenceStage(context, files, restarts)
    stage.begin()
    yield stage
    stage.end()


def decisions(context):
    path = context.info.directory / "decisions.jsonl"
    return {d["decision"]: d for d in map(json.loads, path.read_text().splitlines())}


def test_a_decision_becomes_a_restart_point_and_its_answer_a_line(iterate, inference, files, context, restarts):
    inference.collect([iterate()])
    assert inference.run(2, 0) is True
    orders = restarts.read(2, range(N_WALKERS))
    assert orders
    for o in orders.values():
        source = files.segments.read(1, o.command.source_walker)
        assert source["frame"][o.command.ring_slot] == o.command.source_frame
        expected = files.segments.coordinates(1, o.command.source_walker, o.command.ring_slot)
        assert all(np.array_equal(a, b) for a, b in zip(o.coordinates, expected, strict=True))
    inference.collect([iterate(commanded=True)])
    found = decisions(context)
    assert {d["outcome"] for d in found.values()} == {"applied"}
    assert len(found) == len(orders)
    assert all(d["decided"] <= d["delivered"] <= d["first_step"] and d["segment"] == 1 for d in found.values())


def steer(inference, **changes):
    """Steer by other settings."""
    settings = replace(inference.selector.settings, **changes)
    inference.selector.settings = inference.selector.policy.settings = settings
    inference.selector.policy.strategy = GuardedStrategy(settings)


def test_nothing_is_decided_without_a_model_that_the_strategy_needs(iterate, inference, restarts, caplog):
    inference.collect([iterate()])
    steer(inference, strategy="ml", instant_model=False)
    with caplog.at_level("INFO"):
        assert inference.run(2, 0) is False
    assert "no model yet" in caplog.text
    assert not restarts.path(2).exists()


def test_principal_components_decide_until_the_first_version_of_the_model(iterate, inference, restarts, context):
    steer(inference, strategy="ml")
    inference.collect([iterate()])
    assert inference.run(2, 0) is True
    inference.collect([iterate(commanded=True)])
    found = decisions(context).values()
    assert {(d["model"], d["model_version"]) for d in found} == {(INSTANT, 0)}
    assert context.status.record["instant"] == len(found) > 0
    inference.selector.embedding = SimpleNamespace(version=1, embed=lambda block: np.zeros((len(block), 2)))
    inference.selector.round(inference.files.window(100, context.events).block())
    newest = read_lines(context.info.directory / "rounds.jsonl")[-1]
    assert (newest["model"], newest["model_version"]) == (context.config.training.model, 1)


def test_nothing_better_means_that_all_go_on(iterate, inference, files, restarts):
    inference.collect([iterate()])
    for walker in range(N_WALKERS):
        files.segments.path(1, walker).unlink()
    assert inference.run(2, 0) is False, "there is not one frame left"
    inference.selector.policy.choose = lambda *_: []
    inference.collect([iterate()])
    assert inference.run(3, 0) is False, "no frame is better"
    assert not restarts.path(3).exists()


def test_a_source_that_is_lost_makes_its_decision_stale(iterate, inference, files, context, monkeypatch):
    inference.collect([iterate()])

    def lost(iteration, walker, row):
        raise StreamError("it is not there")

    monkeypatch.setattr(type(files.segments), "coordinates", staticmethod(lost))
    assert inference.run(2, 0) is False
    assert {d["outcome"] for d in decisions(context).values()} == {"stale"}


def test_commands_that_a_rank_could_not_read_have_failed(iterate, inference, context):
    inference.collect([iterate()])
    assert inference.run(2, 0) is True
    inference.collect([iterate()._replace(receipts=None)])
    assert {d["outcome"] for d in decisions(context).values()} == {"failed"}
    assert inference.selector.tracker.idle(inference.files.window(1000, context.events).block()).all()


def test_a_mailbox_answers_once():
    mailboxes = InMemoryMailboxes()
    mailboxes.send(1, RestartCommand(CommandKind.RESTART, 4, 0.0))
    mailboxes.answer(1, Receipt(4, Outcome.APPLIED, 2, 1.0, 2.0))
    mailboxes.refuse(1, Outcome.FAILED)
    assert [r.outcome for r in mailboxes.receipts(1)] == [Outcome.APPLIED]
    assert mailboxes.receipts(1) == []
