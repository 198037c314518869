"""The connection below the binlog reader: aiomysql's, with commands, packets and ends of our own."""

from __future__ import annotations

import asyncio
import inspect
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiomysql
import pytest

from binlog_world import events, everything, now, packets, session, settings
from fixtures_databases import Server, mariadb_server, mariadb_url, run_mariadb
from s3gc.errors import SourceError
from s3gc_cdc_mysql.binlog import Decoder
from s3gc_cdc_mysql.connection import (
    BinlogStream,
    ConnectionLost,
    EndOfLog,
    FilePosition,
    LogUnreadable,
    MariadbState,
    MysqlSet,
    SameServerId,
    ServerError,
)
from s3gc_cdc_mysql.events import Event, Format, Heartbeat, Insert, MariadbGtid, Rotate, Rows

__all__ = ["mariadb_server", "mariadb_url"]

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # it runs on a loop of its own wherever the collector runs


@pytest.fixture
async def stream(mariadb_url: str) -> AsyncIterator[BinlogStream]:
    stream = await BinlogStream.connect(settings(mariadb_url), timeout=30)
    yield stream
    await stream.close()


async def take(stream: BinlogStream, decoder: Decoder, until: Any) -> list[Event]:
    """Events up to the first that something is true of."""
    found: list[Event] = []
    async with asyncio.timeout(60):
        while True:
            for packet in await stream.take():
                for event in decoder.decode(packet):
                    found.append(event)
                    if until(event):
                        return found


async def take_for_ever(stream: BinlogStream) -> None:
    async with asyncio.timeout(60):
        while True:
            await stream.take()


async def test_the_private_names_of_aiomysql_are_what_they_were(mariadb_url: str) -> None:
    """A canary: should a new aiomysql fail here, ``connection.py`` has to follow."""
    plain = await aiomysql.connect(**settings(mariadb_url))
    try:
        assert inspect.iscoroutinefunction(plain._connect)
        assert list(inspect.signature(plain._execute_command).parameters) == ["command", "sql"]
        assert inspect.iscoroutinefunction(plain._execute_command)
        assert inspect.iscoroutinefunction(plain._read_packet)
        assert isinstance(plain._reader, asyncio.StreamReader)
        assert isinstance(plain._writer, asyncio.StreamWriter)
        await plain._execute_command(0x0E, b"")  # COM_PING: bytes go as they are
        assert plain._next_seq_id == 1
        await plain._read_packet()
        assert plain._next_seq_id == 2
        assert not inspect.iscoroutinefunction(plain.close)
    finally:
        plain.close()
        assert plain._reader is None
        assert plain._writer is None


async def test_questions_come_first(stream: BinlogStream) -> None:
    assert stream.mariadb
    assert stream.version.startswith("10.")
    assert await stream.query("SELECT %s, NULL", "a") == [("a", None)]
    with pytest.raises(ServerError) as error:
        await stream.query("SELECT * FROM there_is_none")
    assert error.value.code == 1146
    assert await stream.query("SELECT 1") == [(1,)]


async def test_a_server_that_isnt_there(mariadb_url: str) -> None:
    with pytest.raises(ConnectionLost):
        await BinlogStream.connect({**settings(mariadb_url), "port": 1}, timeout=5)
    with pytest.raises(ServerError) as error:
        await BinlogStream.connect({**settings(mariadb_url), "password": "wrong"}, timeout=5)
    assert error.value.code == 1045


