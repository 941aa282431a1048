import pytest
from synthetic_run import SyntheticRun


@pytest.fixture(scope="session")
def steered(tmp_path_factory):
    """A run that was steered and ended by itself; tests only read it."""
    return SyntheticRun().write(tmp_path_factory.mktemp("steered"))


@pytest.fixture
def fresh(tmp_path):
    """The same run, for tests that change it."""
    return SyntheticRun(n_rounds=8).write(tmp_path / "run")
