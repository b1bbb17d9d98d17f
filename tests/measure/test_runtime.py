"""Engines really run here where they are installed; compiling takes a minute and is for the heavier suite."""

import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from nas.errors import MeasureError, UnsupportedError
from nas.measure import conditions
from nas.measure import latency as room
from nas.measure.latency import measure_latency
from nas.measure.onnx import CPU, CUDA, TENSORRT, OnnxModel, onnxruntime_run, to_onnx
from nas.measure.protocol import Limits
from nas.measure.reference import Anchors
from nas.measure.runtime import RUNTIMES, find_runtime

LENIENT = Limits(tolerance=0.2, min_pairs=20, min_s=0.02, max_s=1, warmup_s=0.02, max_half_width=5, max_rejected=0.99,
                 max_drift=1000, max_speedup=1000, attempts=5)  # fmt: skip


def needs(*packages: str) -> pytest.MarkDecorator:
    missing = [name for name in packages if find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


ONNX = needs("onnx", "onnxscript", "onnxruntime")
INSTALLED = [
    pytest.param("eager"), pytest.param("compile", marks=pytest.mark.slow), pytest.param("onnxruntime", marks=ONNX),
    pytest.param("openvino", marks=needs("onnx", "onnxscript", "openvino")),
]  # fmt: skip


SHAPE = (3, 8, 8)


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(72, 5)).eval()


@pytest.fixture(scope="module")
def exported() -> bytes:
    with torch.inference_mode():
        return to_onnx(tiny(), torch.randn(1, *SHAPE))


@pytest.fixture
def quick(request, monkeypatch):
    """No calibration, the tiny network for a reference too, and it is exported once: exporting takes seconds."""
    monkeypatch.setattr(room, "_calibrate", lambda timer, reference, between: 1e-3)
    monkeypatch.setattr(conditions, "reference_net", lambda depth: tiny())
    monkeypatch.setattr(conditions, "REFERENCE_SHAPE", SHAPE)
    if find_spec("onnx") and find_spec("onnxscript"):
        content = request.getfixturevalue("exported")
        monkeypatch.setattr("nas.measure.onnx.to_onnx", lambda net, data: content)
    conditions._converted_reference.cache_clear()
    yield
    conditions._converted_reference.cache_clear()


class Noticing(nn.Module):
    """Branches on a value, which neither a compiler nor an exporter can take whole."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x


def answer(run) -> Tensor:
    """What a run computed, whichever engine's object it returns."""
    out = run()
    if isinstance(out, Tensor):
        return out
    if hasattr(out, "get_output_tensor"):
        return torch.from_numpy(out.get_output_tensor().data.copy())
    return torch.from_numpy(out.copy_outputs_to_cpu()[0])


