"""What the tests let workers do. Imported by fresh processes for every test, so it stays light."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from nas.errors import TrainError, UnsupportedError

LOADED = []


def preload():
    LOADED.append(os.getpid())


def models():
    """What this machine has is what the environment of the process says."""
    return {"cpu": os.environ.get("TESTS_MODEL", "a processor")}


def models_junk():
    return {"cpu": object()}


def preload_dies():
    os.kill(os.getpid(), signal.SIGKILL)


def preload_sleeps():
    time.sleep(60)


class OutOfMemoryError(RuntimeError):
    """Stands for torch's."""


class AcceleratorError(RuntimeError):
    """Stands for torch's."""


ERRORS = {
    "value": ValueError("a bad\nvalue"),
    "silent": ValueError(),
    "exit": SystemExit(3),
    "memory": MemoryError(),
    "device_memory": OutOfMemoryError("CUDA out of memory."),
    "host_memory": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    "measured": UnsupportedError("the network does not run on cuda: CUDA out of memory."),
    "diverged": TrainError("the training diverged", got="loss nan"),
    "setting": TrainError("impossible settings"),
    "spoilt": AcceleratorError("CUDA error: device-side assert triggered"),
}


def run(payload, report):
    """One of the functions below, by ``payload["do"]``; says which process did it."""
    result = globals()["do_" + payload["do"]](payload, report)
    return result if payload["do"] in ("return", "nothing") else {"pid": os.getpid(), **(result or {})}


def do_nothing(payload, report):
    return None


def do_return(payload, report):
    return payload.get("result", {"values": {1, 2}})


def do_look(payload, report):
    cpus, stdin = sorted(os.sched_getaffinity(0)), sys.stdin.read()
    return {"environ": dict(os.environ), "cpus": cpus, "group": os.getpgrp(), "folder": os.getcwd(), "stdin": stdin,
            "loaded": LOADED, "torch": "torch" in sys.modules}  # fmt: skip


def do_report(payload, report):
    return {"answers": [report({"step": step, "loss": 1 / (step + 1)}) for step in range(payload["steps"])]}


def do_report_junk(payload, report):
    report({"loss": object()})


def do_until_stopped(payload, report):
    steps = 1
    while not report({"step": steps, "pid": os.getpid()}):
        time.sleep(0.01)
        steps += 1
    return {"stopped": True}


def do_sleep(payload, report):
    report({"pid": os.getpid()})
    time.sleep(payload["seconds"])


def do_compute(payload, report):
    """Holds the interpreter lock nearly all the time, as a training loop does between kernels."""
    report({"pid": os.getpid()})
    while True:
        sum(range(1000))


def do_raise(payload, report):
    raise ERRORS[payload["error"]]


def do_exit(payload, report):
    report({"pid": os.getpid()})
    os._exit(payload["status"])


def do_segfault(payload, report):
    ctypes.string_at(0)


def do_signal(payload, report):
    os.kill(os.getpid(), payload["number"])


def do_print(payload, report):
    print("out of the worker")
    print("on its stderr", file=sys.stderr)
    os.system("echo from a child")


def do_child(payload, report):
    """Starts a process of its own, which keeps the worker's socket open as a forked data loader would."""
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    report({"pid": os.getpid(), "child": child})
    if payload.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(payload.get("seconds", 0))
    return {"child": child}


def do_large(payload, report):
    return {"length": len(payload["text"]), "text": payload["text"]}


def do_folder(payload, report):
    """Writes one file of a folder from another, and one that is not the job's."""
    folder = Path(payload["folder"])
    (folder / "out.txt").write_text((folder / "in.txt").read_text() + "out ")
    (folder / "other.txt").write_text("")
    return {"there": str(folder)}


def do_files(payload, report):
    """Adds to a file what two others say, and says where they are here."""
    paths = [payload["plugin"], payload["folder"] + "/data.txt", payload["file"]]
    text = "".join(Path(path).read_text() for path in paths if Path(path).is_file())
    Path(payload["file"]).write_text(text)
    return {"paths": paths}


def do_write_on(payload, report):
    """Counts on in two files, one after the other in every step, from where the second was; each is replaced in one step."""
    first, second = Path(payload["first"]), Path(payload["second"])
    step = begun = int(second.read_text()) if second.exists() else 0
    stopped = False
    while not stopped and step < payload.get("steps", 10**9):
        step += 1
        for path in (first, second):
            fresh = path.with_name(path.name + ".fresh")
            fresh.write_text(f"{step}")
            fresh.replace(path)
        stopped = report({"step": step, "begun": begun})
        time.sleep(payload.get("pause", 0.01))
    return {"step": step}


not_callable = 3
