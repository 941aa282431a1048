"""Flows of walkers, queues, and the roles beside the paper's."""

import json

import numpy as np
import pytest
from synthetic_run import SyntheticRun

from ddmd_mpi.analysis import open_run
from ddmd_mpi.report.flows import band_name, flow_table, flows
from ddmd_mpi.report.paper import PAPER, paper_table
from ddmd_mpi.report.streams import queues, stream_table


def test_no_walker_is_lost_between_two_times(steered):
    run = open_run(steered)
    found = flows(run)
    assert found.rounds[0] == 0
    assert found.rounds[-1] == len(run.rounds)
    assert (found.counts.sum(axis=(1, 2, 3)) == 4).all()
    arriving, leaving = found.counts.sum(axis=(1, 3))[:-1], found.counts.sum(axis=(2, 3))[1:]
    np.testing.assert_array_equal(arriving, leaving)
    assert sum(row["walkers"] for row in flow_table(run)) == found.counts.sum()


def test_walkers_that_were_restarted_are_told_apart(tmp_path):
    run = open_run(SyntheticRun(n_rounds=5).write(tmp_path / "run"))
    found = flows(run)
    ends = [run.start, *(r["time"] for r in run.rounds)]
    times = [ends[n] for n in found.rounds]
    starts = [(s["walker"], s["start"]) for s in run.segment_lines if s["decision"] >= 0]
    for i, (begin, end) in enumerate(zip(times[:-1], times[1:], strict=True)):
        restarted = {walker for walker, start in starts if begin < start <= end}
        assert found.counts[i, :, :, 1].sum() == len(restarted)
    assert found.counts[..., 1].sum() > 0


def test_a_run_without_rounds_has_no_flows(tmp_path):
    run = open_run(SyntheticRun(n_rounds=5, strategy="none").write(tmp_path / "run"))
    assert flows(run) is None
    assert flow_table(run) == []


def test_bands_have_names():
    assert [band_name(np.array([0, 2.5, np.inf]), i) for i in range(2)] == ["0–2.5", "> 2.5"]


@pytest.fixture
def with_streams(fresh):
    summary = json.loads((fresh / "summary.json").read_text())
    hop = "AggregatorToInference"
    summary["streams"] = {
        "bytes_by_hop": {hop: 2_000_000, "TrainingToInference": 0}, "blocks_by_hop": {hop: 8, "TrainingToInference": 0},
        "max_queue_by_hop": {hop: 3}, "waited_by_hop": {hop: 5}, "wait_s_by_hop": {hop: 20.0},
        "dropped_by_hop": {hop: 2},
    }  # fmt: skip
    (fresh / "summary.json").write_text(json.dumps(summary))
    return open_run(fresh)


def test_queues_are_those_of_the_streams_that_carried_blocks(with_streams, tmp_path):
    (row,) = stream_table(with_streams)
    assert row == {
        "stream": "aggregation → inference", "blocks": 8, "megabytes": 2.0, "longest_queue": 3.0,
        "waited_percent": 50.0, "mean_wait_s": 2.0, "dropped": 2.0,
    }  # fmt: skip
    assert queues(with_streams, tmp_path / "queues.png")


def test_a_summary_of_an_older_version_has_no_queues(steered, tmp_path):
    assert stream_table(open_run(steered)) == []
    assert not queues(open_run(steered), tmp_path / "queues.png")


def test_the_roles_stand_beside_those_of_the_paper(steered):
    run = open_run(steered)
    rows = {row["quantity"]: row for row in paper_table(run)}
    assert rows.keys() == PAPER.keys()
    assert rows["simulation: time of an iteration (s)"] == {
        "quantity": "simulation: time of an iteration (s)", "this run": "6.9", "S": "576", "F": "591",
    }  # fmt: skip
    assert rows["simulation: iterations/h"]["this run"] == "125", "of each of 4 walkers"
    outliers = [r["outliers"] for r in run.rounds]
    assert rows["inference: outliers"]["this run"] == f"{min(outliers)}–{max(outliers)}"
    assert rows["training: epochs of an iteration"]["this run"] == "8"


def test_a_run_that_has_just_begun_has_no_roles_to_compare(tmp_path):
    (tmp_path / "config.toml").write_text("")
    assert paper_table(open_run(tmp_path)) == []
