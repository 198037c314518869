"""How long the backup of a deleted object stays, by its key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from attrs import field, frozen

from s3gc.gates import prefix_start

FOREVER = "forever"


@frozen
class Retention:
    """Days for all keys, and others for some: of the prefixes that match a key the longest one counts.

    ``invoices`` and ``invoices/`` both mean the folder, and the key ``invoices`` itself; ``invoices*`` means
    every key that begins so.
    """

    days: float | None  # None: for ever
    by_prefix: Mapping[str, float | None] = field(factory=dict)
    _starts: tuple[tuple[str, str, float | None], ...] = field(init=False)  # longest first

    @_starts.default
    def _prepare(self) -> tuple[tuple[str, str, float | None], ...]:
        found = [
            (prefix_start(prefix), "" if prefix.endswith("*") else prefix.rstrip("/"), days)
            for prefix, days in self.by_prefix.items()
        ]
        return tuple(sorted(found, key=lambda one: -len(one[0])))

    def of(self, key: str) -> float | None:
        """Days for a key; None: for ever."""
        for start, itself, days in self._starts:
            if key.startswith(start) or (itself and key == itself):
                return days
        return self.days

    def ends(self, now: datetime) -> Callable[[str], datetime | None]:
        """By key the time before which a backup's time is over; None: it never is."""
        moments = {
            days: now - timedelta(days=days)
            for days in {self.days, *self.by_prefix.values()}
            if days is not None
        }

        def end(key: str) -> datetime | None:
            days = self.of(key)
            return None if days is None else moments[days]

        return end

    @property
    def removes(self) -> bool:
        """Whether there is anything that doesn't stay for ever."""
        return any(days is not None for days in (self.days, *self.by_prefix.values()))

    def __str__(self) -> str:
        """As the journal has it."""
        told = [f"vault_retention_days = {FOREVER if self.days is None else self.days}"]
        told += [f"{p!r}: {FOREVER if d is None else d}" for p, d in sorted(self.by_prefix.items())]
        return ", ".join(told)
