"""Columns and readable numbers."""

from __future__ import annotations

import pytest

from nas.report.text import big, count, duration, milliseconds, percent, table


def test_a_table_sets_numbers_to_the_right():
    text = table(("name", "n"), [("a", 5), ("bbbbb", 1200)])
    assert text.splitlines() == ["name      n", "-----  ----", "a         5", "bbbbb  1200"]
    assert table(("a",), []).splitlines() == ["a", "-"]


@pytest.mark.parametrize(("text", "said"), [
    (big(None), "infinite"), (big(1234), "1,234"), (big(10**36), "1.00e+36"), (percent(None), "-"), (percent(0.12345), "12.35 %"),
    (count(None), "-"), (count(0), "0"), (count(999), "999"), (count(1234), "1.23K"), (count(5.6e6), "5.6M"), (count(7e9), "7G"),
    (milliseconds(None), "-"), (milliseconds(1.2345), "1.23 ms"), (duration(5), "5 s"),
    (duration(600), "10 min"), (duration(7200), "2.0 h"),
])  # fmt: skip
def test_numbers_as_people_read_them(text, said):
    assert text == said
