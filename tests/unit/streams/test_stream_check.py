"""The self test of the streams."""

from ddmd_mpi.errors import StreamError
from ddmd_mpi.streams import selftest


def test_every_engine_passes(tmp_path):
    results = selftest.self_test(tmp_path)
    assert [(name, ok) for name, ok, _ in results] == [("stream SST", True), ("stream BP5", True)], results


def test_an_engine_that_does_not_open_is_reported_not_raised(tmp_path, monkeypatch):
    def fails(*_):
        raise StreamError("this version was built without SST")

    monkeypatch.setattr(selftest, "StepWriter", fails)
    assert selftest.self_test(tmp_path)[0] == ("stream SST", False, "this version was built without SST")
