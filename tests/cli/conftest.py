import pytest

from tests.search.runs import write_data, write_page


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of one's own with a tiny data set and a space."""
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "tiny.npz")
    write_page(tmp_path / "many.yaml")
    return tmp_path


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A folder with a finished run `results/done` of four trials; not to be changed."""
    from tests.search.runs import config_of, quietly

    base = tmp_path_factory.mktemp("finished")
    quietly(config_of(write_data(base / "tiny.npz"), write_page(base / "many.yaml"), base / "results" / "done", budget="4trials"))
    return base
