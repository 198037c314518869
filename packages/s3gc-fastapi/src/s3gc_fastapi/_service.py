"""The admin by itself: an application with nothing else in it, its logs as JSON lines."""

from __future__ import annotations

import os

import structlog
from attrs import evolve
from fastapi import FastAPI
from starlette.responses import PlainTextResponse

from s3gc import Config, create_config_from_env, load_config
from s3gc_fastapi._routes import secured
from s3gc_fastapi._setup import setup_s3gc_plugin

CONFIG_FILE = "S3GC_CONFIG"
ADMIN_KEY = "S3GC_ADMIN_API_KEY"


def config_of_service() -> Config:
    """From the file that ``S3GC_CONFIG`` names, or else from the environment.

    A file that names no key of the admin's leaves that to the environment: a secret has no place in it.

    Raises:
        ConfigError: something is missing or malformed.
    """
    named = os.environ.get(CONFIG_FILE, "").strip()
    if not named:
        return create_config_from_env()
    config = load_config(named)
    key = os.environ.get(ADMIN_KEY, "").strip()
    if key and config.admin_api_key is None and not config.admin_keys:
        return evolve(config, admin_api_key=key)
    return config


def create_service(config: Config) -> FastAPI:
    """The application. ``/healthz`` says that it runs, to anybody, and nothing else."""
    app = FastAPI(title="s3gc", docs_url=None, redoc_url=None)

    @app.get("/healthz", include_in_schema=False)
    async def alive() -> PlainTextResponse:
        response = PlainTextResponse("ok")
        secured(response)
        return response

    setup_s3gc_plugin(app, config, follow=config.cdc_backend is not None)
    return app


def log_as_json() -> None:
    """Every log line of s3gc is one line of JSON on stdout."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=False,
    )
