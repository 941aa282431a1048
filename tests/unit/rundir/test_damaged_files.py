"""Valid files that somebody cut or changed at random: a valid value or one sentence, never another exception."""

import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from blocks import block
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddmd_mpi import config
from ddmd_mpi.analysis import open_run
from ddmd_mpi.errors import CheckpointError, DDMDError, ModelError, RunDirectoryError, StreamError
from ddmd_mpi.frames.block import MAGIC, FrameBlock, Hop
from ddmd_mpi.md.coordinates import read_coordinates
from ddmd_mpi.md.trajectory_repair import mend
from ddmd_mpi.model import ModelWeights
from ddmd_mpi.monitor.summary import record_of
from ddmd_mpi.rundir.checkpoints import Part, Store, manifest_name, part_name
from ddmd_mpi.rundir.disk import read_lines
from ddmd_mpi.rundir.manifest import Entry, Manifest
from ddmd_mpi.rundir.npz import read_npz

FAST = settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
SLOW = settings(FAST, max_examples=60)
#: Where (a share of the length), what: bytes put in place of others, or None to cut there.
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.one_of(st.none(), st.binary(max_size=9)), st.integers(0, 9)), min_size=1, max_size=3
)
#: Bytes that mean something in one of the formats.
TELLING = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(
            [b"\xff" * 8, b"\0" * 8, b"\x7f" * 8, b"nan", b"-1", b"1e999", b"[[[[[[[[", b"{", b'"', b"O", b"|O", b"\n"]
        ),
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=3,
)
HARM = st.one_of(EDITS, TELLING)


def harmed(content, edits):
    for share, new, n_old in edits:
        at = int(share * len(content))
        content = content[:at] if new is None else content[:at] + new + content[at + n_old :]
    return content


def valid_or(kind, read):
    """What `read` gives; None where it refuses with one sentence of this kind."""
    try:
        return read()
    except kind as error:
        said = error
    assert isinstance(said, DDMDError)
    assert str(said)
    return None


PACKED = {
    hop: b.pack(hop).tobytes()
    for hop, b in (
        (Hop.COORDINATES, block(1)),
        (
            Hop.FEATURES,
            block(1).on(
                Hop.FEATURES,
                aggregator=np.zeros(3, "<i4"),
                ring_slot=np.zeros(3, "<i4"),
                slot_generation=np.ones(3, "<i8"),
            ),
        ),
    )
}


@FAST
@given(st.sampled_from(list(Hop)), HARM)
def test_a_packed_block(hop, edits):
    found = valid_or(StreamError, lambda: FrameBlock.unpack(np.frombuffer(harmed(PACKED[hop], edits), np.uint8)))
    if found is not None:
        assert len(found.take(np.arange(len(found)))["contact_columns"]) == len(found["contact_columns"])


@FAST
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=5, max_size=5), st.integers(0, 1))
def test_a_block_of_any_announced_size(extents, hop):
    words = np.array([MAGIC, hop, *extents], "<i8")
    valid_or(StreamError, lambda: FrameBlock.unpack(words.view(np.uint8)))


@pytest.mark.parametrize("extents", [(10**18, 0, 0, 0, 0), (2**61, 0, 0, 0, 0), (2**60, 0, 8, 0, 0), (0, 0, 0, 0, -1)])
def test_a_size_that_overflows_is_none(extents):
    words = np.array([MAGIC, 0, *extents], "<i8").view(np.uint8)
    with pytest.raises(StreamError):
        FrameBlock.unpack(words)


ARRAYS = [np.arange(6, dtype="<f4").reshape(2, 3), np.ones(4), np.zeros((0, 2), "<i8")]
WEIGHTS = ModelWeights(3, ARRAYS, {"samples": 1, "validation_loss": 0.5})


@FAST
@given(HARM)
def test_packed_weights(edits):
    packed = harmed(WEIGHTS.pack().tobytes(), edits)
    found = valid_or(ModelError, lambda: ModelWeights.unpack(np.frombuffer(packed, np.uint8)))
    assert found is None or all(a.dtype.kind in "biufc" for a in found.arrays)


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    return WEIGHTS.save(tmp_path_factory.mktemp("models"))


