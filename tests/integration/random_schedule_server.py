"""moto in a process of its own, for test_random_schedule.py: one request at a time, and all of them known.

S3 answers for one key as if requests came one after the other; moto's threads don't always (it looks at a
condition and acts later). So a lock is held over each request. Every write is kept, in the order in which it
took effect, and ``GET /-/report?after=N`` tells the writes from the N-th on and what the bucket holds now.

Times are ``time.monotonic_ns()``, which all processes of a machine share. Run as a program it prints its port
and ends with its standard input.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

ACCOUNT = "123456789012"
_CREDENTIAL = re.compile(r"Credential=([^/]+)/")


class Serial:
    """A WSGI application around moto's."""

    def __init__(self) -> None:
        # Not moto's dispatcher: to find out that a request is for S3 takes it as long as the answer.
        self._moto = create_backend_app("s3")
        self._lock = threading.Lock()
        self._writes: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"].encode("latin-1").decode()
        with self._lock:
            if path == "/-/report":
                return self._report(int(environ["QUERY_STRING"].partition("=")[2]), start_response)
            _, bucket, key = path.split("/", 2) if path.count("/") > 1 else ("", path[1:], "")
            if environ["REQUEST_METHOD"] in ("PUT", "DELETE", "POST") and key:
                return self._write(bucket, key, environ, start_response)
            return list(self._moto(environ, start_response))

    def _write(
        self, bucket: str, key: str, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        before, began = self._digest(bucket, key), time.monotonic_ns()
        statuses: list[str] = []

        def started(status: str, *rest: Any) -> Any:
            statuses.append(status)
            return start_response(status, *rest)

        answer = list(self._moto(environ, started))
        who = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
        self._writes.append(
            {
                "method": environ["REQUEST_METHOD"],
                "key": key,
                "who": who[1] if who else "",
                "ok": statuses[-1].startswith("2"),
                "before": before,
                "after": self._digest(bucket, key),
                "began": began,
                "ended": time.monotonic_ns(),
            }
        )
        return answer

    def _report(self, after: int, start_response: Callable[..., Any]) -> Iterable[bytes]:
        buckets = s3_backends[ACCOUNT]["aws"].buckets
        found = {name: {key: self._digest(name, key) for key in buckets[name].keys} for name in buckets}
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps({"buckets": found, "writes": self._writes[after:]}).encode()]

    @staticmethod
    def _digest(bucket: str, key: str) -> str | None:
        """SHA-256 of what moto holds under the key, or None."""
        held = s3_backends[ACCOUNT]["aws"].buckets[bucket].keys.get(key)
        return None if held is None else hashlib.sha256(held.value).hexdigest()


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, Serial(), threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
