"""The oracle: knows the whole truth, hears of every effect, and says at once which promise it breaks.

It judges by effects (what was removed, what stands in the journal) and by what the process was told,
never by what the collector says of itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from attrs import Factory, define

from s3gc import journal_events as events
from s3gc.abc import folders_of
from s3gc.model import BackupRecord, JournalDraft, ObjectAttributes, Reference, RowChange
from s3gc.testing.simulator import _deletions, _ends, _expected
from s3gc.testing.simulator._bucket import digest
from s3gc.testing.simulator._memory import Registry, VaultMemory
from s3gc.testing.simulator._operation import Deletion, Operation, PlanFacts, Rules, Run
from s3gc.vault.records import record_from_json

if TYPE_CHECKING:
    from s3gc.testing.simulator._bucket import Version
    from s3gc.testing.simulator._database import Commit
    from s3gc.testing.simulator._host import Host
    from s3gc.testing.simulator._process import Process
    from s3gc.testing.simulator._world import World

_ENDS = {events.OPERATION_COMPLETED, events.OPERATION_FAILED, events.OPERATION_RECOVERED}

PASSES = frozenset({"no_sources", "recovery_pending", "unconditional_delete"})
"""Breakers that don't have to stay until somebody acknowledges them."""


def parents(key: str) -> list[str]:
    """The rule ``thumbs/{key}_200.jpg -> {key}.jpg`` of the worlds that derive objects."""
    if key.startswith("thumbs/") and key.endswith("_200.jpg"):
        return [key[len("thumbs/") : -len("_200.jpg")] + ".jpg"]
    return []


