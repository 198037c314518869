"""Routes whose every answer, errors too, has one form and the security headers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from s3gc_fastapi._admin import Admin
from s3gc_fastapi._errors import Refusal, refusal_of

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def secured(response: Response) -> Response:
    """With the headers that every answer has; none of them is kept by anybody unless it says so."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("cache-control", "no-store")
    return response


def as_json(_: Request, refusal: Refusal) -> Response:
    """An error of the API."""
    return JSONResponse(refusal.document, status_code=refusal.status, headers=refusal.headers)


def route_of(admin: Admin, show: Callable[[Request, Refusal], Response] = as_json) -> type[APIRoute]:
    """A class of routes whose errors are shown by ``show``."""

    class AdminRoute(APIRoute):
        def get_route_handler(self) -> Handler:
            handler = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                try:
                    return secured(await handler(request))
                except Exception as error:
                    refusal = refusal_of(error, admin.config)
                    if refusal is None:
                        raise  # not ours: the host application has its own way with it
                    return secured(show(request, refusal))

            return guarded

    return AdminRoute
