"""What counts cannot tell about the published networks of vision: maps on the way, gradients, any width of a space."""

from __future__ import annotations

import random

import pytest
import torch

from nas.net.build import build
from nas.net.graph import Size
from nas.net.lower import lower
from nas.ops import Shape
from tests.net.test_build import check
from tests.pages import architectures, space

MAPS: dict[str, dict[str, Shape]] = {
    "alexnet": {"conv1": (96, 55, 55), "pool1": (96, 27, 27), "pool2": (256, 13, 13), "pool5": (256, 6, 6)},
    "zfnet": {"conv1": (96, 110, 110), "pool1": (96, 55, 55), "conv2": (256, 26, 26), "pool2": (256, 13, 13),
              "pool5": (256, 6, 6)},
    "googlenet_2014": {"stem": (64, 112, 112), "inception3a.concat": (256, 28, 28), "inception3b.concat": (480, 28, 28),
                       "inception4a.concat": (512, 14, 14), "inception4e.concat": (832, 14, 14),
                       "inception5b.concat": (1024, 7, 7)},
    "bn_inception": {"inception3c.concat": (576, 14, 14), "inception4e.concat": (1056, 7, 7),
                     "inception5b.concat": (1024, 7, 7)},
    "inception_v3": {"mixed1": (256, 35, 35), "mixed2.1": (288, 35, 35), "mixed3.concat": (768, 17, 17),
                     "mixed7.concat": (1280, 8, 8), "mixed8.1": (2048, 8, 8)},
    "inception_v4": {"stem1.concat": (160, 73, 73), "stem3.concat": (384, 35, 35),
                     "reduction_a.concat": (1024, 17, 17), "reduction_b.concat": (1536, 8, 8)},
    "inception_resnet_v2": {"mixed.concat": (320, 35, 35), "reduction1.concat": (1088, 17, 17),
                            "reduction2.concat": (2080, 8, 8), "head": (1536, 8, 8)},
    "xception": {"conv2": (64, 147, 147), "entry1.add": (128, 74, 74), "entry3": (728, 19, 19),
                 "exit.add": (1024, 10, 10), "conv4": (2048, 10, 10)},
    "resnet_50": {"stem": (64, 112, 112), "stage1.2": (256, 56, 56), "stage4.2": (2048, 7, 7)},
    "densenet_121": {"transition1": (128, 28, 28), "transition3": (512, 7, 7), "block4.15": (1024, 7, 7)},
    "squeezenet_1_0": {"conv1": (96, 109, 109), "fire9": (512, 13, 13), "conv10": (1000, 13, 13)},
    "deit_s_distilled": {"position_embedding": (198, 384)},
    "t2t_vit_14": {"split1": (3136, 147), "split2": (784, 576), "split3": (196, 576)},
    "pit_s": {"patches": (729, 144), "pool1": (197, 288), "pool2": (50, 576)},
    "swin_t": {"patches": (96, 56, 56), "stage4.0.shifted": (768, 7, 7)},
    "convnext_t": {"stem": (96, 56, 56), "stage4.2": (768, 7, 7)},
    "unet": {"map5": (1024, 35, 35), "up4": (1024, 71, 71), "up1": (128, 572, 572), "pixels": (2, 572, 572)},
}  # fmt: skip
"""Outputs of layers, as the papers' tables have them."""

SMALL: dict[str, Shape] = {
    "lenet_5": (1, 32, 32), "lenet_5_1998": (1, 32, 32), "googlenet": (3, 64, 64), "googlenet_2014": (3, 64, 64),
    "bn_inception": (3, 64, 64), "inception_v3": (3, 96, 96), "inception_resnet_v2": (3, 96, 96),
    "xception": (3, 64, 64), "resnet_cifar_20": (3, 16, 16), "preact_resnet_164": (3, 16, 16),
    "densenet_bc_100_12": (3, 16, 16), "squeezenet_1_1": (3, 48, 48), "ghostnet": (3, 48, 48),
    "regnet_y_200mf": (3, 48, 48), "deit_ti_distilled": (3, 32, 32), "vit_conv_stem_1gf": (3, 32, 32),
    "t2t_vit_7": (3, 64, 64), "pit_ti": (3, 64, 64), "swin_t": (3, 40, 48), "coatnet_0": (3, 64, 64),
    "mixer_s_32": (3, 64, 64), "convnext_t": (3, 64, 64), "unet": (3, 35, 48),
}  # fmt: skip

SPACES = ["convnext", "densenet", "hybrid", "inception", "lectures", "mixer", "regnet", "resnet_family", "swin", "vit"]


@pytest.mark.parametrize("name", MAPS)
def test_maps_on_the_way(name: str) -> None:
    graph = lower(architectures()[name])
    shapes = {node.name: node.target.shape for node in graph.nodes}
    assert {layer: shapes.get(layer) for layer in MAPS[name]} == MAPS[name]


@pytest.mark.parametrize("name", SMALL)
def test_runs_and_learns(name: str) -> None:
    """Forward and backward with one layer a stack; every weight gets a gradient."""
    torch.manual_seed(0)
    check(lower(architectures()[name], Size(depth=0.01, input=SMALL[name])))


def test_the_two_heads_of_the_distilled_network_are_averaged() -> None:
    torch.manual_seed(0)
    model = build(lower(architectures()["deit_ti_distilled"], Size(depth=0.01, input=(3, 32, 32)))).eval()
    parts = {}
    for name, module in model.named_modules():
        if name.startswith("head."):
            module.register_forward_hook(lambda _, __, output, name=name: parts.update({name: output}))
    y = model(torch.randn(1, 3, 32, 32))
    heads = [part for name, part in parts.items() if name.endswith("classifier") or part.shape == y.shape][:2]
    torch.testing.assert_close(y, (heads[0] + heads[1]) / 2)


@pytest.mark.parametrize("name", SPACES)
def test_samples_of_any_width_and_depth_fit_together(name: str) -> None:
    """Heads and groups divide whatever the width multiplier makes of the widths."""
    for seed, width in enumerate((0.05, 0.1, 0.3, 0.6, 0.9, 1.3, 2.0)):
        sample = space(name).sample(random.Random(seed))
        assert lower(sample, Size(width=width, depth=0.4)).num_params > 0
