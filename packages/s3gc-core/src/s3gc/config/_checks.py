"""What each option accepts. Every refusal names the option, what it got (never a secret) and the fix."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from s3gc.config._redact import identity, redact
from s3gc.derivation import Derivation
from s3gc.errors import ConfigError
from s3gc.model import Mode
from s3gc.safety import Safety

MAX_RETENTION_DAYS = 36_500
"""A hundred years: beyond it, dates before the year 1 come near."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_IPV4 = re.compile(r"\d+\.\d+\.\d+\.\d+")
_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_CRON = re.compile(r"[0-9A-Za-z*,/#-]+( [0-9A-Za-z*,/#-]+){4}")
_ADMIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# Reserved by S3's naming rules (user guide, "General purpose bucket naming rules"): aliases of access points
# and other kinds of buckets. A URL names the bucket behind an alias, so an alias would match no reference.
_RESERVED_STARTS = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_ENDS = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")

DATABASE_KINDS = {
    "postgresql": "postgres",
    "postgres": "postgres",
    "mysql": "mysql",
    "mariadb": "mysql",
    "sqlite": "sqlite",
}
"""First part of a database URL's scheme → the kind of database."""


class Tables(Mapping[str, tuple[str, ...]]):
    """Tables and their columns: an immutable, hashable mapping in the order given."""

    __slots__ = ("_columns",)

    def __init__(self, columns: Mapping[str, tuple[str, ...]]) -> None:
        self._columns = dict(columns)

    def __getitem__(self, table: str) -> tuple[str, ...]:
        return self._columns[table]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __hash__(self) -> int:
        return hash(frozenset(self._columns.items()))

    def __repr__(self) -> str:
        return repr(self._columns)


class Derived(Mapping[str, str]):
    """Rules of derivation: an immutable, hashable mapping in the order given."""

    __slots__ = ("_rules",)

    def __init__(self, rules: Mapping[str, str]) -> None:
        self._rules = dict(rules)

    def __getitem__(self, form: str) -> str:
        return self._rules[form]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)

    def __hash__(self) -> int:
        return hash(frozenset(self._rules.items()))

    def __repr__(self) -> str:
        return repr(self._rules)


def split_url(text: str) -> tuple[str, str] | None:
    """(scheme in lower case, the rest), or None when it isn't a URL."""
    match = _SCHEME.fullmatch(text)
    return (match.group(1).lower(), match.group(2)) if match else None


def database_kind(url: str) -> str:
    """``postgres``, ``mysql``, ``sqlite``, or the scheme of another database."""
    scheme = url.partition(":")[0].lower().partition("+")[0]
    return DATABASE_KINDS.get(scheme, scheme)


def show(value: object) -> str:
    """A refused value for an error: whatever looks like a URL without its secrets."""
    return redact(value) if isinstance(value, str) and ("://" in value or "@" in value) else repr(value)


def _database(url: str) -> str:
    """The database's name in a URL (hosts may differ: a pooler, a direct line)."""
    return identity(url).partition("?")[0].partition("@")[2].partition("/")[2]


def _kind_of_value(value: object) -> str:
    return type(value).__name__


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        got = "an empty text" if isinstance(value, str) else _kind_of_value(value)
        raise ConfigError(f"{name} must be a text that isn't empty, got {got}")
    if "\0" in value:
        raise ConfigError(f"{name} must not hold a NUL character")
    return value


def _texts(name: str, value: object, example: str) -> tuple[str, ...]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable) or isinstance(value, Mapping):
        raise ConfigError(
            f"{name} must be a list of texts, got {_kind_of_value(value)}: write {name}={example}"
        )
    items = sorted(value) if isinstance(value, set | frozenset) else list(value)
    return tuple(dict.fromkeys(_text(f"{name}: each item", item) for item in items))


