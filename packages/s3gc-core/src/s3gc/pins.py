"""Identity pins: a bucket is bound to the sources that were its own at first use (jellyfin#18102, sheaf#185).

The pins stand in the journal, so that they outlive the registry, and every change of them is on record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s3gc import journal_events
from s3gc.model import JournalDraft, Mode, SourceIdentity
from s3gc.parts import Parts

MAY_CHANGE = frozenset({"server_version"})
"""Details of an identity that change in normal life."""


def marks(identity: SourceIdentity) -> Mapping[str, str]:
    """What tells this source from others: its kind and details; its name only if it has no details.

    The name of a database is where it is reached. That may change; which database it is may not.
    """
    details = {name: value for name, value in identity.details.items() if name not in MAY_CHANGE}
    return {"kind": identity.kind, **(details or {"name": identity.name})}


async def pinned(parts: Parts) -> Sequence[Mapping[str, str]] | None:
    """The sources that this bucket is bound to; None before the first use."""
    found: Sequence[Mapping[str, str]] | None = None
    async for entry in parts.vault.journal.read(events={journal_events.SOURCES_PINNED}):
        found = entry.data["sources"]
    return found


async def pin(parts: Parts, operation_id: str, identities: Sequence[SourceIdentity]) -> None:
    """Bind the bucket to these sources, if it isn't. A dry run binds nothing."""
    now = sorted((marks(identity) for identity in identities), key=sorted_items)
    before = await pinned(parts)
    if parts.config.mode is Mode.DRY_RUN or (before is not None and list(before) == now):
        return
    await parts.vault.journal.append(
        [JournalDraft(journal_events.SOURCES_PINNED, operation_id, data={"sources": now})]
    )


def sorted_items(mark: Mapping[str, str]) -> list[tuple[str, str]]:
    """For an order that doesn't depend on the configuration's."""
    return sorted(mark.items())
