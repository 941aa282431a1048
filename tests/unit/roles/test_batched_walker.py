"""A walker that gives many reports at once: the same segments, frames and files as one that gives them one by one."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

from ddmd_mpi import config
from ddmd_mpi.analysis.markov_model import read_model, states_of
from ddmd_mpi.errors import DiskError
from ddmd_mpi.frames.block import FIELDS, FrameBlock, Hop
from ddmd_mpi.frames.command import Outcome, RestartCommand
from ddmd_mpi.md.emulated.recorded import DCDFrames
from ddmd_mpi.md.engine_pool import EnginePool
from ddmd_mpi.md.engines import engine_maker
from ddmd_mpi.md.structures import load_structures
from ddmd_mpi.md.trajectory import Trajectory
from ddmd_mpi.monitor.events import EventLog
from ddmd_mpi.roles.batched_walker import BatchedWalker, blocks_of
from ddmd_mpi.roles.propagator import Propagator
from ddmd_mpi.roles.walker import Walker

CONFIG = config.load("bba-go-markov", assignments=("simulation.walker_length_ns=0.1",))
STRUCTURES = load_structures(CONFIG.system)
MODEL = read_model(CONFIG.emulation.markov_model)
NAMES = tuple(p.name for p in CONFIG.features.order_parameters)


@pytest.fixture
def new(tmp_path):
    """``new(kind)`` makes a walker with real files."""

    def make(kind=BatchedWalker):
        topology = SimpleNamespace(
            index=0, name="bba-go", structures=STRUCTURES, pose=None, n_atoms=28, system=None, relaxed=None
        )
        pool = EnginePool(CONFIG, lambda _: topology, engine_maker(CONFIG, None, "markov"))
        directory = tmp_path / kind.__name__
        directory.mkdir()
        files = Trajectory(directory, 3, STRUCTURES, CONFIG.simulation, NAMES)
        events = EventLog(directory / "events.jsonl", "simulation", 0)
        return kind(3, pool, 0, files, Propagator(3, CONFIG, events), CONFIG, events)

    return make


def segments(walker):
    path = walker.trajectory.path.with_suffix(".segments.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "start"} for line in lines]


def ended(walker):
    walker._events.flush()
    path = walker.trajectory.path.parent / "events.jsonl"
    spans = [json.loads(line) for line in path.read_text().splitlines()]
    keys = ("walker", "segment", "frames", "ns", "reason", "decision")
    return [{key: s[key] for key in keys} for s in spans if s["name"] == "segment"]


def index(walker):
    with walker.trajectory.path.with_suffix(".frames.csv").open() as file:
        return list(csv.DictReader(file))


def command(**changes):
    values = {
        "kind": 1, "decision": 7, "decided": 0.0, "source_walker": 1, "source_segment": 4, "source_frame": 55,
        "velocity_seed": 99,
    }  # fmt: skip
    return RestartCommand(**{**values, **changes})


def test_segments_follow_each_other_as_with_single_reports(new):
    """25 reports of 0.1 ns in segments of 10: the walker then has its length."""
    single, batched = new(Walker), new()
    while single.active:
        single.report(lambda: False)
    batches = []
    for most in (1, 3, 17, 100):
        assert batched.active
        batches.append(batched.reports(most))
    assert not batched.active
    assert [len(batch) for batch in batches] == [1, 3, 17, 4]
    assert (batched.frames, batched.ps, batched.segments.number) == (single.frames, single.ps, 2) == (25, 100.0, 2)
    assert batched.propagator.steps == single.propagator.steps == 25 * CONFIG.simulation.steps_per_report
    for walker in (single, batched):
        walker.end()
    assert segments(batched) == segments(single)
    assert ended(batched) == ended(single)
    columns = ("frame", "segment", "time_ps", "potential_energy_kj_mol")
    assert [[row[c] for c in columns] for row in index(batched)] == [[row[c] for c in columns] for row in index(single)]
    assert batched.reports(5) is None


def test_a_walker_a_rounding_error_before_its_length_gets_there(new):
    walker = new()
    walker.reports(24)
    walker.ps = float(np.nextafter(100.0, 0.0))
    assert walker.active
    assert len(walker.reports(5)) == 1
    assert not walker.active


def test_a_block_has_what_the_table_of_frames_says_and_what_is_in_the_files(new):
    walker = new()
    (block,) = blocks_of([walker.reports(12)])
    walker.end()
    expected = {f.name: np.dtype(f.dtype) for f in FIELDS if Hop.COORDINATES in f.hops}
    assert {name: column.dtype for name, column in block.columns.items()} == expected
    packed = FrameBlock.unpack(block.pack(Hop.COORDINATES))
    for name, column in block.columns.items():
        np.testing.assert_array_equal(packed[name], column)
    written = DCDFrames(walker.trajectory.path)
    frames = np.array([written[i] for i in block["frame"]])
    np.testing.assert_allclose(frames, block["positions"], atol=1e-6)
    rows = [row for row in index(walker) if int(row["frame"]) in set(block["frame"].tolist())]
    np.testing.assert_allclose([float(row["rmsd_angstrom"]) for row in rows], block["rmsd"], atol=1e-4)
    for i, name in enumerate(NAMES):
        np.testing.assert_allclose([float(r[name]) for r in rows], block["order_parameters"][:, i], rtol=1e-5)
    single = walker.slot.features
    for i in range(len(block)):
        features = single.compute(block["positions"][i])
        one = block.take(np.array([i]))
        assert one["rmsd"][0] == pytest.approx(features["rmsd"])
        np.testing.assert_array_equal(one["ca_positions"][0], features["ca_positions"])
        np.testing.assert_array_equal(one["contact_counts"][0], features["contact_counts"])
        np.testing.assert_array_equal(one["contact_columns"], features["contact_columns"])


def test_a_restart_breaks_a_segment_off_at_a_report(new):
    walker = new()
    walker.reports(4)
    frame = MODEL.positions[len(MODEL.positions) // 2]
    receipt = walker.restart(command(), (frame, np.ones_like(frame), np.zeros((3, 3), np.float32)))
    assert (receipt.outcome, receipt.segment) == (Outcome.APPLIED, 1)
    (block,) = blocks_of([walker.reports(12)])
    walker.end()
    assert block["segment"].tolist() == [1] * 10 + [2] * 2
    assert block["decision"].tolist() == [7] * 10 + [-1] * 2
    assert block["frame"].tolist() == list(range(6, 18))
    _, restarted, following = segments(walker)
    assert (restarted["source_walker"], restarted["source_frame"], restarted["first_frame"]) == (1, 55, 5)
    assert (following["restart_point"], following["source_frame"]) == (False, 15)
    states = states_of(MODEL, np.concatenate([frame[None], block["positions"]]))
    assert (MODEL.matrix[states[:-1], states[1:]] > 0).all()


def test_after_a_batch_that_the_disk_refuses_the_walker_is_where_its_files_say(new, limited):
    walker = new()
    batch = walker.reports(5)
    with limited(walker.trajectory.path.stat().st_size + 500), pytest.raises(DiskError):
        walker.reports(25)
    assert walker.trajectory.n_frames == 6
    assert [line["segment"] for line in segments(walker)] == [0]
    values, arrays = walker.snapshot()
    assert values["frames"] == 6
    assert not [name for name in arrays if name.startswith("engine/")], "that state is on no record"
    np.testing.assert_array_equal(arrays["mark/positions"], batch.reports.positions[-1])


def test_single_reports_have_the_same_features_and_each_frame_is_computed_once(new, monkeypatch):
    """As in file mode, and where a segment starts; positions that are none of the model's are computed as they are."""
    walker, asked = new(), []
    calculator = walker.slot.features
    monkeypatch.setattr(
        calculator, "compute", lambda *given: asked.append(1) or type(calculator).compute(calculator, *given)
    )
    row = walker.report(lambda: False)
    frames = {row["positions"].tobytes()}
    for _ in range(20):
        row = walker.report(lambda: False)
        frames.add(row["positions"].tobytes())
        expected = type(calculator).compute(calculator, row["positions"])
        assert row["rmsd"] == pytest.approx(expected["rmsd"])
        for name in ("order_parameters", "ca_positions", "contact_counts", "contact_columns"):
            np.testing.assert_array_equal(row[name], expected[name])
    assert len(frames) <= len(asked) <= len(frames) + 1, "and the start"
    other = MODEL.positions[0] + np.float32(0.1) * np.arange(28, dtype=np.float32)[:, None]
    walker.restart(command(), (other, np.ones_like(other), np.zeros((3, 3), np.float32)))
    assert float(index(walker)[-1]["rmsd_angstrom"]) == pytest.approx(calculator.compute(other)["rmsd"], abs=1e-4)
