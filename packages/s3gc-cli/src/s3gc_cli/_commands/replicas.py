"""``s3gc vault replicate|replicas|fetch|new-key``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from s3gc import _threads, create_plugin_manager
from s3gc.archive import Archive
from s3gc.clock import SystemClock
from s3gc.compressors.policies import PLAIN
from s3gc.errors import ConfigError
from s3gc.vault.local import LocalVault
from s3gc.vault.replica import (
    ReplicaStatus,
    Replicator,
    add_key,
    fetch_verified,
    load_keys,
    open_remote,
    open_replicator,
)
from s3gc_cli import _documents
from s3gc_cli._errors import DONE, FAILED
from s3gc_cli._render.replicas import fetched, show_fetched, show_replicas, summed_up
from s3gc_cli._run import Session


@asynccontextmanager
async def opened(session: Session, doing: str) -> AsyncIterator[Replicator]:
    """The replicator of the configuration."""
    config, _ = session.config()
    if not config.replicas:
        raise ConfigError('there are no replicas: write replicas = ["s3://BUCKET/PREFIX"]')
    keys = None if config.replica_keys is None else load_keys(config.replica_keys)
    session.watch().display.stage(doing)
    async with Archive.open(config) as archive:
        if not isinstance(archive.vault, LocalVault):
            raise ConfigError("only a vault in a local folder has replicas")
        async with open_replicator(
            archive.vault, config.replicas, clock=SystemClock(), keys=keys
        ) as replicator:
            yield replicator


async def replicate(session: Session, *, drop_retired: bool) -> int:
    """Bring all up to date; 1 when one isn't afterwards."""
    removed = 0
    async with opened(session, "copying") as replicator:
        if drop_retired:
            removed, found = await replicator.drop_retired()
        else:
            found = await replicator.sync()
    return _told(session, found, {"removed": removed} if drop_retired else {})


async def replicas(session: Session) -> int:
    """Look only; 1 when one is behind, or can't be looked at."""
    copies = session.config()[0].backup_copies
    async with opened(session, "looking at replicas") as replicator:
        found = await replicator.status()
    return _told(session, found, {"backup_copies": copies})


def _told(session: Session, found: Sequence[ReplicaStatus], more: Mapping[str, int] | None = None) -> int:
    document = {"replicas": [_documents.value(status) for status in found], **(more or {})}
    session.answer(
        session.output.secrets.scrub_all(document),
        summed_up(found),
        lambda console: show_replicas(console, session.output.secrets, found),
    )
    return DONE if all(status.whole for status in found) else FAILED


async def fetch(session: Session, url: str, folder: Path, *, keys: str | None) -> int:
    """A vault from a replica; 1 when something is missing in it, or isn't as it was written."""
    sealed_with = None if keys is None else load_keys(keys)
    display = session.watch().display
    display.stage("fetching, then reading all of it")
    hook = create_plugin_manager().hook
    report = await fetch_verified(
        open_remote(url),
        folder,
        compressors=[codec for some in hook.s3gc_compressors() for codec in some],
        clock=SystemClock(),
        keys=sealed_with,
        coder=hook.s3gc_open_coder(policy=PLAIN),
    )
    display.stop()
    session.answer(_documents.value(report), fetched(report), lambda console: show_fetched(console, report))
    return FAILED if report.problems else DONE


async def new_key(session: Session, name: str, file: Path) -> int:
    """Add a key; it is never shown."""
    ids = await _threads.run(lambda: add_key(file, name))
    line = f"what is sealed with {file} is sealed with {ids[0]!r} now; it opens {', '.join(ids)}"
    session.answer({"file": str(file), "ids": list(ids)}, line, lambda console: console.print(line))
    return DONE
