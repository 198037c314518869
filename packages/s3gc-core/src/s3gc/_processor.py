"""Turns at the processor, for work on large objects in threads.

Each large object has several threads that hash, compress and compare. More of them at work than there are
processors get nothing done sooner: they only stand in the way of whoever else wants to run, and that is the
event loop of the application that s3gc is a guest of. So each piece of such work waits for its turn.
"""

from __future__ import annotations

import os
import threading


def processors() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


TURN = threading.BoundedSemaphore(processors())
"""``with TURN:`` around some milliseconds of work that waits for nothing and nobody."""
