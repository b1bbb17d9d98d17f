"""Searches on a real Ray cluster through the command line, and what becomes of them when drivers and nodes are killed."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from nas.search.final import FILES
from tests.cli.driver import ROOT, begin, nas, rows, wait_until
from tests.cli.test_faults import check_after_resume, stored
from tests.ops.plugins import MY_OPS
from tests.search.runs import write_data, write_page

PAGE = """
name: mine
input: [1, 8, 8]
network:
  - {name: a, op: conv_bn_act, kernel_size: {choice: [1, 3, 5, 7]}, out_channels: {choice: [16, 24, 32, 40, 48]}}
  - {op: "my_ops.py:SqueezedConv", kernel_size: {choice: [1, 3]}, out_channels: 32}
  - global_avg_pool
  - classifier
"""

pytestmark = pytest.mark.slow  # a Ray node takes seconds to start, and a search on it as many


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head with one CPU. Its workers find the package as the tests do."""
    from ray.cluster_utils import Cluster

    from nas.search.executors.cluster import QUICK

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        head = {"num_cpus": 1, "resources": {"head": 1}, "_system_config": QUICK, "include_dashboard": False}
        here = Cluster(initialize_head=True, head_node_args=head)
        yield here
        here.shutdown()


@pytest.fixture
def slow_data(here):
    """Images enough for a training of a second or two."""
    write_data(here / "tiny.npz", images=900)
    return here


def words(cluster, *more):
    return ("search", "data=tiny.npz", "objectives=accuracy,num_params", "run=r", "seed=5", "engine=ray",
            f"address={cluster.address}", *more)  # fmt: skip


def hosts():
    """Worker processes of actors on this machine's cluster."""
    found = []
    for process in psutil.process_iter(["ppid", "cmdline"]):
        if any("nas.search.executors.worker" in word for word in process.info["cmdline"] or ()):
            parent = psutil.Process(process.info["ppid"])
            if parent.name().startswith("ray::"):
                found.append(process)
    return found


def test_a_killed_driver_goes_on_with_checkpoints_and_a_plugin(cluster, slow_data):
    (slow_data / "my_ops.py").write_text(MY_OPS)
    write_page(slow_data / "mine.yaml", PAGE)
    cluster.add_node(num_cpus=1)
    argv = words(cluster, "space=mine.yaml", "budget=30s", "epochs=9", "early_stopping=asha", "plugins=my_ops.py",
                 "--json")  # fmt: skip
    run = slow_data / "results" / "r"
    driver = begin(*argv, cwd=slow_data)
    wait_until(lambda: list(run.glob("checkpoints/*")), driver)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    before = [t for t in stored(run)[0] if t.state != "running"]
    done = nas(*argv, cwd=slow_data)
    assert done.returncode == 0, done.stderr
    assert "going on with" in done.stderr
    assert not re.search(r"ray::|raylet|WARNING|INFO|pid=", done.stderr), "Ray itself is silent"
    document = json.loads(done.stdout)
    trials, _ = stored(run)
    assert not [t for t in trials if t.state == "running"]
    assert {t.number for t in before} <= {t.number for t in trials}
    assert document["trials"]["failed"] == 0
    assert document["budget"][0]["spent"] <= 33
    assert not list(run.glob("checkpoints/*")), "cleaned up"
    assert hosts() == []


def test_ctrl_c_ends_it_and_leaves_nothing(cluster, slow_data):
    run = slow_data / "results" / "r"
    driver = begin(*words(cluster, "space=many.yaml", "budget=1h", "epochs=12", "strategy=random"), cwd=slow_data)
    wait_until(lambda: len(rows(run)) >= 2, driver)
    driver.send_signal(signal.SIGINT)
    out, err = driver.communicate(timeout=30)
    assert (driver.returncode, err) == (130, "")
    assert "interrupted: every finished candidate is saved" in out
    assert hosts() == []


