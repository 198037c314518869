"""A moto S3 server on a free loopback port, and boto3 as the truth about what is in it.

Import the fixtures into a test module: ``from fixtures_s3 import bucket, s3_server, truth  # noqa: F401``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from attrs import frozen
from botocore.config import Config
from moto.server import ThreadedMotoServer

from s3gc.stores.s3 import S3Store

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
else:
    S3Client = Any

REGION = "us-east-1"
ACCESS_KEY = "AKIDEXAMPLE"
SECRET_KEY = "a-secret-that-must-never-be-shown"


@frozen
class S3Server:
    """Where a server listens, and how to talk to it."""

    endpoint_url: str

    def client(self) -> S3Client:
        """A boto3 client of this server."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def store(self, bucket: str, **options: Any) -> S3Store:
        """A store of ours on this server."""
        known: dict[str, Any] = {
            "region": REGION,
            "endpoint_url": self.endpoint_url,
            "access_key": ACCESS_KEY,
            "secret_key": SECRET_KEY,
        }
        return S3Store(bucket, **(known | options))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A server for the whole run; its buckets are apart by their names."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield S3Server(f"http://{host}:{port}")
    server.stop()


@pytest.fixture
def truth(s3_server: S3Server) -> S3Client:
    """boto3: what it says is so."""
    return s3_server.client()


@pytest.fixture
def bucket(truth: S3Client) -> str:
    """An empty bucket of a name of its own."""
    name = f"s3gc-{uuid.uuid4().hex}"
    truth.create_bucket(Bucket=name)
    return name
