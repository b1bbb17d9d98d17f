import pytest
import torch

from nas.errors import MeasureError
from nas.measure.reference import DEPTHS, REFERENCE_SHAPE, Anchors, reference_net


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_reference_is_the_same_always_and_leaves_the_random_state_alone(depth):
    state = torch.get_rng_state()
    first = reference_net(depth)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(7)
    data = torch.randn(1, *REFERENCE_SHAPE)
    assert torch.equal(first(data), reference_net(depth)(data))


def test_without_a_folder_the_record_lives_in_memory():
    anchors = Anchors()
    assert anchors.get("here") is None
    assert anchors.record("here", 0.5) == 0.5
    assert anchors.record("here", 0.7) == anchors.get("here") == 0.5
    assert Anchors().get("here") is None


def test_a_folder_is_shared_and_the_first_calibration_holds(tmp_path):
    early, late = Anchors(tmp_path / "run"), Anchors(tmp_path / "run")
    assert early.record("a", 0.25) == 0.25
    assert late.record("a", 0.5) == 0.25
    assert late.record("b", 0.75) == 0.75
    assert [early.get(key) for key in "abc"] == [0.25, 0.75, None]


@pytest.mark.parametrize("text", ["", "{", "[1.0]", '{"a": "fast"}', '{"a": -1.0}', '{"a": true}'])
def test_a_damaged_record_is_told(tmp_path, text):
    (tmp_path / Anchors.FILE).write_text(text)
    with pytest.raises(MeasureError, match=Anchors.FILE):
        Anchors(tmp_path).get("a")
