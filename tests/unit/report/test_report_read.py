import numpy as np
import pytest
from synthetic_run import REPORT_PS, REPORTS_PER_SEGMENT, SyntheticRun, write_lines

from ddmd_mpi.errors import RunDirectoryError
from ddmd_mpi.report.read import read_csv, read_lines, read_run


def test_frames_are_those_that_were_written_in_the_order_of_wall_time(steered):
    frames = read_run(steered).frames
    applied = [d for d in read_lines([steered / "decisions.jsonl"]) if d["outcome"] == "applied"]
    assert frames["restart_point"].sum() == 4 + len(applied)
    assert (~frames["restart_point"]).sum() == 24 * REPORTS_PER_SEGMENT * 4
    assert np.all(np.diff(frames["wall"]) >= 0)
    for walker in range(4):
        assert np.all(np.diff(frames["frame"][frames["simulation"] == walker]) == 1)


def test_aggregate_time_counts_every_simulated_frame_once(steered):
    frames = read_run(steered).frames
    assert frames["aggregate_ps"][-1] == pytest.approx(24 * REPORTS_PER_SEGMENT * 4 * REPORT_PS)
    restarts = np.flatnonzero(frames["restart_point"])[4:]
    assert np.allclose(frames["aggregate_ps"][restarts], frames["aggregate_ps"][restarts - 1])


def test_wall_time_of_a_frame_is_interpolated_in_its_segment(steered):
    frames = read_run(steered).frames
    segments = read_lines(steered.glob("trajectories/sim-0000.segments.jsonl"))
    mine = (frames["simulation"] == 0) & (frames["segment"] == 0)
    assert frames["wall"][mine][0] == pytest.approx(segments[0]["start"])
    assert frames["wall"][mine][-1] == pytest.approx(segments[1]["start"], abs=0.8)


def test_the_segment_that_has_not_ended_goes_on_at_the_usual_pace(fresh):
    whole = read_run(fresh).frames["wall"]
    path = fresh / "events" / "simulation-0000.jsonl"
    write_lines(path, [e for e in read_lines([path]) if e.get("reason") != "stop"])
    assert np.allclose(read_run(fresh).frames["wall"], whole, atol=1.0)


def test_a_half_written_line_is_left_out(fresh):
    path = fresh / "decisions.jsonl"
    n_decisions = len(read_run(fresh).decisions)
    path.write_text(path.read_text()[:-20])
    assert len(read_run(fresh).decisions) == n_decisions - 1


def test_a_half_written_row_is_left_out(tmp_path):
    path = tmp_path / "sim-0000.frames.csv"
    path.write_text("frame,segment,time_ps\n0,0,0.4\n1,0,0.")
    assert read_csv(path)["time_ps"].tolist() == [0.4]


def test_a_cell_that_is_no_number_is_nan(tmp_path):
    path = tmp_path / "sim-0000.frames.csv"
    path.write_text("frame,rmsd_angstrom\n0,\n1,2.5\n")
    assert np.isnan(read_csv(path)["rmsd_angstrom"][0])
    assert read_csv(path)["rmsd_angstrom"][1] == 2.5


def test_a_run_that_has_just_begun_is_a_run(tmp_path):
    (tmp_path / "config.toml").write_text("[run\n")
    run = read_run(tmp_path)
    assert run.settings == {}
    assert len(run.frames["frame"]) == 0
    assert np.isnan(run.start)


@pytest.mark.parametrize("make", [lambda p: p / "missing", lambda p: p])
def test_what_is_no_run_is_refused_in_one_sentence(tmp_path, make):
    with pytest.raises(RunDirectoryError, match="run directory.*name the one"):
        read_run(make(tmp_path))


def test_a_single_walker_is_read(tmp_path):
    frames = read_run(SyntheticRun(n_walkers=1, n_rounds=2).write(tmp_path / "run")).frames
    assert len(frames["frame"]) == 2 * REPORTS_PER_SEGMENT + 1
