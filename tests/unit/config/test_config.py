"""Settings: complete defaults, overlays, and one clear sentence for whatever is wrong."""

import json
import re
import tomllib
from dataclasses import MISSING, FrozenInstanceError, fields
from pathlib import Path
from typing import get_type_hints

import pytest

from ddmd_mpi import config
from ddmd_mpi.config.dynamics import ComplexRow, FeaturesSection, OrderParameter
from ddmd_mpi.config.values import Duration
from ddmd_mpi.errors import ConfigError


@pytest.mark.parametrize("usecase", config.usecases())
def test_every_use_case_is_complete_and_comes_back_from_its_toml(usecase):
    settings = config.load(usecase)
    assert all(path.is_file() for row in settings.system.complexes for path in (row.ligand,))
    if not settings.system.complexes:
        assert settings.system.start.is_file()
        assert settings.system.target.is_file()
    assert config.validate(tomllib.loads(config.to_toml(settings))) == settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("90s", 90), ("3min", 180), ("1.5h", 5400), ("2 d", 172800)],
)
def test_durations(text, expected):
    assert config.load("cln025", assignments=(f'run.duration="{text}"',)).run.duration == expected


def test_options_stay_with_their_strategy(tmp_path):
    fast = ("steering.strategy=fast", "steering.options={alpha=2.5}")
    file = tmp_path / "config.toml"
    for assignments in (fast, fast[::-1]):
        settings = config.load("cln025", assignments=assignments)
        assert settings.steering.options == {"alpha": 2.5}
    file.write_text(config.to_toml(settings))
    for changes, options in (
        ((), {"alpha": 2.5}),
        (("steering.strategy=fast", "steering.options={clusters=9}"), {"alpha": 2.5, "clusters": 9}),
        (("steering.strategy=greedy",), {}),
        (("steering.strategy=knn", "steering.options={neighbours=3}"), {"neighbours": 3}),
    ):
        assert config.load_run(file, changes).steering.options == options


@pytest.mark.parametrize(("text", "expected"), [("ib0", "ib0"), ("bond0.100", "bond0.100"), ("eth0:1", "eth0:1"),
                                               ("10.1.7.9/16", "10.1.0.0/16")])  # fmt: skip
def test_interfaces(text, expected):
    assert config.load("cln025", assignments=(f"streams.interface={text}",)).streams.interface == expected


def test_later_overlays_win(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[run]\nseed = 5\nduration = '7s'\n")
    settings = config.load("cln025", file, ("run.seed=6",))
    assert (settings.run.seed, settings.run.duration) == (6, 7)


def test_paths_in_a_file_are_relative_to_it(tmp_path):
    (tmp_path / "mine.toml").write_text("[system]\nstart = 'my.pdb'\n")
    assert config.load("cln025", tmp_path / "mine.toml").system.start == tmp_path / "my.pdb"


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbf[run]\nseed = 7\n")
    assert config.load("cln025", tmp_path / "mine.toml").run.seed == 7
    (tmp_path / "mine.toml").write_text("[run]\nseed = 7\n", encoding="utf-16")
    with pytest.raises(ConfigError, match="it is UTF-16: save it as UTF-8"):
        config.load("cln025", tmp_path / "mine.toml")


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("run.sed=7", "did you mean run.seed"),
        ("simulaton.threads=2", "did you mean simulation"),
        ("simulation.timestep_fs=-1", "simulation.timestep_fs"),
        ("run.duration=-5", "run.duration"),
        ("run.duration=soon", "90s, 3min"),
        ("ranks.simulation=two", "ranks.simulation"),
        ("steering.strategy=best", "unknown steering.strategy best: choose one of ml, ml_rmsd"),
        ("steering.outlier_fraction_min=0.9", "must not exceed"),
        ("simulation.segment_ps=0.001", "at least one report_interval_ps"),
        (
            "simulation.segment_ps=0.6",
            "2.50 of report_interval_ps: set it, for example, to 0.48",
        ),
        ("simulation.timestep_fs=7", "whole number of timesteps"),
        ("training.model=none", "needs a model"),
        ("streams.interface=10.1.0.1", "10.1.0.0/16"),
        ("streams.interface='10.1.0.0/40'", "10.1.0.0/40 is not an IPv4 network"),
        ("streams.interface='fd00::1'", "the name of an interface such as ib0"),
        ("streams.interface='a name that is far too long'", "streams.interface"),
        ("training.validation_fraction=0.6", "training.validation_fraction"),
        ("run", "section.key=value"),
        ("run=3", "section.key=value"),
    ],
)
def test_what_is_wrong_is_named(assignment, words):
    with pytest.raises(ConfigError) as caught:
        config.load("cln025", assignments=(assignment,))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_that_contradict_each_other_are_refused():
    assignments = ("training.model=aae", "training.data_parallel=horovod")
    assert config.load("cln025", assignments=assignments).ranks.training == "auto"
    pair = ("training.select=best", "training.validation_fraction=0")
    with pytest.raises(ConfigError, match="validation_fraction above 0"):
        config.load("cln025", assignments=pair)
    with pytest.raises(ConfigError, match="leave initial_weights out"):
        config.load("cln025", assignments=("training.reinitialize=true", "training.initial_weights=x"))
    with pytest.raises(ConfigError, match="aae .*data_parallel to auto or mpi"):
        config.load("cln025", assignments=(*assignments, "ranks.training=2"))


