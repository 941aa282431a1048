"""Scripts of the repository run: benchmarks with --quick, shell scripts as far as bash reads them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))
#: Runs of the program on 4 ranks or more, and a box of hosts: make bench QUICK=1 tries the former.
WHOLE_RUNS = {
    "gpu.py",
    "hosts.py",
    "saturation.py",
    "scale.py",
    "simulation_overhead.py",
    "startup.py",
    "stream_vs_file.py",
    "training.py",
}
#: Runs of seconds that are sampled, and clients that are timed; the others only take longer beside other work.
ALONE = {"soak.py", "watch.py"}
BENCHMARKS = [
    pytest.param(path, marks=pytest.mark.alone) if path.name in ALONE else path
    for path in BENCHMARKS
    if path.name not in WHOLE_RUNS
]
TWO_RANKS = {"large_maps.py", "streams.py"}
DEVELOPERS = sorted((ROOT / "tools").glob("*.py"))
pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]


@pytest.mark.parametrize("script", BENCHMARKS, ids=lambda p: p.stem)
def test_a_benchmark_prints_a_table_and_writes_its_figures(script, tmp_path):
    figures = tmp_path / "figures.json"
    launch = [ROOT / "jobscripts" / "ranks.sh", "2"] if script.name in TWO_RANKS else []
    command = [*launch, sys.executable, script, "--quick", "--json", figures]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) > 1
    assert json.loads(figures.read_text())


@pytest.mark.parametrize("script", sorted((ROOT / "jobscripts").glob("*.sh")), ids=lambda p: p.stem)
def test_bash_reads_a_job_script(script):
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("script", DEVELOPERS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_developers_script_is_python(script):
    compile(script.read_text(), str(script), "exec")


def test_the_inputs_of_a_use_case_can_be_built_again(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "build_structures.py"), "bba-go", "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    target = (tmp_path / "bba-go-target.pdb").read_text()
    assert target == (ROOT / "inputs" / "bba-go-target.pdb").read_text()
    assert (tmp_path / "bba-go-start.pdb").read_text().count("ATOM") == 28
