"""Plain connections to the server: the catalogue, the slot, the publication, fences' messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from s3gc.capture import CaptureFinding as Finding
from s3gc.capture import CaptureState
from s3gc.errors import SourceError
from s3gc.resolver import Odd
from s3gc.sources.capture import POSTGRES_TEXT, TrackedTable, refuse, two_indexes
from s3gc_cdc_postgres import catalogue
from s3gc_cdc_postgres._assemble import PREFIX
from s3gc_cdc_postgres._wire import ReplicationConnection
from s3gc_cdc_postgres.catalogue import Catalogue, TableInfo
from s3gc_cdc_postgres.position import Fingerprint, format_lsn, parse_lsn
from s3gc_cdc_postgres.preflight import (
    APPLICATION,
    alter_publication,
    around_a_migration,
    create_publication,
    findings,
)

CONNECT_SECONDS = 30.0
_LOCK_SECONDS = 5
_TEXTS = (25, 1043)  # text, varchar
_FIRST_POLL, _LAST_POLL = 0.01, 0.5
_REPLICA = "this server is a replica (in recovery): changes are followed on the primary only"

_BLOCKERS = """
SELECT string_agg(who, ', ') FROM (
    SELECT 'process ' || pid || coalesce(' of ' || usename, '') AS who FROM pg_stat_activity
    WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
    UNION ALL SELECT 'prepared transaction ' || quote_literal(gid) FROM pg_prepared_xacts) AS them
