"""The admin's endpoints on a bucket in a folder and an SQLite database, on asyncio and on trio."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import Mount

from fixtures_admin import (
    AS_OPERATOR,
    AS_VIEWER,
    BASE,
    OPERATOR,
    VIEWER,
    Site,
    as_role,
    client_of,
    finished,
    run,
)
from fixtures_cli import FILES, KEPT, ORPHANS
from s3gc import Collector, Safety
from s3gc.errors import ConfigError, SourceError
from s3gc_fastapi import AdminKey, Role, create_router, s3gc_lifespan, setup_s3gc_from_env, setup_s3gc_plugin

pytestmark = pytest.mark.anyio

ULID = "01K8Z5T2M3Q4R5S6T7V8W9X0YZ"
ENDPOINTS = [
    ("GET", "/health"),
    ("GET", "/status"),
    ("GET", "/metrics"),
    ("GET", "/metrics/prometheus"),
    ("GET", "/config"),
    ("POST", "/run"),
    ("GET", "/plan"),
    ("POST", "/plan"),
    ("GET", "/operations"),
    ("GET", f"/operations/{ULID}"),
    ("GET", f"/operations/{ULID}/events"),
    ("POST", f"/restore/{ULID}"),
    ("POST", "/restore-key?s3_key=a"),
    ("POST", "/restore-to-time?at=2026-01-01T00:00:00Z"),
    ("GET", "/report"),
    ("POST", "/missing"),
    ("POST", "/verify"),
    ("POST", "/drill"),
    ("GET", "/explain?s3_key=a"),
    ("GET", "/breakers"),
    ("POST", "/breakers/acknowledge"),
    ("GET", "/vault-stats"),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


# --------------------------------------------------------------------------- a whole story


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_from_the_first_look_to_the_last_file_back(site: Site) -> None:
    async with client_of(site.app()) as client:
        assert (await client.get(f"{BASE}/health")).json()["ok"]
        assert (await client.get(f"{BASE}/plan")).status_code == 404
        operation_id = await run(client)
        assert set(site.place.objects()) == KEPT

        detail = (await client.get(f"{BASE}/operations/{operation_id}")).json()
        assert detail["operation"]["counts"]["deleted"] == len(ORPHANS)
        assert {each["s3_key"] for each in detail["objects"]} == ORPHANS
        assert {each["outcome"] for each in detail["objects"]} == {"deleted"}
        assert all("no row of any source names it" in each["reason"] for each in detail["objects"])

        plan = (await client.get(f"{BASE}/plan")).json()
        assert {entry["s3_key"] for entry in plan["entries"]} == ORPHANS
        assert plan["kept_examples"]["excluded_prefix"][0]["key"] == "legal/hold.pdf"

        said = (await client.get(f"{BASE}/explain", params={"s3_key": "images/1.jpg"})).json()
        assert said["decision"].startswith("deleted by s3gc at ")
        assert (await client.get(f"{BASE}/status")).json()["last_run"]["operation_id"] == operation_id

        would = (await client.post(f"{BASE}/restore/{operation_id}")).json()
        assert (would["dry_run"], would["restored"]) == (True, len(ORPHANS))
        assert set(site.place.objects()) == KEPT
        one = await client.post(f"{BASE}/restore-key", params={"s3_key": "images/1.jpg", "dry_run": "false"})
        assert one.json()["restored_keys"] == ["images/1.jpg"]
        assert set(site.place.objects()) == KEPT | {"images/1.jpg"}
        rest = await client.post(f"{BASE}/restore/{operation_id}", params={"dry_run": "false"})
        assert (rest.json()["restored"], rest.json()["skipped"]) == (len(ORPHANS) - 1, 1)
        assert site.place.objects() == FILES

        numbers = (await client.get(f"{BASE}/metrics")).json()
        assert (numbers["total_deleted"], numbers["total_restored"], numbers["total_runs"]) == (4, 4, 1)
        assert numbers["last_error"] is None


async def test_back_to_a_time(site: Site) -> None:
    async with client_of(site.app()) as client:
        operation_id = await run(client)
        begun = (await client.get(f"{BASE}/operations/{operation_id}")).json()["operation"]["started_at"]
        answer = await client.post(
            f"{BASE}/restore-to-time", params={"at": begun, "prefix": "images/", "dry_run": "false"}
        )
        assert answer.json()["restored_keys"] == ["images/1.jpg", "images/2.jpg"]
        for wrong in ("2026-01-01T00:00:00", "yesterday", "0001-01-01T00:00:00Z"):
            assert (await client.post(f"{BASE}/restore-to-time", params={"at": wrong})).status_code == 422


# --------------------------------------------------------------------------- one at a time


async def test_a_second_run_gets_the_id_of_the_first(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    app, release = site.app(), anyio.Event()
    original = Collector.collect

    async def slow(self: Collector, *args: Any, **options: Any) -> Any:
        async with self._operation(writes=False, own_id=options["own_id"]):
            app.state.s3gc_admins[BASE].current.begun.set()
            await release.wait()
        return await original(self, *args, **options)

    monkeypatch.setattr(Collector, "collect", slow)
    other = site.app(config=site.config())  # another worker of the same bucket
    async with client_of(app) as client, client_of(other) as elsewhere:
        first = (await client.post(f"{BASE}/run")).json()["operation_id"]
        for asked in (client, elsewhere):
            for path in ("/run", "/plan", "/restore-key?s3_key=images/1.jpg&dry_run=false"):
                second = await asked.post(f"{BASE}{path}")
                assert second.status_code == 409, (path, second.text)
                assert second.json()["error"]["type"] == "busy"
                assert second.json()["error"]["operation_id"] == first, path
        assert (await client.get(f"{BASE}/status")).json()["running"]["operation_id"] == first
        release.set()
        monkeypatch.undo()
        assert (await finished(client, first))["state"] == "completed"
        await run(elsewhere)


async def test_stopping_the_application_ends_an_operation_before_the_collector(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = site.app()
    seen: list[str] = []

    async def endless(self: Collector, *_: Any, **options: Any) -> Any:
        app.state.s3gc_admins[BASE].current.begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                seen.append(f"{(await self.vault_stats()).backups} backups: still open")

    monkeypatch.setattr(Collector, "collect", endless)
    async with client_of(app) as client:
        assert (await client.post(f"{BASE}/run")).status_code == 202
    assert seen == ["0 backups: still open"]


# --------------------------------------------------------------------------- held, and acknowledged


async def test_a_held_cycle_says_by_what_and_an_acknowledgement_lets_it_go(site: Site) -> None:
    site.forget_everything()
    async with client_of(site.app()) as client:
        answer = await client.post(f"{BASE}/run")
        assert answer.status_code == 202
        end = await finished(client, answer.json()["operation_id"])
        assert end["state"] == "held"
        assert "no_references" in end["message"]
        assert set(site.place.objects()) == set(FILES)
        health = await client.get(f"{BASE}/health")
        assert health.status_code == 503
        waiting = {(each["code"], each["subject"]) for each in health.json()["waiting"]}
        assert {code for code, _ in waiting} >= {"no_references", "empty_column"}
        for code, subject in waiting:
            word = {"code": code, "subject": subject, "reason": "it is a new database"}
            answer = await client.post(f"{BASE}/breakers/acknowledge", json=word)
            assert answer.status_code == 200, answer.text
        assert answer.json() == {"breakers": []}
        assert (await client.get(f"{BASE}/health")).json()["ok"]
        again = await client.post(
            f"{BASE}/breakers/acknowledge", json={**word, "subject": "", "code": "made_up"}
        )
        assert again.status_code == 422
        assert again.json()["error"]["type"] == "not_waiting"
    async with Collector.open(site.config()) as gc:
        reasons = [e.data["reason"] async for e in gc.history(events={"breaker_acknowledged"})]
    assert set(reasons) == {"it is a new database (admin)"}


async def test_the_last_error_survives_a_restart_and_the_next_good_run_clears_it(site: Site) -> None:
    site.forget_everything()
    async with client_of(site.app()) as client:
        await finished(client, (await client.post(f"{BASE}/run")).json()["operation_id"])
    site.place.rows("images/11.jpg", "https://cdn.example.com/docs/a%20b.pdf")
    async with client_of(site.app()) as client:
        assert "no_references" in (await client.get(f"{BASE}/metrics")).json()["last_error"]
        for each in (await client.get(f"{BASE}/breakers")).json()["breakers"]:
            word = {"code": each["code"], "subject": each["subject"], "reason": "mended"}
            assert (await client.post(f"{BASE}/breakers/acknowledge", json=word)).status_code == 200
        await run(client)
        assert (await client.get(f"{BASE}/metrics")).json()["last_error"] is None


# --------------------------------------------------------------------------- the host application


async def test_a_database_that_is_down_does_not_keep_the_application_from_starting(site: Site) -> None:
    config = site.config(database_url="postgresql://app:hunter22hunter22@127.0.0.1:9/app")
    app = site.app(config=config)

    @app.get("/hello")
    async def hello() -> str:
        return "hello"

    async with client_of(app) as client:
        assert (await client.get("/hello")).json() == "hello"
        health = await client.get(f"{BASE}/health")
        assert health.status_code == 503
        assert not health.json()["sources"][0]["ok"]
        answer = await client.post(f"{BASE}/run")
        end = await finished(client, answer.json()["operation_id"])
        assert end["state"] == "held"
        for text in (health.text, answer.text, json.dumps(end)):
            assert "hunter22" not in text


async def test_a_vault_that_cannot_be_opened_is_opened_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    mended = anyio.Event()

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await mended.wait()

    monkeypatch.setattr("s3gc_fastapi._admin.anyio.sleep", sleep)
    (site.folder / "vault").write_text("a file where the folder should be")
    async with client_of(site.app()) as client:
        health = await client.get(f"{BASE}/health")
        assert (health.status_code, health.json()["open"]) == (503, False)
        for method, path in ENDPOINTS:
            answer = await client.request(method, BASE + path, json={"code": "a", "reason": "b"})
            expected = 200 if path in ("/config", "/status", "/metrics/prometheus") else 503
            assert answer.status_code == expected, (path, answer.text)
        (site.folder / "vault").unlink()
        mended.set()
        for _ in range(2_000):  # the host's loop is never held up for long: the opening has its turns
            if (await client.get(f"{BASE}/health")).status_code == 200:
                break
            await asyncio.sleep(0.01)
        else:
            pytest.fail("it was never opened")
    assert waited[0] == 1.0


async def test_it_runs_beside_a_lifespan_of_the_application_and_inside_it(site: Site) -> None:
    order: list[str] = []

    @asynccontextmanager
    async def own(_: FastAPI) -> AsyncIterator[dict[str, str]]:
        order.append("up")
        yield {"mine": "still here"}
        order.append("down")

    app = site.app(lifespan=own)
    async with app.router.lifespan_context(app) as state:
        assert state == {"mine": "still here"}
        assert app.state.s3gc_admins[BASE].problem is None
    assert order == ["up", "down"]
    assert app.state.s3gc_admins[BASE].problem is not None


async def test_two_lifespans_open_one_collector(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    original = Collector.open

    def counted(*args: Any, **options: Any) -> Any:
        opened.append("once")
        return original(*args, **options)

    monkeypatch.setattr(Collector, "open", counted)
    async with client_of(site.app(lifespan=s3gc_lifespan)) as client:
        assert (await client.get(f"{BASE}/health")).status_code == 200
    assert opened == ["once"]


async def test_an_error_of_the_applications_own_start_comes_through_as_it_is(site: Site) -> None:
    class Mine(Exception): ...

    app = FastAPI()
    setup_s3gc_plugin(app, site.config())

    with pytest.raises(Mine):
        async with s3gc_lifespan(app):
            raise Mine


async def test_a_mounted_application_needs_the_lifespan_of_the_outer_one(site: Site) -> None:
    inner = site.app()
    without = FastAPI()
    without.mount("/inner", inner)
    async with client_of(without) as client:
        answer = await client.post(f"/inner{BASE}/run")
        assert answer.status_code == 503
        assert "lifespan" in answer.json()["error"]["message"]
    outer = FastAPI(lifespan=s3gc_lifespan, routes=[Mount("/inner", inner)])
    async with client_of(outer) as client:
        assert (await client.get(f"/inner{BASE}/health")).status_code == 200
        assert (await client.post(f"/inner{BASE}/run")).status_code == 202


async def test_a_collector_that_the_host_opened(site: Site) -> None:
    async with Collector.open(site.config()) as gc:
        app = FastAPI()
        app.include_router(create_router(gc), prefix="/gc")
        async with client_of(app) as client:
            assert (await client.get("/gc/health")).status_code == 200
            answer = await client.post("/gc/run")
            assert answer.status_code == 202
            admin_id = answer.json()["operation_id"]
            async with client.stream("GET", f"/gc/operations/{admin_id}/events") as events:
                assert [line async for line in events.aiter_lines()][-3] == "event: end"
        assert set(site.place.objects()) == KEPT
        await gc.plan()  # still the host's


async def test_several_buckets_in_one_application(
    site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    second = Site(tmp_path_factory.mktemp("second"))
    app = site.app()
    setup_s3gc_plugin(app, second.config(), prefix="/admin/second")
    async with client_of(app) as client:
        await run(client)
        assert (await client.get("/admin/second/operations")).json()["total"] == 0
        assert set(second.place.objects()) == set(FILES)
    with pytest.raises(ConfigError, match="already"):
        setup_s3gc_plugin(app, second.config())
    for wrong in ("admin", "/admin/", "/{x}", ""):
        with pytest.raises(ConfigError, match="prefix must look like"):
            setup_s3gc_plugin(app, second.config(), prefix=wrong)


async def test_from_the_environment(site: Site) -> None:
    app = FastAPI()
    environ = {
        "S3_BUCKET": site.place.bucket.as_uri(),
        "DATABASE_URL": f"sqlite:///{site.place.database}",
        "S3GC_VAULT_PATH": str(site.folder / "vault"),
        "S3GC_ADMIN_API_KEY": OPERATOR,
        "S3GC_SCHEDULE_CRON": "02:30",
    }
    setup_s3gc_from_env(
        app, tables={"assets": ["location"]}, environ=environ, overrides={"safety": Safety.demo()}
    )
    async with client_of(app) as client:
        status = (await client.get(f"{BASE}/status")).json()
        assert status["mode"] == "dry_run"
        assert status["schedule"]["next_run"].endswith(("T02:30:00+00:00", "T02:30:00Z"))
        await run(client)
    assert set(site.place.objects()) == set(FILES)


# --------------------------------------------------------------------------- who may


async def test_each_endpoint_asks_who_it_is(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s3gc_fastapi._keys.FAILURES", 100)
    async with client_of(site.app(), headers={}) as client:
        for method, path in ENDPOINTS:
            await _asks(client, method, path)
        assert set(site.place.objects()) == set(FILES)


async def _asks(client: httpx.AsyncClient, method: str, path: str) -> None:
    for headers in (
        {},
        as_role("a wrong key"),
        {"authorization": "Basic YTpi"},
        {"authorization": "Bearer"},
    ):
        answer = await client.request(method, BASE + path, headers=headers)
        assert answer.status_code == 401, answer.text
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert "a wrong key" not in answer.text
    as_viewer = await client.request(method, BASE + path, headers=AS_VIEWER)
    if method == "GET":
        assert as_viewer.status_code in (200, 404)
    else:
        assert as_viewer.status_code == 403
        assert as_viewer.json()["error"]["type"] == "forbidden"


async def test_without_a_key_in_the_configuration_all_is_closed(site: Site) -> None:
    app = site.app(config=site.config(admin_api_key=None, admin_keys=[]))
    async with client_of(app) as client:
        for method, path in ENDPOINTS:
            answer = await client.request(method, BASE + path)
            assert answer.status_code == 403
            assert answer.json()["error"]["type"] == "admin_closed"
            assert "S3GC_ADMIN_API_KEY" in answer.json()["error"]["message"]


async def test_each_answer_has_the_security_headers(site: Site) -> None:
    async with client_of(site.app()) as client:
        for method, path, headers in [
            (*each, shown) for each in ENDPOINTS for shown in (AS_OPERATOR, {"authorization": "Bearer wrong"})
        ]:
            answer = await client.request(method, BASE + path, headers=headers)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"


async def test_the_applications_own_dependency_decides_instead_of_keys(site: Site) -> None:
    from fastapi import Header, HTTPException

    async def who(x_user: str = Header("")) -> str | None:
        if x_user == "mallory":
            raise HTTPException(418, "not you")
        return {"alice": "operator", "bob": "viewer"}.get(x_user)

    app = site.app(authenticate=who)
    async with client_of(app, headers={}) as client:
        assert (await client.get(f"{BASE}/status")).status_code == 401
        assert (await client.get(f"{BASE}/status", headers=AS_OPERATOR)).status_code == 401
        assert (await client.get(f"{BASE}/status", headers={"x-user": "mallory"})).status_code == 418
        assert (await client.get(f"{BASE}/status", headers={"x-user": "bob"})).json()["role"] == "viewer"
        assert (await client.post(f"{BASE}/plan", headers={"x-user": "bob"})).status_code == 403
        alice = {"x-user": "alice"}
        for elsewhere in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.test"}):
            answer = await client.post(f"{BASE}/plan", headers={**alice, **elsewhere})
            assert answer.json()["error"]["type"] == "cross_site"
        for here in ({"sec-fetch-site": "same-origin"}, {"origin": "http://app.test"}, {}):
            answer = await client.post(f"{BASE}/plan", headers={**alice, **here})
            assert answer.status_code == 202
            await finished_as(client, answer.json()["operation_id"], alice)


async def finished_as(client: httpx.AsyncClient, operation_id: str, headers: dict[str, str]) -> None:
    async with client.stream("GET", f"{BASE}/operations/{operation_id}/events", headers=headers) as events:
        async for _ in events.aiter_lines():
            pass


async def test_keys_in_code(site: Site) -> None:
    config = site.config(admin_api_key=None, admin_keys=[])
    app = site.app(config=config, keys=[AdminKey("ci", Role.VIEWER, "the-key-of-the-ci-job")])
    async with client_of(app, headers=as_role("the-key-of-the-ci-job")) as client:
        assert (await client.get(f"{BASE}/status")).json()["role"] == "viewer"


# --------------------------------------------------------------------------- bounds and hostile keys


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=x",
        "offset=-1",
        "offset=1000001",
        "cursor=0",
        "cursor=x",
        "cursor=1&offset=1",
    ],
)
async def test_bad_paging_is_refused(site: Site, query: str) -> None:
    async with client_of(site.app()) as client:
        answer = await client.get(f"{BASE}/operations?{query}")
        assert answer.status_code == 422
        assert answer.json()["error"]["type"] == "invalid"


async def test_pages_of_operations_have_each_of_them_once(site: Site) -> None:
    async with client_of(site.app()) as client:
        made = [await run(client) for _ in range(5)]
        by_cursor: list[str] = []
        cursor: str | None = None
        while True:
            query = {"limit": "2", **({"cursor": cursor} if cursor else {})}
            page = (await client.get(f"{BASE}/operations", params=query)).json()
            by_cursor += [each["operation_id"] for each in page["operations"]]
            assert page["total"] == 5
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert by_cursor == made[::-1]
        by_offset = [
            each["operation_id"]
            for offset in (0, 2, 4, 6)
            for each in (
                await client.get(f"{BASE}/operations", params={"limit": 2, "offset": offset})
            ).json()["operations"]
        ]
        assert by_offset == made[::-1]


async def test_pages_of_objects_and_of_a_plan_have_each_of_them_once(site: Site) -> None:
    for number in range(300):
        site.place.put(f"many/{number:04d}", b"x")
    async with client_of(site.app(config=site.config(safety=Safety.demo().but(max_deletes=None)))) as client:
        operation_id = await run(client)
        for path, field, name in (
            ("/plan", "entries", "next_after"),
            (f"/operations/{operation_id}", "objects", "next_after"),
        ):
            keys: list[str] = []
            after = 0
            while after is not None:
                page = (await client.get(f"{BASE}{path}", params={"limit": 77, "after": after})).json()
                keys += [each["s3_key"] for each in page[field]]
                after = page[name]
            assert keys == sorted(ORPHANS | {f"many/{number:04d}" for number in range(300)})
        beyond = (await client.get(f"{BASE}/plan", params={"after": 10**9})).json()
        assert (beyond["entries"], beyond["next_after"]) == ([], None)


@pytest.mark.parametrize(
    "op_id", ["nope", "01K8Z5T2M3Q4R5S6T7V8W9X0Y", "../../etc/passwd", "%00", "ILOU" * 6 + "AA"]
)
async def test_a_malformed_id_is_refused(site: Site, op_id: str) -> None:
    async with client_of(site.app()) as client:
        assert (await client.get(f"{BASE}/operations/{op_id}")).status_code in (404, 422)
        assert (await client.post(f"{BASE}/restore/{op_id}")).status_code in (404, 422)


async def test_an_unknown_id_and_an_unknown_key_are_not_found(site: Site) -> None:
    async with client_of(site.app()) as client:
        for method, path in (
            ("GET", f"/operations/{ULID}"),
            ("GET", f"/operations/{ULID}/events"),
            ("POST", f"/restore/{ULID}"),
            ("POST", "/restore-key?s3_key=nope"),
            ("POST", "/restore-key?s3_key=nope&dry_run=false"),
        ):
            assert (await client.request(method, BASE + path)).status_code == 404


@pytest.mark.parametrize(
    "key",
    [
        "<script>alert(1)</script>",
        "new\nline\r\n",
        "k" * 1024,
        "\u202eodd",
        "a\x1b[31m",
        "ü" * 512,
        " ",
        "a?b#c&d=%00",
    ],
)
async def test_hostile_keys_are_asked_for_as_they_are(site: Site, key: str) -> None:
    async with client_of(site.app()) as client:
        said = await client.get(f"{BASE}/explain", params={"s3_key": key})
        assert said.status_code == 200
        assert said.json()["s3_key"] == key
        assert said.headers["content-type"] == "application/json"
        missing = await client.post(f"{BASE}/restore-key", params={"s3_key": key})
        assert missing.json()["error"]["type"] == "not_in_journal"


@pytest.mark.parametrize("key", ["", "k" * 1025, "ü" * 513, "nul\0"])
async def test_what_can_be_no_key_is_refused(site: Site, key: str) -> None:
    async with client_of(site.app()) as client:
        for method, path in (("GET", "/explain"), ("POST", "/restore-key")):
            answer = await client.request(method, BASE + path, params={"s3_key": key})
            assert answer.status_code == 422
            assert "kkkk" not in answer.text


async def test_no_answer_and_no_page_of_the_api_holds_a_secret(site: Site) -> None:
    async with client_of(site.app()) as client:
        operation_id = await run(client)
        for method, path in ENDPOINTS:
            if method == "GET":
                answer = await client.get(BASE + path.replace(ULID, operation_id))
                assert OPERATOR not in answer.text
                assert "viewer-key" not in answer.text


async def test_an_error_that_holds_a_secret_is_told_without_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any, **__: Any) -> Any:
        raise SourceError(f"refused: {OPERATOR} and {VIEWER}")

    monkeypatch.setattr(Collector, "explain", fail)
    monkeypatch.setattr(Collector, "collect", fail)
    async with client_of(site.app()) as client:
        for method, path in (("GET", "/explain?s3_key=a"), ("GET", "/ui/explain?s3_key=a"), ("POST", "/run")):
            answer = await client.request(method, BASE + path)
            assert answer.status_code == 503
            assert "refused: *** and ***" in answer.text
            assert OPERATOR not in answer.text
            assert VIEWER not in answer.text


async def test_the_journal_of_another_process_is_followed(site: Site) -> None:
    async with client_of(site.app()) as client:
        async with Collector.open(site.config()) as gc:
            report = await gc.collect()
        assert (await finished(client, report.operation_id))["state"] == "completed"


async def test_the_openapi_is_whole(site: Site) -> None:
    document = site.app().openapi()
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            assert told["summary"], path
            assert {"401", "403", "422", "429", "503"} <= set(told["responses"]), (method, path)
            assert told["security"] == [{"S3GCAdminKey": []}]
            for code, answer in told["responses"].items():
                if code not in ("200", "202") and not (path.endswith("/health") and code == "503"):
                    assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/Error")
    assert {path.removeprefix(BASE) for path in document["paths"]} == {
        path.partition("?")[0].replace(ULID, "{op_id}") for _, path in ENDPOINTS
    }


async def test_operations_are_spans_where_opentelemetry_is(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("s3gc_fastapi._tracing.trace.get_tracer", provider.get_tracer)
    async with client_of(site.app()) as client:
        operation_id = await run(client)
        site.forget_everything()
        held = (await client.post(f"{BASE}/run")).json()["operation_id"]
        await finished(client, held)
        monkeypatch.setattr("s3gc_fastapi._tracing._HAVE", False)
        for each in (await client.get(f"{BASE}/breakers")).json()["breakers"]:
            word = {"code": each["code"], "subject": each["subject"], "reason": "new"}
            await client.post(f"{BASE}/breakers/acknowledge", json=word)
        await run(client)
    good, bad = exporter.get_finished_spans()
    assert good.attributes is not None
    assert bad.attributes is not None
    assert good.name == "s3gc collect"
    assert good.attributes["s3gc.operation_id"] == operation_id
    assert good.attributes["s3gc.deleted"] == len(ORPHANS)
    assert (good.status.is_ok, bad.status.is_ok) == (True, False)
    assert bad.attributes["s3gc.state"] == "held"


async def test_a_damaged_plan_is_told(site: Site) -> None:
    async with client_of(site.app()) as client:
        await run(client)
        (path,) = (site.folder / "vault" / "plans").iterdir()
        path.write_bytes(path.read_bytes().replace(b"images/1.jpg", b"images/9.jpg"))
        answer = await client.get(f"{BASE}/plan")
        assert (answer.status_code, answer.json()["error"]["type"]) == (409, "plan_unusable")
        shutil.rmtree(path.parent)
        assert (await client.get(f"{BASE}/plan")).status_code == 404
