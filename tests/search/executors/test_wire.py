import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import UsageError
from nas.search.executors.wire import Lines, encode

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.lists(st.dictionaries(st.text(), PLAIN, max_size=3), max_size=4)


@given(messages=MESSAGES, size=st.integers(1, 50))
def test_messages_survive_however_they_are_cut(messages, size):
    stream = b"".join(encode(message, where="here") for message in messages)
    lines = Lines()
    got = [message for start in range(0, len(stream), size) for message in lines.feed(stream[start : start + size])]
    assert got == messages


def test_what_is_nearly_plain_arrives_plain():
    message = {"tuple": (1, 2), "half": np.float32(0.5), "count": np.int64(3), "nan": math.nan, "inf": -math.inf, 5: 6}
    (got,) = Lines().feed(encode(message, where="here"))
    assert math.isnan(got.pop("nan"))
    assert got == {"tuple": [1, 2], "half": 0.5, "count": 3, "inf": -math.inf, "5": 6}


ROUND = []
ROUND.append(ROUND)


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, b"bytes", 1j, np.zeros(2), np.zeros(2, np.complex64), {(1, 2): 3}, ROUND]
)
def test_what_is_not_plain_is_refused(value):
    with pytest.raises(UsageError, match=r"here: only plain values.*lists and dicts"):
        encode({"value": value}, where="here")


def test_the_stream_is_json_lines():
    assert json.loads(encode({"a": "ü\n"}, where="here")) == {"a": "ü\n"}
    assert encode({"a": "ü\n"}, where="here").count(b"\n") == 1
