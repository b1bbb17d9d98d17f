"""``nas measure-server``."""

from __future__ import annotations

from typing import Any

from nas.cli.arguments import Arguments
from nas.errors import UsageError
from nas.measure.remote import PORT, find_token
from nas.measure.server import MeasureServer
from nas.measure.worker import serve_stdio
from nas.search.config import whole_number


def run(arguments: Arguments) -> dict[str, Any]:
    """Serve until interrupted, or with ``--stdio`` until the questions end; how much was measured on every device."""
    if "stdio" in arguments.flags:
        if arguments.keys or arguments.json:
            raise UsageError("--stdio serves one process, and takes no other word than --allow")
        serve_stdio(allow="allow" in arguments.flags)
        return {}
    devices = [word.strip() for word in (arguments.get("target") or "cpu").split(",")]
    server = MeasureServer(
        arguments.get("host") or "127.0.0.1", whole_number("port", arguments.get("port", str(PORT)), least=0) or 0,
        list(dict.fromkeys("cuda:0" if device == "cuda" else device for device in devices)),
        token=find_token(arguments.get("token_file")), allow="allow" in arguments.flags,
        most_bytes=(whole_number("max_mb", arguments.get("max_mb", "256")) or 0) << 20,
        most_waiting=whole_number("queue", arguments.get("queue", "64")) or 1,
    )  # fmt: skip
    with server:
        takes = "ONNX and source" if server.allow else "ONNX"
        print(f"measuring on {', '.join(server.desks)} at {server.url}; takes {takes}; Ctrl-C ends it", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return {"url": server.url, "measured": {device: desk.measured for device, desk in server.desks.items()}}
