"""Bad input is one clear sentence on one rank, exit code 2, no rank left hanging, nothing written over."""

import pytest

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(120)]

PDB_LINE = "ATOM  {:5d}  {:<3s} {:3s} A{:4d}    {:8.3f}{:8.3f}{:8.3f}  1.00  0.00           {:1s}\n"


@pytest.fixture
def pdb(tmp_path):
    """Writes a PDB file of one atom per residue."""

    def write(name, atom, residues):
        path = tmp_path / name
        rows = (
            PDB_LINE.format(i + 1, atom, r, i + 1, 3.8 * i, (i % 2) * 1.0, 0.0, atom[0]) for i, r in enumerate(residues)
        )
        path.write_text("".join(rows) + "END\n")
        return path

    return write


def refused(done, directory, *words):
    """Asserts one sentence with these words, from one rank, and that no run directory was begun."""
    said = [line for line in done.stderr.splitlines() if line.startswith("ddmd-mpi: ")]
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(said) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in said[0]
    assert not directory.exists() or list(directory.iterdir()) == [directory / "mine.txt"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--usecase", "bbb"), ("bbb", "bba")),
        (("--usecase", "cln025", "--set", "run.sed=1"), ("run.sed", "run.seed")),
        (("--usecase", "cln025", "--set", "simulation.timestep_fs=fast"), ("simulation.timestep_fs",)),
        (("--usecase", "cln025", "--duration", "-3s"), ("duration",)),
        (("--usecase", "cln025", "--config", "nowhere.toml"), ("nowhere.toml",)),
        (("--usecase", "cln025", "--set", "system.start='nowhere.pdb'"), ("nowhere.pdb",)),
        (("--usecase", "cln025", "--set", "simulation.platform=CUDA"), ("CUDA", "simulation.platform")),
        (("--usecase", "cln025", "--set", "ranks.simulation=9"), ("9",)),
        (("--usecase", "cln025", "--set", "aggregation.ring_mb=0.001"), ("aggregation.ring_mb",)),
        (("--usecase", "cln025", "--set", "simulation.walkers_per_rank=1"), ("walkers_per_rank",)),
        (("--usecase", "cln025", "--set", "system.force_field=['tip3p.xml']"), ("cln025-start.pdb",)),
        (("--usecase", "cln025", "--set", "system.force_field=['/etc/passwd']"), ("/etc/passwd",)),
        (("--usecase", "cln025", "--set", "system.name=a/b"), ("system.name",)),
        (("--usecase", "cln025", "--nonsense"), ("--nonsense",)),
    ],
    ids=lambda v: " ".join(v[2:]) if isinstance(v, tuple) and v[0].startswith("--") else "",
)
def test_what_is_wrong_is_said_once(ddmd_mpi, tmp_path, arguments, words):
    done = ddmd_mpi(4, *arguments, "--output", tmp_path / "run")
    refused(done, tmp_path / "run", *words)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_too_few_ranks(ddmd_mpi, tmp_path, n):
    refused(ddmd_mpi(n, "--usecase", "cln025", "--output", tmp_path / "run"), tmp_path / "run", "at least 4")
    assert not (tmp_path / "run").exists()


def test_a_full_output_directory_is_left_alone(ddmd_mpi, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    refused(ddmd_mpi(4, "--usecase", "cln025", "--output", tmp_path), tmp_path, "not empty")
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_structures_that_do_not_fit(ddmd_mpi, tmp_path, pdb):
    cln025 = ("TYR", "TYR", "ASP", "PRO", "GLU", "THR", "GLY", "THR", "TRP", "TYR")
    for name, path, words in (
        ("no-ca", pdb("no-ca.pdb", "N", cln025), ("no-ca.pdb",)),
        ("other", pdb("other.pdb", "CA", ("ALA",) * 10), ("other.pdb", "ALA")),
    ):
        done = ddmd_mpi(4, "--usecase", "cln025", "--output", tmp_path / name, sets=(f"system.target='{path}'",))
        refused(done, tmp_path / name, *words)


def test_an_engine_that_streams_cannot_use(ddmd_mpi, tmp_path):
    xml = tmp_path / "adios2.xml"
    xml.write_text('<adios-config><io name="SimulationOutput"><engine type="Bogus"/></io></adios-config>')
    done = ddmd_mpi(4, "--usecase", "cln025", "--output", tmp_path / "run", sets=(f"streams.adios2_xml='{xml}'",))
    refused(done, tmp_path / "run", "Bogus", "SST")


def test_a_target_that_is_the_start(ddmd_mpi, tmp_path):
    from ddmd_mpi import config

    start = config.load("cln025").system.start
    done = ddmd_mpi(4, "--usecase", "cln025", "--output", tmp_path / "run", sets=(f"system.target='{start}'",))
    refused(done, tmp_path / "run", "start", "target")
