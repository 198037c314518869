"""Endpoints that look after what is there: rows that name nothing, backups that are read again or tried."""

from __future__ import annotations

from typing import Annotated, Any

import anyio
from fastapi import Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from s3gc_fastapi._admin import Admin
from s3gc_fastapi._auth import caller
from s3gc_fastapi._errors import raised
from s3gc_fastapi._restoring import PATIENCE
from s3gc_fastapi._running import Running

ShareOf = Annotated[
    int | None,
    Query(
        ge=1, le=1000, description="Only the next one of so many shares; none: all backups.", examples=[30]
    ),
]
Objects = Annotated[int, Query(ge=1, le=100, description="How many backups to try.")]


class Upkeep:
    """Checks of one bucket and its vault."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    async def missing(self, request: Request) -> Response:
        """Find rows that name objects which don't exist. Lists the bucket and reads all rows."""
        return await self._answer(await self._admin.missing(caller(request).name))

    async def verify(self, request: Request, share_of: ShareOf = None) -> Response:
        """Read and decode backups, all or the next share of them. The journal notes what was found.

        It runs beside cycles and restores.
        """
        return await self._answer(await self._admin.verify(caller(request).name, share_of))

    async def drill(self, request: Request, objects: Objects = 10) -> Response:
        """Restore some backups, chosen by chance, below `.s3gc/drill/`, compare them, and remove them again.

        It runs beside cycles and restores. The journal notes what was found.
        """
        return await self._answer(await self._admin.drill(caller(request).name, objects))

    async def _answer(self, running: Running) -> Response:
        with anyio.move_on_after(PATIENCE):
            await running.finished.wait()
        document: dict[str, Any] = {
            "operation_id": running.operation_id,
            "state": running.state,
            "result": running.result,
            "message": running.message,
        }
        if not running.finished.is_set():
            document["message"] = "it takes longer, and goes on; its operation will have the result"
            return JSONResponse(document, status_code=202)
        if running.error is not None:
            raised(running.error, self._admin.config)
        return JSONResponse(document)
