"""What a disk refuses leaves no torn line; what can be done without is left out, warned of once and written again."""

import json
import logging
import shutil

import pytest

from ddmd_mpi.errors import DiskError
from ddmd_mpi.monitor.events import EventLog
from ddmd_mpi.rundir.disk import BestEffort, LineFile, Lines, disk_errors, inode, read_lines


def test_a_line_is_whole_or_not_there_and_the_next_one_fits(tmp_path, limited):
    path = tmp_path / "decisions.jsonl"
    with Lines(path) as lines:
        lines.append({"decision": 0})
        with limited(path.stat().st_size + 5), pytest.raises(DiskError, match=r"decisions\.jsonl cannot be written"):
            lines.append({"decision": 1})
        assert read_lines(path) == [{"decision": 0}]
        assert path.read_text().endswith("}\n")
        lines.append({"decision": 2})
    assert [line["decision"] for line in read_lines(path)] == [0, 2]


def test_a_full_device_is_a_sentence(tmp_path):
    (tmp_path / "full").symlink_to("/dev/full")
    file = LineFile(tmp_path / "full")
    with pytest.raises(DiskError, match="full cannot be written: No space left on device"):
        file.write("x")
    file.free()


def test_a_file_that_was_deleted_is_noticed_when_it_is_brought_to_the_disk(tmp_path):
    file = LineFile(tmp_path / "a.csv")
    file.write("1\n")
    file.sync()
    (tmp_path / "a.csv").unlink()
    with pytest.raises(DiskError, match="it was deleted during the run"):
        file.sync()
    file.free()


def test_spans_that_the_disk_refuses_are_left_out_and_later_ones_written(tmp_path, limited, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ddmd_mpi"), "propagate", True)
    path = tmp_path / "simulation-0000.jsonl"
    with EventLog(path, "simulation", 0) as events:
        events.record("block", 1.0, 1.0)
        events.flush()
        with limited(path.stat().st_size + 10):
            for _ in range(3):
                events.record("lost", 2.0, 1.0)
                events.flush()
        events.record("block", 3.0, 1.0)
    assert [json.loads(line)["name"] for line in path.read_text().splitlines()] == ["block", "block"]
    assert events.totals["lost"].count == 3
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 2, "one warning, and one word that all is well again"
    assert "the run continues without spans in events/" in said[0]
    assert "written again; 3 writes were left out" in said[1]


def test_only_refusals_are_dispensable():
    best_effort = BestEffort()
    with best_effort.write("a view"), disk_errors("a/view"):
        raise OSError(28, "No space left on device")
    with pytest.raises(ZeroDivisionError), best_effort.write("a view"):
        raise ZeroDivisionError
    assert best_effort.left_out == {"a view": 1}


def test_another_directory_in_the_place_of_one_is_another(tmp_path):
    (tmp_path / "run").mkdir()
    before = inode(tmp_path / "run")
    assert before == inode(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    assert inode(tmp_path / "run") is None
    (tmp_path / "run").mkdir()
    assert inode(tmp_path / "run") != before
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "run").write_text("")
    assert inode(tmp_path / "run" / "below") is None
