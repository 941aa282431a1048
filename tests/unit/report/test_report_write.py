import base64
import csv
import json
import re
import shutil

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic_files import write_model, write_trajectories
from synthetic_run import SyntheticRun

from ddmd_mpi.analysis import open_run
from ddmd_mpi.errors import InputError, RunDirectoryError
from ddmd_mpi.report.flows import flow_table
from ddmd_mpi.report.paper import paper_table
from ddmd_mpi.report.performance import latencies_ms, merged
from ddmd_mpi.report.projections import principal_components, project
from ddmd_mpi.report.science import MAX_WALKERS, best_frame, iterations, sampled, shown_walkers
from ddmd_mpi.report.style import figure
from ddmd_mpi.report.tables import cell, covered, decision_table, role_table, segment_table
from ddmd_mpi.report.text import captions, paragraph, warnings
from ddmd_mpi.report.write import Wanted, write_report

PLOTS = {"progress", "native_contacts", "histograms", "lineage", "timeline", "learning", "latency", "rounds", "flows"}
TABLES = {"roles", "paper", "decisions", "segments", "rounds", "training", "models", "flows"}


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A steered run with its report."""
    directory = SyntheticRun(n_rounds=12).write(tmp_path_factory.mktemp("reported"))
    return directory, write_report(directory)


def test_everything_is_written_and_named(reported):
    directory, paths = reported
    assert paths[0] == directory / "report.html"
    assert {p.stem for p in paths if p.suffix == ".png"} == PLOTS
    assert {p.stem for p in paths if p.suffix == ".csv"} == TABLES
    assert all(p.stat().st_size > 0 for p in paths)


def test_the_page_needs_no_other_file(reported):
    page = reported[0].joinpath("report.html").read_text()
    assert len(re.findall(r'src="data:image/png;base64,', page)) == len(PLOTS)
    assert len(re.findall(r"src=", page)) == len(PLOTS)
    plain = re.sub(r"<script>.*?</script>", "", re.sub(r"base64,[^\"]*", "", page), flags=re.DOTALL)
    assert "http:" not in plain
    assert "https:" not in plain
    assert "default-src 'none'" in plain, "a browser refuses what a script would load"


def test_the_page_says_where_the_best_structure_is(reported):
    frames = open_run(reported[0]).timeline
    simulated = ~frames["restart_point"]
    best = np.flatnonzero(simulated)[np.argmin(frames["rmsd_angstrom"][simulated])]
    page = reported[0].joinpath("report.html").read_text()
    walker = int(frames["walker"][best])
    assert f"{frames['rmsd_angstrom'][best]:.2f} Å (Cα RMSD) from the target" in page
    assert f"frame {int(frames['frame'][best])} of trajectories/sim-{walker:04d}.dcd" in page


def test_native_contacts_stand_beside_the_best_rmsd(reported, fresh):
    run = open_run(reported[0])
    best = best_frame(run)
    rmsd, native = (run.timeline[name][best] for name in ("rmsd_angstrom", "native_contacts"))
    assert native == pytest.approx(1 / (1 + rmsd), rel=1e-4)
    page = reported[0].joinpath("report.html").read_text()
    assert f"It has {100 * native:.0f} % of the native contacts" in page
    settings = (fresh / "config.toml").read_text().replace("fraction_of_native_contacts", "handedness")
    (fresh / "config.toml").write_text(settings)
    write_report(fresh)
    assert "native contacts" not in (fresh / "report.html").read_text().partition("<h2>")[0]


def test_a_steered_run_warns_that_populations_are_none(reported):
    page = reported[0].joinpath("report.html").read_text()
    assert "not an equilibrium sample" in page


def test_populations_are_shown_with_their_verdict_if_they_were_estimated(fresh, reported):
    assert "Populations and free energies" not in (reported[0] / "report.html").read_text()
    (fresh / "populations").mkdir()
    with figure(fresh / "populations" / "free_energies.png"):
        pass
    (fresh / "populations" / "summary.txt").write_text("Not enough data: do not use these numbers.\n  the target\n")
    write_report(fresh)
    page = (fresh / "report.html").read_text()
    assert "Not enough data: do not use these numbers. the target" in page
    assert base64.b64encode((fresh / "populations" / "free_energies.png").read_bytes()).decode() in page


def test_the_decision_table_holds_latencies(reported):
    with open(reported[0] / "tables" / "decisions.csv") as file:
        rows = list(csv.DictReader(file))
    run = open_run(reported[0])
    assert len(rows) == len(run.decisions)
    applied = [float(r["latency_ms"]) for r in rows if r["outcome"] == "applied"]
    assert np.allclose(applied, latencies_ms(run), rtol=1e-4)
    assert all(r["latency_ms"] == "" for r in rows if r["outcome"] == "stale")


def test_a_run_that_has_just_begun_says_no_data(tmp_path):
    (tmp_path / "config.toml").write_text('[run]\nusecase = "bba"\n')
    assert write_report(tmp_path) == [tmp_path / "report.html"]
    page = (tmp_path / "report.html").read_text()
    assert page.count("no data") >= len(PLOTS) + len(TABLES)
    assert "did not complete" in page


def test_what_is_no_run_is_left_alone(tmp_path):
    with pytest.raises(RunDirectoryError):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_plain_ensemble_is_drawn_without_rounds(tmp_path):
    paths = write_report(SyntheticRun(n_rounds=5, strategy="none").write(tmp_path / "run"))
    drawn = {p.stem for p in paths if p.suffix == ".png"}
    assert drawn == {"progress", "histograms", "lineage", "timeline", "learning", "native_contacts"}


def test_a_killed_run_is_reported(fresh):
    for path in [*fresh.glob("events/*"), *fresh.glob("trajectories/*"), fresh / "decisions.jsonl"]:
        path.write_bytes(path.read_bytes()[:-17])
    (fresh / "summary.json").unlink()
    assert len(write_report(fresh)) == 1 + len(PLOTS) + len(TABLES)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.floats(0, 1), min_size=24, max_size=24))
def test_files_cut_anywhere_are_read(steered, tmp_path_factory, cuts):
    directory = tmp_path_factory.mktemp("cut") / "run"
    shutil.copytree(steered, directory)
    files = [p for p in sorted(directory.rglob("*")) if p.is_file()]
    for path, cut in zip(files, cuts, strict=False):
        data = path.read_bytes()
        path.write_bytes(data[: int(cut * len(data))])
    run = open_run(directory)
    segments = run.segments
    assert paragraph(run, segments)
    assert captions(run).keys() == PLOTS - {"flows"}
    assert len(segment_table(run, segments)) == len(segments)
    assert len(decision_table(run)) == len(run.decisions)
    assert isinstance(run.contradictions(), list)
    role_table(run)
    paper_table(run)
    flow_table(run)


def test_roles_are_counted_from_events_without_a_summary(fresh):
    (fresh / "summary.json").unlink()
    rows = {r["role"]: r for r in role_table(open_run(fresh))}
    assert rows["simulation"]["iterations"] == len(open_run(fresh).spans("segment"))
    assert 0.5 < rows["simulation"]["busy_fraction"] <= 1.0


def test_the_note_of_a_model_that_is_no_biophysics_comes_first(fresh):
    path = fresh / "config.toml"
    path.write_text(path.read_text().replace('note = ""', 'note = "Tests the steering, not BBA."'))
    assert warnings(open_run(fresh))[0] == "Tests the steering, not BBA."


def test_a_target_that_was_reached_is_said(fresh):
    summary = json.loads((fresh / "summary.json").read_text())
    (fresh / "summary.json").write_text(json.dumps({**summary, "stop_reason": "target_rmsd"}))
    run = open_run(fresh)
    assert "target RMSD reached" in " ".join(paragraph(run, run.segments))


def test_every_frame_belongs_to_one_iteration(steered):
    run = open_run(steered)
    rows = sampled(run)
    groups, labels, _ = iterations(run, rows)
    assert sorted(np.concatenate(groups)) == sorted(rows)
    assert len(groups) == len(labels) <= 8
    walls = [run.timeline["wall"][g].max() for g in groups]
    assert walls == sorted(walls)


def test_the_best_frame_is_none_without_frames(tmp_path):
    (tmp_path / "events").mkdir()
    assert best_frame(open_run(tmp_path)) is None


def test_the_walkers_on_the_way_are_among_those_shown(tmp_path):
    run = open_run(SyntheticRun(n_walkers=60, n_rounds=1).write(tmp_path / "run"))
    shown = shown_walkers(run, [59, 31])
    assert {59, 31} <= set(shown)
    assert len(shown) == MAX_WALKERS
    assert shown == sorted(shown)


def test_spans_too_close_for_the_eye_are_one():
    many = [(i * 0.01, i * 0.01 + 0.0099) for i in range(10_000)]
    bars = merged([*many, (200.0, 201.0)], 1.0)
    assert np.allclose(bars, [[0, 99.9999], [200, 1]], atol=1e-3)


def test_covered_counts_overlaps_once():
    assert covered([(0, 2), (1, 3), (5, 6)]) == 4


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (float("nan"), ""), (0.123456789, "0.123457"), (1.7e9 + 0.25, "1700000000.250"), (True, "True")],
)
def test_cells(value, text):
    assert cell(value) == text


def test_the_settings_of_a_reader_for_other_figures_change_nothing(tmp_path):
    """In a notebook, say: matplotlib runs already, and with LaTeX."""
    drawn = []
    for theirs in ({}, {"text.usetex": True, "savefig.format": "pdf", "axes.facecolor": "red", "font.size": 30}):
        path = tmp_path / f"{len(drawn)}.png"
        with mpl.rc_context(theirs):
            with figure(path) as canvas:
                canvas.subplots().set(title="µ", xlabel="Å")
            assert mpl.rcParams["text.usetex"] == theirs.get("text.usetex", False), "they are still theirs"
        drawn.append(path.read_bytes())
    assert drawn[0] == drawn[1]


@pytest.fixture
def with_files(fresh):
    write_trajectories(fresh, np.random.default_rng(0))
    write_model(fresh / "models", np.random.default_rng(0))
    return fresh


def test_what_the_coordinates_show_is_drawn(with_files):
    assert {"latents", "coverage"} <= {path.stem for path in write_report(with_files)}
    page = (with_files / "report.html").read_text()
    assert "latents of version 2, all frames" in page
    assert "of the run itself" in page


def test_the_latents_are_those_of_the_version_asked_for(with_files):
    with pytest.raises(InputError, match=r"no version 9 of the model \(it has v000001, v000002\)"):
        write_report(with_files, Wanted(version=9))
    drawn = {path.stem for path in write_report(with_files, Wanted(version=1))}
    assert "latents" not in drawn, "it has no weights"
    assert "no data: " in (with_files / "report.html").read_text().partition("Latent space")[2].partition("<h2>")[0]


@pytest.mark.parametrize("kind", ["run", "trajectory"])
def test_coverage_says_whose_states_it_counts(with_files, tmp_path, kind):
    other = SyntheticRun(n_rounds=3, seed=2).write(tmp_path / "other")
    write_trajectories(other, np.random.default_rng(1))
    path = other if kind == "run" else other / "trajectories" / "sim-0000.dcd"
    write_report(with_files, Wanted(reference=path))
    said = (with_files / "report.html").read_text().partition("Coverage of states")[2].partition("<h2>")[0]
    assert str(path) in said
    assert "the run itself" not in said


def test_frames_fall_into_one_place_of_the_latent_space():
    points, shares = principal_components(np.ones((5, 3)))
    assert (points == 0).all()
    assert shares.tolist() == [0, 0]
    points, shares = principal_components(np.arange(4.0)[:, None] * [3.0, 4.0])
    np.testing.assert_allclose(np.abs(np.diff(points[:, 0])), 5)
    np.testing.assert_allclose(shares, [1, 0], atol=1e-12)


@pytest.fixture
def two_groups():
    """Two groups of points that are far from each other in five dimensions."""
    random = np.random.default_rng(0)
    return np.concatenate([random.normal(size=(30, 5)), 50 + random.normal(size=(30, 5))])


@pytest.mark.parametrize("how", ["pca", "tsne"])
def test_groups_of_latents_stay_apart_in_the_plane(two_groups, how):
    points = project(two_groups, how).points
    near, far = points[:30], points[30:]
    apart = np.linalg.norm(near.mean(axis=0) - far.mean(axis=0))
    assert apart > 2 * np.linalg.norm(near - near.mean(axis=0), axis=1).mean()


def test_a_projection_that_cannot_be_had_is_named(two_groups, monkeypatch, with_files):
    with pytest.raises(InputError, match="4 frames are too few for tsne"):
        project(two_groups[:4], "tsne")
    monkeypatch.setattr("ddmd_mpi.report.projections.find_spec", lambda _: None)
    write_report(with_files, Wanted(projection="umap"))
    assert "UMAP is not installed: pip install umap-learn" in (with_files / "report.html").read_text()
