"""An application with the admin in it, which looks how late its event loop is. Told what to do over HTTP."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI

from benchmarks.workers import arguments
from benchmarks.workers.lateness import Lateness
from s3gc import Safety, create_config
from s3gc_fastapi import setup_s3gc_plugin

KEY = "the-key-of-the-benchmark"


def application(folder: Path, endpoint: str, bucket: str) -> FastAPI:
    """The admin, and two endpoints of the host: how late its loop and a thread were, and its peak memory."""
    loop, thread = Lateness(), Lateness()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(loop.in_loop())
        threading.Thread(target=thread.in_thread, daemon=True).start()
        yield
        loop.stop()
        thread.stop()
        await task

    app = FastAPI(lifespan=lifespan)
    config = create_config(
        bucket,
        endpoint_url=endpoint,
        database_url=f"sqlite:///{folder / 'app.db'}",
        tables={"files": ["location"]},
        vault_path=folder / "vault",
        mode="execute",
        retention_days=0,
        safety=Safety.none(),
        admin_api_key=KEY,
    )
    setup_s3gc_plugin(app, config)

    @app.get("/lateness")
    def lateness(begin: float) -> dict[str, Any]:
        end = time.perf_counter()
        status = Path("/proc/self/status").read_text()
        return {
            "loop": loop.between(begin, end),
            "thread": thread.between(begin, end),
            "peak": int(status.split("VmHWM:")[1].split()[0]) * 1024,
        }

    @app.get("/now")
    async def now() -> float:
        return time.perf_counter()

    return app


def main() -> None:
    """Print the port, and serve until stdin closes."""
    options = arguments("folder")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))
    app = application(Path(options.folder), options.endpoint, options.bucket)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        print(listener.getsockname()[1], flush=True)

        def wait() -> None:
            sys.stdin.read()
            server.should_exit = True

        threading.Thread(target=wait, daemon=True).start()
        server.run(sockets=[listener])


if __name__ == "__main__":
    main()
