"""One small table of calls that covers every operation: (operation, words, input shapes without the batch)."""

from __future__ import annotations

import functools
import inspect
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nas.ops import OPS, Shape, Sketch
from nas.ops.catalogue import from_wiring


class Case(NamedTuple):
    name: str
    words: dict[str, Any]
    shapes: tuple[Shape, ...]

    def __str__(self) -> str:
        words = ",".join(f"{k}={v}" for k, v in self.words.items()).replace(" ", "")
        return f"{self.name}({words})@" + "+".join("x".join(map(str, shape)) for shape in self.shapes)


def call(name: str, *shapes: Shape, **words: Any) -> Case:
    return Case(name, words, shapes)


def strided(name: str, **words: Any) -> list[Case]:
    """An even and an odd map, at stride 1 and 2."""
    channels = words.pop("in_channels", 8)
    return [call(name, (channels, *size), **words, stride=stride) for stride in (1, 2) for size in ((8, 6), (7, 5))]


MAP: Shape = (8, 7, 6)
TOKENS: Shape = (9, 8)

CONVOLUTIONS = [
    *strided("conv", out_channels=6, kernel_size=3),
    call("conv", (6, 23, 24), out_channels=4, kernel_size=11, stride=4, padding=2, groups=2, bias=False),
    call("conv", MAP, out_channels=4, kernel_size=(1, 7), dilation=1),
    call("conv", MAP, out_channels=4, kernel_size=3, dilation=2),
    call("depthwise_conv", (4, 9, 8), kernel_size=31),
    call("depthwise_conv", MAP, kernel_size=(1, 5), stride=2),
    *strided("depthwise_conv", kernel_size=5, dilation=2, bias=False),
    *strided("conv_bn", out_channels=6),
    call("conv_bn", MAP, out_channels=6, kernel_size=3, stride=2, padding=0),
    *strided("relu_conv_bn", out_channels=6, kernel_size=5),
    call("relu_conv_bn", MAP, out_channels=6, kernel_size=(1, 3), stride=(1, 2)),
    *strided("conv_bn_act", out_channels=6, activation="hard_swish"),
    *strided("grouped_conv", out_channels=12, groups=4),
    *strided("stacked_conv", out_channels=6, kernel_size=5),
    call("stacked_conv", MAP, out_channels=6, kernel_size=7),
    *strided("factorized_conv", out_channels=6),
    *strided("factorized_conv", out_channels=6, kernel_size=3, inner_norm=False),
    *strided("bottleneck_conv", out_channels=12),
    call("bottleneck_conv", MAP, out_channels=12, hidden_channels=5, dilation=2),
    *strided("bottleneck_factorized_conv", out_channels=9),
    *strided("bottleneck_factorized_conv", out_channels=9, kernel_size=3),
    *strided("factorized_reduction", out_channels=7),
    call("factorized_reduction", MAP, out_channels=8, relu=True),
    *strided("deformable_conv", out_channels=6),
    call("deformable_conv", MAP, out_channels=6, kernel_size=5),
    call("transposed_conv", MAP, out_channels=4),
    call("transposed_conv", MAP, out_channels=4, kernel_size=3, bias=False),
    call("transposed_conv", MAP, out_channels=4, kernel_size=5, stride=1),
    call("lenet_partial_conv", (6, 7, 8)),
    call("upsample", MAP),
    call("upsample", MAP, scale=3, mode="bilinear"),
    call("upsample_conv", MAP, out_channels=4),
    *strided("separable_conv", out_channels=6),
    call("separable_conv", MAP, out_channels=6, kernel_size=5, dilation=2, relu="none"),
    call("separable_conv", MAP, out_channels=6, padding=0, relu="after"),
    *strided("sep_conv", out_channels=6, kernel_size=7),
    *strided("dil_conv", out_channels=6, kernel_size=5),
    *strided("depthwise_conv_bn_act", kernel_size=5),
    *strided("mobile_sep_conv", out_channels=6),
    *strided("mixed_depthwise_conv"),
]

