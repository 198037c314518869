"""What the journal says of one operation, as the oracle keeps it. Times are ticks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import Factory, define, frozen

from s3gc.model import BackupRecord

if TYPE_CHECKING:
    from s3gc.testing.simulator._bucket import Version
    from s3gc.testing.simulator._process import Process


@frozen
class Planned:
    """An object of a plan."""

    etag: str
    modified: datetime
    since: datetime
    observations: int


@frozen
class PlanFacts:
    """A plan's file, read without the core's help."""

    operation: str
    objects: dict[str, Planned]
    scanned: int
    held_by: Sequence[str]
    made: datetime

    @classmethod
    def read(cls, path: Path) -> PlanFacts:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        objects = {}
        for line in lines[1:-1]:
            found = line["object"]
            objects[found["key"]] = Planned(
                found["etag"],
                datetime.fromisoformat(found["last_modified"]),
                datetime.fromisoformat(line["unreferenced_since"]),
                line["observations"],
            )
        made = datetime.fromisoformat(lines[0]["created_at"])
        held_by = [breaker["code"] for breaker in lines[-1]["held_by"]]
        return cls(lines[0]["operation_id"], objects, lines[-1]["scanned"], held_by, made)


@frozen
class Deletion:
    """An object that a collector removed."""

    key: str
    version: Version
    process: Process
    tick: int
    record: BackupRecord | None


@define
class Run:
    """In how many cycles in a row a version was seen unreferenced, and since when."""

    etag: str
    modified: datetime
    since: datetime  # the store's clock
    count: int


@define(eq=False)
class Operation:
    """A collect or a restore that the journal began."""

    name: str
    kind: str
    process: Process
    began: int
    plan: PlanFacts | None = None
    backed: dict[str, tuple[BackupRecord, int]] = Factory(dict)
    fenced: int = 0
    intended: dict[str, tuple[int, int]] = Factory(dict)  # key → (tick, tick of the fence before it)
    looked: dict[str, int] = Factory(dict)  # key → tick of the last look before the intent
    told_deleted: dict[str, int] = Factory(dict)
    deletions: list[Deletion] = Factory(list)
    ended: str = ""
    ended_at: int = 0
    young: bool = True  # whether the plan was young enough when it began

    @property
    def is_open(self) -> bool:
        return not self.ended


@frozen
class Rules:
    """The numbers of a configuration, as the oracle checks them."""

    mode: str
    retention: timedelta
    grace: timedelta
    observations: int
    max_deletes: int | None
    max_share: float
    max_drop: float
    min_rate: float
    max_skew: timedelta
    unconditional: bool
    excluded: Sequence[str] = ()
    owned: Sequence[str] = ()
    derived: bool = False
    plan_age: timedelta = timedelta(hours=24)
    lease: timedelta | None = None  # None: a lock that ends with its process only
    extra: dict[str, Any] = Factory(dict)

    def untouchable(self, key: str) -> str | None:
        """Why this key is never to be touched."""
        if key.startswith(".s3gc/"):
            return "s3gc's own folder"
        for folder in self.excluded:
            if key.startswith(folder) or key == folder.rstrip("/"):
                return f"excluded by {folder}"
        if self.owned and not key.startswith(tuple(self.owned)):
            return "not in an owned folder"
        if key.endswith("/"):
            return "ambiguous"
        return None
