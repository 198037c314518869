"""The endpoints that bring objects back, into the bucket or to a place that the configuration names."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import anyio
from fastapi import Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from s3gc.errors import S3GCError
from s3gc_fastapi import _models as models
from s3gc_fastapi import _values as values
from s3gc_fastapi._admin import Admin
from s3gc_fastapi._asked import Id, Key, key_of, moment_of
from s3gc_fastapi._auth import caller
from s3gc_fastapi._errors import Refusal, raised

PATIENCE = 25.0
"""Seconds that an operation with an answer is waited for; then it is told that it goes on."""

DryRun = Annotated[bool, Query(description="Only compare and say what would be done.")]
Overwrite = Annotated[
    bool, Query(description="Also replace newer objects; those in the bucket itself are backed up first.")
]
Into = Annotated[
    str | None,
    Query(
        max_length=2048,
        description="Another bucket or folder instead: one of `restore_targets`, as `/config` shows it.",
        examples=["s3://quarantine/uploads"],
    ),
]


class Restoring:
    """Restores of one bucket."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    async def restore(
        self,
        request: Request,
        op_id: Id,
        dry_run: DryRun = True,
        overwrite: Overwrite = False,
        into: Into = None,
    ) -> Response:
        """Bring back what an operation deleted. `dry_run` is the default."""
        await self._admin.history.refresh(self._admin.gc)
        if self._admin.history.get(op_id) is None:
            raise Refusal(404, "no_operation", f"the journal knows no operation {op_id}")
        return await self._answer(
            request, operation_id=op_id, dry_run=dry_run, overwrite=overwrite, into=into
        )

    async def restore_key(
        self,
        request: Request,
        s3_key: Key,
        dry_run: DryRun = True,
        overwrite: Overwrite = False,
        into: Into = None,
    ) -> Response:
        """Bring back one object. 404 when s3gc never removed it."""
        return await self._answer(
            request, key=key_of(s3_key), dry_run=dry_run, overwrite=overwrite, into=into
        )

    async def restore_to_time(
        self,
        request: Request,
        at: Annotated[datetime, Query(description="With its time zone.", examples=["2026-11-22T18:00:00Z"])],
        prefix: Annotated[str, Query(max_length=1024, description="Only keys that begin so.")] = "",
        dry_run: DryRun = True,
        overwrite: Overwrite = False,
        into: Into = None,
    ) -> Response:
        """Bring the bucket back to a time, as far as s3gc removed anything since."""
        chosen = {"at": moment_of(at), "prefix": key_of(prefix) if prefix else None}
        return await self._answer(request, **chosen, dry_run=dry_run, overwrite=overwrite, into=into)

    async def _answer(self, request: Request, **chosen: Any) -> Response:
        document, status = await self.do(caller(request).name, **chosen)
        return JSONResponse(document, status_code=status)

    async def do(self, by: str, *, into: str | None, **chosen: Any) -> tuple[dict[str, Any], int]:
        """What a restore did, and 200; or that it is under way, and 202.

        Raises:
            Refusal: it can't begin, failed as a whole, may not go there, or the journal doesn't know the key.
        """
        chosen["into"] = None if into is None else self._target(into)
        if chosen["dry_run"]:
            done = await self._admin.gc.restore(**chosen)
        else:
            running = await self._admin.restore(by, **chosen)
            with anyio.move_on_after(PATIENCE):
                await running.finished.wait()
            if not running.finished.is_set():
                going_on = models.Restored(
                    operation_id=running.operation_id,
                    dry_run=False,
                    state="running",
                    message="it takes longer, and goes on",
                )
                return going_on.model_dump(mode="json"), 202
            if running.error is not None or running.outcome is None:
                raised(running.error or S3GCError(running.message or "it was cancelled"), self._admin.config)
            done, running.outcome = running.outcome, None
        key = chosen.get("key")
        if key is not None and list(done.errors) == [key] and "knows no removal" in done.errors[key]:
            raise Refusal(404, "not_in_journal", values.clean(done.errors[key]))
        return values.restored(done), 200

    @property
    def targets(self) -> dict[str, str]:
        """Where may be restored to, besides the bucket: as it may be shown -> as it is."""
        config = self._admin.config
        return dict(zip(config.redacted()["restore_targets"], config.restore_targets, strict=True))

    def _target(self, into: str) -> str:
        """One of the configured places: whoever has a key must not write wherever the server may."""
        found = self.targets.get(into)
        if found is None:
            raise Refusal(
                422, "no_target", "into is none of restore_targets in the configuration; /config shows them"
            )
        return found
