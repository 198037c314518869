"""The admin for FastAPI: the names of ``s3gc_fastapi``, or a word on what to install."""

try:
    from s3gc_fastapi import (
        AdminKey,
        Role,
        create_router,
        s3gc_lifespan,
        setup_s3gc_from_env,
        setup_s3gc_plugin,
    )
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] not in ("s3gc_fastapi", "fastapi", "starlette"):
        raise
    raise ImportError(
        "the admin isn't installed: pip install s3gc-fastapi, or the extra 'fastapi' of s3-reference-manager"
    ) from error

__all__ = [
    "AdminKey",
    "Role",
    "create_router",
    "s3gc_lifespan",
    "setup_s3gc_from_env",
    "setup_s3gc_plugin",
]
