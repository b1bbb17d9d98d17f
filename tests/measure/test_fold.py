import pytest
import torch
from torch import Tensor, nn

from nas.errors import MeasureError
from nas.measure.fold import fold_batch_norms
from nas.measure.reference import REFERENCE_SHAPE, reference_net
from nas.net.build import build
from nas.net.graph import Size
from nas.net.lower import lower
from nas.space.library import load_architecture


def shaken(model: nn.Module) -> nn.Module:
    """The model with batch norms that do something."""
    torch.manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.track_running_stats:
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            nn.init.normal_(layer.weight)
    return model


def norms(model: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())


class Tapped(nn.Module):
    """The convolution's own output is used as well, so its batch norm has to stay."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y + self.norm(y)


class Shared(Tapped):
    """One convolution and one batch norm, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(self.conv(x)))


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x


@pytest.mark.parametrize(("model", "left"), [
    (reference_net(), 0), (Tapped(), 1), (Shared(), 1), (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)), 1),
    (nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)), 1),
])  # fmt: skip
def test_the_function_stays_and_the_model_is_untouched(model, left):
    shaken(model.eval())
    count, data = norms(model), torch.randn(2, *REFERENCE_SHAPE)
    expected = model(data)
    folded = fold_batch_norms(model)
    torch.testing.assert_close(folded(data), expected, rtol=1e-4, atol=1e-4)
    assert (norms(folded), norms(model)) == (left, count)
    assert torch.equal(model(data), expected)


def test_networks_of_this_framework_fold():
    size = Size(width=0.1, depth=0.1, input=(3, 16, 16), num_classes=10)
    model = shaken(build(lower(load_architecture("nasnet_a_cifar"), size)).eval())
    data = torch.randn(2, 3, 16, 16)
    folded = fold_batch_norms(model)
    torch.testing.assert_close(folded(data), model(data), rtol=1e-3, atol=1e-3)
    assert norms(folded) < norms(model) / 4


def test_an_untraceable_network_is_told():
    with pytest.raises(MeasureError, match="batch norms cannot be folded"):
        fold_batch_norms(Branching())
