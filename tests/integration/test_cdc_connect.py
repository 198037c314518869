"""Ways to a server: TLS that is verified, sockets, several hosts; nothing left of a cancelled call."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cdc_world import App
from fixtures_databases import Server, _demote, run_postgres
from s3gc.errors import SourceError

pytestmark = pytest.mark.anyio

TABLES = {"one": ["path"]}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def certificate(folder: Path) -> None:
    """A certificate of the server's own, for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key").write_bytes(private)
    (folder / "key").chmod(0o600)
    demote = _demote("postgres")
    if demote:
        for path in (folder, folder / "key"):
            os.chown(path, demote["user"], demote["group"])
        folder.chmod(0o755)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="s3gc-tls-", dir="/tmp") as name:
        certificate(Path(name))
        yield Path(name)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    settings = {"ssl": "on", "ssl_cert_file": folder / "crt", "ssl_key_file": folder / "key"}
    with run_postgres(**settings, unix_socket_directories=folder) as server:
        yield server


@pytest.fixture
async def app(server: Server) -> AsyncIterator[App]:
    app = App(f"postgresql://s3gc_admin:{server.password}@127.0.0.1:{server.port}/postgres")
    await app.run("CREATE TABLE one (id int PRIMARY KEY, path text)", "INSERT INTO one VALUES (1, 'a')")
    yield app
    for source in app._sources:
        await source.tear_down()
    await app.run("DROP TABLE one")
    await app.close()


async def test_tls_that_is_verified(app: App, server: Server, folder: Path) -> None:
    kept = await app.follow(TABLES, url=f"{app.url}?sslmode=verify-full&sslrootcert={folder}/crt")
    assert await kept.agrees() == {"a"}
    streams = (
        "SELECT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE backend_type = 'walsender'"
    )
    assert server.admin(streams) == "t"


async def test_a_server_that_is_not_the_one_it_should_be_is_refused(app: App) -> None:
    source = app.source(TABLES, url=f"{app.url}?sslmode=verify-full&sslrootcert={ssl_roots()}")
    with pytest.raises(SourceError, match="CERTIFICATE_VERIFY_FAILED"):
        await source.begin()
    app._sources.clear()
    await source.aclose()


def ssl_roots() -> str:
    """Certificates of others: the test's own is of none of them."""
    folder = Path(tempfile.mkdtemp(prefix="s3gc-roots-"))
    certificate(folder)
    assert ssl.create_default_context(cafile=str(folder / "crt"))
    return str(folder / "crt")


async def test_a_socket(app: App, server: Server, folder: Path) -> None:
    url = f"postgresql://s3gc_admin:{server.password}@/postgres?host={folder}&port={server.port}"
    kept = await app.follow(TABLES, url=url)
    await app.run("INSERT INTO one VALUES (2, 'b')")
    assert await kept.agrees() == {"a", "b"}


async def test_several_hosts(app: App, server: Server) -> None:
    """The first one is down."""
    url = (
        f"postgresql://s3gc_admin:{server.password}@/postgres?host=127.0.0.1,127.0.0.1"
        f"&port=1,{server.port}&target_session_attrs=read-write"
    )
    kept = await app.follow(TABLES, url=url)
    assert await kept.agrees() == {"a"}


async def test_a_cancelled_call_leaves_nothing_behind(app: App, server: Server) -> None:
    kept = await app.follow(TABLES)
    for seconds in (0.0, 0.005, 0.02, 0.05, 0.1):
        with anyio.move_on_after(seconds):
            await kept.follow()
    kept.rows = type(kept.rows)([])  # a batch may have been taken and not noted
    await kept.begin()
    assert await kept.agrees() == {"a"}
    await kept.source.aclose()
    with anyio.fail_after(30):
        left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 's3gc'"
        while server.admin(left) != "0":  # noqa: ASYNC110 - the server has no event
            await anyio.sleep(0.1)
