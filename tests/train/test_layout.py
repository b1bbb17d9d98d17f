import pytest
import torch
from torch import nn

from nas.train.layout import ChannelsLast


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_strided_1x1_convolution_of_few_channels_is_trained_on_several_threads(two_threads):
    """Without care the process crashes here."""
    model = nn.Sequential(nn.Conv2d(3, 11, 3, padding=1), nn.Conv2d(11, 8, 1, 2))
    layout = ChannelsLast(model)
    for batch in (7, 33, 85, 85):
        images = torch.randn(batch, 3, 32, 32)
        gradients = []
        for given in (images, images.contiguous(memory_format=torch.channels_last)):
            model.zero_grad()
            model(given).sum().backward()
            gradients.append(model[1].weight.grad.clone())
        torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-2)
    layout.remove()


@pytest.mark.parametrize("channels", [8, 16])
def test_the_format_changes_no_output_and_its_hooks_can_be_removed(channels):
    model = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(channels, 8, 1, 2), nn.BatchNorm2d(8)).eval()
    images = torch.randn(5, 3, 8, 8)
    plain = model(images)
    layout = ChannelsLast(model)
    output = model(images.contiguous(memory_format=torch.channels_last))
    assert output.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output, plain)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert bool(model[1]._forward_hooks) == bool(model[1]._forward_pre_hooks) == (channels < 16)
    layout.remove()
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in model)
