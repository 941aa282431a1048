"""What must stay the same when a run is resumed, wherever a change comes from, and what may change."""

import copy
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

from ddmd_mpi import config, resume
from ddmd_mpi.cli import plan
from ddmd_mpi.config import loader
from ddmd_mpi.config.identity import FIXED, FREE, unchanged
from ddmd_mpi.errors import CheckpointError, ConfigError, LayoutError, RunDirectoryError
from ddmd_mpi.prepare import Options
from ddmd_mpi.rundir.checkpoints import Store, manifest_name
from ddmd_mpi.rundir.files import sha256_of
from ddmd_mpi.rundir.manifest import FORMAT, Manifest

SECTIONS = get_type_hints(config.Config)
KEYS = [(section.name, key.name) for section in fields(config.Config) for key in fields(SECTIONS[section.name])]
CONTENT = "the start\n"
SETTINGS = config.relative(config.load("cln025"), Path("/nowhere"))


def decided(table):
    return {(section, key) for section, keys in table.items() for key in keys.split()}


def test_it_is_decided_for_every_setting_whether_it_may_change():
    """A new setting belongs into one of the two tables of identity.py, and into docs/reliability.md if it is fixed."""
    assert decided(FIXED) | decided(FREE) == set(KEYS)
    assert not decided(FIXED) & decided(FREE)
    text = (Path(__file__).parents[3] / "docs" / "reliability.md").read_text()
    for section, key in decided(FIXED) - {("output", "directory")}:
        assert f"`{key}`" in text, f"{section}.{key} is not in docs/reliability.md"


@pytest.mark.parametrize(("section", "key"), KEYS, ids=[".".join(key) for key in KEYS])
def test_a_setting_is_refused_or_holds(section, key, tmp_path):
    now = copy.deepcopy(SETTINGS)
    now[section][key] = "something else"
    if key in FIXED.get(section, "").split():
        with pytest.raises(ConfigError, match=rf"^{section}\.{key} (was .* and )?cannot "):
            unchanged(now, SETTINGS, tmp_path, {}, set())
    else:
        assert unchanged(now, SETTINGS, tmp_path, {}, set())[section][key] == "something else"


@pytest.fixture
def run(tmp_path):
    """A run directory with a config, two input files and a checkpoint; more copies can be given to `change`."""
    directory = tmp_path / "run"
    for name, text in (("start.pdb", CONTENT), ("target.pdb", "the target\n"), ("streams.xml", "<a/>")):
        (directory / "inputs").mkdir(parents=True, exist_ok=True)
        (directory / "inputs" / name).write_text(text)
    (directory / "checkpoints").mkdir()
    settings = config.load(
        "cln025",
        assignments=tuple(
            f"{s}={directory}/inputs/{n}"
            for s, n in (
                ("system.start", "start.pdb"),
                ("system.target", "target.pdb"),
                ("streams.adios2_xml", "streams.xml"),
            )
        ),
    )
    (directory / "config.toml").write_text(config.to_toml(settings, directory))
    records = {
        f"inputs/{name}": {
            "sha256": sha256_of(directory / "inputs" / name),
            "source": f"/elsewhere/{name}",
            "setting": setting,
        }
        for name, setting in (
            ("start.pdb", "system.start"),
            ("target.pdb", "system.target"),
            ("streams.xml", "streams.adios2_xml"),
        )
    }
    about = {
        "n_walkers": 8,
        "settings": config.relative(settings, directory),
        "inputs": records,
        "program_version": "0.0.9",
    }
    Store(directory).write_manifest(Manifest(1, 0, about, {}, 1.0, ()))
    return directory


def edit(directory, old, new, file="config.toml"):
    text = (directory / file).read_text()
    assert old in text
    (directory / file).write_text(text.replace(old, new))


def test_an_untouched_run_is_resumed_and_so_is_one_that_was_moved(run, tmp_path):
    assert resume.find(run, ()).config.system.start == run / "inputs" / "start.pdb"
    moved = run.rename(tmp_path / "moved")
    (tmp_path / "link").symlink_to(moved)
    for directory in (moved, tmp_path / "link"):
        found = resume.find(directory, ())
        assert found.config.system.start == directory / "inputs" / "start.pdb"
        assert (found.n_walkers, found.more_walkers) == (8, False)


