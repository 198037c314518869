"""What is known of a server's ways. Unknown until a probe has found out."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from attrs import asdict, define, fields

PROBE_VERSION = "2"
"""Changes whenever the probe looks for something else: what an older one found is not adopted then."""

_LEARNT = (
    "conditional_delete",
    "conditional_put",
    "conditional_bulk_delete",
    "counts_tags_on_get",
    "counts_tags_on_head",
    "md5_etags",
    "plus_is_space",
)
"""What a probe finds out."""


class Condition(enum.Enum):
    """What the server does with a conditional header."""

    UNKNOWN = "unknown"
    HONOURED = "honoured"
    IGNORED = "ignored"
    REFUSED = "not implemented"  # the request fails, whatever the object is


@define
class Traits:
    """One server's ways, as far as known."""

    conditional_delete: Condition = Condition.UNKNOWN
    conditional_put: Condition = Condition.UNKNOWN
    conditional_bulk_delete: Condition = Condition.UNKNOWN  # an <ETag> for each key of a DeleteObjects
    counts_tags_on_get: bool = False  # proven: GET tells the number of tags
    counts_tags_on_head: bool = False
    has_tags: bool = True  # false: the server said that it has no tags at all
    md5_etags: bool = True  # false: proven that the ETag of a plain object isn't its MD5
    plus_is_space: bool = True  # in the encoded keys of a listing
    contradiction: str | None = None  # an answer that what the probe found rules out

    def notes(self) -> dict[str, str]:
        """What a probe found out, to be kept."""
        known = asdict(self)
        texts = {name: known[name] for name in _LEARNT}
        return {"probe": PROBE_VERSION} | {
            name: value.value if isinstance(value, Condition) else "yes" if value else "no"
            for name, value in texts.items()
        }

    def adopt(self, notes: Mapping[str, str]) -> bool:
        """Take over what :meth:`notes` kept; all or nothing.

        Returns whether it was: notes of another probe, or that lack something, change nothing.
        """
        if notes.get("probe") != PROBE_VERSION:
            return False
        found: dict[str, Condition | bool] = {}
        try:
            for name in _LEARNT:
                is_condition = isinstance(getattr(fields(Traits), name).default, Condition)
                found[name] = (
                    Condition(notes[name]) if is_condition else {"yes": True, "no": False}[notes[name]]
                )
        except (KeyError, ValueError):
            return False
        for name, value in found.items():
            setattr(self, name, value)
        self.contradiction = None
        return True

    def weigh(self, what: str, known: Condition, status: int) -> None:
        """Remember an answer to a conditional request that the probe's finding rules out.

        Args:
            what: for people, as in "If-Match on DELETE".
        """
        if known is Condition.HONOURED and status == 501:
            self.contradiction = f"{what} was honoured when the store was probed, and is not implemented now"
        elif known is Condition.IGNORED and status == 412:
            self.contradiction = f"{what} was ignored when the store was probed, and is honoured now"
