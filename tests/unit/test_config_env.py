"""The configuration from environment variables."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc.config import OPTIONS, create_config, create_config_from_env
from s3gc.errors import ConfigError
from s3gc.model import Mode
from s3gc.safety import Safety

BUCKET = {"S3_BUCKET": "my-bucket"}
PROMISED = [
    "S3_BUCKET",
    "AWS_REGION",
    "DATABASE_URL",
    "S3GC_MODE",
    "S3GC_VAULT_PATH",
    "S3GC_RETENTION_DAYS",
    "S3GC_EXCLUDE_PREFIXES",
    "S3GC_SCHEDULE_CRON",
    "S3GC_CDC_BACKEND",
    "S3GC_ADMIN_API_KEY",
]


def from_env(**environ: str) -> Any:
    return create_config_from_env(environ={**BUCKET, **environ})


def test_every_promised_variable_is_an_option() -> None:
    assert set(PROMISED) <= {option.env for option in OPTIONS}


def test_all_variables_together() -> None:
    config = create_config_from_env(
        environ={
            "S3_BUCKET": "my-bucket",
            "AWS_REGION": "eu-west-1",
            "DATABASE_URL": "postgresql://app@host/app",
            "S3GC_MODE": "audit_only",
            "S3GC_VAULT_PATH": "/srv/vault",
            "S3GC_RETENTION_DAYS": "30",
            "S3GC_EXCLUDE_PREFIXES": "a/, b* ,",
            "S3GC_OWNED_PREFIXES": "app, tmp*",
            "S3GC_FOLDERS": "users:cover",
            "S3GC_DERIVED": "thumbs/{key}_200.jpg -> {key}.jpg; {key}.webp->{key};",
            "S3GC_SCHEDULE_CRON": "03:30",
            "S3GC_CDC_BACKEND": "postgres",
            "S3GC_ADMIN_API_KEY": "hunter22",
            "S3GC_ENDPOINT_URL": "https://s3.example.com",
            "S3GC_BASE_URLS": "https://cdn.example.com",
            "S3GC_TABLES": "users:avatar_url,cover; public.posts:body",
            "S3GC_SOURCES": "lines:///keys",
            "S3GC_REGISTRY_URL": "sqlite:///registry",
            "S3GC_COMPRESSION": "zstd",
            "S3GC_ADMIN_KEYS": "grafana:viewer:a:b, alice:operator:c",
            "HOME": "/root",
        }
    )
    assert config == create_config(
        bucket="my-bucket",
        region="eu-west-1",
        database_url="postgresql://app@host/app",
        mode="audit_only",
        vault_path="/srv/vault",
        retention_days=30,
        exclude_prefixes=["a/", "b*"],
        owned_prefixes=["app", "tmp*"],
        folders={"users": ["cover"]},
        derived={"thumbs/{key}_200.jpg": "{key}.jpg", "{key}.webp": "{key}"},
        schedule_cron="03:30",
        cdc_backend="postgres",
        cdc_connection_url="postgresql://app@host/app",
        admin_api_key="hunter22",
        admin_keys=["grafana:viewer:a:b", "alice:operator:c"],
        endpoint_url="https://s3.example.com",
        base_urls=["https://cdn.example.com"],
        tables={"users": ["avatar_url", "cover"], "public.posts": ["body"]},
        sources=["lines:///keys"],
        registry_url="sqlite:///registry",
        compression="zstd",
    )


def test_empty_variables_count_as_absent() -> None:
    assert from_env(S3GC_MODE="", AWS_REGION=" ", DATABASE_URL="") == create_config("my-bucket")


@pytest.mark.parametrize(
    ("environ", "mode"),
    [
        ({}, Mode.DRY_RUN),
        ({"S3GC_MODE": "EXECUTE"}, Mode.EXECUTE),
        ({"S3GC_EXECUTE_MODE": "true"}, Mode.EXECUTE),
        ({"S3GC_EXECUTE_MODE": "True"}, Mode.EXECUTE),
        ({"S3GC_EXECUTE_MODE": "false"}, Mode.DRY_RUN),
        ({"S3GC_EXECUTE_MODE": "true", "S3GC_MODE": "execute"}, Mode.EXECUTE),
        ({"S3GC_EXECUTE_MODE": "false", "S3GC_MODE": "dry_run"}, Mode.DRY_RUN),
        ({"S3GC_EXECUTE_MODE": "false", "S3GC_MODE": "audit_only"}, Mode.AUDIT_ONLY),
    ],
)
def test_mode(environ: dict[str, str], mode: Mode) -> None:
    assert from_env(**environ).mode is mode


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"S3_BUCKET": ""}, r"S3_BUCKET is not set"),
        ({"S3GC_RETENTON_DAYS": "3"}, r"did you mean 'S3GC_RETENTION_DAYS'"),
        ({"S3GC_BUCKET": "x"}, r"unknown environment variable 'S3GC_BUCKET'"),
        ({"S3GC_EXECUTE_MODE": "true", "S3GC_MODE": "dry_run"}, r"contradicts S3GC_MODE=dry_run"),
        ({"S3GC_EXECUTE_MODE": "false", "S3GC_MODE": "execute"}, r"contradicts S3GC_MODE=execute"),
        ({"S3GC_EXECUTE_MODE": "yess"}, r"true or false"),
        ({"S3GC_MODE": "exceute"}, r"did you mean 'execute'"),
        ({"S3GC_RETENTION_DAYS": "a week"}, r"S3GC_RETENTION_DAYS must be a number"),
        ({"S3GC_RETENTION_DAYS": "-1"}, r"retention_days must be between"),
        ({"S3GC_RETENTION_DAYS": "nan"}, r"retention_days must be between"),
        ({"S3GC_TABLES": "users"}, r"users:avatar_url,cover;posts:body, got 'users'"),
        ({"S3GC_TABLES": "users:"}, r"users:avatar_url,cover;posts:body"),
        ({"S3GC_FOLDERS": "albums"}, r"S3GC_FOLDERS must look like users:avatar_url"),
        ({"S3GC_FOLDERS": "albums:path"}, r"folders: albums\.path isn't in tables"),
        ({"S3GC_DERIVED": "thumbs/{key}"}, r"S3GC_DERIVED must look like .* got 'thumbs/\{key\}'"),
        ({"S3GC_DERIVED": "thumbs/{key} -> "}, r"S3GC_DERIVED must look like"),
        ({"S3GC_OWNED_PREFIXES": "*"}, r"is the whole bucket"),
        ({"S3GC_CDC_BACKEND": "postgres"}, r"needs cdc_connection_url"),
        ({"S3GC_CDC_BACKEND": "mysql", "DATABASE_URL": "postgresql://h/d"}, r"cdc_backend is 'mysql'"),
        ({"S3GC_CDC_CONNECTION_URL": "mysql://h/d"}, r"needs cdc_backend='mysql'"),
    ],
)
def test_bad_variables_are_refused_with_the_fix(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_env(**environ)


def test_overrides_win() -> None:
    config = create_config_from_env(
        environ={**BUCKET, "S3GC_MODE": "execute"}, mode="dry_run", bucket="other", safety=Safety.none()
    )
    assert (config.mode, config.bucket, config.safety) == (Mode.DRY_RUN, "other", Safety.none())


def test_unknown_overrides_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'region'"):
        create_config_from_env(environ=BUCKET, regoin="x")


def test_tables_from_code_and_environment_must_agree() -> None:
    environ = {**BUCKET, "S3GC_TABLES": "users:b,a"}
    assert create_config_from_env({"users": ["a", "b"]}, environ).tables == {"users": ("a", "b")}
    with pytest.raises(ConfigError, match="one place only"):
        create_config_from_env({"users": ["a"]}, environ)


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_BUCKET", "from-process")
    assert create_config_from_env().bucket == "from-process"


NAMES = st.from_regex(r"[a-z_]{1,8}(\.[a-z_]{1,8})?", fullmatch=True)


@given(st.dictionaries(NAMES, st.lists(NAMES, min_size=1, max_size=3, unique=True), min_size=1, max_size=4))
def test_tables_round_trip(tables: dict[str, list[str]]) -> None:
    text = ";".join(f"{table}:{','.join(columns)}" for table, columns in tables.items())
    assert from_env(S3GC_TABLES=text).tables == {table: tuple(columns) for table, columns in tables.items()}
