"""What ``ddmd-mpi status`` shows of a run that goes on, has ended, was killed, or is damaged."""

import asyncio
import csv
import json
import shutil

import click
import numpy as np
import pytest
from textual.widgets import DataTable, Static

from ddmd_mpi.analysis import open_run
from ddmd_mpi.cli import status_app
from ddmd_mpi.cli.commands import cli
from ddmd_mpi.cli.run_state import BARS, sparkline, standing, state_of
from ddmd_mpi.cli.status import show
from ddmd_mpi.cli.status_app import StatusApp, rates
from ddmd_mpi.errors import RunDirectoryError
from ddmd_mpi.monitor import summary
from ddmd_mpi.monitor.status import STATUS_DTYPE, State

ROLES = ("simulation", "aggregation", "training", "inference")


def write_view(run, *, done=False, age=0.0, **facts):
    """The live view of a run, of records of its own."""
    records = np.zeros(4, STATUS_DTYPE)
    records["state"], records["best_rmsd"] = State.DONE if done else State.RUNNING, np.nan
    facts = {
        "usecase": "made-up",
        "mode": "stream",
        "strategy": "ml_rmsd",
        "note": "",
        "target": "native",
        "directory": str(run),
        "duration_s": 180.0,
        "walkers": len(list(run.glob("trajectories/*.segments.jsonl"))),
        "ranks": dict.fromkeys(ROLES, 1),
        "lost_ranks": [],
        "lost_walkers": [],
        **facts,
    }
    view = summary.view(records, ROLES, facts, left_s=60.0)
    (run / "status.json").write_text(json.dumps({**view, "time": view["time"] - age}))


@pytest.fixture
def run(fresh):
    write_view(fresh)
    return fresh


def frames_file(run, walker):
    return run / "trajectories" / f"sim-{walker:04d}.frames.csv"


def test_each_walker_is_where_its_files_end(run):
    whole, state = open_run(run), state_of(run)
    assert len(state["walkers"]) == len(np.unique(whole.frames["walker"])) > 2
    for walker in state["walkers"]:
        last = whole.frames[whole.frames["walker"] == walker["walker"]][-1]
        assert walker["rmsd_angstrom"] == pytest.approx(last["rmsd_angstrom"], abs=1e-3)
        assert (walker["time_ps"], walker["frame"]) == (last["time_ps"], last["frame"])
        own = [s for s in whole.segments if s.walker == walker["walker"]]
        parents = [list(s.parent) for s in own if s.restarted]
        assert walker["segment"] == own[-1].segment
        assert walker["parent"] == (parents[-1] if parents else None)
    assert any(walker["parent"] for walker in state["walkers"])


def test_the_best_rmsd_falls_to_that_of_the_rounds(run):
    best = state_of(run)["best_rmsd_angstrom"]
    found = [r["best_rmsd_angstrom"] for r in open_run(run).rounds]
    assert best == sorted(best, reverse=True)
    assert best[-1] == min(found)
    assert len(best) == len(found)


def test_whether_it_runs_has_ended_or_was_killed(run, capsys):
    assert state_of(run)["state"] == "running"
    assert standing(state_of(run)) == "running"
    write_view(run, age=100.0)
    assert "was killed" in standing(state_of(run))
    write_view(run, done=True, age=100.0)
    assert state_of(run)["state"] == "ended"
    assert standing(state_of(run)).startswith("the run has ended, completed (")
    write_view(run, age=100.0)
    told = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**told, "completed": False, "unfinished": "rank 2 did not finish"}))
    assert standing(state_of(run)).endswith("rank 2 did not finish)")
    show(run, "line")
    printed = capsys.readouterr().out
    assert "rank 2 did not finish)." in printed
    assert "killed" not in printed


def test_lost_ranks_are_named(run):
    write_view(run, lost_ranks=[1], lost_walkers=[0, 1])
    state = state_of(run)
    assert [w["lost"] for w in state["walkers"]][:3] == [True, True, False]
    assert "lost ranks           1 (walkers: 0, 1)" in rates(state, 40)


def test_a_torn_line_is_left_out(run):
    before = state_of(run)["walkers"][0]
    for path in (frames_file(run, 0), run / "trajectories" / "sim-0000.segments.jsonl", run / "rounds.jsonl"):
        with path.open("a") as file:
            file.write('{"torn": 1' if path.suffix == ".jsonl" else "99,9")
    assert state_of(run)["walkers"][0] == before


@pytest.mark.parametrize("damaged", ["frames.csv", "segments.jsonl"])
def test_files_of_nonsense_say_nothing(run, damaged):
    path = run / "trajectories" / f"sim-0001.{damaged}"
    path.write_bytes(b"\xff\x00,1\n" * 3 + b'{"segment": "x", "decision": "y", "topology": 3}\n')
    (run / "summary.json").write_text('{"roles": [1], "streams": {"max_queue_by_hop": 3}, "simulation": "x"}')
    (run / "config.toml").unlink()
    state = state_of(run)
    walker = state["walkers"][1]
    assert walker["rmsd_angstrom" if damaged == "frames.csv" else "topology"] is None
    assert "engine               unknown" in rates(state, 40)


