"""``python -m benchmarks.responder --port 0``: prints the port on its first line and serves until it ends."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks.responder.control import Control
from benchmarks.responder.server import serve


def _runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    """uvloop's runner when it is installed; asyncio's is about half as fast."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


async def _serve(host: str, port: int, latency_ms: float, until_stdin_closes: bool) -> None:
    ended = asyncio.Event()
    if until_stdin_closes:
        asyncio.get_running_loop().add_reader(0, _on_stdin, ended)
    server = await serve(Control(latency=latency_ms / 1000), host, port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await ended.wait()
    server.close()


def _on_stdin(ended: asyncio.Event) -> None:
    if not os.read(0, 1024):
        ended.set()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.responder", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port, printed on stdout")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="wait before each request is handled")
    parser.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="end when standard input does, so that no responder outlives its benchmark",
    )
    options = parser.parse_args()
    try:
        _runner()(_serve(options.host, options.port, options.latency_ms, options.until_stdin_closes))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
