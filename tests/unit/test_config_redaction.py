"""No secret in a repr, an error, or anything for showing."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc.config import create_config, create_config_from_env
from s3gc.config._redact import identity, redact, scrub
from s3gc.errors import ConfigError

SECRET = "hunter22"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://app:hunter22@host:5432/db", "postgresql://app:***@host:5432/db"),
        (
            "postgresql+asyncpg://app:hunter22@host/db?sslmode=require",
            "postgresql+asyncpg://app:***@host/db?sslmode=require",
        ),
        ("postgresql://app@host/db", "postgresql://app@host/db"),
        ("postgresql://:hunter22@host/db", "postgresql://:***@host/db"),
        ("postgresql:///db?host=/run&password=hunter22", "postgresql:///db?host=/run&password=***"),
        ("postgresql:///db?user=app&PassWord=hunter22&x=1", "postgresql:///db?user=app&PassWord=***&x=1"),
        ("postgresql://host/db?pass%77ord=hunter22", "postgresql://host/db?pass%77ord=***"),
        ("postgresql://app:hunter22@h1,h2/db", "postgresql://app:***@h1,h2/db"),
        ("postgresql://app:hun@ter22@host/db", "postgresql://app:***@host/db"),
        ("postgresql://app:hun/ter22@host/db", "postgresql://app:***@host/db"),
        ("postgresql://app:hun#ter22@host/db", "postgresql://app:***@host/db"),
        ("postgresql://app:hun?ter22@host/db", "postgresql://app:***@host/db"),
        ("postgresql://app:12/34@host/db", "postgresql://app:***@host/db"),
        ("mysql://app@tenant:hunter22@host/db", "mysql://app@tenant:***@host/db"),
        ("mysql://h/d?proxy=http%3A%2F%2Fu%3Ahunter22%40p", "mysql://h/d?proxy=***"),
        ("mssql://h/d?odbc_connect=UID%3Dsa%3BPWD%3Dhunter22", "mssql://h/d?odbc_connect=***"),
        ("cms://h/d?token=hun&ter22&x=1", "cms://h/d?token=***&***&x=1"),
        ("https://hunter22@host/feed", "https://***@host/feed"),
        ("https://h/o?X-Amz-Signature=hunter22&X-Amz-Date=1", "https://h/o?X-Amz-Signature=***&X-Amz-Date=1"),
        ("sqlite:///app.db", "sqlite:///app.db"),
        ("hunter22", "***"),
        ("app:hunter22@host/db", "***"),
        ("", ""),
    ],
)
def test_redact(url: str, shown: str) -> None:
    assert redact(url) == shown
    assert SECRET not in redact(url)


def test_identity_keeps_all_but_secrets() -> None:
    url = "postgresql://app:{}@host:5432/db?sslmode=require&password={}"
    (same,) = {identity(url.format(secret, secret)) for secret in ("a", "b%40", "c/d", "12")}
    assert all(part in same for part in ("app", "host:5432", "/db", "sslmode=require"))


CONFIG = create_config(
    bucket="my-bucket",
    database_url="postgresql://app:hunter%4022@host/app?sslpassword=sslhunter",
    sources=["cms://reader:cmshunter@cms/x"],
    replicas=["s3://user:replicahunter@backups/x"],
    cdc_backend="postgres",
    cdc_connection_url="postgresql://app:cdchunter@host/app",
    registry_url="sqlite:///r?token=reghunter",
    vault_path="vault://u:vaulthunter@v",
    admin_api_key="adminhunter",
    admin_keys=["a:viewer:viewerhunter"],
)


@pytest.mark.parametrize("show", [repr, str, lambda c: json.dumps(c.redacted()), "{}".format, "{0!r}".format])
def test_nothing_shown_holds_a_secret(show: Any) -> None:
    text = show(CONFIG)
    assert "hunter" not in text
    assert "postgresql://app:***@host/app" in text
    assert "cms://reader:***@cms/x" in text


def test_redacted_is_json_and_complete() -> None:
    shown = json.loads(json.dumps(create_config("my-bucket", tables={"users": ["a"]}).redacted()))
    assert shown["bucket"] == "my-bucket"
    assert shown["tables"] == {"users": ["a"]}
    assert shown["mode"] == "dry_run"
    assert shown["safety"]["grace"] == 259_200
    assert shown["admin_api_key"] is None


@pytest.mark.parametrize(
    "text",
    [
        'password authentication failed: "postgresql://app:hunter%4022@host/app?sslpassword=sslhunter"',
        "tried hunter@22 and hunter%4022, gave up",
        "sslpassword=sslhunter",
        "cmshunter",
        "X-Key: adminhunter;",
        "vault://u:vaulthunter@v",
        "reghunter",
        "{'password': 'cdchunter'}",
    ],
)
def test_scrub_takes_secrets_out_of_errors(text: str) -> None:
    assert "hunter" not in scrub(text, CONFIG)


def test_scrub_leaves_the_rest() -> None:
    assert scrub("relation users does not exist", CONFIG) == "relation users does not exist"
    assert scrub("anything at all", create_config("my-bucket")) == "anything at all"
    short = create_config("my-bucket", database_url="postgresql://app:app@host/app")
    assert scrub("could not apply application_name", short) == "could not apply application_name"
    assert scrub("bad password 'app'", short) == "bad password '***'"


@pytest.mark.parametrize(
    "options",
    [
        {"bucket": "s3://u:hunter22@x/y"},
        {"bucket": "http://u:hunter22@x"},
        {"bucket": "u:hunter22@x"},
        {"database_url": "u:hunter22@x"},
        {"database_url": "hunter22"},
        {"endpoint_url": "https://u:hunter22@x"},
        {"endpoint_url": "ftp://u:hunter22@x"},
        {"base_urls": ["https://u:hunter22@x"]},
        {"sources": ["u:hunter22@x"]},
        {"registry_url": "u:hunter22@x"},
        {"vault_path": "s3://u:hunter22@x"},
        {"cdc_backend": "postgresql://u:hunter22@x"},
        {"cdc_connection_url": "postgresql://u:hunter22@x"},
        {"mode": "postgresql://u:hunter22@x"},
        {"region": "postgresql://u: hunter22@x"},
        {"schedule_cron": "postgresql://u:hunter22@x"},
        {"compression": "postgresql://u:hunter22@x"},
        {"exclude_prefixes": "postgresql://u:hunter22@x"},
        {"tables": {"users": "postgresql://u:hunter22@x"}},
        {"safety": "hunter22"},
        {"admin_api_key": ["hunter22"]},
    ],
)
def test_errors_hold_no_secret(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        create_config(**{"bucket": "my-bucket", **options})
    assert SECRET not in str(caught.value)


def test_errors_of_the_environment_hold_no_secret() -> None:
    for name in ("S3GC_EXECUTE_MODE", "S3GC_RETENTION_DAYS", "S3GC_MODE", "S3GC_CDC_BACKEND"):
        with pytest.raises(ConfigError) as caught:
            create_config_from_env(environ={"S3_BUCKET": "my-bucket", name: "postgresql://u:hunter22@x;"})
        assert SECRET not in str(caught.value)


# Characters that no other part of the URLs below holds.
RAW = st.text("xyzXYZ789%+/?#@:&= ~'\"\\äß€", min_size=4, max_size=12).filter(
    lambda s: any(c.isalnum() for c in s)
)


@given(RAW)
def test_no_password_shows_however_it_is_written(password: str) -> None:
    for written in (password, quote(password), quote(password, safe=""), quote_plus(password)):
        url = f"postgresql://app:{written}@host/db"
        assert redact(url) == "postgresql://app:***@host/db"


@given(RAW)
def test_no_secret_parameter_shows_however_it_is_written(secret: str) -> None:
    written = quote(secret, safe="")
    assert redact(f"cms://host/db?a=1&api_key={written}&b=2") == "cms://host/db?a=1&api_key=***&b=2"


@given(RAW, st.sampled_from([str, quote, quote_plus, lambda s: quote(s, safe=""), lambda s: repr(s)[1:-1]]))
def test_scrub_finds_a_password_however_a_driver_writes_it(password: str, driver: Any) -> None:
    config = create_config("my-bucket", database_url=f"postgresql://app:{quote(password, safe='')}@host/db")
    text = scrub(f"could not connect <{driver(password)}> to host", config)
    assert text == "could not connect <***> to host"


@given(RAW, RAW)
def test_a_rotated_password_keeps_the_digest(old: str, new: str) -> None:
    def digest(password: str) -> str:
        url = f"postgresql://app:{quote(password, safe='')}@host/db"
        return create_config("my-bucket", database_url=url, admin_api_key=password).digest

    assert digest(old) == digest(new)
