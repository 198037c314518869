"""The admin by itself: an application with nothing else in it, its logs as JSON lines."""

from __future__ import annotations

import os

import structlog
from fastapi import FastAPI
from starlette.responses import PlainTextResponse

from s3gc import Config, create_config_from_env, load_config
from s3gc_fastapi._routes import secured
from s3gc_fastapi._setup import setup_s3gc_plugin

CONFIG_FILE = "S3GC_CONFIG"


def config_of_service() -> Config:
    """From the file that ``S3GC_CONFIG`` names, or else from the environment.

    Raises:
        ConfigError: something is missing or malformed.
    """
    named = os.environ.get(CONFIG_FILE, "").strip()
    return load_config(named) if named else create_config_from_env()


def create_service(config: Config) -> FastAPI:
    """The application. ``/healthz`` says that it runs, to anybody, and nothing else."""
    app = FastAPI(title="s3gc", docs_url=None, redoc_url=None)

    @app.get("/healthz", include_in_schema=False)
    async def alive() -> PlainTextResponse:
        response = PlainTextResponse("ok")
        secured(response)
        return response

    setup_s3gc_plugin(app, config)
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
