"""One thread a process: the suite runs one process a core, and a second thread beside a busy process slows small kernels
5 to 100 times. It also keeps sums in one order, so that outputs compare bit by bit between processes."""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are named by their argument: packed ones hold the time, and workers must collect the same tests."""
    return argname if isinstance(val, bytes) else None