def test_a_killed_node_costs_its_jobs_and_nothing_is_counted_twice(cluster, slow_data):
    """The search begins on the head alone; a node comes, takes the second worker, and goes."""
    run = slow_data / "results" / "r"
    driver = begin(*words(cluster, "space=many.yaml", "budget=14trials", "epochs=20", "workers=2"), cwd=slow_data)
    wait_until(lambda: len(hosts()) == 1, driver)
    node = cluster.add_node(num_cpus=1)
    wait_until(lambda: len(hosts()) == 2 and len([t for t in stored(run)[0] if t.state == "running"]) == 2, driver)
    node.kill_raylet()
    log = run / "log.txt"
    wait_until(lambda: "it is tried once more" in log.read_text(), driver)
    (line,) = [line for line in log.read_text().splitlines() if "it is tried once more" in line]
    assert "loss of its machine" in line
    out, err = driver.communicate(timeout=600)
    assert (driver.returncode, err) == (0, ""), out
    assert "14 of 14trials" in out
    check_after_resume(run, [], 14)
    lost = int(re.search(r"trial (\d+):", line)[1])
    assert Counter(t.state for t in stored(run)[0] if t.number == lost) == {"completed": 1}


def test_the_best_is_trained_to_the_end_on_a_node_and_comes_back(cluster, slow_data):
    """A job's files are copies on its node, this one too: what the driver has afterwards has travelled."""
    run = slow_data / "results" / "r"
    done = nas(*words(cluster, "space=many.yaml", "budget=4trials,1h", "epochs=2", "final=1,50%", "recipe=quick", "repeats=0",
                      "baseline=0", "--json"), cwd=slow_data, timeout=1200)  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    (final,) = document["final"]
    assert final["trial"] == document["best"]["trial"]
    assert (final["epochs"], final["weights"]) == (8, "fully trained")
    assert final["test_accuracy"] > 0.5
    folder = run / "final" / str(final["trial"])
    assert {path.name for path in folder.iterdir()} - {".lock"} == {*FILES} - {"checkpoint.pt"}
    assert (slow_data / final["export"]).exists()
    assert document["trials"]["completed"] == 2, "the other half is the final training's"
    assert not [t for t in stored(run)[0] if t.state == "running"]
    assert hosts() == []


def test_candidates_are_measured_on_the_node_that_target_names(cluster, slow_data):
    run, bench = slow_data / "results" / "r", cluster.add_node(num_cpus=1, resources={"bench": 1})
    more = ("space=many.yaml", "budget=20cpusec", "epochs=2", "target=resource:bench", "objectives=accuracy,latency")
    driver = begin(*(word for word in words(cluster, *more) if word != "objectives=accuracy,num_params"), cwd=slow_data)
    wait_until(lambda: len(hosts()) == 2, driver)
    nodes = sorted(psutil.Process(host.info["ppid"]).parent().cmdline().count(f"--raylet_socket_name={bench.raylet_socket_name}")
                   for host in hosts())  # fmt: skip
    _, err = driver.communicate(timeout=600)
    assert (driver.returncode, err) == (0, "")
    assert nodes == [0, 1], "one trains, and one measures on the bench"
    assert all(row["latency_ms"] or "not measured" in row["reason"] for row in rows(run) if row["state"] != "duplicate")


@pytest.mark.parametrize(("more", "says"), [
    (["gpus_per_trial=4"], "no node of the cluster has 4 GPU; got 'a cluster with 1 CPU, 1 head'"),
    (["budget=1gpuh"], "no node of the cluster has 1 GPU"),
    (["cpus_per_trial=8"], "no node of the cluster has 8 CPU"),
    (["objectives=accuracy,latency", "target=resource:none"], "no node of the cluster has 1 CPU, 1 none"),
    (["objectives=accuracy,latency", "target=cuda@H200"], "no node of the cluster has 1 CPU, 1 GPU of type H200"),
    (["objectives=accuracy,latency", "target=resource:head"], "cannot hold a slot that measures and one that trains"),
])  # fmt: skip
def test_what_no_node_has_is_refused_before_anything_begins(cluster, here, more, says):
    said = dict(word.split("=", 1) for word in words(cluster, "space=many.yaml", "budget=1h")[1:]) | dict(
        word.split("=", 1) for word in more)  # fmt: skip
    done = nas("search", *(f"{key}={value}" for key, value in said.items()), cwd=here)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (here / "results").exists()
    assert hosts() == []
