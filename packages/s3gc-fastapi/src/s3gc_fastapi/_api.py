"""The endpoints. Each says what it answers, checks its bounds, and leaves the work to the collector."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Body, Depends, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from s3gc import Plan, __version__
from s3gc.errors import AlreadyCollected, CycleHeld, S3GCError
from s3gc_fastapi import _models as models
from s3gc_fastapi import _running
from s3gc_fastapi import _values as values
from s3gc_fastapi._admin import Admin
from s3gc_fastapi._asked import LARGEST, After, Id, Key, Limit, key_of, moment_of
from s3gc_fastapi._auth import Door, caller
from s3gc_fastapi._errors import Refusal, raised
from s3gc_fastapi._history import document as document_of
from s3gc_fastapi._history import objects
from s3gc_fastapi._keys import Role
from s3gc_fastapi._prometheus import exposition
from s3gc_fastapi._report import of_operation, of_plan
from s3gc_fastapi._restoring import Restoring
from s3gc_fastapi._running import Running
from s3gc_fastapi._upkeep import Upkeep

POLL = 2.0
"""Seconds between two looks at an operation that runs in another process."""

Responses = dict[int | str, dict[str, Any]]


def _errors(*codes: int) -> Responses:
    told = {
        400: "The body can't be read.",
        401: "No key, or a wrong one.",
        403: "The key's role may not do this, or the admin is closed.",
        404: "There is no such thing.",
        409: "Another operation is running, or a breaker holds.",
        422: "Something is malformed or out of bounds.",
        429: "Too many wrong keys came from this address.",
        503: "Vault, bucket or database can't be used now.",
    }
    every = (401, 403, 422, 429, 503, *codes)
    return {code: {"model": models.Error, "description": told[code]} for code in sorted(set(every))}


def _later(model: type[models.Model]) -> dict[str, Any]:
    return {"more": {202: {"model": model, "description": "It takes longer, and goes on."}}}


class Api:
    """The endpoints of one bucket's admin."""

    def __init__(self, admin: Admin, door: Door) -> None:
        self._admin = admin
        self._door = door
        self.restoring = Restoring(admin)
        self.upkeep = Upkeep(admin)

    def add_to(self, router: APIRouter) -> None:
        """Add every endpoint to a router."""
        viewer = [Depends(self._door.needs(Role.VIEWER))]
        operator = [Depends(self._door.needs(Role.OPERATOR))]

        def add(
            method: str,
            path: str,
            endpoint: Callable[..., Any],
            model: Any,
            *errors: int,
            status: int = 200,
            more: Responses | None = None,
            **options: Any,
        ) -> None:
            router.add_api_route(
                path,
                endpoint,
                methods=[method],
                response_model=model,
                status_code=status,
                responses={**_errors(*errors), **(more or {})},
                dependencies=viewer if method == "GET" else operator,
                summary=(endpoint.__doc__ or "").partition("\n")[0],
                description=(endpoint.__doc__ or "").strip(),
                **options,
            )

        ill: Responses = {
            503: {"model": models.Health, "description": "Something is missing or waits for a person."}
        }
        add("GET", "/health", self.health, models.Health, more=ill)
        add("GET", "/status", self.status, models.Status)
        add("GET", "/metrics", self.metrics, models.Metrics)
        text: Responses = {
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Exposition."}
        }
        add("GET", "/metrics/prometheus", self.prometheus, None, more=text, response_class=Response)
        add("GET", "/config", self.config, dict[str, Any])
        add("POST", "/run", self.run, models.Accepted, 409, status=202)
        add("GET", "/plan", self.plan, models.Plan, 404, 409)
        add("POST", "/plan", self.make_plan, models.Accepted, 409, status=202)
        add("GET", "/operations", self.operations, models.Operations)
        add("GET", "/operations/{op_id}", self.operation, models.OperationDetail, 404)
        stream: Responses = {
            200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Events."}
        }
        add("GET", "/report", self.report, models.SummedUp, 404, 409)
        add("GET", "/operations/{op_id}/events", self.events, None, 404, more=stream, response_class=Response)
        restored = _later(models.Restored)
        add("POST", "/restore/{op_id}", self.restoring.restore, models.Restored, 404, 409, **restored)
        add("POST", "/restore-key", self.restoring.restore_key, models.Restored, 404, 409, **restored)
        add("POST", "/restore-to-time", self.restoring.restore_to_time, models.Restored, 409, **restored)
        add("POST", "/missing", self.upkeep.missing, models.MissingFound, 409, **_later(models.MissingFound))
        add("POST", "/verify", self.upkeep.verify, models.Verified, 409, **_later(models.Verified))
        add("POST", "/drill", self.upkeep.drill, models.Drilled, 409, **_later(models.Drilled))
        add("GET", "/explain", self.explain, models.Explanation)
        add("GET", "/breakers", self.breakers, models.Breakers)
        add("POST", "/breakers/acknowledge", self.acknowledge, models.Breakers, 400)
        add("GET", "/vault-stats", self.vault_stats, models.VaultStats)

    # ------------------------------------------------------------------ state

    async def health(self) -> Response:
        """Whether vault, store and sources answer, how far change capture is, and what waits for a person.

        503 with the same body when something is wrong. At most five seconds old.
        """
        document = await self.health_document()
        return JSONResponse(document, status_code=200 if document["ok"] else 503)

    async def health_document(self) -> dict[str, Any]:
        """The same, as JSON, also when the vault can't be opened."""
        admin = self._admin
        try:
            return {**values.health(await admin.health()), "follower": admin.follower.document()}
        except (Refusal, S3GCError) as error:
            problem = error.message if isinstance(error, Refusal) else admin.safe(error)
        return {
            "ok": False,
            "checked_at": admin.clock.now().isoformat(),
            "open": False,
            "problem": problem,
            "vault": None,
            "store": None,
            "sources": [],
            "waiting": [],
            "follower": admin.follower.document(),
        }

    async def status(self, request: Request) -> dict[str, Any]:
        """The state at a glance: what runs, what ran last, what waits, and when the next cycle begins."""
        admin = self._admin
        document: dict[str, Any] = {
            "version": __version__,
            "bucket": admin.config.redacted()["bucket"],
            "mode": admin.config.mode.value,
            "open": admin.problem is None,
            "problem": admin.problem,
            "running": admin.current.document() if admin.current else None,
            "last_run": None,
            "last_restore": None,
            "schedule": None,
            "waiting": [],
            "role": caller(request).role.value,
        }
        if admin.schedule is not None:
            document["schedule"] = {
                "cron": admin.schedule.text,
                "time_zone": admin.schedule.zone,
                "next_run": admin.next_run.isoformat() if admin.next_run else None,
            }
        if admin.problem is None:
            await admin.history.refresh(admin.gc)
            for name, kind in (("last_run", "collect"), ("last_restore", "restore")):
                found = admin.history.latest(kind)
                document[name] = values.clean(document_of(found)) if found else None
            document["waiting"] = [values.breaker(each) for each in await admin.gc.breakers()]
        return document

    async def metrics(self) -> Any:
        """Totals over the bucket's whole history, at most 30 seconds old."""
        return values.clean(await self._admin.metrics())

    async def prometheus(self, request: Request) -> Response:
        """The same for Prometheus, with health and the schedule."""
        body, kind = await exposition(self._admin, request.headers.get("accept", ""))
        return Response(body, media_type=kind)

    async def config(self) -> dict[str, Any]:
        """The configuration, without secrets."""
        found: dict[str, Any] = values.clean(self._admin.config.redacted())
        return found

    # ------------------------------------------------------------------ cycles

    async def run(self, request: Request) -> dict[str, Any]:
        """Begin a cycle as the configured mode says. 409 with its id when one is running already.

        It deletes only in the mode `execute`, and only what a new plan names. A cycle that is held at once is
        answered with 202 and the state `held`: the operation has the reasons.
        """
        return self._accepted(await self._admin.run(caller(request).name))

    async def make_plan(self, request: Request) -> dict[str, Any]:
        """Begin a new plan. Touches nothing in the bucket."""
        return self._accepted(await self._admin.plan(caller(request).name))

    def _accepted(self, running: Running) -> dict[str, Any]:
        if running.error is not None and not isinstance(running.error, CycleHeld | AlreadyCollected):
            raised(running.error, self._admin.config)
        return {
            "operation_id": running.operation_id,
            "kind": running.kind,
            "mode": self._admin.config.mode.value,
            "state": running.state,
            "message": values.clean(running.message),
        }

    async def plan(self, after: After = 0, limit: Limit = 50) -> dict[str, Any]:
        """The newest plan: what a cycle would delete and why, what is kept, and what holds it."""
        made = await self.latest_plan()
        if made is None:
            raise Refusal(404, "no_plan", "no plan was made yet: POST to the same address makes one")
        return values.plan(made, await self._admin.plans.page(after=after, limit=limit), after)

    async def latest_plan(self) -> Plan | None:
        """The newest plan, checked."""
        return await self._admin.plans.latest(self._admin.gc)

    # ------------------------------------------------------------------ operations

    async def operations(
        self,
        limit: Limit = 50,
        cursor: Annotated[
            int | None, Query(ge=1, le=LARGEST, description="`next_cursor` of the page before.")
        ] = None,
        offset: Annotated[int, Query(ge=0, le=1_000_000, description="Leave out so many.")] = 0,
    ) -> dict[str, Any]:
        """Operations of the journal, newest first: by `cursor`, which is exact, or by `offset`."""
        if cursor is not None and offset:
            raise Refusal(422, "invalid", "give cursor or offset, not both")
        history = self._admin.history
        await history.refresh(self._admin.gc)
        found = history.page(before=cursor, offset=offset, limit=limit + 1)
        return {
            "operations": [values.clean(document_of(each)) for each in found[:limit]],
            "total": len(history),
            "next_cursor": str(found[limit - 1].seq) if len(found) > limit else None,
        }

    async def operation(self, op_id: Id, after: After = 0, limit: Limit = 50) -> dict[str, Any]:
        """An operation with its objects, each with its reason and how it ended."""
        running = self._admin.known(op_id)
        gc = self._admin.gc
        await self._admin.history.refresh(gc)
        found = self._admin.history.get(op_id)
        if found is None and running is None:
            raise Refusal(404, "no_operation", f"the journal knows no operation {op_id}")
        some = await objects(gc, op_id, after=after, limit=limit) if found is not None else []
        return {
            "operation": values.clean(document_of(found)) if found else None,
            "running": values.clean(running.document()) if running else None,
            "objects": [values.clean(each) for each in some],
            "next_after": some[-1]["seq"] if len(some) == limit else None,
        }

    async def report(
        self,
        operation_id: Annotated[
            str | None, Query(pattern=models.ULID, description="An operation; none: the newest plan.")
        ] = None,
    ) -> dict[str, Any]:
        """What an operation deleted, or the newest plan would: by folder, and the largest objects."""
        if operation_id is None:
            plan = await self.latest_plan()
            if plan is None:
                raise Refusal(404, "no_plan", "no plan was made yet: POST /plan makes one")
            return await of_plan(plan)
        await self._admin.history.refresh(self._admin.gc)
        found = self._admin.history.get(operation_id)
        if found is None:
            raise Refusal(404, "no_operation", f"the journal knows no operation {operation_id}")
        return await of_operation(self._admin.gc, found)

    async def events(self, op_id: Id) -> Response:
        """Progress as server-sent events: `progress` with each change, `end` at the end. Then it closes.

        After a minute it closes in any case, for a server that stops waits for its connections: connect
        again, as browsers do by themselves.
        """
        running = self._admin.known(op_id)
        if running is not None:
            return _stream(_followed(running))
        await self._admin.history.refresh(self._admin.gc)
        if self._admin.history.get(op_id) is None:
            raise Refusal(404, "no_operation", f"the journal knows no operation {op_id}")
        return _stream(self._watched(op_id))

    async def _watched(self, op_id: str) -> AsyncIterator[str]:
        """An operation that runs in another process, as far as the journal tells."""
        silent = 0.0
        before: str | None = None
        last = anyio.current_time() + _running.LONGEST
        while True:
            await self._admin.history.refresh(self._admin.gc)
            found = self._admin.history.get(op_id)
            document = json.dumps(values.clean(document_of(found))) if found else "null"
            over = found is None or found.state != "open"
            if over or document != before:
                yield _event("end" if over else "progress", document)
                before, silent = document, 0.0
            if over or anyio.current_time() >= last:
                return
            await anyio.sleep(POLL)
            silent += POLL
            if silent >= _running.HEARTBEAT:
                silent = 0.0
                yield ": still there\n\n"

    # ------------------------------------------------------------------ questions

    async def explain(
        self,
        s3_key: Key,
        at: Annotated[
            datetime | None, Query(description="As the journal knew it then; with its time zone.")
        ] = None,
    ) -> dict[str, Any]:
        """Why a key is still there, or why it went: gates, rows, history."""
        moment = None if at is None else moment_of(at)
        return values.explanation(await self._admin.gc.explain(key_of(s3_key), at=moment))

    async def breakers(self) -> dict[str, Any]:
        """Breakers that wait for an acknowledgement."""
        return {"breakers": [values.breaker(each) for each in await self._admin.gc.breakers()]}

    async def acknowledge(
        self, request: Request, word: Annotated[models.Acknowledgement, Body()]
    ) -> dict[str, Any]:
        """Let a tripped breaker go, on record, and say which still wait."""
        await self.do_acknowledge(caller(request).name, word.code, word.reason, word.subject)
        return await self.breakers()

    async def do_acknowledge(self, by: str, code: str, reason: str, subject: str) -> None:
        """The same, for the page; the journal notes who it was.

        Raises:
            Refusal: no such breaker waits.
        """
        if "\0" in code + reason + subject:
            raise Refusal(422, "invalid", "a text must not hold a NUL character")
        try:
            await self._admin.gc.acknowledge(
                code, f"{reason.strip()} ({by})" if reason.strip() else "", subject=subject
            )
        except ValueError as error:
            raise Refusal(422, "not_waiting", str(error)) from error
        self._admin.forget_answers()

    async def vault_stats(self) -> dict[str, Any]:
        """The vault in numbers, at most 30 seconds old."""
        return values.vault(await self._admin.vault_stats())


def _event(name: str, data: str) -> str:
    return f"event: {name}\ndata: {data}\n\n"


async def _followed(running: Running) -> AsyncIterator[str]:
    async for document in running.follow():
        if document is None:
            yield ": still there\n\n"
        else:
            over = document["state"] != "running"
            yield _event("end" if over else "progress", json.dumps(values.clean(document)))


def _stream(events: AsyncIterator[str]) -> Response:
    return StreamingResponse(
        events,
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )
