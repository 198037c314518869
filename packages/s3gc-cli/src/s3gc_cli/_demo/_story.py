"""The demo from first to last. Every number that it shows or checks was measured on the way."""

from __future__ import annotations

import os
import shutil
import time
from datetime import UTC, datetime
from typing import Any

from attrs import evolve
from rich.console import Console

from s3gc import Config, Plan, Report, Safety, create_config, journal_events
from s3gc.model import Mode
from s3gc_cli._demo._checks import Checks
from s3gc_cli._demo._compare import compare, files, own
from s3gc_cli._demo._stage import Stage
from s3gc_cli._demo._world import CDN, EXCLUDED, RETENTION_DAYS, TABLES, World
from s3gc_cli._render.plan import show_plan
from s3gc_cli._render.reports import collected, restored, show_audit
from s3gc_cli._run import Session
from s3gc_cli._text import count


def configuration(world: World) -> Config:
    """The demo's configuration: dry-run, waits for nothing, content with a folder for a bucket."""
    path = str(world.database).replace("%", "%25").replace("?", "%3F")  # what means something in a URL
    return create_config(
        world.bucket.as_uri(),
        database_url=f"sqlite:///{path}",
        tables=TABLES,
        base_urls=[CDN],
        exclude_prefixes=[EXCLUDED],
        retention_days=RETENTION_DAYS,
        vault_path=world.folder / "vault",
        safety=Safety.demo(),
    )