@FAST
@given(st.sampled_from(["weights.npz", "metadata.json"]), HARM)
def test_a_version_of_the_model(version, name, edits):
    path = version / name
    content = path.read_bytes()
    try:
        path.write_bytes(harmed(content, edits))
        found = valid_or(ModelError, lambda: ModelWeights.read(version))
        assert found is None or all(a.dtype.kind in "biufc" for a in found.arrays)
    finally:
        path.write_bytes(content)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("run"), record_of)
    store.directory.mkdir()
    nbytes, digest = store.write_part("simulation", 0, 1, Part({"x": [1, {"y": None}]}, {"a": np.arange(9.0)}))
    entry = Entry(part_name("simulation", 0, 1), "simulation", 0, nbytes, digest.hex(), (0, 1))
    store.write_manifest(Manifest(1, 0, {"n_walkers": 2}, {"simulation": {"busy_s": 1.5}}, 2.5, (entry,)))
    return store


@FAST
@given(HARM)
def test_a_manifest(store, edits):
    path = store.directory / manifest_name(1)
    content = path.read_bytes()
    try:
        path.write_bytes(harmed(content, edits))
        found = valid_or(CheckpointError, lambda: store.newest(lambda _: None))
        assert found is None or (found.about["n_walkers"] >= 0 and found.of_role("simulation") is not None)
    finally:
        path.write_bytes(content)


@FAST
@given(HARM)
def test_a_part_of_a_checkpoint(store, edits):
    """Also one whose checksum somebody has made anew."""
    path = store.directory / part_name("simulation", 0, 1)
    content = path.read_bytes()
    try:
        path.write_bytes(harmed(content, edits))
        found = valid_or(CheckpointError, lambda: store.read_part(Entry(path.name, "simulation", 0, 0, "")))
        assert found is None or isinstance(found.values, dict)
    finally:
        path.write_bytes(content)


CONFIG = config.to_toml(config.load("bba-go")).encode()


@FAST
@given(HARM)
def test_a_config_file(tmp_path_factory, edits):
    path = tmp_path_factory.getbasetemp() / "harmed.toml"
    path.write_bytes(harmed(CONFIG, edits))
    found = valid_or(DDMDError, lambda: config.load("bba-go", path))
    assert found is None or config.to_toml(found)


PDB = config.load("bba-go").system.start.read_bytes()


@SLOW
@given(
    st.one_of(
        HARM,
        st.lists(
            st.tuples(st.floats(0, 1), st.sampled_from([b"     nan", b"  -1e309", b"********"]), st.just(8)),
            min_size=1,
            max_size=2,
        ),
    )
)
def test_a_pdb_file(tmp_path_factory, edits):
    path = tmp_path_factory.getbasetemp() / "harmed.pdb"
    path.write_bytes(harmed(PDB, edits))
    found = valid_or(DDMDError, lambda: read_coordinates(path))
    assert found is None or (np.isfinite(found.positions_nm).all() and len(found.positions_nm))


LINES = b'{"decision": 0, "source": {"simulation": 1}}\n{"decision": 1, "x": [1, 2, null]}\n'


@FAST
@given(HARM)
def test_lines_of_json(tmp_path_factory, edits):
    path = tmp_path_factory.getbasetemp() / "harmed.jsonl"
    path.write_bytes(harmed(LINES, edits))
    found = valid_or(RunDirectoryError, lambda: read_lines(path))
    assert found is None or all(isinstance(line, dict) for line in found)


SEGMENTS = b"".join(b'{"segment": %d, "first_frame": %d, "restart_point": false}\n' % (i, 2 * i) for i in range(3))
DCD = b"\x54\0\0\0CORD".ljust(188, b"\0") + b"\2\0\0\0\4\0\0\0" + bytes(6 * 12 * 4)  # 2 atoms
FRAMES = b"frame,segment,time_ps,rmsd_angstrom\n" + b"".join(b"%d,0,%d.0,1.5\n" % (i, i) for i in range(6))


@FAST
@given(st.sampled_from(["frames.csv", "segments.jsonl", "dcd"]), HARM)
def test_the_files_of_a_walker(tmp_path_factory, name, edits):
    stem = tmp_path_factory.getbasetemp() / "harmed"
    for suffix, content in (("frames.csv", FRAMES), ("segments.jsonl", SEGMENTS), ("dcd", DCD)):
        stem.with_suffix(f".{suffix}").write_bytes(harmed(content, edits) if suffix == name else content)
    found = valid_or(RunDirectoryError, lambda: mend(stem, {None: stem.with_suffix(".dcd")}))
    assert found is None or found.n_frames <= 6


