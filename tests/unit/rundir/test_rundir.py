"""The run directory is fresh, its files are replaced whole, spans and lines are JSON."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from ddmd_mpi.cli.use_case import initialise
from ddmd_mpi.errors import RunDirectoryError
from ddmd_mpi.layout.links import SIMULATION, TO_TRAINING
from ddmd_mpi.layout.links import links as planned_links
from ddmd_mpi.monitor.events import EventLog
from ddmd_mpi.rundir import directory as rundir
from ddmd_mpi.rundir.directory import create_run_directory, versions
from ddmd_mpi.rundir.disk import write_json


def test_a_directory_that_holds_something_is_refused(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="not empty"):
        create_run_directory(tmp_path, "cln025")
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]


def test_an_empty_directory_is_taken(tmp_path):
    directory = create_run_directory(tmp_path, "cln025")
    assert all((directory / name).is_dir() for name in rundir.SUBDIRECTORIES)


def test_runs_that_start_in_the_same_second_have_a_directory_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rundir.time, "strftime", lambda _: "20260101-120000")
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: create_run_directory(None, "cln025"), range(4)))
    assert sorted(d.name.removeprefix("cln025-20260101-120000") for d in made) == ["", "-2", "-3", "-4"]
    assert all((d / "topology").is_dir() for d in made)


def test_a_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="cannot create"):
        create_run_directory(tmp_path / "file" / "below", "cln025")


def test_files_are_replaced_whole(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    write_json(tmp_path / "a.json", {"a": 2})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 2}
    assert len(list(tmp_path.iterdir())) == 1


def test_versions_name_the_core():
    assert all(versions()[name] for name in ("numpy", "openmm", "mpi4py", "adios2", "tensorflow"))


def test_spans_are_lines_and_totals(tmp_path):
    path = tmp_path / "simulation-0000.jsonl"
    with EventLog(path, "simulation", 0) as events:
        with events.span("segment", simulation=3) as span:
            span["frames"] = 5
            span["loss"] = float("nan")
        events.add("io", 0.25)
    (line,) = map(json.loads, path.read_text().splitlines())
    assert (line["name"], line["simulation"], line["frames"], line["rank"]) == ("segment", 3, 5, 0)
    assert line["end"] >= line["start"]
    assert line["loss"] is None
    assert events.totals["segment"].count == 1
    assert events.seconds("io", "none") == 0.25


def test_a_span_is_recorded_when_its_block_fails(tmp_path):
    path = tmp_path / "e.jsonl"
    with EventLog(path, "training", 1) as events, pytest.raises(ZeroDivisionError), events.span("train_round"):
        raise ZeroDivisionError
    assert json.loads(path.read_text())["name"] == "train_round"


def test_init_writes_a_config_that_loads(tmp_path):
    from ddmd_mpi import config

    initialise(tmp_path / "mine", "cln025")
    settings = config.load("cln025", tmp_path / "mine" / "config.toml")
    assert settings.system.start == tmp_path / "mine" / "cln025-start.pdb"
    assert settings.system.start.is_file()
    with pytest.raises(RunDirectoryError, match="not empty"):
        initialise(tmp_path / "mine", "cln025")


def test_init_copies_every_file_of_a_systems_table(tmp_path):
    from ddmd_mpi import config

    initialise(tmp_path / "mine", "plc")
    found, embedded = config.load("plc", tmp_path / "mine" / "config.toml").system, config.load("plc").system
    assert found.topologies == embedded.topologies
    assert all(row.ligand.parent == tmp_path / "mine" and row.ligand.is_file() for row in found.complexes)
    assert str(tmp_path / "mine" / "ligands.xml") in found.complexes[-1].force_field


class Placed:
    aggregator_of = {0: 4, 1: 4, 2: 5, 3: 5}

    def ranks(self, role):
        return {"simulation": (0, 1, 2, 3), "aggregation": (4, 5), "training": (6,), "inference": (7,)}[role]


def test_every_stream_has_one_writer_and_one_reader():
    links = planned_links(Placed())
    assert [link.index for link in links] == list(range(len(links)))
    assert len({link.name for link in links}) == len(links) == 4 + 2 + 2 + 1
    assert {(link.writer, link.reader) for link in links if link.kind == SIMULATION} == {(0, 4), (1, 4), (2, 5), (3, 5)}
    assert {link.reader for link in links if link.kind == TO_TRAINING} == {6}
    assert all(link.host in (4, 5) for link in links)
