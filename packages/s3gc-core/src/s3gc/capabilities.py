"""What is known of the store: probed, kept for a while, on record before a delete rests on it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from attrs import frozen

from s3gc import _threads, journal_events
from s3gc._json import converter, dumps
from s3gc.breakers import unconditional_delete
from s3gc.errors import CycleHeld, S3GCError
from s3gc.model import JournalDraft, StoreCapabilities, TrippedBreaker
from s3gc.parts import Parts

FORMAT = "s3gc-store-1"


@frozen
class StoreState:
    """What the last probe of the store found, and when."""

    capabilities: StoreCapabilities
    probed_at: datetime  # by this machine's clock
    held_by: Sequence[TrippedBreaker] = ()  # what would hold a sweep


@frozen
class _Kept:
    """The file's content."""

    format: str
    url: str
    probed_at: datetime
    capabilities: StoreCapabilities


async def ready(parts: Parts, operation_id: str) -> None:
    """Know the store before the first delete, and put on record what is known.

    One entry for each sweep: each deletion can be told from the entries of its own operation.

    Raises:
        CycleHeld: it deletes what it shouldn't.
        StoreError: it can't be probed; nothing is kept then.
    """
    state = await _known(parts)
    data = {
        "probed_at": state.probed_at.isoformat(),
        "capabilities": {
            name: value
            for name, value in converter.unstructure(state.capabilities).items()
            if name != "notes"
        },
    }
    await parts.vault.journal.append([JournalDraft(journal_events.STORE_PROBED, operation_id, data=data)])
    if state.held_by:
        raise CycleHeld(state.held_by)


async def reconsider(parts: Parts, operation_id: str) -> None:
    """Between two batches: a store that contradicted what was found is probed again.

    Raises:
        As :func:`ready`.
    """
    if why := parts.store.contradiction():
        parts.log.warning("probe_contradicted", operation_id=operation_id, why=why)
        await ready(parts, operation_id)


async def last_probe(parts: Parts) -> StoreState | None:
    """What the last probe found, whatever its age; None when there was none, or it can't be read."""
    kept = await _threads.run(lambda: _read(_path(parts)))
    if kept is None or kept.url != parts.store.url:
        return None
    return _state(parts, kept.capabilities, kept.probed_at)


async def probe(parts: Parts) -> StoreState:
    """Probe the store now, and keep what it found. One that fails leaves nothing kept.

    Raises:
        StoreError: it can't be probed.
    """
    await _threads.run(lambda: _forget(_path(parts)))
    at = parts.clock.now()
    capabilities = await parts.store.probe()
    kept = _Kept(FORMAT, parts.store.url, at, capabilities)
    await _threads.run(lambda: _write(_path(parts), kept))
    return _state(parts, capabilities, at)


async def _known(parts: Parts) -> StoreState:
    """What was found, if it may still be relied on; else what a new probe finds.

    Only a proof that the store honours If-Match is relied on for a while: that changes when a server is
    exchanged. Versioning and the like change with one click, so they are looked at before each sweep.
    """
    if parts.store.contradiction() is None:
        state = await last_probe(parts)
        if (
            state is not None
            and state.capabilities.conditional_delete
            and timedelta(0) <= parts.clock.now() - state.probed_at < parts.config.safety.max_probe_age
            and parts.store.adopt(state.capabilities)
        ):
            return state
    return await probe(parts)


def _state(parts: Parts, capabilities: StoreCapabilities, at: datetime) -> StoreState:
    return StoreState(capabilities, at, unconditional_delete(capabilities, parts.config.safety))


# --------------------------------------------------------------------------- the file


def _path(parts: Parts) -> Path:
    """One file for each bucket: several may share a folder. It may be lost: then the store is probed."""
    name = hashlib.sha256(parts.store.url.encode()).hexdigest()[:16]
    return parts.folder / f"store-{name}.json"


def _read(path: Path) -> _Kept | None:
    """The file, if it is whole and exactly as this version writes it. Anything else is as good as none."""
    try:
        document = json.loads(path.read_bytes())
        kept = converter.structure(document, _Kept)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ExceptionGroup):
        return None
    exact = document == converter.unstructure(kept)  # no text that was taken for yes
    return kept if exact and kept.format == FORMAT else None


def _write(path: Path, kept: _Kept) -> None:
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        new.write_text(dumps(converter.unstructure(kept)), encoding="utf-8")
        os.replace(new, path)
    except OSError as error:
        raise _unusable(path, error) from error


def _forget(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> S3GCError:
    return S3GCError(
        f"{path} can't be written ({error.strerror}): look after the folder's permissions and disk"
    )
