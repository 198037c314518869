"""What keeps change capture from telling all changes, each with the statement that mends it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from s3gc.capture import CaptureFinding as Finding
from s3gc_cdc_postgres.catalogue import COLUMN_LISTS, Catalogue, Leaf, TableInfo, quoted

OLDEST = 140_000
"""The first version that streams messages, which fences are made of."""

APPLICATION = "s3gc"
"""The application_name of our connections."""

_WORD = re.compile(r"\*|\w+")
_EVENTS = frozenset({"insert", "update", "delete", "truncate"})


def findings(found: Catalogue, publication: str, slot: str) -> list[Finding]:
    """All that is wrong, worst first. Without a fatal one that isn't ours, setup will succeed."""
    server = list(_server(found))
    tables = [one for table in found.tables for one in _table(table)]
    rest = [*_publication(found, publication), *_slot(found, slot)]
    return sorted([*server, *tables, *rest], key=lambda one: not one.fatal)


def _server(found: Catalogue) -> Sequence[Finding]:
    server = found.server
    problems = []
    if server.version < OLDEST:
        problems.append(
            Finding("version", "", f"the server is of version {server.version}", "upgrade to 14 or later")
        )
    if server.wal_level != "logical":
        problems.append(
            Finding(
                "wal_level",
                "",
                f"wal_level is {server.wal_level}",
                "ALTER SYSTEM SET wal_level = 'logical'; then restart the server",
            )
        )
    for name, value in (
        ("max_replication_slots", server.max_replication_slots),
        ("max_wal_senders", server.max_wal_senders),
    ):
        if value < 1:
            problems.append(
                Finding(
                    name, "", f"{name} is {value}", f"ALTER SYSTEM SET {name} = 10; then restart the server"
                )
            )
    if not server.may_replicate:
        problems.append(
            Finding(
                "replication",
                server.user,
                f"the user {server.user} may not replicate",
                f"ALTER ROLE {quoted(server.user)} REPLICATION",
            )
        )
    if {"*", APPLICATION} & set(_WORD.findall(server.synchronous_standby_names)):
        problems.append(
            Finding(
                "synchronous_standby_names",
                "",
                f"synchronous_standby_names = {server.synchronous_standby_names!r} counts our stream "
                "as a standby, so that the application's commits would wait for s3gc",
                "ALTER SYSTEM SET synchronous_standby_names = '…' with the names of the standbys; "
                "SELECT pg_reload_conf()",
            )
        )
    if server.max_slot_wal_keep_size == "-1":
        problems.append(
            Finding(
                "max_slot_wal_keep_size",
                "",
                "WAL held for the slot has no limit: a cycle that never runs fills the server's disk",
                "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf() "
                "(a size that the disk can spare and that lasts from one cycle to the next)",
                fatal=False,
            )
        )
    return problems


def _table(table: TableInfo | str) -> Sequence[Finding]:
    if isinstance(table, str):
        return [Finding("table", "", table, "")]
    spec = table.tracked.spec
    name = quoted(table.schema, table.name)
    if table.kind not in ("r", "p"):
        return [
            Finding(
                "kind",
                spec,
                f"{spec} isn't an ordinary or partitioned table, so it has no changes to follow",
                "track its tables, or scan it from a source of its own: database_url without cdc_backend",
            )
        ]
    problems = []
    if table.persistence != "p" or any(leaf.persistence != "p" for leaf in table.leaves):
        problems.append(
            Finding(
                "unlogged",
                spec,
                f"{spec} isn't logged, so it has no changes",
                f"ALTER TABLE {name} SET LOGGED",
            )
        )
    if table.is_partition:
        problems.append(
            Finding("partition", spec, f"{spec} is a partition", "track the table that it is a partition of")
        )
    elif table.has_children or table.has_parent:
        problems.append(
            Finding(
                "inheritance",
                spec,
                f"{spec} inherits or is inherited from, so that its rows stand in several tables",
                "use partitions, or scan it from a source of its own",
            )
        )
    if any(leaf.kind == "f" for leaf in table.leaves):
        problems.append(
            Finding(
                "foreign", spec, f"{spec} has a foreign partition, whose changes aren't here", "detach it"
            )
        )
    problems += _identity(table, name)
    for column in table.columns:
        if column.generated:
            problems.append(
                Finding(
                    "generated",
                    f"{spec}.{column.name}",
                    f"{spec}.{column.name} is generated, and generated columns aren't told as changes",
                    "track the columns that it is made of",
                )
            )
    return problems


