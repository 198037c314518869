"""Around the client: whose bucket, who pays, which region, proxy, certificate and credentials."""

# ruff: noqa: F401 - fixtures are imported and named again as arguments
from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fixtures_s3 import GOOD, NO_TAGS, FakeS3, RawHandler, RawRequest, RawServer, raw_answer, raw_server
from integration.test_store_s3_wire import botocore_authorization
from s3gc.errors import ConfigError, StoreError
from s3gc.model import ObjectAttributes, ObjectInfo
from s3gc.stores.s3 import S3Options, S3Store
from s3gc.stores.s3._pool import proxy_for
from s3gc.testing.keys import ODD_KEYS

pytestmark = pytest.mark.anyio

Start = Callable[[RawHandler], RawServer]
NONE = ObjectAttributes()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


# --------------------------------------------------------------------------- who pays, whose bucket


async def everything(store: S3Store) -> None:
    """Every kind of request once."""
    await store.probe()
    info = await store.put("k", b"hello", size=5, attributes=ObjectAttributes(tags={"a": "b"}))
    async for _ in store.list():
        pass
    await store.head("k")
    async with store.get("k") as reader:
        assert b"".join([chunk async for chunk in reader.chunks()]) == b"hello"
    await store.delete("k", if_match=info.etag)


async def test_payer_and_owner_go_with_every_request(raw_server: Start) -> None:
    server = raw_server(FakeS3())
    store = server.store(request_payer="requester", expected_bucket_owner="111122223333")
    await everything(store)
    assert {request.method for request in server.requests} >= {"GET", "HEAD", "PUT", "DELETE"}
    for request in server.requests:
        assert request.headers["x-amz-request-payer"] == "requester"
        assert request.headers["x-amz-expected-bucket-owner"] == "111122223333"
        assert request.headers["authorization"] == botocore_authorization(request)
    await store.aclose()
    server.requests.clear()
    store = server.store()
    await store.stat("k")
    assert not {"x-amz-request-payer", "x-amz-expected-bucket-owner"} & server.requests[0].headers.keys()
    await store.aclose()


@pytest.mark.parametrize(
    "wrong",
    [
        {"request_payer": "me"},
        {"expected_bucket_owner": "1111-2222-3333"},
        {"expected_bucket_owner": ""},
        {"encryption": "none"},
    ],
)
def test_options_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        S3Store("bkt", region="x", access_key="a", secret_key="b", **wrong)


# --------------------------------------------------------------------------- the region

ELSEWHERE = raw_answer(
    301, b"<Error><Code>PermanentRedirect</Code></Error>", {"x-amz-bucket-region": "eu-west-3"}
)
MALFORMED = raw_answer(
    400, b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-3</Region></Error>"
)


def in_region(name: str, otherwise: bytes) -> RawHandler:
    """A server that takes signatures of one region only."""

    def handler(request: RawRequest) -> bytes:
        if f"/{name}/s3/aws4_request" not in request.headers["authorization"]:
            return otherwise
        return NO_TAGS if request.query == "tagging" else GOOD

    return handler


