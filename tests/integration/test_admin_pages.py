"""The dashboard by its HTML: who sees what, what a form must carry, and keys that would do harm."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Header
from starlette.requests import Request
from starlette.routing import Mount

from fixtures_admin import AS_OPERATOR, BASE, OPERATOR, VIEWER, Site, client_of, finished
from fixtures_cli import FILES, KEPT, ORPHANS
from s3gc_fastapi import s3gc_lifespan
from s3gc_fastapi._errors import Refusal
from s3gc_fastapi.ui._forms import read_form

pytestmark = pytest.mark.anyio

UI = f"{BASE}/ui"
PAGES = [
    "",
    "/plan",
    "/operations",
    "/explain",
    "/explain?s3_key=images/11.jpg",
    "/restore",
    "/breakers",
    "/missing",
    "/vault",
    "/report",
]
FORMS = {
    "/plan": {},
    "/run": {"confirmed": "yes"},
    "/restore": {"what": "key", "value": "images/1.jpg", "confirmed": "yes"},
    "/breakers": {"code": "no_references", "subject": "", "reason": "because"},
    "/missing": {},
    "/vault/verify": {"share_of": "30"},
    "/vault/drill": {"objects": "10"},
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@asynccontextmanager
async def logged_in(site: Site, key: str = OPERATOR, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(site.app(**options), headers={}) as client:
        answer = await client.post(f"{UI}/login", data={"key": key})
        assert (answer.status_code, answer.headers["location"]) == (303, UI)
        yield client


async def token(client: httpx.AsyncClient, page: str = "/restore") -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', (await client.get(UI + page)).text)
    assert found
    return found[1]


async def run(client: httpx.AsyncClient) -> str:
    answer = await client.post(f"{UI}/run", data={"confirmed": "yes", "csrf": await token(client)})
    assert answer.status_code == 303, answer.text
    operation_id = str(answer.headers["location"].rpartition("/")[2])
    await finished(client, operation_id)
    return operation_id


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


async def test_nobody_sees_a_page_without_a_session(site: Site) -> None:
    async with client_of(site.app(), headers={}) as client:
        for page in [*PAGES, "/run", f"/operations/{'0' * 26}"]:
            answer = await client.get(UI + page)
            assert (answer.status_code, answer.headers["location"]) == (303, f"{UI}/login")
        for form, fields in FORMS.items():
            answer = await client.post(UI + form, data=fields)
            assert answer.status_code == 401
        login = await client.get(f"{UI}/login")
        assert site.place.bucket.as_uri() not in login.text
        wrong = await client.post(f"{UI}/login", data={"key": "a wrong key"})
        assert wrong.status_code == 401
        assert "a wrong key" not in wrong.text
        assert "set-cookie" not in wrong.headers
        assert set(site.place.objects()) == set(FILES)


async def test_logging_in_is_slowed_and_not_done_by_other_sites(site: Site) -> None:
    async with client_of(site.app(), headers={}) as client:
        evil = {"sec-fetch-site": "cross-site"}
        answer = await client.post(f"{UI}/login", data={"key": OPERATOR}, headers=evil)
        assert answer.status_code == 403
        for _ in range(10):
            await client.post(f"{UI}/login", data={"key": "guess"})
        answer = await client.post(f"{UI}/login", data={"key": OPERATOR})
        assert answer.status_code == 429
        assert "retry-after" in answer.headers


async def test_a_closed_admin_says_so_on_its_page(site: Site) -> None:
    app = site.app(config=site.config(admin_api_key=None, admin_keys=[]))
    async with client_of(app, headers={}) as client:
        answer = await client.get(UI)
        assert answer.status_code == 403
        assert "S3GC_ADMIN_API_KEY" in answer.text
        answer = await client.post(f"{UI}/login", data={"key": ""})
        assert answer.status_code == 403


async def test_a_story_by_forms_alone(site: Site) -> None:
    async with logged_in(site) as client:
        assert "Healthy" in (await client.get(UI)).text
        operation_id = await run(client)
        assert set(site.place.objects()) == KEPT
        page = (await client.get(f"{UI}/operations/{operation_id}")).text
        assert "images/1.jpg" in page
        freed = sum(len(FILES[key]) for key in ORPHANS)
        overview = re.sub(r"\s+", " ", (await client.get(UI)).text)
        assert f"<dt>Reclaimed</dt><dd>{freed} bytes</dd>" in overview
        assert "no row of any source names it" in page
        fields = {"csrf": await token(client), "what": "operation", "value": operation_id}
        preview = await client.post(f"{UI}/restore", data=fields)
        assert "Would be restored: 4" in preview.text
        assert set(site.place.objects()) == KEPT
        done = await client.post(f"{UI}/restore", data={**fields, "confirmed": "yes"})
        assert "Restored: 4" in done.text
        assert site.place.objects() == FILES
        for page_name in PAGES:
            assert (await client.get(UI + page_name)).status_code == 200
        left = await client.post(f"{UI}/logout", data={"csrf": fields["csrf"]})
        assert left.headers["location"] == f"{UI}/login"
        assert (await client.get(UI)).status_code == 303


async def test_checks_by_forms(site: Site) -> None:
    with sqlite3.connect(site.place.database) as database:
        database.execute("INSERT INTO assets (location) VALUES ('gone/<b>.jpg')")
    database.close()
    async with logged_in(site) as client:
        await run(client)
        assert "Nobody has looked" in (await client.get(f"{UI}/missing")).text
        told = {
            "/missing": "1 mention of what doesn&#39;t exist",
            "/vault/verify": "4 backups read, 0 problems",
            "/vault/drill": "3 of 3 came back exactly",
        }
        for form, words in told.items():
            data = {"csrf": await token(client), "objects": "3"}
            answer = await client.post(UI + form, data=data)
            assert answer.status_code == 303, answer.text
            operation_id = str(answer.headers["location"].rpartition("/")[2])
            await finished(client, operation_id)
            page = (await client.get(answer.headers["location"])).text
            assert words in page.replace("doesn't", "doesn&#39;t"), page
            assert "<b>.jpg" not in page
        assert "gone/&lt;b&gt;.jpg" in (await client.get(f"{UI}/missing")).text
        for form, wrong in (("verify", {"share_of": "0"}), ("drill", {"objects": "1e9"}), ("drill", {})):
            answer = await client.post(f"{UI}/vault/{form}", data={"csrf": await token(client), **wrong})
            assert answer.status_code == 422


async def test_restoring_to_another_place_by_forms(site: Site) -> None:
    (other := site.folder / "other").mkdir()
    config = site.config(restore_targets=[other.as_uri()])
    async with logged_in(site, config=config) as client:
        await run(client)
        assert f"<option>{other.as_uri()}</option>" in (await client.get(f"{UI}/restore")).text
        fields = {
            "csrf": await token(client), "what": "key", "value": "images/1.jpg", "into": other.as_uri(),
        }  # fmt: skip
        preview = (await client.post(f"{UI}/restore", data=fields)).text
        assert "Would be restored: 1" in preview
        assert f'name="into" value="{other.as_uri()}"' in preview
        done = (await client.post(f"{UI}/restore", data={**fields, "confirmed": "yes"})).text
        assert "Restored: 1" in done
        assert (other / "images" / "1.jpg").read_bytes() == FILES["images/1.jpg"]
        assert set(site.place.objects()) == KEPT
        answer = await client.post(f"{UI}/restore", data={**fields, "into": "file:///"})
        assert answer.status_code == 422


async def test_a_held_cycle_is_shown_and_acknowledged(site: Site) -> None:
    site.forget_everything()
    async with logged_in(site) as client:
        await run(client)
        page = (await client.get(UI)).text
        assert "Held" in page
        waiting = (await client.get(f"{BASE}/breakers")).json()["breakers"]
        assert len(waiting) == 2
        for each in waiting:
            fields = {"csrf": await token(client), "code": each["code"], "subject": each["subject"]}
            refused = await client.post(f"{UI}/breakers", data={**fields, "reason": " "})
            assert refused.status_code == 422
            done = await client.post(f"{UI}/breakers", data={**fields, "reason": "a new database"})
            assert done.headers["location"] == f"{UI}/breakers"
        assert "None waits" in (await client.get(f"{UI}/breakers")).text


async def test_a_viewer_looks_and_changes_nothing(site: Site) -> None:
    async with logged_in(site, VIEWER) as client:
        for page in PAGES:
            answer = await client.get(UI + page)
            assert answer.status_code == 200
            posts = [a for tag, a in Tags(answer.text).found if tag == "form" and a.get("method") == "post"]
            assert [each["action"] for each in posts] == [f"{UI}/logout"]
        assert (await client.get(f"{UI}/run")).status_code == 403
        csrf = await token(client, "")
        for form, fields in FORMS.items():
            assert (await client.post(UI + form, data={**fields, "csrf": csrf})).status_code == 403
        assert set(site.place.objects()) == set(FILES)


async def test_a_form_that_another_page_sent_does_nothing(site: Site) -> None:
    async with logged_in(site) as client:
        csrf = await token(client)
        for form, fields in FORMS.items():
            for forged in ({}, {"csrf": ""}, {"csrf": "guess"}):
                answer = await client.post(UI + form, data={**fields, **forged})
                assert answer.status_code == 403, form
            for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.test"}):
                answer = await client.post(UI + form, data={**fields, "csrf": csrf}, headers=headers)
                assert answer.status_code == 403, form
        unconfirmed = await client.post(f"{UI}/run", data={"csrf": csrf})
        assert unconfirmed.status_code == 422
        too_large = await client.post(f"{UI}/breakers", data={"csrf": csrf, "reason": "x" * 70_000})
        assert too_large.status_code == 413
        assert set(site.place.objects()) == set(FILES)
        assert (await client.get(f"{BASE}/operations")).json()["total"] == 0


async def test_with_the_applications_own_users_forms_are_guarded_too(site: Site) -> None:
    async def who(x_user: str = Header("")) -> str | None:
        return {"alice": "operator", "bob": "viewer"}.get(x_user)

    alice = {"x-user": "alice"}
    async with client_of(site.app(authenticate=who), headers=alice) as client:
        assert (await client.get(UI, headers={"x-user": ""})).status_code == 401
        assert (await client.get(f"{UI}/login")).status_code == 404
        assert (await client.post(f"{UI}/plan")).status_code == 403
        csrf = await token(client)
        assert client.cookies["s3gc_csrf"] == csrf
        assert (await client.post(f"{UI}/plan", data={"csrf": "guess"})).status_code == 403
        answer = await client.post(f"{UI}/plan", data={"csrf": csrf})
        assert answer.status_code == 303


HOSTILE = [
    "<script>alert(1)<",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "{{ 7*7 }}{% raw %}",
    "new\nline",
    "\u202egnp.exe",
    "a&b=c#d%2e",
]


@pytest.mark.parametrize("key", HOSTILE)
async def test_hostile_keys_are_shown_as_text_and_linked_as_they_are(site: Site, key: str) -> None:
    site.place.put(f"x/{key}".replace("/>", ">"), b"an orphan")
    wanted = f"x/{key}".replace("/>", ">")
    async with logged_in(site) as client:
        operation_id = await run(client)
        pages = [f"/operations/{operation_id}", "/plan"]
        texts = [(await client.get(UI + page)).text for page in pages]
        texts.append((await client.get(f"{UI}/explain", params={"s3_key": wanted})).text)
        restore = {"csrf": await token(client), "what": "operation", "value": operation_id}
        texts.append((await client.post(f"{UI}/restore", data=restore)).text)
        for text in texts:
            tags = Tags(text).found
            assert [a.get("src") for tag, a in tags if tag == "script"] == [f"{UI}/static/app.js"]
            assert not any(name.startswith("on") or name == "style" for _, a in tags for name in a)
            assert [a["src"] for tag, a in tags if tag == "img"] == [f"{UI}/static/icon.svg"]
            assert "\u202e" not in text.replace(key, "", 1) or "value=" in text
            assert "49" not in re.findall(r'class="key"[^>]*>([^<]*)', text)
        links = [
            httpx.URL(str(a["href"])).params.get("s3_key")
            for tag, a in Tags(texts[0]).found
            if tag == "a" and "/explain?" in str(a.get("href"))
        ]
        if wanted not in site.place.objects():  # a folder can't hold every key as an object
            assert wanted in links
            assert set(links) == ORPHANS | {wanted}


async def test_pages_have_no_inline_script_or_style_and_the_policy_forbids_them(site: Site) -> None:
    async with logged_in(site) as client:
        await run(client)
        await run(client)
        for page in [*PAGES, "/run", "/login"]:
            answer = await client.get(UI + page, follow_redirects=True)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            for tag, attributes in Tags(answer.text).found:
                assert "style" not in attributes
                assert tag != "style"
                assert tag != "script" or attributes.get("src")
            assert "://" not in re.sub(r"(file|sqlite)://", "", answer.text.replace("http://www.w3.org", ""))
        style = await client.get(f"{UI}/static/style.css")
        assert "url(" not in style.text
        assert style.headers["cache-control"] == "max-age=3600"
        for name in ("..%2f_pages.py", "nope", "app.js%00"):
            assert (await client.get(f"{UI}/static/{name}")).status_code == 404


async def test_every_page_has_one_heading_labels_and_a_language(site: Site) -> None:
    async with logged_in(site) as client:
        operation_id = await run(client)
        for page in [*PAGES, "/run", f"/operations/{operation_id}"]:
            text = (await client.get(UI + page)).text
            tags = Tags(text).found
            assert sum(tag == "h1" for tag, _ in tags) == 1, page
            assert ("html", {"lang": "en"}) in tags
            inputs = [a for tag, a in tags if tag in ("input", "select") and a.get("type") != "hidden"]
            assert text.count("<label") == len(inputs), page
            assert all(a.get("scope") == "col" for tag, a in tags if tag == "th"), page


async def test_links_stay_where_the_application_is_mounted(site: Site) -> None:
    outer = FastAPI(lifespan=s3gc_lifespan, routes=[Mount("/inner", site.app())])
    async with client_of(outer, headers=AS_OPERATOR) as client:
        page = (await client.get(f"/inner{UI}")).text
        links = [
            str(a.get("href") or a.get("action") or a.get("src"))
            for _, a in Tags(page).found
            if {"href", "action", "src"} & set(a)
        ]
        assert all(link.startswith((f"/inner{BASE}/", "#")) for link in links), links


async def test_a_vault_that_is_not_open_has_a_page_that_says_so(site: Site) -> None:
    (site.folder / "vault").write_text("a file where the folder should be")
    async with logged_in(site) as client:
        page = await client.get(UI)
        assert page.status_code == 200
        assert "Not open" in page.text
        for other in ("/plan", "/operations", "/vault", "/breakers"):
            assert (await client.get(UI + other)).status_code == 503


@pytest.mark.parametrize("length", ["65537", "9" * 5000, "\u00b2", "-1", "1e3", ""])
async def test_a_form_that_is_too_large_or_does_not_say_is_refused(length: str) -> None:
    headers = [(b"content-length", length.encode("latin-1"))]
    with pytest.raises(Refusal) as refused:
        await read_form(Request({"type": "http", "method": "POST", "path": "/", "headers": headers}))
    assert refused.value.status == 413
