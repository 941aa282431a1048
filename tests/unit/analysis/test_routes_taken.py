"""Routes to frames, across restarts, and the trajectories that are stitched of them."""

import json

import mdtraj
import numpy as np
import pytest
from synthetic_files import write_trajectories
from synthetic_run import REPORT_PS, write_lines

from ddmd_mpi.analysis import open_run
from ddmd_mpi.analysis.records import read_lines
from ddmd_mpi.analysis.routes import arrivals, oldest_first, route_to
from ddmd_mpi.analysis.stitch import MAX_JOIN_ANGSTROM, route_table, stitch
from ddmd_mpi.errors import InputError, RunDirectoryError

LIMIT = 4.5


def best(run):
    frame = run.frames[run.best]
    return int(frame["walker"]), int(frame["frame"])


@pytest.fixture
def with_files(fresh):
    write_trajectories(fresh, np.random.default_rng(0))
    return open_run(fresh)


def test_time_along_a_route_grows_by_a_report_with_each_frame(steered):
    run = open_run(steered)
    route = route_to(run, *best(run))
    assert route.complete
    assert len(route.restarts) > 1
    np.testing.assert_allclose(route.time_ps, REPORT_PS * np.arange(len(route.rows)), atol=1e-6)
    assert (run.frames["walker"][route.rows[-1]], run.frames["frame"][route.rows[-1]]) == best(run)


def test_a_route_repeats_no_frame(steered):
    run = open_run(steered)
    frames = run.frames[route_to(run, *best(run)).rows]
    assert not frames["restart_point"][1:].any()
    assert frames["frame"][0] == 0


def test_a_restart_continues_where_its_source_was(steered):
    run = open_run(steered)
    route = route_to(run, *best(run))
    followed = [piece for piece in route.pieces if len(piece.rows)]
    crossed = 0
    for before, piece in zip(followed, followed[1:], strict=False):
        last = run.frames[before.rows[-1]]
        if piece.segment is route.pieces[next(i for i, p in enumerate(route.pieces) if p is before) + 1].segment:
            crossed += 1
            assert piece.segment.parent == (last["walker"], last["segment"], last["frame"])
    assert crossed > 3


@pytest.mark.parametrize("limit", [2.5, 4.5])
def test_every_first_arrival_is_found(steered, limit):
    """Against a walk along the route of every frame that is near."""
    run = open_run(steered)
    expected = set()
    for row in np.flatnonzero(run.frames["rmsd_angstrom"] <= limit):
        route = route_to(run, int(run.frames["walker"][row]), int(run.frames["frame"][row]))
        near = route.rows[run.frames["rmsd_angstrom"][route.rows] <= limit]
        expected.add(int(near[0]))
    found = arrivals(run, limit)
    assert {run.row(a.source.walker, a.source.frame) for a in found} == expected
    for arrival in found:
        route = route_to(run, arrival.source.walker, arrival.source.frame)
        assert arrival.time_ps == pytest.approx(route.time_ps[-1])
        assert arrival.founder == (route.pieces[0].segment.walker, route.pieces[0].segment.segment)


@pytest.mark.parametrize(("limit", "n_arrivals", "n_independent"), [(2.5, 3, 1), (4.0, 3, 1), (5.0, 3, 3)])
def test_one_arrival_of_each_start_is_independent(steered, limit, n_arrivals, n_independent):
    run = open_run(steered)
    found = arrivals(run, limit)
    independent = [a for a in found if a.independent]
    assert (len(found), len(independent)) == (n_arrivals, n_independent)
    assert {a.founder for a in independent} == {a.founder for a in found}
    assert len({a.founder for a in independent}) == len(independent)
    rows = [
        set(r.rows.tolist()) for a in independent for r in [route_to(run, a.source.walker, a.source.frame)]
    ]  # fmt: skip
    assert all(not (a & b) for i, a in enumerate(rows) for b in rows[:i])


def test_nothing_arrives_at_what_no_frame_reached(steered):
    assert arrivals(open_run(steered), 0.01) == []


