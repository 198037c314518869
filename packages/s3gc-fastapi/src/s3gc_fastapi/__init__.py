"""The admin of s3gc for FastAPI: an API, a dashboard, metrics and a schedule. All of it asks who you are."""

from s3gc_fastapi._keys import AdminKey, Caller, Role
from s3gc_fastapi._setup import create_router, s3gc_lifespan, setup_s3gc_from_env, setup_s3gc_plugin

__all__ = [
    "AdminKey",
    "Caller",
    "Role",
    "create_router",
    "s3gc_lifespan",
    "setup_s3gc_from_env",
    "setup_s3gc_plugin",
]
