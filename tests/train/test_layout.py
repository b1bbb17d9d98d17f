import subprocess
import sys

import pytest
import torch
from torch import nn

from nas.train.layout import ChannelsLast

CRASHED = """
import torch
from torch import nn
from nas.train.layout import ChannelsLast

torch.set_num_threads(2)
model = nn.Sequential(nn.Conv2d(3, 11, 3, padding=1), nn.Conv2d(11, 8, 1, 2))
ChannelsLast(model)
for batch in (7, 33, 85, 85, 85):
    images = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    model(images).sum().backward()
"""


def test_a_strided_1x1_convolution_of_few_channels_is_trained_on_several_threads():
    process = subprocess.run([sys.executable, "-c", CRASHED], capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 0, process.stderr


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
