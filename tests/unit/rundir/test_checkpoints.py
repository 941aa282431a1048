"""The store: the newest checkpoint that is whole wins, and nothing in it is pickled."""

import numpy as np
import pytest

from ddmd_mpi.errors import CheckpointError
from ddmd_mpi.rundir.checkpoints import KEEP, Part, Store, manifest_name, part_name, under
from ddmd_mpi.rundir.manifest import FORMAT, Entry, Manifest


@pytest.fixture
def store(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    return Store(tmp_path)


def save(store, number, x=0.0, ranks=(0, 1), reused=()):
    """A checkpoint of these ranks; the parts of `reused` ranks are those of the checkpoint before."""
    entries = []
    for rank in ranks:
        if rank in reused:
            (entry,) = (p for p in store.read_manifest(number - 1).parts if p.rank == rank)
        else:
            nbytes, digest = store.write_part("simulation", rank, number, Part({"x": x}, {"a": np.full(3, x)}))
            entry = Entry(part_name("simulation", rank, number), "simulation", rank, nbytes, digest.hex(), (rank,))
        entries.append(entry)
    store.write_manifest(Manifest(number, 0, {"n_walkers": len(ranks)}, {}, 1.5, tuple(entries)))


def newest(store):
    skipped = []
    return store.newest(skipped.append).number, [str(error) for error in skipped]


def test_a_part_comes_back_as_it_was(store):
    save(store, 1, x=2.5)
    manifest = store.read_manifest(1)
    part = store.read_part(manifest.of_role("simulation")[1])
    assert (part.values, part.arrays["a"].tolist()) == ({"x": 2.5}, [2.5] * 3)
    assert (manifest.elapsed_s, manifest.parts[1].walkers, newest(store)) == (1.5, (1,), (1, []))


def test_what_a_part_does_not_say_is_an_error_that_names_it(store):
    nbytes, digest = store.write_part("simulation", 0, 1, Part({"0": {"frames": 3}}, {"0/mark": np.zeros(3)}))
    part = store.read_part(Entry(part_name("simulation", 0, 1), "simulation", 0, nbytes, digest.hex()))
    assert part.values["0"]["frames"] == 3
    assert part.values["0"].get("good") is None
    assert "good" not in part.values["0"]
    for said, name in (
        (part.values, "1"),
        (part.values["0"], "failures"),
        (part.arrays, "0/good"),
        (under("0", part.arrays), "good"),
    ):
        with pytest.raises(CheckpointError, match=rf"simulation-0000-000001\.npz does not say '{name}'"):
            said[name]


@pytest.mark.parametrize("harm", ["truncated", "flipped", "missing", "manifest cut", "manifest missing"])
def test_a_broken_checkpoint_is_skipped_and_the_one_before_is_used(store, harm):
    save(store, 1)
    save(store, 2)
    part, manifest = store.directory / part_name("simulation", 1, 2), store.directory / manifest_name(2)
    content = part.read_bytes()
    if harm == "truncated":
        part.write_bytes(content[:-1])
    elif harm == "flipped":
        part.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    elif harm == "missing":
        part.unlink()
    elif harm == "manifest cut":
        manifest.write_text(manifest.read_text()[:-5])
    else:
        manifest.unlink()
    number, skipped = newest(store)
    assert number == 1
    assert len(skipped) == (harm != "manifest missing")
    assert store.last_number == 2, "its number is not given again"


def test_without_a_whole_checkpoint_there_is_a_sentence(store):
    with pytest.raises(CheckpointError, match="nothing to resume from"):
        newest(store)


@pytest.mark.parametrize(("old", "new", "words"), [
    (f'"format": {FORMAT}', '"format": 1', "has format 1 and this program reads"),
    ("simulation-0000-000001.npz", "../simulation-0000-000001.npz", "other directories"),
])  # fmt: skip
def test_another_format_and_files_of_other_directories_are_refused(store, old, new, words):
    save(store, 1)
    path = store.directory / manifest_name(1)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(CheckpointError, match=words):
        store.read_manifest(1)


def test_the_last_few_stay_with_all_parts_that_they_name(store):
    save(store, 1)
    for number in range(2, KEEP + 4):
        save(store, number, reused=(0,))
    assert store.numbers() == list(range(4, KEEP + 4))
    names = {path.name for path in store.directory.iterdir()}
    assert part_name("simulation", 0, 1) in names, "every manifest names it"
    assert part_name("simulation", 1, 3) not in names
    assert newest(store) == (KEEP + 3, [])


def test_objects_are_not_kept(store):
    with pytest.raises(CheckpointError, match="holds objects"):
        store.write_part("training", 0, 1, Part({}, {"a": np.array([{}])}))


def test_a_pickle_is_not_read(store):
    np.savez(store.directory / part_name("training", 0, 1), a=np.array([{}], object))
    with pytest.raises(CheckpointError, match="cannot be read"):
        store.read_part(Entry(part_name("training", 0, 1), "training", 0, 0, ""))
