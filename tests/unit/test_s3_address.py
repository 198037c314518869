"""Where a bucket is, what the store is called, and options that can't be."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3gc.errors import AccessDenied, ConfigError
from s3gc.stores.s3 import S3Options, S3Store
from s3gc.stores.s3._address import Addressing, locate
from s3gc.stores.s3._upload import part_size

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("bucket", "region", "endpoint", "addressing", "host", "base", "url"),
    [
        ("bkt", "eu-west-1", None, "auto", "bkt.s3.eu-west-1.amazonaws.com", "", "s3://bkt"),
        ("b.k.t", "eu-west-1", None, "auto", "s3.eu-west-1.amazonaws.com", "/b.k.t", "s3://b.k.t"),
        ("bkt", "eu-west-1", None, "path", "s3.eu-west-1.amazonaws.com", "/bkt", "s3://bkt"),
        ("bkt", "cn-north-1", None, "auto", "bkt.s3.cn-north-1.amazonaws.com.cn", "", "s3://bkt"),
        ("bkt", "x", "http://h:9000", "auto", "h:9000", "/bkt", "s3://bkt?endpoint=h:9000"),
        ("bkt", "x", "http://H:9000/", "auto", "h:9000", "/bkt", "s3://bkt?endpoint=h:9000"),
        ("bkt", "x", "https://h", "virtual", "bkt.h", "", "s3://bkt?endpoint=h:443"),
        ("bkt", "x", "https://h/s3/api", "auto", "h", "/s3/api/bkt", "s3://bkt?endpoint=h:443/s3/api"),
        ("bkt", "x", "http://[::1]:9000", "auto", "[::1]:9000", "/bkt", "s3://bkt?endpoint=[::1]:9000"),
    ],
)
def test_addresses(
    bucket: str, region: str, endpoint: str | None, addressing: Addressing, host: str, base: str, url: str
) -> None:
    found = locate(bucket, region=region, endpoint_url=endpoint, addressing=addressing)
    assert (found.host_header, found.base, found.identity) == (host, base, url)


@pytest.mark.parametrize("bucket", ["", "a/b", "..", ".", "bückét", "a b", "a?b"])
def test_bucket_names_that_are_none(bucket: str) -> None:
    with pytest.raises(ConfigError, match="bucket"):
        locate(bucket, region="x", endpoint_url="http://h", addressing="auto")


@pytest.mark.parametrize(
    "endpoint",
    [
        "h:9000",
        "ftp://h",
        "http://",
        "http://h?x",
        "http://h/#x",
        "http://h/a b",
        "http://h/../x/",
        "http://h:x",
    ],
)
def test_endpoints_that_are_none(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="endpoint_url"):
        locate("bkt", region="x", endpoint_url=endpoint, addressing="auto")


def test_credentials_in_an_endpoint_are_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        locate("bkt", region="x", endpoint_url="http://user:hush@h", addressing="auto")
    assert "hush" not in str(caught.value)


def test_a_bucket_that_can_be_no_host_name() -> None:
    with pytest.raises(ConfigError, match="path"):
        locate("b_t", region="x", endpoint_url=None, addressing="virtual")


def test_options_that_contradict() -> None:
    with pytest.raises(ConfigError, match="together"):
        S3Store("bkt", region="x", access_key="a")
    with pytest.raises(ConfigError, match="not both"):
        S3Store("bkt", region="x", access_key="a", secret_key="b", profile="p")
    with pytest.raises(ConfigError, match="max_connections"):
        S3Store("bkt", region="x", access_key="a", secret_key="b", max_connections=0)
    for wrong in (
        {"attempts": 0},
        {"first_read": 0},
        {"page_size": 1001},
        {"part_bytes": 1},
        {"deadline": 0.0},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            S3Options(**wrong)


def _no_aws(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))


def test_region_and_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _no_aws(monkeypatch, tmp_path)
    assert "us-east-1" in repr(S3Store("bkt", access_key="a", secret_key="b"))
    with pytest.raises(ConfigError, match="nobody"):
        S3Store("bkt", profile="nobody")
    (tmp_path / "config").write_text("[profile me]\nregion = eu-north-1\n")
    assert "eu-north-1" in repr(S3Store("bkt", profile="me"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "sa-east-1")
    assert "sa-east-1" in repr(S3Store("bkt", access_key="a", secret_key="b"))


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_no_credentials_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _no_aws(monkeypatch, tmp_path)
    store = S3Store("bkt", region="x", endpoint_url="http://127.0.0.1:9")
    with pytest.raises(AccessDenied, match="no credentials found"):
        await store.now()
    await store.aclose()


def test_parts_are_few_enough() -> None:
    tib = MIB * MIB
    assert part_size(100 * MIB, 16 * MIB) == 16 * MIB
    for size in (64 * MIB, 160_000 * MIB, 5 * tib):
        each = part_size(size, 16 * MIB)
        assert each % MIB == 0
        assert -(-size // each) <= 10_000
