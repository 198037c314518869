"""The pages. Each is made from what the API would answer, and forms go through the same calls."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from re import fullmatch
from typing import Any

from fastapi import APIRouter, Depends
from fastapi.security import HTTPAuthorizationCredentials
from markupsafe import Markup
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from s3gc import Mode, __version__
from s3gc_fastapi import _values as values
from s3gc_fastapi._admin import Admin
from s3gc_fastapi._api import Api
from s3gc_fastapi._asked import After, Id, key_of
from s3gc_fastapi._auth import Door, caller, csrf_value
from s3gc_fastapi._errors import Refusal
from s3gc_fastapi._history import document as document_of
from s3gc_fastapi._keys import Role
from s3gc_fastapi._models import ULID
from s3gc_fastapi._routes import route_of
from s3gc_fastapi._sessions import COOKIE, CSRF_COOKIE, CSRF_FIELD, HOURS, from_elsewhere, same, set_cookie
from s3gc_fastapi.ui._forms import chosen, field, number, read_form
from s3gc_fastapi.ui._render import chart, environment

ROWS = 50
CHART_RUNS = 60
PAGES = (
    ("", "Overview"),
    ("/plan", "Plan"),
    ("/operations", "Operations"),
    ("/explain", "Explain"),
    ("/restore", "Restore"),
    ("/missing", "Missing"),
    ("/breakers", "Breakers"),
    ("/vault", "Vault"),
)
MODES: Mapping[Mode, str] = {
    Mode.DRY_RUN: "A cycle looks and writes a plan. It deletes nothing.",
    Mode.AUDIT_ONLY: "A cycle looks and writes into the journal what it would delete. It deletes nothing.",
    Mode.EXECUTE: "A cycle backs up and deletes what nothing refers to.",
}
STATIC = {"style.css": "text/css", "app.js": "text/javascript", "icon.svg": "image/svg+xml"}
TITLES = {
    401: "Who are you?",
    403: "Not allowed",
    404: "There is no such thing",
    409: "Not now",
    422: "That can't be meant",
    429: "Too many attempts",
    503: "Not to be had now",
}


class Pages:
    """The dashboard of one bucket's admin."""

    def __init__(self, admin: Admin, door: Door, api: Api) -> None:
        self._admin = admin
        self._door = door
        self._api = api
        self._name = f"s3gc-ui-{secrets.token_hex(8)}"
        self._templates = environment()

    def router(self) -> APIRouter:
        """Its routes, below ``/ui``."""
        router = APIRouter(
            prefix="/ui", route_class=route_of(self._admin, self._error), include_in_schema=False
        )
        look = [Depends(self._door.needs(Role.VIEWER))]
        act = [Depends(self._door.needs(Role.OPERATOR, form=True))]

        def get(path: str, endpoint: Any, **options: Any) -> None:
            router.add_api_route(
                path, endpoint, methods=["GET"], response_class=Response, response_model=None, **options
            )

        def post(path: str, endpoint: Any, **options: Any) -> None:
            router.add_api_route(
                path, endpoint, methods=["POST"], response_class=Response, response_model=None, **options
            )

        get("", self.overview, name=self._name, dependencies=look)
        get("/plan", self.plan, dependencies=look)
        get("/operations", self.operations, dependencies=look)
        get("/operations/{op_id}", self.operation, dependencies=look)
        get("/explain", self.explain, dependencies=look)
        get("/restore", self.restore_form, dependencies=look)
        get("/breakers", self.breakers, dependencies=look)
        get("/vault", self.vault, dependencies=look)
        get("/missing", self.missing, dependencies=look)
        get("/report", self.report, dependencies=look)
        get("/run", self.run_form, dependencies=[Depends(self._door.needs(Role.OPERATOR))])
        post("/plan", self.make_plan, dependencies=act)
        post("/run", self.run, dependencies=act)
        post("/restore", self.restore, dependencies=act)
        post("/breakers", self.acknowledge, dependencies=act)
        post("/missing", self.look_for_missing, dependencies=act)
        post("/vault/verify", self.verify, dependencies=act)
        post("/vault/drill", self.drill, dependencies=act)
        get("/static/{name}", self.static)
        if self._door.own_keys:
            get("/login", self.login_form)
            post("/login", self.login)
            leave = [Depends(self._door.needs(Role.VIEWER, form=True))]
            post("/logout", self.logout, dependencies=leave)
        return router

    # ------------------------------------------------------------------ what they share

    def _base(self, request: Request) -> str:
        """The path of the admin, wherever it is mounted."""
        return request.url_for(self._name).path.removesuffix("/ui")

    def _show(self, request: Request, template: str, *, status: int = 200, **context: Any) -> Response:
        who = getattr(request.state, "s3gc_caller", None)
        base = self._base(request)
        csrf, fresh = "", False
        if who is not None:
            known = csrf_value(request)
            csrf, fresh = known or secrets.token_urlsafe(24), not known
        shared = {
            "base": base,
            "pages": PAGES,
            "here": request.url.path.removeprefix(f"{base}/ui"),
            "caller": who,
            "operator": who is not None and who.role is Role.OPERATOR,
            "csrf_field": Markup('<input type="hidden" name="{}" value="{}">').format(CSRF_FIELD, csrf),
            "mode": self._admin.config.mode.value,
            "mode_text": MODES[self._admin.config.mode],
            "bucket": self._admin.config.redacted()["bucket"] if who is not None else "",
            "version": __version__,
            "running": self._admin.current.document() if self._admin.current and who else None,
        }
        text = self._templates.get_template(template).render({**shared, **context})
        response = HTMLResponse(text, status_code=status)
        if fresh:
            set_cookie(
                response, CSRF_COOKIE, csrf, path=base or "/", secure=_secure(request), seconds=HOURS * 3600
            )
        return response

    def _error(self, request: Request, refusal: Refusal) -> Response:
        if refusal.status == 401 and request.method == "GET" and self._door.own_keys:
            return RedirectResponse(f"{self._base(request)}/ui/login", status_code=303)
        response = self._show(
            request,
            "error.html",
            status=refusal.status,
            title=TITLES.get(refusal.status, f"Error {refusal.status}"),
            message=values.clean(refusal.message),
            operation_id=refusal.operation_id,
            details=values.clean(refusal.details),
        )
        response.headers.update(refusal.headers)
        return response

    async def _form(self, request: Request) -> FormData:
        """A form's fields, if it was this caller's own page that sent it.

        Raises:
            Refusal: it is too large, or some other page sent it.
        """
        form = await read_form(request)
        if not same(field(form, CSRF_FIELD), csrf_value(request)):
            self._admin.log.warning("admin_csrf_refused", by=caller(request).name, path=request.url.path)
            raise Refusal(403, "csrf", "this form is out of date, or another page sent it: load it again")
        return form

    def _go(self, request: Request, path: str) -> Response:
        return RedirectResponse(f"{self._base(request)}/ui{path}", status_code=303)

    # ------------------------------------------------------------------ log in, log out

    async def login_form(self, request: Request) -> Response:
        """Asks for a key."""
        if self._door.sessions.read(request) is not None:
            return self._go(request, "")
        return self._show(request, "login.html", problem=None, hours=HOURS)

    async def login(self, request: Request) -> Response:
        """Opens a session for a right key."""
        if from_elsewhere(request):
            raise Refusal(403, "cross_site", "this came from another site")
        try:
            shown = HTTPAuthorizationCredentials(
                scheme="Bearer", credentials=field(await read_form(request), "key").strip()
            )
            found = self._door.identify(request, shown)
        except Refusal as refused:
            if refused.status not in (401, 403, 429):
                raise
            text = "This key opens nothing here." if refused.status == 401 else refused.message
            response = self._show(request, "login.html", status=refused.status, problem=text, hours=HOURS)
            response.headers.update(refused.headers)
            return response
        assert found is not None  # a key was shown: identify finds whose it is, or refuses
        key = self._admin.keyring.named(found.name)
        assert key is not None
        response = self._go(request, "")
        self._door.sessions.open(response, key, path=self._base(request) or "/", secure=_secure(request))
        self._admin.log.info("admin_session_opened", by=key.name)
        return response

    async def logout(self, request: Request) -> Response:
        """Ends the session on this browser."""
        await self._form(request)
        response = self._go(request, "/login")
        response.delete_cookie(COOKIE, path=self._base(request) or "/")
        return response

    # ------------------------------------------------------------------ pages

    async def overview(self, request: Request) -> Response:
        """The state at a glance."""
        admin = self._admin
        health = await self._api.health_document()
        status = await self._api.status(request)
        numbers, runs = None, []
        if health["open"]:
            numbers = values.clean(await admin.metrics())
            runs = [
                document_of(run)
                for run in admin.history.page(before=None, offset=0, limit=CHART_RUNS * 5)
                if run.kind == "collect" and "bytes_deleted" in run.counts
            ][:CHART_RUNS][::-1]
        return self._show(
            request,
            "overview.html",
            health=health,
            verdict=_verdict(health),
            numbers=numbers,
            reclaimed=admin.history.reclaimed,
            last=status["last_run"],
            schedule=status["schedule"],
            runs=runs,
            chart=chart(runs),
        )

    async def plan(self, request: Request, after: After = 0) -> Response:
        """The newest plan."""
        made = await self._api.latest_plan()
        document = None
        if made is not None:
            entries = await self._admin.plans.page(after=after, limit=ROWS)
            document = values.plan(made, entries, after)
        return self._show(request, "plan.html", plan=document, after=after)

    async def operations(self, request: Request, cursor: After = 0) -> Response:
        """All operations, newest first."""
        found = await self._api.operations(limit=ROWS, cursor=cursor or None, offset=0)
        return self._show(request, "operations.html", cursor=cursor, **found)

    async def operation(self, request: Request, op_id: Id, after: After = 0) -> Response:
        """One operation and its objects."""
        found = await self._api.operation(op_id, after=after, limit=ROWS)
        live = found["running"]
        return self._show(
            request,
            "operation.html",
            op_id=op_id,
            operation=found["operation"],
            live=live,
            running=live if live and live["state"] == "running" else None,
            objects=found["objects"],
            next_after=found["next_after"],
            after=after,
        )

    async def report(self, request: Request, operation_id: str = "") -> Response:
        """Where lies what a plan would delete, or an operation deleted."""
        if operation_id and not fullmatch(ULID, operation_id):
            raise Refusal(422, "invalid", "this is no operation's id")
        nothing = not operation_id and await self._api.latest_plan() is None
        report = None if nothing else await self._api.report(operation_id or None)
        return self._show(request, "report.html", report=report)

    async def explain(self, request: Request, s3_key: str = "") -> Response:
        """Why a key is still there, or why it went."""
        found = None
        if s3_key:
            found = values.explanation(await self._admin.gc.explain(key_of(s3_key)))
        return self._show(request, "explain.html", s3_key=s3_key, found=found)

    async def vault(self, request: Request) -> Response:
        """The vault in numbers."""
        stats = await self._api.vault_stats()
        numbers = values.clean(await self._admin.metrics())
        return self._show(request, "vault.html", stats=stats, numbers=numbers)

    async def missing(self, request: Request) -> Response:
        """What was found when somebody looked for rows that name nothing."""
        found = self._admin.newest("missing")
        return self._show(request, "missing.html", found=values.clean(found.document()) if found else None)

    async def breakers(self, request: Request) -> Response:
        """Breakers that wait."""
        return self._show(request, "breakers.html", **await self._api.breakers())

    async def run_form(self, request: Request) -> Response:
        """Asks once more before a cycle begins."""
        return self._show(request, "run.html")

    async def restore_form(self, request: Request, what: str = "key", value: str = "") -> Response:
        """Asks what to restore."""
        return self._restore_page(request, what=what, value=value)

    def _restore_page(
        self,
        request: Request,
        *,
        what: str,
        value: str,
        overwrite: bool = False,
        into: str | None = None,
        done: Mapping[str, Any] | None = None,
    ) -> Response:
        return self._show(
            request,
            "restore.html",
            what=what,
            value=value,
            overwrite=overwrite,
            into=into,
            targets=list(self._api.restoring.targets),
            done=done,
        )

    async def static(self, name: str) -> Response:
        """One of the few files that pages need."""
        if name not in STATIC:
            raise Refusal(404, "no_file", "there is no such file")
        return Response(_static(name), media_type=STATIC[name], headers={"cache-control": "max-age=3600"})

    # ------------------------------------------------------------------ forms

    async def make_plan(self, request: Request) -> Response:
        """Begins a new plan."""
        await self._form(request)
        running = await self._admin.plan(caller(request).name)
        return self._go(request, f"/operations/{running.operation_id}")

    async def run(self, request: Request) -> Response:
        """Begins a cycle."""
        form = await self._form(request)
        if field(form, "confirmed") != "yes":
            raise Refusal(422, "not_confirmed", "tick the box to run a cycle")
        running = await self._admin.run(caller(request).name)
        return self._go(request, f"/operations/{running.operation_id}")

    async def restore(self, request: Request) -> Response:
        """Shows what would be restored, and with ``confirmed`` restores it."""
        form = await self._form(request)
        what, value = field(form, "what"), field(form, "value")
        overwrite = field(form, "overwrite") == "yes"
        dry_run = field(form, "confirmed") != "yes"
        filters = chosen(what, value)
        into = field(form, "into") or None
        done, _ = await self._api.restoring.do(
            caller(request).name, **filters, dry_run=dry_run, overwrite=overwrite, into=into
        )
        return self._restore_page(request, what=what, value=value, overwrite=overwrite, into=into, done=done)

    async def look_for_missing(self, request: Request) -> Response:
        """Begins to look for rows that name nothing."""
        await self._form(request)
        running = await self._admin.missing(caller(request).name)
        return self._go(request, f"/operations/{running.operation_id}")

    async def verify(self, request: Request) -> Response:
        """Begins to read backups again."""
        form = await self._form(request)
        share_of = number(form, "share_of", 1, 1000) if field(form, "share_of") else None
        running = await self._admin.verify(caller(request).name, share_of)
        return self._go(request, f"/operations/{running.operation_id}")

    async def drill(self, request: Request) -> Response:
        """Begins to restore backups by way of trial."""
        form = await self._form(request)
        running = await self._admin.drill(caller(request).name, number(form, "objects", 1, 100))
        return self._go(request, f"/operations/{running.operation_id}")

    async def acknowledge(self, request: Request) -> Response:
        """Lets a breaker go."""
        form = await self._form(request)
        code, subject, reason = (field(form, name) for name in ("code", "subject", "reason"))
        if not code or not reason.strip() or len(reason) > 2000:
            raise Refusal(422, "invalid", "give a reason of at most 2,000 characters")
        await self._api.do_acknowledge(caller(request).name, code, reason, subject)
        return self._go(request, "/breakers")


def _verdict(health: Mapping[str, Any]) -> dict[str, str]:
    if not health["open"]:
        return {"kind": "bad", "title": "Not open", "text": health["problem"]}
    if health["waiting"]:
        codes = ", ".join(dict.fromkeys(each["code"] for each in health["waiting"]))
        return {
            "kind": "held",
            "title": "Held",
            "text": f"Nothing is deleted until a person has looked: {codes}.",
        }
    if health["ok"]:
        return {"kind": "good", "title": "Healthy", "text": "Vault, store and sources answer."}
    return {"kind": "bad", "title": "Not healthy", "text": "Something doesn't answer; a cycle would be held."}


def _secure(request: Request) -> bool:
    return request.url.scheme == "https"


@cache
def _static(name: str) -> bytes:
    return (files("s3gc_fastapi.ui") / "static" / name).read_bytes()
