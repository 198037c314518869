"""The numbers for Prometheus, made anew for each scrape from what the journal and health say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector as PrometheusCollector

from s3gc import __version__
from s3gc.errors import S3GCError
from s3gc.health import Health
from s3gc_fastapi._admin import Admin
from s3gc_fastapi._errors import Refusal

METRICS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "s3gc_info": ("gauge", "1, with version and mode.", ("version", "mode")),
    "s3gc_up": ("gauge", "Whether the vault is open and the numbers below can be told.", ()),
    "s3gc_healthy": ("gauge", "Whether every part answers and no breaker waits.", ()),
    "s3gc_part_up": ("gauge", "Whether the vault, the store, or a source answers.", ("part", "name")),
    "s3gc_source_lag_seconds": ("gauge", "How long ago the registry last reached the source.", ("source",)),
    "s3gc_source_unread_bytes": (
        "gauge",
        "What a followed database has written since the last change that was released.",
        ("source",),
    ),
    "s3gc_source_held_bytes": ("gauge", "What a followed database keeps of its log for s3gc.", ("source",)),
    "s3gc_follower_up": (
        "gauge",
        "Whether this process follows changes between cycles, or stands by; absent where it isn't asked to.",
        (),
    ),
    "s3gc_breakers_waiting": ("gauge", "Breakers that wait for an acknowledgement.", ()),
    "s3gc_deleted_objects_total": ("counter", "Objects deleted.", ()),
    "s3gc_backed_up_objects_total": ("counter", "Objects backed up.", ()),
    "s3gc_restored_objects_total": ("counter", "Objects restored.", ()),
    "s3gc_resurrected_objects_total": ("counter", "Objects put back because a row named them after all.", ()),
    "s3gc_runs_total": ("counter", "Collects that ended.", ()),
    "s3gc_last_run_timestamp_seconds": ("gauge", "When the last collect ended; absent before the first.", ()),
    "s3gc_last_run_failed": ("gauge", "Whether an operation failed since the last good run.", ()),
    "s3gc_next_run_timestamp_seconds": (
        "gauge",
        "When the next scheduled run begins; absent without one.",
        (),
    ),
    "s3gc_operation_running": ("gauge", "Whether an operation runs in this process.", ()),
    "s3gc_vault_size_bytes": ("gauge", "What the vault's packs take.", ()),
    "s3gc_compression_ratio": (
        "gauge",
        "Original bytes by stored bytes; absent while the vault is empty.",
        (),
    ),
    "s3gc_journal_entries": ("gauge", "Entries of the journal.", ()),
    "s3gc_last_verify_timestamp_seconds": ("gauge", "When backups were last verified; absent if never.", ()),
    "s3gc_last_verify_problems": (
        "gauge",
        "Problems of the last whole verification and the shares since.",
        (),
    ),
    "s3gc_verified_whole_timestamp_seconds": (
        "gauge",
        "All that the vault held then was read since; absent before.",
        (),
    ),
    "s3gc_last_drill_timestamp_seconds": ("gauge", "When backups were last restored by way of trial.", ()),
    "s3gc_last_drill_problems": ("gauge", "Problems that the drill found.", ()),
    "s3gc_admin_refused_keys_total": ("counter", "Wrong keys shown to this process.", ()),
}
"""Name → kind, help, labels besides ``bucket``. Docs, alerts and dashboard are checked against this."""

_TOTALS = {
    "s3gc_deleted_objects_total": "total_deleted",
    "s3gc_backed_up_objects_total": "total_backed_up",
    "s3gc_restored_objects_total": "total_restored",
    "s3gc_resurrected_objects_total": "total_resurrected",
    "s3gc_runs_total": "total_runs",
    "s3gc_vault_size_bytes": "vault_size_bytes",
    "s3gc_compression_ratio": "avg_compression_ratio",
    "s3gc_journal_entries": "journal_entries",
    "s3gc_last_run_timestamp_seconds": "last_run_at",
    "s3gc_last_verify_timestamp_seconds": "last_verify_at",
    "s3gc_last_verify_problems": "last_verify_problems",
    "s3gc_verified_whole_timestamp_seconds": "verified_whole_at",
    "s3gc_last_drill_timestamp_seconds": "last_drill_at",
    "s3gc_last_drill_problems": "last_drill_problems",
}


class _Samples(PrometheusCollector):
    """Samples of one scrape, in families."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self._families: dict[str, Any] = {}

    def add(self, name: str, value: float | bool | datetime | str | None, *labels: str) -> None:
        """One sample; None is no sample."""
        if value is None:
            return
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            value = value.timestamp()
        family = self._families.get(name)
        if family is None:
            kind, text, names = METRICS[name]
            make = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
            family = self._families[name] = make(name, text, labels=("bucket", *names))
        family.add_metric((self._bucket, *labels), float(value))

    def collect(self) -> Iterator[Metric]:
        yield from self._families.values()


async def exposition(admin: Admin, accept: str) -> tuple[bytes, str]:
    """The answer to a scrape, and its content type, which depends on what the scraper takes."""
    samples = _Samples(str(admin.config.redacted()["bucket"]))
    samples.add("s3gc_info", 1, __version__, admin.config.mode.value)
    samples.add("s3gc_admin_refused_keys_total", admin.throttle.failures)
    samples.add("s3gc_follower_up", admin.follower.well)
    samples.add("s3gc_operation_running", admin.current is not None)
    samples.add("s3gc_next_run_timestamp_seconds", admin.next_run)
    try:
        found, numbers = await admin.health(), await admin.metrics()
    except (Refusal, S3GCError):
        samples.add("s3gc_up", False)
        samples.add("s3gc_healthy", False)
    else:
        samples.add("s3gc_up", True)
        _healthy(samples, found)
        for name, key in _TOTALS.items():
            samples.add(name, numbers[key])
        for source, capture in numbers["capture"].items():
            samples.add("s3gc_source_unread_bytes", capture.get("lag_bytes"), source)
            samples.add("s3gc_source_held_bytes", capture.get("held_bytes"), source)
        samples.add("s3gc_last_run_failed", numbers["last_error"] is not None)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(samples)
    encode, kind = choose_encoder(accept)
    return encode(registry), kind


def _healthy(samples: _Samples, found: Health) -> None:
    samples.add("s3gc_healthy", found.ok)
    samples.add("s3gc_breakers_waiting", len(found.waiting))
    samples.add("s3gc_part_up", found.vault.ok, "vault", "")
    samples.add("s3gc_part_up", found.store.ok, "store", "")
    for source in found.sources:
        samples.add("s3gc_part_up", source.ok, "source", source.name)
        samples.add(
            "s3gc_source_lag_seconds", source.lag.total_seconds() if source.lag else None, source.name
        )