@pytest.mark.parametrize(
    "otherwise", [ELSEWHERE, MALFORMED, raw_answer(400, b"", {"x-amz-bucket-region": "eu-west-3"})]
)
async def test_a_region_that_nobody_gave_is_learnt_once(
    raw_server: Start, otherwise: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = raw_server(in_region("eu-west-3", otherwise))
    store = server.store(region=None)
    with structlog.testing.capture_logs() as logs:
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(store.stat, "k")
    assert [(log["event"], log["region"]) for log in logs] == [("bucket_region_learnt", "eu-west-3")]
    assert "eu-west-3" in repr(store)
    server.requests.clear()
    assert (await store.stat("k")) is not None
    assert len(server.requests) == 1
    server.handler = in_region("eu-north-1", ELSEWHERE.replace(b"eu-west-3", b"eu-north-1"))
    with pytest.raises(StoreError, match="eu-north-1"):  # a bucket that moves is another one
        await store.stat("k")
    await store.aclose()


async def test_servers_that_name_each_other_are_not_followed_for_ever(raw_server: Start) -> None:
    back = ELSEWHERE.replace(b"eu-west-3", b"us-east-1")
    server = raw_server(
        lambda request: back if "/eu-west-3/s3" in request.headers["authorization"] else ELSEWHERE
    )
    store = server.store(region="us-east-1", adopt_region=True)
    for _ in range(2):
        with pytest.raises(StoreError, match="'us-east-1'"):
            await store.stat("k")
    assert "eu-west-3" in repr(store)
    await store.aclose()


async def test_a_region_that_was_given_is_kept(raw_server: Start) -> None:
    for options in ({}, {"region": None, "adopt_region": False}):
        store = raw_server(in_region("eu-west-3", ELSEWHERE)).store(**options)
        with pytest.raises(StoreError, match="'eu-west-3'"):
            await store.stat("k")
        await store.aclose()
    store = raw_server(in_region("eu-west-3", ELSEWHERE)).store(region="us-east-1", adopt_region=True)
    assert await store.stat("k") is not None
    await store.aclose()


@pytest.mark.parametrize("told", ["evil.example", "a/b", "", "eu-west-3\\", "-x", "x" * 64])
async def test_what_is_no_region_is_not_believed(raw_server: Start, told: str) -> None:
    answer = raw_answer(301, b"<Error><Code>PermanentRedirect</Code></Error>", {"x-amz-bucket-region": told})
    server = raw_server(lambda request: answer)
    store = server.store(region=None)
    with structlog.testing.capture_logs() as logs, pytest.raises(StoreError):
        await store.stat("k")
    assert logs == []
    await store.aclose()


async def test_a_bucket_that_answered_well_does_not_move(raw_server: Start) -> None:
    server = raw_server(in_region("us-east-1", ELSEWHERE))
    store = server.store(region=None, adopt_region=True)
    assert await store.stat("k") is not None
    server.handler = in_region("eu-west-3", ELSEWHERE)
    with pytest.raises(StoreError, match="'eu-west-3'"):
        await store.stat("k")
    await store.aclose()


def test_on_aws_the_host_moves_too() -> None:
    store = S3Store("bkt", region="us-east-1", access_key="a", secret_key="b", adopt_region=True)
    from s3gc.stores.s3._transport import Answer

    moved = store._relocated(Answer(301, {"x-amz-bucket-region": "eu-west-3"}, b""))
    assert moved is not None
    assert moved[0].host == "bkt.s3.eu-west-3.amazonaws.com"


# --------------------------------------------------------------------------- proxies


async def test_a_proxy_is_told_the_key_to_the_letter(
    raw_server: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeS3()
    origin = "http://s3.example.test:8080"

    def proxy(request: RawRequest) -> bytes:
        assert request.target.startswith(f"{origin}/bkt")
        return fake(RawRequest(request.method, request.target[len(origin) :], request.headers, request.body))

    server = raw_server(proxy)
    place = server.endpoint_url.removeprefix("http://")
    monkeypatch.setenv("http_proxy", f"http://me:s%40cret@{place}")
    store = server.store(endpoint_url=origin)
    for key in ODD_KEYS:
        await store.put(key, key.encode(), size=len(key.encode()), attributes=NONE)
        assert list(fake.objects) == [key]
        fake.objects.clear()
    # Small objects are read over connections of their own where there is no proxy; here they aren't.
    info = await store.put("small", b"x", size=1, attributes=NONE)
    server.requests.clear()
    assert not any([group async for group in store.get_small([info])])
    assert server.requests == []
    await store.stat("small")
    for request in server.requests:
        wanted = "Basic " + base64.b64encode(b"me:s@cret").decode()
        assert request.headers["proxy-authorization"] == wanted
        assert request.headers["host"] == "s3.example.test:8080"
        inner = RawRequest(request.method, request.target[len(origin) :], request.headers, request.body)
        assert request.headers["authorization"] == botocore_authorization(inner)
    await store.aclose()


async def test_small_reads_do_not_pass_by_the_proxy(
    raw_server: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeS3(objects={"k": (b"x", {})})
    direct, proxy = raw_server(fake), raw_server(lambda request: raw_answer(503))
    monkeypatch.setenv("http_proxy", proxy.endpoint_url)
    info = ObjectInfo("k", 1, fake.etag(b"x"), datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
    store = direct.store()
    assert not any([group async for group in store.get_small([info])])
    assert direct.requests == []
    await store.aclose()


async def test_no_proxy_for_those_that_are_left_out(
    raw_server: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = raw_server(FakeS3())
    store = server.store()
    await store.stat("k")
    assert server.requests[0].target == "/bkt/k"
    await store.aclose()


async def test_a_proxy_that_is_not_there_was_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", f"http://me:hush@127.0.0.1:{port}")
        store = S3Store(
            "bkt",
            region="x",
            endpoint_url=f"{scheme}://s3.example.test",
            access_key="a",
            secret_key="b",
            options=S3Options(attempts=2, backoff_first=0.001),
        )
        with pytest.raises(StoreError, match="no answer") as caught:
            await store.put("k", b"x", size=1, attributes=NONE)
        assert not caught.value.outcome_unknown
        assert "hush" not in f"{caught.value!r} {caught.value.__cause__!r} {store!r}"
        await store.aclose()


@pytest.mark.parametrize("proxy", ["socks5://me:hush@h:1", "http://", "http://me:hush@h:x", "https://h:443"])
def test_a_proxy_that_can_not_be_used_is_refused(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(ConfigError, match="HTTP_PROXY") as caught:
        S3Store("bkt", region="x", endpoint_url="http://s3.example.test", access_key="a", secret_key="b")
    assert "hush" not in str(caught.value)


# --------------------------------------------------------------------------- TLS: a CA of one's own, a tunnel


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for s3.example.test and 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "s3.example.test")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("s3.example.test"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"


class Front:
    """Takes connections, does what is needed before HTTP, and passes bytes on to a raw server."""

    def __init__(self, behind: RawServer, certificate: tuple[Path, Path], *, tunnel: bool) -> None:
        self.asked: list[bytes] = []
        self._behind = int(behind.endpoint_url.rpartition(":")[2])
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(*certificate)
        self._tunnel = tunnel
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._tunnel:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += connection.recv(1)
                self.asked.append(head)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            inside = self._tls.wrap_socket(connection, server_side=True)
            behind = socket.create_connection(("127.0.0.1", self._behind))
            threading.Thread(target=self._copy, args=(behind, inside), daemon=True).start()
            self._copy(inside, behind)

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)


@pytest.fixture
def front(certificate: tuple[Path, Path]) -> Iterator[Callable[[RawServer, bool], Front]]:
    made: list[Front] = []

    def start(behind: RawServer, tunnel: bool) -> Front:
        made.append(Front(behind, certificate, tunnel=tunnel))
        return made[-1]

    yield start
    for each in made:
        each.close()


async def test_a_certificate_is_checked_against_the_given_bundle(
    raw_server: Start, front: Callable[[RawServer, bool], Front], certificate: tuple[Path, Path]
) -> None:
    server = raw_server(FakeS3())
    endpoint = f"https://127.0.0.1:{front(server, False).port}"
    store = server.store(endpoint_url=endpoint, ca_bundle=str(certificate[0]))
    await store.stat("k")
    await store.aclose()
    store = server.store(endpoint_url=endpoint)
    with pytest.raises(StoreError, match="no trusted connection"):
        await store.stat("k")
    await store.aclose()


async def test_small_objects_are_read_over_tls_and_only_from_whom_we_trust(
    raw_server: Start, front: Callable[[RawServer, bool], Front], certificate: tuple[Path, Path]
) -> None:
    fake = FakeS3()
    server = raw_server(fake)
    endpoint = f"https://127.0.0.1:{front(server, False).port}"
    store = server.store(endpoint_url=endpoint, ca_bundle=str(certificate[0]))
    bodies = {f"k{size}": bytes(size) for size in (0, 1, 16_384, 100_000, 131_072)}
    infos = [
        await store.put(key, body, size=len(body), attributes=ObjectAttributes())
        for key, body in bodies.items()
    ]
    for _ in range(2):
        found = {one.listed.key: one.data async for group in store.get_small(infos) for one in group}
        assert found == bodies
    await store.aclose()
    server.requests.clear()
    for untrusted in (
        server.store(endpoint_url=endpoint),
        server.store(endpoint_url=endpoint.replace("127.0.0.1", "localhost"), ca_bundle=str(certificate[0])),
    ):
        assert [group async for group in untrusted.get_small(infos) if group] == []
        await untrusted.aclose()
    assert server.requests == []


async def test_https_goes_through_a_tunnel(
    raw_server: Start,
    front: Callable[[RawServer, bool], Front],
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeS3()
    server = raw_server(fake)
    proxy = front(server, True)
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{proxy.port}")
    store = server.store(endpoint_url="https://s3.example.test", ca_bundle=str(certificate[0]))
    for key in ODD_KEYS[:20]:
        await store.put(key, b"x", size=1, attributes=NONE)
        assert list(fake.objects) == [key]
        fake.objects.clear()
    assert proxy.asked
    for head in proxy.asked:
        assert head.startswith(b"CONNECT s3.example.test:443 ")
        assert base64.b64encode(b"me:secret") in head
    for request in server.requests:
        assert "proxy-authorization" not in request.headers
    await store.aclose()


# --------------------------------------------------------------------------- credentials


async def test_credentials_that_expire_are_renewed(
    raw_server: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A profile's credential_process gives a new key each time, which botocore asks for before it expires."""
    script = tmp_path / "keys.py"
    script.write_text(
        "import datetime, json, pathlib\n"
        f"count = pathlib.Path({str(tmp_path / 'count')!r})\n"
        "number = int(count.read_text()) + 1 if count.exists() else 1\n"
        "count.write_text(str(number))\n"
        "end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60)\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': f'KEY{number}', 'SecretAccessKey': 's',\n"
        "    'SessionToken': f'token{number}', 'Expiration': end.isoformat()}))\n"
    )
    (tmp_path / "config").write_text(f"[profile p]\ncredential_process = {sys.executable} {script}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    server = raw_server(FakeS3(objects={"k": (b"x", {})}))
    store = server.store(access_key=None, secret_key=None, profile="p")
    await store.stat("k")
    await store.stat("k")
    await store.aclose()
    keys = [
        request.headers["authorization"].split("Credential=")[1].split("/")[0] for request in server.requests
    ]
    tokens = [request.headers["x-amz-security-token"] for request in server.requests]
    assert len(set(keys)) == 2
    assert [f"token{key.removeprefix('KEY')}" for key in keys] == tokens


async def test_the_environments_certificates_are_trusted(
    raw_server: Start,
    front: Callable[[RawServer, bool], Front],
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[0]))
    server = raw_server(FakeS3())
    store = server.store(endpoint_url=f"https://127.0.0.1:{front(server, False).port}")
    await store.stat("k")
    await store.aclose()
