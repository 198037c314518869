"""Backtest: how long references really were gone before they came back, and what a policy would have done.

From the registry, which notes each absence that ended, and from the journal, which tells what was put back.
Nobody can say that a grace is long enough; the past can only say that one is too short, or give no reason
against it. So a policy is called safe only when enough was watched and no absence comes near it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from attrs import Factory, evolve, frozen

from s3gc import journal_events
from s3gc.abc import Journal
from s3gc.confirm import NOT_CONFIRMED
from s3gc.parts import Parts
from s3gc.registry import AFTER_IT_WENT, NotedAbsence, NotedAbsences

RESURRECTED = "resurrected"
"""A deleted object was put back in the same operation: a row or a claim named it after all."""
RESTORED = "restored"
"""A person put a deleted object back. Why, nobody knows: it counts as needed."""

MOST_RETURNS = 100_000
"""Keys that came back by the journal; more than that are counted and not looked at."""

MARGIN = 2
"""The suggested grace is so many times the longest absence."""

ENOUGH = 2
"""A policy needs to have been watched for so many times its grace before it can be called safe."""

LEAST = timedelta(days=1)
"""No shorter grace is suggested: a nightly import, a job that is tried again in the morning."""


class Verdict(StrEnum):
    """What the past says of a policy."""

    UNSAFE = "unsafe"
    """It would have deleted objects that were named again later."""
    TIGHT = "tight"
    """It would have, had the cycles run at other moments."""
    SAFE = "safe"
    """No absence in the time that was watched comes near it."""
    UNKNOWN = "unknown"
    """Too little was watched to say so."""


@frozen
class Policy:
    """The numbers that decide how soon an object may go."""

    grace: timedelta
    min_observations: int = 1
    retention: timedelta = timedelta(0)  # by the age of the object


@frozen
class Absence:
    """A key that nothing named for a while, and then something did."""

    key: str
    since: datetime  # counted as free from here on
    after: datetime | None  # it may have been free since right after this; None: nobody knows
    seen: datetime  # the last moment at which a cycle could have deleted it
    back: datetime  # when it was seen to be named again
    observations: int  # cycles that saw it free
    modified: datetime  # of the object
    how: str
    deleted: bool = False  # the object was gone by then

    @property
    def length(self) -> timedelta:
        """How long it lasted at most, as far as anybody knows."""
        return self.back - (self.since if self.after is None else self.after)

    @property
    def least(self) -> timedelta:
        """How long it lasted at least."""
        return self.seen - self.since

    def would_go(self, policy: Policy) -> bool:
        """Whether the cycles that ran would have deleted the object before it was named again."""
        return (
            self.least >= policy.grace
            and (self.deleted or self.observations >= policy.min_observations)
            and self.seen - self.modified >= policy.retention
        )

    def could_go(self, policy: Policy) -> bool:
        """Whether cycles at other moments could have."""
        return self.length >= policy.grace and self.back - self.modified >= policy.retention


@frozen
class Judgement:
    """A policy before the past."""

    policy: Policy
    verdict: Verdict
    why: str  # one sentence
    would_go: int  # absences during which the object would have gone
    could_go: int  # the same, had the cycles run at other moments
    examples: Sequence[Absence] = ()  # the longest of them


@frozen
class Backtest:
    """What the past says."""

    begun: datetime | None  # since when absences are noted without a break; None: not yet
    last: datetime | None  # the last cycle that noted
    cycles: int
    absences: Sequence[Absence]  # the longest first
    dropped: int  # shorter absences that are only counted
    unread: int  # put back by the journal, and not looked at: there are too many
    waiting: int  # keys that nothing names now: how long they will have been gone, nobody knows
    gone: int  # objects that went while nothing named them; a late row that names one will be noted
    deleted: int  # objects that s3gc has deleted, by the journal
    needed: int  # of these, put back because a row or a claim named them, or by a person, or named when gone
    judgement: Judgement  # of the policy in force, or the one that was asked about
    suggested_grace: timedelta | None  # None: too little is known
    why: str  # of the suggestion
    by_how: Mapping[str, int] = Factory(dict)

    @property
    def watched(self) -> timedelta:
        """How long absences have been noted."""
        return timedelta(0) if self.begun is None or self.last is None else self.last - self.begun

    def judge(self, policy: Policy) -> Judgement:
        """Another policy before the same past."""
        return judge(self.absences, policy, self.watched, whole=not self.unread)


def judge(
    absences: Sequence[Absence], policy: Policy, watched: timedelta, *, whole: bool = True
) -> Judgement:
    """What the past says of a policy.

    Args:
        watched: for how long absences were noted.
        whole: no absence is left out that may be longer than these.
    """
    would = [one for one in absences if one.would_go(policy)]
    could = [one for one in absences if one.could_go(policy)]
    shown = sorted(would or could, key=lambda one: one.length, reverse=True)[:20]
    if would:
        verdict, why = Verdict.UNSAFE, "objects would have gone that were named again later"
    elif could:
        verdict, why = Verdict.TIGHT, "no object would have gone too early, by luck of when the cycles ran"
    elif not whole:
        verdict, why = Verdict.UNKNOWN, f"more than {MOST_RETURNS} keys came back, not all were looked at"
    elif watched < max(ENOUGH * policy.grace, LEAST):
        verdict = Verdict.UNKNOWN
        why = f"watched for {watched}, {max(ENOUGH * policy.grace, LEAST)} are needed to see such an absence"
    else:
        verdict, why = Verdict.SAFE, f"in {watched} no key came back after so long"
    return Judgement(policy, verdict, why, len(would), len(could), shown)


def suggest(
    absences: Sequence[Absence], watched: timedelta, *, whole: bool = True
) -> tuple[timedelta | None, str]:
    """The grace that the past suggests, in whole days, and why; None when it can't say.

    Args:
        watched, whole: as of :func:`judge`.
    """
    if not whole:
        return None, f"more than {MOST_RETURNS} keys came back, not all were looked at"
    longest = max((one.length for one in absences), default=timedelta(0))
    days = math.ceil(max(MARGIN * longest, LEAST) / timedelta(days=1))
    grace = timedelta(days=days)
    if watched < ENOUGH * grace:
        why = f"watched for {watched} only: too short to tell what a grace of {grace} would miss"
        return None, why
    if not longest:
        return grace, "no key came back at all"
    return grace, f"{MARGIN} times the longest absence ({longest}), in whole days"


async def backtest(parts: Parts, policy: Policy | None = None) -> Backtest:
    """Hold a policy against the past. Reads the registry and the journal, neither bucket nor sources.

    Args:
        policy: None means the one in force.

    Raises:
        S3GCError: the registry can't be read.
        VaultError: the journal can't be read.
    """
    if policy is None:
        safety = parts.config.safety
        policy = Policy(safety.grace, safety.min_observations, parts.config.retention)
    noted = await parts.registry.absences.all()
    told = await _from_journal(parts.vault.journal)
    return _weigh(noted, told, policy)


def _weigh(noted: NotedAbsences, told: _Told, policy: Policy) -> Backtest:
    found = {(one.key, one.since): _absence(one) for one in noted.absences}
    for one in told.absences:  # of an absence that both know, the journal knows that the object was gone
        before = found.get((one.key, one.since))
        back = one.back if before is None else max(before.back, one.back)
        found[one.key, one.since] = evolve(
            one,
            after=None if before is None else before.after,
            seen=back,
            back=back,
        )
    absences = sorted(found.values(), key=lambda one: one.length, reverse=True)
    watched = timedelta(0) if noted.begun is None or noted.last is None else noted.last - noted.begun
    grace, why = suggest(absences, watched, whole=not told.dropped)
    return Backtest(
        begun=noted.begun,
        last=noted.last,
        cycles=noted.cycles,
        absences=absences,
        dropped=noted.dropped,
        unread=told.dropped,
        waiting=noted.waiting,
        gone=noted.gone,
        deleted=told.deleted,
        needed=sum(one.deleted for one in absences),
        judgement=judge(absences, policy, watched, whole=not told.dropped),
        suggested_grace=grace,
        why=why,
        by_how=dict(sorted(Counter(one.how for one in absences).items())),
    )


def _absence(noted: NotedAbsence) -> Absence:
    late = noted.how == AFTER_IT_WENT
    return Absence(
        noted.key,
        noted.since,
        noted.after,
        noted.back if late else noted.seen,  # once it was gone, any later cycle would have found it free
        noted.back,
        noted.observations,
        noted.modified,
        noted.how,
        deleted=late,
    )


# ------------------------------------------------------------------ the journal


@frozen
class _Told:
    """What the journal has on deletions that were undone."""

    absences: Sequence[Absence]
    deleted: int
    dropped: int


_PUT_BACK = {journal_events.RESURRECTED: RESURRECTED, journal_events.RESTORED: RESTORED}


async def _from_journal(journal: Journal) -> _Told:
    """Two passes, so that memory is bounded by what came back and not by what was deleted."""
    came_back: set[str] = set()
    dropped = 0
    async for entry in journal.read(events=set(_PUT_BACK)):
        if entry.key is None or entry.key in came_back or not _tells_of_need(entry.data):
            continue
        if len(came_back) == MOST_RETURNS:
            dropped += 1
        else:
            came_back.add(entry.key)
    absences: list[Absence] = []
    intents: dict[str, Mapping[str, object]] = {}
    deleted = 0
    events = {journal_events.DELETE_INTENDED, journal_events.DELETED, *_PUT_BACK}
    async for entry in journal.read(events=events):
        key = entry.key
        deleted += entry.event == journal_events.DELETED
        if key is None or key not in came_back:
            continue
        if entry.event == journal_events.DELETE_INTENDED:
            intents[key] = entry.data
        elif entry.event in _PUT_BACK and _tells_of_need(entry.data) and (intent := intents.pop(key, None)):
            since = datetime.fromisoformat(str(intent["since"]))
            back = max(entry.at, since)
            modified = datetime.fromisoformat(str(intent["last_modified"]))
            seen_free = intent["observations"]
            assert isinstance(seen_free, int)
            how = _PUT_BACK[entry.event]
            absences.append(Absence(key, since, None, back, back, seen_free, modified, how, deleted=True))
    return _Told(absences, deleted, dropped)


def _tells_of_need(data: Mapping[str, object]) -> bool:
    """Not when all of a batch went back because nobody could confirm it."""
    return not str(data.get("why", "")).startswith(NOT_CONFIRMED)
