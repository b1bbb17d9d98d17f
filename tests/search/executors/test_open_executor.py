"""The one place that makes executors: what a configuration asks for is what its slots hold."""

import json
import os
import subprocess
import sys

import pytest

from nas.errors import UsageError
from nas.search.config import SearchConfig
from nas.search.executors import ask_of, default_workers, engine, open_executor
from nas.search.executors.cluster import Ask
from nas.search.executors.target import Target
from tests.search.executors.contract import TASK, job, run_all


def config(**words: str) -> SearchConfig:
    return SearchConfig.from_words({"space": "nasnet_cell", "data": "digits", "budget": "3min", **words})


def test_local_slots():
    told: list[str] = []
    asked = config(workers="2", cpus_per_trial="3", endpoint="0")
    with engine(asked), open_executor(asked, "cpu", task=TASK, say=told.append) as executor:
        assert [slot.threads for slot in executor.resources] == [3, 3]
        assert set(run_all(executor, job(1, "nothing"))[1]) == {1}
        assert told[0].startswith("other machines join with: nas worker connect=127.0.0.1:")
    with open_executor(asked, "cpu", task=TASK, use="measure") as executor:
        assert [slot.threads for slot in executor.resources] == [1]


def test_shares_of_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"GPU-a-{os.getpid()},GPU-b-{os.getpid()}")  # no other test's
    shares = ({}, {"gpus_per_trial": "0.5"}, {"gpus_per_trial": "2"})
    assert [default_workers(config(**words), "cuda") for words in shares] == [2, 4, 1]
    with pytest.raises(UsageError, match="asks for 3 GPU"):
        default_workers(config(gpus_per_trial="3"), "cuda")
    with open_executor(config(gpus_per_trial="0.5"), "cuda", task=TASK) as executor:
        assert [(slot.device, slot.fraction) for slot in executor.resources] == [("cuda:0", 0.5), ("cuda:1", 0.5)] * 2


@pytest.mark.parametrize(
    ("words", "device", "use", "ask"),
    [
        ({}, "cuda", "train", Ask(cpus=1, gpus=1)),
        ({"gpus_per_trial": "0.25", "cpus_per_trial": "4"}, "cuda", "train", Ask(cpus=4, gpus=0.25)),
        ({"gpus_per_trial": "0.25"}, "cpu", "train", Ask(cpus=1)),
        ({"train_on": "H200"}, "cuda", "train", Ask(cpus=1, gpus=1, accelerator="H200")),
        ({"train_on": "resource:spot"}, "cpu", "train", Ask(cpus=1, resources={"spot": 0.001})),
        ({"train_on": "H200", "target": "cpu"}, "cuda", "measure", Ask(cpus=1)),
        ({"gpus_per_trial": "0.25"}, "cuda", "measure", Ask(cpus=1, gpus=1)),
        ({"target": "cuda@H200"}, "cpu", "measure", Ask(cpus=1, gpus=1, accelerator="H200")),
        ({"target": "resource:pixel"}, "cuda", "measure", Ask(cpus=1, resources={"pixel": 1})),
        ({"target": "cuda@resource:edge"}, "cuda", "measure", Ask(cpus=1, gpus=1, resources={"edge": 1})),
        ({"target": "cpu"}, "cuda", "measure", Ask(cpus=1)),
        ({"target": "http://box:8764"}, "cuda", "measure", Ask(cpus=1)),
    ],
)
def test_what_is_asked_of_ray(words, device, use, ask):
    assert ask_of(config(engine="ray", **words), device, use) == ask


@pytest.mark.parametrize(("use", "slots"), [("train", 4), ("measure", 1)])
def test_one_slot_of_a_cluster_measures_and_the_rest_trains(use, slots, monkeypatch):
    asked = []

    class Cluster:
        resources, waiting = (), 0

        def __init__(self, task, *, workers, **words):
            asked.append(workers)

    monkeypatch.setattr("nas.search.executors.ray.RayExecutor", Cluster)
    open_executor(config(engine="ray", target="cuda@H200", workers="4"), "cuda", task=TASK, use=use)
    assert asked == [slots]


@pytest.mark.parametrize("text", ["", "gpu", "cpu@H200", "cuda@", "resource:", "cuda@resource:", "cuda@host:1"])
def test_what_is_no_target(text):
    with pytest.raises(UsageError, match="not a device to measure on"):
        Target.parse(text)


@pytest.mark.parametrize("address", ["http://box:8764", "https://box?device=cuda:0", "ssh://me@box:22/opt/nas"])
def test_an_address_is_a_target_of_any_engine(address):
    assert config(target=address).target == address
    assert not Target.parse(address).elsewhere


ON_RAY = f"""
import json
from nas.search.config import SearchConfig
from nas.search.executors import cluster_device, default_workers, engine, open_executor
config = SearchConfig.from_words({{"space": "x", "data": "digits", "budget": "3min", "engine": "ray", "address": "local",
                                   "cpus_per_trial": "0.5"}})
with engine(config):
    workers, device = default_workers(config, "cpu"), cluster_device(config)
    with open_executor(config, device, task="{TASK}", workers=1) as executor:
        print(json.dumps([workers, device, len(executor.resources), executor.resources[0].fraction]))
"""


@pytest.mark.slow
def test_on_a_ray_of_its_own():
    done = subprocess.run([sys.executable, "-c", ON_RAY], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    workers, device, slots, fraction = json.loads(done.stdout)
    assert workers >= 2
    assert (device, slots, fraction) == ("cpu", 1, 0.5)
