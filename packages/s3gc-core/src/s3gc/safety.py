"""Every number that the safety of a deletion hangs on, in one class (DESIGN 5.1)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from attrs import Attribute, evolve, field, frozen
from attrs.validators import ge, in_, instance_of, le


def _not_negative(_: object, attribute: Attribute[timedelta], value: timedelta) -> None:
    if value < timedelta(0):
        raise ValueError(f"{attribute.name} must not be negative, got {value}")


def _limit(_: object, attribute: Attribute[Any], value: Any) -> None:
    if value is not None and (type(value) is not int or value < 0):
        raise ValueError(f"{attribute.name} must be None or a whole number from 0 on, got {value!r}")


MAY_CLEAR = ("clock_skew", "source_failed", "store_failed", "too_few_copies", "vault_unusable")
"""Breakers whose cause, once it is gone, leaves no doubt about what was read before."""


def _codes(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not all(isinstance(code, str) for code in value):
        raise TypeError(f"self_clearing must be a list of breakers' codes, got {value!r}")
    for code in value:
        if code not in MAY_CLEAR:
            raise ValueError(f"self_clearing can hold {', '.join(MAY_CLEAR)}, got {code!r}")
    return tuple(sorted(set(value)))


def _span() -> list[Callable[[Any, Attribute[timedelta], timedelta], Any]]:
    return [instance_of(timedelta), _not_negative]


@frozen(kw_only=True)
class Safety:
    """The safety numbers of a cycle. Take a preset and change what you must: ``Safety.full().but(grace=…)``.

    Raises:
        ValueError, TypeError: a number is out of its range or has the wrong type.
    """

    grace: timedelta = field(default=timedelta(days=3), validator=_span())
    """How long a key must have been unreferenced, by every observation, before it may go."""

    min_observations: int = field(default=2, validator=[instance_of(int), ge(1)])
    """In how many cycles a key must have been seen unreferenced, the deleting one included."""

    max_transaction_age: timedelta = field(default=timedelta(minutes=15), validator=_span())
    """How long a fence waits for the transactions that were open when it began. Longer: held."""

    max_catch_up: timedelta = field(default=timedelta(hours=1), validator=_span())
    """How long the registry may take to catch up with a fence by a source's changes. Longer: held."""

    max_plan_age: timedelta = field(default=timedelta(hours=24), validator=_span())
    """A plan older than this is not executed: its listing is too old."""

    max_probe_age: timedelta = field(default=timedelta(hours=24), validator=_span())
    """An older proof that the store honours If-Match isn't relied on: the sweep probes it anew."""

    max_deletes: int | None = field(default=100_000, validator=_limit)
    """Most objects that one cycle may delete. 0 means none; None means no such limit."""

    max_delete_share: float = field(default=0.5, validator=[ge(0.0), le(1.0)])
    """Largest share of the listed objects that one cycle may delete. 0 means none."""

    max_reference_drop: float = field(default=0.2, validator=[ge(0.0), le(1.0)])
    """Largest share of a source's references that may be gone since the last good cycle."""

    min_resolve_rate: float = field(default=0.5, validator=[ge(0.0), le(1.0)])
    """Smallest share of the mentions that must name an existing object (else resolver or bucket is wrong)."""

    max_clock_skew: timedelta = field(default=timedelta(minutes=5), validator=_span())
    """Largest difference between the store's clock and ours."""

    max_vault_fill: float = field(default=0.95, validator=[ge(0.0), le(1.0)])
    """The vault's file system may be filled to this share; beyond it nothing is backed up or deleted."""

    batch_objects: int = field(default=5_000, validator=[instance_of(int), ge(1)])
    """Most objects of one sweep batch (verify, back up, fence, delete, confirm)."""

    batch_bytes: int = field(default=256 * 1024 * 1024, validator=[instance_of(int), ge(1)])
    """A batch ends after this many bytes of objects, however few they are."""

    coverage_sample: int = field(default=1_000, validator=[instance_of(int), ge(1)])
    """About how many values of each untracked column are looked at for keys of this bucket."""

    lease_ttl: timedelta = field(default=timedelta(minutes=35), validator=_span())
    """A lease that was not renewed for so long may be taken over by another host. S3 refuses requests that
    were signed 15 minutes ago or longer (RequestTimeTooSkewed), and a lease is renewed after a third of this
    at the latest: so a suspended machine's last request is dead by then, also with clocks 5 minutes apart."""

    lease_margin: timedelta = field(default=timedelta(minutes=1), validator=_span())
    """A delete is sent only so long after the lease was last seen to be ours; at most a third of
    ``lease_ttl``. A request without an answer counts as possible for as long."""

    max_claim: timedelta = field(default=timedelta(days=7), validator=_span())
    """Longest time that one claim may last."""

    self_clearing: tuple[str, ...] = field(default=(), converter=_codes)
    """Codes of breakers that need no acknowledgement once their cause is gone; only those of MAY_CLEAR."""

    allow_unconditional_delete: bool = field(default=False, validator=instance_of(bool))
    """Delete also on a store that ignores If-Match: an object overwritten in the last moment may be lost."""

    preset: str = field(default="full", validator=in_(("full", "none", "demo")))
    """The preset that this began as; shown in reports."""

    def __attrs_post_init__(self) -> None:
        if not timedelta(0) < 3 * self.lease_margin <= self.lease_ttl:
            raise ValueError(
                f"lease_margin ({self.lease_margin}) must be more than 0 and at most a third of lease_ttl "
                f"({self.lease_ttl})"
            )

    @classmethod
    def full(cls) -> Safety:
        """The default: three days of grace, two observations, limits on how much may go at once."""
        return cls()

    @classmethod
    def none(cls) -> Safety:
        """For tests and demos: waits for nothing and limits nothing.

        Verification, back-up, fences and confirmation stay: they can't be switched off.
        """
        return cls(
            grace=timedelta(0),
            min_observations=1,
            max_deletes=None,
            max_delete_share=1.0,
            max_reference_drop=1.0,
            min_resolve_rate=0.0,
            self_clearing=MAY_CLEAR,
            preset="none",
        )

    @classmethod
    def demo(cls) -> Safety:
        """As ``none``, and content with a local folder, which has no conditional delete."""
        return evolve(cls.none(), allow_unconditional_delete=True, preset="demo")

    def but(self, **changes: Any) -> Safety:
        """The same numbers with some changed.

        Raises:
            TypeError: a name that Safety doesn't have.
        """
        return evolve(self, **changes)