def bucket(value: object) -> str:
    """A bare name by S3's rules, or a URL that names a bucket."""
    text = _text("bucket", value)
    url = split_url(text)
    if url is None:
        return _bare_bucket(text)
    scheme, rest = url
    if scheme in ("http", "https"):
        raise ConfigError(
            f"bucket {redact(text)} is a web address: write bucket=NAME and endpoint_url=https://HOST"
        )
    if scheme in ("s3", "memory"):
        name = rest.rstrip("/")
        if not name or re.search(r"[/?#@:\s]", name):
            raise ConfigError(
                f"bucket {redact(text)} must be {scheme}://NAME with nothing after the name; "
                "what to leave alone inside it goes into exclude_prefixes"
            )
        return f"{scheme}://{name}"
    if scheme == "file" and not rest.startswith("/"):
        raise ConfigError(f"bucket {redact(text)} must be an absolute path: file:///path/to/folder")
    return text


def _bare_bucket(name: str) -> str:
    problem = None
    if not _BUCKET.fullmatch(name):
        problem = "3 to 63 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit"
    elif ".." in name:
        problem = "no two dots side by side"
    elif _IPV4.fullmatch(name):
        problem = "not an IP address"
    elif name.startswith(_RESERVED_STARTS) or name.endswith(_RESERVED_ENDS):
        problem = "not an alias or a reserved name; write the name of the bucket itself"
    if problem:
        raise ConfigError(
            f"bucket {show(name)} breaks S3's naming rules ({problem}). "
            "For a server with rules of its own, or a folder, write a URL: s3://NAME, file:///PATH"
        )
    return name


def region(value: object) -> str:
    text = _text("region", value)
    if re.search(r"\s", text):
        raise ConfigError(f"region must be a name such as us-east-1, got {show(text)}")
    return text


def url(name: str, example: str, *schemes: str) -> Callable[[object], str | None]:
    """A check for an optional URL, of one of ``schemes`` if any are given."""

    def check(value: object) -> str | None:
        if value is None:
            return None
        text = _text(name, value)
        parts = split_url(text)
        if parts is None or not parts[1] or (schemes and parts[0] not in schemes):
            raise ConfigError(f"{name} must be a URL such as {example}, got {redact(text)}")
        return text

    return check


def endpoint_url(value: object) -> str | None:
    text = url("endpoint_url", "https://s3.example.com", "http", "https")(value)
    return None if text is None else _web("endpoint_url", text)


def base_urls(value: object) -> tuple[str, ...]:
    urls = _texts("base_urls", value, '["https://cdn.example.com/"]')
    one = url("base_urls: each item", "https://cdn.example.com/", "http", "https")
    # A path alone serves rows that hold `/media/a.jpg`, whatever host it is served by.
    return tuple(item if _BASE_PATH(item) else _web("base_urls: each item", str(one(item))) for item in urls)


_BASE_PATH = re.compile(r"/[^/\s?#@:\\][^\s?#@:\\]*").fullmatch


def _web(name: str, text: str) -> str:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(f"{name} is not a valid URL: {redact(text)}") from None
    if not host:
        raise ConfigError(f"{name} names no host: {redact(text)}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(
            f"{name} must be scheme, host and path only, got {redact(text)}: "
            "credentials come from AWS's own settings (environment, profile, role)"
        )
    return text


def sources(value: object) -> tuple[str, ...]:
    one = url("sources: each item", "scheme://place")
    return tuple(str(one(item)) for item in _texts("sources", value, '["scheme://place"]'))


def replicas(value: object) -> tuple[str, ...]:
    one = url("replicas: each item", "s3://bucket/prefix")
    return tuple(str(one(item)) for item in _texts("replicas", value, '["s3://bucket/prefix"]'))


def restore_targets(value: object) -> tuple[str, ...]:
    one = url("restore_targets: each item", "s3://bucket/prefix")
    return tuple(str(one(item)) for item in _texts("restore_targets", value, '["s3://bucket/prefix"]'))


def backup_copies(value: object) -> int:
    """The vault is one of them."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"backup_copies must be a whole number, got {show(value)}")
    if value < 1:
        raise ConfigError(f"backup_copies must be at least 1, the vault itself, got {value}")
    return value


def replica_keys(value: object) -> str | None:
    """A file's path, or ``env:NAME``; ``~`` is the home folder."""
    if value is None:
        return None
    text = _text("replica_keys", str(value) if isinstance(value, Path) else value)
    if text.startswith("env:"):
        if not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*", text):
            # Not shown: it may be the key itself.
            raise ConfigError("replica_keys: env: must be followed by the name of a variable")
        return text
    return os.path.expanduser(text)


