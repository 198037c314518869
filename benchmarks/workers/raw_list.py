"""The floor: fetch every page of a listing over one socket and parse nothing but the token."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from benchmarks.workers import arguments, report, timed

_RECEIVE_BYTES = 1 << 20


def _response(connection: socket.socket) -> bytes:
    received = bytearray()
    while (end := received.find(b"\r\n\r\n")) < 0:
        received += connection.recv(_RECEIVE_BYTES)
    length = _between(bytes(received[:end]) + b"\r\n", b"content-length: ", b"\r\n")
    while len(received) < end + 4 + int(length):
        received += connection.recv(_RECEIVE_BYTES)
    return bytes(received[end + 4 :])


def _between(data: bytes, before: bytes, after: bytes) -> bytes:
    return data.partition(before)[2].partition(after)[0]


def main() -> None:
    """List and count."""
    options = arguments()
    server = urlsplit(options.endpoint)
    objects, token, more = 0, "", True
    with socket.create_connection((server.hostname, server.port)) as connection, timed() as timer:
        while more:
            after = f"continuation-token={token}&" if token else ""
            target = f"/{options.bucket}?{after}encoding-type=url&list-type=2"
            connection.sendall(f"GET {target} HTTP/1.1\r\nhost: {server.netloc}\r\n\r\n".encode())
            page = _response(connection)
            objects += int(_between(page, b"<KeyCount>", b"<"))
            token = _between(page, b"<NextContinuationToken>", b"<").decode()
            more = bool(token)
    report(seconds=timer.seconds, cpu_seconds=timer.cpu_seconds, objects=objects)


if __name__ == "__main__":
    main()
