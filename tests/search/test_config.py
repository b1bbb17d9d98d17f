"""The keys of a search: every one read, checked, written and read back."""

from __future__ import annotations

import pytest
import yaml

from nas.errors import NasError, UsageError
from nas.net.graph import Size
from nas.search.config import SIZE_WORDS, SearchConfig, SizeWords, as_size
from nas.search.keys import KEYS

LEAST = {"space": "nasnet_cell", "data": "digits", "budget": "3min"}
FULL = {
    **LEAST, "objectives": "accuracy,num_params", "constraint": ["latency<=3ms", "num_params<=1M"], "strategy": "tpe",
    "target": "cpu", "latency_table": "t.json", "workers": "2", "engine": "ray", "address": "ray://head:10001",
    "gpus_per_trial": "0.5", "cpus_per_trial": "2", "train_on": "resource:spot", "trial_timeout": "10min",
    "image_size": "48",
    "epochs": "5", "batch_size": "16", "seed": "7", "deploy": "repeats=6,filters=32,input=3x32x32,num_classes=10,batch=4",
    "runtime": "onnxruntime", "recipe": "imagenet", "formats": "py,onnx",
    "early_stopping": "asha", "baseline": "20%", "repeats": "0", "peers": "2", "final": "3,20%",
    "proxy": "width=0.5,depth=0.25", "run": "mine", "storage": "sqlite:///x.db", "log": "tensorboard",
    "plugins": ["my_ops.py", "lab"],
}  # fmt: skip


def test_every_key_is_read():
    assert FULL.keys() | {"config", "endpoint"} == KEYS.keys()
    assert SearchConfig.from_words({**LEAST, "endpoint": "7070"}).endpoint == "7070"
    config = SearchConfig.from_words(FULL)
    assert (config.workers, config.epochs, config.batch_size, config.seed) == (2, 5, 16, 7)
    assert config.deploy == SizeWords(repeats=6, filters=32, input=(3, 32, 32), num_classes=10, batch=4)
    assert config.proxy == SizeWords(width=0.5, depth=0.25)
    assert config.constraint == ("latency<=3ms", "num_params<=1M")
    assert config.plugins == ("my_ops.py", "lab")
    assert (config.engine, config.address, config.gpus_per_trial, config.cpus_per_trial) == ("ray", "ray://head:10001", 0.5, 2)
    assert (config.timeout_s, SearchConfig.from_words(LEAST).timeout_s) == (600.0, None)


@pytest.mark.parametrize("words", [LEAST, FULL])
def test_what_is_written_is_read_back(words, tmp_path):
    config = SearchConfig.from_words(words)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**config.to_mapping(), "resolved": {"anything": 1}}))
    plugins = {"plugins": config.plugins} if config.plugins else {}  # a file alone names none
    assert SearchConfig.from_words({"config": str(path), **plugins}) == config
    if plugins:
        with pytest.raises(UsageError, match=r"runs no code.*Add plugins=my_ops\.py plugins=lab"):
            SearchConfig.from_words({"config": str(path)})


def test_words_go_before_the_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("space: efficientnet\ndata: digits\nbudget: [100gpuh, 24h]\nobjectives: [accuracy, macs]\n"
                    "constraint: macs<=1M\ndeploy: {repeats: 2, input: [3, 8, 8]}\n")
    config = SearchConfig.from_words({"config": str(path), "space": "nasnet_cell"})
    assert (config.space, config.budget, config.objectives) == ("nasnet_cell", "100gpuh,24h", "accuracy,macs")
    assert config.constraint == ("macs<=1M",)
    assert config.deploy == SizeWords(repeats=2, input=(3, 8, 8))


