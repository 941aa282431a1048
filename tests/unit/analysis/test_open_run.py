import sys
from types import SimpleNamespace

import mdtraj
import numpy as np
import pytest
from synthetic_files import write_archive, write_model, write_trajectories
from synthetic_run import REPORT_PS, REPORTS_PER_SEGMENT, SyntheticRun, in_format_1, write_lines

from ddmd_mpi.analysis import open_run
from ddmd_mpi.analysis.asked import ask, default_regions
from ddmd_mpi.analysis.records import read_csv, read_lines
from ddmd_mpi.errors import InputError, RunDirectoryError


def test_frames_are_those_that_were_written_in_the_order_of_wall_time(steered):
    frames = open_run(steered).timeline
    applied = [d for d in read_lines([steered / "decisions.jsonl"]) if d["outcome"] == "applied"]
    assert frames["restart_point"].sum() == 4 + len(applied)
    assert (~frames["restart_point"]).sum() == 24 * REPORTS_PER_SEGMENT * 4
    assert np.all(np.diff(frames["wall"]) >= 0)
    for walker in range(4):
        assert np.all(np.diff(frames["frame"][frames["walker"] == walker]) == 1)


def test_aggregate_time_counts_every_simulated_frame_once(steered):
    frames = open_run(steered).timeline
    assert frames["aggregate_ps"][-1] == pytest.approx(24 * REPORTS_PER_SEGMENT * 4 * REPORT_PS)
    restarts = np.flatnonzero(frames["restart_point"])[4:]
    assert np.allclose(frames["aggregate_ps"][restarts], frames["aggregate_ps"][restarts - 1])


def test_wall_time_of_a_frame_is_interpolated_in_its_segment(steered):
    frames = open_run(steered).timeline
    segments = read_lines(steered.glob("trajectories/sim-0000.segments.jsonl"))
    mine = (frames["walker"] == 0) & (frames["segment"] == 0)
    assert frames["wall"][mine][0] == pytest.approx(segments[0]["start"])
    assert frames["wall"][mine][-1] == pytest.approx(segments[1]["start"], abs=0.8)


def test_the_segment_that_has_not_ended_goes_on_at_the_usual_pace(fresh):
    whole = open_run(fresh).timeline["wall"]
    path = fresh / "events" / "simulation-0000.jsonl"
    write_lines(path, [e for e in read_lines([path]) if e.get("reason") != "stop"])
    assert np.allclose(open_run(fresh).timeline["wall"], whole, atol=1.0)


def test_a_half_written_line_is_left_out(fresh):
    path = fresh / "decisions.jsonl"
    n_decisions = len(open_run(fresh).decisions)
    path.write_text(path.read_text()[:-20])
    assert len(open_run(fresh).decisions) == n_decisions - 1


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
    run = open_run(tmp_path)
    assert run.settings == {}
    assert len(run.timeline["frame"]) == 0
    assert np.isnan(run.start)


@pytest.mark.parametrize("make", [lambda p: p / "missing", lambda p: p])
def test_what_is_no_run_is_refused_in_one_sentence(tmp_path, make):
    with pytest.raises(RunDirectoryError, match="run directory.*name the one"):
        open_run(make(tmp_path))


def test_a_single_walker_is_read(tmp_path):
    frames = open_run(SyntheticRun(n_walkers=1, n_rounds=2).write(tmp_path / "run")).timeline
    assert len(frames["frame"]) == 2 * REPORTS_PER_SEGMENT + 1


def test_records_of_format_1_are_read_as_those_of_format_2(fresh):
    new, lineage = open_run(fresh), open_run(fresh).segments
    in_format_1(fresh)
    text = "".join(path.read_text() for path in fresh.rglob("*.jsonl"))
    assert '"walker"' not in text
    assert '"source_simulation"' in text
    old = open_run(fresh)
    assert (old.events, old.decisions, old.segments) == (new.events, new.decisions, new.segments)
    assert old.timeline["walker"].tolist() == new.timeline["walker"].tolist()
    assert open_run(fresh).segments == lineage
    assert open_run(fresh).contradictions() == []