POOLING = [
    *(case for k in (2, 3, 5, 7) for case in strided("max_pool", kernel_size=k)),
    *(case for k in (2, 3, 4) for case in strided("avg_pool", kernel_size=k)),
    call("max_pool", MAP, kernel_size=3, stride=2, padding=0),
    *(call("max_pool", (4, n, n + 1), kernel_size=3, stride=2, padding=0, ceil_mode=True) for n in (5, 6, 7)),
    *(call("avg_pool", (4, n, n + 1), kernel_size=2, stride=2, padding=1, ceil_mode=True) for n in (5, 6, 7)),
    call("avg_pool", MAP, kernel_size=2, count_padding=True),
    call("avg_pool", MAP, kernel_size=5, stride=3, padding=0),
    *strided("projected_max_pool", out_channels=6),
    *strided("projected_avg_pool", out_channels=6),
    call("projected_avg_pool", MAP, out_channels=8),
    call("global_avg_pool", MAP),
    call("global_max_pool", MAP),
    call("adaptive_avg_pool", MAP, output_size=2),
    call("subsampling", MAP),
]

WIRING = [
    call("identity", MAP, out_channels=8),
    *(case for how in ("conv", "factorized") for case in strided("identity", out_channels=6, project=how)),
    call("identity", MAP, out_channels=8, stride=2, project="relu_factorized"),
    *strided("zero"),
    call("add", MAP, MAP, MAP),
    call("add", TOKENS, TOKENS),
    call("multiply", MAP, MAP),
    call("multiply", MAP, (8, 1, 1), (1, 7, 6)),
    call("chunk", MAP, parts=4, index=2),
    call("chunk", TOKENS, index=1),
    call("narrow", MAP, start=2, length=5),
    call("narrow", TOKENS, start=3),
    call("concat", MAP, (3, 7, 6)),
    call("concat", TOKENS, (9, 4)),
    call("concat", (5,), (6,), (7,)),
    call("scale", MAP, factor=0.3),
    call("drop_path", MAP, drop_prob=0.5),
    call("drop_path", TOKENS, drop_prob=0.5),
    call("unet_up", (8, 4, 3), (5, 8, 6)),
    call("unet_up", (8, 4, 3), (5, 9, 7), mode="bilinear"),
    call("channel_shuffle", MAP, groups=4),
    call("flatten", MAP),
    call("dropout", MAP),
]

NORMS = [
    call("batch_norm", MAP),
    call("batch_norm", MAP, affine=False),
    call("layer_norm", TOKENS),
    call("layer_norm", (8,)),
    call("layer_norm_2d", MAP),
    call("global_response_norm", MAP),
    *(call("layer_scale", shape) for shape in (MAP, TOKENS, (8,))),
    *(call("layer_scale", shape, init=1.0, bias=True) for shape in (MAP, TOKENS, (8,))),
    call("group_norm", MAP, num_groups=4),
    call("instance_norm", MAP),
    call("local_response_norm", MAP),
    *(call(name, MAP) for name in ("relu", "relu6", "leaky_relu", "silu", "gelu", "hard_swish")),
    *(call(name, MAP) for name in ("hard_sigmoid", "sigmoid", "tanh")),
    *(call("softmax", shape) for shape in (MAP, TOKENS, (8,))),
]

CHANNEL_ATTENTION = [
    call("squeeze_excite", (32, 5, 4)),
    call("squeeze_excite", MAP, squeeze_channels=3, activation="silu", gate="hard_sigmoid"),
    *(call("eca", (channels, 5, 4)) for channels in (2, 32, 64)),
    call("eca", MAP, kernel_size=5),
    call("selective_sum", (32, 5, 4), (32, 5, 4)),
    call("selective_sum", MAP, MAP, MAP, squeeze_channels=3, bias=True),
    call("channel_attention", (32, 5, 4)),
    call("spatial_attention", MAP),
    call("cbam", MAP, reduction=4, kernel_size=3),
]

