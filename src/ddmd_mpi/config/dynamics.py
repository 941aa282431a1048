"""The settings of the molecular dynamics: the system, its engine, and what is computed of every frame."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from .values import (
    MOST,
    Auto,
    Bounds,
    Check,
    Count,
    Duration,
    File,
    FileName,
    Fraction,
    Name,
    NonNegative,
    PlugIn,
    Positive,
    Section,
    Size,
    some,
)

#: Before the name of a file that OpenMM brings in its app/data.
OF_OPENMM = "openmm:"
#: Engines that are separate programs, see md/programs.
PROGRAMS = ("amber", "gromacs", "lammps", "namd")
#: Engines that compute no forces, see md/emulated.
EMULATED = ("emulated", "markov")


#: Names of protein atoms, indices, or a selection.
Descriptor = Annotated[str | list[str] | list[Annotated[int, Bounds(ge=0, le=MOST)]], Check(some)]
Solvent = Literal["auto", "explicit", "implicit", "vacuum"]
Edges = Annotated[list[Positive], Bounds(min_length=3, max_length=3)]


@dataclass(frozen=True, kw_only=True)
class ComplexRow(Section):
    """[[system.complexes]]: one row of the systems table, a complex of the protein with one ligand.

    Its files are coordinates, with a topology or under a force field; or the ligand alone.
    """

    name: Name
    coordinates: File | None = None
    topology: File | None = None
    parameters: list[File] = field(default_factory=list)
    solvent: Solvent = "auto"
    box_nm: Edges | None = None
    ligand: File | None = None
    water_edge_nm: Annotated[float, Bounds(gt=0, le=50)] | None = None
    start: File | None = None
    ligand_residues: list[str] = field(default_factory=list)
    force_field: list[FileName] | None = None
    nonbonded_cutoff_nm: Positive | None = None

    def __post_init__(self) -> None:
        if (self.coordinates is None) == (self.ligand is None):
            cure = "not both" if self.ligand is not None else "with its topology or under a force field"
            raise ValueError(f"give coordinates or a ligand, {cure}")
        form = "coordinates" if self.ligand is None else "ligand"
        of_ligand, of_coordinates = ("water_edge_nm",), ("topology", "parameters", "box_nm", "ligand_residues")
        others = of_ligand if form == "coordinates" else of_coordinates
        wrong = next((key for key in others if getattr(self, key)), None)
        if wrong is not None:
            raise ValueError(f"{wrong} does not go with {form}: leave it out")
        if self.ligand is not None and self.solvent != "auto":
            raise ValueError(
                "solvent does not go with ligand: water_edge_nm makes a box of water, and force_field "
                "chooses between implicit solvent and vacuum"
            )


@dataclass(frozen=True, kw_only=True)
class SystemSection(Section):
    """[system]: the molecule, its start, its target and its force field; or many complexes of one protein."""

    name: Name
    model: Literal["all-atom", "go"] = "all-atom"
    start: File | None = None
    starts: File | None = None
    target: File | None = None
    topology: File | None = None
    parameters: list[File] = field(default_factory=list)
    solvent: Solvent = "auto"
    box_nm: Edges | None = None
    descriptor: Descriptor = field(default_factory=lambda: ["CA"])
    force_field: list[FileName] = field(default_factory=lambda: ["amber99sbildn.xml", "amber99_obc.xml"])
    site: list[str] = field(default_factory=list)
    complexes: list[ComplexRow] = field(default_factory=list)
    note: str = ""

    def __post_init__(self) -> None:
        if not self.complexes:
            missing = [key for key in ("start", "target") if getattr(self, key) is None]
            if missing:
                raise ValueError(f"the setting system.{missing[0]} is missing: add it to the config file")
            return
        names = [row.name.casefold() for row in self.complexes]  # some file systems do not tell cases apart
        twice = next((row.name for i, row in enumerate(self.complexes) if row.name.casefold() in names[:i]), None)
        if twice is not None:
            raise ValueError(f"two complexes have the name {twice}: their files would be the same, rename one")
        if self.model != "all-atom":
            raise ValueError("complexes are all-atom: leave system.model out")
        unused = next((key for key in ("starts", "topology", "parameters", "box_nm") if getattr(self, key)), None)
        unused = unused or ("solvent" if self.solvent != "auto" else None)
        if unused is not None:
            raise ValueError(f"system.{unused} is that of a single molecule: set it in the rows of complexes")
        alone = next((row.name for row in self.complexes if row.ligand is not None), None)
        if alone is not None and (self.start is None or not self.site):
            raise ValueError(
                f"complex {alone} is a ligand alone: set system.start to the protein, and system.site to "
                "the residues where it is placed"
            )

    @property
    def single(self) -> tuple[Path, Path]:
        """Start and target of a single molecule."""
        if self.start is None or self.target is None:
            raise ValueError("only complexes need no start and no target")
        return self.start, self.target

    @property
    def topologies(self) -> tuple[str, ...]:
        """Names of the topologies, in the order of their indices."""
        return tuple(row.name for row in self.complexes) or (self.name,)

    @property
    def target_name(self) -> str:
        """What RMSDs are to: the target's file, or the protein as the first complex has it."""
        return "the first complex" if self.target is None else self.target.stem