@pytest.fixture
def with_files(fresh):
    write_trajectories(fresh, np.random.default_rng(0))
    return open_run(fresh)


def test_frame_i_of_the_universe_is_row_i_of_the_frames(with_files):
    run = with_files
    universe = run.universe()
    assert len(universe.trajectory) == len(run.frames)
    file = run.trajectories[2]
    own = mdtraj.load(str(file.path), top=str(file.topology))
    for row in (file.rows[0], file.rows[-1]):
        universe.trajectory[row]
        expected = 10 * own.xyz[run.frames["frame_in_file"][row]]
        np.testing.assert_allclose(universe.atoms.positions, expected, atol=1e-3)


def test_a_trajectory_that_lacks_frames_is_refused(with_files):
    path = with_files.trajectories[0].path
    own = mdtraj.load(str(path), top=str(with_files.trajectories[0].topology))
    own[:-3].save_dcd(str(path))
    with pytest.raises(RunDirectoryError, match="frames and their index has"):
        open_run(with_files.directory).universe()


def test_a_damaged_trajectory_is_refused_in_one_sentence(with_files):
    with_files.trajectories[0].path.write_bytes(b"nothing")
    with pytest.raises(RunDirectoryError, match="cannot be read"):
        open_run(with_files.directory).universe()


def test_an_unknown_topology_is_refused(with_files):
    with pytest.raises(InputError, match="topologies chain .got other."):
        with_files.universe("other")


def test_a_missing_model_is_refused(with_files):
    with pytest.raises(InputError, match=r"no model of version 99 \(it has 1 to 2\)"):
        with_files.model(99)


def test_latents_have_a_row_for_each_frame(with_files):
    write_model(with_files.directory / "models", np.random.default_rng(0))
    latents = with_files.latents()
    data, question = ask(with_files, ["latent", "rmsd_angstrom"], *default_regions(with_files))
    assert list(question.columns) == ["latent_0", "latent_1", "rmsd_angstrom"]
    np.testing.assert_array_equal(data.features[:, :10], latents)
    assert latents.shape == (len(with_files.frames), 10)
    assert np.isfinite(latents).all()
    file = with_files.trajectories[1]
    np.testing.assert_array_equal(latents[file.rows], with_files.model().embed_trajectory(file.path, file.topology))


def test_no_stretch_crosses_a_restart(steered):
    run = open_run(steered)
    for rows in run.stretches:
        frames = run.frames[rows]
        assert np.unique(frames["walker"]).size == 1
        assert not frames["restart_point"][1:].any()
        np.testing.assert_allclose(np.diff(frames["time_ps"]), REPORT_PS, atol=1e-3)
    assert sum(map(len, run.stretches)) == len(run.frames)
    assert max(np.unique(run.frames["segment"][rows]).size for rows in run.stretches) > 1


def test_saved_arrays_are_those_of_the_stretches(steered, tmp_path):
    run = open_run(steered)
    run.save_arrays(tmp_path / "stretches.npz", "rmsd_angstrom", "native_contacts")
    with np.load(tmp_path / "stretches.npz") as file:
        pieces = np.split(file["values"], file["lengths"].cumsum()[:-1])
        assert file["lag_ps"] == pytest.approx(run.report_ps)
    for piece, expected in zip(pieces, run.arrays("rmsd_angstrom", "native_contacts"), strict=True):
        np.testing.assert_array_equal(piece, expected)


@pytest.mark.parametrize("columns", [("nothing",), ("topology",), ()])
def test_arrays_of_an_unknown_column_are_refused(steered, columns):
    with pytest.raises(InputError, match="no column.*rmsd_angstrom"):
        open_run(steered).arrays(*columns)


def test_a_run_without_frames_has_nothing_to_offer(tmp_path):
    (tmp_path / "config.toml").write_text("")
    run = open_run(tmp_path)
    assert (run.best, run.segments, run.stretches, run.trajectories) == (None, [], [], [])
    assert run.row(0, 0) is None
    assert np.isnan(run.report_ps)
    with pytest.raises(InputError, match="topologies none"):
        run.universe()