def test_without_its_files_there_is_no_walker(run):
    shutil.rmtree(run / "trajectories")
    assert state_of(run)["walkers"] == []


@pytest.mark.parametrize("n", [1, 7, 40, 1000])
def test_a_sparkline_ends_with_the_newest_value(n):
    drawn = sparkline([float(n - i) for i in range(n)], 40)
    assert len(drawn) == min(n, 40)
    assert drawn[-1] == BARS[0]
    assert list(drawn) == sorted(drawn, reverse=True)
    assert n < 2 or drawn[0] == BARS[-1]
    assert sparkline([], 40) == sparkline([1.0], 0) == ""


def test_json_is_one_document(run, capsys):
    cli.main(["status", str(run), "--json"], standalone_mode=False)
    printed = json.loads(capsys.readouterr().out)
    assert printed["view"]["usecase"] == "made-up"
    assert printed["walkers"] == state_of(run)["walkers"]
    cli.main(["status", str(run), "--once"], standalone_mode=False)
    assert len(capsys.readouterr().out.splitlines()) == 1
    with pytest.raises(click.UsageError, match="exclude each other"):
        cli.main(["status", str(run), "--json", "--once"], standalone_mode=False)


def test_what_json_has_no_word_for_is_refused(run):
    text = (run / "status.json").read_text()
    (run / "status.json").write_text(text.replace('"loss": 0.0', '"loss": NaN'))
    with pytest.raises(RunDirectoryError, match="damaged"):
        cli.main(["status", str(run), "--json"], standalone_mode=False)


def in_app(run, act):
    """Open the application on a run and let `act` use it."""

    async def used():
        app = StatusApp(run)
        async with app.run_test(size=(120, 40)) as pilot:
            await act(app, pilot)
        return app

    return asyncio.run(used())


def column(app, i):
    table = app.query_one(DataTable)
    return [str(table.get_row_at(row)[i]) for row in range(table.row_count)]


async def becomes_true(pilot, condition):
    """Wait until the application has acted upon a key: a busy machine takes its time."""
    for _ in range(400):
        if condition():
            return
        await pilot.pause(0.05)
    assert condition()


def test_the_application_shows_every_walker_and_sorts_them(run):
    async def act(app, pilot):
        assert column(app, 0) == [str(w["walker"]) for w in app.state["walkers"]]
        assert "strategy ml_rmsd" in str(app.query_one("#run", Static).content)
        rising = sorted(float(text) for text in column(app, 1))
        await pilot.press("r")
        await becomes_true(pilot, lambda: [float(text) for text in column(app, 1)] == rising)
        await pilot.press("r")
        await becomes_true(pilot, lambda: [float(text) for text in column(app, 1)] == rising[::-1])
        known = sum(text != "-" for text in column(app, 5))
        assert known
        await pilot.press("p")
        await becomes_true(pilot, lambda: "-" not in column(app, 5)[:known])
        await pilot.press("q")

    assert in_app(run, act).return_code == 0


def test_the_application_follows_the_run(run):
    async def act(app, pilot):
        with frames_file(run, 0).open() as file:
            head, *_, last = csv.reader(file)
        new = {**dict(zip(head, last, strict=True)), "rmsd_angstrom": "0.125", "frame": "12345"}
        with frames_file(run, 0).open("a") as file:
            file.write(",".join(new.values()) + "\n")
        app.look()
        assert column(app, 4)[0] == "12345"
        assert float(column(app, 1)[0]) == pytest.approx(0.125, abs=0.006)

    in_app(run, act)


def test_a_directory_that_goes_ends_the_application(run):
    async def act(app, pilot):
        shutil.rmtree(run)
        app.look()
        await pilot.pause()

    assert "no readable status" in str(in_app(run, act).failure)


def test_the_report_is_opened_if_there_is_one(run, monkeypatch):
    opened, told = [], []
    monkeypatch.setattr(status_app.webbrowser, "open", lambda url: opened.append(url) or len(opened) == 1)

    async def act(app, pilot):
        monkeypatch.setattr(app, "notify", told.append)
        await pilot.press("o")
        await becomes_true(pilot, lambda: len(told) == 1)
        (run / "report.html").write_text("<p>")
        await pilot.press("o")
        await becomes_true(pilot, lambda: len(opened) == 1)
        await pilot.press("o")
        await becomes_true(pilot, lambda: len(told) == 2)

    in_app(run, act)
    assert opened == [(run / "report.html").resolve().as_uri()] * 2
    assert told == [
        f"There is no report yet: ddmd-mpi report {run}",
        f"No browser was found here: open {(run / 'report.html').resolve()}",
    ]


def test_without_textual_the_plain_screen_says_what_more_there_is(run, monkeypatch, capsys):
    write_view(run, done=True)
    monkeypatch.setattr("ddmd_mpi.cli.status.find_spec", lambda name: None)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    cli.main(["status", str(run)], standalone_mode=False)
    printed = capsys.readouterr().out
    assert "pip install 'ddmd-mpi[status]'" in printed
    assert "simulation" in printed
