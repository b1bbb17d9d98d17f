"""What a search has reached is made anew from its study, and what it has spent is stored now and then."""

from __future__ import annotations

from nas.search.ledger import SAVE_EVERY_S
from tests.search.fakes import Clock, FakeExecutor, a_loop, run_loop


def test_a_new_ledger_knows_and_writes_what_the_old_one_did(tmp_path):
    old = run_loop(tmp_path).ledger
    files = (old.folder.trials, old.folder.front, old.folder.best)
    before = [sorted(path.read_text().splitlines()) for path in files]
    for path in files:
        path.unlink()
    (tmp_path / "weights" / "999.pt").touch()
    with a_loop(tmp_path, FakeExecutor()) as loop:
        new = loop.ledger
        new.write_front()
    assert new.counts == old.counts
    assert [r.number for r in new.front.members] == [r.number for r in old.front.members] != []
    assert [sorted(path.read_text().splitlines()) for path in files] == before
    assert not (tmp_path / "weights" / "999.pt").exists()


def test_what_was_spent_is_stored_now_and_then(tmp_path):
    clock = Clock()
    with a_loop(tmp_path, FakeExecutor(), clock=clock) as loop:
        ledger, stored = loop.ledger, loop.study.metadata.get("meter")
        ledger.save_often()
        assert loop.study.metadata.get("meter") == stored
        clock.now += SAVE_EVERY_S
        ledger.save_often()
        assert loop.study.metadata["meter"]["wall"] == SAVE_EVERY_S


def test_a_remark_is_for_the_user_and_for_the_log(tmp_path):
    with a_loop(tmp_path, FakeExecutor()) as loop:
        loop.ledger.remark("there was no room")
        assert loop.ledger.remarks == ["there was no room"]
        assert "there was no room" in loop.folder.log.read_text()
