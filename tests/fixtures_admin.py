"""An application with the admin of a bucket in a folder, and a client that talks to it without a network."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from attrs import define, field
from fastapi import FastAPI

from fixtures_cli import Place
from s3gc import Config, Safety, create_config
from s3gc_fastapi import _admin, setup_s3gc_plugin

OPERATOR = "operator-key-of-the-tests"
VIEWER = "viewer-key-of-the-tests"
BASE = "/admin/s3gc"

_admin.START_WITHIN = 120.0
"""A test wants the vault to be open, however busy the machine is; an application wants to start."""


def as_role(secret: str) -> dict[str, str]:
    """The header that shows a key."""
    return {"authorization": f"Bearer {secret}"}


AS_OPERATOR = as_role(OPERATOR)
AS_VIEWER = as_role(VIEWER)


@define
class Site:
    """A bucket with orphans, an application's database, and the options of the admin for them."""

    folder: Path
    place: Place = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.place = Place(self.folder).make()

    def config(self, **more: Any) -> Config:
        options: dict[str, Any] = {
            "bucket": self.place.bucket.as_uri(),
            "database_url": f"sqlite:///{self.place.database}",
            "tables": {"assets": ["location"]},
            "base_urls": ["https://cdn.example.com"],
            "exclude_prefixes": ["legal"],
            "vault_path": self.folder / "vault",
            "mode": "execute",
            "retention_days": 0,
            "safety": Safety.demo(),
            "admin_api_key": OPERATOR,
            "admin_keys": [f"grafana:viewer:{VIEWER}"],
        }
        return create_config(**options | more)

    def app(self, *, config: Config | None = None, lifespan: Any = None, **options: Any) -> FastAPI:
        app = FastAPI(lifespan=lifespan)
        setup_s3gc_plugin(app, config or self.config(), **options)
        return app

    def forget_everything(self) -> None:
        """The application's database is emptied by mistake."""
        with sqlite3.connect(self.place.database) as database:
            database.execute("DELETE FROM assets")
        database.close()


@asynccontextmanager
async def client_of(app: FastAPI, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that runs."""
    known: dict[str, Any] = {"base_url": "http://app.test", "headers": AS_OPERATOR, "timeout": 60}
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, **known | options) as client,
    ):
        yield client


async def finished(client: httpx.AsyncClient, operation_id: str) -> dict[str, Any]:
    """Wait for the end of an operation of this process, by its events; what it was at the end."""
    for _ in range(5):  # a stream ends after a minute, whatever happens
        async with client.stream("GET", f"{BASE}/operations/{operation_id}/events") as events:
            assert events.status_code == 200
            name = ""
            async for line in events.aiter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: ") and name == "end":
                    found: dict[str, Any] = json.loads(line.removeprefix("data: "))
                    return found
    raise AssertionError("the operation doesn't end")


async def run(client: httpx.AsyncClient) -> str:
    """Run a cycle to its end; the operation's id."""
    answer = await client.post(f"{BASE}/run")
    assert answer.status_code == 202, answer.text
    operation_id = str(answer.json()["operation_id"])
    assert (await finished(client, operation_id))["state"] == "completed"
    return operation_id


@contextmanager
def serve(app: FastAPI) -> Iterator[str]:
    """The application behind a real server on loopback; its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            end = time.monotonic() + 60
            while not server.started:
                assert thread.is_alive(), "the server didn't start"
                assert time.monotonic() < end, "the server didn't start in time"
                time.sleep(0.02)
            yield address
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive(), "the server didn't stop"