BLOCKS = [
    *strided("basic_block", out_channels=8),
    *strided("basic_block", out_channels=10, shortcut="pad", drop_path=0.2),
    *strided("basic_block", out_channels=8, attention="cbam", reduction=4),
    *strided("bottleneck", out_channels=16, attention="se", reduction=4),
    *strided("bottleneck", out_channels=16, attention="eca"),
    *strided("bottleneck", out_channels=16, hidden_channels=6, groups=3, stride_first=True),
    *strided("preact_basic_block", out_channels=10, dropout=0.3),
    *strided("preact_bottleneck", out_channels=8, stride_first=True),
    *strided("regnet_block", out_channels=8, group_width=4),
    *strided("regnet_block", out_channels=12, group_width=3, bottleneck_ratio=2.0, se_ratio=0.25),
    call("convnext_block", MAP),
    call("convnext_block", MAP, kernel_size=31, expansion=2, drop_path=0.1),
    call("dense_layer", MAP, growth_rate=5),
    call("dense_layer", MAP, growth_rate=5, bottleneck=0, dropout=0.2),
    call("dense_transition", MAP),
    call("dense_transition", MAP, compression=1.0),
    call("poly_inception", MAP),
    call("poly_inception", MAP, kernel_size=3, order=1, narrow_channels=3, side_channels=5, factor=0.7),
    call("fire", MAP, out_channels=17),
    call("fire", MAP, out_channels=16, squeeze_channels=4),
]

MOBILE = [
    *strided("mbconv", out_channels=8),
    *strided("mbconv", out_channels=8, expansion=1, se_ratio=0.0, kernel_size=5, skip=False),
    *strided("fused_mbconv", out_channels=8),
    *strided("fused_mbconv", out_channels=8, expansion=1, se_ratio=0.25),
    *strided("inverted_residual", out_channels=8, hidden_channels=20, se=True, activation="hard_swish"),
    *strided("inverted_residual", out_channels=8, hidden_channels=8),
    *strided("shufflenet_unit", out_channels=8),
    *strided("shufflenet_unit", out_channels=8, branch="xception", kernel_size=5),
    call("ghost_module", MAP, out_channels=9),
    call("ghost_module", MAP, out_channels=9, ratio=3, activation="identity"),
    *strided("ghost_bottleneck", out_channels=8, hidden_channels=12, se_ratio=0.25),
]

HEADS = [
    call("classifier", (8,), num_classes=3),
    call("classifier", (8,), num_classes=3, bias=False),
    call("linear", (8,), out_features=5),
    call("linear", TOKENS, out_features=5, bias=False),
    call("mlp_head", (4, 3, 2), num_classes=3, hidden_channels=6),
    call("aux_classifier", (8, 8, 8), num_classes=3, hidden_channels=5, features=6),
    call("aux_classifier", (8, 7, 9), num_classes=3, pool_stride=2, last_norm=False, hidden_channels=5, features=6),
]

