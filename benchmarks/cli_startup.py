"""How long `nas --help` and `nas spaces` take from start to end of the process, beside a bare interpreter.

Run: python benchmarks/cli_startup.py [runs]. Prints medians and the spread over fresh processes, file caches warm.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

LINES = {
    "python -c pass": ["-c", "pass"],
    "nas --help": ["-c", "import sys; from nas.cli import main; sys.exit(main(['--help']))"],
    "nas search --help": ["-c", "import sys; from nas.cli import main; sys.exit(main(['search', '--help']))"],
    "nas spaces": ["-c", "import sys; from nas.cli import main; sys.exit(main(['spaces']))"],
}


def seconds(argv: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *argv], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main(runs: int = 15) -> None:
    for name, argv in LINES.items():
        seconds(argv)
        times = sorted(seconds(argv) for _ in range(runs))
        print(f"{name:<18} median {statistics.median(times):.3f} s, {times[0]:.3f} to {times[-1]:.3f} s, n = {runs}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
