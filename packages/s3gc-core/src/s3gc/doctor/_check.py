"""What a check is, and which there are."""

from __future__ import annotations

import enum

from attrs import frozen


class Status(enum.Enum):
    """How a check ended."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


@frozen
class Check:
    """One precondition, and how it stands."""

    name: str
    """One of :data:`CHECKS`."""
    subject: str
    """Which source, column, replica; empty where there is only one."""
    status: Status
    found: str
    fix: str = ""
    """What to do; empty when all is well."""


CHECKS = {
    "opening": "Store, sources, vault and registry can be opened, and belong together.",
    "settings": "Numbers of safety that are weaker than the defaults.",
    "clock": "The store's clock and this machine's agree (`max_clock_skew`).",
    "listing": "The bucket can be listed.",
    "store": "What the store can do, as the last probe found it: nothing of it holds a sweep.",
    "owner": "No other vault has collected this bucket or the prefixes.",
    "source": "The source is reachable, a primary, and every tracked column is there.",
    "fence": "Open transactions can be seen and waited for.",
    "position": "A followed source can tell all changes since the last cycle.",
    "pins": "The sources are those that this vault knows.",
    "coverage": "No untracked column names objects of the bucket.",
    "resolve_rate": "Mentions of each column name existing objects (`min_resolve_rate`), by the last plan.",
    "vault": "The vault can be written and has room (`max_vault_fill`).",
    "durability": "The vault's file system outlives the machine and can lock files.",
    "backups": "The backups were verified, and a restore was drilled, within 35 days.",
    "replicas": "Every replica has all that the vault has.",
    "lock": "No other process works with this vault.",
    "recovery": "No operation waits to be settled.",
    "breakers": "No breaker waits for an acknowledgement.",
}
"""Every check, in the order in which they are made."""