def test_what_the_files_have_said_so_far_may_be_set(run):
    """A nearly empty box is refused today unless somebody asks for it."""
    edit(run, 'solvent = "auto"', 'solvent = "explicit"')
    assert resume.find(run, ()).config.system.solvent == "explicit"


def test_a_dry_run_of_a_resume_shows_its_walkers_on_other_ranks(run, monkeypatch):
    monkeypatch.setattr(plan, "window_nbytes", lambda *_: {"inference": 1000})  # reads the input files
    planned = plan.planned
    options = Options(usecase="", resume=run)
    assert "walkers: 8, " in planned(options, 6, None, 0, None)
    with pytest.raises(LayoutError, match="and the run has 8, which it keeps"):
        planned(Options(usecase="", assignments=("simulation.walkers_per_rank=1",), resume=run), 4, None, 0, None)
    with pytest.raises(ConfigError, match="timestep_fs"):
        planned(Options(usecase="", assignments=("simulation.timestep_fs=2.0",), resume=run), 4, None, 0, None)
    with pytest.raises(RunDirectoryError, match="is not a run directory"):
        planned(Options(usecase="", resume=run / "inputs"), 4, None, 0, None)


def test_edits_of_the_config_are_refused_all_at_once_or_applied(run):
    edit(run, "timestep_fs = 4.0", "timestep_fs = 2.0")
    edit(run, "cutoff_angstrom = 8.0", "cutoff_angstrom = 9.0")
    with pytest.raises(ConfigError) as caught:
        resume.find(run, ())
    said = str(caught.value)
    assert "simulation.timestep_fs was 4.0 and cannot become 2.0, features.cutoff_angstrom was 8.0" in said
    assert str(run / "config.toml") in said
    edit(run, "timestep_fs = 2.0", "timestep_fs = 4.0")
    edit(run, "cutoff_angstrom = 9.0", "cutoff_angstrom = 8.0")
    edit(run, "ring_mb = ", "ring_mb = 1")
    assert resume.find(run, ()).config.aggregation.ring_mb > 100


def test_the_command_line_is_named_where_it_is_at_fault(run):
    with pytest.raises(ConfigError, match="run.seed was 2023 and cannot become 7 .* leave it out of the command line"):
        resume.find(run, ("run.seed=7",))
    assert resume.find(run, ("run.duration=77",)).config.run.duration == 77


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda path: path.unlink(), "is missing since the run started"),
        (lambda path: path.write_text("another"), "has changed since the run started"),
    ],
)
def test_an_input_file_that_is_not_what_it_was_is_named_with_its_source(run, harm, words):
    harm(run / "inputs" / "target.pdb")
    with pytest.raises(RunDirectoryError, match=rf"inputs/target\.pdb \(system\.target\) {words}.*/elsewhere/target"):
        resume.find(run, ())


def test_a_file_with_a_colon_in_its_name_is_compared_too(run):
    (run / "inputs" / "target.pdb").rename(run / "inputs" / "a:b.pdb")
    for file in ("config.toml", f"checkpoints/{manifest_name(1)}"):
        edit(run, "inputs/target.pdb", "inputs/a:b.pdb", file)
    resume.find(run, ())
    (run / "inputs" / "a:b.pdb").write_text("another")
    with pytest.raises(RunDirectoryError, match=r"a:b\.pdb .* has changed"):
        resume.find(run, ())


def test_a_file_whose_setting_may_change_may_change(run):
    (run / "inputs" / "streams.xml").write_text("<b/>")
    assert resume.find(run, ()).config.streams.adios2_xml == run / "inputs" / "streams.xml"


