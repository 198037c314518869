"""Plain connections to the server: the catalogue, places in its log, the stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiomysql  # type: ignore[import-untyped]
from attrs import frozen

from s3gc.capture import CaptureFinding as Finding
from s3gc.capture import CaptureState
from s3gc.errors import SourceError
from s3gc.sources.capture import TrackedTable, refuse
from s3gc.sources.mysql import connect_arguments
from s3gc_cdc_mysql import catalogue
from s3gc_cdc_mysql._commands import FilePosition
from s3gc_cdc_mysql.binlog import Decoder
from s3gc_cdc_mysql.catalogue import Catalogue
from s3gc_cdc_mysql.connection import BinlogStream, encrypted
from s3gc_cdc_mysql.events import Format, Rotate
from s3gc_cdc_mysql.flavour import Flavour, fetch, flavour_of
from s3gc_cdc_mysql.position import MOST_OFFSET, Gtids, LogPlace, Place
from s3gc_cdc_mysql.preflight import findings

CONNECT_SECONDS = 30.0
HEARTBEAT_SECONDS = 5.0
_TRIES = 10
_READ_ONLY = """
SHOW GLOBAL VARIABLES WHERE Variable_name IN ('read_only', 'super_read_only')
"""


@frozen
class Now:
    """Where a server's log stands."""

    log: LogPlace
    gtids: Gtids


