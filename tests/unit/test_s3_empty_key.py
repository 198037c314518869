"""The empty key would be the bucket itself: the transport refuses it too, whoever forgot to check."""

from __future__ import annotations

import pytest

from s3gc.clock import SystemClock
from s3gc.errors import AmbiguousKey
from s3gc.stores.s3 import S3Options
from s3gc.stores.s3._address import locate
from s3gc.stores.s3._credentials import StaticCredentials
from s3gc.stores.s3._signing import Credentials, Signer
from s3gc.stores.s3._transport import Call, NotSent, Transport


def test_the_empty_key_is_never_sent() -> None:
    transport = Transport(
        locate("bkt", region="x", endpoint_url="http://127.0.0.1:9", addressing="auto"),
        Signer("x"),
        StaticCredentials(Credentials("a", "b")),
        S3Options(connect_timeout=1.0),
        SystemClock(),
        1,
        None,
    )
    with pytest.raises(AmbiguousKey):
        transport.send(Call("DELETE", ""))
    with pytest.raises(NotSent):
        transport.send(Call("DELETE", "k"))
    transport.close()