def test_a_frame_is_found_by_walker_and_number(steered):
    run = open_run(steered)
    row = run.row(2, 17)
    assert run.frames[row][["walker", "frame"]].tolist() == (2, 17)
    assert run.row(2, 10**6) is None
    assert run.row(99, 0) is None


def test_the_table_has_the_columns_of_the_frames(steered, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=dict))
    run = open_run(steered)
    table = run.table()
    assert list(table) == list(run.frames.dtype.names)
    np.testing.assert_array_equal(table["rmsd_angstrom"], run.frames["rmsd_angstrom"])


def test_a_table_names_pandas_if_it_is_missing(steered, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="a table needs pandas, Run.frames does not"):
        open_run(steered).table()


def test_positions_are_those_of_the_frames_asked_for(with_files):
    run, file = with_files, with_files.trajectories[2]
    rows = np.array([file.rows[5], 0, file.rows[-1]])
    expected = mdtraj.load(str(file.path), top=str(file.topology)).xyz[run.frames["frame_in_file"][rows[[0, 2]]]]
    np.testing.assert_allclose(run.positions(rows)[[0, 2]], expected, atol=1e-5)


def test_positions_of_frames_that_no_file_has_are_missing(with_files):
    file = with_files.trajectories[1]
    own = mdtraj.load(str(file.path), top=str(file.topology))
    own[:-3].save_dcd(str(file.path))
    with_files.trajectories[0].path.unlink()
    run = open_run(with_files.directory)
    missing = np.isnan(run.positions(np.arange(len(run.frames)))).all(axis=(1, 2))
    assert set(np.flatnonzero(missing)) == {*np.flatnonzero(run.frames["walker"] == 0), *file.rows[-3:]}


def test_latents_of_some_frames_are_those_of_all(with_files):
    write_model(with_files.directory / "models", np.random.default_rng(0))
    rows = np.arange(3, len(with_files.frames), 17)
    some, of_all = with_files.latents(rows=rows), with_files.latents()[rows]
    np.testing.assert_allclose(some, of_all, atol=1e-4)


def test_arrays_may_have_the_latents(with_files, tmp_path):
    write_model(with_files.directory / "models", np.random.default_rng(0))
    with_files.save_arrays(tmp_path / "stretches.npz", "rmsd_angstrom", "latent")
    with np.load(tmp_path / "stretches.npz") as file:
        assert file["columns"].tolist() == ["rmsd_angstrom", *(f"latent_{i}" for i in range(10))]
        np.testing.assert_array_equal(file["values"][:, 1:], with_files.latents())
        np.testing.assert_array_equal(np.concatenate(with_files.arrays("latent")), with_files.latents())


def test_deeptime_takes_the_arrays_of_a_run(steered):
    """No transition that it counts crosses a restart."""
    from deeptime import clustering, markov

    run = open_run(steered)
    pieces = [piece for piece in run.arrays("rmsd_angstrom", "native_contacts") if len(piece) > 5]
    states = clustering.KMeans(4, fixed_seed=1).fit_fetch(np.concatenate(pieces)).transform
    discrete = np.split(states(np.concatenate(pieces)), np.cumsum([len(piece) for piece in pieces])[:-1])
    counts = markov.TransitionCountEstimator(5, "sliding").fit_fetch(discrete).count_matrix
    assert counts.sum() == sum(len(piece) - 5 for piece in pieces)


def test_the_archive_is_read_block_by_block(fresh):
    assert list(open_run(fresh).archive()) == []
    (fresh / "frames").mkdir()
    for i in range(2):
        write_archive(fresh / "frames" / f"agg-{i:02d}.bp", np.random.default_rng(i))
    blocks = list(open_run(fresh).archive())
    assert [block["frame"].tolist() for block in blocks] == [[0, 1, 2], [0, 1, 2]]
    assert (blocks[0]["ca_positions"] != blocks[1]["ca_positions"]).any()
