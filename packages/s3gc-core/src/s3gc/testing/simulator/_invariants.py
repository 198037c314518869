"""The oracle: knows the whole truth, hears of every effect, and says at once which promise it breaks.

It judges by effects (what was removed, what stands in the journal) and by what the process was told,
never by what the collector says of itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from attrs import Factory, define

from s3gc import journal_events as events
from s3gc.model import BackupRecord, JournalDraft, ObjectAttributes
from s3gc.testing.simulator import _expected
from s3gc.testing.simulator._bucket import Version, digest
from s3gc.testing.simulator._database import Commit
from s3gc.testing.simulator._operation import Deletion, Operation, PlanFacts, Rules, Run
from s3gc.vault.records import record_from_json

if TYPE_CHECKING:
    from s3gc.testing.simulator._host import Host
    from s3gc.testing.simulator._process import Process
    from s3gc.testing.simulator._world import World

_ENDS = {events.OPERATION_COMPLETED, events.OPERATION_FAILED, events.OPERATION_RECOVERED}


def parents(key: str) -> list[str]:
    """The rule ``thumbs/{key}_200.jpg -> {key}.jpg`` of the worlds that derive objects."""
    if key.startswith("thumbs/") and key.endswith("_200.jpg"):
        return [key[len("thumbs/") : -len("_200.jpg")] + ".jpg"]
    return []


@define(eq=False)
class Memory:
    """What one vault with its registry has seen: it outlives processes."""

    operations: dict[str, Operation] = Factory(dict)
    plans: dict[str, PlanFacts] = Factory(dict)
    runs: dict[str, Run] = Factory(dict)
    good: dict[str, int] = Factory(dict)  # source → references at the last cycle that nothing held
    acknowledged: set[str] = Factory(set)  # codes
    latched: set[str] = Factory(set)  # codes that tripped and weren't acknowledged
    pinned: set[str] | None = None  # databases
    changed_at: dict[str, float] = Factory(dict)  # key → when the newest change that names it was committed
    vague: bool = False  # the registry lost its newest entries: grace can't be judged


@define(eq=False)
class Oracle:
    """Judges. The first broken promise ends the schedule."""

    world: World
    rules: Rules
    memories: dict[str, Memory] = Factory(dict)  # by vault
    deletions: list[Deletion] = Factory(list)

    def memory_of(self, vault: str) -> Memory:
        """What a vault has seen."""
        return self.memories.setdefault(vault, Memory())

    def memory(self, process: Process) -> Memory:
        return self.memory_of(process.host.vault_name)

    def broken(self, invariant: str, text: str, *values: object) -> None:
        self.world.violate(invariant, text.format(*values))

    # ------------------------------------------------------------------ the journal

    def journaled(self, process: Process, drafts: Sequence[JournalDraft]) -> None:
        """These entries are durable now."""
        memory, tick = self.memory(process), self.world.tick()
        told: dict[str, list[str]] = {}
        for draft in drafts:
            told.setdefault(draft.event, []).append(draft.key or "")
            self._entry(process, memory, draft, tick)
        for event, keys in told.items():
            named = ", ".join(key for key in keys if key)
            self.world.story.say(process.name, "journal: {} {}", event, named)

    def _entry(self, process: Process, memory: Memory, draft: JournalDraft, tick: int) -> None:
        name, key, data = draft.operation_id, draft.key or "", draft.data
        operation = memory.operations.get(name)
        match draft.event:
            case events.OPERATION_STARTED:
                operation = Operation(
                    name, data["kind"], process, tick, memory.plans.get(data.get("plan", ""))
                )
                memory.operations[name] = operation
                process.eyes.operation = name
                self._one_at_a_time(process, operation)
                self._settled_before(memory, operation)
            case events.PLAN_MADE:
                self._plan_made(process, memory, name)
            case events.BACKED_UP if operation is not None:
                record = record_from_json(data["backup"])
                operation.backed[key] = (record, tick)
                assert process.vault is not None
                path, needed = process.vault.pack_of(record)
                self._very_version(record)
                if self.world.disk.durable(path) < needed:
                    self.broken("P2", "the backup of {} is in the journal and not durable on the disk", key)
            case events.FENCE_REACHED if operation is not None:
                operation.fenced = tick
            case events.DELETE_INTENDED if operation is not None:
                operation.intended[key] = tick
                self._intended(process, memory, operation, key)
            case events.DELETED if operation is not None:
                operation.told_deleted[key] = tick
            case events.RESURRECTED | events.RESTORED:
                self.world.story.count(draft.event)
                memory.runs.pop(key, None)
            case events.SOURCES_PINNED:
                memory.pinned = {mark.get("system_identifier", "") for mark in data["sources"]}
            case events.BREAKER_TRIPPED:
                self.world.story.count(f"held by {data['code']}")
                memory.latched.add(data["code"])
            case events.BREAKER_ACKNOWLEDGED:
                memory.acknowledged.add(data["code"])
                memory.latched.discard(data["code"])
            case event if event in _ENDS and operation is not None:
                operation.ended = event
                if event == events.OPERATION_RECOVERED and not process.eyes.operation:
                    process.eyes.taint = ""  # what ends here is another operation than that which comes
                if process.eyes.operation == name:
                    process.eyes.operation = ""
                self._ended(process, operation)

    # ------------------------------------------------------------------ plans

    def _plan_made(self, process: Process, memory: Memory, name: str) -> None:
        plan = PlanFacts.read(process.host.folder / "plans" / f"{name}.jsonl")
        memory.plans[name] = plan
        eyes, world = process.eyes, self.world
        eyes.plan = name
        world.story.count("plans")
        self._observe(process, memory, plan.held_by)
        for code, why in _expected.breakers(self, process, memory, plan):
            if code not in plan.held_by and code not in memory.acknowledged:
                self.broken("P6", "the plan isn't held by {}: {}", code, why)
        if plan.held_by:
            return
        memory.good = {source: len(set(served.references)) for source, served in eyes.served.items()}
        tripped = {code for code, _ in _expected.breakers(self, process, memory, plan)}
        memory.acknowledged &= tripped
        for key in plan.objects:
            reason = self.rules.untouchable(key)
            if reason is not None:
                self.broken("gates", "{} is in the plan: {}", key, reason)
            version, listed = eyes.listed.get(key, (None, 0))
            if version is None:
                self.broken("plan", "{} is in the plan and was not listed", key)
                continue
            if version.info.storage_class == "GLACIER":
                self.broken("gates", "{} is in the plan: it is archived", key)
            for where, began, silent in () if eyes.garbled else self._named(key):
                if began <= listed and not silent:
                    self.broken("plan", "{} is in the plan, and {} named it all the time", key, where)

    def _observe(self, process: Process, memory: Memory, held_by: Sequence[str]) -> None:
        """A cycle that nothing of what was read held is an observation of every free key."""
        eyes = process.eyes
        if set(held_by) - {"too_many_deletes"} or eyes.store_now is None:
            return
        named = self.served_keys(process)
        runs: dict[str, Run] = {}
        for key, (version, _) in eyes.listed.items():
            if key in named or any(parent in named for parent in self._parents(key)):
                continue
            info, before = version.info, memory.runs.get(key)
            if before and (before.etag, before.modified) == (info.etag, info.last_modified):
                runs[key] = Run(
                    before.etag, before.modified, min(before.since, eyes.store_now), before.count + 1
                )
            else:
                runs[key] = Run(info.etag, info.last_modified, eyes.store_now, 1)
        memory.runs = runs

    def served_keys(self, process: Process) -> frozenset[str]:
        """Of the listed keys, those that the scans named. (A set: its order is never used.)"""
        plain = {
            one.key for served in process.eyes.served.values() for one in served.references if not one.prefix
        }
        folders = {
            one.key for served in process.eyes.served.values() for one in served.references if one.prefix
        }
        return frozenset(
            key for key in process.eyes.listed if key in plain or any(key.startswith(one) for one in folders)
        )

    def ghost(self, process: Process) -> None:
        """A plan ended half way: it may count as an observation, or not. Judge mildly."""
        memory, eyes = self.memory(process), process.eyes
        if eyes.plan or set(eyes.served) != set(process.sources) or eyes.store_now is None:
            return
        before = dict(memory.runs)
        self._observe(process, memory, ())
        memory.runs = {**before, **memory.runs}

    def told_change(self, process: Process, source: str, commit: Commit) -> None:
        """A change was told to a process."""
        memory = self.memory(process)
        for event in commit.events:
            for values in (event.before, event.after):
                for value in (values or {}).values():
                    memory.changed_at[value] = max(memory.changed_at.get(value, 0.0), commit.at)

    def found_again(self, process: Process) -> None:
        """The process went on after a direct read: what that found begins its grace anew."""
        for key in process.eyes.pending_resets:
            self.memory(process).runs.pop(key, None)
        process.eyes.pending_resets.clear()

    # ------------------------------------------------------------------ intents and deletions

    def _parents(self, key: str) -> list[str]:
        return parents(key) if self.rules.derived else []

    def named(self, key: str) -> bool:
        """Whether anybody names a key now."""
        return any(True for _ in self._named(key))

    def _named(self, key: str) -> Iterator[tuple[str, int, bool]]:
        """Who names a key now: rows that are committed and transactions that are open."""
        for one in (key, *self._parents(key)):
            for database in self.world.databases():
                for where, began, row in database.stakes(one):
                    yield where, began, row.silent
                for what, began in database.claims(one):
                    yield what, began, False

    def _intended(self, process: Process, memory: Memory, operation: Operation, key: str) -> None:
        """The last moment at which the collector's own rules can be judged."""
        rules, eyes = self.rules, process.eyes
        why = rules.untouchable(key)
        if why is not None:
            self.broken("gates", "{} is to be deleted: {}", key, why)
        if key.startswith("veto/"):
            self.broken("gates", "{} is to be deleted: a plugin has vetoed it", key)
        if operation.kind != "collect" or rules.mode != "execute":
            self.broken("gates", "{} is to be deleted by a {} in mode {}", key, operation.kind, rules.mode)
        if key not in operation.backed:
            self.broken("P4", "{} is to be deleted and no backup stands in the journal", key)
            return
        record, backed = operation.backed[key]
        plan = operation.plan
        if plan is None or key not in plan.objects:
            self.broken("plan", "{} is to be deleted and is not in the plan", key)
            return
        planned = plan.objects[key]
        if (planned.etag, planned.modified) != (record.etag, record.last_modified):
            self.broken("plan", "{} is to be deleted in another version than planned", key)
        if self.world.loop.now() - plan.made > rules.plan_age:
            self.broken("P6", "{} is to be deleted by a plan that is too old", key)
        if plan.held_by:
            self.broken("P6", "{} is to be deleted and the plan is held by {}", key, plan.held_by)
        if eyes.store_now is None or eyes.store_now - record.last_modified < rules.retention:
            self.broken("gates", "{} is to be deleted and is younger than the retention", key)
        self._grace(process, memory, key, record)
        for source in process.sources:
            fence = eyes.last_fence(source)
            if fence is None or fence.ended is None or fence.began < backed:
                self.broken(
                    "fence", "{} is to be deleted without a fence at {} after its backup", key, source
                )
                continue
            reads = [one for one in eyes.finds.get(source, ()) if key in one.keys]
            if not any(one.began > fence.ended for one in reads):
                self.broken(
                    "direct read", "{} is to be deleted and {} was not asked after the fence", key, source
                )
            if not any(one.ended < backed for one in reads):
                self.broken("direct read", "{} was backed up before {} was asked", key, source)
            if any(key in one.named for one in reads if one.began > operation.began):
                self.broken(
                    "direct read", "{} is to be deleted and {} said that it is referenced", key, source
                )
            if eyes.looks.get(key, 0) < fence.ended:
                self.broken("look", "{} is to be deleted and was not looked at after the fence", key)
        _expected.skew(self, process, key)

    def _grace(self, process: Process, memory: Memory, key: str, record: BackupRecord) -> None:
        rules, now = self.rules, process.eyes.store_now
        if memory.vague or now is None:
            return
        run = memory.runs.get(key)
        if run is None or (run.etag, run.modified) != (record.etag, record.last_modified):
            if rules.observations > 0:
                self.broken("gates", "{} is to be deleted and no cycle saw this version unreferenced", key)
            return
        if run.count < rules.observations:
            self.broken(
                "gates", "{} is to be deleted after {} observations of {}", key, run.count, rules.observations
            )
        if now - run.since < rules.grace:
            self.broken("gates", "{} is to be deleted after a grace of {}", key, now - run.since)
        _expected.change_grace(self, process, memory, key)

    def deleting(self, process: Process, key: str, version: Version) -> None:
        """An object is about to vanish from the bucket."""
        if version.by == process.name and key.startswith(".s3gc/"):
            return  # its own sentinel
        memory, tick = self.memory(process), self.world.tick()
        operation = next(
            (one for one in memory.operations.values() if key in one.intended and one.is_open), None
        )
        if operation is None:
            self.broken("P4", "{} is deleted outside of an operation that intends it", key)
            return
        if process.eyes.operation not in ("", operation.name):
            self.broken("P4", "{} is deleted after the end of its operation", key)
        record, backed = operation.backed[key]
        self._order(operation, key, backed)
        for where, began, _ in () if process.eyes.garbled else self._named(key):
            if began <= backed:
                self.broken("P1", "{} is deleted, and {} named it before the fence", key, where)
        self._same_version(process, operation, key, version, record)
        if not self.world.bucket.conditional and not self.rules.unconditional:
            self.broken("P6", "{} is deleted on a store that ignores If-Match, and nobody allowed that", key)
        if process.eyes.taint:
            self.broken("P6", "{} is deleted, although {}", key, process.eyes.taint)
        if memory.latched & self.world.settings.latching:
            self.broken("P6", "{} is deleted, and {} was not acknowledged", key, sorted(memory.latched))
        self._lease(process, operation, key)
        self._claimed(key)
        deletion = Deletion(key, version, process, tick, record)
        operation.deletions.append(deletion)
        self.deletions.append(deletion)
        _expected.too_many(self, memory, operation)

    def _order(self, operation: Operation, key: str, backed: int) -> None:
        if not backed < operation.fenced <= operation.intended[key]:
            self.broken("P4", "{}: the journal has no backed_up < fence_reached < delete_intended", key)

    def _same_version(
        self, process: Process, operation: Operation, key: str, version: Version, record: BackupRecord
    ) -> None:
        info = version.info
        same_bytes = (info.etag, info.size, digest(version.body)) == (record.etag, record.size, record.sha256)
        same = same_bytes and info.last_modified == record.last_modified
        if same and version.attributes == record.attributes:
            return
        late = version.tick > process.eyes.looks.get(key, 0) > operation.backed[key][1]
        same_second = info.last_modified.replace(microsecond=0) == record.last_modified.replace(microsecond=0)
        if same_bytes and (late or same_second):
            return  # docs, known limits: the same bytes again, after the last look or in one second
        if late and not self.world.bucket.conditional and self.rules.unconditional:
            return  # a store that ignores If-Match, and somebody allowed that
        self.broken("P2", "{} is deleted in a version (by {}) that the vault doesn't have", key, version.by)

    def _lease(self, process: Process, operation: Operation, key: str) -> None:
        for memory in self.memories.values():
            for other in memory.operations.values():
                if other.process is not process and other.began > operation.began and other.kind == "collect":
                    self.broken(
                        "lease",
                        "{} is deleted by {} after {} began {}",
                        key,
                        process.name,
                        other.process.name,
                        other.name,
                    )

    def _one_at_a_time(self, process: Process, operation: Operation) -> None:
        for memory in self.memories.values():
            for other in memory.operations.values():
                if other.process is process or other.process.dead or not other.is_open:
                    continue
                if not other.process.is_working(other.name):
                    continue
                if self.rules.lease is None or not other.process.is_stale(self.rules.lease):
                    self.broken(
                        "lease",
                        "{} begins while {} works on {}",
                        operation.name,
                        other.process.name,
                        other.name,
                    )

    def _settled_before(self, memory: Memory, operation: Operation) -> None:
        for other in memory.operations.values():
            if other.is_open and other is not operation and not other.process.is_working(other.name):
                self.broken("P5", "{} begins and {} is still open", operation.name, other.name)

    def _very_version(self, record: BackupRecord) -> None:
        """A backup is of one upload, and not of two: bytes, attributes and times belong together."""
        for version in self.world.bucket.history.get(record.key, ()):
            info = version.info
            same = (info.etag, info.size, digest(version.body)) == (record.etag, record.size, record.sha256)
            seconds = (info.last_modified - record.last_modified).total_seconds()
            if same and version.attributes == record.attributes and abs(seconds) < 1:
                return
        self.broken("P2", "the backup of {} is of no version that ever was there", record.key)

    def _claimed(self, key: str) -> None:
        until = self.world.claimed.get(key, 0.0)
        if until > self.world.loop.time():
            self.broken("claims", "{} is deleted and was promised until second {}", key, until)

    # ------------------------------------------------------------------ puts

    def putting(
        self, process: Process, key: str, body: bytes, attributes: ObjectAttributes, live: Version | None
    ) -> None:
        """A collector is about to write an object."""
        if key.startswith(".s3gc/"):
            return
        taken = self.world.bucket.taken.get(key, [])
        if not any((one.body, one.attributes) == (body, attributes) for one in taken):
            self.broken("P2", "{} is put back with other bytes or attributes than any that were taken", key)
        if live is not None:
            memory = self.memory(process)
            operation = memory.operations.get(process.eyes.operation)
            record = operation.backed[key][0] if operation and key in operation.backed else None
            if record is None or (record.sha256, record.attributes) != (digest(live.body), live.attributes):
                self.broken("P2", "{} is overwritten and the vault doesn't have the live version", key)
            taken.append(live)
        self.world.story.count("put back")
        self.world.story.say("bucket", "{} is put back by {}", key, process.name)

    # ------------------------------------------------------------------ ends

    def _ended(self, process: Process, operation: Operation) -> None:
        """P3: whoever named a key before the last confirmation began has it."""
        self.world.story.count("operations")
        bucket = self.world.bucket
        for deletion in operation.deletions:
            key = deletion.key
            if key in bucket.objects or bucket.removed_by_app.get(key, 0) > deletion.tick:
                continue
            if any(one.key == key and one.tick > deletion.tick for one in self.deletions):
                continue  # it came back, and a later operation has it on its account
            for source in process.sources:
                self._confirmed(process, operation, deletion, source)

    def _confirmed(self, process: Process, operation: Operation, deletion: Deletion, source: str) -> None:
        """The last fence that a direct read for this key followed is the key's last confirmation."""
        key, eyes = deletion.key, process.eyes
        confirmation = 0
        for read in eyes.finds.get(source, ()):
            if key in read.keys:
                fences = [one for one in eyes.fences.get(source, ()) if one.ended and one.ended < read.began]
                confirmation = max([confirmation, *(one.began for one in fences)])
        if confirmation < deletion.tick:
            self.broken("P3", "{} ended and {} was not confirmed at {}", operation.name, key, source)
            return
        later = [one for one, (_, backed) in operation.backed.items() if backed > confirmation]
        if later:
            self.broken(
                "P3",
                "{} ended and {} was not confirmed again after {} were backed up",
                operation.name,
                key,
                later,
            )
        for one in (key, *self._parents(key)):
            for where, began, _ in self.world.links[source].database.stakes(one):
                if began <= confirmation and not eyes.garbled:
                    self.broken("P3", "{} ended, and {}, which {} names, is gone", operation.name, key, where)

    def restored(self, process: Process, key: str, said: Sequence[str], taken: Sequence[Version]) -> None:
        """A restore of one key says what it did; ``taken`` are the versions removed before it."""
        live = self.world.bucket.objects.get(key)
        if key not in said or live is None or live.by != process.name:
            return
        newest = taken[-1]
        if (live.body, live.attributes) != (newest.body, newest.attributes):
            self.broken("P2", "{} was restored, and not as it was when it was removed last", key)

    def ended_well(self, process: Process) -> None:
        """A plan or a collect came back without an error."""
        if process.eyes.taint and self.rules.mode == "execute":
            self.broken("P6", "{} was not held, although {}", process.eyes.doing, process.eyes.taint)

    def finish(self, host: Host) -> None:
        """All is quiet: every operation has ended, and the journal explains each deletion."""
        memory = self.memory_of(host.vault_name)
        for operation in memory.operations.values():
            if operation.is_open:
                self.broken("P5", "{} was never finished or undone", operation.name)
            for deletion in operation.deletions:
                if operation.told_deleted.get(deletion.key, 0) < deletion.tick:
                    self.broken("P4", "the journal doesn't know that {} was deleted", deletion.key)

    def alive(self, keys: Sequence[str]) -> None:
        """Liveness, for schedules that nothing disturbs: these should have gone."""
        for key in keys:
            if key in self.world.bucket.objects:
                self.broken("liveness", "{} is garbage and nothing ever deleted it", key)