@dataclass(frozen=True, kw_only=True)
class SimulationSection(Section):
    """[simulation]: the engine and its integrator (IV-C of the paper)."""

    engine: PlugIn = "openmm"
    platform: Literal["auto", "CUDA", "HIP", "OpenCL", "CPU", "Reference"] = "auto"
    precision: Literal["single", "mixed", "double"] = "mixed"
    threads: Size = 1
    bind: bool = True
    walkers_per_rank: Count | Auto = "auto"
    timestep_fs: Positive = 2.0
    hydrogen_mass_amu: Positive | None = None
    nonbonded_cutoff_nm: Positive | None = None
    temperature_kelvin: Positive = 300.0
    friction_per_ps: NonNegative = 1.0
    pressure_bar: NonNegative = 1.0
    segment_ps: Positive = 10_000.0
    report_interval_ps: Positive = 50.0
    walker_length_ns: Positive | None = None
    minimize: bool = True
    minimize_iterations: Annotated[int, Bounds(ge=0)] = 0
    contexts_mb: Positive = 1000.0
    turn: Duration = 1.0
    failures_per_walker: Count = 20
    trajectory_format: Literal["dcd", "xtc"] = "dcd"

    def __post_init__(self) -> None:
        if self.report_interval_ps * 1000 < self.timestep_fs:
            raise ValueError("report_interval_ps must be at least one timestep_fs")
        steps = self.report_interval_ps * 1000 / self.timestep_fs
        if steps > MOST:
            raise ValueError(f"report_interval_ps must be at most {MOST} timesteps")
        if abs(steps - round(steps)) > 1e-6 * steps:
            raise ValueError(f"report_interval_ps must be a whole number of timesteps, not {steps:.2f} of timestep_fs")
        if self.segment_ps < self.report_interval_ps:
            raise ValueError("segment_ps must be at least one report_interval_ps")
        reports = self.segment_ps / self.report_interval_ps
        if abs(reports - round(reports)) > 1e-6 * reports:
            near = f"{math.floor(reports) * self.report_interval_ps:g}"
            raise ValueError(
                f"segment_ps must be a whole number of reports, not {reports:.2f} of report_interval_ps: "
                f"set it, for example, to {near}"
            )

    @property
    def steps_per_report(self) -> int:
        """Integration steps between two reports."""
        return max(1, round(self.report_interval_ps * 1000 / self.timestep_fs))

    @property
    def reports_per_segment(self) -> int:
        """Reports of a full segment."""
        return max(1, round(self.segment_ps / self.report_interval_ps))


@dataclass(frozen=True, kw_only=True)
class EngineSection(Section):
    """[engine]: the program of an engine that is one, and what an engine of the user's own is given."""

    program: FileName | None = None
    arguments: list[str] = field(default_factory=list)
    input: File | None = None
    extra_input: list[str] = field(default_factory=list)
    scratch: FileName | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EmulationSection(Section):
    """[emulation]: what the engines "emulated" and "markov" show, how fast, and how long rounds of the model take."""

    report_seconds: Positive = 1.0
    trajectory: File | None = None
    markov_model: File | None = None
    batch_reports: Count = 1
    wait_for_rounds: bool = False
    training_seconds: NonNegative = 0.0
    inference_seconds: NonNegative = 0.0
    jitter: Fraction = 0.0


@dataclass(frozen=True, kw_only=True)
class OrderParameter(Section):
    """One declared order parameter: `kind` names a function of structure/order_parameters.py."""

    name: Annotated[str, Bounds(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=100)]
    kind: Literal[
        "radius_of_gyration",
        "fraction_of_native_contacts",
        "distance",
        "dihedral",
        "end_to_end",
        "contacts",
        "centre_distance",
        "handedness",
        "ligand_contacts",
        "ligand_rmsd",
        "function",
    ]
    residues: list[Annotated[int, Bounds(ge=0)]] = field(default_factory=list)
    partners: list[Annotated[int, Bounds(ge=0)]] = field(default_factory=list)
    function: PlugIn | None = None

    def __post_init__(self) -> None:
        if (self.kind == "function") != (self.function is not None):
            raise ValueError(f"order parameter {self.name}: kind function and function = module:function go together")
        of_groups = self.kind in ("contacts", "centre_distance")
        if of_groups != bool(self.partners) or (of_groups and not self.residues):
            raise ValueError(
                f"order parameter {self.name}: the kinds contacts and centre_distance, and only these, are of two "
                "groups: set residues and partners"
            )


@dataclass(frozen=True, kw_only=True)
class FeaturesSection(Section):
    """[features]: what is computed of every frame."""

    cutoff_angstrom: Annotated[float, Bounds(gt=0, le=100)] = 8.0
    ligand_cutoff_angstrom: Annotated[float, Bounds(gt=0, le=100)] = 4.5
    order_parameters: list[OrderParameter] = field(
        default_factory=lambda: [
            OrderParameter(name="radius_of_gyration", kind="radius_of_gyration"),
            OrderParameter(name="native_contacts", kind="fraction_of_native_contacts"),
        ]
    )

    @property
    def ligand_contacts(self) -> int | None:
        """Which of the order parameters is the number of ligand contacts, None for none."""
        kinds = [p.kind for p in self.order_parameters]
        return kinds.index("ligand_contacts") if "ligand_contacts" in kinds else None
