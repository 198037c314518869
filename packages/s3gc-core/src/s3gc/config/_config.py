"""``Config``, its options, and the three ways to make one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Never

from attrs import fields, frozen

from s3gc._json import converter, dumps
from s3gc.config import _checks, _s3
from s3gc.config._options import REQUIRED, Option, describe, option, refuse_unknown
from s3gc.config._redact import HIDDEN, identity, redact
from s3gc.errors import ConfigError
from s3gc.model import Mode
from s3gc.safety import Safety

REGISTRY_FILE = "registry.sqlite3"
"""The default registry's file, inside the vault's folder."""


@frozen(kw_only=True, repr=False)
class Draft:
    """A configuration that has no bucket yet. All values are checked as soon as they are set.

    Raises:
        ConfigError: an option is malformed or contradicts another one.
    """

    region: str = option(
        _checks.region,
        "us-east-1",
        type="text",
        env="AWS_REGION",
        help="The bucket's AWS region, or the name that your S3 server expects.",
    )
    endpoint_url: str | None = option(
        _checks.endpoint_url,
        None,
        type="URL",
        env="S3GC_ENDPOINT_URL",
        help="The S3 server, if it isn't AWS.",
        secret=True,
    )
    s3: Mapping[str, str] = option(
        _s3.s3,
        _checks.Derived({}),
        type="setting -> value",
        env="S3GC_S3",
        help="Further settings of the S3 client: who pays, whose bucket it is, profile, certificates, ACLs.",
    )
    tables: Mapping[str, tuple[str, ...]] = option(
        _checks.tables,
        _checks.Tables({}),
        type="table -> columns",
        env="S3GC_TABLES",
        help="The tables of the database and those of their columns that hold keys or URLs.",
    )
    database_url: str | None = option(
        _checks.url("database_url", "postgresql://user@host/database"),
        None,
        type="URL",
        env="DATABASE_URL",
        help="The database whose tables are scanned for references (SQLAlchemy's form of URL).",
        secret=True,
    )
    sources: tuple[str, ...] = option(
        _checks.sources,
        (),
        type="list of URLs",
        env="S3GC_SOURCES",
        help="Further places of references, opened by plugins.",
        secret=True,
    )
    base_urls: tuple[str, ...] = option(
        _checks.base_urls,
        (),
        type="list of URLs or paths",
        env="S3GC_BASE_URLS",
        help="Addresses (of a CDN, say) or paths below which the bucket's objects are served.",
        secret=True,
    )
    key_prefixes: tuple[str, ...] = option(
        _checks.key_prefixes,
        (),
        type="list of texts",
        env="S3GC_KEY_PREFIXES",
        help="Folders that values are relative to: with media, a value of a.jpg means media/a.jpg, too.",
    )
    mode: Mode = option(
        _checks.mode,
        Mode.DRY_RUN,
        type="dry_run, audit_only or execute",
        env="S3GC_MODE",
        help="What a cycle may do: look; look and write the plan into the journal; delete.",
    )
    retention_days: float = option(
        _checks.retention_days,
        7,
        type="days",
        env="S3GC_RETENTION_DAYS",
        help="Objects younger than this, by the store's clock, are kept.",
    )
    exclude_prefixes: tuple[str, ...] = option(
        _checks.exclude_prefixes,
        (),
        type="list of texts",
        env="S3GC_EXCLUDE_PREFIXES",
        help="Folders to leave alone (images means images/); images* means all keys that begin so.",
    )
    owned_prefixes: tuple[str, ...] = option(
        _checks.owned_prefixes,
        (),
        type="list of texts",
        env="S3GC_OWNED_PREFIXES",
        help="The folders that are this application's; all else is left alone. None: the whole bucket.",
    )
    folders: Mapping[str, tuple[str, ...]] = option(
        _checks.folders,
        _checks.Tables({}),
        type="table -> columns",
        env="S3GC_FOLDERS",
        help="Those of the tracked columns whose values name a folder: all objects below it are referenced.",
    )
    derived: Mapping[str, str] = option(
        _checks.derived,
        _checks.Derived({}),
        type="form -> parent",
        env="S3GC_DERIVED",
        help="Objects that live with a parent: thumbs/{key}_200.jpg -> {key}.jpg.",
    )
    vault_path: str = option(
        _checks.vault_path,
        "./s3gc_vault",
        type="folder",
        env="S3GC_VAULT_PATH",
        help="Where backups and the journal live. One vault for each bucket.",
    )
    registry_url: str | None = option(
        _checks.url("registry_url", "sqlite:///path/to/registry.sqlite3"),
        None,
        type="URL",
        env="S3GC_REGISTRY_URL",
        help=f"The index of references; by default the file {REGISTRY_FILE} in the vault's folder.",
        secret=True,
    )
    vault_retention_days: float | None = option(
        _checks.vault_days("vault_retention_days"),
        None,
        type="days",
        env="S3GC_VAULT_RETENTION_DAYS",
        help="How long `vault prune` leaves the backup of a deleted object. None: for ever.",
    )
    vault_retention_by_prefix: Mapping[str, float | None] = option(
        _checks.vault_days_by_prefix,
        _checks.DaysByPrefix({}),
        type='prefix -> days or "forever"',
        env="S3GC_VAULT_RETENTION_BY_PREFIX",
        help="The same for the keys below some prefixes; of those that match the longest counts.",
    )
    recovery_window_days: float | None = option(
        _checks.vault_days("recovery_window_days"),
        None,
        type="days",
        env="S3GC_RECOVERY_WINDOW_DAYS",
        help="How far back your database can be put. The vault must reach further.",
    )
    compression: str = option(
        _checks.compression,
        "fast",
        type="fast, full, plain, or a codec",
        env="S3GC_COMPRESSION",
        help="How backups are compressed, always bit-exactly: fast with Lepton if there, full, plain zstd.",
    )
    replicas: tuple[str, ...] = option(
        _checks.replicas,
        (),
        type="list of URLs",
        env="S3GC_REPLICAS",
        help="Where further copies of the vault are kept.",
        secret=True,
    )
    backup_copies: int = option(
        _checks.backup_copies,
        1,
        type="number",
        env="S3GC_BACKUP_COPIES",
        help="In how many places a backup must be, the vault and its replicas, before its object is deleted.",
    )
    replica_keys: str | None = option(
        _checks.replica_keys,
        None,
        type="file, or env:NAME",
        env="S3GC_REPLICA_KEYS",
        help="Where the keys are that replicas are sealed with; without it they aren't sealed.",
    )
    cdc_backend: str | None = option(
        _checks.cdc_backend,
        None,
        type="postgres or mysql",
        env="S3GC_CDC_BACKEND",
        help="Follow the changes of a database of this kind.",
    )
    cdc_connection_url: str | None = option(
        _checks.url("cdc_connection_url", "postgresql://user@host/database"),
        None,
        type="URL",
        env="S3GC_CDC_CONNECTION_URL",
        help="The database whose changes are followed; goes with cdc_backend.",
        secret=True,
    )
    schedule_cron: str | None = option(
        _checks.schedule_cron,
        None,
        type="HH:MM, or five cron fields",
        env="S3GC_SCHEDULE_CRON",
        help="When a scheduled cycle starts.",
    )
    admin_api_key: str | None = option(
        _checks.admin_api_key,
        None,
        type="text",
        env="S3GC_ADMIN_API_KEY",
        help="The key that the admin pages ask for.",
        secret=True,
    )
    admin_keys: tuple[str, ...] = option(
        _checks.admin_keys,
        (),
        type="list of name:role:key",
        env="S3GC_ADMIN_KEYS",
        help="Further keys for the admin pages, each with a name and a role: viewer or operator.",
        secret=True,
    )
    restore_targets: tuple[str, ...] = option(
        _checks.restore_targets,
        (),
        type="list of URLs",
        env="S3GC_RESTORE_TARGETS",
        help="Other buckets and folders that the admin may restore into.",
        secret=True,
    )
    safety: Safety = option(
        _checks.safety,
        Safety.full(),
        type="Safety",
        help="Every safety number; Safety.full() or .none(), and .but(grace=...).",
    )

    def __attrs_post_init__(self) -> None:
        _checks.together(self)

    def redacted(self) -> dict[str, Any]:
        """All options as JSON values, for showing: no secret in it. Times are seconds."""
        shown: dict[str, Any] = converter.unstructure(
            {
                a.name: getattr(self, a.name)
                for a in fields(type(self))
                if a.name not in ("tables", "folders", "derived", "s3", "vault_retention_by_prefix", "safety")
            }
        )
        for name, value in shown.items():
            if isinstance(value, str) and "://" in value:
                shown[name] = redact(value)
        for name in ("sources", "base_urls", "replicas", "restore_targets"):
            shown[name] = [one if one.startswith("/") else redact(one) for one in shown[name]]
        shown["mode"] = self.mode.value
        shown["exclude_prefixes"] = list(self.exclude_prefixes)
        shown["owned_prefixes"] = list(self.owned_prefixes)
        if self.admin_api_key is not None:
            shown["admin_api_key"] = HIDDEN
        shown["admin_keys"] = [f"{':'.join(text.split(':')[:2])}:{HIDDEN}" for text in self.admin_keys]
        shown["tables"] = {table: list(columns) for table, columns in self.tables.items()}
        shown["folders"] = {table: list(columns) for table, columns in self.folders.items()}
        shown["derived"] = dict(self.derived)
        shown["s3"] = dict(self.s3)
        shown["vault_retention_by_prefix"] = {
            prefix: "forever" if days is None else days
            for prefix, days in self.vault_retention_by_prefix.items()
        }
        shown["safety"] = converter.unstructure(self.safety)
        return shown

    def __repr__(self) -> str:
        """The options that aren't at their defaults, without secrets."""
        shown = self.redacted()
        changed = (a.name for a in fields(type(self)) if getattr(self, a.name) != a.default)
        return f"{type(self).__name__}({', '.join(f'{name}={shown[name]!r}' for name in changed)})"

    @property
    def retention(self) -> timedelta:
        """``retention_days`` as a span of time."""
        return timedelta(days=self.retention_days)

    @property
    def registry_location(self) -> str:
        """``registry_url``, or the path of the default file inside the vault's folder."""
        return self.registry_url or str(Path(self.vault_path) / REGISTRY_FILE)


