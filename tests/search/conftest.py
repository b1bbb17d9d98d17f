import pytest

from tests.search.runs import write_data, write_page


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "tiny.npz")


@pytest.fixture
def page(tmp_path):
    return write_page(tmp_path / "many.yaml")
