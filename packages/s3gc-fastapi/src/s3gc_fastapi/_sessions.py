"""Dashboard sessions: a signed cookie that says whose key opened it, and a value that forms send back."""

from __future__ import annotations

import hmac
import secrets

from attrs import frozen
from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import Response

from s3gc_fastapi._keys import AdminKey, Keyring

COOKIE = "s3gc_session"
CSRF_COOKIE = "s3gc_csrf"
CSRF_FIELD = "csrf"
CSRF_HEADER = "x-csrf-token"
HOURS = 8
"""How long a session lasts."""


@frozen
class Session:
    """Whose key opened it, and the value that its forms carry."""

    key: AdminKey
    csrf: str


class Sessions:
    """Makes and reads session cookies. Nothing is kept: any worker can read what another one made."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._signer = URLSafeTimedSerializer(keyring.signing_secret(), salt="s3gc.dashboard")

    def open(self, response: Response, key: AdminKey, *, path: str, secure: bool) -> None:
        """Begin a session for a caller who has shown a key."""
        value = self._signer.dumps([key.name, secrets.token_urlsafe(24)])
        set_cookie(response, COOKIE, value, path=path, secure=secure, seconds=HOURS * 3600)

    def read(self, request: Request) -> Session | None:
        """The caller's session: signed by us, not too old, of a key that still exists."""
        value = request.cookies.get(COOKIE)
        if not value:
            return None
        try:
            name, csrf = self._signer.loads(value, max_age=HOURS * 3600)
        except (BadData, ValueError, TypeError):
            return None
        key = self._keyring.named(name)
        return None if key is None else Session(key, csrf)


def set_cookie(response: Response, name: str, value: str, *, path: str, secure: bool, seconds: int) -> None:
    """A cookie that scripts can't read and that other sites can't send."""
    response.set_cookie(
        name, value, max_age=seconds, path=path, secure=secure, httponly=True, samesite="strict"
    )


def from_elsewhere(request: Request) -> bool:
    """Whether a browser says that another site sent this. Programs say neither, and are no browsers."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is not None and origin.partition("://")[2] != request.headers.get("host", "")


def same(one: str | None, other: str | None) -> bool:
    """Both are there and equal; takes the same time wherever they differ."""
    return bool(one) and bool(other) and hmac.compare_digest(str(one).encode(), str(other).encode())
