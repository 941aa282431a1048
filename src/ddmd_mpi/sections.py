"""Every setting of a run: its name, its type, its default and its bounds.

Units stand in the keys' names.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .bounds import (
    MOST,
    Auto,
    Count,
    Duration,
    File,
    FileName,
    Fraction,
    Name,
    NonNegative,
    Positive,
    Size,
)

#: Before the name of a file that OpenMM brings in its app/data.
OF_OPENMM = "openmm:"


class Section(BaseModel):
    """Base of every section: frozen, and a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class RunSection(Section):
    """[run]: what to run, for how long, and where to stop."""

    usecase: Name
    mode: Literal["stream", "file"] = "stream"
    duration: Duration = 180.0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 2023
    target_rmsd_angstrom: Positive | None = None
    drain: Duration = 30.0
    margin: Duration = 60.0
    checkpoint_interval: Duration = 600.0


class RanksSection(Section):
    """[ranks]: how many ranks each role gets; "auto" fills the machine."""

    simulation: Count | Auto = "auto"
    aggregation: Count | Auto = "auto"
    training: Count | Auto = "auto"
    inference: Annotated[int, Field(ge=1, le=1)] | Auto = "auto"
    simulations_per_aggregator: Count = 12


#: Names of protein atoms, indices, or a selection.
Descriptor = Annotated[str | list[str] | list[Annotated[int, Field(ge=0, le=MOST)]],
                       Field(min_length=1, max_length=65_535)]
Solvent = Literal["auto", "explicit", "implicit", "vacuum"]
Edges = Annotated[list[Positive], Field(min_length=3, max_length=3)]


class ComplexRow(Section):
    """[[system.complexes]]: one row of the systems table, a complex of the protein with one ligand.

    Its files are coordinates, with a topology or under a force field; or the ligand alone.
    """

    name: Name
    coordinates: File | None = None
    topology: File | None = None
    parameters: list[File] = []
    solvent: Solvent = "auto"
    box_nm: Edges | None = None
    ligand: File | None = None
    water_edge_nm: Annotated[float, Field(gt=0, le=50)] | None = None
    start: File | None = None
    ligand_residues: list[str] = []
    force_field: list[FileName] | None = None
    nonbonded_cutoff_nm: Positive | None = None

    @model_validator(mode="after")
    def _one_form(self) -> ComplexRow:
        if (self.coordinates is None) == (self.ligand is None):
            cure = "not both" if self.ligand is not None else "with its topology or under a force field"
            raise ValueError(f"give coordinates or a ligand, {cure}")
        form = "coordinates" if self.ligand is None else "ligand"
        of_ligand, of_coordinates = ("water_edge_nm",), ("topology", "parameters", "box_nm", "ligand_residues")
        others = of_ligand if form == "coordinates" else of_coordinates
        wrong = next((key for key in others if getattr(self, key)), None)
        if wrong is not None:
            raise ValueError(f"{wrong} does not go with {form}: leave it out")
        return self


class SystemSection(Section):
    """[system]: the molecule, its start, its target and its force field; or many complexes of one protein."""

    name: Name
    model: Literal["all-atom", "go"] = "all-atom"
    start: File | None = None
    target: File | None = None
    topology: File | None = None
    parameters: list[File] = []
    solvent: Solvent = "auto"
    box_nm: Edges | None = None
    descriptor: Descriptor = ["CA"]
    force_field: list[FileName] = ["amber99sbildn.xml", "amber99_obc.xml"]
    site: list[str] = []
    complexes: list[ComplexRow] = []
    note: str = ""

    @model_validator(mode="after")
    def _has_its_files(self) -> SystemSection:
        if not self.complexes:
            missing = [key for key in ("start", "target") if getattr(self, key) is None]
            if missing:
                raise ValueError(f"the setting system.{missing[0]} is missing: add it to the config file")
            return self
        names = [row.name.casefold() for row in self.complexes]  # some file systems do not tell cases apart
        twice = next((row.name for i, row in enumerate(self.complexes) if row.name.casefold() in names[:i]), None)
        if twice is not None:
            raise ValueError(f"two complexes have the name {twice}: their files would be the same, rename one")
        if self.model != "all-atom":
            raise ValueError("complexes are all-atom: leave system.model out")
        alone = next((row.name for row in self.complexes if row.ligand is not None), None)
        if alone is not None and (self.start is None or not self.site):
            raise ValueError(f"complex {alone} is a ligand alone: set system.start to the protein, and system.site to "
                             "the residues on which it is set down")
        return self

    @property
    def topologies(self) -> tuple[str, ...]:
        """Names of the topologies, in the order of their indices."""
        return tuple(row.name for row in self.complexes) or (self.name,)

    @property
    def target_name(self) -> str:
        """What RMSDs are to: the target's file, or the protein as the first complex has it."""
        return "the first complex" if self.target is None else self.target.stem


