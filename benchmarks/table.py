"""From samples to tables: medians over the rounds, ratios taken within each round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from attrs import asdict, frozen

from benchmarks.cases import Sample

TITLES: Mapping[str, str] = {
    "raw-list": "fetch of the pages, unparsed (the floor)",
    "boto3-list": "boto3 paginator",
    "s5cmd-ls": "s5cmd ls",
    "obstore-list": "obstore list (Arrow)",
    "s3gc-list": "s3gc list",
    "s3gc-scan-1": "s3gc scan, 1 lister",
    "s3gc-scan-spread": "s3gc scan, 16 listers: random keys",
    "s3gc-scan-spread-again": "the same a second time",
    "s3gc-scan-counter": "s3gc scan, 16 listers: numbered keys",
    "s3gc-scan-counter-again": "the same a second time",
    "s3gc-scan-date": "s3gc scan, 16 listers: keys by the day",
    "s3gc-scan-date-again": "the same a second time",
    "s3gc-plan": "s3gc plan",
    "s3gc-plan-followed": "s3gc plan, changes followed",
    "s5cmd-cp": "s5cmd cp",
    "s5cmd-rm": "s5cmd rm",
    "s5cmd-cp-rm": "s5cmd cp, then rm",
    "s3gc-collect": "s3gc collect",
    "s3gc-plan-collect": "s3gc plan, then collect",
}
SCANS = (
    "s3gc-scan-1",
    "s3gc-scan-spread",
    "s3gc-scan-spread-again",
    "s3gc-scan-counter",
    "s3gc-scan-counter-again",
    "s3gc-scan-date",
    "s3gc-scan-date-again",
)
LOOKING = (
    "raw-list",
    "boto3-list",
    "s5cmd-ls",
    "obstore-list",
    "s3gc-list",
    *SCANS,
    "s3gc-plan",
    "s3gc-plan-followed",
)
COLLECTING = ("s5cmd-cp", "s5cmd-rm", "s5cmd-cp-rm", "s3gc-collect", "s3gc-plan-collect")
_MIB = 1 << 20


@frozen
class Row:
    """One case at one latency, over all rounds."""

    case: str
    latency_ms: float
    objects: int
    rounds: int
    seconds: float  # medians from here on
    rate: float  # objects a second
    cpu_us: float  # processor time an object
    peak_mib: float  # the largest of all rounds
    requests: int
    ratios: Mapping[str, float]  # to other cases of the same latency: median of the rounds' ratios


def summarise(samples: Sequence[Sample]) -> list[Row]:
    """A row for each case and latency, in the order in which they first came."""
    groups: dict[tuple[str, float, int], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.case, sample.latency_ms, sample.objects), []).append(sample)
    return [
        Row(
            case,
            latency,
            objects,
            len(group),
            median(s.seconds for s in group),
            median(s.rate for s in group),
            median(s.cpu_seconds / objects * 1e6 for s in group),
            max(s.peak_bytes for s in group) / _MIB,
            int(median(s.requests for s in group)),
            {
                other: median(mine.rate / theirs.rate for mine, theirs in zip(group, others, strict=False))
                for (other, their_latency, _), others in groups.items()
                if their_latency == latency and other != case
            },
        )
        for (case, latency, objects), group in groups.items()
    ]


def tables(rows: Sequence[Row], *, grown: Sequence[Row] = ()) -> str:
    """All tables, as Markdown that is readable as it is."""
    parts = []
    for latency in sorted({row.latency_ms for row in rows}):
        here = {row.case: row for row in rows if row.latency_ms == latency}
        wait = "no latency" if latency == 0 else f"{latency:g} ms a request"
        if looking := [here[case] for case in LOOKING if case in here]:
            parts.append(f"**Looking** at {looking[0].objects:,} objects, {wait}\n")
            parts.append(_table(looking, ("boto3-list", "obstore-list", "s3gc-list")))
        if collecting := [here[case] for case in COLLECTING if case in here]:
            parts.append(f"**Backing up and removing** {collecting[0].objects:,} objects of 4 KB, {wait}\n")
            parts.append(_table(collecting, ("s5cmd-cp-rm",)))
    if grown:
        parts.append("**Growing**: `s3gc plan` with no latency\n")
        parts.append(
            _grid(
                ["objects", "objects/s", "CPU µs/object", "peak MiB"],
                [
                    [f"{row.objects:,}", f"{row.rate:,.0f}", f"{row.cpu_us:.0f}", f"{row.peak_mib:.0f}"]
                    for row in sorted(grown, key=lambda row: row.objects)
                ],
            )
        )
    return "\n".join(parts)


def _table(rows: Sequence[Row], against: Sequence[str]) -> str:
    present = [case for case in against if any(row.case == case for row in rows)]
    head = ["", "objects/s", *(f"× {TITLES[case]}" for case in present)]
    lines = [
        [
            TITLES[row.case],
            f"{row.rate:,.0f}",
            *("1" if row.case == case else f"{row.ratios[case]:.2f}" for case in present),
            f"{row.cpu_us:.0f}",
            f"{row.peak_mib:.0f}",
            f"{row.requests:,}",
        ]
        for row in rows
    ]
    return _grid([*head, "CPU µs/object", "peak MiB", "requests"], lines)


def _grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]

    def shown(line: Sequence[str]) -> str:
        first, *others = zip(line, widths, strict=True)
        cells = [f"{first[0]:<{first[1]}}", *(f"{cell:>{width}}" for cell, width in others)]
        return f"| {' | '.join(cells)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([shown(head), f"| {' | '.join(rule)} |", *map(shown, lines)]) + "\n"


def as_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    """The rows as JSON values."""
    return [asdict(row) for row in rows]
