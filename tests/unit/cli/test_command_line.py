"""What the command line says of input that is wrong: one sentence that names it, exit code 2, no traceback."""

import os
from types import SimpleNamespace

import pytest

from ddmd_mpi import config, report
from ddmd_mpi.cli.entry import end, main
from ddmd_mpi.errors import ConfigError, InputError, LayoutError, RunDirectoryError, sentence
from ddmd_mpi.layout.plan import machine
from ddmd_mpi.parallel.launcher import LAUNCHERS
from ddmd_mpi.prepare import Options, check_ligands, prepare
from ddmd_mpi.resume import find, refuse_strangers


@pytest.fixture
def refused(monkeypatch, capsys):
    """The sentence that ``ddmd-mpi ARGUMENTS`` refuses them with."""
    for one in LAUNCHERS:
        monkeypatch.delenv(one.rank, raising=False)

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["ddmd-mpi", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr().err
        assert stop.value.code == 2
        assert said.count("\n") == 1, said
        assert said.startswith("ddmd-mpi: ")
        assert said[:-1].isprintable()
        return said.removeprefix("ddmd-mpi: ").rstrip("\n")

    return call


def test_check_refuses_what_is_not_an_interface(refused):
    assert "'--interface': give the name of an interface such as ib0" in refused("check", "--interface", "10.1.0.1")


@pytest.mark.parametrize(("launched_by", "rank", "code", "written"), [
    ("OMPI_COMM_WORLD_RANK", 0, 2, "2\n"), ("OMPI_COMM_WORLD_RANK", 1, 0, None), ("SLURM_PROCID", 1, 2, "2\n"),
])  # fmt: skip
def test_under_open_mpi_one_rank_ends_with_an_error_and_tells_the_script(
    monkeypatch, tmp_path, launched_by, rank, code, written
):
    for one in LAUNCHERS:
        monkeypatch.delenv(one.rank, raising=False)
    monkeypatch.setenv(launched_by, str(rank))
    monkeypatch.setenv("DDMD_MPI_EXIT_CODE", str(tmp_path / "code"))
    with pytest.raises(SystemExit) as stop:
        end(2)
    assert stop.value.code == code
    assert (tmp_path / "code").read_text() == written if written else not (tmp_path / "code").exists()
    with pytest.raises(SystemExit) as stop:
        end(0)
    assert stop.value.code == 0


@pytest.mark.parametrize("absent", [("matplotlib",), ("jinja2", "matplotlib")])
def test_a_report_without_its_libraries_says_how_to_install_them(refused, monkeypatch, tmp_path, absent):
    found = report.find_spec
    monkeypatch.setattr(report, "find_spec", lambda name: None if name in absent else found(name))
    said = refused("report", tmp_path)
    assert said == f"a report needs {' and '.join(absent)}, not installed here: pip install 'ddmd-mpi[report]'"
    assert not list(tmp_path.iterdir())


def test_init_says_what_was_given_and_what_is_missing(refused, tmp_path):
    said = refused("init", tmp_path / "new", "--prmtop", "mine.prmtop")
    assert "mine.prmtop has no coordinates: add --coordinates" in said
    assert ".inpcrd" in said
    said = refused("init", tmp_path / "new", "--inpcrd", "mine.inpcrd")
    assert "nothing to write with --coordinates alone: give --usecase, or --pdb, or --topology" in said
    assert "nothing to write: give --usecase" in refused("init", tmp_path / "new")
    said = refused("init", tmp_path / "new", "--pdb", "a.pdb", "--psf", "a.psf")
    assert "--pdb and --topology exclude each other" in said
    assert not (tmp_path / "new").exists()


def toml(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


DEEP = "[" * 5000
FILES = {
    "deep lists": ("[run]\nusecase = 'cln025'\nseed = " + DEEP + "]" * 5000, "nested too deeply"),
    "deep tables": ("[run]\nusecase = 'cln025'\n[training]\noptions" + ".a" * 5000 + " = 1", "nested too deeply"),
    "long number": ("[run]\nusecase = 'cln025'\nseed = " + "9" * 5000, "not valid TOML"),
    "large number": ("[run]\nusecase = 'cln025'\nseed = " + "9" * 30, "run.seed"),
    "no UTF-8": (b"[run]\nusecase = '\xff'\n", "not valid TOML"),
    "NUL": ("[run]\nusecase = 'cln\0025'\n", "not valid TOML"),
    "run is no table": ("run = 3\n", "which use case"),
    "another way out": ("[run]\nusecase = '../../etc'\n[system]\nname = 'x'\nstart = 'a'\ntarget = 'b'\n",
                        "run.usecase"),
    "name of the system": ("[run]\nusecase = 'cln025'\n[system]\nname = '../x'\n", "system.name"),
    "a terminal": ('[run]\nusecase = "cln025"\n[system]\nstart = "a\\u001b[2J\\n.pdb"\n', "must not contain control"),
    "nan": ("[run]\nusecase = 'cln025'\nduration = nan\n", "run.duration"),
    "not finite": ("[run]\nusecase = 'cln025'\n[simulation]\ntimestep_fs = 1e-320\n", "timesteps"),
    "as many threads as atoms": ("[run]\nusecase = 'cln025'\n[simulation]\nthreads = 10000000\n", "simulation.threads"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_config_file_that_is_none(refused, tmp_path, name):
    text, words = FILES[name]
    assert words in refused("--config", toml(tmp_path / "c.toml", text), "--dry-run")


@pytest.mark.parametrize("kind", ["pipe", "device", "directory", "loop", "huge", "missing"])
def test_a_config_file_that_never_ends(refused, tmp_path, kind):
    path = tmp_path / "c.toml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(10**9)
    elif kind != "missing":
        path.symlink_to("/dev/zero" if kind == "device" else path)
    assert "cannot read the config file" in refused("--config", path)


@pytest.mark.parametrize("value", [
    "run.seed=" + DEEP, "training.options" + ".a" * 5000 + "=1", "run.seed=" + "9" * 5000])  # fmt: skip
def test_an_assignment_that_is_none(refused, value):
    said = refused("--usecase", "cln025", "--set", value)
    assert len(said) < 2200


ROW = {"name": "toluene", "ligand": "toluene.pdb"}


@pytest.mark.parametrize(("row", "words"), [
    ({**ROW, "ligands": "x.pdb"}, "ligands of complex toluene (row 2 of system.complexes): did you mean ligand of "),
    ({"ligand": "x.pdb"}, "name of row 2 of system.complexes is missing"),
    ({**ROW, "water_edge_nm": -1}, "water_edge_nm of complex toluene (row 2 of system.complexes)"),
    ({**ROW, "water_edge_nm": 1e4}, "water_edge_nm of complex toluene (row 2 of system.complexes)"),
    ({**ROW, "coordinates": "x.pdb"}, "of complex toluene (row 2 of system.complexes): give coordinates or a ligand"),
    ({**ROW, "name": "../../etc/passwd"}, "complex ../../etc/passwd (row 2 of system.complexes)"),
    ({**ROW, "name": "/etc/passwd"}, "name of complex"), ({**ROW, "name": "a\nb"}, "name of complex"),
    ({**ROW, "name": ".."}, "name of complex"), ({**ROW, "name": "x" * 101}, "name of complex"),
    ({**ROW, "name": "benzene"}, "two complexes have the name benzene"),
    ({**ROW, "ligand": "a\0b"}, "control characters"),
])  # fmt: skip
def test_a_row_of_the_systems_table_is_named_and_counted_from_one(row, words):
    settings = {**config.read_toml(config.inputs() / "plc.toml"), "run": {"usecase": "plc"}}
    settings["system"]["complexes"] = [{**ROW, "name": "benzene"}, row]
    with pytest.raises(ConfigError) as caught:
        config.validate(settings)
    assert words in str(caught.value)


def test_another_table_is_counted_from_one_too():
    settings = {**config.read_toml(config.inputs() / "cln025.toml"), "run": {"usecase": "cln025"}}
    settings["features"] = {"order_parameters": [{"name": "x", "kind": "y"}]}
    with pytest.raises(ConfigError, match=r"^setting kind of row 1 of features\.order_parameters: "):
        config.validate(settings)


def test_a_row_that_cannot_be_read_is_said_before_its_walkers_are_counted(tmp_path):
    text = "[run]\nusecase = 'plc'\n[system]\ncomplexes = [{name = 'gone', ligand = 'gone.pdb', water_edge_nm = 3.0}]\n"
    few = ("steering.walkers_per_ligand_min=50", "steering.walkers_per_ligand_max=60")
    nodes, gpus = machine(4)
    world = SimpleNamespace(nodes=nodes, gpus_per_node=gpus)
    with pytest.raises(InputError, match="complex gone .row 1 of system.complexes.*does not exist"):
        prepare(Options("plc", toml(tmp_path / "c.toml", text), few, tmp_path / "run"), world)
    assert not (tmp_path / "run").exists()
    with pytest.raises(LayoutError, match="set steering.walkers_per_ligand_min lower"):
        check_ligands(config.load("plc", assignments=few), 12)


STATUS = [b"", b"[]", b"{}", b"\xff", DEEP.encode(), b'{"usecase": "x", "done": true, "time": "now", "left_s": 1}']


@pytest.mark.parametrize("content", STATUS)
def test_status_of_what_is_no_run(refused, tmp_path, content):
    (tmp_path / "status.json").write_bytes(content)
    said = refused("status", tmp_path, "--once")
    assert "has no readable status" in said or "is not a run directory" in said


def test_status_does_not_wait_for_a_pipe(refused, tmp_path):
    os.mkfifo(tmp_path / "status.json")
    assert "has no readable status" in refused("status", tmp_path, "--once")


@pytest.mark.parametrize("how", ["file", "directory", "pipe"])
def test_a_run_that_goes_on_writes_only_into_its_directory(tmp_path, how):
    run, outside = tmp_path / "run", tmp_path / "mine.txt"
    (run / "events").mkdir(parents=True)
    (run / "config.toml").write_text("[run]\nusecase = 'cln025'\n")
    outside.write_text("precious, without an end of line")
    (run / "decisions.jsonl").symlink_to("events")
    refuse_strangers(run)
    if how == "pipe":
        os.mkfifo(run / "events" / "x.jsonl")
    else:
        (run / "events" / "x.jsonl").symlink_to(outside if how == "file" else tmp_path)
    with pytest.raises(RunDirectoryError, match=r"x\.jsonl is a (link to|pipe)"):
        find(run, ())
    assert outside.read_text() == "precious, without an end of line"


def test_a_sentence_is_one_line_of_any_error():
    assert sentence(ValueError("a\n\x1b[31mb\0")) == "a ?[31mb?"
    assert len(sentence(ValueError("x" * 10**6))) < 2100
