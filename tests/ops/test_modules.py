"""What the modules compute, beyond shapes and counts: held against slow and plain definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from nas.ops.modules.attention import SelfAttention, WindowAttention
from nas.ops.modules.channel_attention import CBAM, SqueezeExcite
from nas.ops.modules.coatnet import RelativeAttention
from nas.ops.modules.conv import FactorizedReduction, LeNetPartialConv
from nas.ops.modules.deformable import DeformableConv
from nas.ops.modules.heads import MLPHead
from nas.ops.modules.mobile import GhostModule, ShuffleNetUnit, make_divisible
from nas.ops.modules.norm import LayerNorm2d
from nas.ops.modules.pool import AvgPool, MaxPool
from nas.ops.modules.residual import BasicBlock, PadShortcut
from nas.ops.modules.tokens import ClassToken, PatchMerging, SinusoidalEmbedding, SoftSplit, TokenPool, ToMap, ToTokens
from nas.ops.modules.wiring import ChannelShuffle, DropPath, Projection, UNetUp, Zero

close = torch.testing.assert_close


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 9), kernel=st.integers(1, 6), stride=st.integers(1, 3))
def test_same_pooling_sees_the_pixels_that_exist(size: int, kernel: int, stride: int) -> None:
    x = torch.randn(1, 1, size, size + 1)
    averages, maxima = AvgPool(kernel, stride)(x), MaxPool(kernel, stride)(x)
    assert averages.shape == maxima.shape
    before = (kernel - 1) // 2
    for i in range(averages.shape[2]):
        for j in range(averages.shape[3]):
            top, left = i * stride - before, j * stride - before
            window = x[0, 0, max(top, 0) : top + kernel, max(left, 0) : left + kernel]
            close(averages[0, 0, i, j], window.mean())
            close(maxima[0, 0, i, j], window.max())


def test_padding_counts_on_request() -> None:
    x = torch.ones(1, 1, 2, 2)
    close(AvgPool(3, count_padding=True)(x)[0, 0, 0, 0], torch.tensor(4 / 9))
    close(AvgPool(2, count_padding=True)(x)[0, 0], torch.tensor([[1.0, 0.5], [0.5, 0.25]]))


def test_factorized_reduction_sees_every_pixel_once() -> None:
    layer = FactorizedReduction(1, 2).eval()
    nn.init.ones_(layer.conv.weight)
    assert layer.shifted is not None
    nn.init.ones_(layer.shifted.weight)
    even, odd = layer(torch.arange(16.0).view(1, 1, 4, 4))[0]
    close(even, torch.tensor([[0.0, 2.0], [8.0, 10.0]]), rtol=1e-4, atol=1e-4)
    close(odd, torch.tensor([[5.0, 7.0], [13.0, 15.0]]), rtol=1e-4, atol=1e-4)
    assert layer(torch.ones(1, 1, 5, 5))[0, 1, 2].tolist() == [0, 0, 0]  # beyond the far edge


@pytest.mark.parametrize("stride", [1, 2])
def test_deformable_convolution_starts_as_a_convolution(stride: int) -> None:
    layer, x = DeformableConv(3, 4, 3, stride).double(), torch.randn(2, 3, 7, 6, dtype=torch.float64)
    sampled = layer.conv(layer.sample(x, layer.offset(x)))
    close(sampled, F.conv2d(x, layer.conv.weight, stride=stride, padding=1))


def test_deformable_convolution_moves_by_its_offsets() -> None:
    """One pixel down and two to the right for every tap is a convolution of the shifted map."""
    layer, x = DeformableConv(3, 4).double(), torch.randn(1, 3, 7, 6, dtype=torch.float64)
    offset = torch.tensor([1.0, 2.0], dtype=torch.float64).repeat(9).view(1, 18, 1, 1).expand(1, 18, 7, 6)
    shifted = F.pad(x, (0, 2, 0, 1))[:, :, 1:, 2:]
    moved, expected = layer.conv(layer.sample(x, offset)), F.conv2d(shifted, layer.conv.weight, padding=1)
    close(moved[..., 1:, 1:], expected[..., 1:, 1:])


def test_lenets_table_has_sixty_connections() -> None:
    assert sum(len(seen) for seen in LeNetPartialConv.SEEN) == 60
    assert len(set(LeNetPartialConv.SEEN)) == 16


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    layer, x = DropPath(0.25), torch.ones(4000, 2, 2, 2)
    y = layer(x).flatten(1)
    close(y.unique(), torch.tensor([0.0, 4 / 3]))
    assert (y == y[:, :1]).all()
    assert abs(float(y.mean()) - 1) < 0.05
    layer.drop_prob = 0.0
    assert layer(x) is x
    layer.drop_prob = 0.5
    assert layer.eval()(x) is x


def test_channel_shuffle_interleaves() -> None:
    assert ChannelShuffle(2)(torch.arange(6.0).view(1, 6, 1, 1)).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_shufflenet_passes_half_the_channels() -> None:
    x = torch.randn(2, 8, 4, 4)
    close(ShuffleNetUnit(8, 8)(x)[:, ::2], x[:, :4])


def test_skips_where_shapes_allow() -> None:
    x = torch.randn(2, 4, 5, 5)
    assert Projection(4, 4)(x) is x
    assert Projection(4, 6, 2, "relu_factorized")(x).shape == (2, 6, 3, 3)
    assert not Zero(2)(x).any()


def test_padded_shortcut_appends_zeros() -> None:
    x = torch.randn(1, 2, 4, 4)
    y = PadShortcut(2, 5, 2)(x)
    close(y[:, :2], x[:, :, ::2, ::2])
    assert not y[:, 2:].any()


def test_a_block_without_its_branch_is_its_shortcut() -> None:
    block, x = BasicBlock(4, 4, drop_path=0.999999).train(), torch.randn(2, 4, 5, 5)
    close(block(x), F.relu(x))


def test_unet_joins_the_earlier_map_first() -> None:
    earlier = torch.randn(1, 3, 9, 7)
    y = UNetUp(4)(torch.randn(1, 4, 4, 3), earlier)
    assert y.shape == (1, 5, 9, 7)
    close(y[:, :3], earlier)
    assert not y[:, 3:, 8].any()


def test_squeeze_excite_is_its_definition() -> None:
    layer, x = SqueezeExcite(8, 2), torch.randn(2, 8, 3, 3)
    weights = [p.flatten(1) if p.dim() == 4 else p for p in layer.parameters()]
    hidden = torch.relu(x.mean((2, 3)) @ weights[0].t() + weights[1])
    gate = torch.sigmoid(hidden @ weights[2].t() + weights[3])
    close(layer(x), x * gate[:, :, None, None])


def test_cbam_scales_between_nothing_and_all() -> None:
    x = torch.rand(2, 16, 4, 4) + 0.1
    ratio = CBAM(16, 4).eval()(x) / x
    assert ((ratio > 0) & (ratio < 1)).all()


def test_layer_norm_2d_normalises_pixels() -> None:
    y = LayerNorm2d(16)(torch.randn(2, 16, 3, 3) * 5 + 2)
    close(y.mean(1), torch.zeros(2, 3, 3), atol=1e-5, rtol=0)
    close(y.var(1, unbiased=False), torch.ones(2, 3, 3), atol=1e-3, rtol=0)


def test_ghost_keeps_what_it_was_asked_for() -> None:
    assert GhostModule(4, 7)(torch.randn(2, 4, 3, 3)).shape == (2, 7, 3, 3)


@settings(deadline=None)
@given(channels=st.floats(1, 4000), divisor=st.sampled_from([4, 8]))
def test_divisible_channels_lose_little(channels: float, divisor: int) -> None:
    rounded = make_divisible(channels, divisor)
    assert rounded % divisor == 0
    assert rounded >= 0.9 * channels
    assert rounded <= channels + divisor


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias).softmax(-1) @ v


def test_self_attention_is_its_definition() -> None:
    layer, x = SelfAttention(8, 2).double(), torch.randn(2, 5, 8, dtype=torch.float64)
    q, k, v = layer.qkv(x).chunk(3, dim=-1)
    heads = [attend(q[..., i : i + 4], k[..., i : i + 4], v[..., i : i + 4]) for i in (0, 4)]
    close(layer(x), layer.project(torch.cat(heads, -1)))


def pixels_seen(layer: nn.Module, x: Tensor, at: tuple[int, int]) -> Tensor:
    """Which pixels of the input the output's pixel depends on."""
    x = x.clone().requires_grad_()
    layer(x)[0, :, at[0], at[1]].sum().backward()
    assert x.grad is not None
    return x.grad[0].abs().sum(0) > 1e-12


