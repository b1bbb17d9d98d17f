"""Where latency is measured: ``cpu``, ``cuda``, ``cuda@H200``, ``resource:NAME``, ``cuda@resource:NAME``, or an address."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nas.errors import UsageError

_TARGET = re.compile(r"(?:(?P<device>cpu|cuda)(?:@(?P<where>.+))?|(?P<resource>resource:.+))")
_PREFIX = "resource:"
FORMS = ("cpu, cuda, http://HOST:PORT, ssh://USER@HOST, or on Ray cuda@H200 (a GPU of that type) and resource:NAME or "
         "cuda@resource:NAME (nodes that have it)")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """A device, as torch names it, and what the machine has to have: a type of GPU, or a custom resource of Ray's."""

    device: str
    accelerator: str | None = None
    resource: str | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        """Raises UsageError for what is none. An address is measured by who answers there: the slot that asks needs a CPU."""
        if "://" in text:
            return cls("cpu")
        match = _TARGET.fullmatch(text)
        if match is None:
            raise UsageError("not a device to measure on", expected=FORMS, got=f"target={text}")
        device, where = match["device"] or "cpu", match["where"] or match["resource"] or ""
        if where.startswith(_PREFIX) and len(where) > len(_PREFIX):
            return cls(device, resource=where.removeprefix(_PREFIX))
        if where and (device == "cpu" or ":" in where):
            raise UsageError("not a device to measure on", expected=FORMS, got=f"target={text}")
        return cls(device, accelerator=where or None)

    @classmethod
    def nodes(cls, text: str | None) -> Target:
        """Nodes to train on, of any device: a type of GPU, or ``resource:NAME``. Raises UsageError for what is neither."""
        try:
            return cls("cuda") if text is None else cls.parse(f"cuda@{text}")
        except UsageError:
            raise UsageError("not nodes of a Ray cluster", expected="H200 (a type of GPU) or resource:NAME",
                             got=f"train_on={text}") from None  # fmt: skip

    @property
    def elsewhere(self) -> bool:
        """Whether it names other machines than this one."""
        return self.accelerator is not None or self.resource is not None