def tables(value: object, option: str = "tables") -> Tables:
    """Table → columns. Doubles go; order stays."""
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{option} must map each table to its columns, got {_kind_of_value(value)}: "
            f'write {option}={{"users": ["avatar_url"]}}'
        )
    checked: dict[str, tuple[str, ...]] = {}
    for table, columns in value.items():
        name = _text(f"{option}: each table's name", table)
        one = columns if isinstance(columns, str) and columns.isidentifier() else "column"
        example = f"{option}={{{name!r}: [{one!r}]}}"
        if isinstance(columns, str):
            raise ConfigError(f"{option}: {name} must have a list of columns: write {example}")
        if isinstance(columns, Mapping):
            raise ConfigError(
                f"{option}: {name} holds a table of tables; quote a name with a schema: "
                f"\"{name}.{next(iter(columns), 'table')}\" = ['column']"
            )
        if not isinstance(columns, Iterable):
            raise ConfigError(f"{option}: {name} must have a list of columns: write {example}")
        names = _texts(f"{option}: {name}", columns, example)
        if not names:
            raise ConfigError(
                f"{option}: {name} has no columns: name them ({example}) or leave the table out"
            )
        checked[name] = names
    return Tables(checked)


def folders(value: object) -> Tables:
    """As ``tables``: those of its columns whose values name a folder."""
    return tables(value, "folders")


def mode(value: object) -> Mode:
    try:
        return Mode(str(value))
    except ValueError:
        from s3gc.config._options import nearest

        known = [m.value for m in Mode]
        hint = nearest(str(value).lower().replace("-", "_"), known)
        raise ConfigError(f"mode must be one of {', '.join(known)}, got {show(value)}{hint}") from None


def retention_days(value: object) -> float:
    """Days, as given (an int stays an int)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(
            f"retention_days must be a number of days, got {_kind_of_value(value)}: write retention_days=7"
        )
    if not math.isfinite(value) or not 0 <= value <= MAX_RETENTION_DAYS:
        raise ConfigError(f"retention_days must be between 0 and {MAX_RETENTION_DAYS}, got {value}")
    return value


def exclude_prefixes(value: object) -> tuple[str, ...]:
    return _texts("exclude_prefixes", value, f"[{show(value)}]" if isinstance(value, str) else '["backups/"]')


def key_prefixes(value: object) -> tuple[str, ...]:
    """A folder ends with a slash; ``img-*`` is any beginning, as elsewhere."""
    given = _texts("key_prefixes", value, f"[{show(value)}]" if isinstance(value, str) else '["media/"]')
    made = []
    for prefix in given:
        if not prefix.strip("/*"):
            raise ConfigError(f"key_prefixes: {prefix!r} puts nothing before a value: leave it out")
        if "://" in prefix:
            raise ConfigError(f"key_prefixes: {redact(prefix)} is an address: it belongs to base_urls")
        bare = prefix.lstrip("/")
        made.append(bare if bare.endswith("*") else bare.rstrip("/") + "/")
    return tuple(dict.fromkeys(made))


def owned_prefixes(value: object) -> tuple[str, ...]:
    prefixes = _texts("owned_prefixes", value, f"[{show(value)}]" if isinstance(value, str) else '["app/"]')
    for prefix in prefixes:
        if not prefix.strip("/*"):
            raise ConfigError(
                f"owned_prefixes: {prefix!r} is the whole bucket: leave owned_prefixes out to own all of it"
            )
    return prefixes


def derived(value: object) -> Derived:
    """Rules: what a derived object's key looks like → its parent's key."""
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"derived must map the form of a derived key to its parent's, got {_kind_of_value(value)}: "
            'write derived={"thumbs/{key}_200.jpg": "{key}.jpg"}'
        )
    rules: dict[str, str] = {}
    for form, parent in value.items():
        child = _text("derived: each form", form)
        rules[child] = _text(f"derived: {child}", parent)
    try:
        Derivation(rules)
    except ValueError as error:
        raise ConfigError(f"derived: {error}") from None
    return Derived(rules)


def vault_path(value: object) -> str:
    """A folder, or a URL that a plugin opens; ``~`` is the home folder, ``file:///PATH`` is PATH."""
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, os.PathLike) or not isinstance(value, str):
        raise ConfigError(f"vault_path must be a folder (text or Path), got {_kind_of_value(value)}")
    text = _text("vault_path", value)
    parts = split_url(text)
    if parts is not None and not parts[1]:
        raise ConfigError(f"vault_path {redact(text)} names no place: write a folder or scheme://place")
    if parts is not None and parts[0] == "file":
        if not parts[1].startswith("/"):
            raise ConfigError(f"vault_path {redact(text)} must be an absolute path: file:///path/to/folder")
        return unquote(parts[1])
    return os.path.expanduser(text) if parts is None else text