@SLOW
@given(
    st.sampled_from(
        [
            "summary.json",
            "decisions.jsonl",
            "config.toml",
            "trajectories/sim-0000.frames.csv",
            "trajectories/sim-0000.segments.jsonl",
            "events/simulation-0000.jsonl",
        ]
    ),
    HARM,
)
def test_a_run_directory_that_is_reported(tmp_path_factory, name, edits):
    directory = tmp_path_factory.getbasetemp() / "harmed-run"
    for file, content in (
        ("summary.json", b'{"completed": true, "science": {"best_rmsd_angstrom": 1.5}}'),
        ("decisions.jsonl", LINES),
        ("config.toml", CONFIG),
        ("trajectories/sim-0000.frames.csv", FRAMES),
        (
            "events/simulation-0000.jsonl",
            (b'{"name": "segment", "role": "simulation", "rank": 0, "start": 1.0, "end": 2.0}\n'),
        ),
        ("trajectories/sim-0000.segments.jsonl", SEGMENTS.replace(b"{", b'{"simulation": 0, ')),
    ):
        (directory / file).parent.mkdir(parents=True, exist_ok=True)
        (directory / file).write_bytes(harmed(content, edits) if file == name else content)
    valid_or(DDMDError, lambda: open_run(directory))


class Canary:
    """Pickled, it makes a file as soon as somebody loads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def objects(path, canary):
    np.savez(path, arr_0=np.array([Canary(canary)], object))


def bare_pickle(path, canary):
    path.write_bytes(pickle.dumps(Canary(canary)))


def torch_file(path, canary):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Canary(canary)))
        file.writestr("archive/version", "3\n")


def keras_file(path, canary):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", '{"class_name": "Lambda", "config": {"function": "import os"}}')
        file.writestr("metadata.json", "{}")
        file.writestr("model.weights.h5", pickle.dumps(Canary(canary)))


def compressed(path, canary):
    np.savez_compressed(path, np.zeros(10_000_000))


def absurd_head(path, canary):
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(2, 3), }        ", b"(2, 300000000), }"[:17].ljust(17)))
    assert path.read_bytes() != content


@pytest.mark.parametrize(
    "payload", [objects, bare_pickle, torch_file, keras_file, compressed, absurd_head], ids=lambda f: f.__name__
)
def test_weights_execute_nothing_and_inflate_nothing(tmp_path, payload):
    path = WEIGHTS.save(tmp_path / "models")
    payload(path / "weights.npz", tmp_path / "canary")
    with pytest.raises(ModelError, match="cannot read the model"):
        ModelWeights.read(path)
    with pytest.raises(ValueError, match="."):
        read_npz(path / "weights.npz")
    single = tmp_path / "model.keras"
    keras_file(single, tmp_path / "canary")
    with pytest.raises(ModelError, match="cannot read the model"):
        ModelWeights.read(single)
    assert not (tmp_path / "canary").exists()


def test_arrays_are_as_they_were_written(tmp_path):
    given_ = {
        "a": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "b": np.array(2.5),
        "c": np.array("text"),
        "values.json": np.frombuffer(b"{}", np.uint8),
        "d": np.zeros((0, 3)),
    }
    np.savez(tmp_path / "x.npz", **given_)
    found = read_npz(tmp_path / "x.npz")
    assert found.keys() == given_.keys()
    for name, array in found.items():
        assert (array.dtype, array.shape) == (given_[name].dtype, given_[name].shape)
        np.testing.assert_array_equal(array, given_[name])


BOUNDED = """
import resource, sys
from pathlib import Path
from ddmd_mpi.errors import DDMDError
from ddmd_mpi.model import ModelWeights
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000,) * 2)
try:
    ModelWeights.read(Path(sys.argv[1]))
except DDMDError as error:
    print(error)
"""


def test_a_bomb_takes_no_memory(tmp_path):
    path = WEIGHTS.save(tmp_path)
    np.savez_compressed(path / "weights.npz", np.zeros((30_000, 10_000), np.uint8))
    assert (path / "weights.npz").stat().st_size < 1_000_000
    done = subprocess.run([sys.executable, "-c", BOUNDED, path], capture_output=True, text=True, check=True)
    assert "its arrays are compressed" in done.stdout
