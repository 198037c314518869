"""A schedule is a value: what there is at first, what each host does, and what happens when.

It is drawn from a seed, or by hypothesis, which shrinks it. Only latencies and other noise are not in it;
they come from one more integer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import Factory, evolve, field, fields, frozen

from s3gc.testing.simulator._chooser import Chooser

GARBAGE = ("a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.jpg", "c.jpg", "é 7.jpg")
"""Keys that may go when no row names them."""

THUMB = "thumbs/a/1_200.jpg"
ODD = ("keep/5.jpg", "x/", "x", "old/6.jpg", ".s3gc/left", "veto/8.jpg", "keeper.jpg")
"""Excluded, ambiguous and its neighbour, archived, reserved, vetoed; the last only looks excluded."""

ROWS = ("f1", "f2", "f3", "p1", "p2", "a1", "s1")
"""The first letter tells the table: files, posts, albums (folders), and docs of the second database."""

ROW_KINDS: Mapping[str, tuple[str, str, str]] = {
    "f": ("main", "files", "key"),
    "p": ("main", "posts", "image"),
    "a": ("main", "albums", "folder"),
    "s": ("second", "docs", "file"),
}
"""Letter → (source, table, column)."""


@frozen
class Act:
    """Something that an application, an operator or fate does.

    The key ``?`` is one that the collector is about to delete at that moment, as far as there is one.
    """

    kind: str
    key: str = ""
    row: str = ""
    seconds: float = 0.0
    number: int = 0

    def __str__(self) -> str:
        said = [self.kind, self.key, f"row {self.row}" if self.row else ""]
        said += [f"{self.seconds:g}s" if self.seconds else "", f"#{self.number}" if self.number else ""]
        return " ".join(word for word in said if word)


@frozen
class Trigger:
    """An act that happens when a point is reached for the nth time."""

    point: str
    nth: int
    act: Act


@frozen
class Step:
    """Something that a host does: wait, follow, plan, collect, restore, acknowledge, restart, verify."""

    kind: str
    seconds: float = 0.0
    key: str = ""
    number: int = 0


@frozen(kw_only=True)
class Settings:
    """The numbers of a schedule. Hours may be parts of hours."""

    mode: str = "execute"
    grace_hours: float = 0
    observations: int = 1
    retention_hours: float = 0
    batch_objects: int = 100
    max_deletes: int | None = None
    max_share: float = 1.0
    max_drop: float = 1.0
    min_rate: float = 0.0
    unconditional_allowed: bool = False
    conditional: bool = True
    owned: Sequence[str] = ()
    derived: bool = False
    folders: bool = False
    page_size: int = 4
    store_skew: float = 0.0  # seconds
    fresh: bool = False  # the vault has to be made first
    self_clearing: Sequence[str] = ()  # breakers that need no acknowledgement


@frozen
class Schedule:
    """All that decides what happens, with the noise."""

    world: str
    settings: Settings
    initial: Sequence[Act]
    scripts: Sequence[Sequence[Step]]  # one of each host
    triggers: Sequence[Trigger]
    timeline: Sequence[tuple[float, Act]]  # seconds since the start
    noise: int

    def lines(self) -> list[str]:
        """For people: the head of a story."""
        changed = ", ".join(
            f"{name}={value!r}"
            for name, value in ((a, getattr(self.settings, a)) for a in _SETTINGS)
            if value != getattr(_PLAIN, name)
        )
        told = [f"settings: {changed or 'as they are'}; noise {self.noise}"]
        told += [f"at first: {'; '.join(str(act) for act in self.initial)}"]
        told += [f"when {one.point} is reached ({one.nth}): {one.act}" for one in self.triggers]
        return told


_PLAIN = Settings()
_SETTINGS = [a.name for a in fields(Settings)]


@frozen(kw_only=True)
class Profile:
    """What may happen in a world, and how likely. A weight of 0 means never."""

    name: str
    about: str
    default: bool = True  # part of every run
    weight: int = 2  # how many of its seeds
    layout: str = "one"  # or: two processes, two machines, claims, staging
    sources: Sequence[str] = ("main",)
    follows: bool = False
    follower: bool = False  # it may run between two operations
    acts: Mapping[str, int] = Factory(dict)
    act_points: Mapping[str, tuple[int, int]] = Factory(dict)  # point → (largest nth, weight)
    most_acts: int = 4
    faults: Mapping[str, int] = Factory(dict)
    fault_points: Mapping[str, tuple[int, int]] = Factory(dict)
    most_faults: int = 2
    timeline_acts: int = 2
    steps: Mapping[str, int] = field(factory=lambda: {"collect": 6, "plan_collect": 1})
    most_cycles: int = 2
    pauses: Sequence[float] = (1, 300, 4_000)  # seconds between a plan and its execution, for one
    settings: Mapping[str, Sequence[object]] = Factory(dict)  # a setting → values, each as likely
    odd_keys: bool = True
    quiet: bool = False  # nothing disturbs: garbage has to go


REQUESTS = {"fail": ("now", "list", "get", "head", "stat", "put", "delete", "probe", "body")}
DELETE_ONLY = frozenset({"lost", "vanish", "late"})


def draw(chooser: Chooser, profile: Profile) -> Schedule:
    """A schedule of this world."""
    settings = Settings(**{name: chooser.pick(values) for name, values in profile.settings.items()})  # type: ignore[arg-type]
    triggers: list[Trigger] = []
    if profile.acts:
        triggers += [_act_trigger(chooser, profile) for _ in range(chooser.integer(0, profile.most_acts))]
    if profile.faults:
        triggers += [_fault_trigger(chooser, profile) for _ in range(chooser.integer(0, profile.most_faults))]
    return Schedule(
        profile.name,
        settings,
        _initial(chooser, profile),
        [_script(chooser, profile, settings) for _ in range(2 if "two" in profile.layout else 1)],
        triggers,
        [
            (float(chooser.pick((30, 600, 5_000, 90_000, 200_000))), _act(chooser, profile))
            for _ in range(chooser.integer(0, profile.timeline_acts) if profile.acts else 0)
        ],
        chooser.integer(0, 2**32 - 1),
    )


def _initial(chooser: Chooser, profile: Profile) -> list[Act]:
    acts = []
    for key in GARBAGE:
        match chooser.weighted({"garbage": 5, "live": 3, "absent": 2}):
            case "garbage":
                acts.append(Act("upload", key, number=chooser.integer(0, 2)))
            case "live":
                row = chooser.pick(_rows(profile, "a"))
                acts += [Act("upload", key, number=chooser.integer(0, 2)), Act("insert", key, row)]
    if profile.odd_keys:
        acts += [Act("upload", key) for key in (*ODD, THUMB) if chooser.chance(35)]
    return acts


def _rows(profile: Profile, without: str = "") -> list[str]:
    folders = any(profile.settings.get("folders", ()))
    return [
        row
        for row in ROWS
        if row[0] not in without and ROW_KINDS[row[0]][0] in profile.sources and (folders or row[0] != "a")
    ]


def _script(chooser: Chooser, profile: Profile, settings: Settings) -> list[Step]:
    steps: list[Step] = []
    waits = (60.0, 3_600.0, settings.grace_hours * 3_600 + 600, settings.retention_hours * 3_600 + 600)
    cycles = profile.most_cycles if profile.quiet else chooser.integer(1, profile.most_cycles)
    for number in range(cycles):
        wait = max(waits) if profile.quiet else chooser.pick(waits)
        steps.append(Step("wait", wait))
        if profile.follower and chooser.chance(50):
            steps.append(Step("follow", number=chooser.integer(0, 3)))
        kind = chooser.weighted(profile.steps)
        key = chooser.pick(GARBAGE) if kind.startswith("restore") else ""
        steps.append(Step(kind, float(chooser.pick(profile.pauses)), key, chooser.integer(0, 1)))
        if kind.startswith("restore") and number == cycles - 1:
            steps.insert(-2, Step("collect"))
    if profile.layout == "staging":
        steps += [Step("wrong database"), Step("collect")]
    return [*steps, Step("verify")]


def _act_trigger(chooser: Chooser, profile: Profile) -> Trigger:
    point, nth = _point(chooser, profile.act_points)
    return Trigger(point, nth, _act(chooser, profile))


def _point(chooser: Chooser, points: Mapping[str, tuple[int, int]]) -> tuple[str, int]:
    """A point and which time it is reached; early times are likelier."""
    point = chooser.weighted({point: weight for point, (_, weight) in points.items()})
    most = points[point][0]
    return point, min(chooser.integer(1, most), chooser.integer(1, most))


def _act(chooser: Chooser, profile: Profile) -> Act:
    kind = chooser.weighted(profile.acts)
    return Act(
        kind,
        THUMB if kind == "thumb" else chooser.weighted({"?": 6, **dict.fromkeys(GARBAGE, 1)}),
        chooser.pick(_rows(profile)),
        chooser.pick((0.05, 0.3, 1.0, 5.0, 60.0, 500.0, 1_500.0, 20_000.0)),
        chooser.integer(0, 11),
    )


def _fault_trigger(chooser: Chooser, profile: Profile) -> Trigger:
    kind = chooser.weighted(profile.faults)
    points = {point: value for point, value in profile.fault_points.items() if _fits(kind, point)}
    point, nth = _point(chooser, points)
    seconds = chooser.pick((0.5, 5.0, 120.0, 1_000.0, 10_000.0))
    return Trigger(
        point,
        nth,
        Act(kind, chooser.pick(GARBAGE), seconds=seconds, number=chooser.integer(0, 3)),
    )


def _fits(kind: str, point: str) -> bool:
    """Whether a fault can happen at a point."""
    name, before = point[:-1], point.endswith("<")
    if kind == "fail":
        return before and not point.startswith(("journal", "work", "backup", "vault", "own"))
    if kind == "pause":
        return point != "delete<"  # between signature and network: see the world of late deletes
    if kind in DELETE_ONLY:
        return point == "delete<"
    if kind == "corrupt":
        return name == "backup" and before
    return True


def without(schedule: Schedule, *, trigger: int) -> Schedule:
    """The schedule with one trigger less."""
    kept = [one for at, one in enumerate(schedule.triggers) if at != trigger]
    return evolve(schedule, triggers=kept)
