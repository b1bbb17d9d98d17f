"""Modules of networks that other libraries have: held against slow and plain definitions."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nas.ops.modules.attention import ClassAttention, LogPosition, ReducedAttention, SelfAttention, WindowAttention
from nas.ops.modules.channel_attention import EfficientChannelAttention, SelectiveSum
from nas.ops.modules.norm import GlobalResponseNorm, LayerScale
from nas.ops.modules.poly import PolyInception
from nas.ops.modules.tokens import PutToken
from nas.ops.modules.transformer import SwinBlock, TokenLinear
from nas.ops.modules.wiring import Chunk, Concat, Narrow

close = torch.testing.assert_close


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("shape", [(2, 8, 3, 5), (2, 3, 8), (2, 8)])
def test_parts_of_channels_are_put_together_again(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    assert torch.equal(Concat()(*(Chunk(4, index)(x) for index in range(4))), x)
    assert torch.equal(Concat()(Narrow(0, 3)(x), Narrow(3)(x)), x)


def test_a_grid_is_a_window_of_far_pixels() -> None:
    """With windows of half the map: the pixels of one place in patches of 2x2, wherever the patch is."""
    grid = WindowAttention(8, (6, 6), num_heads=2, window_size=3, grid=True).double()
    window = WindowAttention(8, (3, 3), num_heads=2, window_size=3).double()
    window.load_state_dict(grid.state_dict())
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    y = grid(x)
    for i in range(2):
        for j in range(2):
            close(y[:, :, i::2, j::2], window(x[:, :, i::2, j::2]))


def test_without_a_bias_a_single_window_is_plain_attention() -> None:
    window = WindowAttention(8, (3, 3), num_heads=2, window_size=3, position="none").double()
    plain = SelfAttention(8, 2).double()
    plain.load_state_dict(window.state_dict())
    x = torch.randn(2, 8, 3, 3, dtype=torch.float64)
    close(window(x).flatten(2).transpose(1, 2), plain(x.flatten(2).transpose(1, 2)))


def test_swin_v2_compares_by_cosine() -> None:
    """Longer queries and keys change nothing; the factor is at most 100, the bias at most 16."""
    position, q, k = LogPosition(4, 2), torch.randn(3, 2, 16, 4), torch.randn(3, 2, 16, 4)
    first, second = position(q, k), position(5 * q, 7 * k)
    for a, b in zip(first, second, strict=True):
        close(a, b)
    assert first[2].shape == (49, 2)
    assert 0 <= first[2].min() <= first[2].max() <= 16
    with torch.no_grad():
        position.factor.fill_(99.0)
    close(position(q, k)[0].norm(dim=-1), torch.full((3, 2, 16), 100.0), rtol=1e-3, atol=1e-3)
    assert position.places.abs().max() == pytest.approx(3.17 / 3, abs=0.01)  # log2(8 + 1) / 3


def test_a_norm_after_the_branch_leaves_the_way_free() -> None:
    block = SwinBlock(8, (4, 4), num_heads=2, window_size=4, norm="after")
    for norm in (block.norm1, block.norm2):
        nn.init.zeros_(norm.weight)
    x = torch.randn(1, 8, 4, 4)
    close(block(x), x)


def test_attention_to_patches() -> None:
    """Without reduction it is plain attention; with one, all keys are alike where all patches are."""
    layer, x = ReducedAttention(8, 2, reduction=1).double(), torch.randn(1, 8, 2, 3, dtype=torch.float64)
    plain = SelfAttention(8, 2).double()
    with torch.no_grad():
        plain.qkv.weight.copy_(torch.cat([layer.query.weight, layer.key_value.weight]))
        plain.qkv.bias.copy_(torch.cat([layer.query.bias, layer.key_value.bias]))
        plain.project.load_state_dict(layer.project.state_dict())
    close(layer(x).flatten(2).transpose(1, 2), plain(x.flatten(2).transpose(1, 2)))
    y = ReducedAttention(8, 2, reduction=2)(torch.ones(1, 8, 4, 4))
    close(y, y[:, :, :1, :1].expand_as(y))


def test_heads_that_do_not_talk_are_heads() -> None:
    talking, plain = SelfAttention(8, 2, talking_heads=True).double(), SelfAttention(8, 2).double()
    plain.load_state_dict(talking.state_dict(), strict=False)
    assert talking.talk is not None
    for layer in talking.talk:
        assert isinstance(layer, nn.Linear)
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    close(talking(x), plain(x))


def test_the_class_token_asks_as_in_plain_attention() -> None:
    asking, plain = ClassAttention(8, 2).double(), SelfAttention(8, 2).double()
    with torch.no_grad():
        plain.qkv.weight.copy_(torch.cat([asking.query.weight, asking.key_value.weight]))
        plain.qkv.bias.copy_(torch.cat([asking.query.bias, asking.key_value.bias]))
        plain.project.load_state_dict(asking.project.state_dict())
    token, rest = torch.randn(2, 8, dtype=torch.float64), torch.randn(2, 4, 8, dtype=torch.float64)
    tokens = PutToken()(token, rest)
    assert torch.equal(tokens[:, 0], token)
    close(asking(tokens), plain(tokens)[:, 0])


def test_neighbouring_channels_decide() -> None:
    layer, x = EfficientChannelAttention(16), torch.randn(1, 16, 3, 3)
    size = layer.conv.kernel_size[0]
    far = x.clone()
    far[:, 0] += 1
    changed = ((layer(far) / far) != (layer(x) / x)).flatten(2).any(2)[0]
    assert not changed[size // 2 + 1 :].any()


def test_a_selective_sum_is_a_mean_of_alike_maps() -> None:
    """And with one weight for every map it is their mean."""
    layer, x = SelectiveSum((8, 8, 8)).eval(), torch.randn(2, 8, 3, 3)
    close(layer(x, x, x), x)
    nn.init.zeros_(layer.select.weight)
    maps = [torch.randn(2, 8, 3, 3) for _ in range(3)]
    close(layer(*maps), torch.stack(maps).mean(0))


def test_channels_with_a_strong_response_are_strengthened() -> None:
    layer, x = GlobalResponseNorm(2), torch.tensor([[[[3.0, 4.0]], [[0.0, 1.0]]]])
    close(layer(x), x)
    nn.init.ones_(layer.weight)
    close(layer(x), x + x * torch.tensor([5.0, 1.0]).view(1, 2, 1, 1) / 3, rtol=1e-4, atol=1e-4)


def test_learned_factors_of_channels() -> None:
    layer = LayerScale(3, init=0.5, bias=True)
    assert layer.bias is not None
    nn.init.constant_(layer.bias, 1.0)
    for shape in ((2, 3, 4, 5), (2, 4, 3), (2, 3)):
        x = torch.randn(shape)
        close(layer(x), x / 2 + 1)


def test_a_layer_over_tokens_mixes_no_features() -> None:
    layer, x = TokenLinear(4), torch.randn(1, 4, 3)
    other = x.clone()
    other[..., 0] += 1
    assert (layer(x) != layer(other)).any(1).tolist() == [[True, False, False]]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_poly_block_runs_its_convolutions_again(order: int) -> None:
    block = PolyInception(6, 3, order, 4, 4, 4, 4, factor=0.5).eval()
    x = torch.randn(1, 6, 5, 5)
    total, term = x, x
    for index in range(order):
        own = block.terms[index]
        y = term
        for place, conv in enumerate(block.path):
            y = F.relu(own.get_submodule(f"norms.{place}")(conv(y)))
        joined = own.get_submodule("join")(torch.cat([y, F.relu(own.get_submodule("side_norm")(block.side(term)))], 1))
        total, term = total + 0.5 * joined, F.relu(joined)
    close(block(x), F.relu(total))
    shared = sum(p.numel() for part in (block.path, block.side) for p in part.parameters())
    assert shared == sum(p.numel() for p in PolyInception(6, 3, 1, 4, 4, 4, 4).parameters()) - sum(
        p.numel() for p in block.terms[0].parameters())  # fmt: skip
