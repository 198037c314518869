"""The configuration in code: names, defaults, refusals, digest."""

from __future__ import annotations

import inspect
import pickle
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

from s3gc.config import OPTIONS, Config, create_config
from s3gc.errors import ConfigError
from s3gc.model import Mode
from s3gc.safety import Safety

POSTGRES = "postgresql://app@db.internal/app"
MYSQL = "mysql://app@db.internal/app"


def test_defaults_are_those_that_users_were_promised() -> None:
    config = create_config(bucket="my-bucket")
    assert config.region == "us-east-1"
    assert config.tables == {}
    assert config.mode is Mode.DRY_RUN
    assert config.retention_days == 7
    assert config.exclude_prefixes == ()
    assert config.vault_path == "./s3gc_vault"
    assert config.cdc_backend is None
    assert config.cdc_connection_url is None
    assert config.schedule_cron is None
    assert config.safety == Safety.full()
    assert config.compression == "fast"
    assert config.store_url == "s3://my-bucket"
    assert config.registry_location == "s3gc_vault/registry.sqlite3"


def test_every_option_is_described_once_and_create_config_takes_exactly_these() -> None:
    names = [option.name for option in OPTIONS]
    assert len(names) == len(set(names))
    assert set(names) == {field.name for field in attrs.fields(Config)}
    parameters = inspect.signature(create_config).parameters
    assert set(names) == {name for name, each in parameters.items() if each.kind is not each.VAR_KEYWORD}
    for option in OPTIONS:
        assert option.type
        assert option.help.endswith(".")
        assert "\n" not in option.help


def test_the_signature_shows_the_real_defaults() -> None:
    signature = inspect.signature(create_config)
    standard = Config(bucket="my-bucket")
    for option in OPTIONS:
        shown = signature.parameters[option.name].default
        if option.name not in (
            "bucket",
            "tables",
            "folders",
            "derived",
            "s3",
            "vault_retention_by_prefix",
            "safety",
        ):  # required; None stands for {} and Safety.full()
            assert getattr(Config(bucket="my-bucket", **{option.name: shown}), option.name) == getattr(
                standard, option.name
            )