@pytest.mark.parametrize("name", INSTALLED)
def test_a_runtime_computes_what_the_network_does(name, quick):
    net, data = tiny(), torch.randn(1, *SHAPE)
    with torch.inference_mode():
        torch.testing.assert_close(answer(find_runtime(name).prepare(net, data, 1)), net(data), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", INSTALLED)
def test_a_measurement_says_what_ran_it(name, quick):
    result = measure_latency(tiny(), SHAPE, runtime=name, limits=LENIENT, anchors=Anchors())
    assert (result.runtime, result.runtime_version) == (name, RUNTIMES[name].version())
    assert result.memory_format == ("channels_last" if name in {"eager", "compile"} else "contiguous")
    assert 0 < result.low_ms <= result.median_ms
    assert result.batch_norm_folded is (False if RUNTIMES[name].in_torch else None)
    assert result.denormals_flushed is (True if RUNTIMES[name].inline else None)


@ONNX
def test_an_engine_runs_its_own_reference_with_its_own_unit(quick, monkeypatch):
    keys, built = [], []
    monkeypatch.setattr("nas.measure.onnx.onnxruntime_run", lambda *words: built.append(1) or onnxruntime_run(*words))
    anchors = Anchors()
    monkeypatch.setattr(anchors, "get", lambda key: keys.append(key))
    for runtime in ("eager", "onnxruntime", "onnxruntime"):
        measure_latency(tiny(), SHAPE, runtime=runtime, limits=LENIENT, anchors=anchors)
    assert len(set(keys)) == 2
    assert "onnxruntime" in keys[-1]
    assert len(built) == 3, "two networks, and the reference once"


@ONNX
def test_onnx_has_one_fixed_input_and_output(exported):
    import onnx

    model = onnx.load_from_string(exported)
    sizes = [[d.dim_value for d in value.type.tensor_type.shape.dim] for value in (*model.graph.input, *model.graph.output)]
    assert sizes == [[1, *SHAPE], [1, 5]]


@ONNX
@pytest.mark.parametrize(("options", "message"), [
    ({"dtype": "bfloat16"}, "float32 or float16.*bfloat16"),
    ({"memory_format": "channels_last"}, "onnxruntime lays tensors out.*contiguous"),
])  # fmt: skip
def test_what_an_engine_cannot_do_is_told(options, message):
    with pytest.raises(MeasureError, match=message):
        measure_latency(tiny(), SHAPE, runtime="onnxruntime", **options)


@ONNX
def test_denormals_stay_flushed_when_the_first_session_of_a_process_is_made(exported, tmp_path):
    (tmp_path / "network.onnx").write_bytes(exported)
    code = f"""
import torch
from nas.measure.device import quiet
from nas.measure.onnx import OnnxModel, onnxruntime_run
with quiet(torch.device("cpu"), 1, None):
    model = OnnxModel(open({str(tmp_path / "network.onnx")!r}, "rb").read())
    onnxruntime_run(model, torch.randn(1, *{SHAPE}), 1, "CPUExecutionProvider")()
    print((torch.tensor([torch.finfo(torch.float32).tiny]) * 0.5).item())
print((torch.tensor([torch.finfo(torch.float32).tiny]) * 0.5).item() > 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0.0", "True"]


@ONNX
def test_a_network_that_cannot_be_exported_is_told():
    with pytest.raises(UnsupportedError, match=r"cannot export.*runtime=eager"):
        measure_latency(Noticing(), SHAPE, runtime="onnxruntime")


class Gpu(SimpleNamespace):
    """ONNX Runtime and an input on the second GPU of a machine that has two; ``starts``: the providers whose library loads."""

    def __init__(self, *starts):
        super().__init__(entries={}, sizes={}, asked=None, starts=starts)
        self.device, self.dtype, self.shape, self.SessionOptions = torch.device("cuda", 1), torch.float32, (1, 2), lambda: self
        self.get_inputs = self.get_outputs = lambda: [SimpleNamespace(name="x")]
        self.io_binding = lambda: SimpleNamespace(bind_input=lambda *words: None, bind_output=lambda *words: None)

    def get_available_providers(self):
        return [CUDA, TENSORRT, CPU]

    def add_session_config_entry(self, name, value):
        self.entries[name] = value

    def add_free_dimension_override_by_name(self, name, size):
        self.sizes[name] = size

    def InferenceSession(self, content, options, providers, enable_fallback):
        self.asked = providers, enable_fallback
        return self

    def get_providers(self):
        return [name for name, _ in self.asked[0] if name in self.starts] + [CPU]

    def contiguous(self):
        return self

    def data_ptr(self):
        return 0


def with_a_free_batch():
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ("batch", 2)) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", "x", "y")], "g", [x], [y])
    return OnnxModel(helper.make_model(graph).SerializeToString())


@ONNX
@pytest.mark.parametrize(("provider", "others"), [(CUDA, []), (TENSORRT, [CUDA])])
def test_a_gpu_is_the_one_asked_for_and_nothing_runs_beside_it(provider, others, monkeypatch):
    gpu = Gpu(provider)
    monkeypatch.setitem(sys.modules, "onnxruntime", gpu)
    onnxruntime_run(with_a_free_batch(), gpu, 1, provider)
    assert gpu.asked == ([(name, {"device_id": 1}) for name in (provider, *others)], 0)
    assert gpu.entries["session.disable_cpu_ep_fallback"] == "1"
    assert gpu.sizes == {"batch": 1}
    gpu.starts = others
    with pytest.raises(MeasureError, match=f"cannot start its {provider} here"):
        onnxruntime_run(with_a_free_batch(), gpu, 1, provider)


@ONNX
def test_a_provider_that_is_not_there_is_told_with_what_to_install():
    with pytest.raises(MeasureError, match=r"no TensorrtExecutionProvider here.*pip install onnxruntime-gpu tensorrt"):
        onnxruntime_run(tiny(), torch.randn(1, *SHAPE), 1, "TensorrtExecutionProvider")


@pytest.mark.parametrize(("name", "package"), [
    ("onnxruntime", "onnxruntime"), ("openvino", "openvino"), ("tensorrt", "tensorrt"),
])  # fmt: skip
def test_a_missing_engine_is_told_with_what_to_install(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MeasureError, match=f"needs the package {package}, which is not installed. Install it: pip install"):
        measure_latency(tiny(), SHAPE, runtime=name)


def test_an_unknown_runtime_is_told_the_nearest():
    with pytest.raises(MeasureError, match=r"eager or compile.*'onnxrt'. Did you mean 'onnxruntime'"):
        measure_latency(tiny(), SHAPE, runtime="onnxrt")
