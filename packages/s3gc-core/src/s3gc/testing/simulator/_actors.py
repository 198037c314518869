"""What applications do: write rows and objects, in the orders in which applications write them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from s3gc import _threads
from s3gc.errors import S3GCError
from s3gc.model import ObjectAttributes
from s3gc.testing.simulator._database import UNTRACKED, Database, Transaction, Values
from s3gc.testing.simulator._schedule import ROW_KINDS, Act

if TYPE_CHECKING:
    from s3gc import Collector
    from s3gc.testing.simulator._process import Process
    from s3gc.testing.simulator._world import World

ATTRIBUTES = (
    ObjectAttributes(),
    ObjectAttributes(content_type="image/jpeg", metadata={"owner": "7"}),
    ObjectAttributes(content_type="image/png", cache_control="no-cache", tags={"kind": "photo"}),
)
ARCHIVED = ObjectAttributes(storage_class="GLACIER")

ENDINGS = ("commit", "commit", "roll back", "prepare, commit", "prepare, roll back")


def body_of(key: str, number: int) -> bytes:
    """The bytes of the nth upload of a key; equal numbers, equal bytes."""
    return f"{key} #{number}\n".encode() * (1 + 40 * (number % 3))


class App:
    """All applications at once."""

    def __init__(self, world: World) -> None:
        self._world = world

    def do(self, act: Act) -> bool:
        """Do it now. False when it isn't an application's act."""
        handler = getattr(self, f"_{act.kind}", None)
        if handler is None:
            return False
        handler(act)
        return True

    # ------------------------------------------------------------------ objects

    def _put(self, key: str, number: int) -> None:
        attributes = ARCHIVED if key.startswith("old/") else ATTRIBUTES[number % len(ATTRIBUTES)]
        self._world.bucket.put(key, body_of(key, number), attributes, "app")
        self._world.story.say("app", "uploads {} (#{})", key, number)

    def _upload(self, act: Act) -> None:
        self._put(act.key, act.number % 3)

    def _thumb(self, act: Act) -> None:
        self._put(act.key, act.number % 3)

    def _overwrite_same(self, act: Act) -> None:
        """The same bytes, perhaps with other attributes."""
        before = self._world.bucket.last.get(act.key)
        if before is None:
            return self._upload(act)
        attributes = before.attributes if act.number % 2 else ATTRIBUTES[act.number % len(ATTRIBUTES)]
        self._world.bucket.put(act.key, before.body, attributes, "app")
        self._world.story.say("app", "uploads {} again, the same bytes", act.key)
        return None

    def _overwrite_other(self, act: Act) -> None:
        self._put(act.key, act.number + 3)

    def _remove(self, act: Act) -> None:
        if self._world.bucket.remove_by_app(act.key):
            self._world.story.say("app", "removes {} by hand", act.key)

    # ------------------------------------------------------------------ rows

    def _place(self, row: str) -> tuple[Database, str, str]:
        source, table, column = ROW_KINDS[row[0]]
        return self._world.links[source].database, table, column

    def _values(self, row: str, key: str) -> Values:
        _, _, column = self._place(row)
        value = key[: key.rindex("/") + 1] if row[0] == "a" and "/" in key else key
        return {column: value}

    def _insert(self, act: Act) -> None:
        database, table, _ = self._place(act.row)
        done = database.at_once(table, act.row, self._values(act.row, act.key))
        self._world.story.say("app", "row {} names {}{}", act.row, act.key, "" if done else ": it is locked")

    def _insert_silently(self, act: Act) -> None:
        """A change that no log tells of (``sql_log_bin=0``)."""
        database, table, _ = self._place(act.row)
        done = database.at_once(table, act.row, self._values(act.row, act.key), silent=True)
        self._world.story.say(
            "app", "row {} names {}, in no log{}", act.row, act.key, "" if done else ": locked"
        )

    def _note(self, act: Act) -> None:
        """A key in a column that nobody configured."""
        database, table, column = self._place("p9")
        database.at_once(table, "p9", {column: "p/2.jpg", UNTRACKED[1]: act.key})
        self._world.story.say("app", "row p9 mentions {} in an untracked column", act.key)

    def _delete(self, act: Act) -> None:
        database, table, _ = self._place(act.row)
        if database.at_once(table, act.row, None):
            self._world.story.say("app", "deletes row {}", act.row)

    def _touch(self, act: Act) -> None:
        """A row that comes and goes."""
        self._insert(act)
        self._world.later(act.seconds, lambda: self._delete(act))

    def _move(self, act: Act) -> None:
        """In one transaction the key goes over from the rows that name it to another row."""
        database, table, _ = self._place(act.row)
        transaction = database.begin()
        for (in_table, row), found in list(database.rows.items()):
            if act.key in found.values.values() and row[1] != "0":
                database.write(transaction, in_table, row, None)
        database.write(transaction, table, act.row, self._values(act.row, act.key))
        database.commit(transaction)
        self._world.story.say("app", "{} moves to row {}", act.key, act.row)

    # ------------------------------------------------------------------ both

    def _upload_insert(self, act: Act) -> None:
        self._upload(act)
        self._world.later(act.seconds, lambda: self._insert(act))

    def _insert_upload(self, act: Act) -> None:
        self._insert(act)
        self._world.later(act.seconds, lambda: self._upload(act))

    def _overwrite_insert(self, act: Act) -> None:
        self._overwrite_other(act)
        self._insert(act)

    def _same_insert(self, act: Act) -> None:
        self._overwrite_same(act)
        self._insert(act)

    # ------------------------------------------------------------------ transactions

    def _tx(self, act: Act) -> None:
        """A transaction: begun now, the statement now or half way, its end after ``seconds``."""
        database, _, _ = self._place(act.row)
        transaction = database.begin()
        ending = ENDINGS[act.number % len(ENDINGS)]
        self._world.story.say(
            "app", "begins {} (to end after {:g}s: {})", transaction.name, act.seconds, ending
        )
        if act.number // len(ENDINGS) % 2:
            self._world.later(act.seconds / 2, lambda: self._state(database, transaction, act))
        else:
            self._state(database, transaction, act)
        if ending.startswith("prepare"):
            self._world.later(act.seconds * 0.75, lambda: database.prepare(transaction))
        self._world.later(act.seconds, lambda: self._finish(database, transaction, ending))

    def _state(self, database: Database, transaction: Transaction, act: Act) -> None:
        _, table, _ = self._place(act.row)
        if database.write(transaction, table, act.row, self._values(act.row, act.key)):
            self._world.story.say("app", "{}: row {} names {}", transaction.name, act.row, act.key)

    def _finish(self, database: Database, transaction: Transaction, ending: str) -> None:
        commits = ending.endswith("commit")
        if database.commit(transaction) if commits else database.roll_back(transaction):
            self._world.story.say("app", "{} {}", transaction.name, "commits" if commits else "rolls back")

    # ------------------------------------------------------------------ claims

    def _claim(self, act: Act) -> None:
        """Ask first, then refer to an object that is there already."""
        if self._world.claimer is None:
            return self._insert(act)
        self._world.asking.append(self._world.loop.create_task(self._ask(act, *self._world.claimer)))
        return None

    async def _ask(self, act: Act, gc: Collector, process: Process) -> None:
        world, ttl = self._world, (3.0, 60.0, 600.0, 3_600.0)[act.number % 4]
        until = world.loop.time() + ttl
        world.story.say("app", "claims {} for {:g}s", act.key, ttl)
        try:
            with _threads.run_by(process.blocking):
                got = await gc.claim(act.key, timedelta(seconds=ttl))
        except S3GCError as error:
            world.story.say("app", "may not claim {}: {}", act.key, error)
            return
        except BaseException:
            if process.dead:
                return
            raise
        world.story.say("app", "{} {}", "may refer to" if got else "may not refer to", act.key)
        if not got or world.loop.time() >= until:
            return
        world.story.count("claims")
        if act.key not in world.bucket.objects and act.key not in world.bucket.removed_by_app:
            world.violate("claims", f"the claim of {act.key} was granted, and it is missing")
        world.claimed[act.key] = max(until, world.claimed.get(act.key, 0.0))
        world.later((until - world.loop.time()) * 0.9, lambda: self._insert_claimed(act, until))

    def _insert_claimed(self, act: Act, until: float) -> None:
        """In time: from now on the row protects the object."""
        self._insert(act)
        database, table, column = self._place(act.row)
        row = database.rows.get((table, act.row))
        if row is not None and row.values.get(column) == act.key and self._world.loop.time() < until:
            self._world.claimed_rows.add((act.key, row.since[column]))

    # ------------------------------------------------------------------ accidents

    def _truncate(self, act: Act) -> None:
        """A table is emptied by mistake, and loaded again later."""
        database, table, _ = self._place(act.row)
        before = {place: row.values for place, row in database.rows.items() if place[0] == table}
        database.empty(table)
        self._world.story.say("app", "table {} is empty, by mistake", table)

        def reload() -> None:
            transaction = database.begin()
            for (_, row), values in before.items():
                database.write(transaction, table, row, values)
            database.commit(transaction)
            self._world.story.say("app", "table {} is loaded again", table)

        self._world.later(act.seconds, reload)

    def _back_to_past(self, act: Act) -> None:
        """The database is set back to what it was."""
        database, _, _ = self._place(act.row)
        if database.log:
            lsn = database.log[act.number % len(database.log)].lsn
            database.back_to(lsn)
            self._world.story.say("operator", "sets {} back to LSN {}", database.name, lsn)
