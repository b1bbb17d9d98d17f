"""What cannot be is refused by the sketch, before any module is built, and the message says what could be."""

from __future__ import annotations

from typing import Any

import pytest

from nas.errors import ShapeError
from nas.ops import OPS, Shape, Sketch

MAP: Shape = (8, 8, 8)
TOKENS: Shape = (10, 8)

REFUSED: list[tuple[str, tuple[Shape, ...], dict[str, Any], str]] = [
    ("conv", (MAP,), {"out_channels": 9, "groups": 4}, "groups must divide"),
    ("conv", (MAP,), {"out_channels": 0}, "impossible out_channels"),
    ("conv", (MAP,), {"out_channels": 4, "stride": 0}, "impossible stride"),
    ("conv", (MAP,), {"out_channels": 4, "kernel_size": 11, "padding": 0}, "too small"),
    ("conv", (TOKENS,), {"out_channels": 4}, "feature maps"),
    ("grouped_conv", (MAP,), {"out_channels": 8, "groups": 3}, "groups must divide"),
    ("conv_bn_act", (MAP,), {"out_channels": 8, "activation": "rellu"}, "'relu'"),
    ("stacked_conv", (MAP,), {"out_channels": 8, "kernel_size": 4}, "an odd number"),
    ("transposed_conv", (MAP,), {"out_channels": 8, "kernel_size": 2, "stride": 3}, "at least the stride, 3"),
    ("transposed_conv", (MAP,), {"out_channels": 8, "kernel_size": 4, "stride": 1}, "an odd one"),
    ("upsample", (MAP,), {"mode": "bicubic"}, "nearest, bilinear"),
    ("lenet_partial_conv", (MAP,), {}, "6 input channels"),
    ("separable_conv", (MAP,), {"out_channels": 8, "relu": "always"}, "before, after, none"),
    ("mixed_depthwise_conv", ((2, 8, 8),), {"num_kernels": 3}, "more kernels than channels"),
    ("max_pool", (MAP,), {"kernel_size": 3, "padding": 2}, "padding alone"),
    ("max_pool", (MAP,), {"kernel_size": 9, "padding": 0}, "too small"),
    ("max_pool", (MAP,), {"stride": 0}, "impossible stride"),
    ("identity", (MAP,), {"out_channels": 8, "project": "covn"}, "'conv'"),
    ("add", (MAP, (9, 8, 8)), {}, "one shape"),
    ("concat", (MAP, (8, 4, 4)), {}, "one size"),
    ("multiply", (MAP, (8, 4, 1)), {}, "one shape"),
    ("multiply", (MAP, (8,)), {}, "one shape"),
    ("chunk", (MAP,), {"parts": 3}, "1, 2, 4, 8"),
    ("chunk", (MAP,), {"parts": 4, "index": 4}, "0 to 3"),
    ("narrow", (MAP,), {"start": 4, "length": 5}, "0 to 8"),
    ("narrow", (MAP,), {"start": -1}, "0 to 8"),
    ("selective_sum", (MAP,), {}, "two or more"),
    ("selective_sum", (MAP, (9, 8, 8)), {}, "one shape"),
    ("eca", (MAP,), {"kernel_size": 4}, "an odd number"),
    ("window_attention", (MAP,), {"shift": True, "grid": True}, "not shifted"),
    ("window_attention", (MAP,), {"position": "tabel"}, "'table'"),
    ("reduced_attention", (MAP,), {"reduction": 9}, "too small"),
    ("token_linear", (MAP,), {}, "works on tokens"),
    ("drop_path", (MAP,), {"drop_prob": 1.0}, "0 <= value < 1"),
    ("channel_shuffle", (MAP,), {"groups": 3}, "1, 2, 4, 8"),
    ("unet_up", (MAP, MAP), {}, "smaller map first"),
    ("unet_up", ((7, 4, 4), MAP), {}, "half the channels"),
    ("group_norm", (MAP,), {"num_groups": 5}, "1, 2, 4, 8"),
    ("layer_norm", (MAP,), {}, "layer_norm_2d"),
    ("instance_norm", ((8, 1, 1),), {}, "always zero"),
    ("spatial_attention", (MAP,), {"kernel_size": 4}, "an odd number"),
    ("basic_block", (MAP,), {"out_channels": 4, "shortcut": "pad"}, "cannot drop channels"),
    ("basic_block", (MAP,), {"out_channels": 8, "attention": "ese"}, "none, se, eca, cbam"),
    ("bottleneck", (MAP,), {"out_channels": 3}, "impossible out_channels"),
    ("bottleneck", (MAP,), {"out_channels": 16, "groups": 3}, "groups must divide"),
    ("regnet_block", (MAP,), {"out_channels": 12, "group_width": 5}, "1, 2, 3, 4, 6, 12"),
    ("poly_inception", (MAP,), {"order": 0}, "impossible order"),
    ("dense_transition", (MAP,), {"compression": 0.0}, "0 < compression"),
    ("shufflenet_unit", (MAP,), {"out_channels": 10}, "keeps its channels"),
    ("shufflenet_unit", (MAP,), {"out_channels": 9, "stride": 2}, "two halves"),
    ("ghost_module", (MAP,), {"out_channels": 8, "ratio": 1}, "from 2"),
    ("classifier", (MAP,), {"num_classes": 3}, "global_avg_pool"),
    ("aux_classifier", ((8, 4, 4),), {"num_classes": 3}, "too small"),
    ("patch_embed", (MAP,), {"out_channels": 8, "patch_size": 3}, "do not cover"),
    ("conv_stem", (MAP,), {"out_channels": 12, "depth": 4}, "does not divide 12"),
    ("to_map", (TOKENS,), {}, "no square"),
    ("token_pool", (TOKENS,), {"out_channels": 12}, "groups must divide"),
    ("put_token", ((9,), TOKENS), {}, "vector before tokens"),
    ("put_token", (TOKENS, TOKENS), {}, "vector before tokens"),
    ("class_attention", (TOKENS,), {"num_heads": 3}, "1, 2, 4, 8"),
    ("take_token", (TOKENS,), {"index": 10}, "below 10"),
    ("self_attention", (TOKENS,), {"num_heads": 3}, "1, 2, 4, 8"),
    ("transformer_block", (MAP,), {}, "works on tokens"),
    ("key_value_attention", ((4, 7),), {}, "keys and values"),
    ("window_attention", (MAP,), {"window_size": 0}, "window_size"),
    ("swin_block", (MAP,), {"window_size": 4, "num_heads": 3}, "1, 2, 4, 8"),
    ("coatnet_block", (MAP,), {"out_channels": 48}, "does not divide 48"),
    ("mixer_block", (TOKENS,), {"dropout": 1.5}, "0 <= value < 1"),
    ("s4", (TOKENS,), {"state_size": 5}, "conjugate pairs"),
    ("lstm", (TOKENS,), {"out_channels": 5, "bidirectional": True}, "directions"),
    ("mamba", (MAP,), {}, "works on tokens"),
]


@pytest.mark.parametrize(("name", "shapes", "words", "message"), REFUSED)
def test_impossible_words_are_refused(name: str, shapes: tuple[Shape, ...], words: dict[str, Any],
                                      message: str) -> None:  # fmt: skip
    with pytest.raises(ShapeError, match=message):
        OPS[name].sketch(Sketch(*shapes), **words)


@pytest.mark.parametrize("name", sorted(OPS))
def test_no_shape_gives_a_traceback(name: str) -> None:
    """Whatever comes in, an operation takes it or says why not."""
    spec, errors = OPS[name], []
    words = dict.fromkeys(spec.required, 8)
    for shape in ((8, 8, 8), (1, 1, 1), (5, 3, 7), (9, 8), (1, 1), (8,)):
        try:
            spec.sketch(Sketch(*[shape] * (spec.inputs or 2)), **words)
        except ShapeError as error:
            errors.append(error)
    assert all(error.expected for error in errors)
