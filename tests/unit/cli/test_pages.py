"""Every command, setting and snippet that the pages show is one that the program has."""

import ast
import contextlib
import re
import shlex
import tomllib
from pathlib import Path

import click
import h5py
import numpy as np
import openmm
import pytest
from openmm import app

from ddmd_mpi import config
from ddmd_mpi.cli.commands import cli, resolve
from ddmd_mpi.study.study_file import read_study
from ddmd_mpi.study.trials import plan

ROOT = Path(__file__).parents[3]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
LANGUAGES = {"sh", "toml", "python", "text"}
#: Commands of others, which no test runs.
FOREIGN = {"antechamber", "apt", "grep", "parmchk2", "pip", "source", "ssh", "tleap"}
#: Pages whose snippets are run, and where; test_watch.py does what the snippet of its page does.
RUN_BY = {
    "analysis.md": "unit/report/test_report_docs.py",
    "configuration.md": "unit/cli/test_pages.py",
    "engines.md": "unit/md/test_engine_conformance.py",
    "ligands.md": "unit/cli/test_pages.py",
    "models.md": "unit/model/test_models_doc.py",
    "outputs.md": "unit/cli/test_pages.py",
    "steering.md": "unit/steering/test_strategy_plugins.py",
    "tutorial.md": "unit/report/test_report_docs.py",
    "watching.md": "end_to_end/test_watch.py",
}
#: What a study needs beside the keys that a block shows.
STUDY = 'systems = ["cln025"]\narms = ["none"]\nseeds = 1\naggregate_ns = 1.0\n'


def blocks(page, language):
    """The fenced blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(page):
    """Words of each command of a page."""
    for block in blocks(page, "sh"):
        lines = re.sub(r" <<(\w+)\n.*?^\1$", "", block, flags=re.DOTALL | re.MULTILINE).replace("\\\n", " ")
        for line in lines.splitlines():
            words = shlex.split(line, comments=True)
            while words:
                end = words.index("&&") if "&&" in words else len(words)
                yield words[:end]
                words = words[end + 1 :]


def mentions(page):
    """Words of each command within the sentences of a page, where it is written out."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for text in re.findall(r"(?<!`)`(ddmd-mpi [^`]+|make [a-z][^`]*)`(?!`)", prose):
        if not re.search(r"\.\.\.|…|\{", text):
            yield shlex.split(text)


@pytest.fixture(scope="module", autouse=True)
def only_parsed():
    """Commands parse their options and do nothing; that which runs resolves its settings."""

    def run(usecase, file, output, resume, dry_run, n_ranks, ranks_per_node, gpus_per_node, cores_per_node, **settings):
        if click.get_current_context().invoked_subcommand is None:
            usecase = "cln025" if file else usecase  # the pages have no file of that name
            check_settings(resolve(usecase, None, output=output, resume=resume, **settings))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "callback", run)
        for command in cli.commands.values():
            patch.setattr(command, "callback", lambda **_: None)
        yield


def check_settings(options):
    """The settings of a run, of a use case in place of a file that the pages do not have."""
    usecase = options.usecase if options.usecase in config.usecases() else "cln025"
    config.load(usecase, None, options.assignments)


def parse(words):
    """Parse the arguments of ddmd-mpi; a capital letter stands for a number."""
    cli.main([re.sub(r"^[A-Z]$", "4", word) for word in words], prog_name="ddmd-mpi", standalone_mode=False)


def check_target(words):
    """Targets of make, and variables of its file."""
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        name = re.sub(r"-(\d+|N)$", "-%", word.partition("=")[0])
        found = rf"\$\({name}\)" if "=" in word else f"^{name}:"
        assert re.search(found, makefile, re.MULTILINE), f"make {word}"


def check_script(words):
    """A script of the repository, and that it has the options."""
    path, options = ROOT / words[0], [w for w in words[1:] if w.startswith("--")]
    assert path.is_file(), words
    assert [o for o in options if not re.search(rf"{o}\b(?!-)", path.read_text())] == []


def check(words):
    """One command."""
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if "ddmd-mpi" in words or "ddmd_mpi" in words:
        at = words.index("ddmd-mpi" if "ddmd-mpi" in words else "ddmd_mpi")
        assert at == 0 or Path(words[0]).name in ("mpiexec", "srun", "python", "ranks.sh", "relaunch.sh"), words
        parse(words[at + 1 :])
        return
    program, arguments = Path(words[0]).name, words[1:]
    if program.startswith("--"):
        parse(["--usecase", "bba", *words])
    elif program == "local.sh":
        parse(arguments[1:])
    elif program in ("sbatch", "bsub"):
        arguments = [a for a in arguments if not a.startswith("--dependency=")]
        assert (ROOT / arguments[0]).is_file()
        parse(arguments[1:] or ["--usecase", "bba"])
    elif program == "make":
        check_target(arguments)
    elif program == "python" and arguments[:2] == ["-m", "pytest"]:
        assert all((ROOT / path).is_file() for path in arguments[2:])
    elif program == "python" and arguments[0] == "-c":
        ast.parse(arguments[1])
    elif program == "python" and arguments[0] != "-m":
        check_script(arguments)
    else:
        assert program in {*FOREIGN, "python3"}, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_one_that_the_program_takes(page):
    for words in commands(page):
        if words:
            check(words)
    for words in mentions(page):
        with contextlib.suppress(click.MissingParameter):
            check([*words, "--usecase", "bba"] if "--dry-run" in words and "--usecase" not in words else words)