class Target:
    """One database, and the number under which its log is read."""

    def __init__(self, url: str, tracked: Sequence[TrackedTable], server_id: int) -> None:
        self._settings = connect_arguments(url)
        self.tracked = tracked
        self.server_id = server_id

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A connection in autocommit that reads values as the direct read does."""
        # Not aiomysql.connect(), which leaves the connection open when it is cancelled.
        connection = aiomysql.Connection(**self._settings)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection._connect()
        except aiomysql.OperationalError as error:
            if error.__cause__ is None:
                raise
            code, *rest = error.args  # the driver keeps the reason to itself
            raise aiomysql.OperationalError(code, f"{' '.join(map(str, rest))}: {error.__cause__}") from error
        except BaseException:
            connection.close()
            raise
        try:
            if "ssl" in self._settings and not encrypted(connection):
                raise SourceError("TLS was asked for, and the server doesn't offer it")
            await _flavour(connection).prepare(connection)
            yield connection
        finally:
            connection.close()

    async def stream(self, place: LogPlace) -> tuple[BinlogStream, bool]:
        """The log from a place on, and whether its first events have checksums."""
        if place.offset > MOST_OFFSET:
            raise SourceError(
                f"one can't ask for {place}, beyond 4 GiB of its file: run FLUSH BINARY LOGS on the server"
            )
        stream = await BinlogStream.connect(self._settings, timeout=CONNECT_SECONDS)
        try:
            await stream.start(
                self.server_id, FilePosition(place.file, place.offset), heartbeat=HEARTBEAT_SECONDS
            )
        except BaseException:
            await stream.close()
            raise
        return stream, stream.checksum

    # ------------------------------------------------------------------ what is there

    async def catalogue(self) -> Catalogue:
        async with self.connection() as connection:
            await primary(connection)
            return await catalogue.load(connection, self.tracked)

    async def findings(self) -> list[Finding]:
        return findings(await self.catalogue())

    async def state(self, source: str) -> CaptureState:
        """Everything about it, for people."""
        found = await self.catalogue()
        server = found.server
        async with self.connection() as connection:
            now = await self.now(connection)
        names = ("binlog_format", "binlog_row_image", "binlog_row_metadata", "server_id", "log_bin_compress")
        details = {
            "server": server.flavour.name,
            "server_version": server.version,
            "database": server.database,
            "user": server.user,
            "read_as_server_id": str(self.server_id),
            **{name: server.variables[name] for name in names if name in server.variables},
            "position": str(now.log),
            "gtids": str(now.gtids),
            "log_files": str(len(server.logs)),
            "log_bytes": str(sum(size for _, size in server.logs)),
            "watched": ", ".join(f"{one.database}.{one.name}" for one in found.watched),
        }
        return CaptureState(source, findings(found), {k: v for k, v in details.items() if v})

    async def lag(self, place: Place) -> int | None:
        """Bytes of the log after a place; None if this user may not see its files."""
        async with self.connection() as connection:
            logs = await _flavour(connection).logs(connection)
        if not logs:
            return None
        files = [(LogPlace(name, size), size) for name, size in logs]
        behind = sum(size for log, size in files if log.number >= place.log.number)
        return max(0, behind - place.log.offset)

    # ------------------------------------------------------------------ places

    async def now(self, connection: Any) -> Now:
        """The end of the log; the GTIDs are read first, so that they lie before it."""
        flavour = _flavour(connection)
        gtids = await flavour.gtids(connection)
        return Now(await flavour.end(connection), gtids)

    async def tip(self) -> Now:
        """As :meth:`now`, over a connection of its own."""
        async with self.connection() as connection:
            await primary(connection)
            return await self.now(connection)

    async def fence(self, configuration: str) -> Place:
        """The end of the log, with what mustn't have changed up to it.

        Both belong together when nothing changed meanwhile; so it is done again until it didn't.

        Raises:
            SourceError: tracked tables are being altered all the time.
        """
        async with self.connection() as connection:
            await primary(connection)
            before = (await catalogue.load(connection, self.tracked)).prints(configuration)
            for _ in range(_TRIES):
                now = await self.now(connection)
                prints = (await catalogue.load(connection, self.tracked)).prints(configuration)
                if prints == before:
                    return Place(now.log, 0, now.gtids, prints)
                before = prints
        raise SourceError("the tracked tables are being altered all the time")

    async def beginning(self, configuration: str, timeout: float) -> Place:
        """A place that a scan begun now has seen all transactions before.

        Raises:
            SourceError: changes can't be followed, or tracked tables are being altered all the time.
        """
        async with self.connection() as connection:
            await primary(connection)
            found = await catalogue.load(connection, self.tracked)
            refuse(findings(found))
            flavour = _flavour(connection)
            for _ in range(_TRIES):
                gtids = await flavour.gtids(connection)
                log = await flavour.settled(connection, timeout)
                # A TRUNCATE before the place is never told; the next fence would take it for a gap.
                before, found = found, await catalogue.load(connection, self.tracked)
                if found.prints(configuration) == before.prints(configuration):
                    break
            else:
                raise SourceError("the tracked tables are being altered all the time")
        born = await self._born(log)
        return Place(log, born, gtids, found.prints(configuration))

    async def _born(self, log: LogPlace) -> int:
        """When the file was begun; that the log can be read at all is shown by that, too."""
        stream, checksum = await self.stream(log)
        decoder = Decoder(lambda _: None, checksum=checksum)
        file = log.file
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                while True:
                    for packet in await stream.take():
                        for event in decoder.decode(packet):
                            if isinstance(event, Rotate):
                                file = event.file
                            elif isinstance(event, Format) and file == log.file:
                                return event.header.timestamp
        finally:
            await stream.close()

    async def visible(self, log: LogPlace, timeout: float) -> None:
        """Wait until all before a place of the log is visible."""
        async with self.connection() as connection:
            await _flavour(connection).visible(connection, log, timeout)

    # ------------------------------------------------------------------ what we keep there: nothing

    async def setup(self, timeout: float) -> list[str]:
        """There is nothing to make: it is checked that all is as it must be, and that the log can be read.

        Raises:
            SourceError: something must be mended first; it has the statements.
        """
        refuse(await self.findings())
        async with self.connection() as connection:
            log = (await self.now(connection)).log
        await self._born(log)
        return []

    async def teardown(self) -> list[str]:
        """Nothing is kept in the database."""
        return []


def _flavour(connection: Any) -> Flavour:
    return flavour_of(connection.get_server_info())


async def primary(connection: Any) -> None:
    """
    Raises:
        SourceError: this server takes no writes, as replicas do.
    """
    for name, value in await fetch(connection, _READ_ONLY):
        if str(value).upper() not in ("OFF", "0"):
            raise SourceError(f"this server is read-only ({name}): changes are followed on the primary only")
