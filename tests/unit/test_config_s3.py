"""The settings of the S3 client, from each place that they may come from, to the client."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from s3gc.clock import SystemClock
from s3gc.config import create_config, create_config_from_env, load_config
from s3gc.config._s3 import SETTINGS
from s3gc.errors import ConfigError
from s3gc.stores import s3 as stores

ALL = {
    "profile": "p",
    "addressing": "path",
    "ca_bundle": "/etc/ca.pem",
    "request_payer": "requester",
    "expected_bucket_owner": "111122223333",
    "encryption": "bucket",
    "acl": "keep",
    "listers": "4",
}


def test_every_setting_comes_from_code_file_and_environment(tmp_path: Path) -> None:
    assert set(ALL) == set(SETTINGS)
    code = create_config("my-bucket", s3=ALL)
    lines = "".join(f'{name} = "{value}"\n' for name, value in ALL.items())
    (tmp_path / "s3gc.toml").write_text(f'bucket = "my-bucket"\n[s3]\n{lines}')
    file = load_config(tmp_path / "s3gc.toml")
    text = "; ".join(f"{name}={value}" for name, value in ALL.items())
    environment = create_config_from_env(environ={"S3_BUCKET": "my-bucket", "S3GC_S3": text})
    assert code.s3 == file.s3 == environment.s3 == ALL
    assert hash(code.s3) == hash(environment.s3)
    assert code.redacted()["s3"] == ALL
    assert code.digest == create_config("my-bucket").digest


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"payer": "requester"}, "unknown setting of s3 'payer'"),
        ({"request_payer": "me"}, "request_payer must be 'requester'"),
        ({"expected_bucket_owner": 111122223333}, "12 digits"),
        ({"expected_bucket_owner": "1"}, "12 digits"),
        ({"acl": ""}, "acl"),
        ({"encryption": "none"}, "'keep' or 'bucket'"),
        ({"profile": " "}, "profile"),
        ({"listers": 0}, "listers must be a number from 1 to 256, got 0"),
        ({"listers": 257}, "listers"),
        ({"listers": True}, "listers"),
        ({"listers": 1.0}, "listers"),
        ({"listers": "many"}, "listers"),
        ({"listers": ""}, "listers"),
        (["acl"], "must map"),
    ],
)
def test_what_means_nothing_is_refused(settings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        create_config("my-bucket", s3=settings)


def test_a_number_may_be_one_or_a_text(tmp_path: Path) -> None:
    (tmp_path / "s3gc.toml").write_text('bucket = "my-bucket"\n[s3]\nlisters = 1\n')
    assert load_config(tmp_path / "s3gc.toml").s3 == {"listers": "1"}
    assert create_config("my-bucket", s3={"listers": 1}).s3 == {"listers": "1"}  # type: ignore[dict-item]
    assert stores.S3Store("my-bucket", listers=1)._options.listers == 1


@pytest.mark.parametrize("text", ["acl", "acl=keep; acl=keep", "=x"])
def test_a_malformed_variable_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        create_config_from_env(environ={"S3_BUCKET": "my-bucket", "S3GC_S3": text})


@pytest.mark.parametrize("bucket", ["memory://x", "file:///tmp/x"])
def test_settings_belong_to_s3(bucket: str) -> None:
    with pytest.raises(ConfigError, match="s3 is for S3"):
        create_config(bucket, s3={"acl": "keep"})


@pytest.mark.parametrize(("region", "adopts"), [({}, True), ({"region": "eu-west-1"}, False)])
def test_they_reach_the_client(
    monkeypatch: pytest.MonkeyPatch, region: Mapping[str, str], adopts: bool
) -> None:
    from s3gc._defaults import s3gc_open_store

    given: dict[str, Any] = {}

    class Store:
        def __init__(self, bucket: str, **options: Any) -> None:
            given.update(options, bucket=bucket)

    monkeypatch.setattr(stores, "S3Store", Store)
    config = create_config("my-bucket", s3=ALL, **region)  # type: ignore[arg-type]
    s3gc_open_store(config.store_url, config, SystemClock())
    assert {**ALL, "listers": 4}.items() <= given.items()
    assert given["bucket"] == "my-bucket"
    assert given["adopt_region"] is adopts
