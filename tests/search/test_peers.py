"""Published networks beside a front: which are taken, and what is kept of them."""

from __future__ import annotations

from dataclasses import replace

from nas.net.graph import Size
from nas.search.peers import nearest_published, train_peers
from tests.search.fakes import FakeExecutor, a_loop, accuracy_of, measured, settled


def test_the_nearest_in_multiply_adds_of_the_right_image_size():
    size = Size(input=(3, 32, 32), num_classes=10)
    peers = nearest_published(size, 40e6, 3)
    assert len(peers) == 3
    assert all(peer.page["input"][1] == 32 for peer in peers)
    assert len({peer.page["source"] for peer in peers}) == 3
    assert [peer.distance(40e6) for peer in peers] == sorted(peer.distance(40e6) for peer in peers)
    (large,) = nearest_published(Size(input=(3, 224, 224), num_classes=1000), 4e9, 1)
    assert 2e9 < large.row["macs"] < 8e9


def test_peers_are_trained_and_measured_as_candidates_are(tmp_path):
    chosen = settled(objectives="accuracy,latency", budget="40trials", peers="2,20%", strategy="random")
    chosen = replace(chosen, plan=replace(chosen.plan, deploy=replace(chosen.plan.deploy, input=(3, 32, 32)),
                                          proxy=replace(chosen.plan.proxy, input=(3, 32, 32))))
    executor = FakeExecutor(measured(lambda trial: 2.0), slots=2)
    with a_loop(tmp_path, executor, chosen) as loop:
        loop.run()
        before = len(executor.submitted)
        train_peers(loop)
        train_peers(loop)
        rows = loop.study.metadata["peers"]
    extra = executor.submitted[before:]
    assert [job.payload["stage"]["do"] for job in extra] == ["measure", "measure", "train", "train"]
    assert all(job.payload["recipe"] == loop.payload["recipe"] for job in extra)
    assert len({row["name"] for row in rows}) == 2
    for row in rows:
        assert row["latency_ms"] == 2.0
        assert row["accuracy"] in {accuracy_of(job)["metrics"]["accuracy"] for job in extra[2:]}
        assert row["num_params"] > 0
