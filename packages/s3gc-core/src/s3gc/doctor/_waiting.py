"""What waits for its end, or for a person."""

from __future__ import annotations

from collections.abc import AsyncIterator

from s3gc import latch, lease
from s3gc.doctor._check import Check, Status
from s3gc.errors import LeaseHeld
from s3gc.parts import Parts
from s3gc.recovery import open_operations


async def lock(parts: Parts) -> AsyncIterator[Check]:
    try:
        async with lease.hold(parts.folder / "collector.lock"):
            yield Check("lock", "", Status.PASS, "free")
    except LeaseHeld as error:
        yield Check("lock", "", Status.WARN, str(error), "wait until it has ended")


async def recovery(parts: Parts) -> AsyncIterator[Check]:
    waiting = await open_operations(parts)
    if waiting:
        told = f"{', '.join(waiting)} began and did not end"
        yield Check("recovery", "", Status.WARN, told, "the next plan or collect settles it first")
    else:
        yield Check("recovery", "", Status.PASS, "every operation has ended")


async def breakers(parts: Parts) -> AsyncIterator[Check]:
    waiting = await latch.latched(parts)
    for breaker in waiting:
        subject = f" --subject '{breaker.subject}'" if breaker.subject else ""
        fix = f"cure it, then `s3gc acknowledge {breaker.code}{subject} --reason …`"
        name = f"{breaker.code} {breaker.subject}".strip()
        yield Check("breakers", name, Status.FAIL, breaker.reason, fix)
    if not waiting:
        yield Check("breakers", "", Status.PASS, "none waits")
