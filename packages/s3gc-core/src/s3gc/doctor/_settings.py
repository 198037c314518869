"""Weaker numbers than the defaults."""

from __future__ import annotations

from collections.abc import AsyncIterator

from s3gc.doctor._check import Check, Status
from s3gc.parts import Parts
from s3gc.safety import Safety


async def settings(parts: Parts) -> AsyncIterator[Check]:
    """Weaker than the defaults is a person's right; it should be seen, though."""
    weaker = list(_weaker(parts.config.safety))
    if not weaker:
        yield Check("settings", "", Status.PASS, "no number of safety is weaker than the defaults")
    else:
        yield Check(
            "settings",
            "",
            Status.WARN,
            "weaker than the defaults: " + ", ".join(weaker),
            "leave them out of [safety] unless you know why they are there",
        )


_MORE_IS_SAFER = (
    "grace",
    "min_observations",
    "min_resolve_rate",
    "coverage_sample",
    "lease_ttl",
    "lease_margin",
)
_LESS_IS_SAFER = (
    "max_deletes",
    "max_delete_share",
    "max_reference_drop",
    "max_clock_skew",
    "max_vault_fill",
    "max_plan_age",
    "max_probe_age",
    "allow_unconditional_delete",
)


def _weaker(safety: Safety) -> list[str]:
    default = Safety.full()
    found = []
    for name in _MORE_IS_SAFER:
        if getattr(safety, name) < getattr(default, name):
            found.append(f"{name} = {getattr(safety, name)}")
    for name in _LESS_IS_SAFER:
        mine, theirs = getattr(safety, name), getattr(default, name)
        if mine is None or mine > theirs:
            found.append(f"{name} = {'unlimited' if mine is None else mine}")
    if safety.self_clearing:
        found.append(f"self_clearing = {', '.join(safety.self_clearing)}")
    return found
