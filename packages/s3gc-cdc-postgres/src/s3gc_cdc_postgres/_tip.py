"""Where the server's log stands now, asked again and again over one connection."""

from __future__ import annotations

import secrets
from typing import Any

from s3gc_cdc_postgres._assemble import PREFIX
from s3gc_cdc_postgres._follow import Follower
from s3gc_cdc_postgres._server import Target, primary
from s3gc_cdc_postgres.position import Place, Told, parse_lsn

_NOW = "SELECT pg_current_wal_insert_lsn()::text"
_TELL = "SELECT pg_logical_emit_message(true, $1::text, $2::text)::text"
_SECONDS = 30.0
"""How long an answer may take."""


class Tip:
    """One connection, opened when it is needed. All methods run on the drivers' loop."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection: Any = None

    async def look(self, follower: Follower, place: Place) -> tuple[int, Told] | None:
        """A message written now: its position and its proof. None if nothing was written since ``place``."""
        try:
            return await self._look(follower, place)
        except BaseException:
            self._drop()
            raise

    async def _look(self, follower: Follower, place: Place) -> tuple[int, Told] | None:
        if self._connection is None or self._connection.is_closed():
            # Sent is what is on the disk. Nobody needs to wait for standbys: a failover is noticed anyway.
            self._connection = await self._target.connect(
                synchronous_commit="local", idle_session_timeout="0"
            )
            await primary(self._connection)
        ask = self._connection.fetchval
        if follower.at_end(place, parse_lsn(await ask(_NOW, timeout=_SECONDS))):
            return None
        id = secrets.token_hex(16)
        lsn = await ask(_TELL, PREFIX, id, timeout=_SECONDS)
        return parse_lsn(lsn), Told(id, parse_lsn(await ask(_NOW, timeout=_SECONDS)), looked=False)

    async def close(self) -> None:
        self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