@frozen(kw_only=True, repr=False)
class Config(Draft):
    """A whole configuration: frozen, checked, safe to print.

    Raises:
        ConfigError: an option is malformed or contradicts another one.
    """

    bucket: str = option(
        _checks.bucket,
        type="name or URL",
        env="S3_BUCKET",
        help="The bucket: a name, or s3://NAME, file:///PATH, memory://NAME, or a plugin's URL.",
        secret=True,
    )

    def __attrs_post_init__(self) -> None:
        _checks.together(self)
        _checks.store_and_endpoint(self)

    @property
    def store_url(self) -> str:
        """The bucket as a URL: ``s3://NAME`` for a bare name."""
        return self.bucket if "://" in self.bucket else f"s3://{self.bucket}"

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all that decides which objects may be deleted.

        Left out, because they don't: the mode (a plan made in a dry run may be executed), where vault,
        replicas and registry live, how many copies there must be (what holds is the number at the time of the
        deletion), the codec, the schedule, the admin key, where may be restored to, the S3 client's settings,
        and every password and secret URL parameter (a rotated password is no other configuration). Hosts,
        users and databases count.
        """
        decisive = {
            "store": identity(self.store_url),
            "region": self.region,
            "endpoint": self.endpoint_url,
            "tables": {table: sorted(columns) for table, columns in self.tables.items()},
            "database": self.database_url and identity(self.database_url),
            "cdc": [self.cdc_backend, self.cdc_connection_url and identity(self.cdc_connection_url)],
            "sources": sorted(identity(url) for url in self.sources),
            "base_urls": sorted(self.base_urls),
            **({"key_prefixes": sorted(self.key_prefixes)} if self.key_prefixes else {}),
            "retention_days": float(self.retention_days),
            "exclude_prefixes": sorted(self.exclude_prefixes),
            "owned_prefixes": sorted(self.owned_prefixes),
            "folders": {table: sorted(columns) for table, columns in self.folders.items()},
            "derived": dict(sorted(self.derived.items())),
            "safety": {k: v for k, v in converter.unstructure(self.safety).items() if k != "preset"},
        }
        return hashlib.sha256(dumps(decisive).encode("utf-8", "surrogatepass")).hexdigest()


OPTIONS: tuple[Option, ...] = tuple(
    sorted(describe(fields(Config)), key=lambda each: each.name != "bucket")  # the required one first
)
"""Every option, described once: docs, loaders and ``--help`` are made from this or checked against it."""


def make(options: Mapping[str, Any]) -> Config:
    """A configuration from options by name.

    Raises:
        ConfigError: an unknown option, a missing bucket, and all that :class:`Config` refuses.
    """
    refuse_unknown(options, (each.name for each in OPTIONS), "option")
    if options.get("bucket", REQUIRED) is REQUIRED:
        raise ConfigError("bucket is required: a name, or a URL such as s3://NAME or file:///PATH")
    return Config(**options)


def create_config(
    bucket: str = REQUIRED,
    *,
    region: str = "us-east-1",
    tables: Mapping[str, Iterable[str]] | None = None,
    mode: Mode | Literal["dry_run", "audit_only", "execute"] = "dry_run",
    retention_days: float = 7,
    exclude_prefixes: Iterable[str] = (),
    owned_prefixes: Iterable[str] = (),
    folders: Mapping[str, Iterable[str]] | None = None,
    derived: Mapping[str, str] | None = None,
    vault_path: str | Path = "./s3gc_vault",
    cdc_backend: Literal["postgres", "mysql"] | None = None,
    cdc_connection_url: str | None = None,
    schedule_cron: str | None = None,
    database_url: str | None = None,
    endpoint_url: str | None = None,
    sources: Iterable[str] = (),
    base_urls: Iterable[str] = (),
    key_prefixes: Iterable[str] = (),
    s3: Mapping[str, str] | None = None,
    registry_url: str | None = None,
    vault_retention_days: float | None = None,
    vault_retention_by_prefix: Mapping[str, float | str | None] | None = None,
    recovery_window_days: float | None = None,
    compression: str = "fast",
    replicas: Iterable[str] = (),
    backup_copies: int = 1,
    replica_keys: str | Path | None = None,
    admin_api_key: str | None = None,
    admin_keys: Iterable[str] = (),
    restore_targets: Iterable[str] = (),
    safety: Safety | None = None,
    **unknown: Never,
) -> Config:
    """A configuration from code. Each option is described in :data:`OPTIONS` and in the docs.

    ``tables`` maps each table to its columns (default: none). ``safety`` defaults to ``Safety.full()``.

    Raises:
        ConfigError: an option is unknown (the nearest is named), malformed, or contradicts another.
    """
    options: dict[str, Any] = dict(
        bucket=bucket,
        region=region,
        tables={} if tables is None else tables,
        mode=mode,
        retention_days=retention_days,
        exclude_prefixes=exclude_prefixes,
        owned_prefixes=owned_prefixes,
        folders={} if folders is None else folders,
        derived={} if derived is None else derived,
        vault_path=vault_path,
        cdc_backend=cdc_backend,
        cdc_connection_url=cdc_connection_url,
        schedule_cron=schedule_cron,
        database_url=database_url,
        endpoint_url=endpoint_url,
        sources=sources,
        base_urls=base_urls,
        key_prefixes=key_prefixes,
        s3={} if s3 is None else s3,
        registry_url=registry_url,
        vault_retention_days=vault_retention_days,
        vault_retention_by_prefix={} if vault_retention_by_prefix is None else vault_retention_by_prefix,
        recovery_window_days=recovery_window_days,
        compression=compression,
        replicas=replicas,
        backup_copies=backup_copies,
        replica_keys=replica_keys,
        admin_api_key=admin_api_key,
        admin_keys=admin_keys,
        restore_targets=restore_targets,
        safety=Safety.full() if safety is None else safety,
    )
    return make({**options, **unknown})


def create_config_from_env(
    tables: Mapping[str, Iterable[str]] | None = None,
    environ: Mapping[str, str] | None = None,
    **overrides: Any,
) -> Config:
    """A configuration from environment variables (named in :data:`OPTIONS`).

    Args:
        tables: table → columns; ``S3GC_TABLES`` must then be absent or say the same.
        environ: read instead of ``os.environ``.
        overrides: options by name that win over the environment.

    Raises:
        ConfigError: a variable is missing, malformed, contradicts another, or is an unknown ``S3GC_…``.
    """
    from s3gc.config._env import read_environment

    return make(read_environment(tables, environ, overrides))


def load_config(path: str | Path = "s3gc.toml", **overrides: Any) -> Config:
    """A configuration from a TOML file.

    Keys are the options' names; ``[tables]`` maps tables to columns; ``[safety]`` holds the safety numbers
    (``preset = "full"``, times as ``"3d"``, ``"12h"``, ``"30m"`` or seconds). ``${NAME}`` in a URL or key is
    replaced by that environment variable, as it is. A relative ``vault_path`` is relative to the file.

    Args:
        overrides: options by name that win over the file.

    Raises:
        ConfigError: the file is missing or isn't TOML; a key is unknown, malformed, or contradicts another.
    """
    from s3gc.config._toml import read_file

    return make(read_file(Path(path), overrides))