@pytest.mark.parametrize("way", ["late", "cancelled"])
async def test_a_server_that_says_nothing_is_left_and_no_connection_stays_open(way: str) -> None:
    left = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        left.set()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        at = {"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1], "user": "u", "password": "p"}
        if way == "late":
            with pytest.raises(ConnectionLost, match="didn't answer"):
                await BinlogStream.connect(at, timeout=0.1)
        else:
            connecting = asyncio.create_task(BinlogStream.connect(at, timeout=60))
            await asyncio.sleep(0.1)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
        async with asyncio.timeout(30):
            await left.wait()


async def test_from_a_gtid_and_from_a_file(mariadb_url: str) -> None:
    async with session(mariadb_url) as run:
        await run("CREATE TABLE t (id int PRIMARY KEY)")
        [[file, position, *_]] = await run("SHOW MASTER STATUS")
        start = await now(mariadb_url)
        await run("INSERT INTO t VALUES (1)")
    for begin in (start, FilePosition(str(file), int(position))):
        found = await events(mariadb_url, begin)
        assert isinstance(found[0], Rotate)
        assert isinstance(found[1], Format)
        assert found[1].checksum  # a server leaves it out for readers that don't ask
        assert [event.rows for event in found if isinstance(event, Rows)] == [[(1,)]]
        assert len([event for event in found if isinstance(event, MariadbGtid)]) == 1


async def test_positions_in_the_file_are_those_that_the_events_tell(mariadb_url: str) -> None:
    """Begun anew after any transaction, the rest is the same."""
    start = await now(mariadb_url)
    async with session(mariadb_url) as run:
        await run("CREATE TABLE t (id int PRIMARY KEY, a varchar(20))")
        for number in range(4):
            await run(f"INSERT INTO t VALUES ({number}, 'x')")
        await run("FLUSH BINARY LOGS")
        await run("INSERT INTO t VALUES (9, 'y')")
    found = [e for e in await events(mariadb_url, start) if not e.header.artificial]
    file, rows_after = "", []
    for event in await events(mariadb_url, start):
        if isinstance(event, Rotate):
            file = event.file
        if isinstance(event, Rows):
            rows_after.append((file, event.header.next_position + 31, event.rows))  # a commit has 31 bytes
    assert len(rows_after) == 5
    for at, (file, position, _) in enumerate(rows_after[:4]):
        rest = await events(mariadb_url, FilePosition(file, position))
        assert [e.rows for e in rest if isinstance(e, Rows)] == [rows for _, _, rows in rows_after[at + 1 :]]
    assert found


@pytest.mark.parametrize(
    ("start", "error", "text"),
    [
        (MariadbState("0-1-999999999"), LogUnreadable, "not in the master's binlog"),
        (FilePosition("there-is.none"), LogUnreadable, "first log file name"),
        (FilePosition("binlog.000001", 4_000_000_000), LogUnreadable, "position"),
    ],
)
async def test_positions_that_the_server_hasnt(
    stream: BinlogStream, start: Any, error: type[Exception], text: str
) -> None:
    await stream.start(900_002, start, heartbeat=10)
    with pytest.raises(error, match=text) as raised:
        await take_for_ever(stream)
    assert isinstance(raised.value, ServerError)
    assert raised.value.code == 1236
    assert not stream.alive


async def test_a_purged_position(mariadb_server: Server, mariadb_url: str) -> None:
    start = await now(mariadb_url)
    async with session(mariadb_url) as run:
        await run("CREATE TABLE t (id int)")
        await run("FLUSH BINARY LOGS")
        await run("INSERT INTO t VALUES (1)")
        await run("FLUSH BINARY LOGS")
        [[file, *_]] = await run("SHOW MASTER STATUS")
        await run(f"PURGE BINARY LOGS TO '{file}'")
    with pytest.raises(LogUnreadable, match="purged"):
        await packets(mariadb_url, start)


async def test_a_position_of_the_other_kind_of_server(stream: BinlogStream) -> None:
    with pytest.raises(TypeError, match="MysqlSet"):
        await stream.start(900_003, MysqlSet([]), heartbeat=10)


async def test_a_second_reader_with_the_same_number_ends_the_first(
    stream: BinlogStream, mariadb_url: str
) -> None:
    start = await now(mariadb_url)
    await stream.start(900_004, start, heartbeat=10)
    await stream.take()
    second = await BinlogStream.connect(settings(mariadb_url), timeout=30)
    try:
        await second.start(900_004, start, heartbeat=10)
        with pytest.raises(SameServerId) as error:
            await take_for_ever(stream)
        assert error.value.code == 4052
        assert await second.take()
    finally:
        await second.close()


async def test_the_reader_is_known_to_the_server(stream: BinlogStream, mariadb_url: str) -> None:
    await stream.start(900_005, await now(mariadb_url), heartbeat=10, name="s3gc test")
    await stream.take()
    async with session(mariadb_url) as run:
        hosts = await run("SHOW SLAVE HOSTS")
    assert [row[1] for row in hosts if row[0] == 900_005] == ["s3gc test"]


async def test_without_the_grant_it_is_refused(mariadb_server: Server, mariadb_url: str) -> None:
    mariadb_server.admin("CREATE USER poor@'127.0.0.1' IDENTIFIED BY 'p'")
    stream = await BinlogStream.connect(
        {**settings(mariadb_url), "user": "poor", "password": "p", "db": None}, timeout=30
    )
    try:
        with pytest.raises(ServerError, match="GRANT REPLICATION SLAVE"):
            await stream.start(900_006, MariadbState(""), heartbeat=10)
    finally:
        await stream.close()
        mariadb_server.admin("DROP USER poor@'127.0.0.1'")


async def test_heartbeats_tell_the_position(stream: BinlogStream, mariadb_url: str) -> None:
    start = await now(mariadb_url)
    async with session(mariadb_url) as run:
        await run("CREATE TABLE t (id int)")
        [[file, position, *_]] = await run("SHOW MASTER STATUS")
    await stream.start(900_007, start, heartbeat=0.2)
    found = await take(
        stream, Decoder(everything, checksum=stream.checksum), lambda e: isinstance(e, Heartbeat)
    )
    beat = found[-1]
    assert isinstance(beat, Heartbeat)
    assert (beat.file, beat.position) == (file, position)


async def test_silence_means_that_the_connection_is_lost(
    stream: BinlogStream, mariadb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is gone without a word (a cut cable, a dead proxy)."""
    await stream.start(900_008, await now(mariadb_url), heartbeat=60)
    await stream.take()
    stream._silence = 0.05  # no server is as fast
    with pytest.raises(ConnectionLost, match="heartbeat"):
        await take_for_ever(stream)
    assert not stream.alive
    with pytest.raises(ConnectionLost):
        await stream.take()


async def test_a_server_that_ends_the_connection_is_noticed(stream: BinlogStream, mariadb_url: str) -> None:
    [[number]] = await stream.query("SELECT CONNECTION_ID()")
    await stream.start(900_009, await now(mariadb_url), heartbeat=10)
    async with session(mariadb_url) as run:
        await run(f"KILL {number}")
    with pytest.raises((ConnectionLost, ServerError)):
        await take_for_ever(stream)
    assert not stream.alive


async def test_taking_may_be_cancelled_and_nothing_is_lost(stream: BinlogStream, mariadb_url: str) -> None:
    start = await now(mariadb_url)
    await stream.start(900_010, start, heartbeat=30)
    decoder = Decoder(everything, checksum=stream.checksum)
    rows: list[Any] = []

    async def write() -> None:
        async with session(mariadb_url) as run:
            await run("CREATE TABLE t (id int PRIMARY KEY, a mediumtext)")
            for number in range(20):
                await run(f"INSERT INTO t VALUES ({number}, REPEAT('x', 400000))")

    writer = asyncio.create_task(write())
    cancelled = 0
    async with asyncio.timeout(60):
        while len(rows) < 20:
            taking = asyncio.create_task(stream.take())
            await asyncio.sleep(0)
            if not taking.done() and cancelled < 200:
                cancelled += 1
                taking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await taking
                await asyncio.sleep(0)
                continue
            for packet in await taking:
                rows += [r for e in decoder.decode(packet) if isinstance(e, Rows) for r in e.rows]
    await writer
    assert cancelled
    assert [row[0] for row in rows] == list(range(20))
    assert all(row[1] == "x" * 400_000 for row in rows)


async def test_a_question_that_is_cancelled_ends_the_connection(stream: BinlogStream) -> None:
    asking = asyncio.create_task(stream.query("SELECT SLEEP(30)"))
    await asyncio.sleep(0.1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not stream.alive
    with pytest.raises(ConnectionLost):
        await stream.query("SELECT 1")


async def test_an_answer_that_is_late_ends_the_connection(mariadb_url: str) -> None:
    stream = await BinlogStream.connect(settings(mariadb_url), timeout=30)
    stream._timeout = 0.05
    with pytest.raises(ConnectionLost, match="didn't answer"):
        await stream.query("SELECT SLEEP(30)")
    assert not stream.alive
    await stream.close()


async def test_closing_is_allowed_at_any_time_and_twice(mariadb_url: str) -> None:
    stream = await BinlogStream.connect(settings(mariadb_url), timeout=30)
    await stream.start(900_011, await now(mariadb_url), heartbeat=10)
    await stream.take()
    await stream.close()
    await stream.close()
    with pytest.raises(ConnectionLost):
        await stream.take()


async def test_a_reader_that_takes_its_time_keeps_the_connection_and_little_memory(
    stream: BinlogStream, mariadb_url: str
) -> None:
    """The server ends a reader that takes nothing for ``net_write_timeout``: it is told to wait longer."""
    start = await now(mariadb_url)
    async with session(mariadb_url) as run:
        await run("CREATE TABLE t (id int PRIMARY KEY, a mediumtext)")
        for number in range(40):
            await run(f"INSERT INTO t VALUES ({number}, REPEAT('x', 1000000))")
    await stream.query("SET @@session.net_write_timeout = 1")
    await stream.start(900_012, start, heartbeat=30)
    rows = 0
    decoder = Decoder(lambda table: [0], checksum=stream.checksum)
    async with asyncio.timeout(60):
        while rows < 40:
            if rows == 3:
                await asyncio.sleep(2.5)
            taken = await stream.take()
            assert sum(map(len, taken)) < 4_000_000
            for packet in taken:
                rows += sum(len(e.rows) for e in decoder.decode(packet) if isinstance(e, Rows))
    assert rows == 40


async def test_one_huge_value_arrives_whole(mariadb_server: Server, mariadb_url: str) -> None:
    """Beyond 16 MiB a packet has parts; at exactly that length the last part is empty."""
    mariadb_server.admin("SET GLOBAL max_allowed_packet = 1073741824")
    try:
        start = await now(mariadb_url)
        async with session(mariadb_url) as run:
            await run("CREATE TABLE t (id int PRIMARY KEY, a longblob)")
            await run("INSERT INTO t VALUES (1, REPEAT('x', 40000000))")
            await run("INSERT INTO t VALUES (2, '')")
            [size] = [
                len(packet) for packet in (await packets(mariadb_url, start))[0] if len(packet) > 40_000_000
            ]
            overhead = size - 40_000_000
            for more, wanted in ((3, 0xFFFFFF - 1), (4, 0xFFFFFF), (5, 2 * 0xFFFFFF)):
                # A byte for "here is an event" comes before each, outside of its size.
                await run(f"INSERT INTO t VALUES ({more}, REPEAT('y', {wanted - overhead - 1}))")
    finally:
        mariadb_server.admin("SET GLOBAL max_allowed_packet = 16777216")
    found = [e for e in await events(mariadb_url, start) if isinstance(e, Insert)]
    rows = [row for event in found for row in event.rows]
    assert [row[0] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[0][1] == b"x" * 40_000_000
    assert {event.header.size + 1 for event in found[2:]} == {0xFFFFFF - 1, 0xFFFFFF, 2 * 0xFFFFFF}


async def test_a_packet_out_of_order_ends_it(stream: BinlogStream, mariadb_url: str) -> None:
    await stream.start(900_013, await now(mariadb_url), heartbeat=10)
    stream._sequence = stream._sequence + 1 & 0xFF
    with pytest.raises(ConnectionLost, match="out of order"):
        await take_for_ever(stream)


async def test_the_end_of_the_log_is_told_when_asked_for(stream: BinlogStream, mariadb_url: str) -> None:
    await stream.start(900_014, await now(mariadb_url), heartbeat=10, blocking=False)
    with pytest.raises(EndOfLog):
        await take_for_ever(stream)


async def test_checksums_may_be_switched_off_and_on_again(mariadb_server: Server, mariadb_url: str) -> None:
    start = await now(mariadb_url)
    try:
        async with session(mariadb_url) as run:
            await run("CREATE TABLE t (id int PRIMARY KEY)")
            await run("INSERT INTO t VALUES (1)")
            await run("SET GLOBAL binlog_checksum = NONE")
            await run("INSERT INTO t VALUES (2)")
            from_here = await now(mariadb_url)
            await run("INSERT INTO t VALUES (3)")
            for begin, rows in ((start, [1, 2, 3]), (from_here, [3])):
                found = await events(mariadb_url, begin)  # asked for without checksums
                assert [r[0] for e in found if isinstance(e, Rows) for r in e.rows] == rows
            await run("SET GLOBAL binlog_checksum = CRC32")
            await run("INSERT INTO t VALUES (4)")
            for begin, rows in ((start, [1, 2, 3, 4]), (from_here, [3, 4])):
                found = await events(mariadb_url, begin)
                assert [r[0] for e in found if isinstance(e, Rows) for r in e.rows] == rows
                assert {e.checksum for e in found if isinstance(e, Format)} == {True, False}
    finally:
        mariadb_server.admin("SET GLOBAL binlog_checksum = CRC32")


# --------------------------------------------------------------------------------- other ways to connect


def authority(folder: Path) -> None:
    """A certificate for 127.0.0.1 that signs itself."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    for name_ in ("cert.pem", "key.pem"):
        (folder / name_).chmod(0o644)
    folder.chmod(0o755)


@pytest.fixture(scope="module")
def other_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """With TLS, and asking a reader that may be asked to acknowledge."""
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        authority(folder)
        with run_mariadb(
            ssl_cert=folder / "cert.pem", ssl_key=folder / "key.pem", rpl_semi_sync_master_enabled="ON",
            rpl_semi_sync_master_timeout=30_000, rpl_semi_sync_master_wait_no_slave="OFF",
        ) as server:  # fmt: skip
            yield server, folder


def url_of(server: Server) -> str:
    return f"mysql://s3gc_admin:{server.password}@127.0.0.1:{server.port}/mysql"


async def test_over_tls(other_server: tuple[Server, Path]) -> None:
    server, folder = other_server
    context = ssl.create_default_context(cafile=str(folder / "cert.pem"))
    stream = await BinlogStream.connect({**settings(url_of(server)), "ssl": context}, timeout=30)
    try:
        [[_, cipher]] = await stream.query("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
        assert cipher
        await stream.start(900_020, MariadbState(""), heartbeat=10, blocking=False)
        with pytest.raises(EndOfLog):
            await take_for_ever(stream)
    finally:
        await stream.close()


async def test_tls_that_the_server_hasnt_is_refused(mariadb_url: str) -> None:
    """aiomysql would go on in plain text."""
    with pytest.raises(SourceError, match="TLS"):
        await BinlogStream.connect({**settings(mariadb_url), "ssl": ssl.create_default_context()}, timeout=30)


async def test_over_a_socket(other_server: tuple[Server, Path]) -> None:
    server, _ = other_server
    server.admin(
        f"CREATE USER IF NOT EXISTS s3gc_admin@localhost IDENTIFIED BY '{server.password}';"
        "GRANT ALL ON *.* TO s3gc_admin@localhost"
    )
    at = {"unix_socket": str(server.directory / "s"), "user": "s3gc_admin", "password": server.password}
    stream = await BinlogStream.connect(at, timeout=30)
    try:
        await stream.start(900_021, MariadbState(""), heartbeat=10, blocking=False)
        with pytest.raises(EndOfLog):
            await take_for_ever(stream)
    finally:
        await stream.close()


async def test_events_are_acknowledged_when_the_server_asks(other_server: tuple[Server, Path]) -> None:
    """Without an acknowledgement a commit would take the thirty seconds of the server's patience."""
    server, _ = other_server
    url = url_of(server)
    stream = await BinlogStream.connect(settings(url), timeout=30)
    decoder = Decoder(everything, checksum=True)
    rows: list[Any] = []

    async def follow() -> None:
        while True:
            for packet in await stream.take():
                rows.extend(r for e in decoder.decode(packet) if isinstance(e, Rows) for r in e.rows)

    try:
        await stream.start(900_022, await now(url), heartbeat=10, semi_sync=True)
        following = asyncio.create_task(follow())
        async with session(url) as run:
            await run("CREATE DATABASE IF NOT EXISTS acks")
            for _ in range(100):
                [[_, clients]] = await run("SHOW STATUS LIKE 'Rpl_semi_sync_master_clients'")
                if clients == "1":
                    break
                await asyncio.sleep(0.05)
            assert clients == "1"
            await run("CREATE OR REPLACE TABLE acks.t (id int PRIMARY KEY)")
            [[_, missed_before]] = await run("SHOW STATUS LIKE 'Rpl_semi_sync_master_no_tx'")
            begun = time.monotonic()
            for number in range(5):
                await run(f"INSERT INTO acks.t VALUES ({number})")
            await run("FLUSH BINARY LOGS")
            await run("INSERT INTO acks.t VALUES (5)")
            assert time.monotonic() - begun < 25
            [[_, acknowledged]] = await run("SHOW STATUS LIKE 'Rpl_semi_sync_master_yes_tx'")
            assert int(acknowledged) >= 6
            [[_, missed]] = await run("SHOW STATUS LIKE 'Rpl_semi_sync_master_no_tx'")
            assert missed == missed_before
        following.cancel()
        assert [row[0] for row in rows] == list(range(6))
    finally:
        await stream.close()


async def test_a_server_whose_semi_sync_is_off(mariadb_url: str) -> None:
    start = await now(mariadb_url)
    async with session(mariadb_url) as run:
        await run("CREATE TABLE t (id int PRIMARY KEY)")
        await run("INSERT INTO t VALUES (1)")
    stream = await BinlogStream.connect(settings(mariadb_url), timeout=30)
    try:
        await stream.start(900_023, start, heartbeat=10, semi_sync=True)
        decoder = Decoder(everything, checksum=stream.checksum)
        found = await take(stream, decoder, lambda e: isinstance(e, Rows))
        assert isinstance(found[-1], Insert)
    finally:
        await stream.close()
