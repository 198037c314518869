"""The configuration from s3gc.toml."""

from __future__ import annotations

import json
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any, get_type_hints

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc.config import Config, create_config, load_config
from s3gc.config._toml import span
from s3gc.derivation import Derivation
from s3gc.errors import ConfigError
from s3gc.model import Mode
from s3gc.safety import MAY_CLEAR, Safety

SECRET = "hunter22"


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def write_and_load(text: str, **overrides: Any) -> Config:
        path = tmp_path / "s3gc.toml"
        path.write_text(text, encoding="utf-8")
        return load_config(path, **overrides)

    return write_and_load


def test_a_whole_file(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", SECRET)
    config = load(
        """
        bucket = "my-bucket"
        region = "eu-west-1"
        database_url = "postgresql://app:${DB_PASSWORD}@host/app"
        mode = "audit_only"
        retention_days = 1.5
        exclude_prefixes = ["a/"]
        owned_prefixes = ["app", "tmp*"]

        [tables]
        users = ["avatar_url"]
        "public.posts" = ["body", "cover"]

        [folders]
        "public.posts" = ["cover"]

        [derived]
        "thumbs/{key}_{size}.jpg" = "{key}.jpg"

        [safety]
        preset = "none"
        grace = "1d12h"
        max_deletes = 10
        self_clearing = ["store_failed", "clock_skew"]
        """
    )
    assert config == create_config(
        bucket="my-bucket",
        region="eu-west-1",
        database_url=f"postgresql://app:{SECRET}@host/app",
        mode="audit_only",
        retention_days=1.5,
        exclude_prefixes=["a/"],
        owned_prefixes=["app", "tmp*"],
        vault_path=tmp_path / "s3gc_vault",
        tables={"users": ["avatar_url"], "public.posts": ["body", "cover"]},
        folders={"public.posts": ["cover"]},
        derived={"thumbs/{key}_{size}.jpg": "{key}.jpg"},
        safety=Safety.none().but(
            grace=timedelta(hours=36), max_deletes=10, self_clearing=["clock_skew", "store_failed"]
        ),
    )
    assert SECRET not in repr(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"bucket is required"),
        ('buckett = "b-1"', r"did you mean 'bucket'"),
        ('bucket = "b-1"\nretention = 7', r"did you mean 'retention_days'"),
        ("bucket = = 1", r"not valid TOML.*line 1"),
        ('bucket = "b-1"\nsafety = "none"', r"safety must be a table"),
        ('bucket = "b-1"\n[safety]\ngrase = 1', r"did you mean 'grace'"),
        ('bucket = "b-1"\n[safety]\npreset = "ful"', r"did you mean 'full'"),
        ('bucket = "b-1"\n[safety]\npreset = 1', r"preset must be one of"),
        ('bucket = "b-1"\n[safety]\ngrace = "soon"', r'"3d"'),
        ('bucket = "b-1"\n[safety]\ngrace = true', r'"3d"'),
        ('bucket = "b-1"\n[safety]\ngrace = -1', r'"3d"'),
        ('bucket = "b-1"\n[safety]\ngrace = ""', r'"3d"'),
        ('bucket = "b-1"\n[safety]\ngrace = "99999999999d"', r'"3d"'),
        ('bucket = "b-1"\n[safety]\nmax_deletes = "many"', r'whole number or "unlimited"'),
        ('bucket = "b-1"\n[safety]\nmin_observations = 0', r"min_observations"),
        ('bucket = "b-1"\n[safety]\nmin_observations = true', r"whole number"),
        ('bucket = "b-1"\n[safety]\nmax_delete_share = 1.5', r"max_delete_share"),
        ('bucket = "b-1"\n[safety]\nmax_delete_share = "all"', r"number such as 0.5"),
        ('bucket = "b-1"\n[safety]\nallow_unconditional_delete = 1', r"true or false"),
        ('bucket = "b-1"\n[tables]\npublic.users = ["a"]', r'quote a name with a schema: "public\.users"'),
        ('bucket = "b-1"\n[tables]\nusers = "a"', r"list of columns"),
        ('bucket = "b-1"\n[safety]\nself_clearing = "clock_skew"', r"must be a list of breakers' codes"),
        ('bucket = "b-1"\n[safety]\nself_clearing = [1]', r"must be a list of breakers' codes"),
        (
            'bucket = "b-1"\n[safety]\nself_clearing = ["empty_column"]',
            r"self_clearing can hold clock_skew, ",
        ),
        ('bucket = "b-1"\n[folders]\nusers = ["a"]', r"folders: users\.a isn't in tables"),
        ('bucket = "b-1"\nowned_prefixes = ["/"]', r"is the whole bucket: leave owned_prefixes out"),
        ('bucket = "b-1"\n[derived]\n"thumbs/a.jpg" = "a.jpg"', r"has no field such as \{key\}"),
        ('bucket = "b-1"\n[derived]\n"thumbs/{key}" = "{name}"', r"names \{name\}, which"),
        ('bucket = "b-1"\nderived = "thumbs"', r"derived must map the form"),
        ('bucket = "b-1"\n[derived]\n"{key}" = "a/{key}"', r"derived: .* never comes to an end"),
        ('bucket = "b-1"\nmode = "exceute"', r"did you mean 'execute'"),
        (
            'bucket = "b-1"\nadmin_api_key = "${NO_SUCH_VARIABLE_OF_OURS}"',
            r"NO_SUCH_VARIABLE_OF_OURS, which is not set",
        ),
        ('bucket = "b-1"\nadmin_api_key = "${bad-name}"', r"write \$\{NAME\}"),
    ],
)
def test_bad_files_are_refused_with_the_fix(load: Any, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(text)


def test_a_missing_file_and_a_folder_and_bytes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no configuration file"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="can't be read"):
        load_config(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'bucket = "\xe4"')
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "latin.toml")