class Story:
    """One performance."""

    def __init__(self, session: Session, world: World, console: Console) -> None:
        self.world = world
        self.checks = Checks()
        self.facts: dict[str, Any] = {}
        self._session = session
        self._stage = Stage(console)
        self._look = configuration(world)
        self._execute = evolve(self._look, mode=Mode.EXECUTE)

    async def tell(self) -> None:
        """All steps. A check that fails doesn't end the story: the rest is worth seeing."""
        self._introduce()
        plan = await self._plan()
        before = datetime.now(UTC)
        report = await self._collect(plan)
        await self._verify(report)
        await self._explain(report)
        self._restore_database()
        await self._restore_objects(before, report)
        await self._look_again()
        self._stage.step("What was claimed, and what was measured")
        self._stage.checks(self.checks.done)

    def _introduce(self) -> None:
        world = self.world
        self._stage.step("An application and its bucket")
        self._stage.world(world)
        self.facts["world"] = {
            "rows": sum(world.rows.values()),
            "objects": len(world.objects),
            "bytes": world.size,
            "referenced": len(world.today),
        }

    async def _plan(self) -> Plan:
        self._stage.step("What would go?", "s3gc plan")
        async with self._session.collector(self._look) as gc:
            plan = await gc.plan()
        show_plan(self._stage.console, self._session.output.secrets, plan)
        untouched = compare(self.world.original, self.world.bucket)
        nothing = untouched.equal and not own(self.world.bucket)
        self.checks.same_keys(
            "the plan names what no row refers to, and nothing else", self.world.garbage, list(plan.keys())
        )
        self.checks.that("a plan touches nothing", nothing, str(untouched))
        self.facts["plan"] = {
            "scanned": plan.scanned,
            "candidates": plan.candidates,
            "planned": len(plan),
            "bytes": plan.bytes,
            "kept": dict(plan.kept),
        }
        return plan

    async def _collect(self, plan: Plan) -> Report:
        self._stage.step("Back up and delete exactly that", "s3gc collect --mode execute")
        begun = time.monotonic()
        async with self._session.collector(self._execute) as gc:
            report = await gc.collect(plan)
        self._stage.say(f"{collected(report)}, in {time.monotonic() - begun:.1f} s.")
        world = self.world
        marks = count(len(own(world.bucket)), "small object")
        self._stage.say(f"s3gc keeps {marks} of its own below .s3gc/: whose turn it is, and whose bucket.")
        left = compare(world.original, world.bucket, only=world.objects - world.garbage)
        self.checks.same_keys(
            "all that the plan named is gone", world.objects - world.garbage, files(world.bucket)
        )
        self.checks.that("every other file is there, byte for byte", left.equal, str(left))
        gone, alike = world.alike
        self.checks.that(
            f"{gone} went, {alike} stayed",
            not (world.bucket / gone).exists() and (world.bucket / alike).exists(),
            "a look-alike is no reference",
        )
        self.checks.that(
            "no error, nothing resurrected", not report.errors and not report.resurrected, "the report"
        )
        self.facts["collect"] = {
            "operation_id": report.operation_id,
            "deleted": len(report.deleted),
            "backed_up": report.backed_up,
            "bytes": report.bytes_deleted,
        }
        return report

    async def _verify(self, report: Report) -> None:
        self._stage.step("Check the record and the back-ups", "s3gc audit verify")
        async with self._session.collector(self._look) as gc:
            journal, vault = await gc.verify()
            totals = await gc.metrics()
        show_audit(self._stage.console, self._session.output.secrets, journal, vault)
        self.checks.that(
            "the journal's chain is whole",
            journal.ok and journal.entries > len(report.deleted),
            f"{journal.entries:,} entries",
        )
        self.checks.that(
            "every deleted object has a back-up that reads back whole",
            vault.ok and vault.backups >= len(report.deleted) > 0,
            f"{vault.backups:,} back-ups, {len(report.deleted):,} deletions",
        )
        self.facts["audit"] = {
            "entries": journal.entries,
            "backups": vault.backups,
            "vault_bytes": totals["vault_size_bytes"],
        }

    async def _explain(self, report: Report) -> None:
        gone, alike = self.world.alike
        self._stage.step("Why did this one go, and that one stay?", "s3gc explain KEY")
        async with self._session.collector(self._look) as gc:
            kept, deleted = await gc.explain(alike), await gc.explain(gone)
        for found in (kept, deleted):
            self._stage.quote(found.key, found.decision)
        witness = [
            f"{reference.table}.{reference.column} of row {reference.row_id}"
            for _, reference in kept.references
        ]
        self._stage.say(f"  {alike} is named by {', '.join(witness) or 'nothing'}.")
        self.checks.that(
            f"{alike} is kept because a row names it",
            kept.exists is True and bool(witness),
            ", ".join(witness) or "no row",
        )
        events = [entry.event for entry in deleted.history if entry.operation_id == report.operation_id]
        wanted = [
            journal_events.STORE_PROBED,
            journal_events.BACKED_UP,
            journal_events.DELETE_INTENDED,
            journal_events.DELETED,
        ]
        self.checks.that(
            f"the journal tells how {gone} went",
            deleted.exists is False and events == wanted,
            " → ".join(events) or "nothing",
        )
        self.facts["explain"] = {kept.key: kept.decision, deleted.key: deleted.decision}

    def _restore_database(self) -> None:
        world = self.world
        self._stage.step("Trouble: the database is put back to yesterday")
        shutil.copyfile(world.database, world.latest)
        shutil.copyfile(world.backup, world.database)
        missing = world.yesterday - files(world.bucket)
        self._stage.say(f"Its rows name {count(len(missing), 'object')} that are no longer in the bucket.")
        self.checks.that(
            "that leaves rows without their files",
            bool(missing),
            f"{len(missing):,} of {len(world.yesterday):,}",
        )
        self.facts["database_restored"] = {"rows_name": len(world.yesterday), "missing": len(missing)}

    async def _restore_objects(self, before: datetime, report: Report) -> None:
        world = self.world
        at = before.isoformat(timespec="seconds").replace("+00:00", "Z")
        self._stage.step("Bring the bucket back to that time", f"s3gc restore --at {at} --execute")
        before_restore = files(world.bucket)
        async with self._session.collector(self._look) as gc:
            would = await gc.restore(at=before)
            idle = files(world.bucket) == before_restore
            done = await gc.restore(at=before, dry_run=False)
        self._stage.say(
            f"{restored(would)} (dry-run), then {restored(done)}, in {done.duration.total_seconds():.1f} s."
        )
        self.checks.that(
            "the restore's dry-run touches nothing", idle, f"{len(before_restore):,} files before and after"
        )
        self.checks.same_keys("the restore brings back all that went", report.deleted, done.restored)
        whole = compare(world.original, world.bucket)
        self._stage.say(f"Compared with the original: {whole}.")
        self.checks.that(
            "the bucket equals the original, byte for byte", whole.equal and not done.errors, str(whole)
        )
        self.facts["restore"] = {
            "would_restore": len(would.restored),
            "restored": len(done.restored),
            "compared_files": whole.same,
            "compared_bytes": whole.bytes,
            "equal": whole.equal,
        }

    async def _look_again(self) -> None:
        world = self.world
        missing = world.yesterday - files(world.bucket)
        async with self._session.collector(self._look) as gc:
            plan = await gc.plan()
            journal, vault = await gc.verify()
        expected = len(world.objects - world.yesterday)
        self.checks.that(
            "every row of yesterday has its file again",
            not missing and plan.candidates == expected,
            f"{len(missing):,} missing; {plan.candidates:,} of {plan.scanned:,} objects named by no row",
        )
        self.checks.that(
            "the journal holds, the restore included",
            journal.ok and vault.ok,
            f"{journal.entries:,} entries, {vault.backups:,} back-ups",
        )

    def rewind(self) -> None:
        """For those who want to play: today's database again, and files as old as they were."""
        world = self.world
        shutil.copyfile(world.latest, world.database)
        for key in files(world.bucket) & world.objects:
            os.utime(world.bucket / key, (world.modified[key], world.modified[key]))
