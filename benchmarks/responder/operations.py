"""What a request asks for, by the name that AWS gives to it."""

from __future__ import annotations

from collections.abc import Container

from benchmarks.responder.http import Request


def operation_of(request: Request) -> str:
    """The name that AWS gives to what is asked, e.g. ``ListObjectsV2``; ``Unknown`` for anything else."""
    bucket, _, key = request.path[1:].partition("/")
    query, method = request.query, request.method
    if key:
        return _object_operation(method, query.keys())
    if not bucket:
        return "ListBuckets" if method == "GET" else "Unknown"
    if method == "GET":
        for name, operation in (
            ("location", "GetBucketLocation"),
            ("versioning", "GetBucketVersioning"),
            ("object-lock", "GetObjectLockConfiguration"),
        ):
            if name in query:
                return operation
        return "ListObjectsV2" if query.get("list-type") == "2" else "Unknown"
    if method == "POST":
        return "DeleteObjects" if "delete" in query else "Unknown"
    return {"PUT": "CreateBucket", "HEAD": "HeadBucket", "DELETE": "DeleteBucket"}.get(method, "Unknown")


def _object_operation(method: str, query: Container[str]) -> str:
    if "tagging" in query:
        return {"GET": "GetObjectTagging"}.get(method, "Unknown")
    if "uploads" in query:
        return {"POST": "CreateMultipartUpload"}.get(method, "Unknown")
    if "uploadId" in query:
        return {
            "PUT": "UploadPart",
            "POST": "CompleteMultipartUpload",
            "DELETE": "AbortMultipartUpload",
        }.get(method, "Unknown")
    return {
        "GET": "GetObject",
        "HEAD": "HeadObject",
        "PUT": "PutObject",
        "DELETE": "DeleteObject",
    }.get(method, "Unknown")
