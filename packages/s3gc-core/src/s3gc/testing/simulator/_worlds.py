"""The worlds: each concentrates on some kinds of trouble, so that every kind is likely somewhere."""

from __future__ import annotations

from collections.abc import Mapping

from s3gc.testing.simulator._schedule import Profile

WRITES = {
    "insert": 12,
    "tx": 10,
    "upload_insert": 2,
    "insert_upload": 1,
    "overwrite_same": 2,
    "overwrite_other": 2,
    "overwrite_insert": 2,
    "same_insert": 2,
    "delete": 3,
    "touch": 2,
    "move": 3,
    "remove": 1,
    "upload": 1,
}

POINTS = {
    "now>": (3, 2),
    "list<": (3, 2),
    "list>": (3, 3),
    "fence<": (4, 2),
    "fence>": (4, 3),
    "fenced<": (4, 2),
    "scan<": (2, 3),
    "scan>": (2, 3),
    "journal:plan_made>": (2, 3),
    "find<": (4, 3),
    "find>": (4, 5),
    "get<": (3, 2),
    "get>": (3, 3),
    "backup>": (2, 2),
    "journal:backed_up<": (2, 2),
    "journal:backed_up>": (2, 5),
    "stat<": (3, 3),
    "stat>": (3, 5),
    "journal:fence_reached<": (2, 5),
    "journal:fence_reached>": (2, 5),
    "delete<": (3, 5),
    "delete>": (3, 5),
    "put<": (2, 2),
    "journal:deleted<": (2, 5),
    "journal:deleted>": (2, 5),
    "journal:batch_confirmed<": (2, 2),
    "journal:batch_confirmed>": (2, 4),
}
"""Where applications strike: (largest nth time, weight)."""

CRASH_POINTS = {
    "work>": (150, 5),
    "list>": (4, 1),
    "scan>": (2, 1),
    "now<": (6, 1),
    "find>": (5, 3),
    "get>": (3, 1),
    "backup<": (2, 2),
    "backup>": (2, 2),
    "fence>": (4, 2),
    "stat>": (3, 1),
    "delete<": (4, 4),
    "delete>": (4, 5),
    "put<": (2, 3),
    "put>": (2, 3),
    "journal:operation_started>": (2, 1),
    "journal:backed_up<": (2, 2),
    "journal:backed_up>": (2, 2),
    "journal:fence_reached<": (2, 2),
    "journal:fence_reached>": (2, 4),
    "journal:deleted<": (2, 4),
    "journal:deleted>": (2, 4),
    "journal:batch_confirmed<": (2, 3),
    "journal:batch_confirmed>": (2, 2),
    "journal:operation_completed<": (2, 2),
    "journal:resurrected<": (2, 3),
}

STORE_POINTS = {
    "now<": (6, 3),
    "probe<": (2, 1),
    "list<": (6, 3),
    "get<": (4, 3),
    "body<": (4, 2),
    "stat<": (6, 3),
    "delete<": (4, 8),
    "put<": (2, 3),
    "head<": (2, 1),
    "journal:plan_made>": (2, 3),
}

SOURCE_POINTS = {
    "check<": (5, 3),
    "fence<": (6, 3),
    "fenced<": (6, 2),
    "scan<": (3, 3),
    "page<": (4, 3),
    "find<": (8, 5),
    "find>": (8, 3),
    "journal:backed_up>": (2, 3),
    "journal:deleted>": (2, 4),
    "now<": (4, 2),
}

EAGER: Mapping[str, tuple[object, ...]] = {
    "grace_hours": (0, 0, 0, 0, 24),
    "observations": (1, 1, 1, 1, 2),
    "retention_hours": (0, 0, 0, 0, 1),
    "batch_objects": (100, 1, 2),
}
"""Settings under which objects go soon: only then is there much to do wrong."""

PATIENT: Mapping[str, tuple[object, ...]] = {
    "grace_hours": (24, 1, 0),
    "observations": (2, 1, 3),
    "retention_hours": (0, 2, 48),
    "batch_objects": (100, 2),
    "max_deletes": (None, 0, 2),
    "max_share": (1.0, 0.25),
}

