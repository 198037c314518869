"""The vault: room, durability, when its backups were last tried, and the copies."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

from s3gc import _threads
from s3gc.doctor._check import Check, Status
from s3gc.metrics import metrics
from s3gc.model import Mode
from s3gc.parts import Parts

LATE_CHECK = timedelta(days=35)
"""A vault that wasn't verified for so long: a month, and some days for whoever does it on a certain date."""

VOLATILE = frozenset({"tmpfs", "ramfs", "overlay"})
"""File systems that don't outlive the machine or the container."""

REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p"})
"""File systems on which SQLite's log and locks can't be relied on (sqlite.org/wal.html, section 1)."""


async def vault(parts: Parts) -> AsyncIterator[Check]:
    await parts.vault.check(max_fill=parts.config.safety.max_vault_fill)
    stats = await parts.vault.stats()
    found = os.statvfs(parts.folder)
    free = found.f_bavail * found.f_frsize // 2**20
    yield Check("vault", "", Status.PASS, f"{stats.backups} backups, {free} MiB free beside them")


async def durability(parts: Parts) -> AsyncIterator[Check]:
    kind = await _threads.run(lambda: file_system_of(parts.folder.resolve()))
    if kind in VOLATILE:
        fix = "put vault_path on a disk (in a container: on a volume), and back that up"
        status = Status.FAIL if parts.config.mode is Mode.EXECUTE else Status.WARN
        yield Check("durability", "", status, f"on {kind}, which goes with the machine or container", fix)
    elif kind in REMOTE:
        fix = "put vault_path on a local disk, and copies elsewhere with `replicas`"
        yield Check("durability", "", Status.FAIL, f"on {kind}, which can't lock files for certain", fix)
    elif kind is None:
        fix = "make sure that it is a local disk"
        yield Check("durability", "", Status.WARN, "this system doesn't tell what the vault lies on", fix)
    elif parts.config.backup_copies == 1 and not parts.config.replicas:
        fix = "name `replicas`, or back the folder up yourself: with this disk all backups go"
        yield Check("durability", "", Status.WARN, f"on {kind}, and nowhere else", fix)
    else:
        yield Check("durability", "", Status.PASS, f"on {kind}, and in {len(parts.config.replicas)} replicas")


def file_system_of(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """The type of the file system that a folder lies on; None where the system doesn't tell."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    found, longest = None, -1
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        where = Path(point.encode("ascii", "surrogateescape").decode("unicode_escape"))
        if folder.is_relative_to(where) and len(where.parts) >= longest:
            found, longest = kind, len(where.parts)
    return found


async def backups(parts: Parts) -> AsyncIterator[Check]:
    known = await metrics(parts)
    if not known["total_backed_up"]:
        yield Check("backups", "", Status.PASS, "there are none yet")
        return
    now = parts.clock.now()
    for what, command in (("verify", "s3gc vault verify"), ("drill", "s3gc vault drill")):
        at, problems = known[f"last_{what}_at"], known[f"last_{what}_problems"]
        if at is None:
            yield Check("backups", what, Status.WARN, "it was never done", f"run `{command}`, and from cron")
        elif problems:
            fix = f"run `{command}` again, and bring the backups back from a copy"
            yield Check("backups", what, Status.FAIL, f"{problems} problems at {at}", fix)
        elif now - datetime.fromisoformat(at) > LATE_CHECK:
            yield Check("backups", what, Status.WARN, f"the last time was {at}", f"run `{command}`")
        else:
            yield Check("backups", what, Status.PASS, f"all was well at {at}")


async def replicas(parts: Parts) -> AsyncIterator[Check]:
    if parts.replicator is None:
        return
    for status in await parts.replicator.status():
        if status.whole:
            yield Check("replicas", status.url, Status.PASS, "it has all that the vault has")
            continue
        told = (
            status.error or f"{status.entries_behind} journal entries and {status.bytes_behind} bytes behind"
        )
        broken = status.error is not None or bool(status.problems)
        fix = "run `s3gc vault replicate`"
        yield Check("replicas", status.url, Status.FAIL if broken else Status.WARN, told, fix)
