"""Replicas of a local vault in other places: kept, asked, brought back. Format: ``docs/replication.md``."""

from __future__ import annotations

from s3gc.vault.replica._remote import FolderRemote, ObstoreRemote, Remote, open_remote
from s3gc.vault.replica._seal import ReplicaKeys, add_key, load_keys, new_key_line, parse_keys
from s3gc.vault.replica._status import ReplicaStatus
from s3gc.vault.replica.fetch import FetchReport, fetch, fetch_verified
from s3gc.vault.replica.opening import open_replicator
from s3gc.vault.replica.replicator import Replicator

__all__ = [
    "FetchReport",
    "FolderRemote",
    "ObstoreRemote",
    "Remote",
    "ReplicaKeys",
    "ReplicaStatus",
    "Replicator",
    "add_key",
    "fetch",
    "fetch_verified",
    "load_keys",
    "new_key_line",
    "open_remote",
    "open_replicator",
    "parse_keys",
]
