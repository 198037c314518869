"""The stream of an operation's events: whatever happens to the operation, it is well formed, and it ends."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from ulid import ULID

from fixtures_admin import AS_VIEWER, BASE, Site, client_of
from s3gc.model import JournalDraft
from s3gc_fastapi import _api, _running
from s3gc_fastapi._admin import Admin
from s3gc_fastapi._running import _HANDLERS, Running

WITHIN = 20.0
"""Seconds after which a stream that hasn't ended counts as one that never does."""

text = st.text(max_size=40) | st.sampled_from(
    ["<script>", "a\nb", "a\r\ndata: x", "\u2028", "\ud800", "é" * 512]
)
counts = st.integers(0, 2**70)
facts = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["plan", "collect"]),
        "listed": counts,
        "objects": counts,
        "references": counts,
        "s3_key": text,
    }
)
news = st.lists(st.tuples(st.sampled_from([*_HANDLERS, "never_heard_of"]), facts), max_size=12)
ends = st.tuples(st.sampled_from(["completed", "held", "failed", "refused"]), st.none() | text)


class Stage:
    """An application that runs, and what to ask of it from a test that isn't asynchronous."""

    def __init__(
        self, portal: anyio.from_thread.BlockingPortal, client: httpx.AsyncClient, app: FastAPI
    ) -> None:
        self.portal = portal
        self.client = client
        self.admin: Admin = app.state.s3gc_admins[BASE]

    async def frames(self, operation_id: str) -> list[tuple[str, Any]]:
        """All events of a stream up to its end, checked for form."""
        with anyio.fail_after(WITHIN):
            answer = await self.client.get(f"{BASE}/operations/{operation_id}/events")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = []
        *whole, rest = answer.text.split("\n\n")
        assert rest == "", "the last event has its end"
        for frame in whole:
            if frame.startswith(":"):
                continue
            name, data = re.fullmatch(r"event: (\w+)\ndata: ([^\r\n]*)", frame).groups()  # type: ignore[union-attr]
            found.append((name, json.loads(data)))
        assert [name for name, _ in found].index("end") == len(found) - 1
        return found


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    app = Site(tmp_path_factory.mktemp("site")).app()
    with (
        pytest.MonkeyPatch.context() as quick,
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(client_of(app, headers=AS_VIEWER)) as client,
    ):
        quick.setattr(_running, "PACE", 0.0)
        quick.setattr(_api, "POLL", 0.001)
        yield Stage(portal, client, app)


@settings(max_examples=100)
@given(news, ends, st.integers(0, 12))
def test_an_operation_of_this_process(
    stage: Stage, told: list[tuple[str, Any]], end: tuple[str, str | None], late: int
) -> None:
    """Somebody listens from the event ``late`` on; what is told before and after, and how it ends, is any."""
    admin = stage.admin
    running = Running(str(ULID()), "collect", admin.clock.now(), "somebody")

    async def story() -> list[tuple[str, Any]]:
        admin._recent[running.operation_id] = running
        for event, data in told[:late]:
            running.told(event, data)
        found: list[tuple[str, Any]] = []

        async def listen() -> None:
            found.extend(await stage.frames(running.operation_id))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            for event, data in told[late:]:
                await anyio.lowlevel.checkpoint()
                running.told(event, data)
            running.end(*end, admin.clock.now())
        return found

    frames = stage.portal.call(story)
    assert frames[-1][1]["state"] == end[0]
    assert frames[-1][1]["deleted"] == sum(event == "object_backed_up_and_deleted" for event, _ in told)


@settings(max_examples=40)
@given(
    st.sampled_from(["operation_completed", "operation_failed", "operation_recovered"]),
    st.integers(0, 4),
    text,
)
def test_an_operation_of_another_process(stage: Stage, how: str, turns: int, error: str) -> None:
    operation_id = str(ULID())
    data = {"kind": "collect", "mode": "execute", "error": error.encode("utf-8", "replace").decode()}

    async def story() -> list[tuple[str, Any]]:
        journal = stage.admin.gc._parts.vault.journal
        await journal.append([JournalDraft("operation_started", operation_id, data=data)])
        found: list[tuple[str, Any]] = []

        async def listen() -> None:
            found.extend(await stage.frames(operation_id))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            for _ in range(turns):
                await anyio.sleep(0.001)
            await journal.append([JournalDraft(how, operation_id, data=data)])
        return found

    frames = stage.portal.call(story)
    assert f"operation_{frames[-1][1]['state']}" == how


@settings(max_examples=150)
@given(st.one_of(st.text(min_size=1, max_size=40), st.builds(lambda _: str(ULID()), st.none())))
def test_an_id_that_nobody_knows(stage: Stage, operation_id: str) -> None:
    async def ask() -> httpx.Response:
        path = "".join(f"%{byte:02X}" for byte in operation_id.encode("utf-8", "surrogatepass"))
        with anyio.fail_after(WITHIN):
            return await stage.client.get(f"{BASE}/operations/{path}/events")

    answer = stage.portal.call(ask)
    assert answer.status_code in (404, 422), answer.text


@pytest.mark.parametrize("here", [True, False], ids=["of this process", "of another one"])
def test_it_ends_while_the_operation_goes_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, here: bool
) -> None:
    """A server waits for its connections before it stops: a listener must not keep it for ever."""
    monkeypatch.setattr(_running, "LONGEST", 0.05)
    monkeypatch.setattr(_running, "HEARTBEAT", 0.001)
    admin = stage.admin
    running = Running(str(ULID()), "collect", admin.clock.now(), "somebody")

    async def story() -> str:
        if here:
            admin._recent[running.operation_id] = running
        else:
            data = {"kind": "collect", "mode": "execute"}
            journal = admin.gc._parts.vault.journal
            await journal.append([JournalDraft("operation_started", running.operation_id, data=data)])
        with anyio.fail_after(WITHIN):
            return (await stage.client.get(f"{BASE}/operations/{running.operation_id}/events")).text

    said = stage.portal.call(story)
    assert said.startswith("event: progress\n")
    assert "event: end" not in said
    assert said.endswith("\n\n")