class SimulationSection(Section):
    """[simulation]: the engine and its integrator (IV-C of the paper)."""

    engine: Literal["openmm", "emulated"] = "openmm"
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
    minimize_iterations: Annotated[int, Field(ge=0)] = 0
    contexts_mb: Positive = 1000.0
    turn: Duration = 1.0
    failures_per_walker: Count = 20
    trajectory_format: Literal["dcd", "xtc"] = "dcd"

    @model_validator(mode="after")
    def _divides(self) -> SimulationSection:
        if self.report_interval_ps * 1000 < self.timestep_fs:
            raise ValueError("report_interval_ps must be at least one timestep_fs")
        steps = self.report_interval_ps * 1000 / self.timestep_fs
        if steps > MOST:
            raise ValueError(f"report_interval_ps must be at most {MOST} timesteps")
        if abs(steps - round(steps)) > 1e-6 * steps:
            raise ValueError(f"report_interval_ps must be a whole number of timesteps, not {steps:.2f} of timestep_fs")
        if self.segment_ps < self.report_interval_ps:
            raise ValueError("segment_ps must be at least one report_interval_ps")
        return self

    @property
    def steps_per_report(self) -> int:
        """Integration steps between two reports."""
        return max(1, round(self.report_interval_ps * 1000 / self.timestep_fs))

    @property
    def reports_per_segment(self) -> int:
        """Reports of a full segment."""
        return max(1, round(self.segment_ps / self.report_interval_ps))


class EmulationSection(Section):
    """[emulation]: what the engine "emulated" shows and how fast, and how long rounds of the model are made to take."""

    report_seconds: Positive = 1.0
    trajectory: File | None = None
    training_seconds: NonNegative = 0.0
    inference_seconds: NonNegative = 0.0
    jitter: Fraction = 0.0


class OrderParameter(Section):
    """One declared order parameter: `kind` names a function of structure/order_parameters.py."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=100)]
    kind: Literal["radius_of_gyration", "fraction_of_native_contacts", "distance", "handedness", "ligand_contacts",
                  "ligand_rmsd"]
    residues: list[Annotated[int, Field(ge=0)]] = []


class FeaturesSection(Section):
    """[features]: what is computed of every frame."""

    cutoff_angstrom: Annotated[float, Field(gt=0, le=100)] = 8.0
    ligand_cutoff_angstrom: Annotated[float, Field(gt=0, le=100)] = 4.5
    order_parameters: list[OrderParameter] = [
        OrderParameter(name="radius_of_gyration", kind="radius_of_gyration"),
        OrderParameter(name="native_contacts", kind="fraction_of_native_contacts"),
    ]

    @property
    def ligand_contacts(self) -> int | None:
        """Which of the order parameters is the number of ligand contacts, None for none."""
        kinds = [p.kind for p in self.order_parameters]
        return kinds.index("ligand_contacts") if "ligand_contacts" in kinds else None


class StreamsSection(Section):
    """[streams]: the data plane. Limits hold per stream; a full outbox lets its oldest block go."""

    first_hop: Literal["adios2", "mpi"] = "adios2"
    engine: Literal["SST", "BP5"] = "SST"
    parameters: dict[str, str] = {}
    adios2_xml: File | None = None
    block_frames: Count = 64
    block_delay: Duration = 1.0
    queue_blocks: Count = 64
    queue_mb: Positive = 64.0
    in_flight_blocks: Count = 4


class AggregationSection(Section):
    """[aggregation]: the coordinate ring and the archive."""

    ring_mb: Positive = 64.0
    archive: Literal["full", "features", "none"] = "full"
    silent_after: Duration = 120.0


class TrainingSection(Section):
    """[training]: the model, its rounds (IV-D of the paper), and which of its versions steer."""

    model: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.-]*(:[A-Za-z_]\w*)?$")] = "cvae"
    options: dict[str, Any] = {}
    latent_dimensions: Size | Auto = "auto"
    dense_units: Size = 128
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.4
    filters: Size | Auto = "auto"
    learning_rate: Positive | Auto = "auto"
    rho: Fraction = 0.9
    epsilon: Positive = 1e-8
    batch_size: Count = 64
    epochs: Count = 20
    patience: Count = 5
    validation_fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    window_frames: Count = 20_000
    first_frames: Annotated[int, Field(ge=2)] = 256
    retrain_growth: Annotated[float, Field(gt=1, le=1e6)] = 1.25
    retrain_frames: Count | None = None
    reinitialize: bool = False
    initial_weights: File | None = None
    max_validation_loss: Positive | Auto = "auto"
    select: Literal["latest", "best"] = "latest"
    keep_versions: Annotated[int, Field(ge=1)] | Literal["all"] = 20
    data_parallel: Literal["auto", "horovod", "mpi"] = "auto"
    mixed_precision: bool | Auto = "auto"
    xla: bool | Auto = "auto"
    threads: Size | Auto = "auto"


    @model_validator(mode="after")
    def _can_be_compared(self) -> TrainingSection:
        if self.select == "best" and not self.validation_fraction:
            raise ValueError("select = best compares validation losses: set validation_fraction above 0")
        if self.reinitialize and self.initial_weights is not None:
            raise ValueError("reinitialize begins every round with fresh weights: leave initial_weights out")
        return self


class SteeringSection(Section):
    """[steering]: which frames are rare, and which walkers restart from them."""

    strategy: Literal["ml", "greedy", "ml_rmsd", "ml_lof", "ml_contacts", "random", "none"] = "ml_rmsd"
    window_rounds: Positive = 5.0
    window_frames: Count = 20_000
    outlier_fraction_min: Fraction = 0.05
    outlier_fraction_max: Fraction = 0.25
    min_samples: Annotated[int, Field(ge=2)] = 10
    lof_neighbours: Annotated[int, Field(ge=2)] = 20
    restart_fraction: Fraction = 0.5
    round_reports: Count | Auto = "auto"
    children_per_parent: Count = 2
    min_latent_distance: NonNegative | Auto = "auto"
    copy_velocities_probability: Fraction = 0.0
    walkers_per_ligand_min: Annotated[int, Field(ge=0)] = 0
    walkers_per_ligand_max: Count | None = None
    threads: Size = 1

    @model_validator(mode="after")
    def _ordered(self) -> SteeringSection:
        if self.outlier_fraction_min > self.outlier_fraction_max:
            raise ValueError("outlier_fraction_min must not exceed outlier_fraction_max")
        if self.walkers_per_ligand_max is not None and self.walkers_per_ligand_min > self.walkers_per_ligand_max:
            raise ValueError("walkers_per_ligand_min must not exceed walkers_per_ligand_max")
        return self


class FileSection(Section):
    """[file]: the iterations of file mode, and which of them training and inference read (the published settings)."""

    iterations: Count | None = None
    retrain_every: Count = 1
    newest_iterations: Count = 10
    random_older: Annotated[int, Field(ge=0)] = 0
    aggregate: bool = True


class FaultsSection(Section):
    """[faults]: when a rank is taken for lost, and how many failures of the molecular dynamics are borne."""

    hang_after: Duration = 40.0
    stopped_after: Duration = 20.0
    start_within: Duration = 900.0
    failures_per_run: Count = 1000


class OutputSection(Section):
    """[output]: where the run directory goes, and what is shown."""

    directory: File | None = None
    progress: Literal["auto", "screen", "lines", "none"] = "auto"
    progress_interval: Duration = 1.0


class Config(Section):
    """All settings of a run."""

    run: RunSection
    ranks: RanksSection = RanksSection()
    system: SystemSection
    simulation: SimulationSection = SimulationSection()
    emulation: EmulationSection = EmulationSection()
    features: FeaturesSection = FeaturesSection()
    streams: StreamsSection = StreamsSection()
    aggregation: AggregationSection = AggregationSection()
    training: TrainingSection = TrainingSection()
    steering: SteeringSection = SteeringSection()
    file: FileSection = FileSection()
    faults: FaultsSection = FaultsSection()
    output: OutputSection = OutputSection()

    @model_validator(mode="after")
    def _gradients_can_be_summed(self) -> Config:
        several, settings = self.ranks.training not in ("auto", 1), self.training
        if several and settings.model in ("aae", "pca") and settings.data_parallel == "horovod":
            raise ValueError(f"model {settings.model} learns by MPI: set training.data_parallel to auto or mpi")
        return self

    @model_validator(mode="after")
    def _strategy_has_its_model(self) -> Config:
        if self.training.model == "none" and self.steering.strategy.startswith("ml"):
            raise ValueError(f"strategy {self.steering.strategy} needs a model: set training.model to cvae")
        return self

    @model_validator(mode="after")
    def _target_is_there_where_it_is_needed(self) -> Config:
        if self.system.target is not None:
            return self
        if self.steering.strategy in ("greedy", "ml_rmsd"):
            raise ValueError(f"strategy {self.steering.strategy} needs a target: set system.target, or "
                             "steering.strategy to ml_lof or ml_contacts")
        if self.run.target_rmsd_angstrom is not None:
            raise ValueError("run.target_rmsd_angstrom needs a target: set system.target")
        if self.simulation.engine == "emulated":
            raise ValueError("the engine emulated moves from the start to the target: set system.target")
        return self

    @model_validator(mode="after")
    def _ligands_are_there_where_they_are_needed(self) -> Config:
        kinds = {p.kind for p in self.features.order_parameters}
        of_ligands = sorted(kind for kind in kinds if kind.startswith("ligand_"))
        if of_ligands and not self.system.complexes:
            raise ValueError(f"order parameter {of_ligands[0]} needs ligands: list the complexes in system.complexes")
        if self.steering.strategy == "ml_contacts" and self.features.ligand_contacts is None:
            raise ValueError("strategy ml_contacts ranks by an order parameter of the kind ligand_contacts: add one to "
                             "features.order_parameters")
        if self.emulation.trajectory is not None and len(self.system.complexes) > 1:
            raise ValueError("emulation.trajectory is of one topology: leave it out, or list one complex")
        return self

    @model_validator(mode="after")
    def _iterations_have_their_mode(self) -> Config:
        if self.file.iterations is not None and self.run.mode != "file":
            raise ValueError("file.iterations counts the iterations of file mode: add --mode file, or give --duration")
        return self

    @model_validator(mode="after")
    def _emulation_has_its_stage(self) -> Config:
        if self.emulation.trajectory is not None and self.simulation.engine != "emulated":
            raise ValueError("emulation.trajectory is replayed by one engine only: set simulation.engine to emulated")
        if self.emulation.training_seconds and self.training.model == "none":
            raise ValueError("emulation.training_seconds needs rounds of training: set training.model, to pca say")
        return self

    @property
    def note(self) -> str:
        """What to know before using the results: the system's note, and what was emulated."""
        emulation, notes = self.emulation, [self.system.note] if self.system.note else []
        if self.simulation.engine == "emulated":
            kind = "made up" if emulation.trajectory is None else f"replayed from {emulation.trajectory.name}"
            notes.append(f"emulated molecular dynamics: the frames are {kind}, one in {emulation.report_seconds:g} s")
        stretched = [f"{stage} take {spent:g} s" for stage, spent in (
            ("rounds of training", emulation.training_seconds), ("rounds of inference", emulation.inference_seconds)
        ) if spent]
        if stretched:
            notes.append(f"emulated: {' and '.join(stretched)} at least")
        return "; ".join(notes)
