"""``nas worker``."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from nas.cli.arguments import Arguments
from nas.errors import UsageError
from nas.search.config import amount, whole_number
from nas.search.executors.claims import take
from nas.search.executors.join import join
from nas.search.executors.local import open_log
from nas.search.executors.remote import TOKEN, parse_address, read_token
from nas.search.executors.slots import Machine


def run(arguments: Arguments) -> dict[str, Any]:
    """Run trials of a search that listens elsewhere until it ends or Ctrl-C."""
    if not (connect := arguments.get("connect")):
        raise UsageError("connect is missing", expected="connect=HOST:PORT, what the search printed for endpoint=")
    address = parse_address(connect)
    token = read_token(arguments.get("token"))
    if token is None:
        raise UsageError("token is missing", expected=f"token=TOKEN, token=@FILE, or the variable {TOKEN}")
    share = amount("gpus_per_trial", arguments.get("gpus_per_trial"))
    cores = amount("cpus_per_trial", arguments.get("cpus_per_trial"))
    workers, threads = whole_number("workers", arguments.get("workers")), None if cores is None else max(1, int(cores))
    begin, output = time.monotonic(), open_log(arguments.get("log"))
    slots, claim, shared = take(Machine.here(gpus_per_trial=share), workers=workers, threads=threads, gpus_per_trial=share)
    if shared:
        print(f"note: {shared}", file=sys.stderr, flush=True)
    interrupted = False
    try:
        join(address, token, slots, output=output, say=lambda text: print(text, file=sys.stderr, flush=True))
    except KeyboardInterrupt:
        interrupted = True
    finally:
        claim.close()
        os.close(output)
    return {"search": connect, "slots": len(slots), "seconds": round(time.monotonic() - begin, 3), "interrupted": interrupted}
