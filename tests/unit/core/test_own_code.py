"""The files of the user's own code are on record, and a change is said when a run is resumed."""

from ddmd_mpi import config as configuration
from ddmd_mpi.prepare import note_own_code
from ddmd_mpi.rundir.files import sha256_of

ORDER_PARAMETER = '[{name="mine", kind="function", function="own_code_here:distance"}]'


def test_strategy_and_functions_are_on_record(tmp_path, monkeypatch, capsys):
    path = tmp_path / "own_code_here.py"
    path.write_text("def rank(seen): ...\ndef distance(x, target): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    settings = "steering.strategy=own_code_here:rank", f"features.order_parameters={ORDER_PARAMETER}"
    config, records = configuration.load("bba-go", assignments=settings), {}
    note_own_code(config, records)
    assert set(records) == {"strategy:own_code_here:rank", "order parameter:own_code_here:distance"}
    assert {r["sha256"] for r in records.values()} == {sha256_of(path)}
    note_own_code(config, records)
    assert capsys.readouterr().err == ""
    path.write_text("def rank(seen): return 1\n")
    note_own_code(config, records)
    said = capsys.readouterr().err
    assert "steering.strategy own_code_here:rank" in said
    assert "has changed since the checkpoint" in said
    assert records["strategy:own_code_here:rank"]["sha256"] == sha256_of(path)


def test_built_in_names_are_no_files():
    records = {}
    note_own_code(configuration.load("bba-go"), records)
    assert records == {}
