from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nas import Size, build, load_architecture, load_space, lower
from nas.ops.modules.wiring import DropPath
from nas.train.regularise import Regularisation, joined_operations
from tests.net.nets import lowered

SMALL = Size(width=0.1, depth=1 / 6, input=(3, 32, 32))


def names(model: nn.Module) -> set[str]:
    known = {module: name for name, module in model.named_modules()}
    return {known[module] for module in joined_operations(model)}


def test_a_darts_cell_drops_its_operations_and_not_its_skips_or_projections() -> None:
    model = build(lower(load_architecture("darts_v2_cifar"), SMALL))
    found = {name.removeprefix("stack1.0.") for name in names(model) if name.startswith("stack1.0.")}
    assert found == {"b0.0", "b0.1", "b1.0", "b1.1", "b2.0", "b3.1"}


@pytest.mark.parametrize("name", ["nasnet_a_cifar", "pnasnet_5_cifar", "amoebanet_a_cifar_36"])
def test_projections_and_joins_of_published_cells_are_left(name: str) -> None:
    found = names(build(lower(load_architecture(name), SMALL)))
    assert found
    assert not any("projection" in n or n.endswith((".add", ".concat")) for n in found)


def test_drop_path_acts_in_training_alone_and_leaves_no_trace() -> None:
    torch.manual_seed(0)
    model = build(lower(load_architecture("darts_v2_cifar"), SMALL)).eval()
    images = torch.randn(2, 3, 32, 32)
    plain, state = model(images), copy.deepcopy(model.state_dict())
    regularisation = Regularisation(model, drop_path=True)
    regularisation.set(0.9, 1.0)
    assert torch.equal(model(images), plain)
    model.train()
    cell = model.get_submodule("stack1.0")
    operation = cell.get_submodule("b0.0")
    outputs = [operation(torch.randn(40, 8, 8, 8)) for _ in range(2)]
    dropped = (torch.cat(outputs).flatten(1) == 0).all(1)
    assert 55 <= int(dropped.sum()) < 80, "nine of ten samples are dropped, each as a whole"
    regularisation.remove()
    model.load_state_dict(state)
    assert torch.equal(model.eval()(images), plain)
    assert not any(m._forward_hooks for m in model.modules())


def test_residual_branches_grow_with_depth_and_get_their_own_back() -> None:
    blocks = [{"name": f"b{i}", "op": "mbconv", "out_channels": 4, "drop_path": 0.01} for i in range(4)]
    model = build(lowered(*blocks, "global_avg_pool", "classifier"))
    paths = [m for m in model.modules() if isinstance(m, DropPath)]
    regularisation = Regularisation(model, drop_path=True)
    regularisation.set(0.2, 1.0)
    assert [m.drop_prob for m in paths] == pytest.approx([0.05, 0.1, 0.15, 0.2])
    regularisation.remove()
    assert [m.drop_prob for m in paths] == [0.01] * 4


def test_without_a_word_of_the_recipe_a_page_keeps_its_own() -> None:
    model = build(lowered({"name": "b", "op": "mbconv", "out_channels": 4, "drop_path": 0.1}, "global_avg_pool", "classifier"))
    Regularisation(model, drop_path=False).set(0.0, 1.0)
    assert [m.drop_prob for m in model.modules() if isinstance(m, DropPath)] == [0.1]


def test_dropout_has_its_share() -> None:
    model = nn.Sequential(nn.Dropout(0.4), nn.Linear(2, 2), nn.Dropout(0.2))
    regularisation = Regularisation(model, drop_path=False)
    regularisation.set(0.0, 0.25)
    assert [m.p for m in model if isinstance(m, nn.Dropout)] == pytest.approx([0.1, 0.05])
    regularisation.remove()
    assert [m.p for m in model if isinstance(m, nn.Dropout)] == [0.4, 0.2]


@pytest.mark.parametrize("space", ["hierarchical", "enas_micro", "nas_bench_201"])
def test_cells_of_any_kind_train_with_it(space: str) -> None:
    import random

    model = build(lower(load_space(space).sample(random.Random(3)), Size(width=0.25, depth=1 / 6, input=(3, 16, 16)))).train()
    regularisation = Regularisation(model, drop_path=True)
    regularisation.set(0.3, 1.0)
    assert bool(model(torch.randn(2, 3, 16, 16)).isfinite().all())
    regularisation.remove()
