"""Every setting of a run: its name, its type, its default and its bounds.

Units stand in the keys' names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from .dynamics import PROGRAMS, EmulationSection, EngineSection, FeaturesSection, SimulationSection, SystemSection
from .strategies import BUILT_IN, check_strategy
from .values import (
    LARGEST,
    Auto,
    Bounds,
    Count,
    Duration,
    File,
    Fraction,
    Interface,
    Name,
    NonNegative,
    PlugIn,
    Positive,
    Section,
    Size,
)


@dataclass(frozen=True, kw_only=True)
class RunSection(Section):
    """[run]: what to run, for how long, and where to stop."""

    usecase: Name
    mode: Literal["stream", "file"] = "stream"
    duration: Duration = 180.0
    seed: Annotated[int, Bounds(ge=0, lt=2**31)] = 2023
    target_rmsd_angstrom: Positive | None = None
    target_arrivals: Count = 1
    rmsd_plateau_ns: Positive | None = None
    coverage_plateau_ns: Positive | None = None
    coverage_resolution_angstrom: Positive = 2.0
    drain: Duration = 30.0
    margin: Duration = 60.0
    checkpoint_interval: Duration = 600.0

    def __post_init__(self) -> None:
        if self.target_arrivals > 1 and self.target_rmsd_angstrom is None:
            raise ValueError("target_arrivals counts arrivals at a target: set target_rmsd_angstrom")


@dataclass(frozen=True, kw_only=True)
class RanksSection(Section):
    """[ranks]: how many ranks each role gets; "auto" fills the machine."""

    simulation: Count | Auto = "auto"
    aggregation: Count | Auto = "auto"
    training: Count | Auto = "auto"
    inference: Annotated[int, Bounds(ge=1, le=1)] | Auto = "auto"
    simulations_per_aggregator: Count = 12


@dataclass(frozen=True, kw_only=True)
class StreamsSection(Section):
    """[streams]: the data plane. Limits hold per stream; a full outbox drops its oldest block."""

    first_hop: Literal["adios2", "mpi"] = "adios2"
    engine: Literal["SST", "BP5"] = "SST"
    interface: Interface | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    adios2_xml: File | None = None
    block_frames: Count = 64
    block_delay: Duration = 1.0
    queue_blocks: Count = 1024
    queue_mb: Positive = 64.0
    in_flight_blocks: Count = 4


@dataclass(frozen=True, kw_only=True)
class AggregationSection(Section):
    """[aggregation]: the coordinate ring and the archive."""

    ring_mb: Positive = 64.0
    archive: Literal["full", "features", "none"] = "full"
    silent_after: Duration = 120.0


@dataclass(frozen=True, kw_only=True)
class TrainingSection(Section):
    """[training]: the model, its rounds (IV-D of the paper), and which of its versions steer."""

    model: PlugIn = "cvae"
    options: dict[str, Any] = field(default_factory=dict)
    latent_dimensions: Size | Auto = "auto"
    dense_units: Size = 128
    dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.4
    filters: Size | Auto = "auto"
    learning_rate: Positive | Auto = "auto"
    rho: Fraction = 0.9
    epsilon: Positive = 1e-8
    batch_size: Count = 64
    epochs: Count = 20
    patience: Count = 5
    validation_fraction: Annotated[float, Bounds(ge=0, le=0.5)] = 0.2
    window_frames: Count = 20_000
    first_frames: Annotated[int, Bounds(ge=2)] = 256
    retrain_growth: Annotated[float, Bounds(gt=1, le=1e6)] = 1.25
    retrain_frames: Count | None = None
    reinitialize: bool = False
    initial_weights: File | None = None
    max_validation_loss: Positive | Auto = "auto"
    select: Literal["latest", "best"] = "latest"
    keep_versions: Annotated[int, Bounds(ge=1)] | Literal["all"] = 20
    data_parallel: Literal["auto", "horovod", "mpi"] = "auto"
    mixed_precision: bool | Auto = "auto"
    xla: bool | Auto = "auto"
    threads: Size | Auto = "auto"

    def __post_init__(self) -> None:
        if self.select == "best" and not self.validation_fraction:
            raise ValueError("select = best compares validation losses: set validation_fraction above 0")
        if self.reinitialize and self.initial_weights is not None:
            raise ValueError("reinitialize begins every round with fresh weights: leave initial_weights out")


@dataclass(frozen=True, kw_only=True)
class SteeringSection(Section):
    """[steering]: which frames are rare, and which walkers restart from them."""

    strategy: PlugIn = "ml_rmsd"
    options: dict[str, Any] = field(default_factory=dict)
    coordinate: Name | None = None
    coordinate_goal: Literal["down", "up"] | Annotated[float, Bounds(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)] = (
        "down"
    )
    window_rounds: Positive = 5.0
    window_frames: Count = 20_000
    outlier_fraction_min: Fraction = 0.05
    outlier_fraction_max: Fraction = 0.25
    min_samples: Annotated[int, Bounds(ge=2)] = 10
    lof_neighbours: Annotated[int, Bounds(ge=2)] = 20
    restart_fraction: Fraction = 0.5
    round_reports: Count | Auto = "auto"
    children_per_parent: Count = 2
    min_latent_distance: NonNegative | Auto = "auto"
    instant_model: bool = True
    copy_velocities_probability: Fraction = 0.0
    walkers_per_ligand_min: Annotated[int, Bounds(ge=0)] = 0
    walkers_per_ligand_max: Count | None = None
    threads: Size = 1

    def __post_init__(self) -> None:
        if self.outlier_fraction_min > self.outlier_fraction_max:
            raise ValueError("outlier_fraction_min must not exceed outlier_fraction_max")
        if self.walkers_per_ligand_max is not None and self.walkers_per_ligand_min > self.walkers_per_ligand_max:
            raise ValueError("walkers_per_ligand_min must not exceed walkers_per_ligand_max")
        check_strategy(self.strategy, self.options)

    @property
    def needs(self) -> frozenset[str]:
        """What a built-in strategy needs of the run; one of the user's own says so where it is loaded."""
        built_in = BUILT_IN.get(self.strategy)
        return frozenset() if built_in is None else built_in.needs


