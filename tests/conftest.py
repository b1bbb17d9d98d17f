"""One thread a process: the suite runs one process a core, and a second thread beside a busy process slows small kernels
5 to 100 times. It also keeps sums in one order, so that outputs compare bit by bit between processes."""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
