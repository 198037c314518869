"""What packages that capture changes need of the core: values are read exactly as the direct read does."""

from __future__ import annotations

from s3gc.sources._batch import BatchReader
from s3gc.sources._chunks import ChunkReader
from s3gc.sources._dialect import TableQuery, TrackedTable
from s3gc.sources._gathered import Gathered
from s3gc.sources._insist import Interrupted, insist
from s3gc.sources._loop import LoopThread
from s3gc.sources._names import nearest, row_id, split_name
from s3gc.sources._postgres_text import POSTGRES_TEXT, two_indexes
from s3gc.sources._prints import all_there, digest
from s3gc.sources._tracked import tracked_tables
from s3gc.sources.folders import FolderReader
from s3gc.sources.followed import CHUNK, FollowedSql, refuse

__all__ = [
    "CHUNK",
    "POSTGRES_TEXT",
    "BatchReader",
    "ChunkReader",
    "FolderReader",
    "FollowedSql",
    "Gathered",
    "Interrupted",
    "LoopThread",
    "TableQuery",
    "TrackedTable",
    "all_there",
    "digest",
    "insist",
    "nearest",
    "refuse",
    "row_id",
    "split_name",
    "tracked_tables",
    "two_indexes",
]
