"""Collects once and kills itself (SIGKILL) at a step. Run by test_kill.py: folder, bucket, endpoint, step."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio

from s3gc import Collector, Config, Safety, create_config, create_plugin_manager


class Steps:
    """Counts every step before and after each call to the outside; dies at the chosen one."""

    def __init__(self, die_at: int) -> None:
        self.die_at = die_at
        self.names: list[str] = []

    def step(self, name: str) -> None:
        self.names.append(name)
        if len(self.names) == self.die_at:
            sys.stdout.write(name + "\n")
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, owner: Any, name: str) -> None:
        inner: Callable[..., Any] = getattr(owner, name)

        async def stepped(*args: Any, **options: Any) -> Any:
            self.step(f"before {name}")
            result = await inner(*args, **options)
            self.step(f"after {name}")
            return result

        setattr(owner, name, stepped)


def configuration(folder: Path, bucket: str, endpoint: str) -> Config:
    return create_config(
        bucket=bucket,
        endpoint_url=endpoint,
        database_url=f"sqlite:///{folder / 'app.sqlite3'}",
        tables={"files": ["key"]},
        mode="execute",
        retention_days=0,
        vault_path=str(folder / "vault"),
        safety=Safety.none().but(batch_objects=3, lease_margin=timedelta(seconds=0.2)),
    )


async def main(folder: Path, bucket: str, endpoint: str, die_at: int) -> None:
    steps = Steps(die_at)
    plugins = create_plugin_manager(entry_points=False)
    async with Collector.open(configuration(folder, bucket, endpoint), plugins=plugins) as gc:
        parts = gc._parts
        for name in ("probe", "now", "stat", "head", "delete", "put"):
            steps.wrap(parts.store, name)
        steps.wrap(parts.vault.journal, "append")
        steps.wrap(parts.registry.listing, "observe")
        steps.wrap(parts.registry.references, "apply")
        for source in parts.sources:
            steps.wrap(source, "fence")
        session = parts.vault.session

        @asynccontextmanager
        async def stepped_session(operation_id: str) -> AsyncIterator[Any]:
            async with session(operation_id) as opened:
                steps.wrap(opened, "add")
                steps.wrap(opened, "commit")
                yield opened

        parts.vault.session = stepped_session  # type: ignore[method-assign]
        await gc.collect()
    sys.stdout.write("\n".join(steps.names) + "\n")


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