def test_files_are_compared_by_content(run, tmp_path):
    other = tmp_path / "other.pdb"
    other.write_text(CONTENT)
    assert resume.find(run, (f"system.start={other}",)).config.system.start == run / "inputs" / "start.pdb"
    other.write_text(CONTENT + "END\n")
    with pytest.raises(ConfigError, match=r"system\.start was .*inputs/start\.pdb.* cannot become .*other\.pdb"):
        resume.find(run, (f"system.start={other}",))


def test_a_renamed_copy_is_found_by_an_edit(run):
    (run / "inputs" / "other.pdb").write_text(CONTENT)
    edit(run, "inputs/start.pdb", "inputs/other.pdb")
    assert resume.find(run, ()).config.system.start == run / "inputs" / "start.pdb"


def test_a_use_case_that_has_changed_since_or_is_gone_does_not_matter(run, monkeypatch):
    """As after another installation of the program."""
    monkeypatch.setattr(loader, "inputs", lambda: run / "nowhere")
    assert resume.find(run, ()).config.run.usecase == "cln025"


def test_a_setting_that_is_commented_out_is_not_set(run):
    edit(run, "walkers_per_rank", "# walkers_per_rank")
    edit(run, "progress_interval", "# progress_interval")
    assert resume.find(run, ()).config.output.progress_interval == 1.0
    edit(run, "temperature_kelvin", "# temperature_kelvin")
    edit(run, "hydrogen_mass_amu = 3.0", "")
    with pytest.raises(ConfigError, match=r"hydrogen_mass_amu was 3\.0 and cannot be left out"):
        resume.find(run, ())


def test_a_force_field_beside_the_config_does_not_stand_in_for_that_of_openmm(run):
    (run / "amber99sbildn.xml").write_text("<ForceField/>")
    with pytest.raises(ConfigError, match=r"system\.force_field cannot change"):
        resume.find(run, ())


def test_a_row_of_the_systems_table_is_compared_by_content(tmp_path):
    settings = config.relative(config.load("plc"), tmp_path)
    first = Path(settings["system"]["complexes"][0]["ligand"])
    now = copy.deepcopy(settings)
    now["system"]["complexes"][0]["ligand"] = str(tmp_path / "copy.pdb")
    (tmp_path / "copy.pdb").write_bytes(first.read_bytes())
    records = {str(first): {"sha256": sha256_of(first)}}
    assert unchanged(now, settings, tmp_path, records, set()) == settings
    (tmp_path / "copy.pdb").write_bytes(b"another")
    now = copy.deepcopy(settings)
    now["system"]["complexes"][0]["ligand"] = str(tmp_path / "copy.pdb")
    with pytest.raises(ConfigError, match=r"system\.complexes cannot change"):
        unchanged(now, settings, tmp_path, records, set())


def test_walkers_are_asked_for_by_an_option_or_an_edit(run):
    for assignments in (("simulation.walkers_per_rank=8",), ('simulation.walkers_per_rank="auto"',)):
        assert resume.find(run, assignments).more_walkers
    (run / "trajectories").mkdir()
    (run / "trajectories" / "sim-0011.segments.jsonl").touch()
    assert resume.find(run, ()).n_walkers == 12


def test_a_checkpoint_of_another_format_is_one_sentence(run):
    edit(run, f'"format": {FORMAT}', '"format": 2', f"checkpoints/{manifest_name(1)}")
    with pytest.raises(CheckpointError, match=r"has format 2 and .* resume with the ddmd-mpi 0\.0\.9"):
        resume.find(run, ())


def test_settings_that_this_version_does_not_know_are_one_sentence(run):
    edit(run, '"ring_mb"', '"ring_gb"', f"checkpoints/{manifest_name(1)}")
    with pytest.raises(CheckpointError, match=r"by ddmd-mpi 0\.0\.9 .* \(unknown setting aggregation\.ring_gb"):
        resume.find(run, ())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"settings": {', '"settings": 3, "x": {'),
        ('"sha256"', '"sha255"'),
        ('"inputs": {', '"inputs": [], "y": {'),
    ],
)
def test_a_manifest_that_does_not_say_what_the_run_is_is_skipped(run, old, new):
    edit(run, old, new, f"checkpoints/{manifest_name(1)}")
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        resume.find(run, ())
