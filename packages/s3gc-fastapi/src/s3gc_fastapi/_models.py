"""What the API answers, for OpenAPI and for whoever writes a client. Sizes are bytes, durations seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

ULID = r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$"
_ID = "01K8Z5T2M3Q4R5S6T7V8W9X0YZ"
_AT = "2026-11-23T02:30:04+00:00"


class Model(BaseModel):
    """All of them say what they hold, and no more."""

    model_config = ConfigDict(extra="forbid")


class ErrorBody(Model):
    """What went wrong. Holds no secret."""

    type: str = Field(description="A word for programs.", examples=["busy"])
    message: str = Field(description="A sentence for people, with what to do.")
    operation_id: str | None = Field(None, description="The operation that is in the way, if that is known.")
    details: list[dict[str, Any]] = Field([], description="Fields that are wrong, or breakers that tripped.")


class Error(Model):
    """Every answer that isn't the one that was asked for."""

    error: ErrorBody


class Breaker(Model):
    """One reason to stop a whole cycle."""

    code: str = Field(examples=["reference_drop"])
    subject: str = Field(description="What it is about: a source, a column; or nothing.")
    reason: str
    since: datetime | None = Field(None, description="When it tripped first, if it waits for a person.")
    evidence: dict[str, Any] = {}


class PartHealth(Model):
    """The vault, or the store."""

    ok: bool
    detail: str


class SourceCapture(Model):
    """What change capture keeps in the database of a source."""

    ready: bool = Field(description="Nothing keeps a cycle from following changes.")
    findings: list[str] = Field(description="What does, or deserves a warning, and what to do about it.")
    lag_bytes: int | None = Field(None, description="Written since the last change that was released.")
    held_bytes: int | None = Field(None, description="What the database keeps of its log for s3gc.")


class Follower(Model):
    """What keeps the registry at the changes between cycles, in this process."""

    state: Literal["off", "following", "standing by", "waiting", "failed"] = Field(
        description="standing by: an operation, or another process, reads the changes."
    )
    since: datetime | None = None
    why: str | None = None


class SourceHealth(PartHealth):
    """A place of references."""

    name: str
    follows_changes: bool = Field(description="Change capture; else it is read as a whole in each cycle.")
    position: str | None = Field(None, description="Where the registry stands.")
    synced_at: datetime | None = None
    lag: float | None = Field(None, description="Seconds since then.")
    lost: str | None = Field(None, description="Why changes could not all be followed.")
    capture: SourceCapture | None = Field(None, description="Change capture, as it is in the database now.")


class Health(Model):
    """Whether all that a cycle needs is there. 200 when it is, else 503 with the same body."""

    ok: bool
    checked_at: datetime
    open: bool = Field(description="Whether the vault could be opened.")
    problem: str | None = Field(None, description="Why it could not.")
    vault: PartHealth | None = None
    store: PartHealth | None = None
    sources: list[SourceHealth] = []
    waiting: list[Breaker] = Field([], description="Breakers that wait for an acknowledgement.")
    follower: Follower
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "ok": True,
                "checked_at": _AT,
                "open": True,
                "vault": {"ok": True, "detail": "the journal can be read and written"},
                "store": {"ok": True, "detail": "answers"},
                "sources": [
                    {
                        "name": "postgresql:app",
                        "ok": True,
                        "detail": "postgresql, database app",
                        "follows_changes": False,
                        "position": _AT,
                        "synced_at": _AT,
                        "lag": 3600.0,
                    }
                ],
                "waiting": [],
                "follower": {"state": "off"},
            }
        },
    )


class Running(Model):
    """An operation of this process: what it does now, or how it ended."""

    operation_id: str = Field(examples=[_ID])
    kind: Literal["plan", "collect", "restore", "missing", "verify", "drill"]
    state: Literal["running", "completed", "held", "failed", "refused"]
    stage: str
    started_at: datetime
    started_by: str
    ended_at: datetime | None = None
    message: str | None = None
    listed: int
    references: int
    planned: int | None = None
    backed_up: int
    deleted: int
    resurrected: int
    restored: int
    result: dict[str, Any] | None = Field(None, description="What a check found, once it has ended.")