def test_no_environment_variable_serves_two_options() -> None:
    variables = [option.env for option in OPTIONS if option.env]
    assert len(variables) == len(set(variables))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"bucket is required"),
        ({"bukcet": "x"}, r"unknown option 'bukcet': did you mean 'bucket'"),
        ({"bucket": "b-1", "exclude_prefix": []}, r"did you mean 'exclude_prefixes'"),
        ({"bucket": "b-1", "execute": True}, r"did you mean 'mode'"),
        ({"bucket": "b-1", "dsn": "x"}, r"did you mean 'database_url'"),
        ({"bucket": ""}, r"bucket must be a text that isn't empty"),
        ({"bucket": None}, r"bucket must be a text"),
        ({"bucket": "ab"}, r"3 to 63"),
        ({"bucket": "a" * 64}, r"3 to 63"),
        ({"bucket": "My-Bucket"}, r"S3's naming rules"),
        ({"bucket": "my_bucket"}, r"S3's naming rules"),
        ({"bucket": "-bucket"}, r"S3's naming rules"),
        ({"bucket": "bucket-"}, r"S3's naming rules"),
        ({"bucket": "my..bucket"}, r"two dots"),
        ({"bucket": "192.168.5.4"}, r"IP address"),
        ({"bucket": "xn--bucket"}, r"reserved"),
        ({"bucket": "point-s3alias"}, r"alias"),
        ({"bucket": "bucket--use1-az4--x-s3"}, r"reserved"),
        ({"bucket": "arn:aws:s3:::bucket"}, r"S3's naming rules"),
        ({"bucket": "bucket\n"}, r"S3's naming rules"),
        ({"bucket": "s3://bucket/images"}, r"nothing after the name.*exclude_prefixes"),
        ({"bucket": "s3://"}, r"s3://NAME"),
        ({"bucket": "file://relative"}, r"absolute path"),
        ({"bucket": "https://my-bucket.s3.amazonaws.com"}, r"endpoint_url"),
        ({"bucket": "b-1", "region": "us east"}, r"region must be a name"),
        ({"bucket": "b-1", "tables": ["users"]}, r'tables=\{"users"'),
        ({"bucket": "b-1", "tables": {"users": "avatar"}}, r"tables=\{'users': \['avatar'\]\}"),
        ({"bucket": "b-1", "tables": {"users": []}}, r"users has no columns"),
        ({"bucket": "b-1", "tables": {"users": [""]}}, r"isn't empty"),
        ({"bucket": "b-1", "tables": {"": ["a"]}}, r"table's name"),
        ({"bucket": "b-1", "tables": {"users": 3}}, r"list of columns"),
        ({"bucket": "b-1", "tables": {"public": {"users": ["a"]}}}, r'"public\.users" ='),
        ({"bucket": "b-1", "mode": "exceute"}, r"did you mean 'execute'"),
        ({"bucket": "b-1", "mode": "dry-run"}, r"did you mean 'dry_run'"),
        ({"bucket": "b-1", "mode": None}, r"mode must be one of"),
        ({"bucket": "b-1", "retention_days": -1}, r"between 0 and"),
        ({"bucket": "b-1", "retention_days": float("nan")}, r"between 0 and"),
        ({"bucket": "b-1", "retention_days": float("inf")}, r"between 0 and"),
        ({"bucket": "b-1", "retention_days": 10**9}, r"between 0 and"),
        ({"bucket": "b-1", "retention_days": "7"}, r"number of days.*retention_days=7"),
        ({"bucket": "b-1", "retention_days": True}, r"number of days"),
        ({"bucket": "b-1", "exclude_prefixes": "backups/"}, r"exclude_prefixes=\['backups/'\]"),
        ({"bucket": "b-1", "exclude_prefixes": [""]}, r"isn't empty"),
        ({"bucket": "b-1", "exclude_prefixes": [3]}, r"must be a text"),
        ({"bucket": "b-1", "vault_path": 3}, r"vault_path must be a folder"),
        ({"bucket": "b-1", "vault_path": ""}, r"vault_path must be a text"),
        ({"bucket": "b-1", "vault_path": "s3://vault"}, r"registry_url must say"),
        ({"bucket": "b-1", "schedule_cron": "0 3 * *"}, r'"HH:MM"'),
        ({"bucket": "b-1", "schedule_cron": "0  3 * * *"}, r'"HH:MM"'),
        ({"bucket": "b-1", "admin_keys": "a:viewer:k"}, r"must be a list of texts"),
        ({"bucket": "b-1", "admin_keys": ["a:viewer"]}, r"item 1 isn't name:role:key"),
        ({"bucket": "b-1", "admin_keys": ["a:viewer:x", "b:root:hunter22"]}, r"item 2 isn't name:role:key"),
        ({"bucket": "b-1", "admin_keys": ["a:viewer:x", "a:operator:y"]}, r"two keys are named a"),
        ({"bucket": "b-1", "admin_keys": [7]}, r"item 1 isn't"),
        ({"bucket": "b-1", "schedule_cron": "24:00"}, r'"HH:MM"'),
        ({"bucket": "b-1", "schedule_cron": "3:30"}, r'"HH:MM"'),
        ({"bucket": "b-1", "schedule_cron": "03:30\n"}, r'"HH:MM"'),
        ({"bucket": "b-1", "safety": "none"}, r"safety=Safety\.none\(\)"),
        ({"bucket": "b-1", "safety": 3}, r"safety=Safety\.full\(\)"),
        ({"bucket": "b-1", "compression": "Z std"}, r"codec"),
        ({"bucket": "b-1", "database_url": "app"}, r"database_url must be a URL"),
        ({"bucket": "b-1", "database_url": ""}, r"database_url must be a text"),
        ({"bucket": "b-1", "endpoint_url": "localhost:9000"}, r"endpoint_url must be a URL"),
        ({"bucket": "b-1", "endpoint_url": "https://"}, r"endpoint_url"),
        ({"bucket": "b-1", "endpoint_url": "https://key:hunter22@host"}, r"credentials come from"),
        ({"bucket": "b-1", "endpoint_url": "https://host:port"}, r"not a valid URL"),
        ({"bucket": "file:///data", "endpoint_url": "https://host"}, r"endpoint_url is for S3"),
        ({"bucket": "b-1", "base_urls": "https://cdn.example.com"}, r"base_urls must be a list"),
        ({"bucket": "b-1", "base_urls": ["cdn.example.com"]}, r"base_urls: each item must be a URL"),
        ({"bucket": "b-1", "sources": "lines:///keys"}, r"sources must be a list"),
        ({"bucket": "b-1", "sources": ["keys.txt"]}, r"sources: each item must be a URL"),
        ({"bucket": "b-1", "replicas": ["/backups"]}, r"replicas: each item must be a URL"),
        ({"bucket": "b-1", "replica_keys": "env:secret=="}, r"name of a variable$"),
        ({"bucket": "b-1", "cdc_backend": "postgres"}, r"needs cdc_connection_url"),
        ({"bucket": "b-1", "cdc_backend": "pg", "cdc_connection_url": POSTGRES}, r"did you mean 'postgres'"),
        ({"bucket": "b-1", "cdc_connection_url": POSTGRES}, r"needs cdc_backend='postgres'"),
        (
            {"bucket": "b-1", "cdc_backend": "mysql", "cdc_connection_url": POSTGRES},
            r"cdc_connection_url is a postgres",
        ),
        (
            {"bucket": "b-1", "cdc_backend": "mysql", "cdc_connection_url": MYSQL, "database_url": POSTGRES},
            r"database_url is a postgres URL and cdc_backend is 'mysql'",
        ),
        (
            {
                "bucket": "b-1",
                "cdc_backend": "postgres",
                "cdc_connection_url": POSTGRES,
                "database_url": "postgresql://app@db.internal/other",
            },
            r"different databases",
        ),
        ({"bucket": "b-1", "database_url": "sqlite:///a\0b"}, r"NUL"),
        ({"bucket": "b-1", "endpoint_url": "https://:9000"}, r"names no host"),
        ({"bucket": "b-1", "vault_path": "acme://"}, r"names no place"),
        ({"bucket": "b-1", "vault_path": "file://relative"}, r"absolute path"),
        ({"bucket": "b-1", "admin_api_key": ""}, r"admin_api_key must be a text"),
    ],
)
def test_bad_options_are_refused_with_the_fix(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_config(**options)


@pytest.mark.parametrize("name", ["abc", "my.bucket.1", "a" * 63, "0bucket0"])
def test_good_bucket_names(name: str) -> None:
    assert create_config(name).store_url == f"s3://{name}"


@pytest.mark.parametrize("url", ["s3://Legacy_Name", "file:///srv/files", "memory://test", "gs://other"])
def test_a_url_is_a_bucket_too(url: str) -> None:
    assert create_config(url).store_url == url


def test_values_are_stored_immutable() -> None:
    tables = {"users": ["avatar", "avatar", "cover"]}
    config = create_config("my-bucket", tables=tables, exclude_prefixes=["a/", "b*"])
    tables["users"].append("late")
    tables["posts"] = ["body"]
    assert config.tables == {"users": ("avatar", "cover")}
    assert config.exclude_prefixes == ("a/", "b*")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        config.mode = Mode.EXECUTE  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.tables["users"] = ()  # type: ignore[index]
    assert hash(config) == hash(pickle.loads(pickle.dumps(config)))
    assert config == pickle.loads(pickle.dumps(config))


def test_a_pooler_and_a_direct_line_to_one_database_are_no_contradiction() -> None:
    config = create_config(
        "my-bucket",
        database_url="postgresql+asyncpg://app:a@pooler:6432/app?x=1",
        cdc_backend="postgres",
        cdc_connection_url="postgresql://cdc:b@db:5432/app",
    )
    assert config.cdc_backend == "postgres"


def test_a_file_url_is_a_local_vault() -> None:
    assert create_config("my-bucket", vault_path="file:///srv/my%20vault").vault_path == "/srv/my vault"


@pytest.mark.parametrize("path", ["vault", Path("vault")])
def test_the_vault_path_is_text_or_path(path: str | Path) -> None:
    config = create_config("my-bucket", vault_path=path)
    assert config.vault_path == "vault"
    assert config.registry_location == "vault/registry.sqlite3"


def test_the_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert create_config("my-bucket", vault_path="~/vault").vault_path == "/home/someone/vault"


def test_retention_may_be_a_part_of_a_day() -> None:
    assert create_config("my-bucket", retention_days=0.5).retention == timedelta(hours=12)


# ---------------------------------------------------------------------------------------------- digest


def digest(**options: Any) -> str:
    standard: dict[str, Any] = {
        "bucket": "my-bucket",
        "database_url": "postgresql://app:old@db.internal:5432/app?sslmode=require",
        "tables": {"users": ["avatar", "cover"], "posts": ["body"]},
    }
    return create_config(**{**standard, **options}).digest


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "execute"},
        {"vault_path": "elsewhere"},
        {"registry_url": "sqlite:///elsewhere"},
        {"compression": "none"},
        {"schedule_cron": "03:30"},
        {"admin_api_key": "hunter22"},
        {"retention_days": 7.0},
        {"bucket": "s3://my-bucket/"},
        {"tables": {"posts": ["body"], "users": ["cover", "avatar"]}},
        {"database_url": "postgresql://app:new@db.internal:5432/app?sslmode=require"},
        {"database_url": "postgresql://app:n/e?w@db.internal:5432/app?sslmode=require"},
        {"database_url": "postgresql://app@db.internal:5432/app?sslmode=require"},
        {"database_url": "postgresql://app@db.internal:5432/app?password=new&sslmode=require"},
    ],
)
def test_the_digest_ignores_what_does_not_decide(options: dict[str, Any]) -> None:
    assert digest(**options) == digest()


