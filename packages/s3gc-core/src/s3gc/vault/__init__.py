"""Where backups and the journal live: the local vault, and what reads packs without one."""

from __future__ import annotations

from s3gc.vault.journal import SqliteJournal
from s3gc.vault.local import LocalVault
from s3gc.vault.packs import Frame, PackDamage, read_frames, read_payload
from s3gc.vault.records import record_from_json, record_to_json

__all__ = [
    "Frame",
    "LocalVault",
    "PackDamage",
    "SqliteJournal",
    "read_frames",
    "read_payload",
    "record_from_json",
    "record_to_json",
]
