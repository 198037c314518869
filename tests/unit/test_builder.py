"""Configurations built step by step."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc.builder import (
    build_config,
    create_empty_config,
    enable_vault,
    exclude_prefixes,
    scan_table,
    with_bucket,
    with_cdc,
    with_database,
    with_endpoint,
    with_mode,
    with_safety,
)
from s3gc.config import Config, Draft, create_config
from s3gc.errors import ConfigError
from s3gc.model import Mode
from s3gc.safety import Safety


def test_the_composition_that_users_were_promised(tmp_path: Path) -> None:
    config = enable_vault(
        scan_table(with_bucket(create_empty_config(), "my-bucket"), "users", ["avatar_url"]), tmp_path
    )
    assert config == create_config("my-bucket", tables={"users": ["avatar_url"]}, vault_path=tmp_path)
    assert isinstance(config, Config)
    assert build_config(config) == config


def test_all_steps_together() -> None:
    config = with_bucket(create_empty_config(), "my-bucket")
    config = with_database(config, "postgresql://app@host/app")
    config = with_cdc(config, "postgres", "postgresql://cdc@host/app")
    config = with_endpoint(config, "https://s3.example.com", "garage")
    config = with_mode(config, "execute")
    config = with_safety(config, Safety.full().but(grace=timedelta(days=1)))
    assert config == create_config(
        "my-bucket",
        database_url="postgresql://app@host/app",
        cdc_backend="postgres",
        cdc_connection_url="postgresql://cdc@host/app",
        endpoint_url="https://s3.example.com",
        region="garage",
        mode="execute",
        safety=Safety.full().but(grace=timedelta(days=1)),
    )


def test_a_draft_has_no_bucket_and_says_so() -> None:
    draft = scan_table(create_empty_config(), "users", ["avatar"])
    assert type(draft) is Draft
    assert not hasattr(draft, "bucket")
    with pytest.raises(ConfigError, match=r"no bucket yet: with_bucket"):
        build_config(draft)
    with pytest.raises(ConfigError, match="got dict"):
        build_config({"bucket": "x"})  # type: ignore[arg-type]


def test_nothing_is_changed_in_place() -> None:
    before = with_bucket(create_empty_config(), "my-bucket")
    after = exclude_prefixes(scan_table(with_mode(before, Mode.EXECUTE), "users", ["a"]), ["x/"])
    assert before == create_config("my-bucket")
    assert after.tables == {"users": ("a",)}
    assert with_bucket(after, "other").bucket == "other"
    assert after.bucket == "my-bucket"


def test_repeated_steps_add() -> None:
    config = scan_table(scan_table(create_empty_config(), "users", ["a", "b"]), "users", ["b", "c"])
    assert config.tables == {"users": ("a", "b", "c")}
    config = exclude_prefixes(exclude_prefixes(config, ["x/"]), ["y/", "x/"])
    assert config.exclude_prefixes == ("x/", "y/")


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda c: with_bucket(c, "My_Bucket"), "naming rules"),
        (lambda c: scan_table(c, "users", "avatar"), r"\['avatar'\]"),
        (lambda c: scan_table(c, "users", []), "no columns"),
        (lambda c: exclude_prefixes(c, "x/"), r"exclude_prefixes=\['x/'\]"),
        (lambda c: enable_vault(c, 3), "vault_path"),
        (lambda c: with_database(c, "app"), "database_url must be a URL"),
        (lambda c: with_cdc(c, "postgres", "mysql://h/d"), "cdc_backend is 'postgres'"),
        (
            lambda c: with_cdc(with_database(c, "mysql://h/d"), "postgres", "postgresql://h/d"),
            "database_url is a mysql",
        ),
        (lambda c: with_endpoint(c, "host"), "endpoint_url must be a URL"),
        (lambda c: with_mode(c, "exceute"), "did you mean 'execute'"),
        (lambda c: with_safety(c, "none"), r"Safety\.none\(\)"),
    ],
)
@pytest.mark.parametrize("start", [Draft(), create_config("my-bucket")])
def test_a_bad_step_is_refused_at_once(start: Draft, step: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        step(start)


STEPS: list[Callable[[Any], Any]] = [
    lambda c: with_bucket(c, "my-bucket"),
    lambda c: scan_table(c, "users", ["a"]),
    lambda c: scan_table(c, "posts", ["b"]),
    lambda c: exclude_prefixes(c, ["x/"]),
    lambda c: enable_vault(c, "v"),
    lambda c: with_database(c, "postgresql://h/d"),
    lambda c: with_cdc(c, "postgres", "postgresql://h/d"),
    lambda c: with_mode(c, "audit_only"),
    lambda c: with_safety(c, Safety.none()),
]


@given(st.permutations(STEPS))
def test_the_order_of_independent_steps_does_not_matter(steps: list[Callable[[Any], Any]]) -> None:
    config: Any = create_empty_config()
    for step in steps:
        config = step(config)
    expected: Any = create_empty_config()
    for step in STEPS:
        expected = step(expected)
    assert build_config(config) == expected
