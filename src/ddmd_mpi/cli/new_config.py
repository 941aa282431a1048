"""The config file that ``ddmd-mpi init`` writes for a system of the user's own."""

from __future__ import annotations

from typing import Any

from .. import config as configuration
from ..config.dynamics import PROGRAMS

LAMMPS = "lammps"
#: Up to this many atoms: report_interval_ps and segment_ps. On one core, segments then take some tens of seconds.
PACES = ((250, 0.24, 9.6), (800, 0.2, 4.0), (10**9, 0.2, 2.0))
FEW_RESIDUES = 100
SMALL_RING_MB, RING_FRAMES, BYTES_PER_ATOM = 24.0, 400, 24

FAST_TRAINING = """\
# A quarter of the paper's filters: rounds on small maps take seconds on one core.
filters = 16"""
TEXT = """\
# Written by ddmd-mpi init; paths are relative to this file. Further settings: docs/configuration.md.
{notes}
[run]
usecase = {name}
duration = "3min"

[system]
{system}

[simulation]
{dynamics}
# For {n_atoms} atoms on one core; on a GPU use the paper's 50 and 10000.
report_interval_ps = {report}
segment_ps = {segment}

[streams]
block_frames = 8
block_delay = "0.25s"

[training]
{training}

[steering]
# Reports of every walker per round of inference.
round_reports = 8

{engine}[aggregation]
# Shared memory for the newest coordinates: a container has 64 MB by default.
ring_mb = {ring_mb}
"""
PROGRAM = """\
[engine]
{given}# Its program, if it is not on PATH; further settings: docs/engines.md.
# program = ""

"""


def config_text(name: str, system: dict[str, Any], n_atoms: int, notes: list[str], engine: str = "openmm") -> str:
    """The text of the config of a system of this many atoms; every choice is a setting, with its reason.

    Parameters
    ----------
    system
        The settings of [system], and what :func:`_dynamics` asks for besides.
    """
    value = configuration.toml_value
    about = {key: system.pop(key, None) for key in ("periodic", "n_descriptor", "charmm", "input", "constrained")}
    report, segment = next((r, s) for most, r, s in PACES if n_atoms <= most)
    given = f"input = {value(about['input'])}\n" if about["input"] else ""
    return TEXT.format(
        notes="".join(f"# {note[0].upper()}{note[1:]}.\n" for note in notes),
        name=value(name),
        system="\n".join(f"{key} = {value(v)}" for key, v in {"name": name, **system}.items()),
        dynamics="\n".join(_dynamics(about, system.get("topology", ""), engine)),
        n_atoms=n_atoms,
        report=report,
        segment=segment,
        training="first_frames = 64" + (f"\n{FAST_TRAINING}" if about["n_descriptor"] <= FEW_RESIDUES else ""),
        engine=PROGRAM.format(given=given) if engine in PROGRAMS else "",
        ring_mb=max(SMALL_RING_MB, round(RING_FRAMES * BYTES_PER_ATOM * n_atoms / 1e6, 1)),
    )


def _dynamics(about: dict[str, Any], topology: str, engine: str) -> list[str]:
    """Engine, time step, masses and cutoff, as far as the files leave them open."""
    lines = [] if engine == "openmm" else [f"engine = {configuration.toml_value(engine)}"]
    finished = topology.endswith(".xml") or engine == LAMMPS
    if about["constrained"] is False:
        lines += ["# The input constrains no bonds (fix shake): with them 2 fs.", "timestep_fs = 1.0"]
    elif finished or (engine == "namd" and topology.endswith(".psf")):
        # The masses of the files are used as they are.
        lines.append("timestep_fs = 2.0")
    else:
        lines += ["# Heavy hydrogens allow 4 fs.", "timestep_fs = 4.0", "hydrogen_mass_amu = 3.0"]
    if about["periodic"] and not finished and not about["charmm"]:
        lines.append("nonbonded_cutoff_nm = 1.0")
    return lines