def compression(value: object) -> str:
    text = _text("compression", value)
    if not re.fullmatch(r"[a-z0-9][a-z0-9._+-]*", text):
        raise ConfigError(
            f"compression must be fast, full, plain, or the name of a plugin's codec, got {show(text)}"
        )
    return text


def cdc_backend(value: object) -> str | None:
    if value is None:
        return None
    if value not in ("postgres", "mysql"):
        meant = {"postgresql": "postgres", "pg": "postgres", "mariadb": "mysql"}.get(str(value).lower())
        hint = f": did you mean {meant!r}?" if meant else ""
        raise ConfigError(f"cdc_backend must be 'postgres', 'mysql' or None, got {show(value)}{hint}")
    return str(value)


def schedule_cron(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not (_CLOCK.fullmatch(value) or _CRON.fullmatch(value)):
        raise ConfigError(
            'schedule_cron must be a time of day as "HH:MM", such as "03:30", or the five fields of a cron '
            f'expression, such as "30 3 * * mon-fri", got {show(value)}'
        )
    return value


def admin_api_key(value: object) -> str | None:
    return None if value is None else _text("admin_api_key", value)


ADMIN_ROLES = ("viewer", "operator")
"""What a key of the admin may be: one that looks, or one that also runs, restores and acknowledges."""


def admin_keys(value: object) -> tuple[str, ...]:
    """Texts of three parts: ``name:role:key``. No part of a key is ever shown."""
    form = 'write admin_keys=["grafana:viewer:A-LONG-RANDOM-KEY"]'
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise ConfigError(f"admin_keys must be a list of texts, got {_kind_of_value(value)}: {form}")
    given = list(value)
    names: set[str] = set()
    for number, text in enumerate(given, start=1):
        name, role, key = (*text.split(":", 2), "", "")[:3] if isinstance(text, str) else ("", "", "")
        if not _ADMIN_NAME.fullmatch(name) or role not in ADMIN_ROLES or not key.strip() or "\0" in key:
            raise ConfigError(
                f"admin_keys: item {number} isn't name:role:key with a role of "
                f"{' or '.join(ADMIN_ROLES)}: {form}"
            )
        if name in names:
            raise ConfigError(f"admin_keys: two keys are named {name}: each needs a name of its own")
        names.add(name)
    return tuple(given)


def safety(value: object) -> Safety:
    if isinstance(value, Safety):
        return value
    hint = f"Safety.{value}()" if value in ("full", "none", "demo") else "Safety.full()"
    raise ConfigError(f"safety must be a Safety, got {_kind_of_value(value)}: write safety={hint}")


def vault_days(name: str) -> Callable[[object], float | None]:
    """A check of a number of days, more than none; None where there is no such number."""

    def check(value: object) -> float | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{name} must be a number of days, got {show(value)}")
        if not 0 < value <= 36_500:
            raise ConfigError(f"{name} must be more than 0 and at most 36500 days, got {value}")
        return value

    return check


class DaysByPrefix(Mapping[str, float | None]):
    """Days by prefix: an immutable, hashable mapping in the order given. None: for ever."""

    __slots__ = ("_days",)

    def __init__(self, days: Mapping[str, float | None]) -> None:
        self._days = dict(days)

    def __getitem__(self, prefix: str) -> float | None:
        return self._days[prefix]

    def __iter__(self) -> Iterator[str]:
        return iter(self._days)

    def __len__(self) -> int:
        return len(self._days)

    def __hash__(self) -> int:
        return hash(frozenset(self._days.items()))

    def __repr__(self) -> str:
        return repr(self._days)


def vault_days_by_prefix(value: object) -> DaysByPrefix:
    """Prefix → days, or ``"forever"``."""
    name = "vault_retention_by_prefix"
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{name} must map prefixes to days, got {_kind_of_value(value)}: "
            f'write {name}={{"invoices/": 3650}}'
        )
    days: dict[str, float | None] = {}
    starts: dict[str, str] = {}
    for given, number in value.items():
        prefix = _text(f"{name}: each prefix", given)
        if not prefix.strip("/*"):
            raise ConfigError(f"{name}: {prefix!r} is the whole bucket: that is vault_retention_days")
        start = prefix[:-1] if prefix.endswith("*") else prefix.rstrip("/") + "/"
        if start in starts:
            raise ConfigError(f"{name}: {starts[start]!r} and {prefix!r} mean the same keys")
        starts[start] = prefix
        forever = number is None or number == "forever"
        days[prefix] = None if forever else vault_days(f"{name}: {prefix!r}")(number)
    return DaysByPrefix(days)


