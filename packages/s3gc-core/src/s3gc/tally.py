"""What a sweep has done so far."""

from __future__ import annotations

from collections import Counter

from attrs import Factory, define

from s3gc.keylist import KeyCollector


@define
class Tally:
    """What a sweep did, as it goes."""

    deleted: KeyCollector
    backed_up: int = 0
    bytes_deleted: int = 0
    kept: Counter[str] = Factory(Counter)
    resurrected: list[str] = Factory(list)
    errors: list[str] = Factory(list)
    begun: int = 0  # batches
    batches: int = 0  # that deleted something
    late_window: float = 0.0  # seconds, the longest from a last fence to its confirmation
    open: bool = False  # something is deleted that isn't confirmed: the journal must show no end
