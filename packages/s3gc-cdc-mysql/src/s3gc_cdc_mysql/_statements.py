"""Statements in the log, as far as they can change a tracked table without a row of it being told."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import Enum

from attrs import frozen

Name = tuple[str, str]
"""Database and table, as the server has them."""


class Kind(Enum):
    """What a statement means for tracked tables."""

    NOTHING = "nothing"
    BEGIN = "a transaction begins"
    COMMIT = "it is committed"
    ROLLBACK = "it is rolled back"
    XA_COMMIT = "a prepared transaction is committed"
    XA_ROLLBACK = "a prepared transaction is rolled back"
    TRUNCATE = "tables lost all rows"
    GAP = "something happened to rows that weren't told"


@frozen
class Meaning:
    """A statement, understood as far as needed."""

    kind: Kind
    tables: tuple[Name, ...] = ()  # tracked ones
    why: str = ""
    begins: bool = False  # a transaction, too (CREATE TABLE … START TRANSACTION)


_NOTHING, _BEGIN, _COMMIT = Meaning(Kind.NOTHING), Meaning(Kind.BEGIN), Meaning(Kind.COMMIT)
_XA = {
    "START": Kind.BEGIN, "BEGIN": Kind.BEGIN, "COMMIT": Kind.XA_COMMIT, "ROLLBACK": Kind.XA_ROLLBACK,
}  # fmt: skip
_TOKEN = r"""
      /\*M?!\d* | \*/                            # a comment that is executed, and where one ends
    | /\*.*?(?:\*/|\Z) | \#[^\n]* | --(?=\s|\Z)[^\n]*
    | (?P<text>'(?:[^'ESC]|ESCAPED'')*')
    | (?P<double>"(?:[^"ESC]|ESCAPED"")*")
    | `(?P<back>(?:[^`]|``)*)`
    | (?P<word>[\w$]+)
    | (?P<sign>[^\s])
    """
_FLAGS = re.VERBOSE | re.DOTALL
_ESCAPING = re.compile(_TOKEN.replace("ESCAPED", r"\\.|").replace("ESC", r"\\"), _FLAGS)
_PLAIN = re.compile(_TOKEN.replace("ESCAPED", "").replace("ESC", ""), _FLAGS)
_NO_BACKSLASH_ESCAPES = 1 << 20  # in sql_mode

_CONTROL = {
    "SAVEPOINT", "RELEASE", "GRANT", "REVOKE", "FLUSH", "CHECK", "REPAIR", "OPTIMIZE", "SET", "INSTALL",
    "UNINSTALL", "SHUTDOWN", "RESET", "KILL",
}  # fmt: skip
_OBJECTS = {
    "TABLE", "TABLES", "VIEW", "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "INDEX", "DATABASE", "SCHEMA",
    "USER", "ROLE", "SERVER", "SEQUENCE", "TABLESPACE", "INSTANCE", "LOGFILE", "PACKAGE", "RESOURCE", "UNDO",
    "SPATIAL", "LIBRARY",
}  # fmt: skip
# Of these, those that leave the rows of every existing table alone; TABLE and DATABASE are looked into.
_APART = _OBJECTS - {"TABLE", "TABLES", "DATABASE", "SCHEMA", "TABLESPACE"}
_INDEXES = {"INDEX", "KEY", "UNIQUE", "FULLTEXT", "SPATIAL"}
_BEFORE = frozenset({"TABLE", "EXISTS", "RENAME", "TO", "AS", "NOWAIT"})
"""Words of an ALTER that a table's name can follow, its own or another's. (WAIT has a number.)"""
_MODIFIERS = {"INTO", "FROM", "LOW_PRIORITY", "HIGH_PRIORITY", "DELAYED", "IGNORE", "QUICK"}
_SYSTEM = "mysql"
_LOOKED_AT = 60  # characters of a statement that a message shows


@frozen
class _Token:
    word: str  # '' for signs
    quoted: bool
    sign: str

    def means(self, *words: str) -> bool:
        return not self.quoted and self.word.upper() in words


class Statements:
    """Reads statements with the tracked tables in mind.

    Args:
        tables: of each tracked table the columns that matter: tracked ones and those of the key.
    """

    def __init__(self, tables: Mapping[Name, Collection[str]]) -> None:
        self._tables = {_folded(name): name for name in tables}
        self._columns = {name: frozenset(c.casefold() for c in columns) for name, columns in tables.items()}

    def read(self, text: str, database: str, sql_mode: int | None = None) -> Meaning:
        """What a statement means that ran in this default database and mode."""
        if text == "BEGIN":  # most of all
            return _BEGIN
        if text == "COMMIT":
            return _COMMIT
        tokens = list(_tokens(text, plain=bool((sql_mode or 0) & _NO_BACKSLASH_ESCAPES)))
        while tokens and tokens[-1].sign == ";":
            tokens.pop()
        return self._read(tokens, database, text)

    def _read(self, tokens: Sequence[_Token], database: str, text: str) -> Meaning:
        if not tokens:
            return _NOTHING
        first = "" if tokens[0].quoted else tokens[0].word.upper()
        second = tokens[1].word.upper() if len(tokens) > 1 else ""
        if first in ("BEGIN", "START"):
            return _BEGIN
        if first == "COMMIT":
            return _COMMIT
        if first == "ROLLBACK":
            to = any(token.means("TO") for token in tokens[1:3])
            return _NOTHING if to else Meaning(Kind.ROLLBACK)
        if first == "XA":
            if second == "COMMIT" and tokens[-1].means("PHASE"):
                return _COMMIT  # prepared and committed at once
            return Meaning(_XA.get(second, Kind.NOTHING))
        if first == "SET" and second == "STATEMENT":  # MariaDB: variables for the one statement that follows
            at = next((at for at, token in enumerate(tokens) if token.means("FOR")), len(tokens) - 1)
            return self._read(tokens[at + 1 :], database, text)
        if first == "ANALYZE" and any(token.means("TABLE", "TABLES") for token in tokens[1:3]):
            return _NOTHING  # else the statement after it is run
        if first in _CONTROL:
            return _NOTHING
        if first == "TRUNCATE":
            return self._truncate(tokens[2 if second == "TABLE" else 1 :], database)
        if first == "CREATE":
            return self._create(tokens, database)
        if first in ("ALTER", "DROP", "RENAME"):
            return self._altered(first, tokens, database)
        return self._changed(first, tokens, database, text)

    # ------------------------------------------------------------------ kinds of statements

    def _truncate(self, rest: Sequence[_Token], database: str) -> Meaning:
        name = self._name(rest, database)
        return Meaning(Kind.TRUNCATE, (name,)) if name is not None else _NOTHING

    def _create(self, tokens: Sequence[_Token], database: str) -> Meaning:
        begins = len(tokens) > 2 and tokens[-2].means("START") and tokens[-1].means("TRANSACTION")
        at = _object(tokens)
        if at is not None and tokens[at].means("DATABASE", "SCHEMA"):
            replaces = any(token.means("REPLACE") for token in tokens[1:at])
            return self._database(tokens[at:]) if replaces else _NOTHING
        if at is None or not tokens[at].means("TABLE"):
            return Meaning(Kind.NOTHING, begins=begins)
        if any(token.means("TEMPORARY") for token in tokens[1:at]):
            return Meaning(Kind.NOTHING, begins=begins)
        at += 1
        while at < len(tokens) and tokens[at].means("IF", "NOT", "EXISTS"):
            at += 1
        name = self._name(tokens[at:], database)
        if name is None:
            return Meaning(Kind.NOTHING, begins=begins)
        return Meaning(Kind.GAP, (name,), f"table {_spelled(name)} was created anew", begins)

    def _altered(self, first: str, tokens: Sequence[_Token], database: str) -> Meaning:
        at = _object(tokens)
        if at is not None and tokens[at].means(*_APART):
            return _NOTHING
        if any(token.means("TEMPORARY") for token in tokens[1:3]):
            return _NOTHING
        if at is not None and tokens[at].means("DATABASE", "SCHEMA"):
            return _NOTHING if first == "ALTER" else self._database(tokens[at:])
        named = self._mentioned(tokens, database, _BEFORE if first == "ALTER" else frozenset())
        if not named:
            return _NOTHING
        if first == "ALTER" and len(named) == 1 and at is not None and tokens[at].means("TABLE"):
            [name] = named
            start = at + 1
            while start < len(tokens) and tokens[start].means("IF", "EXISTS"):
                start += 1
            width = 3 if len(tokens) > start + 1 and tokens[start + 1].sign == "." else 1
            if self._name(tokens[start:], database) == name and self._harmless(name, tokens[start + width :]):
                return _NOTHING
        done = {"ALTER": "altered", "DROP": "dropped", "RENAME": "renamed"}[first]
        return Meaning(Kind.GAP, tuple(named), f"table {', '.join(map(_spelled, named))} was {done}")

    def _database(self, tokens: Sequence[_Token]) -> Meaning:
        words = {token.word.casefold() for token in tokens}
        gone = [name for folded, name in self._tables.items() if folded[0] in words]
        if not gone:
            return _NOTHING
        return Meaning(Kind.GAP, tuple(gone), f"database {gone[0][0]} was dropped")

    def _changed(self, first: str, tokens: Sequence[_Token], database: str, text: str) -> Meaning:
        """Rows were changed by a statement: of whatever table, by triggers and functions of any other."""
        named = self._by_name(tokens)
        if first in ("INSERT", "REPLACE", "DELETE", "UPDATE") and not named:
            at = 1
            while at < len(tokens) and tokens[at].means(*_MODIFIERS):
                at += 1
            target = [*(token.sign or token.word.casefold() for token in tokens[at : at + 4]), "", "", "", ""]
            if target[:2] == [_SYSTEM, "."] and target[3] != ",":
                return _NOTHING  # a managed service's heartbeat
            if database == _SYSTEM and target[1] not in (".", ","):
                return _NOTHING
        shown = " ".join(text.split())[:_LOOKED_AT]
        why = f"a session logged a statement in the place of rows (binlog_format): {shown!r}"
        return Meaning(Kind.GAP, named, why)

    def _harmless(self, name: Name, tokens: Sequence[_Token]) -> bool:
        """Whether an ALTER TABLE leaves the values of all columns that matter as they are.

        A table that it rebuilds has another storage afterwards, which the fence notices.
        """
        columns = self._columns[name]
        for spec in _split(tokens):
            if spec and spec[0].means("ALGORITHM", "LOCK", "COMMENT", "AUTO_INCREMENT"):
                continue
            if len(spec) < 2 or not spec[0].means("ADD", "DROP"):
                return False
            if spec[1].means(*_INDEXES, "CONSTRAINT", "FOREIGN", "CHECK"):
                continue
            if spec[1].means("PARTITION", "SYSTEM", "PERIOD", "PRIMARY"):
                return False
            if any(token.word.casefold() in columns for token in spec):
                return False
        return True

    # ------------------------------------------------------------------ names

    def _name(self, tokens: Sequence[_Token], database: str) -> Name | None:
        """The tracked table that these tokens begin with."""
        if not tokens:
            return None
        if len(tokens) > 2 and tokens[1].sign == ".":
            return self._tables.get(_folded((tokens[0].word, tokens[2].word)))
        return self._tables.get(_folded((database, tokens[0].word)))

    def _mentioned(self, tokens: Sequence[_Token], database: str, after: Collection[str]) -> list[Name]:
        """Tracked tables whose names occur as names of tables could: anywhere, or after certain words."""
        found: dict[Name, None] = {}
        for at, token in enumerate(tokens):
            if not token.word:
                continue
            start = at - 2 if at > 1 and tokens[at - 1].sign == "." else at
            if after and not (start and tokens[start - 1].means(*after)):
                continue
            before = tokens[at - 2].word if at > 1 and tokens[at - 1].sign == "." else database
            name = self._tables.get(_folded((before, token.word)))
            if name is not None:
                found[name] = None
        return list(found)

    def _by_name(self, tokens: Sequence[_Token]) -> tuple[Name, ...]:
        """Tracked tables whose bare name occurs."""
        words = {token.word.casefold() for token in tokens if token.word}
        return tuple(name for (_, table), name in self._tables.items() if table in words)


def _tokens(text: str, *, plain: bool) -> Iterator[_Token]:
    for match in (_PLAIN if plain else _ESCAPING).finditer(text):
        kind = match.lastgroup
        if kind == "word":
            yield _Token(match["word"], False, "")
        elif kind == "back":
            yield _Token(match["back"].replace("``", "`"), True, "")
        elif kind == "double":  # a name where ANSI_QUOTES is on
            yield _Token(match["double"][1:-1].replace('""', '"'), True, "")
        elif kind == "text":
            yield _Token("", True, "'")
        elif kind == "sign":
            yield _Token("", False, match["sign"])


def _object(tokens: Sequence[_Token]) -> int | None:
    """Where it says what kind of thing is created, altered or dropped."""
    return next((at for at, token in enumerate(tokens) if at and token.means(*_OBJECTS)), None)


def _split(tokens: Sequence[_Token]) -> Iterator[list[_Token]]:
    """The parts between commas that stand in no parentheses."""
    part: list[_Token] = []
    depth = 0
    for token in tokens:
        depth += (token.sign == "(") - (token.sign == ")")
        if token.sign == "," and depth == 0:
            yield part
            part = []
        else:
            part.append(token)
    yield part


def _folded(name: Name) -> Name:
    return name[0].casefold(), name[1].casefold()


def _spelled(name: Name) -> str:
    return ".".join(name)
