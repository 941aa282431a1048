"""GPUs are counted that are there and that the environment leaves to this process."""

import pytest

from ddmd_mpi.layout.gpus import visible_gpus


@pytest.fixture
def host(tmp_path):
    """A host with so many GPUs; what its processes see."""

    def make(nvidia=0, amd=0, others=(), **variables):
        devices, topology = tmp_path / "dev", tmp_path / "nodes"
        for name in (*(f"nvidia{i}" for i in range(nvidia)), *others):
            devices.mkdir(exist_ok=True)
            (devices / name).touch()
        for number, kind in enumerate([0] + [4711] * amd):  # the first node is the CPU
            (topology / str(number)).mkdir(parents=True)
            (topology / str(number) / "gpu_id").write_text(f"{kind}\n")
        return visible_gpus(variables, devices, topology)

    return make


def test_without_variables_all_gpus_are_seen(host):
    assert host(nvidia=12, others=("nvidiactl", "nvidia-uvm")) == tuple(f"nvidia{i}" for i in range(12))


def test_amd_gpus_are_nodes_with_an_identity(host):
    assert host(amd=2) == ("1", "2")


@pytest.mark.parametrize("given", ["0", "0,1,2,3", "GPU-8a56", "MIG-1", ""])
def test_a_variable_makes_no_gpu(host, given):
    """It may be left of another host, or come from a container's image."""
    assert host(others=("nvidiactl",), CUDA_VISIBLE_DEVICES=given, HIP_VISIBLE_DEVICES=given) == ()


@pytest.mark.parametrize(("given", "seen"), [
    ("0,2", ("0", "2")), ("", ()), ("-1", ()), ("NoDevFiles", ()), ("1, 9, 2", ("1",)),
    ("GPU-8a56,GPU-1", ("GPU-8a56", "GPU-1")),
])  # fmt: skip
def test_a_variable_chooses_among_those_that_are_there(host, given, seen):
    assert host(nvidia=4, CUDA_VISIBLE_DEVICES=given) == seen


def test_amd_has_variables_of_its_own(host):
    assert host(amd=4, ROCR_VISIBLE_DEVICES="3", CUDA_VISIBLE_DEVICES="0,1") == ("3",)


def test_gpus_of_windows_subsystem_have_no_files(host):
    assert host(others=("dxg",)) == ("0",)
