"""A real PostgreSQL 15 and a real MariaDB 10.11 for tests: one server a session, one fresh database a test.

Use ``from fixtures_databases import *`` or ``pytest_plugins``; ask for ``postgres_url`` or ``mariadb_url``.
A missing program is a failure, not a skip.
"""

from __future__ import annotations

import itertools
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

__all__ = ["mariadb_server", "mariadb_url", "postgres_server", "postgres_url", "run_mariadb", "run_postgres"]

START_SECONDS = 90
_numbers = itertools.count(1)


class Process:
    """A server's process, which may be stopped and started again on the same data."""

    def __init__(self, command: Sequence[str], port: int, log: Path, demote: dict[str, Any]) -> None:
        self._command, self._port, self._log, self._demote = command, port, log, demote
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as output:
            self.running = subprocess.Popen(
                self._command, stdout=output, stderr=output, cwd=self._log.parent, **self._demote
            )
        try:
            _wait(self.running, self._port, self._log)
            self._accepting()
        except BaseException:
            self.kill()
            raise

    def _accepting(self) -> None:
        """It listens before it has recovered."""
        ready = _postgres_program("pg_isready")
        command = [ready, "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        end = time.monotonic() + START_SECONDS
        while subprocess.run(command, check=False).returncode:
            if time.monotonic() > end:
                pytest.fail("the database server accepts no connection", pytrace=False)
            time.sleep(0.05)

    def stop(self) -> bool:
        """PostgreSQL's fast shutdown: sessions are ended, then a checkpoint. Whether that was enough."""
        self.running.send_signal(2)
        try:
            self.running.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    def kill(self) -> None:
        """A crash: nothing is written any more. (SIGQUIT, so that no child stays behind.)"""
        self.running.send_signal(3)
        try:
            self.running.wait(10)
        except subprocess.TimeoutExpired:
            self.running.kill()
            self.running.wait(10)


class MariadbProcess(Process):
    """A MariaDB, which may be stopped and started again on the same data."""

    def _accepting(self) -> None:
        """It listens once it has recovered."""

    def stop(self) -> bool:
        """In order. Whether a minute was enough."""
        self.running.terminate()
        try:
            self.running.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    def kill(self) -> None:
        """A crash."""
        self.running.kill()
        self.running.wait(10)


@frozen
class Server:
    """A running database server. ``admin`` runs SQL as its superuser and returns the output."""

    port: int
    password: str
    client: Sequence[str]  # the command that reads SQL from standard input
    demote: dict[str, Any]
    directory: Path
    process: Process | None = None

    def admin(self, sql: str, *, database: str = "", may_fail: bool = False) -> str:
        command = [*self.client, *([database] if database else [])]
        done = subprocess.run(
            command, input=sql, capture_output=True, text=True, check=False, cwd=self.directory, **self.demote
        )
        if done.returncode and not may_fail:
            pytest.fail(f"{Path(command[0]).name}: {done.stderr.strip()}", pytrace=False)
        return str(done.stdout).strip()


def _program(name: str, *folders: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", ""), "/usr/sbin"]))
    if found is None:
        pytest.fail(f"{name} isn't installed: these tests need a real PostgreSQL and MariaDB", pytrace=False)
    return found


def _postgres_program(name: str) -> str:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name))
    return _program(name, *(str(p) for p in reversed(versions)))


def _demote(*names: str) -> dict[str, Any]:
    """Servers refuse to run as root: run them as an unprivileged user then."""
    if os.getuid() != 0:
        return {}
    for name in (*names, "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    pytest.fail("no unprivileged user to run a database server as", pytrace=False)


def _directory(prefix: str, demote: dict[str, Any]) -> Path:
    # Not below pytest's own folder: that is closed to other users, and too long for a socket's name.
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    if demote:
        os.chown(directory, demote["user"], demote["group"])
    return directory


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"the database server didn't start: {log.read_text(errors='replace')[-2000:]}", pytrace=False)