def together(options: Any) -> None:
    """What no option can check alone: options that contradict one another."""
    window = options.recovery_window_days
    retentions = {"vault_retention_days": options.vault_retention_days}
    for prefix, days in options.vault_retention_by_prefix.items():
        retentions[f"vault_retention_by_prefix: {prefix!r}"] = days
    for name, kept in retentions.items():
        if kept is not None and window is not None and kept < window:
            raise ConfigError(
                f"{name} ({kept}) is less than recovery_window_days ({window}): a database "
                "that is put back that far would name objects whose backups are gone"
            )
    if options.backup_copies > 1 + len(options.replicas):
        raise ConfigError(
            f"backup_copies = {options.backup_copies} asks for more places than vault and replicas are "
            f"({1 + len(options.replicas)}): name more replicas, or ask for fewer copies"
        )
    backend, cdc_url = options.cdc_backend, options.cdc_connection_url
    if backend and not cdc_url:
        raise ConfigError(
            f"cdc_backend={backend!r} needs cdc_connection_url: the database whose changes are followed "
            "(often the same as database_url)"
        )
    if cdc_url and not backend:
        kind = database_kind(cdc_url)
        fix = (
            f"cdc_backend={kind!r}" if kind in ("postgres", "mysql") else "cdc_backend='postgres' or 'mysql'"
        )
        raise ConfigError(
            f"cdc_connection_url needs {fix}; to scan without following changes use database_url"
        )
    for name, value in (("cdc_connection_url", cdc_url), ("database_url", options.database_url)):
        if backend and value and database_kind(value) != backend:
            raise ConfigError(
                f"{name} is a {database_kind(value)} URL and cdc_backend is {backend!r}: "
                "make them the same database"
            )
    if cdc_url and options.database_url and _database(cdc_url) != _database(options.database_url):
        raise ConfigError(
            "database_url and cdc_connection_url name different databases, and only the one whose changes "
            "are followed would be read: name the same one, or put the other into sources"
        )
    for table, columns in options.folders.items():
        for column in columns:
            if column not in options.tables.get(table, ()):
                raise ConfigError(
                    f"folders: {table}.{column} isn't in tables: name it there too, for folders only says "
                    "which of the tracked columns hold a folder"
                )
    vault = split_url(options.vault_path)
    if vault and not options.registry_url:
        raise ConfigError(
            f"vault_path {redact(options.vault_path)} is not a local folder, so registry_url must say where "
            "the registry is: sqlite:///PATH"
        )


def store_and_endpoint(options: Any) -> None:
    """An endpoint and the client's settings belong to S3."""
    store = split_url(options.bucket)
    for name in ("endpoint_url", "s3"):
        if store and store[0] in ("file", "memory") and getattr(options, name):
            raise ConfigError(
                f"{name} is for S3, and the bucket is {redact(options.bucket)}: leave one of them out"
            )
