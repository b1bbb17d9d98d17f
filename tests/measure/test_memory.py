import random
import weakref

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nas.errors import MeasureError, UnsupportedError
from nas.measure import memory, metrics
from nas.measure.lock import device_lock
from nas.measure.memory import activation_bytes, peak_bytes, weight_bytes
from nas.net.build import build
from nas.net.graph import Call, Graph, Node, Size
from nas.net.lower import lower
from nas.space.library import load_space


def graph(*nodes, output, shape=(2, 4, 4)):
    return Graph("g", (("x", shape),), tuple(nodes), output, shape)


SHAPE = (2, 4, 4)
MAP = 2 * 4 * 4 * 4
STEP = Call("identity", {}, SHAPE, 0, 0)
CHAIN = graph(Node("a", STEP, ("x",)), Node("b", STEP, ("a",)), Node("c", STEP, ("b",)), output="c")


def test_weights_and_buffers_in_their_types():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    floats, counter = 6 + 2 + 4 + 4, 8
    assert weight_bytes(model) == 4 * floats + counter
    assert weight_bytes(model, torch.float16) == 2 * floats + counter
    tied = nn.ModuleList([model[0], model[0]])
    assert weight_bytes(tied) == 4 * 8


def test_a_chain_holds_its_input_and_two_tensors():
    assert activation_bytes(CHAIN) == 3 * MAP
    assert activation_bytes(CHAIN, batch=5, dtype=torch.bfloat16) == 5 * 3 * MAP // 2


def test_a_tensor_is_held_until_its_last_reader():
    longer = Node("d", STEP, ("a",))
    assert activation_bytes(graph(*CHAIN.nodes, longer, output="d")) == 4 * MAP


def test_what_nothing_reads_is_let_go():
    unread = [Node(f"u{i}", STEP, ("x",)) for i in range(5)]
    assert activation_bytes(graph(*unread, *CHAIN.nodes, output="c")) == 3 * MAP


def test_a_cell_counts_with_what_its_caller_holds():
    outer = graph(Node("a", STEP, ("x",)), Node("cell", CHAIN, ("a",)), Node("b", STEP, ("cell",)), output="b")
    assert activation_bytes(outer) == 4 * MAP


class Watch(TorchDispatchMode):
    """Counts the bytes of tensors that are alive while a network runs."""

    def __init__(self):
        super().__init__()
        self.alive, self.peak, self.seen = 0, 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor) and (key := tensor.untyped_storage()._cdata) not in self.seen:
                self.hold(tensor, key)
        return out

    def hold(self, tensor, key):
        size = tensor.untyped_storage().nbytes()
        self.seen.add(key)
        self.alive += size
        self.peak = max(self.peak, self.alive)

        def drop():
            self.alive -= size
            self.seen.discard(key)

        weakref.finalize(tensor.untyped_storage(), drop)


@pytest.mark.parametrize("seed", range(3))
def test_the_estimate_is_below_what_eager_torch_holds_and_not_absurdly(seed):
    """Eager modules keep more: every output of a network until its forward returns, and tensors inside operations."""
    size = Size(width=0.25, depth=1 / 3, input=(3, 16, 16), num_classes=10)
    lowered = lower(load_space("nasnet_cell").sample(random.Random(seed)), size)
    network, data = build(lowered).eval(), torch.randn(1, 3, 16, 16)
    with torch.no_grad(), Watch() as watch:
        network(data)
    held = watch.peak + 4 * data.numel()
    assert held / 4 < activation_bytes(lowered) <= held


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    """A GPU that counts nothing."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    for room in (memory, metrics):
        monkeypatch.setattr(room, "find_device", lambda name: torch.device("cuda", 0))
    monkeypatch.setattr(metrics, "lock_name", lambda device: "gpu")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)


class Large(nn.Module):
    def to(self, *words, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")


def test_what_does_not_fit_is_told(gpu):
    with pytest.raises(UnsupportedError, match="the network does not run on cuda:0: CUDA out of memory"):
        peak_bytes(Large(), (3, 8, 8))


def test_peak_memory_is_counted_alone_on_the_device(gpu, monkeypatch):
    def peak(network, shape, **options):
        with pytest.raises(MeasureError, match="stayed in use"), device_lock("gpu", timeout_s=0):
            pass
        return 7

    monkeypatch.setattr(metrics, "peak_bytes", peak)
    monkeypatch.setattr(metrics, "build", lambda graph: nn.Identity())
    assert metrics.memory_of("cuda", CHAIN).peak_bytes == 7


def test_peak_memory_is_counted_on_cuda_only():
    with pytest.raises(MeasureError, match="CUDA only"):
        peak_bytes(nn.Identity(), (3, 8, 8), device="cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_peak_memory_holds_the_weights_and_the_largest_tensors():
    model = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1))
    tensors = 4 * 8 * 32 * 32 * (64 + 64)
    assert peak_bytes(model, (3, 32, 32), batch=8) >= weight_bytes(model) + tensors
