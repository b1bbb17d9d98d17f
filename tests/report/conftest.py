import pytest

from tests.report.scripted import scripted_run


@pytest.fixture(scope="session")
def scripted(tmp_path_factory) -> str:
    """A scripted run's folder; not to be changed."""
    return scripted_run(tmp_path_factory.mktemp("scripted") / "a run")