@pytest.mark.parametrize(("words", "says"), [
    ({"engine": "rya"}, "Did you mean 'ray'"), ({"address": "auto"}, "Add engine=ray"), ({"gpus_per_trial": "1.5"}, "whole"),
    ({"gpus_per_trial": "-1"}, "devices"), ({"cpus_per_trial": "two"}, "devices"), ({"trial_timeout": "10"}, "duration"),
    ({"trial_timeout": "0min"}, "duration"), ({"trial_timeout": "10s"}, "30s or more"),
    ({"trial_timeout": "3trials"}, "duration"), ({"engine": "ray", "endpoint": "7070"}, "through Ray"),
    ({"target": "cuda@H200"}, "Add engine=ray"),
    ({"train_on": "H200"}, "Add engine=ray"), ({"engine": "ray", "train_on": "resource:"}, "a type of GPU"),
    ({"target": "tpu"}, "not a device"),
    ({"spcae": "x"}, "Did you mean 'space'"), ({"space": ""}, "space is missing"), ({"budget": None}, "budget is missing"),
    ({"data": None}, "data is missing"), ({"budget": "3 parsecs"}, "budget"), ({"budget": "-3min"}, "budget"),
    ({"budget": "0min"}, "nothing"),
    ({"budget": "3"}, "not a budget"), ({"budget": "2.5trials"}, "whole"), ({"budget": "3min,4min"}, "once"),
    ({"objectives": "acuracy"}, "Did you mean 'accuracy'"), ({"objectives": "accuracy,accuracy"}, "twice"),
    ({"objectives": ","}, "objective"),
    ({"objectives": "accuracy,memory,memry"}, "Did you mean 'memory'"), ({"final": "3", "budget": "10trials"}, "budget in time"),
    ({"early_stopping": "ashe"}, "asha"), ({"baseline": "ten"}, "share of the budget"),
    ({"constraint": "latency<3ms"}, "<="), ({"constraint": "latency"}, "not a limit"),
    ({"constraint": "latency<=3 apples"}, "latency"),
    ({"constraint": ["num_params<=1M", "speed<=1"]}, "speed"), ({"workers": "0"}, "workers"), ({"workers": "two"}, "workers"),
    ({"epochs": "1.5"}, "epochs"), ({"epochs": "-1"}, "epochs"), ({"batch_size": "1"}, "batch_size"), ({"seed": "-1"}, "seed"),
    ({"seed": "1e3"}, "seed"), ({"epochs": True}, "epochs"), ({"deploy": "repeat=3"}, "Did you mean 'repeats'"),
    ({"deploy": "3"}, "word=value"),
    ({"deploy": "width=0"}, "positive"), ({"proxy": "input=32x32"}, "channels x height x width"),
    ({"proxy": "repeats=2.5"}, "repeats"),
    ({"deploy": "width=nan"}, "width"), ({"deploy": "width=inf"}, "width"),
    ({"run": ""}, "run has no value"), ({"strategy": ""}, "strategy has no value"),
])  # fmt: skip
def test_what_cannot_be_read_is_told(words, says):
    with pytest.raises(UsageError, match=says):
        SearchConfig.from_words({**LEAST, **words})


@pytest.mark.parametrize(("words", "runtime"), [
    ({}, "eager"), ({"formats": "onnx"}, "onnxruntime"), ({"formats": ["onnx", "py"]}, "onnxruntime"),
    ({"formats": "py,onnx"}, "eager"), ({"formats": "pt2"}, "eager"), ({"formats": "onnx", "runtime": "openvino"}, "openvino"),
])  # fmt: skip
def test_it_is_measured_by_what_runs_the_first_format(words, runtime):
    assert SearchConfig.from_words({**LEAST, **words}).measured_by == runtime


@pytest.mark.parametrize("text", ["- a list", "spcae: x", "space: [", "config: other.yaml", "!!python/object:os.system x"])
def test_a_bad_file_is_told(text, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(NasError):
        SearchConfig.from_words({**LEAST, "config": str(path)})
    with pytest.raises(NasError, match="none"):
        SearchConfig.from_words({**LEAST, "config": str(tmp_path / "none.yaml")})


def test_a_size_takes_over_what_is_said():
    base = Size(width=0.5, depth=0.5, input=(1, 8, 8), num_classes=10)
    assert as_size(SizeWords(), base) == base
    assert as_size(SizeWords(width=2.0, input=(3, 4, 4)), base) == Size(width=2.0, depth=0.5, input=(3, 4, 4), num_classes=10)
    assert set(SIZE_WORDS) == set(SizeWords.__dataclass_fields__)


@pytest.mark.parametrize("target", ["http://10.0.0.1:8764", "ssh://me@board"])
def test_a_measuring_server_is_a_target_of_every_engine(target):
    words = {"space": "nasnet_cell", "data": "digits", "budget": "1h", "target": target}
    assert [SearchConfig.from_words({**words, "engine": engine}).target for engine in ("local", "ray")] == [target] * 2
