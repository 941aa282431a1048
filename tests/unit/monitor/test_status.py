"""Records of the ranks -> live view, summary and what is shown of them."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from ddmd_mpi.monitor import status, summary
from ddmd_mpi.monitor.events import EventLog
from ddmd_mpi.monitor.progress import Progress, clock, epilogue, line, screen
from ddmd_mpi.monitor.status import STATUS_DTYPE, Activity, DataParallel, State, StatusPost, StopReason
from ddmd_mpi.monitor.summary import carried_by

ROLES = ("simulation", "simulation", "aggregation", "training", "inference")
FACTS = {
    "usecase": "cln025",
    "mode": "stream",
    "strategy": "ml_rmsd",
    "note": "",
    "target": "cln025-target",
    "directory": "runs/x",
    "duration_s": 180.0,
    "walkers": 8,
    "session": 0,
    "trajectory": "trajectories/sim-{:04d}.dcd",
    "ranks": {"simulation": 2, "aggregation": 1, "training": 1, "inference": 1},
    "completed": True,
}


@pytest.fixture
def records():
    records = np.zeros(5, STATUS_DTYPE)
    records["state"], records["wall_s"], records["best_rmsd"] = State.DONE, 100.0, np.nan
    records["frames"][:3] = 30, 50, 80
    records["archived"][2] = 80
    records["ns"][:2] = 0.1, 0.3
    records["segments"][:2] = records["iterations"][:2] = 4, 6
    records["iteration_s"][:2] = records["busy_s"][:2] = 90.0
    records["io_s"] = 0.1, 0.3, 5.0, 0.0, 0.0
    records["hop_bytes"][:3] = [100, 0, 0, 0], [150, 0, 0, 0], [0, 30, 40, 0]
    records["hop_queue"][:3] = [2, 0, 0, 0], [7, 0, 0, 0], [0, 5, 1, 0]
    records["hop_waited"][1], records["hop_wait_s"][1] = [3, 0, 0, 0], [0.5, 0, 0, 0]
    records["best_rmsd"][2], records["best_walker"][2], records["best_frame"][2] = 1.5, 3, 17
    records["version"][3] = 4
    records["decisions"][4], records["delivered"][4], records["stale"][4] = 9, 7, 1
    records["latency_p50_ms"][4] = 12.0
    records["stop"][:2] = StopReason.ALL_ENDED, StopReason.DURATION
    return records


def test_memory_is_added_up_over_ranks_and_not_over_their_stages(records):
    records["peak_mb"] = 100, 150, 80, 900, 700
    memory = summary.summarise(records, ROLES, FACTS)["memory"]
    assert memory["peak_mb_total"] == 1930
    assert memory["peak_mb_of_a_rank"] == {"simulation": 150, "aggregation": 80, "training": 900, "inference": 700}
    staged = summary.summarise(records, ROLES, {**FACTS, "mode": "file"})["memory"]
    assert staged["peak_mb_total"] == 250


def test_a_rank_tells_its_peak_memory():
    posted, before = [], status.peak_memory_mb()
    taken = np.ones(40_000_000, np.uint8)
    StatusPost(lambda record: posted.append(float(record["peak_mb"])), EventLog(None, "training", 0)).update(now=True)
    del taken
    assert posted[0] >= max(40.0, before)
    assert posted[0] < 50_000


def test_summary_adds_up(records):
    result = summary.summarise(records, ROLES, FACTS)
    assert result["ranks"] == FACTS["ranks"]
    assert result["completed"] is True
    assert result["stop_reason"] == "duration"
    assert result["simulation"]["aggregate_ns"] == pytest.approx(0.4)
    assert result["simulation"]["ns_per_day"] == pytest.approx((0.1 + 0.3) / 90 * 86400)
    assert result["roles"]["simulation"]["iterations_per_hour"] == pytest.approx(10 * 36)
    assert result["roles"]["simulation"]["mean_s"] == pytest.approx(18)
    assert result["roles"]["simulation"]["busy_fraction"] == pytest.approx(0.9)
    assert result["streams"]["simulation_io_fraction"] == pytest.approx(0.002)
    assert result["streams"]["total_io_fraction"] == pytest.approx(5.4 / 500)
    assert result["streams"]["io_fraction"] == pytest.approx(
        {"simulation": 0.002, "aggregation": 0.05, "training": 0.0, "inference": 0.0}
    )
    assert result["streams"]["bytes_by_hop"] == {
        "SimulationOutput": 250,
        "AggregatorToTraining": 30,
        "AggregatorToInference": 40,
        "TrainingToInference": 0,
    }
    assert result["streams"]["max_queue_by_hop"]["SimulationOutput"] == 7
    assert result["streams"]["waited_by_hop"]["SimulationOutput"] == 3
    assert result["streams"]["wait_s_by_hop"]["SimulationOutput"] == 0.5
    assert result["steering"]["latency_ms"]["p50"] == 12.0
    assert result["science"]["best_rmsd_source"] == {
        "walker": 3,
        "frame": 17,
        "trajectory": "trajectories/sim-0003.dcd",
    }
    assert "not an equilibrium sample" in result["warning"]
    json.dumps(result, allow_nan=False)


def test_the_io_of_ranks_with_several_records_is_that_of_their_time(records):
    one_rank = summary.summarise(records, ROLES, {**FACTS, "mode": "file", "n_ranks": 1})
    assert one_rank["streams"]["total_io_fraction"] == pytest.approx(5.4 / 100)


@pytest.mark.parametrize(("mode", "n_ranks"), [("stream", 5), ("file", 2)])
def test_two_sessions_are_twice_as_much_and_their_shares_and_memory_those_of_one(records, mode, n_ranks):
    records["peak_mb"] = 100, 150, 80, 900, 700
    facts = {**FACTS, "mode": mode, "n_ranks": n_ranks}
    one = summary.summarise(records, ROLES, facts)
    two = summary.summarise(records, ROLES, {**facts, "session": 1}, carried_by(records, ROLES, None), one["wall_s"])
    assert two["wall_s"] == 2 * one["wall_s"]
    assert two["streams"]["bytes_by_hop"] == {hop: 2 * n for hop, n in one["streams"]["bytes_by_hop"].items()}
    assert two["streams"]["total_io_fraction"] == pytest.approx(one["streams"]["total_io_fraction"])
    assert two["memory"] == one["memory"]
    assert two["aggregation"] == one["aggregation"], "the ranks find it in the archives again"


def test_a_run_that_did_nothing_has_a_summary_too():
    records = np.zeros(5, STATUS_DTYPE)
    records["best_rmsd"] = np.nan
    result = summary.summarise(records, ROLES, {**FACTS, "completed": False, "strategy": "none"})
    assert result["science"]["best_rmsd_angstrom"] is None
    assert result["steering"]["latency_ms"]["p50"] is None
    assert result["warning"] == ""
    json.dumps(result, allow_nan=False)


def test_view_counts_every_role(records):
    records["state"][4] = State.RUNNING
    records["activity"][:2] = Activity.MD
    view = summary.view(records, ROLES, FACTS, left_s=60.0)
    assert view["done"] is False
    assert (view["frames"], view["received"], view["version"], view["restarts"]) == (80, 80, 4, 7)
    assert view["activities"]["simulation"] == {"md": 2}
    assert view["best_rmsd_angstrom"] == 1.5
    json.dumps(view, allow_nan=False)


def test_screen_names_every_role_and_line_is_one(records):
    view = {**summary.view(records, ROLES, FACTS, left_s=60.0), "done": False}
    shown = screen(view)
    for word in ("simulation", "aggregation", "training", "inference", "1.50 Å", "1:00 left", "model v4"):
        assert word in shown
    assert "\n" not in line(view)
    assert "7 restarts" in line(view)
    assert "Best RMSD 1.50 Å" in epilogue(summary.summarise(records, ROLES, FACTS), Path())


@pytest.mark.parametrize(("style", "shown"), [("lines", "preparing plc\n"), ("none", "")])
def test_what_comes_before_the_first_view_is_announced_unless_progress_is_none(style, shown):
    stream = io.StringIO()
    Progress(style, stream).announce("preparing plc")
    assert stream.getvalue() == shown


def test_the_view_names_what_is_prepared(records):
    records["preparing"][:2], records["prepares"][:2] = (0, 3), (-1, 6)
    view = {**summary.view(records, ROLES, FACTS, left_s=60.0), "done": False}
    assert view["prepares"] == [6]
    for shown in (screen, line):
        assert "preparing 3 of 8 walkers (in-water)" in shown({**view, "prepares": ["in-water"]})
        assert "preparing" not in shown({**view, "preparing": 0, "prepares": []})


def test_dropped_blocks_stand_beside_the_frames_that_are_archived(records):
    records["dropped"][1], records["archived"][2] = 4, 48
    view = {**summary.view(records, ROLES, FACTS, left_s=60.0), "done": False}
    for shown in (screen(view), line(view)):
        assert "4 blocks dropped, 48 frames archived" in shown
    assert "80 frames (48 archived)" in epilogue(summary.summarise(records, ROLES, FACTS), Path())


def test_a_run_that_did_not_complete_says_why(records):
    records["stop"] = 0
    facts = {**FACTS, "completed": False, "unfinished": "inference rank 4 did not finish within 30 s"}
    said = epilogue(summary.summarise(records, ROLES, facts), Path())
    assert said.startswith("NOT completed (inference rank 4 did not finish within 30 s) after")


def test_a_run_that_has_ended_has_no_time_left(records):
    view = {**summary.view(records, ROLES, FACTS, left_s=60.0), "done": True}
    for shown in (screen(view), line(view)):
        assert "ended" in shown
        assert "left" not in shown


def test_screen_is_redrawn_in_place(records):
    view, stream = summary.view(records, ROLES, FACTS, left_s=60.0), io.StringIO()
    progress = Progress("screen", stream)
    progress.show(view)
    progress.show(view)
    assert stream.getvalue().count("\x1b[2J") == 1
    assert stream.getvalue().count("\x1b[H") == 2


def test_silent_progress_prints_nothing(records):
    stream = io.StringIO()
    progress = Progress("none", stream)
    progress.show(summary.view(records, ROLES, FACTS, left_s=60.0))
    assert stream.getvalue() == ""


def test_posts_are_rare_unless_now():
    posted = []
    with EventLog(None, "simulation", 0) as events:
        post = StatusPost(lambda record: posted.append(record.copy()), events)
        for i in range(100):
            post.update(frames=i)
        assert len(posted) < 5
        post.update(now=True, frames=100)
    assert posted[-1]["frames"] == 100


def test_a_post_gathers_what_is_counted_elsewhere():
    posted = []
    with EventLog(None, "simulation", 0) as events:
        counts = {"bytes": 11, "hop_bytes": [1, 2, 3, 5]}
        post = StatusPost(lambda record: posted.append(record.copy()), events, lambda: counts)
        post.update(frames=1)
        post.update(now=True)
    assert posted[-1]["bytes"] == 11
    assert posted[-1]["hop_bytes"].tolist() == [1, 2, 3, 5]


def test_rounds_of_several_training_ranks_are_counted_once_and_their_samples_together(records):
    """The first of three training ranks counts the rounds; each posts its own samples and its time."""
    roles = (*ROLES[:4], "training", "training", "inference")
    several = np.concatenate([records[:4], records[3:4], records[3:]])
    several["iterations"][3], several["rounds"][3], several["iteration_s"][3] = 5, 5, 50.0
    several["samples"][3:6], several["busy_s"][3:6], several["loss"][3:6] = (100, 200, 300), 50.0, 7.5
    several["version"][4:6], several["data_parallel"][3:6] = 0, DataParallel.HOROVOD
    result = summary.summarise(several, roles, FACTS)
    assert result["roles"]["training"] == {
        "iterations": 5,
        "iterations_per_hour": 180.0,
        "mean_s": 10.0,
        "busy_fraction": 0.5,
    }
    training = result["training"]
    assert (training["rounds"], training["samples_seen"], training["versions"]) == (5, 600, 4)
    assert (training["last_loss"], training["data_parallel"]) == (7.5, "horovod")
    view = summary.view(several, roles, FACTS, left_s=60.0)
    assert (view["training_rounds"], view["samples"], view["loss"]) == (5, 600, 7.5)
    assert "model v4, 5 rounds by horovod, loss 7.5" in screen(view)


def test_a_round_without_an_epoch_has_no_loss():
    posted = []
    with EventLog(None, "training", 3) as events:
        StatusPost(lambda record: posted.append(record.copy()), events).update(now=True, rounds=1)
    records = np.zeros(5, STATUS_DTYPE)
    records[3] = posted[0]
    assert summary.summarise(records, ROLES, FACTS)["training"]["last_loss"] is None
    assert summary.view(records, ROLES, FACTS, left_s=1.0)["loss"] is None


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.4, "1:01"), (3723, "1:02:03"), (-5, "0:00")])
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_every_field_has_one_row_and_says_what_becomes_of_it():
    names = [field.name for field in status.FIELDS]
    assert len(names) == len(set(names))
    for field in status.FIELDS:
        assert field.meaning
        assert field.sessions in (field.ranks, status.Reduction.NONE), field.name
        assert not field.restored or field.sessions is status.Reduction.SUM, field.name


def test_what_the_ranks_find_again_is_carried_for_no_role_that_does(records):
    carried = carried_by(records, ROLES, None)
    assert "frames" in carried["aggregation"]
    assert "frames" not in carried["simulation"]
    assert not {"state", "peak_mb", "version", "refusal"} & set().union(*carried.values())
    twice = carried_by(records, ROLES, carried)
    assert twice["simulation"]["wall_s"] == 2 * carried["simulation"]["wall_s"] == 400
    assert twice["simulation"]["hop_queue"] == carried["simulation"]["hop_queue"] == [7, 0, 0, 0]


@pytest.mark.parametrize("reason", StopReason)
def test_a_reason_travels_as_its_number(reason):
    record = np.zeros((), STATUS_DTYPE)
    record["stop"] = reason
    assert StopReason(int(record["stop"])) is reason
    assert reason.name in reason.word.upper() or reason in (StopReason.NONE, StopReason.ALL_ENDED)