def test_variables_are_replaced_only_where_secrets_live(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAME", "replaced")
    config = load(
        'bucket = "b-1"\nexclude_prefixes = ["${NAME}"]\nadmin_api_key = "${NAME}"\nsources = ["lines:///${NAME}"]'
    )
    assert config.exclude_prefixes == ("${NAME}",)
    assert config.admin_api_key == "replaced"
    assert config.sources == ("lines:///replaced",)


def test_overrides_win(load: Any) -> None:
    config = load(
        'bucket = "b-1"\nmode = "execute"\nvault_path = "v"', mode="dry_run", vault_path="elsewhere"
    )
    assert (config.mode, config.vault_path) == (Mode.DRY_RUN, "elsewhere")
    with pytest.raises(ConfigError, match="did you mean 'mode'"):
        load('bucket = "b-1"', mod="dry_run")


def test_the_vault_lies_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever folder s3gc is started in, the same file means the same vault."""
    (tmp_path / "s3gc.toml").write_text('bucket = "b-1"\nvault_path = "v"')
    assert load_config(tmp_path / "s3gc.toml").vault_path == str(tmp_path / "v")
    monkeypatch.chdir(tmp_path)
    assert load_config().vault_path == "v"
    (tmp_path / "s3gc.toml").write_text('bucket = "b-1"\nvault_path = "/srv/v"')
    assert load_config(tmp_path / "s3gc.toml").vault_path == "/srv/v"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3d", 259_200),
        ("12h", 43_200),
        ("30m", 1_800),
        ("45s", 45),
        ("1d12h", 129_600),
        ("1.5h", 5_400),
        (90, 90),
        (0, 0),
    ],
)
def test_times(value: Any, seconds: float) -> None:
    assert span("x", value) == timedelta(seconds=seconds)


def test_unlimited_means_no_limit_and_zero_means_none(load: Any) -> None:
    assert load('bucket = "b-1"\n[safety]\nmax_deletes = "unlimited"').safety.max_deletes is None
    assert load('bucket = "b-1"\n[safety]\nmax_deletes = 0').safety.max_deletes == 0


# ------------------------------------------------------------------------------------------ round trip


def _without_braces(text: str) -> str:
    return text.replace("{", "(").replace("}", ")")


def _comes_to_an_end(rules: dict[str, str]) -> bool:
    try:
        Derivation(rules)
    except ValueError:
        return False
    return True


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    str.strip
)


def safety_values() -> st.SearchStrategy[dict[str, Any]]:
    shares = st.floats(0, 1)
    by_type: dict[Any, st.SearchStrategy[Any]] = {
        timedelta: st.timedeltas(timedelta(0), timedelta(days=400)),
        int: st.integers(1, 10**9),
        int | None: st.none() | st.integers(0, 10**9),
        float: shares,
        bool: st.booleans(),
        str: st.sampled_from(["full", "none", "demo"]),
        tuple[str, ...]: st.lists(st.sampled_from(MAY_CLEAR), max_size=6),  # self_clearing
    }
    every = st.fixed_dictionaries({name: by_type[kind] for name, kind in get_type_hints(Safety).items()})
    return every.map(_with_a_lease_that_is_long_enough)


def _with_a_lease_that_is_long_enough(values: dict[str, Any]) -> dict[str, Any]:
    margin = values["lease_margin"] + timedelta(seconds=1)
    return values | {"lease_margin": margin, "lease_ttl": 3 * margin + values["lease_ttl"]}


TABLES = st.dictionaries(TEXT, st.lists(TEXT, min_size=1, max_size=3), max_size=3)


@st.composite
def tables_and_folders(draw: st.DrawFn) -> dict[str, Any]:
    """Folders are some of the tracked columns."""
    tables = draw(TABLES)
    marked = {table: draw(st.lists(st.sampled_from(columns))) for table, columns in tables.items()}
    return {"tables": tables, "folders": {table: columns for table, columns in marked.items() if columns}}


CONFIGS = st.builds(
    lambda both, s3, **others: create_config(
        **both, **others, s3={} if others["bucket"].startswith("memory:") else s3
    ),
    tables_and_folders(),
    bucket=st.sampled_from(["my-bucket", "s3://Other_One", "memory://x"]),
    mode=st.sampled_from(Mode),
    retention_days=st.integers(0, 36_500) | st.floats(0, 36_500),
    exclude_prefixes=st.lists(TEXT, max_size=3),
    owned_prefixes=st.lists(TEXT.filter(lambda prefix: prefix.strip("/*")), max_size=3),
    s3=st.fixed_dictionaries(
        {},
        optional={
            "request_payer": st.just("requester"),
            "acl": st.just("keep"),
            "profile": st.from_regex(r"[a-z \"]*[a-z]", fullmatch=True).filter(lambda t: t == t.strip()),
        },
    ),
    derived=st.dictionaries(
        st.tuples(TEXT, TEXT).map(lambda around: "{}/{{key}}{}".format(*map(_without_braces, around))),
        TEXT.map(lambda text: f"{_without_braces(text)}{{key}}"),
        max_size=3,
    ).filter(_comes_to_an_end),
    database_url=st.none() | TEXT.filter(lambda t: "${" not in t).map(lambda t: f"sqlite:///{t}"),
    sources=st.lists(TEXT.filter(lambda t: "${" not in t).map(lambda t: f"lines:///{t}"), max_size=2),
    admin_api_key=st.none() | TEXT.filter(lambda t: "${" not in t),
    schedule_cron=st.none() | st.times().map(lambda t: t.strftime("%H:%M")),
    vault_path=st.just("/srv/vault"),
    safety=safety_values().map(lambda values: Safety(**values)),
)


def toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml(item) for item in value)}]"
    if isinstance(value, str):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)


def as_toml(config: Config) -> str:
    lines = [
        f"{field.name} = {toml(value)}"
        for field in attrs.fields(Config)
        if field.name not in ("tables", "folders", "derived", "s3", "vault_retention_by_prefix", "safety")
        and (value := getattr(config, field.name)) is not None
    ]
    for name in ("tables", "folders", "derived", "s3", "vault_retention_by_prefix"):
        lines += [
            f"[{name}]",
            *(f"{toml(key)} = {toml(value)}" for key, value in getattr(config, name).items()),
        ]
    lines.append("[safety]")
    for name, value in attrs.asdict(config.safety).items():
        if isinstance(value, timedelta):
            value = f"{value.days}d{value.seconds + value.microseconds / 1e6:.6f}s"
        lines.append(f"{name} = {toml('unlimited' if value is None else value)}")
    return "\n".join(lines)


@given(CONFIGS)
def test_what_is_written_is_what_is_read(config: Config) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s3gc.toml"
        path.write_text(as_toml(config), encoding="utf-8", newline="")
        loaded = load_config(path)
    assert loaded == config
    assert loaded.digest == config.digest
