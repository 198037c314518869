"""What an operation works with: one value that travels down. Nothing below it calls back up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy
from attrs import Factory, frozen
from structlog.typing import FilteringBoundLogger

from s3gc import events, journal_events
from s3gc._json import converter
from s3gc.abc import Gate, ObjectStore, ReferenceSource, Vault
from s3gc.breakers import NEVER_STAYS
from s3gc.clock import Clock
from s3gc.config import Config
from s3gc.errors import VaultError
from s3gc.lease import Lease
from s3gc.model import JournalDraft, Mode, TrippedBreaker
from s3gc.protection import Protection
from s3gc.registry import Registry

if TYPE_CHECKING:
    from s3gc.vault.replica import Replicator

Observer = Callable[[str, Mapping[str, Any]], None]
"""Is told each event with its data, as the hook ``s3gc_event`` is."""


@frozen
class Parts:
    """The collector's parts, opened."""

    config: Config
    store: ObjectStore
    sources: Sequence[ReferenceSource]
    vault: Vault
    registry: Registry
    gates: Sequence[Gate]
    protection: Protection
    lease: Lease
    hook: pluggy.HookRelay
    clock: Clock
    new_id: Callable[[], str]
    log: FilteringBoundLogger
    folder: Path  # local: lock, plans
    observers: list[Observer] = Factory(list)  # of this collector alone
    replicator: Replicator | None = None

    def emit(self, event: str, **data: Any) -> None:
        """Tell log and plugins. Never called between a delete and its confirmation.

        A plugin's error goes up like any other: it ends the batch before its deletes (DESIGN 5.2).
        """
        events.emit(self.hook, self.log, event, **data)
        for observer in tuple(self.observers):
            observer(event, data)

    async def tripped(self, operation_id: str, breakers: Sequence[TrippedBreaker]) -> None:
        """Make it loud: journal, log, plugins. One that waits for a person stands in the journal already."""
        drafts = [
            JournalDraft(
                journal_events.BREAKER_TRIPPED,
                operation_id,
                data={**converter.unstructure(breaker), "stays": self.stays(breaker)},
            )
            for breaker in breakers
            if breaker.since is None
        ]
        try:
            await self.vault.journal.append(drafts)
        except VaultError as error:  # it may be the vault that tripped
            self.log.error("journal_unwritable", operation_id=operation_id, error=str(error))
        for breaker in breakers:
            self.emit(
                "breaker_tripped",
                operation_id=operation_id,
                code=breaker.code,
                subject=breaker.subject,
                reason=breaker.reason,
            )

    def stays(self, breaker: TrippedBreaker) -> bool:
        """Whether it holds every later cycle too, until a person acknowledges it. Not after a dry run."""
        return (
            self.config.mode is not Mode.DRY_RUN
            and breaker.code not in NEVER_STAYS
            and breaker.code not in self.config.safety.self_clearing
        )


def source_name(source: ReferenceSource) -> str:
    """The name under which a source's rows stand in the registry."""
    return source.name or type(source).__name__