@define(eq=False)
class Oracle:
    """Judges. The first broken promise ends the schedule."""

    world: World
    rules: Rules
    vaults: dict[str, VaultMemory] = Factory(dict)
    registries: dict[str, Registry] = Factory(dict)  # by the folder's name
    deletions: list[Deletion] = Factory(list)

    def vault_named(self, name: str) -> VaultMemory:
        return self.vaults.setdefault(name, VaultMemory())

    def vault(self, process: Process) -> VaultMemory:
        """What the journal of this process's vault holds."""
        return self.vault_named(process.host.vault.name)

    def registry(self, process: Process) -> Registry:
        """What the registry of this process's folder holds."""
        return self.registries.setdefault(process.host.folder.name, Registry())

    def broken(self, invariant: str, text: str, *values: object) -> None:
        self.world.violate(invariant, text.format(*values))

    # ------------------------------------------------------------------ who names what

    def parents(self, key: str) -> list[str]:
        return parents(key) if self.rules.derived else []

    def named(self, key: str) -> bool:
        """Whether anybody names a key now."""
        return any(True for _ in self.names(key))

    def names(self, key: str) -> Iterator[tuple[str, int, bool]]:
        """Rows and open transactions that name a key now: (which, tick since when, in no log)."""
        for one in (key, *self.parents(key)):
            for database in self.world.databases():
                for where, began, row in database.stakes(one):
                    yield where, began, row.silent
                for what, began in database.claims(one):
                    yield what, began, False

    # ------------------------------------------------------------------ the journal

    def journaled(self, process: Process, drafts: Sequence[JournalDraft]) -> None:
        """These entries are durable now."""
        tick = self.world.tick()
        told: dict[str, list[str]] = {}
        for draft in drafts:
            told.setdefault(draft.event, []).append(draft.key or str(draft.data.get("code", "")))
            self._entry(process, draft, tick)
        for event, keys in told.items():
            self.world.story.say(process.name, "journal: {} {}", event, ", ".join(filter(None, keys)))

    def _entry(self, process: Process, draft: JournalDraft, tick: int) -> None:
        vault, registry = self.vault(process), self.registry(process)
        name, key, data = draft.operation_id, draft.key or "", draft.data
        operation = vault.operations.get(name)
        match draft.event:
            case events.OPERATION_STARTED:
                plan = registry.plans.get(data.get("plan", ""))
                operation = vault.operations[name] = Operation(name, data["kind"], process, tick, plan)
                process.eyes.operation = name
                _ends.started(self, process, operation)
            case events.PLAN_MADE:
                self._plan_made(process, name)
            case events.BACKED_UP if operation is not None:
                record = record_from_json(data["backup"])
                operation.backed[key] = (record, tick)
                _deletions.backed_up(self, process, record)
            case events.FENCE_REACHED if operation is not None:
                operation.fenced = tick
            case events.DELETE_INTENDED if operation is not None:
                operation.intended[key] = tick, operation.fenced
                _deletions.intended(self, process, operation, key)
            case events.DELETED if operation is not None:
                operation.told_deleted[key] = tick
                vault.removed[key] = record_from_json(data["backup"])
            case events.OVERWRITTEN:
                vault.removed[key] = record_from_json(data["backup"])
            case events.RESURRECTED | events.RESTORED:
                self.world.story.count(draft.event)
                registry.runs.pop(key, None)
            case events.SOURCES_PINNED:
                vault.pinned = {mark.get("system_identifier", "") for mark in data["sources"]}
            case events.BREAKER_TRIPPED:
                self.world.story.count(f"held by {data['code']}")
                if data["code"] not in PASSES.union(self.world.settings.self_clearing):
                    vault.latched.add((data["code"], data["subject"]))
            case events.BREAKER_ACKNOWLEDGED:
                vault.latched.discard((data["code"], data["subject"]))
                vault.acknowledged.add((data["code"], data["subject"]))
                registry.acknowledged.add((data["code"], data["subject"]))
                if data["code"] == "position_lost":
                    registry.lost.discard(data["subject"])
            case event if event in _ENDS and operation is not None:
                operation.ended = event
                if event == events.OPERATION_RECOVERED and not process.eyes.operation:
                    process.eyes.taint = ""  # what ends here is another operation than that which comes
                if process.eyes.operation == name:
                    process.eyes.operation = ""
                _ends.ended(self, process, operation)

    # ------------------------------------------------------------------ what the registry is told

    def fenced(self, process: Process, source: str, lsn: int) -> None:
        """A source told where it is."""
        process.eyes.fenced_at[source] = lsn
        if lsn < self.registry(process).ordinals.get(source, 0):
            process.eyes.went_back = source

    def scanned(self, process: Process, source: str, references: Sequence[Reference]) -> None:
        """A scan came to its end."""
        eyes = process.eyes
        ordinal = eyes.begun_at.pop(source, eyes.fenced_at.get(source, 0))
        self.registry(process).scanned(source, references, ordinal)
        eyes.synced.add(source)

    def told_change(
        self, process: Process, source: str, commit: Commit, changes: Sequence[RowChange], *, again: bool
    ) -> None:
        """A commit is told to a process."""
        registry = self.registry(process)
        for one in registry.changed(source, changes, commit.lsn):
            if again:
                continue
            known = [*self.world.bucket.last]
            for key in [one.key] if not one.prefix else [key for key in known if one.key in folders_of(key)]:
                for touched in (key, *(child for child in known if key in self.parents(child))):
                    registry.changed_at[touched] = max(registry.changed_at.get(touched, 0.0), commit.at)
                    registry.fresh.add(touched)
                    registry.runs.pop(touched, None)

    def caught_up(self, process: Process, source: str, ordinal: int) -> None:
        """All changes up to a fence are told."""
        self.registry(process).ordinals[source] = ordinal
        process.eyes.synced.add(source)

    def lost_position(self, process: Process, source: str) -> None:
        """A process hears that changes are lost."""
        registry = self.registry(process)
        registry.lost.add(source)
        registry.runs.clear()
        process.eyes.spoil(f"{source}: changes are lost")

    def found_again(self, process: Process) -> None:
        """The process went on after a direct read: what that found begins its grace anew."""
        for key in process.eyes.pending_resets:
            self.registry(process).runs.pop(key, None)
        process.eyes.pending_resets.clear()

    # ------------------------------------------------------------------ plans

    def _plan_made(self, process: Process, name: str) -> None:
        registry, eyes = self.registry(process), process.eyes
        plan = PlanFacts.read(process.host.folder / "plans" / f"{name}.jsonl")
        registry.plans[name] = plan
        eyes.plan = name
        self.world.story.count("plans")
        expected = list(_expected.breakers(self, process, plan))
        for tripped, why in expected:
            if tripped[0] not in plan.held_by and tripped not in registry.acknowledged:
                self.broken("P6", "the plan isn't held by {}: {}", tripped[0], why)
        for code, subject in sorted(self.vault(process).latched):
            if code not in plan.held_by and self.rules.mode != "dry_run":
                self.broken("P6", "the plan isn't held by {} of {}, which nobody acknowledged", code, subject)
        if not {tripped for tripped, _ in expected} - registry.acknowledged - {("too_many_deletes", "")}:
            self._observe(process)
        if plan.held_by:
            return
        registry.good = {source: len(rows) for source, rows in registry.references().items()}
        registry.good_ordinals = dict(registry.ordinals)
        registry.acknowledged &= {tripped for tripped, _ in expected}
        for key in plan.objects:
            self._in_plan(process, key)

    def _in_plan(self, process: Process, key: str) -> None:
        eyes = process.eyes
        reason = self.rules.untouchable(key)
        if reason is not None:
            self.broken("gates", "{} is in the plan: {}", key, reason)
        version, listed = eyes.listed.get(key, (None, 0))
        if version is None:
            self.broken("plan", "{} is in the plan and was not listed", key)
            return
        if version.info.storage_class == "GLACIER":
            self.broken("gates", "{} is in the plan: it is archived", key)
        for where, began, silent in () if eyes.garbled else self.names(key):
            if began <= listed and not silent:
                self.broken("plan", "{} is in the plan, and {} named it all the time", key, where)

    def _observe(self, process: Process) -> None:
        """A cycle that nothing of what was read held is an observation of every free key."""
        eyes, registry = process.eyes, self.registry(process)
        if eyes.store_now is None:
            return
        named = self.protected(process)
        runs: dict[str, Run] = {}
        for key, (version, _) in eyes.listed.items():
            if key in named:
                continue
            info, before = version.info, registry.runs.get(key)
            since = eyes.store_now
            if key in registry.fresh:
                since = min(since, self.world.loop.at(registry.changed_at[key]))
            if before and (before.etag, before.modified) == (info.etag, info.last_modified):
                runs[key] = Run(before.etag, before.modified, min(before.since, since), before.count + 1)
            else:
                runs[key] = Run(info.etag, info.last_modified, since, 1)
        registry.runs = runs
        registry.fresh.clear()

    def protected(self, process: Process) -> frozenset[str]:
        """Of the listed keys, those that the registry's rows protect. (A set: its order is never used.)"""
        every = [one for some in self.registry(process).references().values() for one in some]
        plain = {one.key for one in every if not one.prefix}
        folders = {one.key for one in every if one.prefix}

        def is_named(key: str) -> bool:
            return key in plain or not folders.isdisjoint(folders_of(key))

        return frozenset(
            key for key in process.eyes.listed if is_named(key) or any(map(is_named, self.parents(key)))
        )

    def ghost(self, process: Process) -> None:
        """A plan ended half way: it may count as an observation, or not. Judge mildly."""
        registry, eyes = self.registry(process), process.eyes
        if eyes.plan or eyes.synced != set(process.sources):
            return
        before, fresh = dict(registry.runs), set(registry.fresh)
        self._observe(process)
        registry.runs = {**before, **registry.runs}
        registry.fresh |= fresh

    # ------------------------------------------------------------------ effects, judged elsewhere

    def deleting(self, process: Process, key: str, version: Version, called: int) -> None:
        """An object is about to vanish from the bucket; the request was made at tick ``called``."""
        _deletions.deleting(self, process, key, version, called)

    def putting(
        self, process: Process, key: str, body: bytes, attributes: ObjectAttributes, live: Version | None
    ) -> None:
        """A collector is about to write an object."""
        _deletions.putting(self, process, key, body, attributes, live)

    def restored(self, process: Process, key: str, said: Sequence[str], before: BackupRecord | None) -> None:
        """A restore of one key says what it did; ``before`` is the version that was removed last.

        None: a crash or a full disk hid that removal, and the journal learnt of it in the restore itself.
        """
        before = before or next((one.record for one in reversed(self.deletions) if one.key == key), None)
        live = self.world.bucket.objects.get(key)
        if key not in said or live is None or live.by != process.name:
            return
        if before is None or (digest(live.body), live.attributes) != (before.sha256, before.attributes):
            self.broken("P2", "{} was restored, and not as it was when it was removed last", key)

    def ended_well(self, process: Process) -> None:
        """A plan or a collect came back without an error."""
        if process.eyes.taint and self.rules.mode == "execute":
            self.broken("P6", "{} was not held, although {}", process.eyes.doing, process.eyes.taint)

    def cancelled(self, process: Process) -> None:
        """An operation was cancelled, in good order."""
        _ends.cancelled(self, process)

    def finish(self, host: Host) -> None:
        """All is quiet: every operation has ended, and the journal explains each deletion."""
        for operation in self.vault_named(host.vault.name).operations.values():
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
