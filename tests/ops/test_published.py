"""Published networks as chains of operations: parameters and multiply-adds are the known ones, to the unit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nas.ops import OPS, Shape, Sketch

Layer = tuple[str, dict[str, Any]]


def layer(name: str, out_channels: int | None = None, **words: Any) -> Layer:
    return name, words if out_channels is None else {"out_channels": out_channels, **words}


def head(classes: int = 1000) -> list[Layer]:
    return [layer("global_avg_pool"), layer("classifier", num_classes=classes)]


def cost(shape: Shape, layers: list[Layer]) -> tuple[int, int]:
    params = macs = 0
    for name, words in layers:
        sketch = Sketch(shape)
        OPS[name].sketch(sketch, **words)
        shape, params, macs = sketch.shape, params + sketch.num_params, macs + sketch.macs
    return params, macs


def stages(name: str, depths: tuple[int, ...], channels: tuple[int, ...], first: int = 1,
           **words: Any) -> Iterator[Layer]:  # fmt: skip
    """Stages of one block; each begins with stride 2 (the first with ``first``)."""
    for i, (depth, out_channels) in enumerate(zip(depths, channels, strict=True)):
        for j in range(depth):
            stride = (first if i == 0 else 2) if j == 0 else 1
            yield layer(name, out_channels, stride=stride, **words)


STEM = [layer("conv_bn_act", 64, kernel_size=7, stride=2), layer("max_pool", stride=2)]
WIDE = (256, 512, 1024, 2048)
SMALL_STEM = layer("conv_bn_act", 16)
PRE_STEM = layer("conv", 16, bias=False)


def resnext(depths: tuple[int, ...], width: int) -> list[Layer]:
    blocks = stages("bottleneck", depths, WIDE, groups=32)
    return [(n, w | {"hidden_channels": w["out_channels"] * width // 8}) for n, w in blocks]


def densenet(blocks: tuple[int, ...], growth: int, bottleneck: int, compression: float) -> Iterator[Layer]:
    for i, depth in enumerate(blocks):
        yield from [layer("dense_layer", growth_rate=growth, bottleneck=bottleneck)] * depth
        if i < len(blocks) - 1:
            yield layer("dense_transition", compression=compression)


MOBILE_V1 = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
MOBILE_V2 = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
MOBILE_V3 = [
    (3, 16, 16, False, "relu", 1), (3, 64, 24, False, "relu", 2), (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2), *[(5, 120, 40, True, "relu", 1)] * 2, (3, 240, 80, False, "hard_swish", 2),
    (3, 200, 80, False, "hard_swish", 1), *[(3, 184, 80, False, "hard_swish", 1)] * 2,
    (3, 480, 112, True, "hard_swish", 1), (3, 672, 112, True, "hard_swish", 1), (5, 672, 160, True, "hard_swish", 2),
    *[(5, 960, 160, True, "hard_swish", 1)] * 2,
]  # fmt: skip
EFFICIENT = [
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]  # fmt: skip
EFFICIENT_V2_S = [
    (2, 1, 1, 24, 0.0), (4, 2, 4, 48, 0.0), (4, 2, 4, 64, 0.0), (6, 2, 4, 128, 0.25), (9, 1, 6, 160, 0.25),
    (15, 2, 6, 256, 0.25),
]  # fmt: skip
GHOST = [
    (3, 16, 16, 0.0, 1), (3, 48, 24, 0.0, 2), (3, 72, 24, 0.0, 1), (5, 72, 40, 0.25, 2), (5, 120, 40, 0.25, 1),
    (3, 240, 80, 0.0, 2), (3, 200, 80, 0.0, 1), *[(3, 184, 80, 0.0, 1)] * 2, (3, 480, 112, 0.25, 1),
    (3, 672, 112, 0.25, 1), (5, 672, 160, 0.25, 2),
    *[(5, 960, 160, 0.0, 1), (5, 960, 160, 0.25, 1)] * 2,
]  # fmt: skip


def efficient() -> Iterator[Layer]:
    for repeats, kernel, stride, expansion, channels in EFFICIENT:
        for i in range(repeats):
            yield layer("mbconv", channels, kernel_size=kernel, stride=1 if i else stride, expansion=expansion)


def efficient_v2() -> Iterator[Layer]:
    for repeats, stride, expansion, channels, se in EFFICIENT_V2_S:
        for i in range(repeats):
            name = "mbconv" if se else "fused_mbconv"
            yield layer(name, channels, stride=1 if i else stride, expansion=expansion, se_ratio=se)


def convnext() -> Iterator[Layer]:
    yield from [layer("conv", 96, kernel_size=4, stride=4, padding=0), layer("layer_norm_2d")]
    for i, (depth, channels) in enumerate(zip((3, 3, 9, 3), (96, 192, 384, 768), strict=True)):
        if i:
            yield from [layer("layer_norm_2d"), layer("conv", channels, kernel_size=2, stride=2, padding=0)]
        yield from [layer("convnext_block")] * depth
    yield from [layer("global_avg_pool"), layer("layer_norm"), layer("classifier", num_classes=1000)]


def shuffle() -> Iterator[Layer]:
    yield from [layer("conv_bn_act", 24, stride=2), layer("max_pool", stride=2)]
    yield from stages("shufflenet_unit", (4, 8, 4), (116, 232, 464), first=2)
    yield layer("conv_bn_act", 1024, kernel_size=1)
    yield from head()


def squeezenet() -> Iterator[Layer]:
    yield layer("conv", 96, kernel_size=7, stride=2, padding=0)
    for widths in [(16, 16, 32), (32, 48, 48, 64), (64,)]:
        yield layer("max_pool", stride=2, padding=0, ceil_mode=True)
        yield from (layer("fire", 8 * width, squeeze_channels=width) for width in widths)
    yield layer("conv", 1000, kernel_size=1)


def vit() -> Iterator[Layer]:
    yield from [layer("patch_embed", 768), layer("class_token"), layer("position_embedding")]
    yield from [layer("transformer_block", num_heads=12)] * 12
    yield from [layer("layer_norm"), layer("take_token"), layer("classifier", num_classes=1000)]


def t2t(out: int, depth: int, heads: int, ratio: float, name: str) -> Iterator[Layer]:
    yield layer("soft_split", kernel_size=7, stride=4, padding=2)
    for _ in range(2):
        yield from [layer(name, 64), layer("to_map"), layer("soft_split")]
    yield from [layer("linear", out_features=out), layer("class_token"), layer("sinusoidal_embedding")]
    yield from [layer("transformer_block", num_heads=heads, mlp_ratio=ratio, qkv_bias=False)] * depth
    yield from [layer("layer_norm"), layer("take_token"), layer("classifier", num_classes=1000)]


def pit() -> Iterator[Layer]:
    yield from [layer("patch_embed", 144, patch_size=16, stride=8), layer("position_embedding"), layer("class_token")]
    for i, (depth, heads) in enumerate([(2, 3), (6, 6), (4, 12)]):
        if i:
            yield layer("token_pool", 144 << i)
        yield from [layer("transformer_block", num_heads=heads)] * depth
    yield from [layer("layer_norm"), layer("take_token"), layer("classifier", num_classes=1000)]


def swin() -> Iterator[Layer]:
    yield from [layer("conv", 96, kernel_size=4, stride=4, padding=0), layer("layer_norm_2d")]
    for i, (depth, heads) in enumerate([(2, 3), (2, 6), (6, 12), (2, 24)]):
        if i:
            yield layer("patch_merging")
        yield from (layer("swin_block", num_heads=heads, shift=j % 2 == 1) for j in range(depth))
    yield from [layer("layer_norm_2d"), *head()]


def coatnet() -> Iterator[Layer]:
    yield from [layer("conv_bn_act", 64, stride=2, activation="gelu"), layer("conv", 64, bias=False)]
    yield from stages("coatnet_mbconv", (2, 3), (96, 192), first=2)
    yield from stages("coatnet_block", (5, 2), (384, 768), first=2)
    yield from [layer("global_avg_pool"), layer("layer_norm"), layer("linear", out_features=768), layer("tanh")]
    yield layer("classifier", num_classes=1000)


def mixer() -> Iterator[Layer]:
    yield layer("patch_embed", 512)
    yield from [layer("mixer_block")] * 8
    yield from [layer("layer_norm"), layer("token_mean"), layer("classifier", num_classes=1000)]


VGG_16 = [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0]

NETWORKS: dict[str, tuple[Shape, list[Layer], int, int]] = {
    "LeNet-5": (
        (1, 32, 32), [
            layer("conv", 6, kernel_size=5, padding=0), layer("subsampling"), layer("lenet_partial_conv"),
            layer("subsampling"), layer("conv", 120, kernel_size=5, padding=0), layer("flatten"),
            layer("linear", out_features=84), layer("rbf_classifier", num_classes=10)],
        60000, 117600 + 60 * 25 * 100 + 48000 + 10080 + 840),
    "AlexNet": (
        (3, 227, 227), [
            layer("conv", 96, kernel_size=11, stride=4, padding=0), layer("local_response_norm"),
            layer("max_pool", stride=2, padding=0), layer("conv", 256, kernel_size=5, groups=2),
            layer("local_response_norm"), layer("max_pool", stride=2, padding=0), layer("conv", 384),
            layer("conv", 384, groups=2), layer("conv", 256, groups=2), layer("max_pool", stride=2, padding=0),
            layer("mlp_head", num_classes=1000)], 60965224, 724406816),
    "VGG-16": ((3, 224, 224), [*(layer("conv", c) if c else layer("max_pool", kernel_size=2, stride=2) for c in VGG_16),
                               layer("mlp_head", num_classes=1000)], 138357544, 15470264320),
    "ResNet-18": ((3, 224, 224), [*STEM, *stages("basic_block", (2, 2, 2, 2), (64, 128, 256, 512)), *head()],
                  11689512, 1814073344),
    "ResNet-50": ((3, 224, 224), [*STEM, *stages("bottleneck", (3, 4, 6, 3), WIDE), *head()], 25557032, 4089184256),
    "SE-ResNet-50": ((3, 224, 224), [*STEM, *stages("bottleneck", (3, 4, 6, 3), WIDE, attention="se"), *head()],
                     28088024, 4091699200),
    "CBAM-ResNet-18": (
        (3, 224, 224), [*STEM, *stages("basic_block", (2, 2, 2, 2), (64, 128, 256, 512), attention="cbam"), *head()],
        11779392, 1815063764),
    "CBAM-ResNet-50": ((3, 224, 224), [*STEM, *stages("bottleneck", (3, 4, 6, 3), WIDE, attention="cbam"), *head()],
                       28089624, 4095573110),
    "ResNeXt-50 32x4d": ((3, 224, 224), [*STEM, *resnext((3, 4, 6, 3), 4), *head()], 25028904, 4230479872),
    "ResNeXt-101 32x8d": ((3, 224, 224), [*STEM, *resnext((3, 4, 23, 3), 8), *head()], 88791336, 16414015488),
    "ResNet-20": ((3, 32, 32), [SMALL_STEM, *stages("basic_block", (3, 3, 3), (16, 32, 64), shortcut="pad"), *head(10)],
                  269722, 40551040),
    "pre-activation ResNet-110": (
        (3, 32, 32), [PRE_STEM, *stages("preact_basic_block", (18, 18, 18), (16, 32, 64)), layer("batch_norm"),
                      layer("relu"), *head(10)], 1730522, 253149824),
    "pre-activation ResNet-164": (
        (3, 32, 32), [PRE_STEM, *stages("preact_bottleneck", (18, 18, 18), (64, 128, 256)), layer("batch_norm"),
                      layer("relu"), *head(10)], 1703258, 247646720),
    "WideResNet-28-10": (
        (3, 32, 32), [PRE_STEM, *stages("preact_basic_block", (4, 4, 4), (160, 320, 640)), layer("batch_norm"),
                      layer("relu"), *head(10)], 36479194, 5243328768),
    "DenseNet-121": (
        (3, 224, 224), [*STEM, *densenet((6, 12, 24, 16), 32, 4, 0.5), layer("batch_norm"), layer("relu"), *head()],
        7978856, 2834161664),
    "DenseNet(40, 12)": (
        (3, 32, 32), [PRE_STEM, *densenet((12, 12, 12), 12, 0, 1.0), layer("batch_norm"), layer("relu"), *head(10)],
        1019722, 264812928),
    "SqueezeNet 1.0": ((3, 224, 224), list(squeezenet()), 1248424, 818924576),
    "MobileNetV1": ((3, 224, 224), [layer("conv_bn_act", 32, stride=2),
                                    *(layer("mobile_sep_conv", c, stride=s) for c, s in MOBILE_V1), *head()],
                    4231976, 568740352),
    "MobileNetV2": ((3, 224, 224), [
        layer("conv_bn_act", 32, stride=2, activation="relu6"),
        *(layer("mbconv", c, stride=1 if i else s, expansion=t, se_ratio=0.0, activation="relu6")
          for t, c, n, s in MOBILE_V2 for i in range(n)),
        layer("conv_bn_act", 1280, kernel_size=1, activation="relu6"), *head()], 3504872, 300774272),
    "MobileNetV3-Large": ((3, 224, 224), [
        layer("conv_bn_act", 16, stride=2, activation="hard_swish"),
        *(layer("inverted_residual", c, hidden_channels=e, kernel_size=k, stride=s, se=se, activation=a)
          for k, e, c, se, a, s in MOBILE_V3),
        layer("conv_bn_act", 960, kernel_size=1), layer("global_avg_pool"), layer("linear", out_features=1280),
        layer("classifier", num_classes=1000)], 5483032, 216589760),
    "EfficientNet-B0": ((3, 224, 224), [layer("conv_bn_act", 32, stride=2), *efficient(),
                                        layer("conv_bn_act", 1280, kernel_size=1), *head()], 5288548, 385814752),
    "EfficientNetV2-S": ((3, 384, 384), [layer("conv_bn_act", 24, stride=2), *efficient_v2(),
                                         layer("conv_bn_act", 1280, kernel_size=1), *head()], 21458488, 8365617152),
    "GhostNet": ((3, 224, 224), [
        layer("conv_bn_act", 16, stride=2),
        *(layer("ghost_bottleneck", c, hidden_channels=e, kernel_size=k, stride=s, se_ratio=se)
          for k, e, c, se, s in GHOST),
        layer("conv_bn_act", 960, kernel_size=1), layer("global_avg_pool"), layer("linear", out_features=1280),
        layer("classifier", num_classes=1000)], 5182508, 141150512),
    "ShuffleNetV2 x1.0": ((3, 224, 224), list(shuffle()), 2278604, 144907992),
    "RegNetX-400MF": ((3, 224, 224), [
        layer("conv_bn_act", 32, stride=2),
        *stages("regnet_block", (1, 2, 7, 12), (32, 64, 160, 400), 2, group_width=16), *head()], 5495976, 413812608),
    "RegNetY-800MF": ((3, 224, 224), [
        layer("conv_bn_act", 32, stride=2),
        *stages("regnet_block", (1, 3, 8, 2), (64, 128, 320, 768), 2, group_width=16, se_ratio=0.25), *head()],
        6263168, 797176832),
    "ConvNeXt-T": ((3, 224, 224), list(convnext()), 28589128, 4455531264),
    "ViT-B/16": ((3, 224, 224), list(vit()), 86567656, 17563828224),
    "T2T-ViT-7": ((3, 224, 224), list(t2t(256, 7, 4, 2.0, "t2t_performer")), 4310222, 1146863616),
    "T2T-ViT-14": ((3, 224, 224), list(t2t(384, 14, 6, 3.0, "t2t_performer")), 21545550, 4783468544),
    "T2T-ViT_t-14": ((3, 224, 224), list(t2t(384, 14, 6, 3.0, "t2t_transformer")), 21541070, 6088721920),
    "PiT-S": ((3, 224, 224), list(pit()), 23461912, 2870796096),
    "Swin-T": ((3, 224, 224), list(swin()), 28288354, 4490566656),
    "CoAtNet-0": ((3, 224, 224), list(coatnet()), 25036820, 4546507776),
    "MLP-Mixer-S/16": ((3, 224, 224), list(mixer()), 18528264, 3776958464),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_are_the_published_ones(name: str) -> None:
    shape, layers, params, macs = NETWORKS[name]
    assert cost(shape, layers) == (params, macs)


def at(channels: int, name: str, **words: Any) -> int:
    sketch = Sketch((channels, 8, 8))
    OPS[name].sketch(sketch, **words)
    return sketch.num_params


@pytest.mark.parametrize("c", [16, 36, 44])
def test_cell_operations_cost_what_their_papers_code_does(c: int) -> None:
    for k in (3, 5, 7):
        assert at(c, "sep_conv", out_channels=c, kernel_size=k) == 2 * (k * k * c + c * c + 2 * c)
    assert at(c, "dil_conv", out_channels=c) == 9 * c + c * c + 2 * c
    assert at(c, "factorized_reduction", out_channels=2 * c) == 2 * c * c + 4 * c
    assert at(c, "factorized_conv", out_channels=c, inner_norm=False) == 14 * c * c + 2 * c
    r = c // 4
    assert at(c, "bottleneck_conv", out_channels=c) == 2 * c * r + 4 * r + 9 * r * r + 2 * c
    assert at(c, "bottleneck_factorized_conv", out_channels=c) == 2 * c * r + 6 * r + 14 * r * r + 2 * c
    r = 3 * c // 8
    assert at(c, "bottleneck_factorized_conv", out_channels=c, kernel_size=3) == 2 * c * r + 6 * r + 6 * r * r + 2 * c


def test_darts_auxiliary_classifiers() -> None:
    cifar, imagenet = Sketch((576, 8, 8)), Sketch((768, 7, 7))
    OPS["aux_classifier"].sketch(cifar, num_classes=10)
    OPS["aux_classifier"].sketch(imagenet, num_classes=1000, pool_stride=2, last_norm=False)
    assert (cifar.num_params, imagenet.num_params) == (476426, 1260776)
