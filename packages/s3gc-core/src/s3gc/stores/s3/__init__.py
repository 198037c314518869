"""A bucket behind the S3 API, by a client that takes keys as opaque strings."""

from s3gc.stores.s3._options import S3Options
from s3gc.stores.s3._store import S3Store

__all__ = ["S3Options", "S3Store"]