@pytest.mark.parametrize(
    "options",
    [
        {"bucket": "other-bucket"},
        {"region": "eu-west-1"},
        {"endpoint_url": "https://s3.example.com"},
        {"tables": {"users": ["avatar"], "posts": ["body"]}},
        {"database_url": "postgresql://app:old@db.other:5432/app?sslmode=require"},
        {"database_url": "postgresql://app:old@db.internal:5433/app?sslmode=require"},
        {"database_url": "postgresql://app:old@db.internal:5432/other?sslmode=require"},
        {"database_url": "postgresql://reader:old@db.internal:5432/app?sslmode=require"},
        {"cdc_backend": "postgres", "cdc_connection_url": POSTGRES},
        {"sources": ["lines:///keys"]},
        {"base_urls": ["https://cdn.example.com"]},
        {"retention_days": 8},
        {"exclude_prefixes": ["a/"]},
        {"safety": Safety.none()},
        {"safety": Safety.full().but(grace=timedelta(days=4))},
    ],
)
def test_the_digest_changes_with_what_decides(options: dict[str, Any]) -> None:
    assert digest(**options) != digest()


def test_the_digest_is_a_sha256_and_stable() -> None:
    # Pinned: plans and journals of earlier releases hold it.
    assert create_config("my-bucket").digest == digest(database_url=None, tables={})
    assert len(digest()) == 64
    assert int(digest(), 16) >= 0
