"""Replicas of a local vault in other places: kept, asked, brought back. Format: ``docs/replication.md``."""

from __future__ import annotations

from s3gc.vault.replica._remote import FolderRemote, ObstoreRemote, Remote, open_remote
from s3gc.vault.replica._seal import ReplicaKeys, load_keys, new_key_line, parse_keys
from s3gc.vault.replica.fetch import FetchReport, fetch
from s3gc.vault.replica.replicator import ReplicaStatus, Replicator, open_replicator

__all__ = [
    "FetchReport",
    "FolderRemote",
    "ObstoreRemote",
    "Remote",
    "ReplicaKeys",
    "ReplicaStatus",
    "Replicator",
    "fetch",
    "load_keys",
    "new_key_line",
    "open_remote",
    "open_replicator",
    "parse_keys",
]