@pytest.mark.parametrize("suffix", ["dcd", "xtc"])
def test_a_stitched_trajectory_has_the_frames_of_its_route(with_files, tmp_path, suffix):
    run = with_files
    route = route_to(run, *best(run))
    written = stitch(run, route, tmp_path / "out" / "route", suffix=suffix)
    assert written.n_joins == len(route.restarts)
    assert written.worst_join <= MAX_JOIN_ANGSTROM
    movie = mdtraj.load(str(written.trajectory), top=str(written.topology))
    assert movie.n_frames == len(route.rows)
    for i in (0, len(route.rows) // 2, len(route.rows) - 1):
        frame = run.frames[route.rows[i]]
        file = next(f for f in run.trajectories if f.walker == frame["walker"])
        own = mdtraj.load_frame(str(file.path), int(frame["frame"]), top=str(file.topology))
        np.testing.assert_allclose(movie.xyz[i], own.xyz[0], atol=1.1e-3)
    if suffix == "xtc":
        np.testing.assert_allclose(movie.time, route.time_ps, rtol=1e-5)


def test_superposed_frames_lie_on_the_last_one(with_files, tmp_path):
    run = with_files
    route = route_to(run, *best(run))
    plain, placed = (
        mdtraj.load(str(w.trajectory), top=str(w.topology))
        for w in (stitch(run, route, tmp_path / name, superpose=name == "placed") for name in ("plain", "placed"))
    )
    apart = np.sqrt(((placed.xyz - placed.xyz[-1]) ** 2).sum(-1).mean(-1))
    np.testing.assert_allclose(apart, mdtraj.rmsd(plain, plain, len(plain) - 1), atol=2e-3)


def test_a_restart_point_that_is_not_its_source_is_noticed(with_files, tmp_path):
    run = with_files
    route = route_to(run, *best(run))
    child = route.restarts[-1]
    file = next(f for f in run.trajectories if f.walker == child.walker)
    moved = mdtraj.load(str(file.path), top=str(file.topology))
    moved.xyz[child.first_frame] += 0.1
    moved.save_dcd(str(file.path))
    assert stitch(run, route, tmp_path / "route").worst_join == pytest.approx(10 * 0.1 * 3**0.5, rel=1e-3)


def test_a_trajectory_that_ends_early_is_refused(with_files, tmp_path):
    route = route_to(with_files, *best(with_files))
    file = next(f for f in with_files.trajectories if f.walker == best(with_files)[0])
    mdtraj.load(str(file.path), top=str(file.topology))[:2].save_dcd(str(file.path))
    with pytest.raises(RunDirectoryError, match="ends before frame|cannot be read"):
        stitch(with_files, route, tmp_path / "route")


def test_a_run_without_its_trajectories_is_refused(steered, tmp_path):
    run = open_run(steered)
    with pytest.raises(RunDirectoryError, match="lacks the trajectory"):
        stitch(run, route_to(run, *best(run)), tmp_path / "route")


def test_the_table_of_a_route_names_the_decisions(steered):
    run = open_run(steered)
    route = route_to(run, *best(run))
    rows = route_table(run, route)
    made = [r["decision"] for r in rows if r["decision"] is not None]
    assert made == [p.segment.decision for p in route.pieces if p.segment.restarted and len(p.rows)]
    assert [r["rmsd_angstrom"] for r in rows] == run.frames["rmsd_angstrom"][route.rows].tolist()
    by_number = {d["decision"]: d for d in run.decisions}
    assert all(r["score"] == by_number[r["decision"]]["source"]["score"] for r in rows if r["decision"] is not None)


@pytest.mark.parametrize(("frame", "said"), [((0, 10**6), "walker 0 has frames 0 to"), ((99, 0), "no walker 99")])
def test_a_frame_that_is_not_there_is_refused(steered, frame, said):
    with pytest.raises(InputError, match=said):
        route_to(open_run(steered), *frame)


def test_a_route_whose_start_is_missing_says_so(fresh):
    run = open_run(fresh)
    route = route_to(run, *best(run))
    lost = route.pieces[0].segment.walker
    for path in fresh.glob(f"trajectories/sim-{lost:04d}.*"):
        path.unlink()
    cut = open_run(fresh)
    if best(run)[0] == lost:
        pytest.fail("the example needs a route that ends at another walker")
    rest = route_to(cut, *best(run))
    assert not rest.complete
    assert 0 < len(rest.rows) < len(route.rows)


def test_segments_in_a_circle_are_left_out(fresh):
    for path in fresh.glob("trajectories/*.segments.jsonl"):
        lines = read_lines([path])
        for line in lines:
            if line["segment"] == 0:
                line.update(source_walker=line["walker"], source_segment=1, source_frame=12)
        write_lines(path, lines)
    run = open_run(fresh)
    assert json.dumps([s.segment for s in oldest_first(run.segments)]) == "[]"
    assert arrivals(run, LIMIT) == []


def test_a_run_of_one_frame_has_a_route(fresh):
    for path in fresh.glob("trajectories/*.frames.csv"):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    run = open_run(fresh)
    route = route_to(run, 0, 0)
    assert route.rows.tolist() == [run.row(0, 0)]
    assert route.time_ps.tolist() == [0.0]
