"""How talking to a server ends: by codes that mean something here."""

from __future__ import annotations

from typing import Final

import aiomysql  # type: ignore[import-untyped]

FATAL_READ_ERROR: Final = 1236  # ER_MASTER_FATAL_ERROR_READING_BINLOG
SAME_SERVER_ID: Final = 4052  # ER_SLAVE_SAME_ID of MariaDB


class ServerError(Exception):
    """The server refused, with its own code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message


class LogUnreadable(ServerError):
    """The server can't read its log from the position: it is purged, or from another history."""


class SameServerId(ServerError):
    """Another reader took the server id of this one, and the server has dropped this one for it."""


class ConnectionLost(Exception):
    """The connection ended, for whatever reason: one may connect again."""


class EndOfLog(Exception):
    """The server has sent all that it had, and was asked not to wait for more."""


def refusal(code: int, message: str) -> ServerError:
    """What a server's error is."""
    same = "same server_uuid/server_id" in message
    if code == SAME_SERVER_ID or same:
        return SameServerId(code, message)
    if code == FATAL_READ_ERROR:
        return LogUnreadable(code, message)
    return ServerError(code, message)


_GONE = frozenset({2003, 2006, 2013, 2014, 1053, 1077, 1079, 1927, 1159, 1161, 1184})
"""Of the client's for a lost connection, and of a server that stops, kills or won't wait any longer."""


def translated(error: Exception) -> ServerError | ConnectionLost:
    """What an error of aiomysql is."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    message = str(error.args[1]) if len(error.args) > 1 else str(error)
    if isinstance(error, aiomysql.InterfaceError) or code in _GONE or not code:
        return ConnectionLost(message)
    return refusal(code, message)