def test_unknown_use_case_lists_the_known():
    with pytest.raises(ConfigError, match="cln025"):
        config.load("chignolin")


def test_unreadable_and_broken_files(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        config.load("cln025", tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[run\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        config.load("cln025", tmp_path / "bad.toml")


def test_a_section_that_is_no_table_is_named(tmp_path):
    (tmp_path / "bad.toml").write_text("run = 3\n")
    with pytest.raises(ConfigError, match="setting run: "):
        config.load("cln025", tmp_path / "bad.toml")


def test_settings_that_do_not_fit_each_other_are_named_without_all_others():
    with pytest.raises(ConfigError) as caught:
        config.load("cln025", assignments=("training.model=none",))
    assert len(str(caught.value)) < 120


def test_a_relative_path_on_the_command_line_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config.load("cln025", assignments=("system.start=my.pdb",)).system.start == tmp_path / "my.pdb"


def test_settings_are_frozen():
    with pytest.raises(FrozenInstanceError):
        config.load("cln025").run.seed = 3


def documented_defaults():
    """Keys of docs/configuration.md and what its tables say of their defaults, by section."""
    text = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
    found, section = {}, ""
    for line in text.splitlines():
        heading = re.match(r"#+ \[+([\w.]+)\]", line)
        row = re.match(r"\| `(\w+)` \| (.*?) \| .* \|$", line)
        if heading:
            section = heading[1]
        elif row:
            found[section, row[1]] = row[2]
    return found


def written_default(key, hint):
    """The default of a field of a section, as the tables write it."""
    value = key.default if key.default_factory is MISSING else key.default_factory()
    if value is MISSING:
        return "required"
    if value is None:
        return "none"
    if hint == Duration:
        unit, size = next((u, s) for u, s in (("min", 60), ("s", 1)) if value >= s and value % s == 0)
        return f"`{value / size:g}{unit}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`".replace("e-0", "e-")
    if isinstance(value, list) and value and isinstance(value[0], OrderParameter):
        return "two, see below"
    return f"`{value}`" if isinstance(value, str) and value else f"`{json.dumps(value)}`"


def test_every_setting_is_documented_with_its_default():
    sections = {section.name: get_type_hints(config.Config)[section.name] for section in fields(config.Config)}
    expected = {
        (name, key.name): written_default(key, get_type_hints(section, include_extras=True)[key.name])
        for name, section in {**sections, "system.complexes": ComplexRow}.items()
        for key in fields(section)
    }
    assert documented_defaults() == expected


def test_the_documented_order_parameters_are_the_default():
    text = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
    given = tomllib.loads(text.partition("```toml\n")[2].partition("```")[0])["features"]
    assert [OrderParameter(**row) for row in given["order_parameters"]] == FeaturesSection().order_parameters
