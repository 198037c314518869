"""What the demo claims, each claim with what was measured."""

from __future__ import annotations

from collections.abc import Collection

from attrs import Factory, define, frozen

from s3gc_cli._keys import show_key


@frozen
class Check:
    """One claim and how it came out."""

    claim: str
    ok: bool
    found: str


@define
class Checks:
    """All claims so far."""

    done: list[Check] = Factory(list)

    @property
    def ok(self) -> bool:
        """Whether every claim held, and there was one."""
        return bool(self.done) and all(check.ok for check in self.done)

    def that(self, claim: str, ok: bool, found: str) -> None:
        """Note how a claim came out."""
        self.done.append(Check(claim, ok, found))

    def same_keys(self, claim: str, expected: Collection[str], found: Collection[str]) -> None:
        """Two sets of keys are one and the same; if not, the first that differ are named."""
        wanted, there = set(expected), set(found)
        if wanted == there and len(found) == len(there):
            self.that(claim, True, f"{len(there):,} keys")
            return
        parts = [
            f"{len(keys):,} {what}, e.g. {show_key(min(keys))}"
            for what, keys in (("missing", wanted - there), ("too many", there - wanted))
            if keys
        ]
        self.that(claim, False, "; ".join(parts) or "some twice")