@contextmanager
def run_postgres(*, standby: bool = False, **changed: object) -> Iterator[Server]:
    """Start a PostgreSQL of its own; with ``standby`` it stays in recovery, as a replica does.

    ``changed`` are further settings, by their names.
    """
    initdb, postgres, psql = map(_postgres_program, ("initdb", "postgres", "psql"))
    demote = _demote("postgres")
    directory = _directory("s3gc-pg-", demote)
    data, log, password, port = directory / "data", directory / "log", secrets.token_hex(8), _free_port()
    (directory / "pw").write_text(password)
    os.chmod(directory / "pw", 0o644)
    made = subprocess.run(
        [initdb, "-D", str(data), "-U", "s3gc_admin", f"--pwfile={directory / 'pw'}", "-A", "scram-sha-256",
         "-E", "UTF8", "--locale=C", "--no-sync"],
        capture_output=True, text=True, check=False, cwd=directory, **demote,
    )  # fmt: skip
    if made.returncode:
        pytest.fail(f"initdb: {made.stderr[-2000:]}", pytrace=False)
    if standby:
        (data / "standby.signal").touch()
    settings = {
        "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off",
        "wal_level": "logical", "max_prepared_transactions": 10, "max_wal_senders": 20,
        "max_replication_slots": 20, "max_connections": 100, "shared_buffers": "32MB", **changed,
    }  # fmt: skip
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    try:
        process = Process([postgres, "-D", str(data), *options], port, log, demote)
        url = f"postgresql://s3gc_admin:{password}@127.0.0.1:{port}/postgres"
        try:
            client = [psql, "-XqAt", "-v", "ON_ERROR_STOP=1", url]
            yield Server(port, password, client, demote, directory, process)
        finally:
            process.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """PostgreSQL with logical decoding and prepared transactions, on loopback; superuser ``s3gc_admin``."""
    with run_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: Server) -> Iterator[str]:
    """``postgresql://user:pw@127.0.0.1:port/db`` of a fresh database; the user is a superuser."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    postgres_server.admin(f"CREATE DATABASE {name}")
    try:
        yield f"postgresql://s3gc_admin:{postgres_server.password}@127.0.0.1:{postgres_server.port}/{name}"
    finally:
        gone = (
            f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '{name}'"
        )
        kill = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        postgres_server.admin(f"{kill}; SELECT pg_sleep(0.05); {gone}")
        left = postgres_server.admin(f"SELECT gid FROM pg_prepared_xacts WHERE database = '{name}'")
        url = postgres_server.client[-1].rpartition("/")[0] + "/" + name
        for gid in left.split():
            _at(postgres_server, url).admin(f"ROLLBACK PREPARED '{gid}'")
        postgres_server.admin(f"DROP DATABASE {name} WITH (FORCE)")


def _at(server: Server, url: str) -> Server:
    return Server(server.port, server.password, [*server.client[:-1], url], server.demote, server.directory)


@contextmanager
def run_mariadb(**changed: object) -> Iterator[Server]:
    """Start a MariaDB of its own. ``changed`` are further settings, by their names with underscores."""
    install, daemon, client = _program("mariadb-install-db"), _program("mariadbd"), _program("mariadb")
    demote = _demote("mysql")
    directory = _directory("s3gc-my-", demote)
    data, log, password, port = directory / "data", directory / "log", secrets.token_hex(8), _free_port()
    made = subprocess.run(
        [install, "--no-defaults", f"--datadir={data}", f"--tmpdir={directory}", "--skip-test-db",
         "--auth-root-authentication-method=normal"],
        capture_output=True, text=True, check=False, cwd=directory, **demote,
    )  # fmt: skip
    if made.returncode:
        pytest.fail(f"mariadb-install-db: {made.stderr[-2000:]}", pytrace=False)
    (directory / "init.sql").write_text(
        f"CREATE USER IF NOT EXISTS s3gc_admin@'127.0.0.1' IDENTIFIED BY '{password}';\n"
        "GRANT ALL PRIVILEGES ON *.* TO s3gc_admin@'127.0.0.1' WITH GRANT OPTION;\n"
    )
    os.chmod(directory / "init.sql", 0o644)
    options = {
        "datadir": data, "tmpdir": directory, "port": port, "bind-address": "127.0.0.1",
        "socket": directory / "s",
        "pid-file": directory / "pid", "init-file": directory / "init.sql", "log-bin": data / "binlog",
        "binlog-format": "ROW", "binlog-row-metadata": "FULL", "server-id": 1,
        "innodb-flush-log-at-trx-commit": 0, "innodb-buffer-pool-size": "64M",
        "character-set-server": "utf8mb4", **{k.replace("_", "-"): v for k, v in changed.items()},
    }  # fmt: skip
    try:
        process = MariadbProcess(
            [daemon, "--no-defaults", "--skip-name-resolve", *(f"--{k}={v}" for k, v in options.items())],
            port,
            log,
            demote,
        )
        command = [
            client,
            "--no-defaults",
            "-h127.0.0.1",
            f"-P{port}",
            "-us3gc_admin",
            f"-p{password}",
            "-BN",
        ]
        try:
            yield Server(port, password, command, demote, directory, process)
        finally:
            process.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Server]:
    """MariaDB with a row-based binlog of full metadata, on loopback; superuser ``s3gc_admin``."""
    with run_mariadb() as server:
        yield server


@pytest.fixture
def mariadb_url(mariadb_server: Server) -> Iterator[str]:
    """``mysql://user:pw@127.0.0.1:port/db`` of a fresh database; the user has all privileges."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    mariadb_server.admin(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    try:
        yield f"mysql://s3gc_admin:{mariadb_server.password}@127.0.0.1:{mariadb_server.port}/{name}"
    finally:
        running = mariadb_server.admin(f"SELECT id FROM information_schema.processlist WHERE db = '{name}'")
        for number in running.split():
            mariadb_server.admin(f"KILL {number}", may_fail=True)  # it may have gone by itself
        for *_, gid in map(str.split, mariadb_server.admin("XA RECOVER").splitlines()):
            if gid == name:
                mariadb_server.admin(f"XA ROLLBACK '{gid}'", may_fail=True)
        mariadb_server.admin(f"DROP DATABASE {name}")
