"""The admin's answers with a long journal, beside an endpoint of the same application that does nothing.

    python -m benchmarks.admin [ENTRIES]

Fills a vault's journal with ENTRIES entries (1,000,000), 2,000 of them in each operation, serves the admin on
loopback, and asks each page 60 times, one request after the other.
"""

from __future__ import annotations

import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import httpx
import uvicorn
from fastapi import FastAPI
from ulid import ULID

from s3gc import Collector, Config, Safety, create_config
from s3gc.model import JournalDraft
from s3gc_fastapi import setup_s3gc_plugin

KEY = "the-key-of-the-benchmark"
BASE = "/admin/s3gc"
EACH = 60
OBJECTS = 666  # of an operation: three entries each


def config_in(folder: Path) -> Config:
    """A bucket with one live and one free object, and a database that names the live one."""
    bucket = folder / "bucket"
    bucket.mkdir()
    for name in ("live", "free"):
        (bucket / name).write_bytes(name.encode() * 5)
    with sqlite3.connect(folder / "app.db") as database:
        database.execute("CREATE TABLE files (id INTEGER PRIMARY KEY, location TEXT)")
        database.execute("INSERT INTO files (location) VALUES ('live')")
    database.close()
    return create_config(
        bucket.as_uri(),
        database_url=f"sqlite:///{folder / 'app.db'}",
        tables={"files": ["location"]},
        vault_path=folder / "vault",
        mode="execute",
        retention_days=0,
        safety=Safety.demo(),
        admin_api_key=KEY,
    )


async def fill(config: Config, entries: int) -> list[str]:
    """Operations as a real one leaves them, appended to the journal; their ids."""
    operations: list[str] = []
    async with Collector.open(config) as gc:
        await gc.collect()
        (record,) = [entry.data["backup"] async for entry in gc.history(events={"backed_up"})]
        written = 0
        while written < entries:
            operation = str(ULID())
            operations.append(operation)
            keys = [f"media/{written + number:09d}-picture.jpg" for number in range(OBJECTS)]
            counts = {"deleted": OBJECTS, "candidates": OBJECTS, "bytes_deleted": 20 * OBJECTS, "scanned": 2}
            begun = {"kind": "collect", "mode": "execute"}
            reason = {"reason": "no row of any source names it", "size": 20}
            drafts = [
                JournalDraft("operation_started", operation, data=begun),
                *(JournalDraft("backed_up", operation, k, {"backup": {**record, "key": k}}) for k in keys),
                *(JournalDraft("delete_intended", operation, k, reason) for k in keys),
                *(JournalDraft("deleted", operation, k, {"backup": {**record, "key": k}}) for k in keys),
                JournalDraft("operation_completed", operation, data={**begun, **counts}),
            ]
            await gc._parts.vault.journal.append(drafts)
            written += len(drafts)
    return operations


@contextmanager
def serve(app: FastAPI) -> Iterator[str]:
    """The application behind a real server; its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.02)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def main(arguments: list[str]) -> int:
    """Print a table; 1 if a page took 200 ms or more at p95."""
    entries = int(arguments[0]) if arguments else 1_000_000
    slow = False
    with tempfile.TemporaryDirectory() as folder:
        config = config_in(Path(folder))
        operations = anyio.run(fill, config, entries)
        app = FastAPI()
        setup_s3gc_plugin(app, config)

        @app.get("/nothing")
        async def nothing() -> dict[str, bool]:
            return {"ok": True}

        middle = operations[len(operations) // 2]
        key = f"media/{0:09d}-picture.jpg"
        with serve(app) as address, httpx.Client(base_url=address, timeout=300) as client:
            client.headers["authorization"] = f"Bearer {KEY}"
            print(f"{entries:,} journal entries; ms of {EACH} requests")
            print(f"{'':45} {'first':>8} {'p50':>8} {'p95':>8}")
            for path in [
                "/nothing",
                *(
                    BASE + path
                    for path in (
                        "/health",
                        "/status",
                        "/metrics",
                        "/metrics/prometheus",
                        "/vault-stats",
                        "/plan",
                        "/breakers",
                        "/operations",
                        "/operations?offset=300",
                        f"/operations/{middle}",
                        f"/explain?s3_key={key}",
                        "/ui",
                        "/ui/plan",
                        "/ui/operations",
                        f"/ui/operations/{middle}",
                        f"/ui/explain?s3_key={key}",
                        "/ui/breakers",
                        "/ui/vault",
                    )
                ),
            ]:
                took = []
                for _ in range(EACH + 1):
                    begun = time.perf_counter()
                    client.get(path).raise_for_status()
                    took.append((time.perf_counter() - begun) * 1000)
                rest = sorted(took[1:])
                p50, p95 = rest[EACH // 2], rest[int(EACH * 0.95)]
                slow = slow or p95 >= 200
                print(f"{path.replace(middle, '…')[:45]:45} {took[0]:8.1f} {p50:8.1f} {p95:8.1f}")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
