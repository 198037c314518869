"""The door: who asks, and may they? Each answer that isn't yes is logged, and slowed when it repeats."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import Request

from s3gc.errors import ConfigError
from s3gc_fastapi._admin import Admin
from s3gc_fastapi._errors import Refusal
from s3gc_fastapi._keys import Caller, Role
from s3gc_fastapi._sessions import CSRF_COOKIE, CSRF_HEADER, Sessions, from_elsewhere, same

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
CLOSED = (
    "the admin is closed: no key is configured. Set S3GC_ADMIN_API_KEY (or admin_keys), or give the admin "
    "your application's own dependency with authenticate=…"
)

_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="S3GCAdminKey",
    description="`Authorization: Bearer` with the key that S3GC_ADMIN_API_KEY or admin_keys holds.",
)
Check = Callable[..., Awaitable[None]]


class Door:
    """Makes the dependencies that guard endpoints.

    Args:
        authenticate: the host application's own dependency instead of keys. It returns ``viewer`` or
            ``operator``, or a :class:`Caller`; it raises, or returns None, for anybody else.
    """

    def __init__(self, admin: Admin, authenticate: Callable[..., Any] | None = None) -> None:
        self._admin = admin
        self._authenticate = authenticate
        self.sessions = Sessions(admin.keyring)

    @property
    def closed(self) -> bool:
        """Nobody can come in."""
        return self._authenticate is None and not self._admin.keyring

    @property
    def own_keys(self) -> bool:
        """Whether callers show keys of ours, so that a log-in page makes sense."""
        return self._authenticate is None

    def needs(self, role: Role, *, form: bool = False) -> Check:
        """A dependency that lets callers of this role in, and notes who it was.

        Args:
            form: it is a page's form, whose handler compares the CSRF value in one of its fields.
        """
        if self._authenticate is not None:
            given = Depends(self._authenticate)

            async def by_the_host(request: Request, found: Any = given) -> None:
                self._admit(request, _caller_of(found), role, form)

            return by_the_host

        async def by_key(
            request: Request,
            credentials: HTTPAuthorizationCredentials | None = Depends(_BEARER),  # noqa: B008 - how it is done
        ) -> None:
            self._admit(request, self.identify(request, credentials), role, form)

        return by_key

    def identify(self, request: Request, credentials: HTTPAuthorizationCredentials | None) -> Caller | None:
        """Who shows a key or has a session; None: neither.

        Raises:
            Refusal: the admin is closed, the key is wrong, or there were too many wrong ones.
        """
        if self.closed:
            raise Refusal(403, "admin_closed", CLOSED)
        if credentials is not None:
            return self.by_secret(request, credentials.credentials)
        session = self.sessions.read(request)
        return None if session is None else Caller(session.key.name, session.key.role, session.csrf)

    def by_secret(self, request: Request, secret: str) -> Caller:
        """The caller who shows this key.

        Raises:
            Refusal: it is no key of ours, or this address has shown too many that weren't.
        """
        address = request.client.host if request.client else "unknown"
        wait = self._admin.throttle.wait(address)
        if wait > 0:
            raise Refusal(
                429,
                "too_many_attempts",
                f"too many wrong keys came from this address: wait {wait:.0f} s",
                headers={"retry-after": str(int(wait) + 1)},
            )
        key = self._admin.keyring.find(secret)
        if key is None:
            self._admin.throttle.failed(address)
            self._admin.log.warning("admin_key_refused", address=address, path=request.url.path)
            raise _unauthorized("this key opens nothing here")
        return Caller(key.name, key.role)

    def _admit(self, request: Request, caller: Caller | None, role: Role, form: bool) -> None:
        if caller is None:
            raise _unauthorized("send the key: Authorization: Bearer KEY")
        if request.method not in SAFE:
            self._same_site(request, caller, form)
        if not caller.role.covers(role):
            self._admin.log.warning("admin_role_refused", by=caller.name, path=request.url.path)
            raise Refusal(403, "forbidden", f"{caller.name} is a {caller.role}, and this needs an {role}")
        request.state.s3gc_caller = caller

    def _same_site(self, request: Request, caller: Caller, form: bool) -> None:
        """A browser sends cookies along with what other sites make it send: those don't count."""
        if from_elsewhere(request):
            self._admin.log.warning("admin_cross_site_refused", by=caller.name, path=request.url.path)
            raise Refusal(403, "cross_site", "this came from another site")
        if form or caller.session is None:
            return
        if not same(request.headers.get(CSRF_HEADER), caller.session):
            raise Refusal(403, "csrf", f"a session must send {CSRF_HEADER}; programs send a key instead")


def caller(request: Request) -> Caller:
    """Who was let in."""
    found: Caller = request.state.s3gc_caller
    return found


def csrf_value(request: Request) -> str | None:
    """What this caller's forms must send back: of its session, or else of a cookie of its own."""
    return caller(request).session or request.cookies.get(CSRF_COOKIE)


def _caller_of(found: Any) -> Caller | None:
    if found is None or isinstance(found, Caller):
        return found
    try:
        return Caller("the application's user", Role(found))
    except ValueError:
        raise ConfigError(
            f"authenticate= must return 'viewer', 'operator', a Caller or None, not a {type(found).__name__}"
        ) from None


def _unauthorized(message: str) -> Refusal:
    return Refusal(401, "unauthorized", message, headers={"www-authenticate": 'Bearer realm="s3gc"'})