_ALL = (
    Profile(
        name="scanning",
        about="applications write while a cycle runs",
        acts=WRITES,
        act_points=POINTS,
        most_acts=4,
        settings=EAGER,
    ),
    Profile(
        name="patient",
        about="grace, observations, retention and limits, with rows and objects that come and go",
        acts=WRITES,
        act_points=POINTS,
        timeline_acts=4,
        most_acts=2,
        most_cycles=4,
        settings=PATIENT,
    ),
    Profile(
        name="crashes",
        about="processes are killed, lose power, are cancelled and paused",
        acts=WRITES,
        act_points=POINTS,
        most_acts=2,
        faults={"crash": 6, "power": 2, "cancel": 2, "pause": 2},
        fault_points=CRASH_POINTS,
        steps={"collect": 6, "plan_collect": 1, "restore": 2, "restore_at": 1},
        settings=EAGER,
    ),
    Profile(
        name="faulty store",
        about="requests fail, time out, or their answers are lost; clocks jump",
        acts=WRITES,
        act_points=POINTS,
        most_acts=2,
        faults={"fail": 6, "lost": 4, "vanish": 3, "clock": 2, "pause": 1, "cancel": 1},
        fault_points=STORE_POINTS,
        most_faults=3,
        settings={
            **EAGER,
            "conditional": (True, True, False),
            "unconditional_allowed": (False, True),
            "store_skew": (0.0, 0.0, 100.0, -250.0, 600.0),
        },
        steps={"collect": 3, "plan_collect": 1},
        pauses=(1, 300, 4_000, 90_000),
    ),
    Profile(
        name="faulty source",
        about="databases are down, replicas, slow, emptied, or their values lead elsewhere",
        acts={**WRITES, "truncate": 20},
        act_points=POINTS,
        most_acts=2,
        faults={"fail": 4, "down": 4, "replica": 2, "garble": 2, "pause": 1, "cancel": 1},
        fault_points=SOURCE_POINTS,
        sources=("main", "second"),
        settings={**EAGER, "max_drop": (1.0, 0.2), "min_rate": (0.0, 0.5)},
        steps={"collect": 6, "plan_collect": 1, "acknowledge": 1},
    ),
    Profile(
        name="faulty vault",
        about="the vault's disk is full, loses power, or writes wrong bytes",
        acts=WRITES,
        act_points=POINTS,
        most_acts=1,
        faults={"full": 4, "corrupt": 4, "power": 4, "crash": 1},
        fault_points={**CRASH_POINTS, "backup<": (3, 20), "vault<": (3, 4)},
        settings={**EAGER, "fresh": (False, True)},
        steps={"collect": 6, "restore": 2},
    ),
    Profile(
        name="two hosts",
        about="two processes with one vault",
        hosts=2,
        acts=WRITES,
        act_points=POINTS,
        most_acts=2,
        faults={"crash": 2, "pause": 5, "cancel": 1},
        fault_points=CRASH_POINTS,
        settings=EAGER,
        steps={"collect": 6, "restore": 1},
    ),
    Profile(
        name="quiet",
        about="nothing disturbs: what is garbage has to go",
        quiet=True,
        most_cycles=3,
        steps={"collect": 1},
        settings={**PATIENT, "max_deletes": (None,), "max_share": (1.0,)},
    ),
    Profile(
        name="late deletes",
        about="a DELETE arrives after its time-out was given up",
        default=False,
        acts=WRITES,
        act_points=POINTS,
        most_acts=3,
        faults={"late": 1},
        fault_points={"delete<": (4, 1)},
        settings=EAGER,
    ),
)

WORLDS: Mapping[str, Profile] = {profile.name: profile for profile in _ALL}
"""All worlds by name."""

DEFAULT = tuple(profile for profile in _ALL if profile.default)
"""The worlds of an ordinary run; a seed picks its own."""