def test_windows_do_not_see_each_other() -> None:
    layer = WindowAttention(8, (6, 6), 2, 3).double()
    seen = pixels_seen(layer, torch.randn(1, 8, 6, 6, dtype=torch.float64), (1, 4))
    assert seen[:3, 3:].all()
    assert seen.sum() == 9


@pytest.mark.parametrize(("at", "rows", "columns"), [
    ((2, 2), slice(2, 6), slice(2, 6)), ((0, 0), slice(0, 2), slice(0, 2)), ((0, 7), slice(0, 2), slice(6, 8)),
    ((7, 3), slice(6, 8), slice(2, 6)),
])  # fmt: skip
def test_shifted_windows_cross_borders_but_not_the_maps_edge(at: tuple[int, int], rows: slice, columns: slice) -> None:
    layer = WindowAttention(8, (8, 8), 2, 4, shift=True).double()
    seen = pixels_seen(layer, torch.randn(1, 8, 8, 8, dtype=torch.float64), at)
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[rows, columns] = True
    assert torch.equal(seen, expected)


def test_windows_over_the_edge_see_zeros() -> None:
    """A map of 5x6 in windows of 4 is one of 8x8 whose rest is zero (zeros take part: Swin as torchvision has it)."""
    small, large = (WindowAttention(8, size, 2, 4, shift=True).double() for size in ((5, 6), (8, 8)))
    small.load_state_dict(large.state_dict())
    x = torch.randn(1, 8, 5, 6, dtype=torch.float64)
    close(small(x), large(F.pad(x, (0, 2, 0, 3)))[:, :, :5, :6])