@dataclass(frozen=True, kw_only=True)
class FileSection(Section):
    """[file]: the iterations of file mode, and which of them training and inference read (the published settings)."""

    iterations: Count | None = None
    retrain_every: Count = 1
    newest_iterations: Count = 10
    random_older: Annotated[int, Bounds(ge=0)] = 0
    aggregate: bool = True


@dataclass(frozen=True, kw_only=True)
class FaultsSection(Section):
    """[faults]: when a rank is declared lost, and how many failures of the molecular dynamics are tolerated."""

    hang_after: Duration = 40.0
    stopped_after: Duration = 20.0
    start_within: Duration = 900.0
    failures_per_run: Count = 1000


@dataclass(frozen=True, kw_only=True)
class OutputSection(Section):
    """[output]: where the run directory goes, what is shown, and at which ports walkers can be watched."""

    directory: File | None = None
    progress: Literal["auto", "screen", "lines", "none"] = "auto"
    progress_interval: Duration = 1.0
    imd_port: Annotated[int, Bounds(ge=1024, le=65_535)] | None = None
    imd_address: Annotated[str, Bounds(pattern=r"^[A-Za-z0-9.:_-]+$", max_length=253)] = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Config(Section):
    """All settings of a run."""

    run: RunSection
    ranks: RanksSection = field(default_factory=RanksSection)
    system: SystemSection
    simulation: SimulationSection = field(default_factory=SimulationSection)
    engine: EngineSection = field(default_factory=EngineSection)
    emulation: EmulationSection = field(default_factory=EmulationSection)
    features: FeaturesSection = field(default_factory=FeaturesSection)
    streams: StreamsSection = field(default_factory=StreamsSection)
    aggregation: AggregationSection = field(default_factory=AggregationSection)
    training: TrainingSection = field(default_factory=TrainingSection)
    steering: SteeringSection = field(default_factory=SteeringSection)
    file: FileSection = field(default_factory=FileSection)
    faults: FaultsSection = field(default_factory=FaultsSection)
    output: OutputSection = field(default_factory=OutputSection)

    def __post_init__(self) -> None:
        self._gradients_can_be_summed()
        self._strategy_has_its_model()
        self._target_is_there_where_it_is_needed()
        self._order_parameters_are_there_where_they_are_needed()
        self._ligands_are_there_where_they_are_needed()
        self._iterations_have_their_mode()
        self._programs_have_their_engine()
        self._emulation_has_its_stage()

    def _gradients_can_be_summed(self) -> None:
        several, settings = self.ranks.training not in ("auto", 1), self.training
        if several and settings.model in ("aae", "pca", "tica") and settings.data_parallel == "horovod":
            raise ValueError(f"model {settings.model} learns by MPI: set training.data_parallel to auto or mpi")

    def _strategy_has_its_model(self) -> None:
        if self.training.model == "none" and self.steering.needs & {"latents", "outliers"}:
            raise ValueError(f"strategy {self.steering.strategy} needs a model: set training.model to cvae")

    def _target_is_there_where_it_is_needed(self) -> None:
        if self.system.target is not None:
            return
        if "coordinate" in self.steering.needs and self.steering.coordinate is None:
            raise ValueError(
                f"strategy {self.steering.strategy} needs a target: set system.target or steering.coordinate, or "
                "steering.strategy to ml_lof or ml_contacts"
            )
        if self.run.target_rmsd_angstrom is not None:
            raise ValueError("run.target_rmsd_angstrom needs a target: set system.target")
        if self.run.rmsd_plateau_ns is not None:
            raise ValueError("run.rmsd_plateau_ns needs a target: set system.target, or run.coverage_plateau_ns")
        if self.simulation.engine == "emulated":
            raise ValueError("the engine emulated moves from the start to the target: set system.target")

    def _order_parameters_are_there_where_they_are_needed(self) -> None:
        names, steering = [p.name for p in self.features.order_parameters], self.steering
        if steering.coordinate is not None and steering.coordinate not in names:
            known = f"choose one of {', '.join(names)}, or add it to" if names else "add it to"
            raise ValueError(
                f"steering.coordinate {steering.coordinate} is no order parameter: {known} features.order_parameters"
            )
        if steering.coordinate is None and steering.coordinate_goal != "down":
            raise ValueError("steering.coordinate_goal is for an order parameter: set steering.coordinate to its name")
        if "order_parameters" in steering.needs and not names:
            raise ValueError(f"strategy {steering.strategy} needs order parameters: add some to features")

    def _ligands_are_there_where_they_are_needed(self) -> None:
        kinds = {p.kind for p in self.features.order_parameters}
        of_ligands = sorted(kind for kind in kinds if kind.startswith("ligand_"))
        if of_ligands and not self.system.complexes:
            raise ValueError(f"order parameter {of_ligands[0]} needs ligands: list the complexes in system.complexes")
        if self.steering.strategy == "ml_contacts" and self.features.ligand_contacts is None:
            raise ValueError(
                "strategy ml_contacts ranks by an order parameter of the kind ligand_contacts: add one to "
                "features.order_parameters"
            )
        if self.emulation.trajectory is not None and len(self.system.complexes) > 1:
            raise ValueError("emulation.trajectory is of one topology: leave it out, or list one complex")

    def _iterations_have_their_mode(self) -> None:
        if self.file.iterations is not None and self.run.mode != "file":
            raise ValueError("file.iterations counts the iterations of file mode: add --mode file, or give --duration")

    def _programs_have_their_engine(self) -> None:
        given = next(
            (key for key in ("program", "arguments", "input", "extra_input") if getattr(self.engine, key)), None
        )
        if given is not None and self.simulation.engine not in PROGRAMS:
            raise ValueError(
                f"engine.{given} is for an engine that is a program: set simulation.engine to {' or '.join(PROGRAMS)}"
            )

    def _emulation_has_its_stage(self) -> None:
        if self.emulation.trajectory is not None and self.simulation.engine != "emulated":
            raise ValueError("emulation.trajectory is replayed by one engine only: set simulation.engine to emulated")
        if (self.emulation.markov_model is not None) != (self.simulation.engine == "markov"):
            raise ValueError(
                "the engine markov and emulation.markov_model go together: set both, or take the use case bba-go-markov"
            )
        for key, given in (
            ("batch_reports", self.emulation.batch_reports > 1),
            ("wait_for_rounds", self.emulation.wait_for_rounds),
        ):
            if given and self.simulation.engine != "markov":
                raise ValueError(f"emulation.{key} is for a Markov model: set simulation.engine to markov")
        if self.emulation.training_seconds and self.training.model == "none":
            raise ValueError("emulation.training_seconds needs rounds of training: set training.model (to pca, ...)")

    @property
    def round_reports(self) -> int:
        """Reports of each walker in a round of inference."""
        reports = self.steering.round_reports
        return self.simulation.reports_per_segment if reports == "auto" else reports

    @property
    def paced(self) -> bool:
        """Whether walkers wait for the rounds of inference; there are none to wait for with the strategy none."""
        return self.emulation.wait_for_rounds and self.steering.strategy != "none"

    @property
    def coordinate(self) -> int | None:
        """Which of the order parameters strategies rank by; None for the RMSD."""
        names, name = [p.name for p in self.features.order_parameters], self.steering.coordinate
        return None if name is None else names.index(name)

    @property
    def note(self) -> str:
        """What to know before using the results: the system's note, and what was emulated."""
        emulation, notes = self.emulation, [self.system.note] if self.system.note else []
        if self.simulation.engine == "emulated":
            kind = "made up" if emulation.trajectory is None else f"replayed from {emulation.trajectory.name}"
            notes.append(f"emulated molecular dynamics: the frames are {kind}, one in {emulation.report_seconds:g} s")
        if emulation.markov_model is not None:
            notes.append(f"no molecular dynamics: frames are draws from the Markov model {emulation.markov_model.name}")
        stretched = [
            f"{stage} take {spent:g} s"
            for stage, spent in (
                ("rounds of training", emulation.training_seconds),
                ("rounds of inference", emulation.inference_seconds),
            )
            if spent
        ]
        if stretched:
            notes.append(f"emulated: {' and '.join(stretched)} at least")
        return "; ".join(notes)