"""


class Target:
    """One database, and the names of what we keep there."""

    def __init__(
        self, dsn: str, tracked: Sequence[TrackedTable], publication: str, slot: str, odd: Odd
    ) -> None:
        self._odd = odd  # of the resolver
        self._dsn = dsn
        self.tracked = tracked
        self.publication = publication
        self.slot = slot

    async def connect(self, **settings: str) -> Any:
        """As :meth:`connection`, to be closed by the caller."""
        return await asyncpg.connect(
            self._dsn,
            timeout=CONNECT_SECONDS,
            statement_cache_size=0,
            server_settings={
                **POSTGRES_TEXT,
                "application_name": APPLICATION,
                "row_security": "off",
                "statement_timeout": "0",
                "idle_in_transaction_session_timeout": "0",
                "lock_timeout": "0",
                "plan_cache_mode": "force_custom_plan",
                "default_transaction_read_only": "off",
                "default_transaction_isolation": "read committed",
                **settings,
            },
        )

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A connection in autocommit that prints as the stream does."""
        connection = await self.connect()
        try:
            yield connection
        except BaseException:
            connection.terminate()
            raise
        await connection.close(timeout=CONNECT_SECONDS)

    async def stream(self) -> ReplicationConnection:
        """A connection that changes can be streamed over."""
        settings = {**POSTGRES_TEXT, "application_name": APPLICATION, "statement_timeout": "0"}
        return await ReplicationConnection.connect(self._dsn, settings, CONNECT_SECONDS)

    # ------------------------------------------------------------------ what is there

    async def catalogue(self) -> Catalogue:
        async with self.connection() as connection:
            await primary(connection)
            return await catalogue.load(connection, self.tracked, self.publication, self.slot)

    async def expected(self, tables: Sequence[TableInfo]) -> int | None:
        """About how many rows these tables have, by the server's statistics; None if it has none."""
        oids = [oid for table in tables for oid in (table.oid, *(leaf.oid for leaf in table.leaves))]
        async with self.connection() as connection:
            rows = await connection.fetchval(
                "SELECT sum(reltuples)::int8 FROM pg_class"
                " WHERE oid::int8 = ANY ($1::int8[]) AND relkind = 'r' AND reltuples > 0",
                oids,
            )
        return None if rows is None else int(rows)

    async def findings(self) -> list[Finding]:
        return findings(await self.catalogue(), self.publication, self.slot)

    async def state(self, source: str) -> CaptureState:
        """Everything about it, for people."""
        found = await self.catalogue()
        slot, server = found.slot, found.server
        details = {
            "server_version": str(server.version),
            "database": server.database,
            "user": server.user,
            "publication": self.publication,
            "slot": self.slot,
            "wal_level": server.wal_level,
            "max_slot_wal_keep_size": server.max_slot_wal_keep_size,
            "wal_sender_timeout": server.wal_sender_timeout,
            "position": format_lsn(server.lsn),
        }
        if slot is not None:
            details |= {
                "slot_position": format_lsn(slot.confirmed),
                "slot_state": slot.wal_status,
                "slot_followed_by": "nobody" if slot.active_pid is None else f"process {slot.active_pid}",
            }
            if slot.safe is not None:
                details["slot_bytes_left"] = str(slot.safe)
        details |= _indexes(found, self._odd)
        if statements := around_a_migration(found, self.publication):
            details["to alter or drop a listed column"] = statements
        return CaptureState(
            source,
            findings(found, self.publication, self.slot),
            details,
            None if slot is None else slot.lag,
            None if slot is None else slot.held,
        )

    async def prints(self, configuration: str, timeout: float) -> Fingerprint:
        """What must not change, as it is once all changes of it that are under way can be seen.

        Raises:
            SourceError: one is under way for longer than ``timeout`` seconds.
        """
        end, pause = time.monotonic() + timeout, _FIRST_POLL
        async with self.connection() as connection:
            while True:
                before = await catalogue.load(connection, self.tracked, self.publication, self.slot)
                oids = [
                    oid
                    for table in before.tables
                    if not isinstance(table, str)
                    for oid in (table.oid, *(leaf.oid for leaf in table.leaves))
                ]
                if not await catalogue.changing(connection, oids):
                    break
                if time.monotonic() > end:
                    raise SourceError(
                        f"a tracked table or a publication is being changed for longer than {timeout:.0f} "
                        "seconds (ALTER, TRUNCATE, LOCK TABLE): end that transaction"
                    )
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LAST_POLL)
            now = await catalogue.load(connection, self.tracked, self.publication, self.slot)
        return now.prints(configuration)

    async def mark(self, id: str) -> tuple[int, int]:
        """Write a fence's message. Returns its position, and one past its commit.

        All that was committed before, in whatever way, is on disk on return, and so in the stream.
        """
        async with self.connection() as connection:
            await primary(connection)
            async with connection.transaction():
                await connection.execute("SET LOCAL synchronous_commit = on")
                lsn = await connection.fetchval(
                    "SELECT pg_logical_emit_message(true, $1::text, $2::text)::text", PREFIX, id
                )
            bound = await connection.fetchval("SELECT pg_current_wal_insert_lsn()::text")
        return parse_lsn(lsn), parse_lsn(bound)

    # ------------------------------------------------------------------ what we keep there

    async def setup(self, timeout: float) -> list[str]:
        """Make publication and slot what they must be, in this order. Returns what was done.

        Raises:
            SourceError: something else must be mended first, or this user may not; it has the statements.
        """
        done: list[str] = []
        found = await self.catalogue()
        refuse([one for one in findings(found, self.publication, self.slot) if not one.ours])
        wrong = [one for one in findings(found, self.publication, self.slot) if one.ours]
        if any(one.code == "publication" for one in wrong):
            statements = (
                [create_publication(found, self.publication)]
                if found.publication is None
                else alter_publication(found, self.publication)
            )
            async with self.connection() as connection:
                await connection.execute(f"SET lock_timeout = '{_LOCK_SECONDS}s'")
                try:
                    async with connection.transaction():
                        for sql in statements:
                            await connection.execute(sql)
                except asyncpg.InsufficientPrivilegeError as error:
                    raise SourceError(
                        f"this user may not make the publication ({error}); let the owner of the tables run: "
                        + "; ".join(statements)
                    ) from error
            done += statements
        if found.slot is not None and found.slot.wal_status == "lost":
            await self.drop_slot()
            done.append(f"dropped the slot {self.slot}, which had lost its WAL")
        if any(one.code == "slot" for one in wrong):
            await self._create_slot(timeout)
            done.append(f"created the slot {self.slot}")
        refuse(await self.findings())
        return done

    async def _create_slot(self, timeout: float) -> None:
        async with self.connection() as connection:
            await connection.execute(f"SET statement_timeout = {max(1, int(timeout * 1000))}")
            try:
                await connection.execute(
                    "SELECT pg_create_logical_replication_slot($1::text, 'pgoutput')", self.slot
                )
            except asyncpg.QueryCanceledError:
                await connection.execute("SET statement_timeout = 0")
                who = await connection.fetchval(_BLOCKERS)
                raise SourceError(
                    f"the slot {self.slot} couldn't be created within {timeout:.0f} seconds: it waits for "
                    f"transactions that have written and are open: {who or 'none is visible to this user'}"
                ) from None

    async def drop_slot(self) -> bool:
        """Drop the slot, if it is there.

        Raises:
            SourceError: somebody follows it.
        """
        async with self.connection() as connection:
            end = time.monotonic() + _LOCK_SECONDS
            while True:
                try:
                    await connection.execute("SELECT pg_drop_replication_slot($1::text)", self.slot)
                except asyncpg.UndefinedObjectError:
                    return False
                except asyncpg.ObjectInUseError as error:
                    if time.monotonic() > end:
                        raise SourceError(f"{error}: end that process first") from error
                    await asyncio.sleep(_LAST_POLL)
                else:
                    return True

    async def teardown(self) -> list[str]:
        """Drop slot and publication, if they are there. Returns what was done."""
        done = []
        if await self.drop_slot():
            done.append(f"dropped the slot {self.slot}")
        async with self.connection() as connection:
            there = await connection.fetchval(
                "SELECT EXISTS (SELECT 1 FROM pg_publication WHERE pubname = $1::text)", self.publication
            )
            if there:
                sql = f"DROP PUBLICATION {catalogue.quoted(self.publication)}"
                try:
                    await connection.execute(sql)
                except asyncpg.InsufficientPrivilegeError as error:
                    raise SourceError(f"{error}; let its owner run: {sql}") from error
                done.append(f"dropped the publication {self.publication}")
        return done


def _indexes(found: Catalogue, odd: Odd) -> dict[str, str]:
    """What makes the direct read quick where columns hold keys as they are."""
    return {
        f"indexes for {table.tracked.spec}.{column.name}": "; ".join(
            two_indexes(catalogue.quoted(table.schema, table.name), catalogue.quoted(column.name), odd)
        )
        for table in found.tables
        if not isinstance(table, str)
        and not table.tracked.folders
        and all(one.type_oid in _TEXTS for one in table.columns)
        for column in table.columns
    }


async def primary(connection: Any) -> None:
    """
    Raises:
        SourceError: this server is a replica.
    """
    if await connection.fetchval("SELECT pg_is_in_recovery()"):
        raise SourceError(_REPLICA)