def _identity(table: TableInfo, name: str) -> Sequence[Finding]:
    spec = table.tracked.spec
    if not table.key:
        if table.unique is not None and table.kind == "r":
            fix = f"ALTER TABLE {name} REPLICA IDENTITY USING INDEX {table.unique}"
        else:
            fix = f"ALTER TABLE {name} ADD PRIMARY KEY (…)"
        return [
            Finding(
                "replica_identity",
                spec,
                f"{spec} has nothing that tells its rows apart, and once it is published the application's "
                "UPDATE and DELETE would fail",
                fix,
            )
        ]
    if any(column.generated for column in table.key):
        return [
            Finding(
                "generated",
                spec,
                f"the key of {spec} is generated, and generated columns aren't told as changes",
                f"give it another: ALTER TABLE {name} REPLICA IDENTITY USING INDEX …",
            )
        ]
    if table.identity == "n":
        return [
            Finding(
                "replica_identity",
                spec,
                f"{spec} has the replica identity NOTHING, and once it is published the application's UPDATE "
                "and DELETE would fail",
                f"ALTER TABLE {name} REPLICA IDENTITY DEFAULT",
            )
        ]
    key = frozenset(column.name for column in table.key)
    return [
        Finding(
            "replica_identity",
            spec,
            f"the partition {leaf.name} of {spec} tells its rows apart in another way than {spec}",
            _leaf_fix(leaf),
        )
        for leaf in table.leaves
        if leaf.kind == "r" and leaf.identity != "f" and (leaf.identity == "n" or leaf.key != key)
    ]


def _leaf_fix(leaf: Leaf) -> str:
    return f"ALTER TABLE {quoted(leaf.schema, leaf.name)} REPLICA IDENTITY FULL"


def create_publication(found: Catalogue, name: str) -> str:
    """The statement that makes the publication."""
    return (
        f"CREATE PUBLICATION {quoted(name)} FOR TABLE {_tables(found)} "
        "WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)"
    )


def alter_publication(found: Catalogue, name: str) -> Sequence[str]:
    """The statements that make an existing publication right."""
    return [
        f"ALTER PUBLICATION {quoted(name)} SET TABLE {_tables(found)}",
        f"ALTER PUBLICATION {quoted(name)} SET "
        "(publish = 'insert, update, delete, truncate', publish_via_partition_root = true)",
    ]


def around_a_migration(found: Catalogue, name: str) -> str:
    """What to run before and after a listed column is altered or dropped; '' where nothing is listed."""
    known = [table for table in found.tables if not isinstance(table, str)]
    if not any(table.published is not None and table.published.columns is not None for table in known):
        return ""
    whole = ", ".join(quoted(table.schema, table.name) for table in known)
    lists = ", ".join(f"{quoted(table.schema, table.name)}{_column_list(found, table)}" for table in known)
    publication = quoted(name)
    return (
        f"ALTER PUBLICATION {publication} SET TABLE {whole}; the migration; "
        f"ALTER PUBLICATION {publication} SET TABLE {lists}"
    )


def _tables(found: Catalogue) -> str:
    return ", ".join(
        f"{quoted(table.schema, table.name)}{_column_list(found, table)}" for table in found.known
    )


def _column_list(found: Catalogue, table: TableInfo) -> str:
    if found.server.version < COLUMN_LISTS or table.whole_identity:
        return ""
    names = dict.fromkeys(column.name for column in (*table.key, *table.columns))
    return f" ({', '.join(map(quoted, names))})"


def _publication(found: Catalogue, name: str) -> Sequence[Finding]:
    if any(isinstance(table, str) for table in found.tables):
        return []
    publication = found.publication
    if publication is None:
        return [
            Finding(
                "publication",
                name,
                f"there is no publication {name}",
                create_publication(found, name),
                ours=True,
            )
        ]
    set_table, set_options = alter_publication(found, name)
    problems = []
    if publication.events != _EVENTS or not publication.via_root:
        problems.append(
            Finding(
                "publication",
                name,
                f"the publication {name} leaves out events, or partitioned tables",
                set_options,
                ours=True,
            )
        )
    for table in found.known:
        spec, published = table.tracked.spec, table.published
        needed = {column.number for column in (*table.key, *table.columns)}
        if publication.all_tables:
            continue
        if published is None:
            problem = f"{spec} isn't in the publication {name}"
        elif published.filtered:
            problem = f"the publication {name} leaves out rows of {spec}"
        elif published.columns is not None and (not needed <= published.columns or table.whole_identity):
            problem = f"the publication {name} leaves out columns of {spec}"
        else:
            continue
        problems.append(Finding("publication", spec, problem, set_table, ours=True))
    return problems


def _slot(found: Catalogue, name: str) -> Sequence[Finding]:
    slot = found.slot
    create = f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')"
    drop = f"SELECT pg_drop_replication_slot('{name}')"
    if slot is None:
        return [Finding("slot", name, f"there is no replication slot {name}", create, ours=True)]
    if slot.plugin != "pgoutput" or slot.database != found.server.database:
        return [
            Finding(
                "slot",
                name,
                f"the replication slot {name} is {slot.kind} for {slot.plugin or 'nothing'} in "
                f"{slot.database or 'no database'}, not ours",
                drop,
            )
        ]
    if slot.wal_status == "lost":
        return [
            Finding(
                "slot",
                name,
                f"the replication slot {name} has lost its WAL (max_slot_wal_keep_size)",
                f"{drop}; {create}",
                ours=True,
            )
        ]
    if slot.wal_status == "unreserved":
        return [
            Finding(
                "slot",
                name,
                f"the replication slot {name} is about to lose its WAL: {slot.held} bytes are held",
                "run a cycle now, and raise max_slot_wal_keep_size",
                fatal=False,
            )
        ]
    return []
