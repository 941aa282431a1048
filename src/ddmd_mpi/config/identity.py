"""What a run is: which settings and input files stay the same when it is resumed, and which may change.

A checkpoint has the settings of its session and the digests of the input files. A resumed run is compared with those,
wherever a change comes from: an edit of ``DIR/config.toml``, an option, another file under the same name.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import ConfigError, RunDirectoryError
from ..rundir.directory import INPUTS
from ..rundir.files import sha256_of
from .loader import file_tables, map_strings, toml_value

#: Every setting, by whether it must stay the same. Fixed is what the frames, the files, the model's weights and the
#: random numbers of earlier sessions depend on; a change would hold for one part of them, and not for another.
FIXED = {
    "run": "usecase mode seed",
    "system": "name model start starts target topology parameters solvent box_nm descriptor force_field site complexes",
    "simulation": "engine timestep_fs hydrogen_mass_amu nonbonded_cutoff_nm temperature_kelvin friction_per_ps "
    "pressure_bar report_interval_ps trajectory_format",
    "engine": "input extra_input options",
    "emulation": "trajectory markov_model",
    "features": "cutoff_angstrom ligand_cutoff_angstrom order_parameters",
    "training": "model options latent_dimensions dense_units filters initial_weights",
    "output": "directory",
}
#: What may change, and holds from the session on for which it is set. ``walkers_per_rank`` can only add walkers.
FREE = {
    "run": "duration target_rmsd_angstrom target_arrivals rmsd_plateau_ns coverage_plateau_ns "
    "coverage_resolution_angstrom drain margin checkpoint_interval",
    "ranks": "simulation aggregation training inference simulations_per_aggregator",
    "system": "note",
    "simulation": "platform precision threads bind walkers_per_rank segment_ps walker_length_ns minimize "
    "minimize_iterations contexts_mb turn failures_per_walker",
    "engine": "program arguments scratch",
    "emulation": "report_seconds batch_reports wait_for_rounds training_seconds inference_seconds jitter",
    "streams": "first_hop engine interface parameters adios2_xml block_frames block_delay queue_blocks queue_mb "
    "in_flight_blocks",
    "aggregation": "ring_mb archive silent_after",
    "training": "dropout learning_rate rho epsilon batch_size epochs patience validation_fraction window_frames "
    "first_frames retrain_growth retrain_frames reinitialize max_validation_loss select keep_versions "
    "data_parallel mixed_precision xla threads",
    "steering": "strategy options coordinate coordinate_goal window_rounds window_frames outlier_fraction_min "
    "outlier_fraction_max min_samples lof_neighbours restart_fraction round_reports children_per_parent "
    "min_latent_distance instant_model copy_velocities_probability walkers_per_ligand_min walkers_per_ligand_max "
    "threads",
    "file": "iterations retrain_every newest_iterations random_older aggregate",
    "faults": "hang_after stopped_after start_within failures_per_run",
    "output": "progress progress_interval imd_port imd_address",
}
#: Digest of a file that is not there.
MISSING = "missing"


def check_inputs(directory: Path, records: dict[str, dict[str, Any]]) -> None:
    """Compare the input files in a run directory with the records of a checkpoint.

    Raises
    ------
    RunDirectoryError
        Naming the first file that is missing or has another content, and whose setting is fixed.
    """
    for name, record in records.items():
        section, _, key = record["setting"].partition(".")
        if not name.startswith(f"{INPUTS}/") or key in FREE.get(section, "").split():
            continue
        found = digest_of(directory / name)
        if found != record["sha256"]:
            what = "is missing" if found == MISSING else "has changed"
            raise RunDirectoryError(
                f"the input file {directory / name} ({record['setting']}) {what} since the run "
                f"started: restore it (it is a copy of {record['source']}), or start a new run"
            )


def unchanged(
    now: dict[str, Any], before: dict[str, Any], directory: Path, records: dict[str, dict[str, Any]], named: set[str]
) -> dict[str, Any]:
    """The settings `now`, if they describe the same run as those `before`; paths are relative to `directory`.

    Files are compared by content, so that a setting may name another file that holds the same.

    Parameters
    ----------
    records
        Of the input files, see :func:`.md.input_files.keep_inputs`.
    named
        Settings, as section.key, that the command line names.

    Raises
    ------
    ConfigError
        Naming the settings that must not change.
    """
    changes: dict[str, str] = {}

    def content(path: str) -> str:
        if path in records:
            return records[path]["sha256"]
        is_file = path.startswith(("/", f"{INPUTS}/"))  # else a force field in a package
        return digest_of(directory / path, path) if is_file else path

    for section, keys in FIXED.items():
        for key in keys.split():
            old, new = before[section][key], now[section][key]
            if key == "solvent" and (old, new) == ("auto", "explicit"):
                continue  # what the files have said so far
            if old != new and by_content(section, key, old, content) != by_content(section, key, new, content):
                changes[f"{section}.{key}"] = difference(old, new)
            now[section][key] = old
    if changes:
        listed = ", ".join(f"{name} {change}" for name, change in changes.items())
        where = "out of the command line" if changes.keys() <= named else f"as it was in {directory / 'config.toml'}"
        raise ConfigError(f"{listed} when a run is resumed: leave it {where}, or start a new run")
    return now


def by_content(section: str, key: str, value: Any, digest: Callable[[str], str]) -> Any:
    """A setting with the digest of every file in place of its path."""
    settings = {section: {key: copy.deepcopy(value)}}
    for table, keys in file_tables(settings):
        for name in (*keys, *({"force_field"} & table.keys())):
            table[name] = map_strings(table[name], digest)
    return settings[section][key]


def digest_of(path: Path, otherwise: str = MISSING) -> str:
    """SHA-256 of a file's content; `otherwise` if it is not a readable file."""
    try:
        return sha256_of(path) if path.is_file() else otherwise
    except OSError:
        return otherwise


def difference(old: Any, new: Any) -> str:
    """How a setting differs, for a message."""
    if any(isinstance(value, dict | list) for value in (old, new)):
        return "cannot change"
    was = "not set" if old is None else toml_value(old)
    return f"was {was} and cannot {'be left out' if new is None else f'become {toml_value(new)}'}"