class Operation(Model):
    """An operation, as the journal tells it."""

    operation_id: str = Field(examples=[_ID])
    kind: str = Field(examples=["collect"])
    mode: str | None = None
    state: Literal["open", "completed", "failed", "recovered"]
    started_at: datetime
    ended_at: datetime | None = None
    error: str | None = None
    counts: dict[str, int | float] = Field({}, examples=[{"deleted": 3, "bytes_deleted": 4096}])
    kept: dict[str, int] = Field({}, description="Objects kept, by reason code.")
    filters: dict[str, Any] = Field({}, description="What a restore was asked to bring back.")


class Operations(Model):
    """A page of operations, newest first."""

    operations: list[Operation]
    total: int
    next_cursor: str | None = Field(None, description="Give it as `cursor` to go on; none: that was all.")


class OperationObject(Model):
    """What became of one object in an operation, and why."""

    seq: int
    at: datetime
    s3_key: str
    size: int | None = None
    outcome: str = Field(examples=["deleted"])
    reason: str


class OperationDetail(Model):
    """An operation with a page of its objects."""

    operation: Operation | None = Field(None, description="As the journal tells it; a plan isn't in it.")
    running: Running | None = Field(None, description="As this process knows it.")
    objects: list[OperationObject]
    next_after: int | None = Field(None, description="Give it as `after` to go on; none: that was all.")


class Accepted(Model):
    """It is under way."""

    operation_id: str = Field(examples=[_ID])
    kind: str = Field(examples=["collect"])
    mode: str = Field(examples=["execute"])
    state: str = Field(examples=["running"])
    message: str | None = None


class Schedule(Model):
    """When cycles begin by themselves."""

    cron: str
    time_zone: str
    next_run: datetime | None = None


class Status(Model):
    """The state at a glance."""

    version: str
    bucket: str
    mode: str
    open: bool
    problem: str | None = None
    running: Running | None = None
    last_run: Operation | None = None
    last_restore: Operation | None = None
    schedule: Schedule | None = None
    waiting: list[Breaker] = []
    role: str = Field(description="What the caller may do.")


class Capture(Model):
    """How far a source's change capture is behind, and what its database keeps for it."""

    applied_at: datetime | None = Field(None, description="All that was committed before is in the registry.")
    lag_seconds: float | None = Field(None, description="How long ago that is.")
    ready: bool | None = None
    lag_bytes: int | None = None
    held_bytes: int | None = None
    error: str | None = None


class Metrics(Model):
    """Totals over the bucket's whole history. They survive restarts."""

    total_deleted: int
    total_backed_up: int
    total_restored: int
    total_resurrected: int
    total_runs: int
    last_run_at: datetime | None = None
    last_error: str | None = Field(None, description="Cleared by the next good run.")
    vault_size_bytes: int
    avg_compression_ratio: float | None = None
    journal_entries: int
    capture: dict[str, Capture] = Field(default_factory=dict, description="By source that is followed.")
    last_verify_at: datetime | None = None
    last_verify_problems: int | None = None
    verified_whole_at: datetime | None = Field(
        None, description="All that the vault held then was read since."
    )
    last_drill_at: datetime | None = None
    last_drill_problems: int | None = None


class VaultStats(Model):
    """The vault in numbers."""

    packs: int
    backups: int
    stored_bytes: int
    original_bytes: int
    compression_ratio: float | None = None
    journal_entries: int


class PlanEntry(Model):
    """An object that the plan would delete, and why."""

    s3_key: str
    size: int
    last_modified: datetime
    unreferenced_since: datetime
    observations: int
    reason: str


class KeptExample(Model):
    """One of the objects that a reason kept."""

    key: str
    why: str


class Plan(Model):
    """The newest plan with a page of its objects."""

    operation_id: str = Field(examples=[_ID])
    created_at: datetime
    mode: str
    scanned: int
    candidates: int
    objects: int
    bytes: int
    kept: dict[str, int]
    kept_examples: dict[str, list[KeptExample]]
    held_by: list[Breaker]
    missing: dict[str, int]
    sha256: str
    entries: list[PlanEntry]
    next_after: int | None = Field(None, description="Give it as `after` to go on; none: that was all.")


