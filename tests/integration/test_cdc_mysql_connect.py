"""Ways to a MariaDB: TLS that is verified, sockets, odd passwords; nothing left of a cancelled call."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import anyio
import pytest

from cdc_mysql_world import MyApp
from fixtures_databases import Server, _demote, mariadb_server, mariadb_url, run_mariadb
from integration.test_cdc_connect import certificate
from s3gc.errors import ConfigError, SourceError
from s3gc.resolver import Resolver
from s3gc.sources.sql import SqlSource

__all__ = ["mariadb_server", "mariadb_url"]

pytestmark = pytest.mark.anyio

TABLES = {"one": ["path"]}
PASSWORD = "it's a p@ss/word%?#&:"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="s3gc-tls-", dir="/tmp") as name:
        folder = Path(name)
        certificate(folder)
        demote = _demote("mysql")
        if demote:
            import os

            for path in (folder, folder / "key"):
                os.chown(path, demote["user"], demote["group"])
            folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with run_mariadb(ssl_cert=folder / "crt", ssl_key=folder / "key") as server:
        password = PASSWORD.replace("'", "''")
        server.admin(
            "CREATE DATABASE shop CHARACTER SET utf8mb4;"
            f"CREATE USER odd@'127.0.0.1' IDENTIFIED BY '{password}' REQUIRE SSL;"
            f"CREATE USER odd@localhost IDENTIFIED BY '{password}';"
            "GRANT ALL ON *.* TO odd@'127.0.0.1'; GRANT ALL ON *.* TO odd@localhost"
        )
        yield server


@pytest.fixture
async def app(server: Server) -> AsyncIterator[MyApp]:
    app = MyApp(f"mysql://s3gc_admin:{server.password}@127.0.0.1:{server.port}/shop")
    await app.run(
        "CREATE OR REPLACE TABLE one (id int PRIMARY KEY, path text)", "INSERT INTO one VALUES (1, 'a')"
    )
    yield app
    await app.close()


def url(server: Server, options: str) -> str:
    return f"mysql://odd:{quote(PASSWORD, safe='')}@127.0.0.1:{server.port}/shop?{options}"


async def test_tls_that_is_verified(app: MyApp, server: Server, folder: Path) -> None:
    """The user may not come in without; of the stream, too."""
    kept = await app.follow(TABLES, url=url(server, f"ssl_ca={folder}/crt"))
    await app.run("INSERT INTO one VALUES (2, 'b')")
    assert await kept.agrees() == {"a", "b"}
    assert PASSWORD not in kept.source.name


@pytest.mark.parametrize("options", ["", "ssl=false"])
async def test_a_user_that_must_use_tls_is_refused_without(app: MyApp, server: Server, options: str) -> None:
    with pytest.raises(SourceError, match="Access denied") as error:
        await app.source(TABLES, url=url(server, options)).begin()
    assert PASSWORD not in str(error.value)


async def test_a_server_that_is_not_the_one_it_should_be_is_refused(app: MyApp, server: Server) -> None:
    """Its certificate is of nobody that the system trusts."""
    with pytest.raises(SourceError, match="CERTIFICATE_VERIFY_FAILED"):
        await app.source(TABLES, url=url(server, "ssl=true")).begin()


def test_a_word_that_is_not_known_is_no_silent_plain_text(server: Server) -> None:
    for options in ("ssl=verify", "tls=maybe"):
        with pytest.raises(ConfigError, match="isn't understood"):
            SqlSource(url(server, options), TABLES, Resolver("my-bucket"))


async def test_a_server_without_tls_is_refused(
    mariadb_server: Server, mariadb_url: str, folder: Path
) -> None:
    """The driver would go on in plain text."""
    app = MyApp(mariadb_url)
    await app.run("CREATE TABLE one (id int PRIMARY KEY, path text)")
    source = app.source(TABLES, url=f"{mariadb_url}?ssl_ca={folder}/crt")
    for call in (source.check, source.begin, source._sql.check):
        with pytest.raises(SourceError, match="TLS was asked for, and the server doesn't offer it"):
            await call()
    await app.close()


async def test_a_certificate_that_is_not_there(app: MyApp, server: Server) -> None:
    with pytest.raises(SourceError, match="a certificate of the database URL can't be read"):
        await app.source(TABLES, url=url(server, "ssl_ca=/nowhere/crt")).begin()


async def test_a_socket(app: MyApp, server: Server) -> None:
    socket = server.directory / "s"
    address = f"mysql://odd:{quote(PASSWORD, safe='')}@localhost/shop?unix_socket={quote(str(socket))}"
    kept = await app.follow(TABLES, url=address)
    await app.run("INSERT INTO one VALUES (2, 'b')")
    assert await kept.agrees() == {"a", "b"}


async def test_a_cancelled_call_leaves_nothing_behind(app: MyApp, server: Server) -> None:
    kept = await app.follow(TABLES)
    for seconds in (0.0, 0.005, 0.02, 0.05, 0.1):
        with anyio.move_on_after(seconds):
            await kept.follow()
    await kept.begin()
    assert await kept.agrees() == {"a"}
    await kept.source.aclose()
    await app.session.close()
    with anyio.fail_after(30):
        left = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = 'shop'"
        while server.admin(left) != "0":  # noqa: ASYNC110 - the server has no event
            await anyio.sleep(0.1)