def test_an_axis_of_one_window_is_not_shifted() -> None:
    layer, plain = (WindowAttention(8, (4, 8), 2, 4, shift=shift).double() for shift in (True, False))
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(1, 8, 4, 8, dtype=torch.float64)
    close(layer(x)[..., 2:6], plain(x.roll(-2, 3))[..., :4])


@pytest.mark.parametrize("kind", ["window", "relative"])
def test_relative_attention_is_its_definition(kind: str) -> None:
    """Bias b[dy + H - 1, dx + W - 1] for query and key at displacement (dy, dx)."""
    size = (3, 3) if kind == "window" else (2, 3)
    layer = (WindowAttention(4, size, 2, 3) if kind == "window" else RelativeAttention(4, size, 4, 4, 2)).double()
    nn.init.normal_(layer.bias)
    x = torch.randn(1, 4, *size, dtype=torch.float64)
    tokens = x.flatten(2).transpose(1, 2)
    q, k, v = F.linear(tokens, layer.qkv.weight.flatten(1), layer.qkv.bias).chunk(3, dim=-1)
    table = layer.bias.view(2 * size[0] - 1, 2 * size[1] - 1, 2)
    places = [(i, j) for i in range(size[0]) for j in range(size[1])]
    heads = []
    for h in range(2):
        bias = torch.stack([
            torch.stack([table[a - c + size[0] - 1, b - d + size[1] - 1, h] for c, d in places]) for a, b in places
        ])  # fmt: skip
        part = slice(2 * h, 2 * h + 2)
        heads.append(attend(q[..., part], k[..., part], v[..., part], bias))
    expected = F.linear(torch.cat(heads, -1), layer.project.weight.flatten(1), layer.project.bias)
    close(layer(x).flatten(2).transpose(1, 2), expected)


def test_tokens_and_maps_are_inverse() -> None:
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(ToMap()(ToTokens()(x)), x)


def test_soft_split_unrolls_patches() -> None:
    x = torch.randn(1, 2, 5, 5)
    close(SoftSplit(3, 2, 1)(x)[0, 4], x[0, :, 1:4, 1:4].flatten())


def test_sinusoids_differ_by_place_and_stay_bounded() -> None:
    y = SinusoidalEmbedding(8, 50)(torch.zeros(1, 50, 8))[0]
    assert y.abs().max() <= 1
    assert torch.pdist(y).min() > 0.1
    close(y[:, 0], torch.arange(50.0).sin())
    close(y[:, 1], torch.arange(50.0).cos())


def test_class_tokens_come_first_and_are_pooled_apart() -> None:
    x = torch.randn(2, 9, 4)
    y = ClassToken(4)(x)
    close(y[:, 1:], x)
    pool = TokenPool(4, 10, 8)
    assert pool.linear is not None
    close(pool(y)[:, 0], pool.linear(y[:, 0]))


def test_patch_merging_joins_two_by_two() -> None:
    layer = PatchMerging(1)
    layer.norm, layer.reduce = nn.Identity(), nn.Identity()
    y = layer(torch.arange(16.0).view(1, 1, 4, 4))
    assert y[0, :, 0, 1].tolist() == [2, 6, 3, 7]


def test_a_head_flattens() -> None:
    assert MLPHead(2, (3, 4), 5, hidden_channels=6)(torch.randn(7, 2, 3, 4)).shape == (7, 5)