class Verdict(Model):
    """What one gate says of an object."""

    gate: str
    keep: bool
    detail: str


class Reference(Model):
    """A row that protects a key."""

    source: str
    key: str
    table: str
    row_id: str
    column: str
    prefix: bool


class Entry(Model):
    """A journal entry of a key."""

    seq: int
    at: datetime
    operation_id: str
    event: str
    data: dict[str, Any]


class Explanation(Model):
    """Why a key is still there, or why it went."""

    s3_key: str
    exists: bool | None = Field(description="None: nobody can say.")
    decision: str
    verdicts: list[Verdict]
    references: list[Reference]
    history: list[Entry]
    problems: list[str]


class Restored(Model):
    """What a restore did, or with `dry_run` would do. Long lists are cut; the counts are of all."""

    operation_id: str
    dry_run: bool
    state: str = Field(description="running: it takes longer; ask for the operation.", examples=["completed"])
    message: str | None = None
    restored: int = 0
    skipped: int = 0
    errors: int = 0
    restored_keys: list[str] = []
    skipped_keys: dict[str, str] = Field(default={}, description="Key → why it was left alone.")
    error_keys: dict[str, str] = Field(default={}, description="Key → what went wrong.")


class Acknowledgement(Model):
    """A person's word on a breaker. It stands in the journal for ever."""

    code: str = Field(min_length=1, max_length=64, examples=["reference_drop"])
    reason: str = Field(min_length=1, max_length=2000, examples=["archived the orders of 2019"])
    subject: str = Field("", max_length=1024, examples=["postgresql:app"])


class Breakers(Model):
    """Breakers that wait for an acknowledgement."""

    breakers: list[Breaker]


class Check(Model):
    """A check that has ended, or goes on."""

    operation_id: str = Field(examples=[_ID])
    state: str = Field(description="running: it takes longer; ask for the operation.", examples=["completed"])
    message: str | None = None


class MissingRow(Model):
    """A row's mention of an object that doesn't exist."""

    source: str
    table: str
    column: str
    row_id: str
    keys: list[str] = Field(description="Every key that the value could mean.")


class MissingResult(Model):
    """All mentions are counted; the first of them are named."""

    total: int
    columns: dict[str, int] = Field(description="By source:table.column.")
    rows: list[MissingRow]


class MissingFound(Check):
    """Rows that name objects which don't exist: each is some user's broken file."""

    result: MissingResult | None = None


class VerifyResult(Model):
    """What reading backups again found."""

    ok: bool
    backups: int
    problems: int
    first_problems: list[str]
    share: str | None = Field(None, description="Which share of how many; none: all.", examples=["3 of 30"])
    seconds: float


class Verified(Check):
    """Backups were read and decoded, and compared with their hashes."""

    result: VerifyResult | None = None


class DrillResult(Model):
    """What restoring some backups by way of trial found."""

    ok: bool
    objects: int = Field(description="Chosen.")
    restored: int = Field(description="That came back exactly.")
    bytes: int
    problems: int
    first_problems: list[str]
    seconds: float


class Drilled(Check):
    """Some backups were restored beside the bucket's own objects, compared, and removed again."""

    result: DrillResult | None = None


class Folder(Model):
    """What lies below a prefix."""

    prefix: str
    objects: int
    bytes: int


class LargeObject(Model):
    """One of the largest objects."""

    s3_key: str
    size: int


class SummedUp(Model):
    """What a plan would delete, or an operation deleted."""

    operation_id: str = Field(examples=[_ID])
    kind: str = Field(examples=["collect"])
    at: datetime
    objects: int
    bytes: int
    folders: list[Folder] = Field(description="Those with the most bytes first.")
    further_folders: int = Field(description="That aren't named.")
    largest: list[LargeObject]
    put_back: int = Field(description="Objects that a row named after all; they aren't counted.")
    kept: dict[str, int] = Field(description="Objects kept, by reason code.")