TRANSFORMERS = [
    call("patch_embed", (3, 8, 12), out_channels=6, patch_size=4),
    call("patch_embed", (3, 9, 11), out_channels=6, patch_size=3, stride=2),
    call("conv_stem", (3, 17, 16), out_channels=16, depth=3),
    call("soft_split", MAP),
    call("soft_split", MAP, kernel_size=5, stride=3, padding=2),
    call("to_tokens", MAP),
    call("to_rows", MAP),
    call("to_map", TOKENS),
    call("position_embedding", TOKENS),
    call("rbf_classifier", (84,), num_classes=10),
    call("sinusoidal_embedding", TOKENS),
    call("sinusoidal_embedding", (4, 7)),
    call("class_token", TOKENS),
    call("class_token", TOKENS, count=2),
    call("put_token", (8,), TOKENS),
    call("take_token", TOKENS),
    call("take_token", TOKENS, index=-1),
    call("token_mean", TOKENS),
    call("token_pool", (10, 8), out_channels=16),
    call("token_pool", (16, 8), out_channels=8, stride=3, class_tokens=0),
    call("patch_merging", MAP),
    call("patch_merging", MAP, norm="after"),
    call("self_attention", TOKENS),
    call("self_attention", TOKENS, num_heads=2, qkv_bias=False, dropout=0.1),
    call("self_attention", TOKENS, num_heads=2, talking_heads=True),
    call("class_attention", TOKENS),
    call("class_attention", TOKENS, num_heads=2, qkv_bias=False),
    call("additive_attention", TOKENS),
    call("additive_attention", TOKENS, hidden_channels=5),
    call("multiplicative_attention", TOKENS),
    call("key_value_attention", TOKENS),
    call("window_attention", (8, 6, 9), window_size=3),
    call("window_attention", (8, 6, 9), window_size=3, shift=True, num_heads=2),
    call("window_attention", (8, 4, 4), window_size=4, shift=True),
    call("window_attention", (8, 4, 8), window_size=4, shift=True),
    call("window_attention", (8, 5, 7), window_size=4, shift=True),
    call("window_attention", (8, 2, 3), window_size=4),
    call("window_attention", (8, 6, 9), window_size=3, grid=True, num_heads=2),
    call("window_attention", (8, 5, 7), window_size=4, grid=True, position="none"),
    call("window_attention", (8, 5, 7), window_size=4, shift=True, position="log"),
    call("window_attention", (8, 8, 8), window_size=4, shift=True, position="none"),
    call("reduced_attention", MAP),
    call("reduced_attention", MAP, num_heads=2, reduction=1),
    call("mlp", TOKENS),
    call("mlp", (8,), hidden_channels=5, activation="relu", dropout=0.1),
    call("token_mlp", TOKENS),
    call("token_mlp", TOKENS, hidden_channels=7),
    call("token_linear", TOKENS),
    call("token_linear", TOKENS, bias=False),
    call("transformer_block", TOKENS),
    call("transformer_block", TOKENS, num_heads=2, mlp_ratio=1.5, qkv_bias=False, dropout=0.1, drop_path=0.2),
    call("swin_block", (8, 8, 12), window_size=4),
    call("swin_block", (8, 8, 12), window_size=4, shift=True, drop_path=0.1),
    call("swin_block", (8, 8, 12), window_size=4, shift=True, position="log", norm="after"),
    call("swin_block", (8, 8, 12), window_size=4, grid=True, position="none", activation="silu", mlp_ratio=2.0),
    call("mixer_block", TOKENS),
    call("mixer_block", TOKENS, token_channels=3, hidden_channels=5),
    *strided("coatnet_block", out_channels=8, head_channels=4),
    *strided("coatnet_block", out_channels=12, head_channels=6, mlp_ratio=1.5),
    *strided("coatnet_block", out_channels=12, head_channels=2, expand_first=False, shortcut_bias=False),
    *strided("coatnet_mbconv", out_channels=8),
    *strided("coatnet_mbconv", out_channels=6, se_ratio=0.0),
    call("t2t_transformer", TOKENS, out_channels=6),
    call("t2t_performer", TOKENS, out_channels=6),
]

SEQUENCES = [
    *(call(name, TOKENS, out_channels=6) for name in ("lstm", "gru")),
    *(call(name, TOKENS, out_channels=6, num_layers=2, bidirectional=True) for name in ("lstm", "gru")),
    call("s4", TOKENS),
    call("s4", (8, 5), state_size=4),
    call("s4", (1, 5), state_size=4),
    call("mamba", TOKENS),
    call("mamba", (12, 20), state_size=3, expansion=1, kernel_size=2),
    call("mamba", (2, 4)),
]

CASES = [
    *CONVOLUTIONS, *POOLING, *WIRING, *NORMS, *CHANNEL_ATTENTION, *BLOCKS, *MOBILE, *HEADS, *TRANSFORMERS, *SEQUENCES,
]  # fmt: skip


def sketched(case: Case) -> Sketch:
    """What the operation's sketch says of the case."""
    sketch = Sketch(*case.shapes)
    OPS[case.name].sketch(sketch, **case.words)
    return sketch


def built(case: Case, seed: int = 0) -> nn.Module:
    """The operation's module for the case."""
    torch.manual_seed(seed)
    spec = OPS[case.name]
    given = spec.sketch(Sketch(*case.shapes), **case.words)
    if given is None:
        given = {name: from_wiring(name, Sketch(*case.shapes)) for name in spec.takes} | case.words
    return spec.load()(**given)


def fed(case: Case, batch: int = 2) -> list[Tensor]:
    """Random inputs for the case."""
    torch.manual_seed(1)
    return [torch.randn(batch, *shape) for shape in case.shapes]


@functools.cache
def constructor(name: str) -> dict[str, inspect.Parameter]:
    """The parameters of the operation's module class; none where it has no constructor of its own."""
    parameters = inspect.signature(OPS[name].load()).parameters
    return {name: p for name, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