@pytest.mark.parametrize(
    "words",
    [["ddmd-mpi", "reprot", "DIR"], ["ddmd-mpi", "lineage", "DIR", "--bests"], ["make", "tests"],
     ["ddmd-mpi", "--usecase", "bba", "--set", "steering.stratgy=ml"], ["python", "benchmarks/scale.py", "--rank", "3"],
     ["python", "benchmarks/scales.py"], ["frobnicate"]],
)  # fmt: skip
def test_a_command_that_the_program_does_not_take_is_found(words):
    with pytest.raises((click.ClickException, AssertionError, config.loader.ConfigError)):
        check(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_in_a_language_that_is_checked(page):
    text = page.read_text()
    opened = re.findall(r"^```(.*)$", text, re.MULTILINE)[::2]
    assert set(opened) <= LANGUAGES
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"\n\n {4}.*", prose) == [], "an indented block: give it a fence and a language"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_shown_is_valid(page, tmp_path):
    for block in blocks(page, "toml"):
        if page.name == "studies.md":
            given = block if "systems" in block else f"{STUDY}{block}"
            (tmp_path / "page.toml").write_text(given)
            plan(read_study(tmp_path / "page.toml"), tmp_path)
            continue
        usecase = tomllib.loads(block).get("run", {}).get("usecase", "cln025")
        (tmp_path / "page.toml").write_text(block)
        config.load(usecase, tmp_path / "page.toml")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_snippet_is_python_and_is_run(page):
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")
    assert not blocks(page, "python") or (ROOT / "tests" / RUN_BY[page.name]).is_file()


def snippets(name, names=None):
    """Run the snippets of a page, one after the other; what they have defined."""
    names = {} if names is None else names
    for block in blocks(ROOT / "docs" / name, "python"):
        exec(block, names)
    return names


def test_the_order_parameter_of_the_page_is_a_length():
    positions = np.zeros((5, 3))
    positions[-1] = 0.3, 0.4, 0
    assert snippets("configuration.md")["end_to_end"](positions, positions) == pytest.approx(5)


def test_the_files_of_an_iteration_are_read_as_the_page_does(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("DIR/aggregated").mkdir(parents=True)
    with h5py.File("DIR/aggregated/iteration-0003.h5", "w") as file:
        file["rmsd"], file["walker"], file["frame"] = [3.0, 1.0], [4, 7], [8, 9]
        file["positions"] = np.ones((2, 1, 3))
    snippets("outputs.md")
    assert capsys.readouterr().out.startswith("7 9 ")


def test_a_system_is_serialised_as_the_page_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    structure = app.PDBFile(str(config.inputs() / "bba-go-target.pdb"))
    system = openmm.System()
    for _ in range(structure.topology.getNumAtoms()):
        system.addParticle(1)
    modeller = app.Modeller(structure.topology, structure.positions)
    snippets("ligands.md", {"Path": Path, "openmm": openmm, "app": app, "system": system, "modeller": modeller})
    again = openmm.XmlSerializer.deserialize(Path("system.xml").read_text())
    assert again.getNumParticles() == app.PDBFile("complex.pdb").topology.getNumAtoms() > 0


def test_the_figure_names_every_package_and_role():
    figure = (ROOT / "docs" / "images" / "overview.svg").read_text()
    packages = {path.parent.name for path in (ROOT / "src" / "ddmd_mpi").glob("*/__init__.py")}
    for name in {*packages, "simulation", "aggregation", "training", "inference"}:
        assert re.search(rf"[> ]{name}[< ]", figure), name


def test_the_site_says_which_values_a_setting_takes():
    pages = pytest.importorskip("site_pages", reason="mkdocs is not installed")
    expected = {
        ("run", "duration"): "a duration",
        ("run", "seed"): "integer ≥ 0",
        ("training", "dropout"): "number ≥ 0, < 1",
        ("training", "threads"): "integer 1 to 65536 or `auto`",
        ("system", "box_nm"): "list of 3 × number > 0 nm",
        ("steering", "coordinate_goal"): "`down`, `up` or number",
        ("system.complexes", "water_edge_nm"): "number > 0, ≤ 50 nm",
    }
    assert {key: pages.values(*key) for key in expected} == expected
    page = pages.with_values((ROOT / "docs" / "configuration.md").read_text())
    assert "| `temperature_kelvin` | `300` | number > 0 K | " in page
    assert "## ddmd-mpi lineage" in pages.command_line()
    assert "| `--reached Å` |" in pages.command_line()
