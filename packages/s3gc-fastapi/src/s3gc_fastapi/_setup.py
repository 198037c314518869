"""The ways in: a router, a plugin for an application, the same from the environment, and the lifespan."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount

from s3gc import Collector, Config, create_config_from_env
from s3gc.clock import Clock
from s3gc.errors import ConfigError
from s3gc_fastapi._admin import Admin
from s3gc_fastapi._api import Api
from s3gc_fastapi._auth import CLOSED, Door
from s3gc_fastapi._keys import AdminKey, Keyring, keys_of
from s3gc_fastapi._routes import route_of
from s3gc_fastapi._schedule import Schedule
from s3gc_fastapi.ui._pages import Pages

PREFIX = "/admin/s3gc"
_STATE = "s3gc_admins"

Authenticate = Callable[..., Any]


def create_router(
    collector: Collector,
    *,
    keys: Iterable[AdminKey] = (),
    authenticate: Authenticate | None = None,
    clock: Clock | None = None,
) -> APIRouter:
    """The admin of a collector that you opened, as a router: ``app.include_router(router, prefix=…)``.

    Keep the collector open as long as the application runs. There is no schedule: who opens collectors knows
    when to run them. Operations need the router's lifespan, which ``include_router`` adds to that of the
    application.

    Args:
        keys: besides those of the configuration.
        authenticate: a FastAPI dependency of yours instead of keys; returns ``viewer`` or ``operator``.
    """
    admin = Admin(
        collector.config, keyring=_keyring(collector.config, keys), collector=collector, clock=clock
    )
    return _router(admin, authenticate, "")


def setup_s3gc_plugin(
    app: FastAPI,
    config: Config,
    *,
    prefix: str = PREFIX,
    keys: Iterable[AdminKey] = (),
    authenticate: Authenticate | None = None,
    time_zone: str = "UTC",
    jitter: timedelta = timedelta(),
    follow: bool = False,
    clock: Clock | None = None,
    **opening: Any,
) -> None:
    """Add the admin of one bucket to an application. Its collector is open while the application runs.

    Call it once for each bucket, each with a prefix of its own. A vault that can't be opened, or a database
    that is down, doesn't keep the application from starting: health tells, and it is tried again.

    Args:
        prefix: where the admin is.
        keys: besides those of the configuration.
        authenticate: a FastAPI dependency of yours instead of keys; returns ``viewer`` or ``operator``.
        follow: keep the registry at the changes of the sources that tell them, between cycles. Of several
            processes that do one works, the others stand by.
        time_zone, jitter: of ``config.schedule_cron``. Cycles begin by it in whichever worker is first.
        opening: as of ``Collector.open``: sources, store, vault, gates, plugins.

    Raises:
        ConfigError: the prefix is taken or malformed, or the schedule names no time.
    """
    if not prefix.startswith("/") or prefix.endswith("/") or "{" in prefix:
        raise ConfigError(f"prefix must look like {PREFIX}, got {prefix!r}")
    admins: dict[str, Admin] = getattr(app.state, _STATE, {})
    if prefix in admins:
        raise ConfigError(f"there is an admin at {prefix} already: give each bucket a prefix of its own")
    admin = Admin(
        config,
        keyring=_keyring(config, keys),
        opener=lambda: Collector.open(config, clock=clock, **opening),
        schedule=None if config.schedule_cron is None else Schedule(config.schedule_cron, time_zone, jitter),
        clock=clock,
        follow=follow,
    )
    app.include_router(_router(admin, authenticate, prefix))
    _prepare(app.routes[-1])
    setattr(app.state, _STATE, {**admins, prefix: admin})


def setup_s3gc_from_env(
    app: FastAPI,
    tables: Mapping[str, Iterable[str]] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """As :func:`setup_s3gc_plugin`, configured by environment variables.

    Args:
        tables: table → columns that hold keys or URLs; or else ``S3GC_TABLES``.
        environ: read instead of ``os.environ``.
        overrides: options of the configuration that win over the environment.
        options: as of :func:`setup_s3gc_plugin`.

    Raises:
        ConfigError: a variable is missing or malformed.
    """
    setup_s3gc_plugin(app, create_config_from_env(tables, environ, **(overrides or {})), **options)


@asynccontextmanager
async def s3gc_lifespan(app: Starlette) -> AsyncIterator[None]:
    """Run the admins of an application and of those mounted in it, whose own lifespans nobody runs.

    For ``FastAPI(lifespan=s3gc_lifespan)``, or inside a lifespan of your own. Where the admin is set up on
    the application itself it isn't needed, and does no harm.
    """
    async with AsyncExitStack() as stack:
        for admin in _admins(app):
            await stack.enter_async_context(admin.running())
        yield


def _admins(app: Any) -> Sequence[Admin]:
    found: list[Admin] = list(getattr(getattr(app, "state", None), _STATE, {}).values())
    for route in getattr(app, "routes", ()):
        if isinstance(route, Mount):
            found += _admins(route.app)
    return found


def _prepare(route: BaseRoute) -> None:
    """Newer FastAPI builds included routes at the first request: 100 ms in which nobody else is served.

    Asking whether a path matches builds them now.
    """
    route.matches({"type": "http", "method": "GET", "path": "/", "root_path": "", "headers": []})


def _keyring(config: Config, keys: Iterable[AdminKey]) -> Keyring:
    return Keyring([*keys_of(config), *keys])


def _router(admin: Admin, authenticate: Authenticate | None, prefix: str) -> APIRouter:
    door = Door(admin, authenticate)
    if door.closed:
        admin.log.warning("admin_closed", why=CLOSED)
    if authenticate is None and admin.keyring.short:
        admin.log.warning("admin_key_short", keys=list(admin.keyring.short))

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        async with admin.running():
            yield

    router = APIRouter(prefix=prefix, tags=["s3gc"], route_class=route_of(admin), lifespan=lifespan)
    api = Api(admin, door)
    api.add_to(router)
    router.include_router(Pages(admin, door, api).router())
    return router
