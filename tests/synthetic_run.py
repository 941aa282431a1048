"""A run directory without a run: a made-up steered ensemble in the formats of the real one (docs/outputs.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

EPOCH_0 = 1_700_000_000.0
REPORT_PS, REPORTS_PER_SEGMENT = 0.4, 10


@dataclass
class Walker:
    """What a walker has written so far."""

    rmsd: float
    time_ps: float = 0.0
    segment: int = -1
    begun: float = 0.0
    frames: list[tuple] = field(default_factory=list)
    lines: list[dict] = field(default_factory=list)


class SyntheticRun:
    """Made-up walkers that drift at random and are steered towards low RMSD."""

    def __init__(
        self, n_walkers: int = 4, n_rounds: int = 24, seed: int = 1, strategy: str = "ml_rmsd", n_training: int = 1
    ):
        self.random = np.random.default_rng(seed)
        self.strategy, self.n_rounds, self.n_training = strategy, n_rounds, n_training
        self.walkers = [Walker(self.random.uniform(5, 7)) for _ in range(n_walkers)]
        self.events: dict[str, list[dict]] = {}
        self.decisions: list[dict] = []
        self.rounds: list[dict] = []
        self.models: list[dict] = []
        self.seconds_per_report = 7.0 / (REPORTS_PER_SEGMENT * n_walkers)
        self.now = EPOCH_0
        self.best: tuple[float, int, int] = (np.inf, -1, -1)

    def write(self, directory: Path) -> Path:
        """Simulate and write every file."""
        self._event("start", "simulation", 0, EPOCH_0, 1.3)
        for role, rank in (("training", 2), ("inference", 3)):
            self._event("start", role, rank, EPOCH_0, 8.0 + rank)
        self.now += 1.3
        for i in range(len(self.walkers)):
            self._begin(i, {}, restart_point=True)
        for number in range(1, self.n_rounds + 1):
            for _ in range(REPORTS_PER_SEGMENT):
                for i in range(len(self.walkers)):
                    self._report(i)
            self._train(number)
            restarted = self._infer(number)
            for i in set(range(len(self.walkers))) - restarted:
                self._end(i, "complete")
                w = self.walkers[i]
                own = {"source_walker": i, "source_segment": w.segment, "source_frame": len(w.frames) - 1}
                self._begin(i, own, restart_point=False)
        for i in range(len(self.walkers)):
            self._end(i, "stop")
        self._write(directory)
        return directory

    def _begin(self, i: int, source: dict, *, restart_point: bool, decision: int = -1) -> None:
        w = self.walkers[i]
        w.segment, w.begun = w.segment + 1, self.now
        none = {"source_walker": -1, "source_segment": -1, "source_frame": -1}
        w.lines.append({
            "walker": i, "segment": w.segment, "first_frame": len(w.frames), "restart_point": restart_point,
            "decision": decision, **(source or none), "velocity_seed": 1000 * i + w.segment, "time_ps": w.time_ps,
            "start": self.now,
        })  # fmt: skip
        if restart_point:
            self._frame(w, float("nan"))

    def _frame(self, w: Walker, energy: float) -> None:
        w.frames.append((len(w.frames), w.segment, w.time_ps, w.rmsd, energy, 4.8 + 0.4 * w.rmsd, 1 / (1 + w.rmsd)))

    def _report(self, i: int) -> None:
        w = self.walkers[i]
        self.now += self.seconds_per_report
        w.time_ps += REPORT_PS
        pull = 0.03 * (5.6 - w.rmsd) if w.rmsd > 2.2 else 0.0
        w.rmsd = max(0.6, w.rmsd + pull + 0.22 * self.random.standard_normal())
        self._frame(w, -1500 + 20 * self.random.standard_normal())
        self.best = min(self.best, (w.rmsd, i, len(w.frames) - 1))
        if len(w.frames) % 5 == 0:
            self._event("block", "aggregation", 1, self.now, 0.02, frames=5, stream=f"sim-{i}")

    def _end(self, i: int, reason: str) -> None:
        w = self.walkers[i]
        reports = len(w.frames) - w.lines[-1]["first_frame"] - w.lines[-1]["restart_point"]
        self._event("segment", "simulation", 0, w.begun, self.now - w.begun, walker=i, segment=w.segment,
                    frames=reports, ns=reports * REPORT_PS / 1000, reason=reason)  # fmt: skip

    def _train(self, number: int) -> None:
        if number % 3:
            return
        start, version = self.now - 11.0, len(self.models) + 1
        for epoch in range(8):
            step = len(self.models) * 8 + epoch
            loss = 60 + 420 / (1 + 0.4 * step)
            last = {"loss": loss, "validation_loss": 1.05 * loss + 4 * self.random.standard_normal()}
            self._event("epoch", "training", 2, start + epoch, 1.0, round=version, **last,
                        reconstruction=0.9 * loss, divergence=0.1 * loss)  # fmt: skip
        result = {"version": version, "samples": 40 * number, "epochs": 8, **last}
        for i in range(self.n_training):
            self._event("train_round", "training", 2 if i == 0 else 3 + i, start, 10.5, round=version, window=50 + i,
                        published=True, accepted=True, stopped=False, reason="", drain_s=0.1 * i,
                        weights_crc32=1000 + version, **(result if i == 0 else {**result, "version": 0}))  # fmt: skip
        self.models.append({**result, "created": self.now, "architecture": {"latent": 10}})

    def _infer(self, number: int) -> set[int]:
        if not self.models or self.strategy == "none":
            return set()
        window = [(f[3], i, f[1], f[0]) for i, w in enumerate(self.walkers) for f in w.frames[-50:]]
        order = sorted(range(len(self.walkers)), key=lambda i: self.walkers[i].rmsd)
        worse, best = order[len(order) // 2 :], sorted(window)[: len(self.walkers)]
        restarted, method = set(), "dbscan" if number % 4 else "lof"
        for i in worse:
            rmsd, source, segment, frame = best[self.random.integers(len(best))]
            if rmsd < self.walkers[i].rmsd - 0.5:
                restarted.add(i) if self._decide(i, rmsd, (source, segment, frame), method) else None
        outliers = int(len(window) * self.random.uniform(0.06, 0.24))
        self._event("inference_round", "inference", 3, self.now - 0.6, 0.6, round=number, frames=len(window),
                    decisions=len(restarted), model_version=len(self.models))  # fmt: skip
        self.rounds.append({
            "round": number, "time": self.now, "frames": len(window), "model_version": len(self.models),
            "outliers": outliers, "eps": 0.4 + 0.1 * self.random.random(), "method": method,
            "best_rmsd_angstrom": min(window)[0], "median_rmsd_angstrom": float(np.median([w[0] for w in window])),
            "decisions": len(restarted),
        })  # fmt: skip
        return restarted

    def _decide(self, i: int, rmsd: float, source: tuple[int, int, int], method: str) -> bool:
        w, identity = self.walkers[i], len(self.decisions)
        stale, decided = identity % 9 == 8, self.now
        first_step = decided + float(self.random.gamma(2.0, 0.06))
        names = dict(zip(("walker", "segment", "frame"), source, strict=True))
        self.decisions.append({
            "decision": identity, "walker": i, "strategy": self.strategy, "model_version": len(self.models),
            "decided": decided, "delivered": first_step - 0.002, "first_step": None if stale else first_step,
            "outcome": "stale" if stale else "applied", "segment": None if stale else w.segment + 1,
            "source": {**names, "rmsd_angstrom": rmsd, "score": rmsd, "aggregator": 0, "slot": 3, "generation": 7},
            "replaced": {"rmsd_angstrom": w.rmsd, "score": w.rmsd}, "velocity_seed": 1000 * i + w.segment + 1,
            "outlier_method": method, "eps": 0.44,
        })  # fmt: skip
        if stale:
            return False
        self._end(i, "restart")
        w.rmsd = rmsd
        self._begin(i, {f"source_{k}": v for k, v in names.items()}, restart_point=True, decision=identity)
        return True

    def _event(self, name: str, role: str, rank: int, start: float, length: float, **more: object) -> None:
        span = {"name": name, "role": role, "rank": rank, "start": start, "end": start + length, **more}
        self.events.setdefault(f"{role}-{rank:04d}", []).append(span)

    def _write(self, directory: Path) -> None:
        for name in ("trajectories", "events"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        for i, w in enumerate(self.walkers):
            stem = directory / "trajectories" / f"sim-{i:04d}"
            header = "frame,segment,time_ps,rmsd_angstrom,potential_energy_kj_mol,radius_of_gyration,native_contacts"
            rows = [",".join(f"{v:.6g}" for v in frame) for frame in w.frames]
            Path(f"{stem}.frames.csv").write_text("\n".join([header, *rows]) + "\n")
            write_lines(Path(f"{stem}.segments.jsonl"), w.lines)
        for name, spans in self.events.items():
            write_lines(directory / "events" / f"{name}.jsonl", spans)
        write_lines(directory / "decisions.jsonl", self.decisions)
        write_lines(directory / "rounds.jsonl", self.rounds)
        for model in self.models:
            folder = directory / "models" / f"v{model['version']:06d}"
            folder.mkdir(parents=True)
            (folder / "metadata.json").write_text(json.dumps(model))
        (directory / "config.toml").write_text(self._settings())
        (directory / "summary.json").write_text(json.dumps(self._summary(), indent=1))

    def _settings(self) -> str:
        return (
            '[run]\nusecase = "cln025"\nmode = "stream"\nseed = 7\ntarget_rmsd_angstrom = 1.5\n'
            '[system]\nname = "cln025"\nmodel = "all-atom"\nnote = ""\n'
            '[simulation]\ntrajectory_format = "dcd"\n'
            '[features]\norder_parameters = [{name = "radius_of_gyration", kind = "radius_of_gyration"}, '
            '{name = "native_contacts", kind = "fraction_of_native_contacts"}]\n'
            "[training]\nepochs = 8\npatience = 5\n"
            f'[steering]\nstrategy = "{self.strategy}"\noutlier_fraction_min = 0.05\noutlier_fraction_max = 0.25\n'
        )

    def _summary(self) -> dict:
        wall = self.now - EPOCH_0
        ns = sum(w.time_ps for w in self.walkers) / 1000
        role = {"iterations": 24, "iterations_per_hour": 500.0, "mean_s": 6.9, "busy_fraction": 0.97}
        return {
            "usecase": "cln025", "mode": "stream", "wall_s": wall, "completed": True, "stop_reason": "time is up",
            "ranks": {"simulation": 1, "aggregation": 1, "training": self.n_training, "inference": 1},
            "roles": dict.fromkeys(("simulation", "aggregation", "training", "inference"), role),
            "simulation": {"aggregate_ns": ns, "ns_per_day": ns / wall * 86400, "failures": 0},
            "training": {"data_parallel": "horovod" if self.n_training > 1 else "none"},
            "science": {"best_rmsd_angstrom": self.best[0],
                        "best_rmsd_source": {"walker": self.best[1], "frame": self.best[2]}},
        }  # fmt: skip


def write_lines(path: Path, records: list[dict]) -> None:
    """Write records as JSON lines."""
    path.write_text("".join(json.dumps(r) + "\n" for r in records))


def in_format_1(directory: Path) -> None:
    """Write the records of a run as format 1 has them."""
    old = {"walker": "simulation", "source_walker": "source_simulation"}
    for path in directory.rglob("*.jsonl"):
        records = [
            {old.get(key, key): value for key, value in record.items()}
            for record in map(json.loads, path.read_text().splitlines())
        ]
        for record in records:
            if "source" in record:
                record["source"] = {old.get(key, key): value for key, value in record["source"].items()}
        write_lines(path, records)
